//! One session: its log and the core that decides, joined. Every write goes through here, and a state moves only
//! after the storage did its part.
//!
//! Promise: an answer that says `Written` is behind the write, a `Welcome` behind the sync of its grant, a `Durable`
//! behind the sync of its records. Generic over the log, so that the simulation drives this very code. Knows neither
//! connections' sockets nor threads.

use std::time::Instant;

use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::session::{
    Append, Attrs, Busy, BusyReason, Durable, End, Gap, Position, SessionPush, SessionResponse, SessionStart,
};

use super::core::{Arrived, ConnectionId, Grant, Known, Plan, SessionCore, SyncDue, SyncTicket, Synced};

/// How long a keeper should wait after `Busy`, in milliseconds.
pub(super) const BUSY_RETRY_MS: u32 = 200;

/// Why the storage did not take something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFailure {
    /// No room on the disk, or the user's share of it is used up. The log ends where it ended.
    NoSpace,
    /// Any other error. The log ends where it ended.
    Storage,
}

/// What a session needs of its log.
pub trait Log: Known {
    /// Checked records as they arrived, in the form that the log writes.
    type Records: ?Sized;

    /// Writes the records behind the first `skip`, and returns the new end and the bytes written.
    ///
    /// # Errors
    /// When nothing of them counts as written.
    fn append(&mut self, records: &Self::Records, skip: usize) -> Result<(Position, u64), WriteFailure>;

    /// Writes a gap and returns the new end.
    ///
    /// # Errors
    /// When it does not count as written.
    fn append_gap(&mut self, gap: &Gap) -> Result<(Position, u64), WriteFailure>;

    /// Writes a grant and syncs everything written so far, in one step.
    ///
    /// # Errors
    /// `Ok(false)` when the sync failed: the handle must not be trusted again. `Err` when it was not written.
    fn append_grant(&mut self, grant: Grant, attrs: &Attrs) -> Result<bool, WriteFailure>;

    /// Begins a new segment at `at`, copies into it the records behind that place that the old one still gives whole,
    /// and returns the new end.
    ///
    /// # Errors
    /// When the old segment is still the last one.
    fn new_segment(&mut self, at: Position) -> Result<Position, WriteFailure>;
}

/// A session that the daemon has open.
#[derive(Debug)]
pub struct Session<L> {
    id: SessionId,
    core: SessionCore,
    log: L,
}

/// The answer to a start, and who lost the session by it.
#[derive(Debug)]
pub struct Registered {
    /// What to answer.
    pub response: SessionResponse,
    /// A connection that must be closed, because its grant is over.
    pub superseded: Option<ConnectionId>,
}

/// What the keeper must hear after a sync.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Push this.
    Push(SessionPush),
    /// Close the connection: the next start will find out.
    Close,
}

impl<L: Log> Session<L> {
    /// Joins a log and what was learnt of it.
    pub fn new(id: SessionId, core: SessionCore, log: L) -> Self {
        Self { id, core, log }
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// What is known of the log.
    pub fn core(&self) -> &SessionCore {
        &self.core
    }

    /// The log itself.
    pub fn log(&self) -> &L {
        &self.log
    }

    /// The log itself, for what the core has no opinion on: sealing, pruning.
    pub fn log_mut(&mut self) -> &mut L {
        &mut self.log
    }

    /// Opens or resumes the session for a keeper. Saying it again changes nothing but the attributes and the epoch.
    pub fn register(&mut self, connection: ConnectionId, start: &SessionStart, now: Instant) -> Registered {
        let grant = match self.core.register(start) {
            Ok(grant) => grant,
            Err(response) => return Registered { response, superseded: None },
        };
        if self.core.is_suspect()
            && let Err(failure) = self.make_segment(now)
        {
            return Registered { response: busy(failure), superseded: None };
        }
        match self.log.append_grant(grant, &start.attrs) {
            Ok(true) => {
                let (superseded, welcome) = self.core.granted(connection, grant);
                Registered { response: SessionResponse::Welcome(welcome), superseded }
            }
            Ok(false) => {
                // Not granted, and the handle is spent: whoever holds the session must hear that the log moved.
                let superseded = self.core.connection().filter(|held| *held != connection);
                let _ = self.make_segment(now); // if even that fails, the next start tries again
                Registered { response: busy(WriteFailure::Storage), superseded }
            }
            Err(failure) => Registered { response: busy(failure), superseded: None },
        }
    }

    /// Takes records that were checked to follow each other.
    pub fn append(
        &mut self,
        request: &Append,
        arrived: &[Arrived],
        records: &L::Records,
        now: Instant,
    ) -> SessionResponse {
        match self.core.append(request, arrived, &self.log) {
            Plan::Answer(response) => response,
            Plan::Write { skip } => {
                let written = self.log.append(records, skip);
                self.wrote(written, now)
            }
        }
    }

    /// Takes a gap.
    pub fn gap(&mut self, gap: &Gap, now: Instant) -> SessionResponse {
        match self.core.gap(gap, &self.log) {
            Plan::Answer(response) => response,
            Plan::Write { .. } => {
                let written = self.log.append_gap(gap);
                self.wrote(written, now)
            }
        }
    }

    /// Agrees that the session is over, if the log has all of it.
    pub fn end(&mut self, end: &End) -> SessionResponse {
        self.core.end(end)
    }

    /// The connection is over.
    pub fn disconnected(&mut self, connection: ConnectionId) {
        self.core.disconnected(connection);
    }

    /// When a sync should start.
    pub fn sync_due(&self) -> Option<SyncDue> {
        self.core.sync_due()
    }

    /// A sync of everything written so far starts now.
    pub fn sync_begin(&mut self) -> SyncTicket {
        self.core.sync_begin()
    }

    /// A sync has ended; says what which connection must hear.
    pub fn sync_end(&mut self, ticket: SyncTicket, ok: bool, now: Instant) -> Option<(ConnectionId, Told)> {
        let told = match self.core.sync_end(ticket, ok, now) {
            Synced::Nothing => return None,
            Synced::Durable(durable) => Told::Push(SessionPush::Durable(Durable {
                session: self.id,
                store: self.core.store(),
                epoch: self.core.epoch(),
                durable_seq: durable.next_seq.get() - 1,
            })),
            Synced::Cut(_) => match self.make_segment(now) {
                Err(_) => Told::Close,
                Ok(()) => Told::Push(SessionPush::Expect {
                    session: self.id,
                    epoch: self.core.epoch(),
                    end: self.core.end_position(),
                }),
            },
        };
        self.core.connection().map(|connection| (connection, told))
    }

    fn wrote(&mut self, written: Result<(Position, u64), WriteFailure>, now: Instant) -> SessionResponse {
        match written {
            Ok((end, bytes)) => self.core.wrote(end, bytes, now),
            Err(failure) => busy(failure),
        }
    }

    /// Without the new segment the log stays where it is, untrusted, until the next start tries again.
    fn make_segment(&mut self, now: Instant) -> Result<(), WriteFailure> {
        let made = self.log.new_segment(self.core.durable_position());
        match made {
            Ok(end) => self.core.cut(end, now),
            Err(_) => self.core.distrust(),
        }
        made.map(|_| ())
    }
}

fn busy(failure: WriteFailure) -> SessionResponse {
    let reason = match failure {
        WriteFailure::NoSpace => BusyReason::NoSpace,
        WriteFailure::Storage => BusyReason::Storage,
    };
    SessionResponse::Busy(Busy { reason, retry_ms: BUSY_RETRY_MS })
}
