//! Records, chain, segments, recovery: the one on-disk format of shellkeep, used as the daemon's log and as the keeper's spool.
//!
//! Promise: a record is immutable once numbered; what cannot be read is reported, never skipped in silence; what was
//! synced survives. Refuses to know sockets, messages and what a payload means. Source: docs/journal-format.md.

mod chain;
mod record;

pub use chain::{Chain, POSITION_MAX, Position, Seq, SeqRange};
pub use record::{
    GapInfo, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, RECORD_PAYLOAD_BYTES_MAX, Record, RecordError,
    RecordHeader, RecordIter, RecordKind, encode_gap, encode_record,
};
