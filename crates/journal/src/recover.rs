//! Recovery: what a journal holds, read from its segments alone.
//!
//! Promise: looks at everything, changes nothing; each byte and each number is either sound or in a finding. Source:
//! docs/journal-format.md, "Recovery". What is done about it is the journal's business.

use std::ops::Range;
use std::path::Path;

use crate::chain::{Position, Seq, SeqRange};
use crate::cursor::{Cursor, Step};
use crate::directory::{Listing, OpenSegment, Opened, open_segment};
use crate::error::JournalError;
use crate::segment::{FileKind, Identity, SegmentHeader};
use crate::storage::Storage;

/// Most findings that are listed; more are counted.
pub const FINDINGS_MAX: usize = 1000;

/// Something in a journal that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The end of the last segment is no record, and nothing sound is behind it: a write that did not complete.
    TornTail {
        /// The segment's file.
        file: String,
        /// The bytes.
        bytes: Range<u64>,
        /// What a writer did with them.
        fate: TailFate,
    },
    /// Bytes in the middle are no record.
    Damage {
        /// The segment's file.
        file: String,
        /// The bytes.
        bytes: Range<u64>,
        /// The records that were there; `None` if no number is missing.
        lost: Option<SeqRange>,
    },
    /// A segment's header is damaged; its records are read all the same.
    BadHeader {
        /// The segment's file.
        file: String,
    },
    /// A sealed segment's index is damaged; its blocks are found one by one.
    BadIndex {
        /// The segment's file.
        file: String,
    },
    /// No segment has these records.
    Hole {
        /// The records.
        lost: SeqRange,
    },
    /// The record with this number does not continue the chain, although its number is right.
    BrokenChain {
        /// The record.
        seq: Seq,
    },
    /// Something at a segment's name that is no segment of this journal; it is left alone.
    Foreign {
        /// Its name.
        file: String,
    },
}

/// What became of a torn tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailFate {
    /// It was only looked at.
    Seen,
    /// Copied to the `.torn` file of its segment, at most 2 MiB of it, and cut off.
    SetAside,
    /// Left where it is, because it could not be copied or cut; the journal goes on in a new segment.
    Left,
}

/// What a journal holds.
///
/// All of it is *written*: after a restart what is not in a sealed segment counts as durable only after the next sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Whose it is; `None` if no segment has a readable header.
    pub identity: Option<Identity>,
    /// The place before the oldest record that is retained.
    pub first: Position,
    /// The place after the last record.
    pub end: Position,
    /// Time of the last record, microseconds since the Unix epoch; 0 if there is none.
    pub last_time_us: u64,
    /// What is wrong, oldest first, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// How many more findings there were.
    pub findings_left_out: u64,
    /// Bytes of all segments on disk.
    pub bytes_on_disk: u64,
}

impl Recovery {
    fn found(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_left_out += 1;
        }
    }

    /// The first missing record that a writer who still has everything from `retained` on could send again.
    ///
    /// A log with a hole there should go on from it (`Journal::new_segment_from`) instead of from `end`.
    pub fn first_hole_from(&self, retained: Seq) -> Option<Seq> {
        let lost = self.findings.iter().filter_map(|finding| match finding {
            Finding::Damage { lost, .. } => *lost,
            Finding::Hole { lost } => Some(*lost),
            _ => None,
        });
        lost.map(|lost| lost.from).filter(|from| *from >= retained).min()
    }
}

/// A segment as recovery left it, for the journal that goes on with it.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // facts of a file that are independent of each other
pub(crate) struct Scanned {
    pub(crate) ordinal: u32,
    pub(crate) sealed: bool,
    pub(crate) first: Position,
    /// Time of the record before that; 0 if the header is damaged.
    pub(crate) time_before: u64,
    pub(crate) len: u64,
    /// No byte of it is damaged, up to a torn tail.
    pub(crate) clean: bool,
    /// A sync of it failed in an earlier life.
    pub(crate) doubtful: bool,
    /// Place in the file behind the last sound entry, if `clean`.
    pub(crate) good_end: u64,
    pub(crate) empty: bool,
}

/// Recovery with what a writer needs beside it.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) recovery: Recovery,
    /// In the order of their ordinals; those without any place are only in `useless`.
    pub(crate) segments: Vec<Scanned>,
    /// Segments without header and without records: they say nothing.
    pub(crate) useless: Vec<OpenSegment>,
    pub(crate) listing: Listing,
    /// The largest ordinal in use, by whatever kind of object.
    pub(crate) last_ordinal: u32,
    /// The segment with the newest header: grants in it and behind it count.
    identity_from: u32,
}

/// Reads a whole journal without changing anything. Blocks of sealed segments are not unpacked: a reader does that.
///
/// # Errors
/// `NotFound` without a directory or segments in it; `Version` for segments of a later version; `Io` if a file cannot be read.
pub fn scan_read_only(storage: &dyn Storage, dir: &Path) -> Result<Recovery, JournalError> {
    Ok(scan(storage, dir)?.recovery)
}

pub(crate) fn scan(storage: &dyn Storage, dir: &Path) -> Result<Scan, JournalError> {
    let listing = Listing::read(storage, dir)?;
    let start = Position::START;
    let recovery = Recovery {
        identity: None,
        first: start,
        end: start,
        last_time_us: 0,
        findings: Vec::new(),
        findings_left_out: 0,
        bytes_on_disk: 0,
    };
    let last_ordinal = listing.segments.keys().next_back().copied().unwrap_or(0);
    let mut scan =
        Scan { recovery, segments: Vec::new(), useless: Vec::new(), listing, last_ordinal, identity_from: 0 };
    let segments = scan.open_all(storage, dir)?;
    // Not always the first file: what was voided may still be there when what was before it is dropped.
    let oldest = segments.iter().filter_map(|segment| segment.first).min_by_key(|first| first.next_seq);
    let Some(first) = oldest else {
        if scan.useless.is_empty() {
            return Err(JournalError::NotFound { path: dir.to_owned() });
        }
        return Ok(scan);
    };
    scan.recovery.first = first;
    scan.recovery.end = first;
    let limits = limits(&segments);
    let last = segments.len() - 1;
    for (n, segment) in segments.iter().enumerate() {
        let scanned = Walk { scan: &mut scan, segment, limit: limits[n], is_last: n == last }.run()?;
        scan.segments.push(scanned);
    }
    Ok(scan)
}

/// For each segment the place from which on a later one voids what it holds.
fn limits(segments: &[OpenSegment]) -> Vec<Option<Position>> {
    let mut limits = vec![None; segments.len()];
    let mut limit: Option<Position> = None;
    for (n, segment) in segments.iter().enumerate().rev() {
        limits[n] = limit;
        let lower = segment.first.filter(|first| limit.is_none_or(|limit| first.next_seq < limit.next_seq));
        limit = lower.or(limit);
    }
    limits
}

impl Scan {
    /// Opens all segments that say something. The newest header says whose journal this is.
    fn open_all(&mut self, storage: &dyn Storage, dir: &Path) -> Result<Vec<OpenSegment>, JournalError> {
        let mut segments = Vec::new();
        for (ordinal, presence) in self.listing.segments.clone() {
            match open_segment(storage, dir, ordinal, presence)? {
                Opened::Missing => {}
                Opened::Foreign => {
                    let kind = if presence.sealed { FileKind::Sealed } else { FileKind::Plain };
                    self.recovery.found(Finding::Foreign { file: kind.name(ordinal) });
                }
                Opened::Segment(segment) => segments.push(*segment),
            }
        }
        let session = segments.iter().rev().find_map(|segment| Some(segment.header.as_ref()?.identity.session));
        let mut kept = Vec::new();
        for segment in segments {
            let file = file_name(&segment);
            let other = |header: &SegmentHeader| Some(header.identity.session) != session;
            let of_another = segment.header.as_ref().is_some_and(other);
            if of_another {
                self.recovery.found(Finding::Foreign { file });
                continue;
            }
            self.recovery.bytes_on_disk += segment.len;
            match &segment.header {
                Some(header) => {
                    self.recovery.identity = Some(header.identity.clone());
                    self.identity_from = segment.ordinal;
                }
                None => self.recovery.found(Finding::BadHeader { file: file.clone() }),
            }
            if segment.sealed && segment.trailer.is_none() {
                self.recovery.found(Finding::BadIndex { file });
            }
            if segment.first.is_some() { kept.push(segment) } else { self.useless.push(segment) }
        }
        Ok(kept)
    }
}

fn file_name(segment: &OpenSegment) -> String {
    let kind = if segment.sealed { FileKind::Sealed } else { FileKind::Plain };
    kind.name(segment.ordinal)
}

/// One segment's turn.
struct Walk<'a> {
    scan: &'a mut Scan,
    segment: &'a OpenSegment,
    limit: Option<Position>,
    is_last: bool,
}

impl Walk<'_> {
    fn run(mut self) -> Result<Scanned, JournalError> {
        let segment = self.segment;
        let first = segment.first.unwrap_or(Position::START);
        let mut scanned = Scanned {
            ordinal: segment.ordinal,
            sealed: segment.sealed,
            first,
            time_before: segment.header.as_ref().map_or(0, |header| header.time_before),
            len: segment.len,
            clean: segment.header.is_some(),
            doubtful: segment.doubtful,
            good_end: segment.start,
            empty: true,
        };
        if self.limit.is_some_and(|limit| limit.next_seq <= first.next_seq) {
            return Ok(scanned); // all of it is void
        }
        self.enter(first);
        if let (Some(trailer), Some(header)) = (segment.trailer, &segment.header) {
            // What a whole index says was proved when it was written, and each block proves itself when it is read.
            scanned.empty = trailer.after == first;
            scanned.good_end = segment.len;
            if let Some(limit) = self.limit.filter(|limit| limit.next_seq < trailer.after.next_seq) {
                // The time of the last record that counts stands in the header of the segment that takes over.
                self.scan.recovery.end = limit;
            } else {
                self.scan.recovery.end = trailer.after;
                self.scan.recovery.last_time_us = trailer.last_time.max(header.time_before);
            }
            return Ok(scanned);
        }
        let mut cursor = segment.cursor()?;
        self.walk(&mut cursor, &mut scanned)?;
        Ok(scanned)
    }

    /// Compares where the segment begins with where those before it ended.
    fn enter(&mut self, first: Position) {
        let recovery = &mut self.scan.recovery;
        if let Some(lost) = SeqRange::between(recovery.end.next_seq, first.next_seq) {
            recovery.found(Finding::Hole { lost });
        } else if recovery.end != first {
            recovery.found(Finding::BrokenChain { seq: first.next_seq });
        }
        recovery.end = first;
        if let Some(header) = &self.segment.header {
            recovery.last_time_us = recovery.last_time_us.max(header.time_before);
        }
    }

    fn walk(&mut self, cursor: &mut Cursor, scanned: &mut Scanned) -> Result<(), JournalError> {
        let segment = self.segment;
        let mut damage: Option<Range<u64>> = None;
        loop {
            let step = cursor.step().map_err(|source| JournalError::of(&segment.path, "read", source))?;
            match step {
                Step::Record => {
                    let Some((header, after)) = cursor.last() else { continue };
                    if self.limit.is_some_and(|limit| header.seq >= limit.next_seq) {
                        break;
                    }
                    self.skipped(damage.take(), header.seq, scanned);
                    self.scan.recovery.end = after;
                    self.scan.recovery.last_time_us = header.time_us;
                    scanned.empty = false;
                }
                Step::Grant(grant) => {
                    if let Some(identity) = &mut self.scan.recovery.identity
                        && self.segment.ordinal >= self.scan.identity_from
                    {
                        identity.apply(grant);
                    }
                }
                Step::Damage(bytes) => damage = Some(damage.map_or(bytes.clone(), |before| before.start..bytes.end)),
                Step::End(tail) => {
                    self.end(damage.take(), tail, scanned);
                    break;
                }
            }
            if let Cursor::Plain(cursor) = cursor {
                scanned.good_end = cursor.at();
            }
        }
        Ok(())
    }

    /// Reports what was passed over before the record `next`.
    fn skipped(&mut self, damage: Option<Range<u64>>, next: Seq, scanned: &mut Scanned) {
        let lost = SeqRange::between(self.scan.recovery.end.next_seq, next);
        match (damage, lost) {
            (Some(bytes), lost) => {
                scanned.clean = false;
                self.scan.recovery.found(Finding::Damage { file: file_name(self.segment), bytes, lost });
            }
            (None, Some(lost)) => self.scan.recovery.found(Finding::Hole { lost }),
            (None, None) => {}
        }
    }

    fn end(&mut self, damage: Option<Range<u64>>, tail: Range<u64>, scanned: &mut Scanned) {
        let file = file_name(self.segment);
        // Nothing with a number follows in this file. What no later segment has is lost.
        if let Some(bytes) = damage {
            scanned.clean = false;
            let lost = self.lost_up_to_limit();
            self.scan.recovery.found(Finding::Damage { file: file.clone(), bytes, lost });
        }
        if tail.is_empty() {
            return;
        }
        if self.is_last && !self.segment.sealed {
            self.scan.recovery.found(Finding::TornTail { file, bytes: tail, fate: TailFate::Seen });
            return;
        }
        scanned.clean = false;
        // A tail that a later segment replaces whole is what is left of a write that failed.
        if let Some(lost) = self.lost_up_to_limit() {
            self.scan.recovery.found(Finding::Damage { file, bytes: tail, lost: Some(lost) });
        }
    }

    /// The records from here to the next segment; they are reported now and not again as a hole.
    fn lost_up_to_limit(&mut self) -> Option<SeqRange> {
        let limit = self.limit?;
        let lost = SeqRange::between(self.scan.recovery.end.next_seq, limit.next_seq)?;
        self.scan.recovery.end = limit;
        Some(lost)
    }
}
