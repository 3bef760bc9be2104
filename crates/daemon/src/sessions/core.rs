//! What a session's log may take, and what may be said of it: a pure machine over numbers, checksums and time.
//!
//! Each decision is a plan (`register`, `append`, `gap`, `end` change nothing); the caller does the storage's part and
//! reports it (`granted`, `wrote`, `synced`, `cut`), and only then does the state move, so that a failed write leaves
//! no trace. Knows no bytes, files or sockets: the simulation and the daemon drive the same code.
//! Source of the rules: docs/wire.md, "Session conversation".

use std::time::{Duration, Instant};

use shellkeep_journal::{Chain, Seq};
use shellkeep_protocol::ids::{StoreId, WriterId};
use shellkeep_protocol::session::{
    Append, End, Gap, Position, Refused, SessionResponse, SessionStart, WINDOW_BYTES, Welcome,
};

/// Longest that written records wait for their sync to start, unless one is still running.
pub const SYNC_DELAY: Duration = Duration::from_millis(100);

/// Unsynced bytes at which a sync starts without waiting for [`SYNC_DELAY`].
pub const SYNC_BYTES: u64 = 8 << 20;

/// One life of a keeper's connection, as the server counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Looks up what the log already holds, for comparing records that arrive again.
pub trait Known {
    /// Chain before record `seq`, if the log holds a record that ends or begins there; `None` inside a gap, inside
    /// damage and before the first record kept.
    fn chain_before(&self, seq: Seq) -> Option<Chain>;
}

/// Number and checksum of a record that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Its number.
    pub seq: Seq,
    /// The chain behind it.
    pub check: Chain,
}

/// What to do with a request for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Write it, less the first `skip` records that are known, then call [`SessionCore::wrote`].
    Write {
        /// Records at the front that the log already holds.
        skip: usize,
    },
    /// Write nothing and answer this.
    Answer(SessionResponse),
}

/// A grant that must be durable in the log before its `Welcome` is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The new epoch.
    pub epoch: u32,
    /// The keeper that gets it.
    pub writer: WriterId,
}

/// What a sync that is running will prove if it succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncTicket {
    incarnation: u64,
    upto: Position,
}

/// What the end of a sync means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synced {
    /// Nothing new is durable: it began before a change of segment, store or epoch.
    Nothing,
    /// Everything before this place survives power loss.
    Durable(Position),
    /// The storage lost its trust: begin a new segment at this place, before which everything is proved durable, copy
    /// into it what the old one still gives, then call [`SessionCore::cut`].
    Cut(Position),
}

/// The state of one session's log.
#[derive(Debug, Clone)]
pub struct SessionCore {
    store: StoreId,
    owner: WriterId,
    epoch: u32,
    end: Position,
    /// Everything before is durable, as proved in this life of the daemon.
    durable: Position,
    /// A start was accepted in this life of the daemon, and the log can be trusted since.
    granted: bool,
    connection: Option<ConnectionId>,
    sync: SyncState,
}

/// Which bytes wait for the disk.
#[derive(Debug, Clone, Copy, Default)]
struct SyncState {
    /// Raised when a running sync may no longer acknowledge anything.
    incarnation: u64,
    running: bool,
    dirty_since: Option<Instant>,
    unsynced_bytes: u64,
    /// A sync failed and the log still ends in the handle that failed.
    suspect: bool,
}

impl SessionCore {
    /// A log that was just made for `owner`; nothing is granted yet.
    #[must_use]
    pub fn new(store: StoreId, owner: WriterId) -> Self {
        Self {
            store,
            owner,
            epoch: 0,
            end: Position::START,
            durable: Position::START,
            granted: false,
            connection: None,
            sync: SyncState::default(),
        }
    }

    /// A log as scanning found it. Its records from `proved` on are written, not durable, until they are synced
    /// again, so that sync is armed at once.
    ///
    /// `proved` is the place of the newest grant that records follow: they were only accepted once it was durable.
    #[must_use]
    pub fn recovered(identity: (StoreId, WriterId, u32), proved: Position, end: Position, now: Instant) -> Self {
        let (store, owner, epoch) = identity;
        let mut core = Self::new(store, owner);
        core.epoch = epoch;
        core.durable = proved;
        core.end = end;
        core.sync.dirty_since = Some(now);
        core
    }

    /// The log's identity.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// The keeper whose records these are.
    pub fn owner(&self) -> WriterId {
        self.owner
    }

    /// The last grant.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Where the log ends.
    pub fn end_position(&self) -> Position {
        self.end
    }

    /// The connection that holds the last grant, if it still lives.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// Last record known to survive power loss; 0 if none is.
    pub fn durable_seq(&self) -> u64 {
        self.durable.next_seq.get() - 1
    }

    /// Whether everything written is durable.
    pub fn is_clean(&self) -> bool {
        self.durable.next_seq >= self.end.next_seq
    }

    /// Whether a failed sync left the log in a handle that must not be used again.
    pub fn is_suspect(&self) -> bool {
        self.sync.suspect
    }

    /// Decides on a `Start`. On `Ok` make the grant durable in the log, then call [`Self::granted`].
    ///
    /// # Errors
    /// The answer to send instead, when the session is another writer's or the request contradicts itself.
    pub fn register(&self, start: &SessionStart) -> Result<Grant, SessionResponse> {
        if start.writer != self.owner {
            return Err(SessionResponse::Refused(Refused::Owner(self.owner)));
        }
        let epoch = start.epoch_known.max(self.epoch).checked_add(1);
        let epoch = epoch.ok_or_else(|| invalid("no epoch is left above the one that the keeper knows"))?;
        if start.first_retained > start.next_seq {
            return Err(invalid("the first record retained lies behind the last one"));
        }
        Ok(Grant { epoch, writer: start.writer })
    }

    /// The grant is durable, and with it every record before it, which were all records: grant and sync are one step.
    /// Returns the connection that lost the session by it, which must be closed, and the answer.
    pub fn granted(&mut self, connection: ConnectionId, grant: Grant) -> (Option<ConnectionId>, Welcome) {
        let superseded = self.connection.replace(connection).filter(|old| *old != connection);
        self.epoch = grant.epoch;
        self.granted = true;
        self.durable = self.end;
        self.sync.incarnation += 1;
        self.sync.dirty_since = None;
        self.sync.unsynced_bytes = 0;
        let welcome = Welcome {
            store: self.store,
            epoch: self.epoch,
            end: self.end,
            durable_seq: self.durable_seq(),
            window_bytes: WINDOW_BYTES,
        };
        (superseded, welcome)
    }

    /// The connection has ended; the session stays.
    pub fn disconnected(&mut self, connection: ConnectionId) {
        if self.connection == Some(connection) {
            self.connection = None;
        }
    }

    /// Decides on an `Append` whose records were checked to follow each other from `prev_chain` on.
    pub fn append(&self, request: &Append, records: &[Arrived], known: &impl Known) -> Plan {
        if let Some(answer) = self.wrong_epoch(request.epoch) {
            return Plan::Answer(answer);
        }
        let (first, end) = (request.first_seq, self.end);
        if first > end.next_seq {
            return Plan::Answer(SessionResponse::Expect(end));
        }
        let Some(last) = records.last() else {
            return Plan::Answer(invalid("an append without records"));
        };
        if last.seq < end.next_seq {
            // All of it lies in the past: agree only with proof.
            return Plan::Answer(match known.chain_before(last.seq.next()) {
                Some(chain) if chain == last.check => self.written(),
                Some(_) => SessionResponse::Conflict,
                None => SessionResponse::Expect(end),
            });
        }
        let skip = records.partition_point(|record| record.seq < end.next_seq);
        let chain = if skip == 0 { request.prev_chain } else { records[skip - 1].check };
        if chain == end.chain { Plan::Write { skip } } else { Plan::Answer(SessionResponse::Conflict) }
    }

    /// Decides on a `Gap`.
    pub fn gap(&self, gap: &Gap, known: &impl Known) -> Plan {
        if let Some(answer) = self.wrong_epoch(gap.epoch) {
            return Plan::Answer(answer);
        }
        if gap.to < gap.from {
            return Plan::Answer(invalid("a gap that ends before it begins"));
        }
        if gap.from == self.end.next_seq {
            if gap.output_offset_after < self.end.output_offset {
                return Plan::Answer(invalid("a gap that takes output back"));
            }
            return Plan::Write { skip: 0 };
        }
        if gap.to < self.end.next_seq && known.chain_before(gap.to.next()) == Some(gap.chain_after) {
            return Plan::Answer(self.written()); // said again
        }
        Plan::Answer(SessionResponse::Expect(self.end))
    }

    /// Decides on an `End`: agrees only if the log holds everything up to it.
    pub fn end(&self, end: &End) -> SessionResponse {
        if let Some(answer) = self.wrong_epoch(end.epoch) {
            return answer;
        }
        if end.next_seq != self.end.next_seq {
            return SessionResponse::Expect(self.end);
        }
        if end.chain == self.end.chain { self.written() } else { SessionResponse::Conflict }
    }

    /// Records or a gap were written and the log now ends at `end`.
    pub fn wrote(&mut self, end: Position, bytes: u64, now: Instant) -> SessionResponse {
        self.end = end;
        self.sync.unsynced_bytes += bytes;
        self.sync.dirty_since.get_or_insert(now);
        self.written()
    }

    /// When the next sync should start; `None` while one runs or nothing waits for it.
    pub fn sync_due(&self) -> Option<SyncDue> {
        if self.sync.running || self.sync.suspect {
            return None;
        }
        let since = self.sync.dirty_since?;
        Some(if self.sync.unsynced_bytes >= SYNC_BYTES { SyncDue::Now } else { SyncDue::At(since + SYNC_DELAY) })
    }

    /// A sync starts now. What is written from here on is the next one's.
    pub fn sync_begin(&mut self) -> SyncTicket {
        self.sync.running = true;
        self.sync.dirty_since = None;
        self.sync.unsynced_bytes = 0;
        SyncTicket { incarnation: self.sync.incarnation, upto: self.end }
    }

    /// The sync has ended.
    pub fn sync_end(&mut self, ticket: SyncTicket, ok: bool, now: Instant) -> Synced {
        self.sync.running = false;
        let stale = ticket.incarnation != self.sync.incarnation;
        if ok && stale {
            if !self.is_clean() {
                self.sync.dirty_since.get_or_insert(now);
            }
            return Synced::Nothing;
        }
        if ok {
            if ticket.upto.next_seq > self.durable.next_seq {
                self.durable = ticket.upto;
            }
            return Synced::Durable(self.durable);
        }
        Synced::Cut(self.durable)
    }

    /// Everything before this place is proved durable.
    pub fn durable_position(&self) -> Position {
        self.durable
    }

    /// The log ends in a handle that must not be used again, and no new segment can be had: take nothing until the
    /// next start, which tries again.
    pub fn distrust(&mut self) {
        self.sync.suspect = true;
        self.sync.incarnation += 1;
        self.granted = false;
    }

    /// The new segment is made and the log ends at `end` again. The owner must be told.
    pub fn cut(&mut self, end: Position, now: Instant) {
        self.end = end;
        self.sync.incarnation += 1;
        self.sync.suspect = false;
        self.sync.unsynced_bytes = 0;
        self.sync.dirty_since = (!self.is_clean()).then_some(now);
    }

    fn wrong_epoch(&self, epoch: u32) -> Option<SessionResponse> {
        (epoch != self.epoch || !self.granted).then_some(SessionResponse::Refused(Refused::Epoch(self.epoch)))
    }

    fn written(&self) -> SessionResponse {
        SessionResponse::Written { next_seq: self.end.next_seq }
    }
}

/// When a sync should start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncDue {
    /// Enough is waiting.
    Now,
    /// Then.
    At(Instant),
}

fn invalid(reason: &str) -> SessionResponse {
    SessionResponse::Invalid { reason: reason.to_owned() }
}
