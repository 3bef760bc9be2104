//! What others tell the thread that writes the index, and ask of it.
//!
//! Promises that nobody who tells it something ever waits, and that whoever asks is answered, or hears that the thread
//! could not: then the sender of the answer is gone. Does no work.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

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
    /// How often something happened to any.
    pub(super) changes: u64,
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

/// Tells the follower what happens. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Follower {
    pub(super) shared: Arc<Shared>,
}

impl Follower {
    /// From now on calls `call` when it reads of a directory, and of another one. It must not block. The first of these counts.
    pub(crate) fn when_moved(&self, call: OnMove) {
        let _only_the_first = self.shared.on_move.set(call);
    }

    /// Something was written to a session's log. Never waits for more than a moment's lock.
    pub(crate) fn changed(&self, session: SessionId) {
        let mut inbox = self.shared.inbox.lock();
        inbox.changes += 1;
        // Whoever waits for quiet looks by itself.
        if inbox.changed.insert(session) && inbox.changed.len() == 1 {
            self.shared.wake.notify_one();
        }
    }

    fn ask(&self, ask: Ask) {
        self.shared.inbox.lock().asks.push_back(ask);
        self.shared.wake.notify_one();
    }

    /// Resolves when what was written until now was read; false if that takes longer than `wait`.
    pub(crate) async fn caught_up(&self, wait: Duration) -> bool {
        let (done, is_done) = oneshot::channel();
        self.ask(Ask::CaughtUp(done));
        matches!(tokio::time::timeout(wait, is_done).await, Ok(Ok(())))
    }

    /// A session's log was removed. Resolves when nothing is known of it any more; false if that takes longer than `wait`.
    pub(crate) async fn forgotten(&self, session: SessionId, wait: Duration) -> bool {
        let (done, is_done) = oneshot::channel();
        self.ask(Ask::Forget(session, Some(done)));
        matches!(tokio::time::timeout(wait, is_done).await, Ok(Ok(())))
    }

    /// A session's log was removed.
    pub(crate) fn forget(&self, session: SessionId) {
        self.ask(Ask::Forget(session, None));
    }

    /// The oldest records of a session were removed.
    pub(crate) fn pruned(&self, session: SessionId) {
        self.ask(Ask::Pruned(session));
    }

    /// Throws everything away and reads all logs again; resolves when that has begun.
    pub(crate) async fn rebuild(&self) {
        let (done, is_done) = oneshot::channel();
        self.ask(Ask::Rebuild(done));
        let _ = is_done.await;
    }

    /// How the index is.
    pub(crate) fn state(&self) -> IndexState {
        self.shared.state.lock().clone()
    }

    /// Ends the thread soon; what is not written is read again by the next one.
    pub(crate) fn stop(&self) {
        self.shared.inbox.lock().stop = true;
        self.shared.wake.notify_one();
    }
}
