//! Numbers and proofs: `Seq`, `Chain`, and the `Position` that both make with the output offset.
//!
//! Pure arithmetic. Knows neither bytes on disk nor who asks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Largest record number and largest output offset. Whatever states more is damaged or hostile; sums below it cannot overflow.
pub const POSITION_MAX: u64 = 1 << 62;

/// A record's number within its session, from 1, without holes.
///
/// 0 is no record; it appears only as "before the first". Never decreases within one journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// The first record of every session.
    pub const FIRST: Self = Self(1);
    /// Before the first record: nothing.
    pub const NONE: Self = Self(0);

    /// The number `value`.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The plain number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number after this one. Stays at `u64::MAX`, which no record can have.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number before this one. Stays at 0, which no record can have.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Whether a record may have this number.
    pub const fn is_valid(self) -> bool {
        self.0 >= 1 && self.0 <= POSITION_MAX
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The checksum over all records so far: the proof that two journals hold the same ones.
///
/// CRC32C; source: docs/journal-format.md, "Record". Finds accidents and mix-ups, no deliberate forgery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chain(u32);

impl Chain {
    /// The chain before the first record.
    pub const START: Self = Self(0);

    /// The chain with this value.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The plain value.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The chain after a record: its first 32 header bytes and its payload.
    #[must_use]
    pub fn extend(self, header: &[u8; 32], payload: &[u8]) -> Self {
        Self(crc32c::crc32c_append(self.begin(header), payload))
    }

    /// The running checksum before a record's payload.
    pub(crate) fn begin(self, header: &[u8; 32]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.0.to_le_bytes()), header)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place between two records: the number of the next one, and what all before it amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The next number.
    pub next_seq: Seq,
    /// Chain before it.
    pub chain: Chain,
    /// Bytes of output before it, since the session's start.
    pub output_offset: u64,
}

impl Position {
    /// Where every session begins.
    pub const START: Self = Self { next_seq: Seq::FIRST, chain: Chain::START, output_offset: 0 };
}

/// Records `from..=to`, both included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeqRange {
    /// The first.
    pub from: Seq,
    /// The last, not below `from`.
    pub to: Seq,
}

impl SeqRange {
    /// From `from` up to and without `end`; `None` if that is empty.
    pub fn between(from: Seq, end: Seq) -> Option<Self> {
        (from < end).then(|| Self { from, to: end.prev() })
    }
}
