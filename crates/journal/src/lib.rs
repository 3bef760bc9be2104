//! Records, chain, segments, recovery: the one on-disk format of shellkeep, used as the daemon's log and as the keeper's spool.
//!
//! Promise: a record is immutable once numbered; what cannot be read is reported, never skipped in silence; what was
//! synced survives. Refuses to know sockets, messages and what a payload means. Source: docs/journal-format.md.

mod chain;
mod cursor;
mod directory;
mod error;
pub mod hook;
mod journal;
mod reader;
mod record;
mod recover;
mod resync;
mod sealed;
mod segment;
pub mod storage;

pub use chain::{Chain, POSITION_MAX, Position, Seq, SeqRange};
pub use cursor::Hint;
pub use error::JournalError;
pub use journal::{
    Appended, BATCH_BYTES_MAX, Durability, Journal, NewJournal, NewRecord, Options, SEGMENT_BYTES_RANGE, SealProgress,
    SealStep, SealTicket, Sealed, SyncError, SyncTicket, Synced, TORN_BYTES_MAX, TORN_FILES_MAX, remove_journal,
};
pub use reader::{Damage, Item, Place, RawRun, Reader, Start};
pub use record::{
    GapInfo, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, RECORD_PAYLOAD_BYTES_MAX, Record, RecordError, RecordHeader,
    RecordIter, RecordKind, encode_gap, encode_record,
};
pub use recover::{FINDINGS_MAX, Finding, Recovery, TailFate, scan_read_only};
pub use segment::{ATTRS_BYTES_MAX, Grant, Identity};
