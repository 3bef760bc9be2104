//! The session conversation, keeper → daemon: `Start`, `Append`, `Gap`, `End`; and the daemon's pushes.
//!
//! Every request can be repeated: a keeper that does not know whether one was executed sends it again. Positions are
//! record numbers; proof is the chain, the checksum over all records so far. Nothing without a number has effects.
//! Source: docs/wire.md, "Session conversation". Variants and fields are only ever added in a new version.

use serde::{Deserialize, Serialize};
pub use shellkeep_journal::Position;
use shellkeep_journal::{Chain, Seq};

use crate::ids::{MarksNonce, SessionId, StoreId, WriterId};

/// Version of the session conversation that this build speaks, and the oldest that it still understands.
pub const SESSION_VERSIONS: std::ops::RangeInclusive<u16> = 1..=1;

/// Bytes of records that a keeper may have sent and not yet seen written. Limits memory on both ends; durability
/// never limits sending.
pub const WINDOW_BYTES: u32 = 1 << 20;

/// Most bytes of records in one `Append`: small enough that one slow write does not hold up the queue behind it.
pub const APPEND_BYTES_MAX: u32 = 256 << 10;
const _: () = assert!(APPEND_BYTES_MAX <= WINDOW_BYTES);

/// Largest encoded [`Attrs`] that a daemon accepts.
pub const ATTRS_BYTES_MAX: usize = 32 << 10;

/// What the keeper asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionRequest {
    /// The whole state, first on every connection.
    Start(Box<SessionStart>),
    /// Records, at their place.
    Append(Append),
    /// Records that can no longer be had.
    Gap(Gap),
    /// The session is over.
    End(End),
}

/// Opens or resumes a session; the full state every time, so that repeating it is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStart {
    /// The session that is meant.
    pub session: SessionId,
    /// The keeper that speaks. The first writer of a session owns it.
    pub writer: WriterId,
    /// Highest epoch that this keeper was ever granted; 0 if none.
    pub epoch_known: u32,
    /// Oldest record that the keeper still has; equal to `next_seq` if it has none.
    pub first_retained: Seq,
    /// Chain before `first_retained`.
    pub chain_before_first: Chain,
    /// Number of the next record that the keeper will make.
    pub next_seq: Seq,
    /// Chain before `next_seq`.
    pub chain_at_end: Chain,
    /// What the session is; replaces what the daemon knew.
    pub attrs: Attrs,
}

/// What a session is, as its keeper says it. Stored in the log with each accepted start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attrs {
    /// The user's name for it, unique among running sessions.
    pub name: Option<String>,
    /// Program and arguments, as executed. Not necessarily UTF-8 in the system; lossy here.
    pub command: Vec<String>,
    /// Directory in which the command was started.
    pub cwd: String,
    /// Microseconds since the Unix epoch.
    pub started_at_us: u64,
    /// Process id of the command in the keeper's PID namespace; 0 before it was started.
    pub pid: u32,
    /// Process id of the keeper.
    pub keeper_pid: u32,
    /// Value of `TERM` in the session.
    pub term: String,
    /// Size at the start: columns, rows.
    pub size: (u16, u16),
    /// Name of the host, for sessions recorded from elsewhere.
    pub host: String,
    /// The session that this one continues after a conflict.
    pub parent: Option<SessionId>,
    /// Terminals attached now.
    pub attached: u32,
    /// Version of the keeper's program.
    pub keeper_version: String,
    /// What the marks of its shell carry, if it was made to print any.
    pub marks: Option<MarksNonce>,
}

/// What a spool says of itself in its journal's attrs, so that the daemon can adopt it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolAttrs {
    /// The session that the records belong to: another one than at first after a conflict.
    pub session: SessionId,
    /// What the session is.
    pub attrs: Attrs,
}

/// Records in order, each as encoded in a journal (docs/journal-format.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The session that is meant.
    pub session: SessionId,
    /// The grant under which this is sent; of another epoch nothing is written.
    pub epoch: u32,
    /// Number of the first record in `records`.
    pub first_seq: Seq,
    /// Chain before `first_seq`.
    pub prev_chain: Chain,
    /// One or more whole encoded records, at most [`APPEND_BYTES_MAX`] unless a single record is larger.
    #[serde(with = "serde_bytes")]
    pub records: Vec<u8>,
}

/// Why records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapReason {
    /// The keeper's spool reached its bound while no daemon took the records.
    SpoolFull,
    /// The keeper had given the records away as durable, and the log that had them is gone.
    StoreLost,
    /// The spool was damaged at this place.
    SpoolDamaged,
    /// The session goes on from another one after a conflict; the records before are there.
    Forked,
}

impl GapReason {
    /// The number that a gap record carries.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::SpoolFull => 1,
            Self::StoreLost => 2,
            Self::SpoolDamaged => 3,
            Self::Forked => 4,
        }
    }

    /// The reason that a gap record's number means; an unknown one is a bound that was reached somewhere.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            2 => Self::StoreLost,
            3 => Self::SpoolDamaged,
            4 => Self::Forked,
            _ => Self::SpoolFull,
        }
    }
}

/// Says that `from..=to` cannot be had any more. The only way in which the next number may jump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The session that is meant.
    pub session: SessionId,
    /// The grant under which this is sent.
    pub epoch: u32,
    /// First missing record: the daemon's next number.
    pub from: Seq,
    /// Last missing record.
    pub to: Seq,
    /// Bytes of output from the session's start to behind the gap; what is lost is this less what the log has.
    pub output_offset_after: u64,
    /// Microseconds since the Unix epoch when the gap was stated.
    pub time_us: u64,
    /// Why.
    pub reason: GapReason,
    /// Chain before `to + 1`: the next record's proof.
    pub chain_after: Chain,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It returned this status.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

impl ExitStatus {
    /// The status a shell reports: the code, or 128 + signal.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal),
        }
    }
}

/// The command has ended, and `next_seq` is the end of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The session that is meant.
    pub session: SessionId,
    /// The grant under which this is sent.
    pub epoch: u32,
    /// One past the last record, which is the exit record.
    pub next_seq: Seq,
    /// Chain before `next_seq`.
    pub chain: Chain,
    /// How it ended.
    pub exit: ExitStatus,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionResponse {
    /// To `Start`: go on from here.
    Welcome(Welcome),
    /// Nothing was done: this session belongs to another writer, or the epoch is over.
    Refused(Refused),
    /// Nothing was done: ask again later, on the same connection.
    Busy(Busy),
    /// Everything below `next_seq` is written: it survives the daemon's death, not yet power loss.
    Written {
        /// The next number that the log takes.
        next_seq: Seq,
    },
    /// Nothing was written: the request does not begin where the log ends.
    Expect(Position),
    /// Nothing was written: the log holds other records under these numbers. The keeper goes on in a new session.
    Conflict,
    /// Nothing was written: the request is not what this conversation allows, and repeating it will not help.
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
}

/// The answer to an accepted start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The log that the records go to.
    pub store: StoreId,
    /// The grant: higher than any before it, durable before this was sent.
    pub epoch: u32,
    /// Where the log ends.
    pub end: Position,
    /// Last record that survives power loss; before the first if none is known to.
    pub durable_seq: u64,
    /// What may be sent and not yet written.
    pub window_bytes: u32,
}

/// Why a session's request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    /// Another writer owns the session.
    Owner(WriterId),
    /// This epoch is over, or was never granted.
    Epoch(u32),
    /// This daemon keeps no such session now: `Start` comes first.
    Unknown,
}

/// Why the daemon cannot do it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BusyReason {
    /// The disk, or the user's share of it, is full.
    NoSpace,
    /// The storage returned an error.
    Storage,
    /// Too much is queued.
    Overloaded,
    /// The daemon is ending.
    Stopping,
}

/// Nothing was written; try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// Why.
    pub reason: BusyReason,
    /// When to try again, in milliseconds.
    pub retry_ms: u32,
}

/// What the daemon says unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionPush {
    /// How far a session's records survive power loss.
    Durable(Durable),
    /// The log's end moved back after a storage error: send again from there.
    Expect {
        /// The session that is meant.
        session: SessionId,
        /// The grant under which it was written.
        epoch: u32,
        /// Where the log ends now.
        end: Position,
    },
}

/// How far the daemon has made a session's records durable.
///
/// Pushed after each sync; the keeper may drop everything up to it. One of another store, epoch or connection is
/// ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// The session that is meant.
    pub session: SessionId,
    /// The log that is meant; of another one this message says nothing.
    pub store: StoreId,
    /// The grant under which it is said.
    pub epoch: u32,
    /// Number of the last synced record. Never decreases within one store.
    pub durable_seq: u64,
}
