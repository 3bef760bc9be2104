//! What the thread of the index is told, and what it says of itself.
//!
//! Promises nothing; it is bounded by the sessions that there are and the queries that wait. Knows neither logs nor files.

use std::collections::{BTreeSet, VecDeque};
use std::sync::OnceLock;

use parking_lot::{Condvar, Mutex};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::IndexState;
use tokio::sync::oneshot;

/// What somebody wants of the thread.
pub(super) enum Ask {
    /// To know when everything that has happened until now was read.
    CaughtUp(oneshot::Sender<()>),
    /// A session is gone: so is what is known of it.
    Forget(SessionId, Option<oneshot::Sender<()>>),
    /// The oldest records of a session are gone.
    Pruned(SessionId),
    /// To throw everything away and read all logs again.
    Rebuild(oneshot::Sender<()>),
}

#[derive(Default)]
pub(super) struct Inbox {
    /// Sessions to which something happened.
    pub(super) changed: BTreeSet<SessionId>,
    /// Bounded by the queries that wait.
    pub(super) asks: VecDeque<Ask>,
    pub(super) stop: bool,
}

/// Called with the directory of a session's shell.
pub(crate) type OnMove = Box<dyn Fn(SessionId, &str) + Send + Sync>;

#[derive(Default)]
pub(super) struct Shared {
    pub(super) inbox: Mutex<Inbox>,
    pub(super) wake: Condvar,
    pub(super) state: Mutex<IndexState>,
    /// Called with the directory of a session's shell when it is another one.
    pub(super) on_move: OnceLock<OnMove>,
}
