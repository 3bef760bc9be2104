//! The newest records in memory, for as long as the disk takes none. Bounded in bytes; the oldest go first.
//!
//! Promises that what it holds is without holes. Knows neither files nor what a record says.

use std::collections::VecDeque;

use shellkeep_journal::{Position, Seq};

/// Most bytes of records held. Beyond it the oldest are dropped, which the caller turns into a gap.
pub const RING_BYTES_MAX: usize = 8 << 20;

/// Encoded records in order.
#[derive(Debug, Default)]
pub struct Ring {
    records: VecDeque<Held>,
    bytes: usize,
}

/// One encoded record.
#[derive(Debug)]
pub struct Held {
    /// The place before it.
    pub before: Position,
    /// The place after it.
    pub after: Position,
    /// As encoded.
    pub bytes: Box<[u8]>,
}

impl Ring {
    /// Adds the next record and drops what is over the limit. True if something was dropped.
    pub fn push(&mut self, before: Position, after: Position, bytes: &[u8]) -> bool {
        self.records.push_back(Held { before, after, bytes: bytes.into() });
        self.bytes += bytes.len();
        let mut dropped = false;
        while self.bytes > RING_BYTES_MAX {
            dropped = self.pop().is_some();
        }
        dropped
    }

    /// Takes the oldest record.
    pub fn pop(&mut self) -> Option<Held> {
        let held = self.records.pop_front()?;
        self.bytes -= held.bytes.len();
        Some(held)
    }

    /// The oldest record.
    pub fn front(&self) -> Option<&Held> {
        self.records.front()
    }

    /// Drops the records below `seq`.
    pub fn trim(&mut self, seq: Seq) {
        while self.front().is_some_and(|held| held.before.next_seq < seq) {
            self.pop();
        }
    }

    /// The records from `seq` on.
    pub fn from(&self, seq: Seq) -> impl Iterator<Item = &Held> {
        let start = self.records.partition_point(|held| held.before.next_seq < seq);
        self.records.range(start..)
    }

    /// The records from the one that holds output byte `offset` on.
    pub fn from_offset(&self, offset: u64) -> impl Iterator<Item = &Held> {
        let start = self.records.partition_point(|held| held.after.output_offset <= offset);
        self.records.range(start..)
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
