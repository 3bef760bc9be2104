//! Reading a journal while somebody else writes it: records from some place on, in order, each once.
//!
//! Promise: bounded memory; whatever it cannot give it names, as damaged or as pruned; never a record that does not follow.
//! Safe against a writer that appends, rotates, seals and drops meanwhile, in this process or another. Changes nothing.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chain::{Position, Seq, SeqRange};
use crate::cursor::{Cursor, Hint, Step};
use crate::directory::{Listing, Opened, Presence, open_segment};
use crate::error::JournalError;
use crate::record::Record;
use crate::storage::Storage;

/// Looks at a directory that changes between listing and opening, before the reader gives up for now.
const RELOOKS_MAX: u32 = 16;

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record that is retained.
    Oldest,
    /// At this record, or at the gap that it lies in.
    Seq(Seq),
    /// As `Seq`, which was at this place when it was read before.
    Hinted(Seq, Option<Hint>),
    /// At the record that holds this byte of output, counted from the session's start.
    OutputOffset(u64),
}

/// What a reader gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// The next record.
    Record(Record<'a>),
    /// Something is wrong before the next record.
    Damage(Damage),
    /// The next records were dropped by retention.
    Pruned {
        /// Them.
        lost: SeqRange,
        /// The place behind them.
        after: Position,
    },
}

/// Bytes or records that should be in a journal and are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The damaged bytes; `None` if records are missing without a trace.
    pub place: Option<Place>,
    /// The missing records; `None` if no number is missing.
    pub lost: Option<SeqRange>,
    /// The place behind the damage: with `lost` it is what a gap must say.
    pub after: Position,
}

/// Bytes in a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Ordinal of the segment, which is its file's name.
    pub segment: u32,
    /// The bytes of the file.
    pub bytes: Range<u64>,
}

/// What [`Reader::read_raw`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawRun {
    /// Whole encoded records, each following the other, were appended to the buffer.
    Records {
        /// The place before the first.
        before: Position,
        /// The place after the last.
        after: Position,
    },
    /// These cannot be had: damaged, missing or pruned; reading goes on at `after`.
    Lost {
        /// The records.
        lost: SeqRange,
        /// The place behind them.
        after: Position,
    },
    /// Nothing more for now.
    End,
}

/// A segment that a reader knows to be there.
#[derive(Debug, Clone, Copy)]
struct Known {
    presence: Presence,
    first: Position,
    /// `None` if its header is damaged.
    session: Option<[u8; 16]>,
}

/// The segment that is being read.
#[derive(Debug)]
struct Current {
    ordinal: u32,
    cursor: Cursor,
    /// The place where a later segment takes over.
    limit: Option<Position>,
    /// Damaged bytes that were passed since the last record.
    damage: Option<Range<u64>>,
    /// Its end was read again after a later segment had been seen.
    reread: bool,
}

/// What `advance` found; the record itself is in the cursor.
enum Found {
    Record,
    Damage(Damage),
    Pruned { lost: SeqRange, after: Position },
}

/// A walk over the records of a journal that may be growing.
///
/// What is not durable may be taken back by its writer (`new_segment_from`, or a write that fails halfway) and replaced by
/// other records: a reader of a living log is told the durable point, one of a spool the written one, with [`Self::set_end`].
#[derive(Debug)]
pub struct Reader {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    known: BTreeMap<u32, Known>,
    /// What comes next.
    next: Seq,
    /// Output before this byte is skipped.
    skip_output: u64,
    /// Where `next` was, until it was looked for there.
    hint: Option<Hint>,
    /// Only records below this number are given.
    end: Option<Seq>,
    /// The end was moved: what lies behind the old one may have been replaced since the last look.
    end_moved: bool,
    current: Option<Current>,
}

impl Reader {
    /// Opens a journal to read it. The directory is looked at, and again whenever a segment ends.
    ///
    /// # Errors
    /// `NotFound` if there is no journal; `Version`; `Io`.
    pub fn open(storage: Arc<dyn Storage>, dir: &Path, start: Start) -> Result<Self, JournalError> {
        let mut reader = Self {
            storage,
            dir: dir.to_owned(),
            known: BTreeMap::new(),
            next: Seq::FIRST,
            skip_output: 0,
            hint: None,
            end: None,
            end_moved: false,
            current: None,
        };
        reader.look()?;
        let oldest = reader.known.values().map(|known| known.first).min_by_key(|first| first.next_seq);
        let Some(oldest) = oldest else { return Err(JournalError::NotFound { path: dir.to_owned() }) };
        reader.next = match start {
            Start::Oldest => oldest.next_seq,
            Start::Seq(seq) => seq.max(Seq::FIRST),
            Start::Hinted(seq, hint) => {
                reader.hint = hint;
                seq.max(Seq::FIRST)
            }
            Start::OutputOffset(offset) => {
                reader.skip_output = offset;
                let holder = reader.known.values().rev().find(|known| known.first.output_offset <= offset);
                holder.map_or(oldest.next_seq, |known| known.first.next_seq)
            }
        };
        Ok(reader)
    }

    /// From now on only records below `end` are given, as if the journal ended there. May be raised at any time.
    pub fn set_end(&mut self, end: Seq) {
        self.end_moved |= self.end != Some(end);
        self.end = Some(end);
    }

    /// The number that comes next.
    pub fn next_seq(&self) -> Seq {
        self.next
    }

    /// Where record `seq` is, if it was given last; `None` if seeking it is quick.
    pub fn hint(&self, seq: Seq) -> Option<Hint> {
        let Some(Current { ordinal, cursor: Cursor::Plain(cursor), .. }) = &self.current else { return None };
        cursor.place_of(seq).map(|(at, chain)| Hint { segment: *ordinal, at, chain })
    }

    /// The next item; `None` if there is nothing more for now: call again when more was written.
    ///
    /// # Errors
    /// `NotFound` once the journal was removed; `Io`; `Unsettled` if segments vanish at every look. Reading may go on.
    #[allow(clippy::should_implement_trait)] // items borrow from the reader
    pub fn next(&mut self) -> Result<Option<Item<'_>>, JournalError> {
        let found = self.advance()?;
        Ok(match found {
            None => None,
            Some(Found::Damage(damage)) => Some(Item::Damage(damage)),
            Some(Found::Pruned { lost, after }) => Some(Item::Pruned { lost, after }),
            Some(Found::Record) => self.current.as_ref().and_then(|current| current.cursor.record()).map(Item::Record),
        })
    }

    /// Appends whole encoded records to `out`, as an append takes them: at least one, and no further one that would make
    /// it more than `bytes_max` bytes. All of them are verified.
    ///
    /// # Errors
    /// As [`Self::next`]; `out` then holds what was read before, and that will not be read again.
    pub fn read_raw(&mut self, bytes_max: usize, out: &mut Vec<u8>) -> Result<RawRun, JournalError> {
        let start = out.len();
        let mut run: Option<(Position, Position)> = None;
        loop {
            match self.advance()? {
                Some(Found::Record) => {
                    let Some(current) = &mut self.current else { continue };
                    let (Some((header, after)), bytes) = (current.cursor.last(), current.cursor.bytes()) else {
                        continue;
                    };
                    let follows = run.is_none_or(|(_, at)| header.follows(at));
                    if !follows || (run.is_some() && out.len() - start + bytes.len() > bytes_max) {
                        self.next = header.seq;
                        current.cursor.unread();
                        break;
                    }
                    out.extend_from_slice(bytes);
                    run = Some((run.map_or(header.before(), |(before, _)| before), after));
                }
                Some(Found::Damage(Damage { lost: None, .. })) => {} // costs the reader nothing
                Some(Found::Damage(Damage { lost: Some(lost), after, .. }) | Found::Pruned { lost, after }) => {
                    if run.is_none() {
                        return Ok(RawRun::Lost { lost, after });
                    }
                    self.next = lost.from; // to be found again by the next call
                    self.current = None;
                    break;
                }
                None => break,
            }
        }
        Ok(run.map_or(RawRun::End, |(before, after)| RawRun::Records { before, after }))
    }

    /// Looks which segments there are, and reads the headers of those that are new.
    fn look(&mut self) -> Result<(), JournalError> {
        let listing = Listing::read(&*self.storage, &self.dir)?;
        self.known.retain(|ordinal, _| listing.segments.contains_key(ordinal));
        for (&ordinal, &presence) in &listing.segments {
            if let Some(known) = self.known.get_mut(&ordinal) {
                known.presence = presence;
            } else if let Opened::Segment(segment) = open_segment(&*self.storage, &self.dir, ordinal, presence)?
                && let Some(first) = segment.first
            {
                let session = segment.header.map(|header| header.identity.session);
                self.known.insert(ordinal, Known { presence, first, session });
            }
        }
        // The newest header says whose journal this is; segments of another session are none of it.
        let session = self.known.values().rev().find_map(|known| known.session);
        self.known.retain(|_, known| known.session.is_none() || known.session == session);
        Ok(())
    }

    /// The segment that holds record `self.next`, or would: the newest one that does not begin behind it.
    fn owner(&self) -> Option<u32> {
        let mut newest_first = self.known.iter().rev();
        newest_first.find(|(_, known)| known.first.next_seq <= self.next).map(|(ordinal, _)| *ordinal)
    }

    /// Where the first of the segments above `ordinal` begins that is not before `self.next`.
    fn first_above(&self, ordinal: u32) -> Option<Position> {
        let above = self.known.range(ordinal + 1..).map(|(_, known)| known.first);
        above.filter(|first| first.next_seq >= self.next).min_by_key(|first| first.next_seq)
    }

    /// After the end was moved: a segment that was begun meanwhile may have voided what the current one holds from here on.
    fn look_behind_end(&mut self) -> Result<(), JournalError> {
        self.look()?;
        let owner = self.owner();
        let Some(current) = &mut self.current else { return Ok(()) };
        if owner.is_some_and(|owner| owner > current.ordinal) && current.damage.is_none() {
            self.current = None;
            return Ok(());
        }
        let ordinal = current.ordinal;
        let limit = self.first_above(ordinal);
        if let Some(current) = &mut self.current {
            current.limit = limit;
        }
        Ok(())
    }

    /// Opens the segment that holds what comes next; a record range if that was pruned.
    fn enter(&mut self) -> Result<Option<Found>, JournalError> {
        for _ in 0..RELOOKS_MAX {
            let Some(ordinal) = self.owner() else {
                let first = self.known.values().map(|known| known.first).min_by_key(|first| first.next_seq);
                let Some(after) = first else { return Err(JournalError::NotFound { path: self.dir.clone() }) };
                let Some(lost) = SeqRange::between(self.next, after.next_seq) else { return Ok(None) };
                self.next = after.next_seq;
                return Ok(Some(Found::Pruned { lost, after }));
            };
            let known = self.known[&ordinal];
            match open_segment(&*self.storage, &self.dir, ordinal, known.presence) {
                Ok(Opened::Segment(segment)) => {
                    let mut cursor = segment.cursor()?;
                    let hint = self.hint.take().filter(|hint| hint.segment == ordinal);
                    match (&mut cursor, hint) {
                        (Cursor::Sealed(cursor), _) if self.skip_output > 0 => cursor.seek_output(self.skip_output),
                        (Cursor::Sealed(cursor), _) => cursor.seek_seq(self.next),
                        (Cursor::Plain(cursor), Some(hint)) => cursor
                            .seek(self.next, hint)
                            .map_err(|source| JournalError::of(&self.dir, "read", source))?,
                        (Cursor::Plain(_), None) => {}
                    }
                    let limit = self.first_above(ordinal);
                    self.current = Some(Current { ordinal, cursor, limit, damage: None, reread: false });
                    return Ok(None);
                }
                Ok(Opened::Foreign | Opened::Missing) => {
                    self.known.remove(&ordinal); // found again if it only has another name now
                    self.look()?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(JournalError::Unsettled { path: self.dir.clone() })
    }

    /// Goes on to the next thing there is to tell. Each turn of the loop makes progress: an entry, a segment, or the end.
    fn advance(&mut self) -> Result<Option<Found>, JournalError> {
        loop {
            if self.end.is_some_and(|end| self.next >= end) {
                return Ok(None);
            }
            if std::mem::take(&mut self.end_moved) && self.current.is_some() {
                self.look_behind_end()?;
            }
            let Some(current) = &mut self.current else {
                if let Some(found) = self.enter()? {
                    return Ok(Some(found));
                }
                if self.current.is_none() {
                    return Ok(None);
                }
                continue;
            };
            let step = current.cursor.step().map_err(|source| JournalError::of(&self.dir, "read", source))?;
            match step {
                Step::Record => match self.take_record() {
                    Taken::Skipped => {}
                    Taken::Found(found) => return Ok(Some(found)),
                    Taken::BehindEnd => return Ok(None),
                    Taken::BehindLimit => {
                        if let Some(found) = self.leave(None) {
                            return Ok(Some(found));
                        }
                    }
                },
                Step::Grant(_) => {}
                Step::Damage(bytes) => {
                    let start = current.damage.take().map_or(bytes.start, |before| before.start);
                    current.damage = Some(start..bytes.end);
                }
                Step::End(tail) => match self.end_of_segment(tail)? {
                    AtEnd::GoOn => {}
                    AtEnd::Found(found) => return Ok(Some(found)),
                    AtEnd::Nothing => return Ok(None),
                },
            }
        }
    }

    /// Decides about the record that the cursor stands behind.
    fn take_record(&mut self) -> Taken {
        let Some(current) = &mut self.current else { return Taken::Skipped };
        let Some((header, after)) = current.cursor.last() else { return Taken::Skipped };
        if current.limit.is_some_and(|limit| header.seq >= limit.next_seq) {
            return Taken::BehindLimit;
        }
        if self.end.is_some_and(|end| header.seq >= end) {
            current.cursor.unread(); // it may still be taken back, so what was read of it must not stay
            return Taken::BehindEnd;
        }
        let before_start =
            after.next_seq <= self.next || (self.skip_output > 0 && after.output_offset <= self.skip_output);
        if before_start {
            current.damage = None;
            if self.skip_output > 0 {
                self.next = after.next_seq;
            }
            return Taken::Skipped;
        }
        let lost = if self.skip_output > 0 { None } else { SeqRange::between(self.next, header.seq) };
        let damage = current.damage.take();
        if lost.is_some() || damage.is_some() {
            let place = damage.map(|bytes| Place { segment: current.ordinal, bytes });
            let after = header.before();
            self.next = header.seq;
            current.cursor.unread();
            return Taken::Found(Found::Damage(Damage { place, lost, after }));
        }
        self.skip_output = 0;
        self.next = after.next_seq;
        current.reread = false;
        Taken::Found(Found::Record)
    }

    /// The segment has nothing more: another one may go on.
    fn end_of_segment(&mut self, tail: Range<u64>) -> Result<AtEnd, JournalError> {
        self.look()?;
        let Some(current) = &mut self.current else { return Ok(AtEnd::GoOn) };
        let ordinal = current.ordinal;
        if self.known.range(ordinal + 1..).next().is_none() {
            return Ok(AtEnd::Nothing); // the newest one; damage at its end is known only when something follows
        }
        if !current.reread {
            // Its writer may have appended after our last look and before it began the next one; after that it never does.
            current.reread = true;
            return Ok(AtEnd::GoOn);
        }
        Ok(self.leave((!tail.is_empty()).then_some(tail)).map_or(AtEnd::GoOn, AtEnd::Found))
    }

    /// Leaves the segment for the next; says what is missing between the two.
    fn leave(&mut self, tail: Option<Range<u64>>) -> Option<Found> {
        let current = self.current.take()?;
        let next = self.first_above(current.ordinal);
        let taken_over = self.owner().is_some_and(|owner| owner > current.ordinal);
        if taken_over {
            return None; // what is damaged here is void: a later segment has all of it
        }
        let place = current.damage.or(tail).map(|bytes| Place { segment: current.ordinal, bytes });
        let after = next?;
        let lost = if self.skip_output > 0 { None } else { SeqRange::between(self.next, after.next_seq) };
        self.next = after.next_seq;
        // Nothing older is there any more: it was dropped while its file was still open here.
        let oldest = self.known.values().map(|known| known.first.next_seq).min();
        if let Some(lost) = lost.filter(|_| oldest == Some(after.next_seq)) {
            return Some(Found::Pruned { lost, after });
        }
        (lost.is_some() || place.is_some()).then_some(Found::Damage(Damage { place, lost, after }))
    }
}

enum Taken {
    Skipped,
    Found(Found),
    BehindEnd,
    BehindLimit,
}

enum AtEnd {
    GoOn,
    Found(Found),
    Nothing,
}

/// The place before record `seq` and the time of the record before, if a record that the cursor comes by begins or ends there.
pub(crate) fn place_before(cursor: &mut Cursor, seq: Seq) -> io::Result<Option<(Position, u64)>> {
    loop {
        match cursor.step()? {
            Step::Record => {
                let Some((header, after)) = cursor.last() else { continue };
                if header.seq == seq {
                    return Ok(Some((header.before(), header.time_us))); // behind damage: no better bound is known
                }
                if after.next_seq == seq {
                    return Ok(Some((after, header.time_us)));
                }
                if header.seq > seq {
                    return Ok(None);
                }
            }
            Step::Grant(_) | Step::Damage(_) => {}
            Step::End(_) => return Ok(None),
        }
    }
}
