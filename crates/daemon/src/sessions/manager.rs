//! `SessionManager`: which sessions are open, who holds them, and when each is synced.
//!
//! Promise: `register` can be repeated at will; a session that is not open is found on disk by scanning and goes on in
//! the same log. Lives on the store thread alone. Knows no sockets: a client is a [`Peer`].

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use shellkeep_journal::hook::{self, Point};
use shellkeep_journal::{RecordIter, Seq};
use shellkeep_protocol::ids::{SessionId, StoreId};
use shellkeep_protocol::session::{
    APPEND_BYTES_MAX, ATTRS_BYTES_MAX, Append, Busy, BusyReason, End, Gap, Position, Refused, SessionPush,
    SessionRequest, SessionResponse, SessionStart,
};
use tracing::{info, warn};

use super::core::{Arrived, ConnectionId, SessionCore, SyncDue, SyncTicket};
use super::journal_log::{JournalLog, SealResult, SyncResult, encode_attrs};
use super::logs::Logs;
use super::session::{Registered, Session, Told, WriteFailure};
use super::syncer::Syncer;
use super::watch::Watchers;

/// Sessions whose logs are open at a time; beyond that the ones that nobody holds and that are durable are closed.
pub const OPEN_MAX: usize = 4096;

/// By this part of its share of the disk a session may be over it while a segment is being sealed.
const SEALING_SLACK: u64 = 8;

/// A keeper's connection. Neither call may block.
pub trait Peer: Send {
    /// Says something; false if the connection takes no more.
    fn push(&self, push: SessionPush) -> bool;
    /// Ends the connection.
    fn close(&self);
}

/// What became of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogChange {
    /// Its keeper has come.
    Opened,
    /// So many bytes of records were appended.
    Grew(u64),
    /// What was read of it may not be in it any more.
    Replaced,
    /// Its keeper's connection has ended.
    Left,
    /// Its command has ended.
    Ended,
}

/// All sessions of this daemon.
pub struct SessionManager {
    logs: Logs,
    open: HashMap<SessionId, Session<JournalLog>>,
    peers: HashMap<ConnectionId, Box<dyn Peer>>,
    /// Sessions that each connection registered.
    held: HashMap<ConnectionId, BTreeSet<SessionId>>,
    /// Sessions with something to sync.
    dirty: BTreeSet<SessionId>,
    syncer: Syncer,
    watchers: Watchers,
    growth: Growth,
    /// Called with what becomes of logs.
    on_change: Option<Box<dyn Fn(SessionId, LogChange) + Send>>,
}

/// Counts what is written, and calls whenever it was so much again.
#[derive(Default)]
struct Growth {
    bytes: u64,
    every: u64,
    call: Option<Box<dyn Fn() + Send>>,
}

impl Growth {
    fn by(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(call) = self.call.as_ref().filter(|_| self.bytes >= self.every) {
            self.bytes = 0;
            call();
        }
    }
}

impl SessionManager {
    /// Over the logs in a directory.
    pub fn new(logs: Logs, syncer: Syncer, watchers: Watchers) -> Self {
        Self {
            logs,
            open: HashMap::new(),
            peers: HashMap::new(),
            held: HashMap::new(),
            dirty: BTreeSet::new(),
            syncer,
            watchers,
            growth: Growth::default(),
            on_change: None,
        }
    }

    /// From now on calls `call` whenever so many bytes of records were written again.
    pub(crate) fn when_grown(&mut self, every: u64, call: Box<dyn Fn() + Send>) {
        self.growth = Growth { bytes: 0, every, call: Some(call) };
    }

    /// From now on calls `call` with what becomes of logs. It must not block.
    pub(crate) fn when_changed(&mut self, call: Box<dyn Fn(SessionId, LogChange) + Send>) {
        self.on_change = Some(call);
    }

    /// Executes one request of a keeper.
    pub fn execute(&mut self, id: ConnectionId, peer: Box<dyn Peer>, request: &SessionRequest) -> SessionResponse {
        match request {
            SessionRequest::Start(start) => {
                self.peers.insert(id, peer);
                self.register(id, start)
            }
            SessionRequest::Append(append) => self.append(append),
            SessionRequest::Gap(gap) => self.gap(gap),
            SessionRequest::End(end) => self.end(end),
        }
    }

    /// Opens or resumes a session. A second start with the same id updates the attributes and keeps every record.
    pub fn register(&mut self, id: ConnectionId, start: &SessionStart) -> SessionResponse {
        if encode_attrs(&start.attrs).is_none() {
            return SessionResponse::Invalid { reason: format!("attributes of more than {ATTRS_BYTES_MAX} bytes") };
        }
        let response = self.register_once(id, start);
        // Found to be gone just now: the same start finds, or makes, the log that the session goes on in.
        if self.lost_log(start.session) { self.register_once(id, start) } else { response }
    }

    fn register_once(&mut self, id: ConnectionId, start: &SessionStart) -> SessionResponse {
        let now = Instant::now();
        let session = match self.open(start, now) {
            Ok(session) => session,
            Err(failure) => return busy(failure),
        };
        let Registered { response, superseded } = session.register(id, start, now);
        if let SessionResponse::Welcome(welcome) = &response {
            info!(session = %start.session, epoch = welcome.epoch, next = %welcome.end.next_seq, "session registered");
            self.held.entry(id).or_default().insert(start.session);
            self.on_change.iter().for_each(|call| call(start.session, LogChange::Opened));
            hook::pause(Point::DaemonGranted);
        }
        if let Some(old) = superseded {
            warn!(session = %start.session, connection = old.0, "a newer connection has taken the session over");
            self.close(old);
        }
        self.mark(start.session);
        response
    }

    /// Writes records at their place.
    pub fn append(&mut self, append: &Append) -> SessionResponse {
        let Some(session) = self.open.get_mut(&append.session) else {
            return SessionResponse::Refused(Refused::Unknown);
        };
        let arrived = match check(append) {
            Ok(arrived) => arrived,
            Err(reason) => return SessionResponse::Invalid { reason },
        };
        let response = session.append(append, &arrived, &append.records, Instant::now());
        self.wrote(append.session, &response);
        let bytes = append.records.len() as u64;
        self.growth.by(bytes);
        self.on_change.iter().for_each(|call| call(append.session, LogChange::Grew(bytes)));
        self.lost_log(append.session);
        response
    }

    /// Writes a gap.
    pub fn gap(&mut self, gap: &Gap) -> SessionResponse {
        let Some(session) = self.open.get_mut(&gap.session) else {
            return SessionResponse::Refused(Refused::Unknown);
        };
        let response = session.gap(gap, Instant::now());
        warn!(session = %gap.session, from = %gap.from, to = %gap.to, reason = ?gap.reason, "records are lost");
        self.wrote(gap.session, &response);
        self.lost_log(gap.session);
        response
    }

    /// Agrees that a session is over, and syncs it now rather than soon.
    pub fn end(&mut self, end: &End) -> SessionResponse {
        let Some(session) = self.open.get_mut(&end.session) else {
            return SessionResponse::Refused(Refused::Unknown);
        };
        let response = session.end(end);
        if matches!(response, SessionResponse::Written { .. }) {
            if session.sync_due().is_some() {
                self.begin_sync(end.session);
            }
            self.on_change.iter().for_each(|call| call(end.session, LogChange::Ended));
        }
        response
    }

    /// A connection has ended; its sessions stay.
    pub fn disconnected(&mut self, id: ConnectionId) {
        self.peers.remove(&id);
        for session in self.held.remove(&id).unwrap_or_default() {
            if let Some(open) = self.open.get_mut(&session) {
                open.disconnected(id);
            }
            self.on_change.iter().for_each(|call| call(session, LogChange::Left));
            self.watchers.changed(session);
        }
    }

    /// A sync has ended.
    pub fn synced(&mut self, id: SessionId, ticket: SyncTicket, result: &SyncResult) {
        let Some(session) = self.open.get_mut(&id).filter(|session| session.log().is_of(result)) else { return };
        session.log_mut().note(result);
        if self.lost_log(id) {
            return;
        }
        let Some(session) = self.open.get_mut(&id) else { return };
        if !result.ok {
            warn!(session = %id, "a sync failed; the log goes on in a new segment");
            self.logs.forget_summary(id);
        }
        let told = session.sync_end(ticket, result.ok, Instant::now());
        match told {
            None => {}
            Some((connection, Told::Close)) => self.close(connection),
            Some((connection, Told::Push(push))) => {
                let taken = self.peers.get(&connection).is_some_and(|peer| peer.push(push));
                if !taken {
                    self.close(connection); // it would wait for this word for ever
                }
            }
        }
        self.mark(id);
        self.seal(id);
        self.prune_over(id);
        self.watchers.changed(id);
    }

    /// A step of sealing has ended.
    pub fn sealed(&mut self, id: SessionId, result: SealResult) {
        let Some(session) = self.open.get_mut(&id) else { return result.abandon() };
        match session.log_mut().note_sealed(result) {
            Some(job) => self.syncer.seal(id, job),
            None => self.prune_over(id),
        }
    }

    /// Keeps a session within its share of the disk.
    fn prune_over(&mut self, id: SessionId) {
        let Some(session) = self.open.get(&id) else { return };
        let share = self.logs.session_bytes_max();
        let held = session.log().journal().bytes_on_disk();
        // What is being sealed would be gone too early; but who prints faster than that can be done waits for nothing.
        let most = if session.log().is_sealing() { share + share / SEALING_SLACK } else { share };
        if held > most {
            self.prune_front(id, held - share);
        }
    }

    /// Begins to seal what is full and durable of a log.
    pub(super) fn seal(&mut self, id: SessionId) {
        if let Some(job) = self.open.get_mut(&id).and_then(|session| session.log_mut().seal_job()) {
            self.syncer.seal(id, job);
        }
    }

    /// When [`Self::work`] is needed next; `None` while nothing waits for time to pass.
    pub fn next_due(&self) -> Option<Instant> {
        let due = |id: &SessionId| match self.open.get(id)?.sync_due()? {
            SyncDue::Now => Some(Instant::now()),
            SyncDue::At(at) => Some(at),
        };
        self.dirty.iter().filter_map(due).min()
    }

    /// Starts the syncs that are due, seals what is full, closes what nobody needs.
    pub fn work(&mut self, now: Instant) {
        let due = |session: &Session<JournalLog>| match session.sync_due() {
            None => false,
            Some(SyncDue::Now) => true,
            Some(SyncDue::At(at)) => at <= now,
        };
        let ready: Vec<SessionId> =
            self.dirty.iter().copied().filter(|id| self.open.get(id).is_some_and(due)).collect();
        for id in ready {
            self.begin_sync(id);
        }
        if self.open.len() > OPEN_MAX {
            self.open.retain(|_, session| session.core().connection().is_some() || !session.core().is_clean());
        }
    }

    /// Syncs everything, here and now: the daemon ends.
    pub fn sync_all(&mut self) {
        for (id, session) in &mut self.open {
            if session.core().is_clean() {
                continue;
            }
            let ticket = session.sync_begin();
            let result = session.log().sync_job().sync();
            session.log_mut().note(&result);
            let ok = result.ok;
            if let Some((connection, Told::Push(push))) = session.sync_end(ticket, ok, Instant::now())
                && let Some(peer) = self.peers.get(&connection)
            {
                peer.push(push);
            }
            if !ok {
                warn!(session = %id, "the last sync failed; its records stay with the keeper");
            }
        }
    }

    /// The session, if it is open.
    pub fn get(&self, id: SessionId) -> Option<&Session<JournalLog>> {
        self.open.get(&id)
    }

    /// The session, if it is open, to write to it.
    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session<JournalLog>> {
        self.open.get_mut(&id)
    }

    /// Sessions whose keeper is connected.
    pub fn connected(&self) -> impl Iterator<Item = SessionId> {
        self.open.values().filter(|session| session.core().connection().is_some()).map(Session::id)
    }

    /// Forgets an open session whose log is removed.
    pub(crate) fn forget(&mut self, id: SessionId) -> Option<Session<JournalLog>> {
        self.dirty.remove(&id);
        self.open.remove(&id)
    }

    /// Who is told of changes.
    pub(crate) fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Where logs are.
    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Finds the session in memory, else on disk, else makes its log.
    pub(super) fn open(
        &mut self,
        start: &SessionStart,
        now: Instant,
    ) -> Result<&mut Session<JournalLog>, WriteFailure> {
        let id = start.session;
        if !self.open.contains_key(&id) {
            let session = if let Some(session) = self.logs.open(id, start.first_retained, now)? {
                session
            } else {
                let store = StoreId::random().map_err(|_| WriteFailure::Storage)?;
                let log = self.logs.create(start, store)?;
                Session::new(id, SessionCore::new(store, start.writer), log)
            };
            self.open.insert(id, session);
        }
        self.open.get_mut(&id).ok_or(WriteFailure::Storage)
    }

    /// Finds a session on disk that is not open; false if there is none that can be used.
    pub(crate) fn open_found(&mut self, id: SessionId, retained: Seq, now: Instant) -> bool {
        let found = self.logs.open(id, retained, now).ok().flatten();
        found.is_some_and(|session| self.open.insert(id, session).is_none())
    }

    /// Remembers a session that may have something to sync.
    pub(super) fn mark(&mut self, id: SessionId) {
        if self.open.get(&id).is_some_and(|session| session.sync_due().is_some()) {
            self.dirty.insert(id);
        } else {
            self.dirty.remove(&id);
        }
    }

    fn begin_sync(&mut self, id: SessionId) {
        if let Some(session) = self.open.get_mut(&id) {
            let ticket = session.sync_begin();
            self.syncer.sync(id, ticket, session.log().sync_job());
        }
        self.mark(id);
    }

    fn wrote(&mut self, id: SessionId, response: &SessionResponse) {
        if matches!(response, SessionResponse::Written { .. }) {
            hook::pause(Point::DaemonWrote);
            self.mark(id);
            self.watchers.changed(id);
        }
    }

    /// If somebody was at the log of a session: forgets what is known of it and hangs up, so that its keeper starts anew,
    /// with whatever is on the disk then. What it still has it sends again; the rest becomes a gap.
    pub(super) fn lost_log(&mut self, id: SessionId) -> bool {
        let Some(session) = self.open.get(&id).filter(|session| session.log().is_gone()) else { return false };
        let connection = session.core().connection();
        warn!(session = %id, path = %session.log().journal().dir().display(),
            "the log was deleted, cut or replaced under the daemon; the session goes on with what is there now");
        self.forget(id);
        self.logs.forget_summary(id);
        self.on_change.iter().for_each(|call| call(id, LogChange::Replaced));
        if let Some(connection) = connection {
            self.close(connection);
        }
        self.watchers.changed(id);
        true
    }

    fn close(&mut self, id: ConnectionId) {
        if let Some(peer) = self.peers.remove(&id) {
            peer.close();
        }
    }
}

/// Checks that the records of an append are whole and follow each other from where it says that they do.
fn check(append: &Append) -> Result<Vec<Arrived>, String> {
    if append.records.len() > 2 * APPEND_BYTES_MAX as usize + shellkeep_journal::RECORD_BYTES_MAX {
        return Err(format!("{} bytes of records in one append", append.records.len()));
    }
    let records = RecordIter::from_first(&append.records).map_err(|error| error.to_string())?;
    let Position { next_seq, chain, .. } = records.position();
    if (next_seq, chain) != (append.first_seq, append.prev_chain) {
        return Err(format!("the records begin at {next_seq}, not at {}", append.first_seq));
    }
    let arrived = |record: shellkeep_journal::Record<'_>| match record.gap() {
        Some(_) => Err("a gap among the records".to_owned()),
        None => Ok(Arrived { seq: record.header.seq, check: record.header.check }),
    };
    records.map(|record| record.map_err(|error| error.to_string()).and_then(arrived)).collect()
}

fn busy(failure: WriteFailure) -> SessionResponse {
    let reason = match failure {
        WriteFailure::NoSpace => BusyReason::NoSpace,
        WriteFailure::Storage => BusyReason::Storage,
    };
    SessionResponse::Busy(Busy { reason, retry_ms: super::session::BUSY_RETRY_MS })
}
