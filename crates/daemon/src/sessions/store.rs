//! The store thread: every write to a log and every decision on a session happens here, one after the other.
//!
//! Promise: the requests of a connection are executed in the order in which they were handed in, and who prints little
//! does not wait for who prints much; neither a sync nor sealing ever holds up a write, because they run on threads
//! beside; nothing here waits for a client. Owns the [`SessionManager`].

use std::collections::VecDeque;
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

/// An append of at most so many bytes is small.
const SMALL_BYTES: usize = 8 << 10;

/// How often a large append is overtaken at the most.
const OVERTAKEN_MAX: usize = 64;

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
    /// Of an append: whose it is, and its bytes.
    fn append(&self) -> Option<(ConnectionId, usize)> {
        match self {
            Self::Request { connection, request: SessionRequest::Append(append), .. } => {
                Some((*connection, append.records.len()))
            }
            _ => None,
        }
    }

    /// Bytes of records that it brings.
    fn record_bytes(&self) -> u64 {
        self.append().map_or(0, |(_, bytes)| bytes as u64)
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

    /// Hands in a keeper's request; never waits. The order of a connection's calls is the order of their execution.
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
    let (mut burst_bytes, mut line) = (0, Line::default());
    loop {
        let due = manager.next_due();
        if due.is_none() && burst_bytes >= memory::BURST_BYTES {
            memory::give_back();
            burst_bytes = 0;
        }
        let job = match due {
            _ if !line.jobs.is_empty() => Err(RecvTimeoutError::Timeout),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match job {
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
            Ok(job) => line.jobs.push_back(job),
        }
        for _ in 0..BATCH_MAX {
            let Some(job) = line.next(inbox) else { break };
            burst_bytes += job.record_bytes();
            if !execute(&mut manager, job) {
                return manager.sync_all();
            }
        }
        manager.work(Instant::now());
    }
    manager.sync_all();
}

/// Jobs in the order of their execution: as they came, but that a small append goes before large ones of other
/// connections, so that whoever prints little does not wait for who prints much.
#[derive(Default)]
struct Line {
    /// At most [`BATCH_MAX`]; what comes beyond waits in the inbox.
    jobs: VecDeque<Job>,
    /// How often the first one was overtaken since it is the first.
    overtaken: usize,
}

impl Line {
    fn next(&mut self, inbox: &Receiver<Job>) -> Option<Job> {
        self.jobs.extend(inbox.try_iter().take(BATCH_MAX.saturating_sub(self.jobs.len())));
        let next = if self.overtaken < OVERTAKEN_MAX { self.first_small() } else { 0 };
        self.overtaken = if next == 0 { 0 } else { self.overtaken + 1 };
        self.jobs.remove(next)
    }

    /// The first append that is small, and before which there are only large ones of other connections; else the first job.
    fn first_small(&self) -> usize {
        let mut passed = Vec::new();
        for (n, job) in self.jobs.iter().enumerate() {
            match job.append() {
                Some((connection, bytes)) if bytes > SMALL_BYTES => passed.push(connection),
                Some((connection, _)) if !passed.contains(&connection) => return n,
                _ => return 0,
            }
        }
        0
    }
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

#[cfg(test)]
mod tests {
    use shellkeep_journal::{Chain, Seq};
    use shellkeep_protocol::session::{Append, SessionPush};

    use super::*;

    struct Nobody;

    impl Peer for Nobody {
        fn push(&self, _: SessionPush) -> bool {
            true
        }
        fn close(&self) {}
    }

    fn append(connection: u64, bytes: usize) -> Job {
        let append = Append {
            session: SessionId::from_bytes([0; 16]),
            epoch: 1,
            first_seq: Seq::FIRST,
            prev_chain: Chain::START,
            records: vec![0; bytes],
        };
        let request = SessionRequest::Append(append);
        Job::Request {
            connection: ConnectionId(connection),
            peer: Box::new(Nobody),
            request,
            answer: oneshot::channel().0,
        }
    }

    fn name(job: &Job) -> String {
        match job.append() {
            Some((connection, bytes)) => format!("{}{}", connection.0, if bytes > SMALL_BYTES { "L" } else { "s" }),
            None => "-".to_owned(),
        }
    }

    fn order(jobs: Vec<Job>) -> String {
        let (sender, inbox) = sync_channel(JOBS_MAX);
        for job in jobs {
            sender.send(job).unwrap();
        }
        let mut line = Line::default();
        std::iter::from_fn(|| line.next(&inbox)).map(|job| name(&job)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn who_prints_little_goes_before_who_prints_much_and_never_before_itself() {
        let (large, small) = (|of| append(of, SMALL_BYTES + 1), |of| append(of, SMALL_BYTES));
        assert_eq!(order(vec![large(1), large(1), small(2), small(3), small(2)]), "2s 3s 2s 1L 1L");
        assert_eq!(order(vec![large(1), small(1), small(2), large(3)]), "1L 1s 2s 3L");
        let other = Job::Disconnected(ConnectionId(9));
        assert_eq!(order(vec![large(1), other, small(2)]), "1L - 2s");
    }

    #[test]
    fn who_prints_much_has_its_turn_however_many_print_little() {
        let many = (2..200).map(|of| append(of, 1));
        let order = order(std::iter::once(append(1, SMALL_BYTES + 1)).chain(many).collect());
        assert_eq!(order.split(' ').position(|job| job == "1L"), Some(OVERTAKEN_MAX));
    }
}
