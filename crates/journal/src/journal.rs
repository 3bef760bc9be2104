//! A journal as its one writer has it: where it ends, the file that takes what comes next, and what is not durable yet.
//!
//! Promise: after a failed call the journal is as before it, on disk and in memory, and the same call may be tried again; after a
//! failed sync nothing is written through the same file. Refuses to decide when to sync, seal or drop: its owner does.

mod append;
mod open;
mod retain;
mod seal;
mod sync;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chain::{Chain, Position, Seq};
use crate::cursor::{Cursor, PlainCursor};
use crate::directory::{Opened, Presence, open_segment};
use crate::error::JournalError;
use crate::segment::{ATTRS_BYTES_MAX, FileKind, Identity, ORDINAL_MAX, SegmentHeader};
use crate::storage::{OpenMode, Storage, StorageFile, uninterrupted, write_all_at};

pub use append::{Appended, BATCH_BYTES_MAX, NewRecord};
pub use open::{NewJournal, TORN_BYTES_MAX, TORN_FILES_MAX, remove_journal};
pub use seal::{SealProgress, SealStep, SealTicket, Sealed};
pub use sync::{SyncError, SyncTicket, Synced};

/// Smallest and largest size at which a segment is full. Others are moved to the nearer one.
pub const SEGMENT_BYTES_RANGE: std::ops::RangeInclusive<u64> = 4 << 10..=64 << 20;

/// Distance of the places in the newest segment that are kept in memory, so that a record is found without reading all of it.
const MARK_BYTES: u64 = 64 << 10;

/// Whether a journal takes part in syncing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// What was written and not synced is remembered, so that `sync_ticket` can make it durable: a log.
    #[default]
    Synced,
    /// Nothing is ever synced: a spool, which need not survive power loss.
    Unsynced,
}

/// How a journal is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bytes at which a segment is full and the next one begins; within [`SEGMENT_BYTES_RANGE`].
    pub segment_bytes_max: u64,
    /// Whether it takes part in syncing.
    pub durability: Durability,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes_max: 8 << 20, durability: Durability::Synced }
    }
}

/// A segment as the writer knows it.
#[derive(Debug)]
struct Segment {
    ordinal: u32,
    sealed: bool,
    /// The place before its first record.
    first: Position,
    /// Time of the record before that.
    time_before: u64,
    len: u64,
    /// Nothing in it is damaged, so it may be sealed.
    clean: bool,
    /// It was tried to seal it and there was nothing to seal.
    unsealable: bool,
}

/// The file that takes new records: the last of the segments.
#[derive(Debug)]
struct Active {
    file: Arc<sync::WrittenFile>,
    /// The known good end.
    len: u64,
    /// Bytes behind the good end are left of a write that failed; they must go before the next one.
    must_cut: bool,
    has_records: bool,
    /// Some places in the file, ascending.
    marks: Vec<Mark>,
}

/// A place in the newest segment.
#[derive(Debug, Clone, Copy)]
struct Mark {
    place: Position,
    /// Time of the record before.
    time: u64,
    /// Byte of the file.
    at: u64,
}

/// A journal and its writer. There must be only one at a time; the owner sees to it (a lock in or above the directory).
#[derive(Debug)]
pub struct Journal {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    options: Options,
    identity: Identity,
    /// Never empty; ascending ordinals. The last is the one of `active`, if that is there.
    segments: Vec<Segment>,
    active: Option<Active>,
    end: Position,
    last_time_us: u64,
    last_ordinal: u32,
    /// A segment was dropped, perhaps before this start, and its name may come back with a power loss.
    dropped_unsynced: bool,
    /// Encoded bytes of the append at hand; reused.
    buf: Vec<u8>,
    syncs: sync::SyncState,
}

impl Journal {
    /// The place after the last record.
    pub fn end(&self) -> Position {
        self.end
    }

    /// The number that the next record gets.
    pub fn next_seq(&self) -> Seq {
        self.end.next_seq
    }

    /// The chain after the last record.
    pub fn chain(&self) -> Chain {
        self.end.chain
    }

    /// Bytes of output in all records since the session's start.
    pub fn output_offset(&self) -> u64 {
        self.end.output_offset
    }

    /// The place before the oldest record that is retained.
    pub fn first(&self) -> Position {
        self.segments.iter().map(|segment| segment.first).min_by_key(|first| first.next_seq).unwrap_or(self.end)
    }

    /// The oldest record that is retained; equal to `next_seq` if there is none.
    pub fn first_retained(&self) -> Seq {
        self.first().next_seq
    }

    /// Time of the last record, microseconds since the Unix epoch; 0 if there is none.
    pub fn last_time_us(&self) -> u64 {
        self.last_time_us
    }

    /// Bytes of all segments.
    pub fn bytes_on_disk(&self) -> u64 {
        let closed: u64 = self.segments.iter().map(|segment| segment.len).sum();
        let written = self.active.as_ref().map_or(0, |active| active.len);
        closed + written - self.segments.last().filter(|_| self.active.is_some()).map_or(0, |last| last.len)
    }

    /// Bytes in the segment that takes new records; 0 if the next record begins one.
    pub fn active_bytes(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.len)
    }

    /// Whose it is and who may write to it.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The disk that it is on, for readers of the same directory.
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// The chain after record `seq`: what another journal's must be equal to if both hold the same records.
    ///
    /// `None` if the record is not here, is damaged, or lies inside a gap (the last of a gap has the chain that the gap states).
    ///
    /// # Errors
    /// `Io` if a segment cannot be read.
    pub fn check_at(&self, seq: Seq) -> Result<Option<Chain>, JournalError> {
        Ok(self.place_before(seq.next())?.map(|place| place.chain))
    }

    /// The place before record `seq`, which may be the next one; `None` if no record here ends or begins there.
    ///
    /// # Errors
    /// `Io` if a segment cannot be read.
    pub fn place_before(&self, seq: Seq) -> Result<Option<Position>, JournalError> {
        Ok(self.place_and_time_before(seq)?.map(|(place, _)| place))
    }

    /// The place before record `seq`, and the time of the record before.
    fn place_and_time_before(&self, seq: Seq) -> Result<Option<(Position, u64)>, JournalError> {
        if seq == self.end.next_seq {
            return Ok(Some((self.end, self.last_time_us)));
        }
        let owner = self.segments.iter().rposition(|segment| segment.first.next_seq <= seq);
        let Some(segment) = owner.filter(|_| seq < self.end.next_seq).map(|n| &self.segments[n]) else {
            return Ok(None);
        };
        if seq == segment.first.next_seq {
            return Ok(Some((segment.first, segment.time_before)));
        }
        let active = self.active.as_ref().filter(|_| owner == Some(self.segments.len() - 1));
        let mark = active.and_then(|active| active.marks.iter().rfind(|mark| mark.place.next_seq <= seq));
        let mut cursor = match (active, mark) {
            (_, Some(mark)) if mark.place.next_seq == seq => return Ok(Some((mark.place, mark.time))),
            (Some(active), Some(mark)) => {
                Cursor::Plain(PlainCursor::new(active.file.for_reading(), mark.at, Some(mark.place)))
            }
            _ => {
                let presence = Presence { plain: !segment.sealed, sealed: segment.sealed };
                let opened = open_segment(&*self.storage, &self.dir, segment.ordinal, presence)?;
                let Opened::Segment(opened) = opened else { return Ok(None) };
                opened.cursor()?
            }
        };
        if let Cursor::Sealed(cursor) = &mut cursor {
            cursor.seek_seq(seq.prev()); // the record before it ends where it begins
        }
        crate::reader::place_before(&mut cursor, seq).map_err(|source| JournalError::of(&self.dir, "read", source))
    }

    /// Begins a segment, in which `first` comes. On error nothing has changed but perhaps an unfinished file's name.
    fn begin_segment(&mut self, first: Position, time_before: u64) -> Result<(), JournalError> {
        let ordinal = self.last_ordinal + 1;
        if ordinal > ORDINAL_MAX {
            return Err(JournalError::Exhausted { path: self.dir.clone() });
        }
        let header = SegmentHeader { sealed: false, ordinal, identity: self.identity.clone(), first, time_before };
        let (file, len) = make_segment(&*self.storage, &self.dir, &header)?;
        if let (Some(active), Some(last)) = (&self.active, self.segments.last_mut()) {
            last.len = active.len;
        }
        self.last_ordinal = ordinal;
        self.segments.push(Segment { ordinal, sealed: false, first, time_before, len, clean: true, unsealable: false });
        let path = self.dir.join(FileKind::Plain.name(ordinal));
        let file = Arc::new(sync::WrittenFile::new(file.into(), path));
        if self.options.durability == Durability::Synced {
            self.syncs.begin_file(ordinal, &file, len, first.next_seq);
        }
        self.active = Some(Active {
            file,
            len,
            must_cut: false,
            has_records: false,
            marks: vec![Mark { place: first, time: time_before, at: len }],
        });
        Ok(())
    }
}

/// Writes a segment with nothing but its header, aside, and gives it its name when it is complete.
fn make_segment(
    storage: &dyn Storage,
    dir: &Path,
    header: &SegmentHeader,
) -> Result<(Box<dyn StorageFile>, u64), JournalError> {
    let aside = dir.join(FileKind::Unfinished.name(header.ordinal));
    let bytes = header.encode();
    let make = || {
        let file = create_over(storage, &aside)?;
        write_all_at(&*file, &bytes, 0)?;
        let name = dir.join(FileKind::Plain.name(header.ordinal));
        uninterrupted(|| storage.rename(&aside, &name))?;
        Ok(file)
    };
    match make() {
        Ok(file) => Ok((file, bytes.len() as u64)),
        Err(source) => {
            _ = uninterrupted(|| storage.remove(&aside)); // it takes space and is no part of the journal; the next one replaces it
            Err(JournalError::of(&aside, "make", source))
        }
    }
}

/// Makes a file, in place of what an earlier attempt left behind under the same name.
fn create_over(storage: &dyn Storage, path: &Path) -> std::io::Result<Box<dyn StorageFile>> {
    match uninterrupted(|| storage.open(path, OpenMode::Create)) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            uninterrupted(|| storage.remove(path))?;
            uninterrupted(|| storage.open(path, OpenMode::Create))
        }
        result => result,
    }
}

/// Refuses attrs that no header could hold.
fn check_attrs(attrs: &[u8]) -> Result<(), JournalError> {
    if attrs.len() > ATTRS_BYTES_MAX { Err(JournalError::AttrsTooLarge { len: attrs.len() }) } else { Ok(()) }
}
