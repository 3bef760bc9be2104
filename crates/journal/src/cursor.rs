//! A walk over the entries of one segment, plain or sealed, from some place to its end.
//!
//! Promise: every entry that it gives is whole and follows; every byte that it passes over is reported. Bounded memory: a read
//! buffer, one record, one block; behind damage, the rest of the segment. Refuses to know other segments.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::chain::{Chain, Position, Seq};
use crate::record::{RECORD_HEADER_BYTES, RECORD_MAGIC, Record, RecordHeader};
use crate::resync::ResyncMap;
use crate::sealed::SealedCursor;
use crate::segment::{GRANT_MAGIC, Grant};
use crate::storage::{StorageFile, read_full_at, uninterrupted};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// Most bytes that are searched behind damage: more than a segment ever has.
const SEARCH_BYTES_MAX: u64 = 96 << 20;

/// Searches in one segment. Behind so many damaged places its rest counts as damaged, so that rot costs bounded time.
const SEARCHES_MAX: u32 = 4096;

/// What a step over a segment found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record, to be had from `record()`.
    Record,
    /// Who may write from here on.
    Grant(Grant),
    /// These bytes of the file are nothing; what comes next is sound.
    Damage(Range<u64>),
    /// Nothing sound comes any more; these bytes (none, as a rule) are behind the last entry.
    End(Range<u64>),
}

/// Where a record was in a plain segment. It proves itself there; if it does not, it is sought as if nothing were known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// Ordinal of the segment.
    pub segment: u32,
    /// Byte of the file at which the record began.
    pub at: u64,
    /// The chain behind the record.
    pub chain: Chain,
}

/// The walk over a segment of either kind.
#[derive(Debug)]
pub(crate) enum Cursor {
    Plain(PlainCursor),
    Sealed(SealedCursor),
}

impl Cursor {
    /// Goes one entry on. Behind the end it may be called again: the segment may have grown.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        match self {
            Self::Plain(cursor) => cursor.step(),
            Self::Sealed(cursor) => cursor.step(),
        }
    }

    /// The encoded bytes of the record that the last step gave.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(cursor) => cursor.bytes(),
            Self::Sealed(cursor) => cursor.bytes(),
        }
    }

    /// Header of the record that the last step gave, and the place after it.
    pub(crate) fn last(&self) -> Option<(RecordHeader, Position)> {
        match self {
            Self::Plain(cursor) => cursor.last,
            Self::Sealed(cursor) => cursor.last(),
        }
    }

    /// The record that the last step gave.
    pub(crate) fn record(&self) -> Option<Record<'_>> {
        let (header, after) = self.last()?;
        Some(Record { header, payload: self.bytes().get(RECORD_HEADER_BYTES..)?, after })
    }

    /// Steps back before the record that the last step gave, and forgets what was read: it may be taken back.
    pub(crate) fn unread(&mut self) {
        if let Self::Plain(cursor) = self {
            cursor.unread();
        } else if let Self::Sealed(cursor) = self {
            cursor.unread();
        }
    }
}

/// The walk over a plain segment.
pub(crate) struct PlainCursor {
    file: Arc<dyn StorageFile>,
    /// Its first `filled` bytes are those of the file from `buf_at` on.
    buf: Vec<u8>,
    filled: usize,
    buf_at: u64,
    /// Place of the next entry.
    at: u64,
    /// What comes next; `None` where it is not known.
    expected: Option<Position>,
    last: Option<(RecordHeader, Position)>,
    /// The record that was met last, and where it begins.
    met: Option<(RecordHeader, u64)>,
    /// Of the bytes from the given place on, once damage was met.
    map: Option<(u64, ResyncMap)>,
    searches: u32,
}

impl std::fmt::Debug for PlainCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlainCursor").field("at", &self.at).field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl PlainCursor {
    /// Over `file` from byte `at`, where `expected` comes.
    pub(crate) fn new(file: Arc<dyn StorageFile>, at: u64, expected: Option<Position>) -> Self {
        Self {
            file,
            buf: Vec::new(),
            filled: 0,
            buf_at: at,
            at,
            expected,
            last: None,
            met: None,
            map: None,
            searches: 0,
        }
    }

    /// Place in the file of the next entry.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Goes to where record `seq` was, if it is there still.
    pub(crate) fn seek(&mut self, seq: Seq, hint: Hint) -> io::Result<()> {
        let (from, expected) = (self.at, self.expected.take());
        self.at = hint.at.max(from);
        self.forget();
        self.entry()?;
        if self.last.is_some_and(|(header, _)| header.seq == seq && header.check == hint.chain) {
            self.unread();
        } else {
            (self.at, self.expected, self.last) = (from, expected, None);
            self.forget();
        }
        Ok(())
    }

    /// Where record `seq` begins, with the chain behind it, if it is the one that was met last.
    pub(crate) fn place_of(&self, seq: Seq) -> Option<(u64, Chain)> {
        self.met.filter(|(header, _)| header.seq == seq).map(|(header, at)| (at, header.check))
    }

    /// Where the next entry begins in the buffer.
    fn start(&self) -> usize {
        usize::try_from(self.at - self.buf_at).unwrap_or(usize::MAX).min(self.filled)
    }

    /// What is buffered from the next entry on.
    fn ahead(&self) -> &[u8] {
        &self.buf[self.start()..self.filled]
    }

    /// Reads until `want` bytes from the next entry on are in the buffer, or all that there are; returns how many there are.
    fn need(&mut self, want: usize) -> io::Result<usize> {
        let have = self.ahead().len();
        if have >= want {
            return Ok(have);
        }
        let start = self.start();
        if self.buf.len() < want.max(READ_BYTES) {
            let mut larger = vec![0; want.max(READ_BYTES)];
            larger[..have].copy_from_slice(self.ahead());
            self.buf = larger;
        } else {
            self.buf.copy_within(start..self.filled, 0);
        }
        (self.buf_at, self.filled) = (self.at, have);
        self.filled += read_full_at(&*self.file, &mut self.buf[have..], self.at + have as u64)?;
        Ok(self.filled)
    }

    pub(crate) fn step(&mut self) -> io::Result<Step> {
        self.last = None;
        if let Some(step) = self.entry()? {
            return Ok(step);
        }
        // A writer may be in the middle of this entry: what was read before must not be mixed with what is there now.
        self.forget();
        if let Some(step) = self.entry()? {
            return Ok(step);
        }
        let len = uninterrupted(|| self.file.stat())?.len;
        if self.at >= len {
            return Ok(Step::End(self.at..self.at));
        }
        self.behind_damage(len)
    }

    /// The entry at this place, if it is whole and follows.
    fn entry(&mut self) -> io::Result<Option<Step>> {
        let have = self.need(RECORD_HEADER_BYTES)?;
        let bytes = self.ahead();
        let magic = bytes.first_chunk::<2>().copied();
        let len = match magic {
            Some(RECORD_MAGIC) => RecordHeader::read(bytes).map(|header| header.encoded_len()),
            Some(GRANT_MAGIC) => {
                self.need(crate::segment::GRANT_FIXED_BYTES)?;
                Grant::announced_len(self.ahead())
            }
            _ => None,
        };
        let Some(len) = len else { return Ok(None) };
        if have < len && self.need(len)? < len {
            return Ok(None);
        }
        let bytes = &self.ahead()[..len];
        if magic == Some(GRANT_MAGIC) {
            let grant = Grant::decode(bytes);
            self.at += if grant.is_some() { len as u64 } else { 0 };
            return Ok(grant.map(Step::Grant));
        }
        let Ok(Record { header, after, .. }) = Record::decode(bytes) else { return Ok(None) };
        if self.expected.is_some_and(|expected| !header.follows(expected)) {
            return Ok(None);
        }
        self.last = Some((header, after));
        self.met = Some((header, self.at));
        self.expected = Some(after);
        self.at += len as u64;
        Ok(Some(Step::Record))
    }

    /// Finds where the segment goes on, or that it does not.
    fn behind_damage(&mut self, len: u64) -> io::Result<Step> {
        let end = len.min(self.at.saturating_add(SEARCH_BYTES_MAX));
        let known = self.map.as_ref().is_some_and(|(from, map)| *from <= self.at && from + map.len() as u64 >= end);
        if !known {
            let mut bytes = vec![0; usize::try_from(end - self.at).unwrap_or(0)];
            let got = read_full_at(&*self.file, &mut bytes, self.at)?;
            bytes.truncate(got);
            self.map = Some((self.at, ResyncMap::new(bytes)));
        }
        self.searches += 1;
        let found = self.map.as_ref().filter(|_| self.searches <= SEARCHES_MAX).and_then(|(from, map)| {
            let at = usize::try_from(self.at - from).ok()?;
            let found = map.find(at, self.expected)?;
            Some((from + found.at as u64, found.position))
        });
        let Some((at, position)) = found else {
            self.map = None;
            self.searches = 0;
            return Ok(Step::End(self.at..len));
        };
        // Its writer may have finished this entry between the look at it and the look behind it. Entries are written in
        // order: now that a later one has been seen, this one is whole, or will never be.
        self.forget();
        if let Some(step) = self.entry()? {
            self.map = None;
            return Ok(step);
        }
        let damage = self.at..at;
        self.at = at;
        self.expected = Some(position);
        self.forget();
        Ok(Step::Damage(damage))
    }

    /// Drops what is buffered, so that it is read again.
    fn forget(&mut self) {
        (self.buf_at, self.filled) = (self.at, 0);
    }

    fn unread(&mut self) {
        if let Some((header, _)) = self.last.take() {
            self.at -= header.encoded_len() as u64;
            self.expected = Some(header.before());
            self.forget();
        }
    }

    fn bytes(&self) -> &[u8] {
        let len = self.last.map_or(0, |(header, _)| header.encoded_len());
        let end = self.start();
        &self.buf[end - len.min(end)..end]
    }
}
