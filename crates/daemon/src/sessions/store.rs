//! The store thread: every write to a log and every decision on a session happens here, one after the other.
//!
//! Promise: requests are executed in the order in which they were handed in; neither a sync nor
//! sealing ever holds up a write, because they run on threads beside; nothing here waits for a client. Owns the [`SessionManager`].

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::session::{Busy, BusyReason, SessionRequest, SessionResponse};
use tokio::sync::oneshot;

use super::core::{ConnectionId, SyncTicket};
use super::journal_log::{SealResult, SyncResult};
use super::logs::Logs;
use super::manager::{Peer, SessionManager};
use super::syncer::Syncer;
use super::watch::Watchers;
use crate::memory;

/// Jobs that wait for the store thread; one more request is answered with `Busy`. Each connection's bytes are bounded
/// by its window.
pub const JOBS_MAX: usize = 8192;

/// Jobs executed before syncs that are due are looked at again.
const BATCH_MAX: usize = 256;

/// How long a keeper should wait when the store is overloaded, in milliseconds.
const OVERLOADED_RETRY_MS: u32 = 50;

/// Something that must be done on the store thread.
pub(crate) enum Job {
    /// A keeper's request.
    Request {
        connection: ConnectionId,
        peer: Box<dyn Peer>,
        request: SessionRequest,
        answer: oneshot::Sender<SessionResponse>,
    },
    /// A connection has ended.
    Disconnected(ConnectionId),
    /// A sync has ended.
    Synced { session: SessionId, ticket: SyncTicket, result: SyncResult },
    /// A step of sealing has ended.
    Sealed { session: SessionId, result: SealResult },
    /// Anything else, with the manager at hand.
    With(Box<dyn FnOnce(&mut SessionManager) + Send>),
    /// Sync everything and end.
    Stop,
}

impl Job {
    /// Bytes of records that it brings.
    fn record_bytes(&self) -> u64 {
        match self {
            Self::Request { request: SessionRequest::Append(append), .. } => append.records.len() as u64,
            _ => 0,
        }
    }
}

/// Hands work to the store thread. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    jobs: SyncSender<Job>,
}

impl Store {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(logs: Logs, watchers: Watchers) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, inbox) = sync_channel(JOBS_MAX);
        let store = Self { jobs };
        let (own, other) = (store.clone(), store.clone());
        let syncer = Syncer::start(
            move |session, ticket, result| own.synced(session, ticket, result),
            move |session, result| drop(other.jobs.send(Job::Sealed { session, result })),
        )?;
        let manager = SessionManager::new(logs, syncer, watchers);
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || run(manager, &inbox))?;
        Ok((store, thread))
    }

    /// Hands in a keeper's request; never waits. The order of calls is the order of execution.
    pub fn request(
        &self,
        connection: ConnectionId,
        peer: Box<dyn Peer>,
        request: SessionRequest,
    ) -> oneshot::Receiver<SessionResponse> {
        let (answer, answered) = oneshot::channel();
        if let Err(TrySendError::Full(Job::Request { answer, .. })) =
            self.jobs.try_send(Job::Request { connection, peer, request, answer })
        {
            let retry_ms = OVERLOADED_RETRY_MS;
            let _ = answer.send(SessionResponse::Busy(Busy { reason: BusyReason::Overloaded, retry_ms }));
        }
        answered
    }

    /// A connection has ended. Waits for room: forgetting this would leave the session held by a ghost.
    pub fn disconnected(&self, connection: ConnectionId) {
        let _ = self.jobs.send(Job::Disconnected(connection));
    }

    /// Runs `act` on the store thread.
    pub fn with(&self, act: impl FnOnce(&mut SessionManager) + Send + 'static) {
        let _ = self.jobs.send(Job::With(Box::new(act)));
    }

    /// Runs `act` on the store thread and waits for it; `None` if the thread has ended. Blocking.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut SessionManager) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.with(move |manager| drop(answer.send(act(manager))));
        answered.blocking_recv().ok()
    }

    /// Tells the thread that a sync has ended.
    pub(crate) fn synced(&self, session: SessionId, ticket: SyncTicket, result: SyncResult) {
        let _ = self.jobs.send(Job::Synced { session, ticket, result });
    }

    /// Syncs everything, then ends the thread.
    pub fn stop(&self) {
        let _ = self.jobs.send(Job::Stop);
    }
}

fn run(mut manager: SessionManager, inbox: &Receiver<Job>) {
    let mut burst_bytes = 0;
    loop {
        let due = manager.next_due();
        if due.is_none() && burst_bytes >= memory::BURST_BYTES {
            memory::give_back();
            burst_bytes = 0;
        }
        let job = match due {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match job {
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
            Ok(job) => {
                burst_bytes += job.record_bytes();
                if !execute(&mut manager, job) {
                    break;
                }
                for job in inbox.try_iter().take(BATCH_MAX) {
                    burst_bytes += job.record_bytes();
                    if !execute(&mut manager, job) {
                        return manager.sync_all();
                    }
                }
            }
        }
        manager.work(Instant::now());
    }
    manager.sync_all();
}

/// False when the thread must end.
fn execute(manager: &mut SessionManager, job: Job) -> bool {
    match job {
        Job::Request { connection, peer, request, answer } => {
            let _ = answer.send(manager.execute(connection, peer, &request));
        }
        Job::Disconnected(connection) => manager.disconnected(connection),
        Job::Synced { session, ticket, result } => manager.synced(session, ticket, &result),
        Job::Sealed { session, result } => manager.sealed(session, result),
        Job::With(act) => act(manager),
        Job::Stop => return false,
    }
    true
}
