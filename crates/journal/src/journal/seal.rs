//! Whole segments, sealed: compressed beside the original, which goes when its successor has its name for good.
//!
//! In steps: what takes its time (reading, compressing, the disk) is a [`SealTicket`] that any thread may run; what
//! changes the journal is done by its owner, and is short.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::chain::Seq;
use crate::cursor::Step;
use crate::directory::{OpenSegment, Opened, Presence, open_segment};
use crate::error::JournalError;
use crate::hook::{self, Point};
use crate::sealed::Packer;
use crate::segment::FileKind;
use crate::storage::{Storage, StorageFile, uninterrupted, write_all_at};

use super::{Journal, Segment, create_over};

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

/// What is to be done next to seal one segment, on whichever thread: it reads, compresses, writes and syncs, and
/// changes nothing that a journal goes by.
#[derive(Debug)]
pub struct SealTicket {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    ordinal: u32,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Write the records below `limit` beside the segment.
    Pack { limit: Option<Seq> },
    /// Make the new name durable: only then may the original go.
    Settle { sealed_bytes: u64 },
    /// Remove the original: freeing megabytes takes milliseconds.
    Remove(Sealed),
}

/// What became of a [`SealTicket`], for [`Journal::seal_step`].
#[derive(Debug)]
pub struct SealStep {
    ticket: SealTicket,
    /// Bytes of the sealed segment; `None` if it is empty or turned out to be damaged.
    result: Result<Option<u64>, JournalError>,
}

/// How far sealing one segment is.
#[derive(Debug)]
pub enum SealProgress {
    /// This is next.
    Goes(SealTicket),
    /// It is sealed.
    Sealed(Sealed),
    /// There was nothing to seal, or it is gone.
    Nothing,
}

impl SealTicket {
    /// Does it: some ten milliseconds.
    pub fn run(self) -> SealStep {
        let result = match self.stage {
            Stage::Pack { limit } => self.pack(limit),
            Stage::Settle { sealed_bytes } => {
                let synced = uninterrupted(|| self.storage.sync_dir(&self.dir));
                hook::pause(Point::DaemonSealed);
                synced.map(|()| Some(sealed_bytes)).map_err(|e| JournalError::of(&self.dir, "sync", e))
            }
            Stage::Remove(sealed) => {
                // If this fails both stay, the sealed one counts, and the next `open` removes the other.
                let plain = self.dir.join(FileKind::Plain.name(self.ordinal));
                _ = uninterrupted(|| self.storage.remove(&plain));
                Ok(Some(sealed.sealed_bytes))
            }
        };
        SealStep { ticket: self, result }
    }

    fn aside(&self) -> PathBuf {
        self.dir.join(FileKind::Unfinished.name(self.ordinal))
    }

    fn pack(&self, limit: Option<Seq>) -> Result<Option<u64>, JournalError> {
        let presence = Presence { plain: true, sealed: false };
        let Opened::Segment(opened) = open_segment(&*self.storage, &self.dir, self.ordinal, presence)? else {
            return Ok(None);
        };
        let aside = self.aside();
        let write = || -> io::Result<Option<u64>> {
            let file = create_over(&*self.storage, &aside)?;
            let Some(len) = pack(&opened, limit, &*file)? else { return Ok(None) };
            uninterrupted(|| file.sync())?;
            Ok(Some(len))
        };
        let made = write();
        if !matches!(made, Ok(Some(_))) {
            self.abandon();
        }
        made.map_err(|e| JournalError::of(&aside, "seal", e))
    }

    fn abandon(&self) {
        if let Stage::Pack { .. } = self.stage {
            _ = uninterrupted(|| self.storage.remove(&self.aside())); // the next writer would remove it too
        }
    }
}

impl SealStep {
    /// Takes away what was written for a journal that is no more.
    pub fn abandon(self) {
        self.ticket.abandon();
    }
}

impl Journal {
    /// Seals the oldest segment that is full, undamaged and durable; `None` if there is none. Reads, compresses and
    /// writes one segment, and syncs: some ten milliseconds. Whoever cannot wait for that goes by [`Self::seal_ticket`].
    ///
    /// # Errors
    /// `NoSpace` and `Io`: the segment stays as it is.
    pub fn seal_oldest_full(&mut self, durable: Seq) -> Result<Option<Sealed>, JournalError> {
        while let Some(mut ticket) = self.seal_ticket(durable) {
            loop {
                match self.seal_step(ticket.run())? {
                    SealProgress::Goes(next) => ticket = next,
                    SealProgress::Sealed(sealed) => return Ok(Some(sealed)),
                    SealProgress::Nothing => break,
                }
            }
        }
        Ok(None)
    }

    /// The first step of sealing the oldest segment that is full, undamaged and durable; `None` if there is none. One
    /// segment at a time: there must be no other ticket under way.
    pub fn seal_ticket(&self, durable: Seq) -> Option<SealTicket> {
        let full = self.segments.len().saturating_sub(1);
        let n = (0..full).find(|&n| {
            let segment = &self.segments[n];
            let is_durable = self.limit_of(n).is_some_and(|limit| limit <= durable.next());
            let sound = segment.clean && !segment.unsealable && !segment.sealed;
            sound && is_durable && self.syncs.is_clean(segment.ordinal)
        })?;
        Some(self.ticket_of(self.segments[n].ordinal, Stage::Pack { limit: self.limit_of(n) }))
    }

    fn ticket_of(&self, ordinal: u32, stage: Stage) -> SealTicket {
        SealTicket { storage: Arc::clone(&self.storage), dir: self.dir.clone(), ordinal, stage }
    }

    /// Takes over what a step has done. Does nothing with a segment that was dropped meanwhile.
    ///
    /// # Errors
    /// `NoSpace` and `Io`: the segment stays as it is.
    pub fn seal_step(&mut self, done: SealStep) -> Result<SealProgress, JournalError> {
        let SealStep { ticket, result } = done;
        let made = result?;
        let held = |segment: &Segment| segment.ordinal == ticket.ordinal && !segment.sealed;
        let held = self.segments.iter().position(held);
        match (ticket.stage, held) {
            (Stage::Remove(sealed), _) => Ok(SealProgress::Sealed(sealed)),
            (Stage::Pack { limit }, Some(n)) => self.packed(&ticket, n, limit, made),
            (Stage::Settle { sealed_bytes }, Some(n)) => {
                self.syncs.forget(ticket.ordinal);
                let segment = &mut self.segments[n];
                let sealed = Sealed { plain_bytes: segment.len, sealed_bytes };
                (segment.sealed, segment.len) = (true, sealed_bytes);
                Ok(SealProgress::Goes(self.ticket_of(ticket.ordinal, Stage::Remove(sealed))))
            }
            (Stage::Pack { .. } | Stage::Settle { .. }, None) => {
                ticket.abandon();
                Ok(SealProgress::Nothing)
            }
        }
    }

    /// Gives what was packed its name, if it still is the segment at `n`.
    fn packed(
        &mut self,
        ticket: &SealTicket,
        n: usize,
        limit: Option<Seq>,
        made: Option<u64>,
    ) -> Result<SealProgress, JournalError> {
        let Some(sealed_bytes) = made.filter(|_| limit == self.limit_of(n)) else {
            self.segments[n].unsealable |= made.is_none();
            ticket.abandon();
            return Ok(SealProgress::Nothing);
        };
        let (aside, name) = (ticket.aside(), self.dir.join(FileKind::Sealed.name(ticket.ordinal)));
        if let Err(error) = uninterrupted(|| self.storage.rename(&aside, &name)) {
            ticket.abandon();
            return Err(JournalError::of(&aside, "seal", error));
        }
        Ok(SealProgress::Goes(self.ticket_of(ticket.ordinal, Stage::Settle { sealed_bytes })))
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
