//! Who waits for a session to go on: readers of `tail -f`, woken when something was written, synced or ended.
//!
//! The log calls nobody; readers look again. An entry exists only while somebody waits.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use shellkeep_protocol::ids::SessionId;
use tokio::sync::watch;

use crate::index::follower::Follower;

/// The waiting readers of all sessions.
#[derive(Clone, Default)]
pub struct Watchers {
    /// Wants to know of every session.
    follower: Follower,
    waiting: Arc<Mutex<HashMap<SessionId, watch::Sender<()>>>>,
}

impl Watchers {
    /// The one that follows all sessions.
    pub(crate) fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Resolves at the next change of `session` after this call. Subscribe before looking, then wait.
    pub fn subscribe(&self, session: SessionId) -> watch::Receiver<()> {
        self.waiting.lock().entry(session).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Something happened to `session`.
    pub fn changed(&self, session: SessionId) {
        self.follower.changed(session);
        let mut waiting = self.waiting.lock();
        if let Some(sender) = waiting.get(&session)
            && sender.send(()).is_err()
        {
            waiting.remove(&session); // nobody waits any more
        }
    }
}
