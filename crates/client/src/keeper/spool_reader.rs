//! Reads records back from the spool: for the shipper, and for terminals that missed output.
//!
//! Promises that what it gives is verified and without holes, and that reading never stands in the recorder's way. Holds
//! one chunk, so that a look at what comes next and the sending of it read the disk once.

use std::path::Path;
use std::sync::Arc;

use shellkeep_journal::storage::RealStorage;
use shellkeep_journal::{
    Item, JournalError, Position, RECORD_HEADER_BYTES, RawRun, Reader, RecordIter, RecordKind, Seq, Start,
};

use shellkeep_protocol::session::GapReason;

use super::ring::Ring;

/// Tries to read before what cannot be read counts as lost: a directory that changes settles within the second one.
const READ_TRIES_MAX: u32 = 3;

/// What lies at a place.
#[derive(Debug, Clone, Copy)]
pub enum Run {
    /// Whole records.
    Records {
        /// The place behind them.
        after: Position,
        /// Bytes of them.
        bytes: usize,
    },
    /// Nothing that can be read; records go on at `after`.
    Hole {
        /// The place behind the hole.
        after: Position,
        /// Why.
        reason: GapReason,
    },
    /// It cannot be told now: descriptors or memory are short.
    Unreadable,
}

/// Reads one spool.
#[derive(Debug, Default)]
pub struct SpoolReader {
    reader: Option<Reader>,
    chunk: Vec<u8>,
    /// Where the chunk begins and ends.
    held: Option<(Seq, Position)>,
}

impl SpoolReader {
    /// Whether the chunk begins at `from`, and ends at `to` if that is asked for.
    pub fn holds(&self, from: Seq, to: Option<Seq>) -> bool {
        self.held.is_some_and(|(first, after)| first == from && to.is_none_or(|to| after.next_seq == to))
    }

    /// What the chunk is.
    pub fn run(&self) -> Run {
        let after = self.held.map_or(Position::START, |(_, after)| after);
        Run::Records { after, bytes: self.chunk.len() }
    }

    /// Takes the chunk, if it is exactly these records.
    pub fn take(&mut self, from: Seq, to: Seq) -> Option<Vec<u8>> {
        if !self.holds(from, Some(to)) {
            return None;
        }
        self.held = None;
        Some(std::mem::take(&mut self.chunk))
    }

    /// Closes what is open: the spool gets another name, or none.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Reads from the ring.
    pub fn read_ring(&mut self, ring: &Ring, from: Seq, to: Seq, bytes_max: usize, end: Position) -> Run {
        self.held = None;
        self.chunk.clear();
        for held in ring.from(from).take_while(|held| held.before.next_seq < to) {
            let expected = self.held.map_or(from, |(_, after)| after.next_seq);
            if held.before.next_seq != expected {
                return Run::Hole { after: held.before, reason: GapReason::SpoolFull };
            }
            if !self.chunk.is_empty() && self.chunk.len() + held.bytes.len() > bytes_max {
                break;
            }
            self.chunk.extend_from_slice(&held.bytes);
            self.held = Some((from, held.after));
        }
        if self.held.is_some() { self.run() } else { damage(end) }
    }

    /// Reads from the journal in `dir`, whose part that counts ends at `end`.
    pub fn read_disk(&mut self, dir: &Path, from: Seq, to: Seq, end: Position, bytes_max: usize) -> Run {
        self.held = None;
        for _ in 0..READ_TRIES_MAX {
            self.chunk.clear();
            match self.read(dir, from, to, bytes_max) {
                Ok(RawRun::Records { before, .. }) if before.next_seq != from => return damage(before),
                Ok(RawRun::Records { .. }) => return self.without_gaps(from),
                Ok(RawRun::Lost { after, .. }) => return damage(after),
                Err(error) if error.is_passing() => {
                    self.reader = None;
                    return Run::Unreadable;
                }
                Ok(RawRun::End) | Err(_) => self.reader = None,
            }
        }
        damage(end)
    }

    fn read(&mut self, dir: &Path, from: Seq, to: Seq, bytes_max: usize) -> Result<RawRun, JournalError> {
        let at_hand = self.reader.take().filter(|reader| reader.next_seq() == from);
        let mut reader = match at_hand {
            Some(reader) => reader,
            None => Reader::open(Arc::new(RealStorage), dir, Start::Seq(from))?,
        };
        reader.set_end(to);
        let run = reader.read_raw(bytes_max, &mut self.chunk)?;
        self.reader = Some(reader);
        Ok(run)
    }

    /// Ends the chunk before the first gap record in it; a gap at its beginning is a hole.
    fn without_gaps(&mut self, from: Seq) -> Run {
        let Ok(walk) = RecordIter::from_first(&self.chunk) else { return damage(Position::START) };
        let mut whole = 0;
        for record in walk.flatten() {
            if record.header.kind == RecordKind::Gap {
                let after = record.after;
                if whole == 0 {
                    let code = record.gap().and_then(|gap| u8::try_from(gap.reason).ok());
                    return Run::Hole { after, reason: code.map_or(GapReason::SpoolFull, GapReason::from_code) };
                }
                self.reader = None; // it is behind the gap already
                break;
            }
            whole += record.header.encoded_len();
            self.held = Some((from, record.after));
        }
        self.chunk.truncate(whole);
        self.run()
    }
}

fn damage(after: Position) -> Run {
    Run::Hole { after, reason: GapReason::SpoolDamaged }
}

/// Output from byte `offset` on, from the journal in `dir` up to record `end`; false if it is not there.
pub fn output_on_disk(dir: &Path, end: Seq, offset: u64, bytes_max: usize, out: &mut Vec<u8>) -> bool {
    let Ok(mut reader) = Reader::open(Arc::new(RealStorage), dir, Start::OutputOffset(offset)) else { return false };
    reader.set_end(end);
    let mut next = offset;
    while out.len() < bytes_max {
        let Ok(Some(Item::Record(record))) = reader.next() else { break };
        if record.header.kind == RecordKind::Output && !take(&mut next, record.header.offset, record.payload, out) {
            break;
        }
    }
    next > offset
}

/// Output from byte `offset` on, from memory; false if it is not there.
pub fn output_in_ring(ring: &Ring, offset: u64, bytes_max: usize, out: &mut Vec<u8>) -> bool {
    let mut next = offset;
    for held in ring.from_offset(offset) {
        let is_output = held.after.output_offset > held.before.output_offset;
        let payload = &held.bytes[RECORD_HEADER_BYTES..];
        if out.len() >= bytes_max || (is_output && !take(&mut next, held.before.output_offset, payload, out)) {
            break;
        }
    }
    next > offset
}

/// Appends the part of `payload`, which begins at `offset`, that is not before `next`; false if bytes are missing.
fn take(next: &mut u64, offset: u64, payload: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(skipped) = next.checked_sub(offset) else { return false };
    let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
    out.extend_from_slice(payload.get(skipped..).unwrap_or(&[]));
    *next = (offset + payload.len() as u64).max(*next);
    true
}
