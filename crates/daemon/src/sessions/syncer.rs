//! The threads that wait for the disk, so that no write does: one syncs logs, one seals what is full.
//!
//! Promise: each job that was handed in is answered exactly once, in order. One thread of each kind is enough: a session
//! asks for its next job only when the last one has ended.

use std::sync::mpsc::{Sender, channel};

use shellkeep_journal::hook::{self, Point};
use shellkeep_protocol::ids::SessionId;

use super::core::SyncTicket;
use super::journal_log::{SealJob, SealResult, SyncJob, SyncResult};

/// How little sealing matters beside all other work: nobody waits for it. Source: `setpriority(2)`.
const SEALING_NICE: i32 = 10;

/// Hands logs to the threads. At most one sync and one seal per open session wait here, which bounds the queues.
#[derive(Clone)]
pub struct Syncer {
    syncs: Sender<(SessionId, SyncTicket, SyncJob)>,
    seals: Sender<(SessionId, SealJob)>,
}

impl Syncer {
    /// Starts the threads; `synced` and `sealed` hear of each end.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        synced: impl Fn(SessionId, SyncTicket, SyncResult) + Send + 'static,
        sealed: impl Fn(SessionId, SealResult) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (syncs, inbox) = channel::<(SessionId, SyncTicket, SyncJob)>();
        std::thread::Builder::new().name("sync".into()).spawn(move || {
            for (session, ticket, job) in inbox {
                let result = job.sync();
                hook::pause(Point::DaemonSynced);
                synced(session, ticket, result);
            }
        })?;
        let (seals, inbox) = channel::<(SessionId, SealJob)>();
        std::thread::Builder::new().name("seal".into()).spawn(move || {
            // Of this thread alone, on Linux. Fails only where it is so already.
            let _as_it_is = rustix::process::setpriority_process(None, SEALING_NICE);
            for (session, job) in inbox {
                sealed(session, job.run());
            }
        })?;
        Ok(Self { syncs, seals })
    }

    /// Syncs what a log holds now.
    pub(super) fn sync(&self, session: SessionId, ticket: SyncTicket, job: SyncJob) {
        let _ = self.syncs.send((session, ticket, job));
    }

    /// Does a step of sealing.
    pub(super) fn seal(&self, session: SessionId, job: SealJob) {
        let _ = self.seals.send((session, job));
    }
}
