//! The thread that syncs logs, so that no write waits for the disk.
//!
//! Promise: each sync that was handed in is answered exactly once, in order. One thread is enough: the next sync of a
//! session is only asked for when the last one has ended.

use std::sync::mpsc::{Sender, channel};

use shellkeep_journal::hook::{self, Point};
use shellkeep_protocol::ids::SessionId;

use super::core::SyncTicket;
use super::journal_log::{SyncJob, SyncResult};

/// Hands logs to the sync thread. At most one sync per open session waits here, which bounds the queue.
#[derive(Clone)]
pub struct Syncer {
    jobs: Sender<(SessionId, SyncTicket, SyncJob)>,
}

impl Syncer {
    /// Starts the thread; `done` hears of each end.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(done: impl Fn(SessionId, SyncTicket, SyncResult) + Send + 'static) -> std::io::Result<Self> {
        let (jobs, inbox) = channel::<(SessionId, SyncTicket, SyncJob)>();
        std::thread::Builder::new().name("sync".into()).spawn(move || {
            for (session, ticket, job) in inbox {
                let result = job.sync();
                hook::pause(Point::DaemonSynced);
                done(session, ticket, result);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Syncs what a log holds now.
    pub(super) fn sync(&self, session: SessionId, ticket: SyncTicket, job: SyncJob) {
        let _ = self.jobs.send((session, ticket, job));
    }
}
