//! Appending: one write per call, at the known good end.

use crate::chain::{Chain, Position, Seq};
use crate::error::JournalError;
use crate::record::{GapInfo, RecordIter, RecordKind, encode_gap, encode_record};
use crate::segment::Grant;
use crate::storage::{uninterrupted, write_all_at};

use super::{Durability, Journal, MARK_BYTES, Mark, check_attrs};

/// Most encoded bytes of one append. More are refused before anything is written.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// A record that has no number yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// What it is; gaps go through `append_gap`.
    pub kind: RecordKind,
    /// Microseconds since the Unix epoch; a time before the last record's becomes the last record's.
    pub time_us: u64,
    /// Its payload.
    pub payload: &'a [u8],
}

/// What an append wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The first record's number.
    pub first_seq: Seq,
    /// The place after the last.
    pub end: Position,
}

impl Journal {
    /// Numbers a record and writes it. One write; nothing is allocated.
    ///
    /// # Errors
    /// `NoSpace` and `Io`: nothing was appended, try again. `Distrusted`: only after `new_segment_from`. `Vanished`: only
    /// after `open`. `Record`: the payload is too long, or numbers are used up.
    pub fn append(&mut self, kind: RecordKind, time_us: u64, payload: &[u8]) -> Result<(Seq, Chain), JournalError> {
        let appended = self.append_all([NewRecord { kind, time_us, payload }])?;
        Ok((appended.first_seq, appended.end.chain))
    }

    /// Numbers records and writes them with one write: all of them or none.
    ///
    /// # Errors
    /// As [`Self::append`]; `BatchTooLarge` above [`BATCH_BYTES_MAX`].
    pub fn append_all<'a>(
        &mut self,
        records: impl IntoIterator<Item = NewRecord<'a>>,
    ) -> Result<Appended, JournalError> {
        let (mut at, mut time) = (self.end, self.last_time_us);
        self.buf.clear();
        for record in records {
            time = time.max(record.time_us);
            at = encode_record(&mut self.buf, at, record.kind, time, record.payload)?;
            if self.buf.len() > BATCH_BYTES_MAX {
                return Err(JournalError::BatchTooLarge { len: self.buf.len() });
            }
        }
        self.write_buf(at, time)
    }

    /// Writes a gap as the next record: the records up to `gap.to` are lost. Returns the place behind it.
    ///
    /// # Errors
    /// As [`Self::append`]; `Record` if the gap is impossible.
    pub fn append_gap(&mut self, time_us: u64, gap: &GapInfo) -> Result<Position, JournalError> {
        let time = self.last_time_us.max(time_us);
        self.buf.clear();
        let after = encode_gap(&mut self.buf, self.end, time, gap)?;
        Ok(self.write_buf(after, time)?.end)
    }

    /// Writes whole encoded records as they are; they must continue this journal exactly.
    ///
    /// # Errors
    /// `Record` if one of them is damaged or does not follow; then, and with all others as in [`Self::append`], nothing is written.
    pub fn append_encoded(&mut self, records: &[u8]) -> Result<Appended, JournalError> {
        if records.len() > BATCH_BYTES_MAX {
            return Err(JournalError::BatchTooLarge { len: records.len() });
        }
        let mut walk = RecordIter::new(records, self.end);
        let mut time = self.last_time_us;
        for record in &mut walk {
            time = time.max(record?.header.time_us);
        }
        let after = walk.position();
        self.buf.clear();
        self.buf.extend_from_slice(records);
        self.write_buf(after, time)
    }

    /// Writes who may write from here on. It counts at once, and over power loss once a ticket made after it has synced.
    ///
    /// # Errors
    /// As [`Self::append`]; `AttrsTooLarge` above [`crate::ATTRS_BYTES_MAX`].
    pub fn append_grant(&mut self, grant: Grant) -> Result<(), JournalError> {
        check_attrs(&grant.attrs)?;
        self.buf.clear();
        grant.encode(&mut self.buf);
        self.write_buf(self.end, self.last_time_us)?;
        self.identity.apply(grant);
        Ok(())
    }

    /// Writes what is in `buf` at the good end, in a new segment if there is none or the last is full.
    fn write_buf(&mut self, after: Position, time: u64) -> Result<Appended, JournalError> {
        let first_seq = self.end.next_seq;
        let full = self.active.as_ref().is_none_or(|active| {
            active.has_records && active.len + self.buf.len() as u64 > self.options.segment_bytes_max
        });
        self.syncs.refuse_distrusted()?;
        if full && !self.buf.is_empty() {
            self.syncs.make_room(&*self.storage, &self.dir)?;
            self.begin_segment(self.end, self.last_time_us)?;
        }
        let synced = self.options.durability == Durability::Synced;
        let Some(active) = &mut self.active else { return Ok(Appended { first_seq, end: self.end }) };
        if synced {
            // Before the write: behind it a file that was cut has its old length again, with zeros where records were.
            active.file.refuse_vanished(active.len)?;
        }
        let file = active.file.for_writing();
        if active.must_cut {
            uninterrupted(|| file.set_len(active.len)).map_err(|e| JournalError::of(&self.dir, "cut", e))?;
            active.must_cut = false;
        }
        if let Err(source) = write_all_at(file, &self.buf, active.len) {
            // What was written must not be taken for records: neither by a reader nor behind a later, shorter write.
            active.must_cut = uninterrupted(|| file.set_len(active.len)).is_err();
            return Err(JournalError::of(&self.dir, "append", source));
        }
        active.len += self.buf.len() as u64;
        active.has_records |= after != self.end;
        if active.marks.last().is_none_or(|mark| active.len - mark.at >= MARK_BYTES) {
            active.marks.push(Mark { place: after, time, at: active.len });
        }
        self.end = after;
        self.last_time_us = time;
        if synced {
            self.syncs.wrote(active.len);
        }
        Ok(Appended { first_seq, end: after })
    }
}
