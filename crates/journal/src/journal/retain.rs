//! Whole segments: begin, seal, drop.

use std::io;

use crate::chain::{Position, Seq};
use crate::cursor::Step;
use crate::directory::{OpenSegment, Opened, Presence, open_segment};
use crate::error::JournalError;
use crate::hook::{self, Point};
use crate::sealed::Packer;
use crate::segment::FileKind;
use crate::storage::{StorageFile, uninterrupted, write_all_at};

use super::{Durability, Journal, create_over};

/// Packed bytes that are gathered before they are written.
const SEAL_WRITE_BYTES: usize = 256 << 10;

/// A segment that was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Bytes of the file before.
    pub plain_bytes: u64,
    /// Bytes of the file now.
    pub sealed_bytes: u64,
}

impl Journal {
    /// Goes on in a new segment, if the last one has records. Sealing and dropping work on whole segments.
    ///
    /// # Errors
    /// `NoSpace` and `Io`: nothing has changed. `Distrusted`: only `new_segment_from` goes on.
    pub fn rotate(&mut self) -> Result<(), JournalError> {
        self.syncs.refuse_distrusted()?;
        if self.active.as_ref().is_none_or(|active| active.has_records) {
            self.syncs.make_room(&*self.storage, &self.dir)?;
            self.begin_segment(self.end, self.last_time_us)?;
        }
        Ok(())
    }

    /// Goes on in a new segment with record `seq`; whatever was held from there on is void. The files of a failed sync are
    /// never used again, and tickets made before acknowledge nothing.
    ///
    /// After a failed sync `seq` is at most one beyond [`Self::durable`]; what else its writer knows to be durable, `assume_durable` says. Returns the place where the journal ends now.
    ///
    /// # Errors
    /// `NoSuchPlace` if no record here begins or ends there; `NotDurable`; `NoSpace` and `Io`: nothing has changed.
    pub fn new_segment_from(&mut self, seq: Seq) -> Result<Position, JournalError> {
        let (place, time) = self.place_and_time_before(seq)?.ok_or(JournalError::NoSuchPlace { seq })?;
        self.syncs.may_restart_at(seq)?;
        self.begin_segment(place, time)?;
        let gone = self.syncs.restart_at(seq, self.last_ordinal, &*self.storage, &self.dir);
        self.segments.retain(|segment| !gone.contains(&segment.ordinal));
        (self.end, self.last_time_us) = (place, time);
        Ok(place)
    }

    /// The first number that segments behind the one at `n` hold.
    fn limit_of(&self, n: usize) -> Option<Seq> {
        self.segments[n + 1..].iter().map(|segment| segment.first.next_seq).min()
    }

    /// Seals the oldest segment that is full, undamaged and durable; `None` if there is none. Reads, compresses and
    /// writes one segment, and syncs: some ten milliseconds.
    ///
    /// # Errors
    /// `NoSpace` and `Io`: the segment stays as it is.
    pub fn seal_oldest_full(&mut self, durable: Seq) -> Result<Option<Sealed>, JournalError> {
        loop {
            let full = self.segments.len().saturating_sub(1);
            let ready = (0..full).find(|&n| {
                let segment = &self.segments[n];
                let is_durable = self.limit_of(n).is_some_and(|limit| limit <= durable.next());
                let sound = segment.clean && !segment.unsealable && !segment.sealed;
                sound && is_durable && self.syncs.is_clean(segment.ordinal)
            });
            let Some(n) = ready else { return Ok(None) };
            match self.seal(n)? {
                Some(sealed) => return Ok(Some(sealed)),
                None => self.segments[n].unsealable = true,
            }
        }
    }

    /// Seals one segment; `None` if it is empty or turns out to be damaged.
    fn seal(&mut self, n: usize) -> Result<Option<Sealed>, JournalError> {
        let (ordinal, limit) = (self.segments[n].ordinal, self.limit_of(n));
        let presence = Presence { plain: true, sealed: false };
        let Opened::Segment(opened) = open_segment(&*self.storage, &self.dir, ordinal, presence)? else {
            return Ok(None);
        };
        let aside = self.dir.join(FileKind::Unfinished.name(ordinal));
        let name = self.dir.join(FileKind::Sealed.name(ordinal));
        let write = || -> io::Result<Option<u64>> {
            let file = create_over(&*self.storage, &aside)?;
            let Some(len) = pack(&opened, limit, &*file)? else { return Ok(None) };
            uninterrupted(|| file.sync())?;
            uninterrupted(|| self.storage.rename(&aside, &name))?;
            Ok(Some(len))
        };
        let made = write();
        if !matches!(made, Ok(Some(_))) {
            _ = uninterrupted(|| self.storage.remove(&aside)); // the next writer would remove it too
        }
        let Some(sealed_bytes) = made.map_err(|e| JournalError::of(&aside, "seal", e))? else { return Ok(None) };
        // Only when the copy has its name for good may the original go.
        uninterrupted(|| self.storage.sync_dir(&self.dir)).map_err(|e| JournalError::of(&self.dir, "sync", e))?;
        self.syncs.forget(ordinal);
        hook::pause(Point::DaemonSealed);
        // If this fails both stay, the sealed one counts, and the next `open` removes the other.
        _ = uninterrupted(|| self.storage.remove(&opened.path));
        let segment = &mut self.segments[n];
        let plain_bytes = segment.len;
        (segment.sealed, segment.len) = (true, sealed_bytes);
        Ok(Some(Sealed { plain_bytes, sealed_bytes }))
    }

    /// The last record of the oldest segments that hold at least `bytes` together, for [`Self::drop_front`]; of all but the
    /// last segment if they hold less.
    pub fn front_holding(&self, bytes: u64) -> Seq {
        let mut held = 0;
        let mut up_to = self.first_retained().prev();
        for n in 0..self.segments.len().saturating_sub(1) {
            if held >= bytes {
                break;
            }
            held += self.segments[n].len;
            up_to = self.limit_of(n).map_or(up_to, Seq::prev);
        }
        up_to
    }

    /// Drops the oldest segments as long as all their records are at most `up_to`; never the last, and none before a
    /// segment that was never synced (unless nothing ever is). Returns the bytes freed.
    ///
    /// # Errors
    /// `Io`: what was dropped before stays dropped.
    pub fn drop_front(&mut self, up_to: Seq) -> Result<u64, JournalError> {
        let mut freed = 0;
        loop {
            // The segment that goes on behind the oldest; those between the two are void.
            let next = self.segments.iter().skip(1).rev().min_by_key(|segment| segment.first.next_seq);
            let Some(next) = next.filter(|next| next.first.next_seq <= up_to.next()) else { break };
            // What begins the journal then must survive a power loss: else what is lost with it would pass for pruned.
            if !self.syncs.was_synced(next.ordinal) {
                break;
            }
            if self.dropped_unsynced && self.options.durability == Durability::Synced {
                // Otherwise a power loss could bring back the one before and not this one: a hole that was none.
                uninterrupted(|| self.storage.sync_dir(&self.dir))
                    .map_err(|e| JournalError::of(&self.dir, "sync", e))?;
            }
            let segment = &self.segments[0];
            self.syncs.forget(segment.ordinal);
            // A sealed segment may still have its original beside it.
            for kind in [FileKind::Plain, FileKind::Sealed] {
                let path = self.dir.join(kind.name(segment.ordinal));
                match uninterrupted(|| self.storage.remove(&path)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(JournalError::of(&path, "remove", error));
                    }
                    _ => {}
                }
            }
            freed += segment.len;
            self.dropped_unsynced = true;
            self.segments.remove(0);
        }
        Ok(freed)
    }
}

/// Writes the records of a plain segment below `limit` as a sealed one; returns its length, `None` if there is nothing to
/// seal or something is damaged.
fn pack(plain: &OpenSegment, limit: Option<Seq>, file: &dyn StorageFile) -> io::Result<Option<u64>> {
    let Some(mut header) = plain.header.clone() else { return Ok(None) };
    let mut cursor = plain.cursor().map_err(io::Error::other)?;
    let mut packer = Packer::new(header.first)?;
    // The header repeats the newest grant, which is known only at the end: all that is packed comes behind room for it.
    let (mut blocks, mut records) = (Vec::new(), 0_u64);
    loop {
        match cursor.step()? {
            Step::Record => {
                let Some(record) = cursor.record() else { return Ok(None) };
                if limit.is_some_and(|limit| record.header.seq >= limit) {
                    break;
                }
                packer.push(&record, &mut blocks)?;
                records += 1;
            }
            Step::Grant(grant) => header.identity.apply(grant),
            Step::End(tail) if tail.is_empty() => break,
            Step::Damage(_) | Step::End(_) => return Ok(None),
        }
    }
    if records == 0 {
        return Ok(None);
    }
    header.sealed = true;
    let mut out = header.encode();
    let blocks_at = out.len() as u64;
    packer.finish(&mut blocks, blocks_at)?;
    out.append(&mut blocks);
    for (n, part) in out.chunks(SEAL_WRITE_BYTES).enumerate() {
        write_all_at(file, part, (n * SEAL_WRITE_BYTES) as u64)?;
    }
    Ok(Some(out.len() as u64))
}
