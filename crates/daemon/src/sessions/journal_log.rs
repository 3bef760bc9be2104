//! A session's log on the disk: the journal, as the session wants it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shellkeep_journal::{
    Chain, GapInfo, Grant as JournalGrant, Journal, JournalError, Position, RawRun, Reader, RecordIter, SealProgress,
    SealStep, SealTicket, Seq, Start, SyncTicket, Synced,
};
use shellkeep_protocol::session::{ATTRS_BYTES_MAX, Attrs, Gap};
use tracing::warn;

use super::core::{Grant, Known};
use super::session::{Log, WriteFailure};

/// Most bytes that are copied into a new segment after a failed sync. What is not proved durable is far less: a sync
/// starts every 8 MiB.
const CARRY_BYTES_MAX: usize = 64 << 20;

/// Bytes copied with one write.
const CARRY_WRITE_BYTES: usize = 1 << 20;

/// Counts the logs that were ever opened, so that each has a number of its own.
static LIVES: AtomicU64 = AtomicU64::new(0);

/// The log of one session.
#[derive(Debug)]
pub struct JournalLog {
    journal: Journal,
    life: u64,
    gone: bool,
    is_sealing: bool,
}

/// A step of sealing a segment, on whichever thread.
#[derive(Debug)]
pub struct SealJob {
    ticket: SealTicket,
    life: u64,
}

/// What became of it.
#[derive(Debug)]
pub struct SealResult {
    step: SealStep,
    life: u64,
}

impl SealJob {
    /// Does it.
    pub fn run(self) -> SealResult {
        SealResult { step: self.ticket.run(), life: self.life }
    }
}

impl SealResult {
    /// There is no such log any more.
    pub fn abandon(self) {
        self.step.abandon();
    }
}

/// What must be synced, on whichever thread.
#[derive(Debug)]
pub struct SyncJob {
    ticket: Option<SyncTicket>,
    life: u64,
}

/// How a sync ended.
#[derive(Debug)]
pub struct SyncResult {
    synced: Option<Synced>,
    /// Whether everything that the job covered is durable.
    pub ok: bool,
    gone: bool,
    life: u64,
}

impl SyncJob {
    /// Syncs.
    pub fn sync(self) -> SyncResult {
        let life = self.life;
        match self.ticket.map(SyncTicket::sync) {
            None => SyncResult { synced: None, ok: true, gone: false, life }, // nothing was left to do
            Some(Ok(synced)) => SyncResult { synced: Some(synced), ok: true, gone: false, life },
            Some(Err(error)) => {
                warn!(%error, "sync failed");
                SyncResult { synced: None, ok: false, gone: error.is_gone(), life }
            }
        }
    }
}

impl JournalLog {
    /// Over an open journal.
    pub fn new(journal: Journal) -> Self {
        Self { journal, life: LIVES.fetch_add(1, Ordering::Relaxed), gone: false, is_sealing: false }
    }

    /// Whether what is on the disk is not what was written: somebody deleted, cut, moved or replaced the log. It takes
    /// nothing more; the session must be opened anew from what is there.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether a sync was one of this log, and not of one that the session had before.
    pub fn is_of(&self, result: &SyncResult) -> bool {
        self.life == result.life
    }

    /// The journal, for what sessions have no opinion on.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The journal, to seal and prune.
    pub fn journal_mut(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// Everything that is written now and not known to be durable.
    pub fn sync_job(&self) -> SyncJob {
        SyncJob { ticket: self.journal.sync_ticket(), life: self.life }
    }

    /// Takes note of the end of a sync.
    pub fn note(&mut self, result: &SyncResult) {
        self.gone |= result.gone;
        if let Some(synced) = &result.synced {
            self.journal.note_synced(synced);
        }
    }

    /// Whether a segment is being sealed: the log will soon be smaller than it is.
    pub fn is_sealing(&self) -> bool {
        self.is_sealing
    }

    /// What is to be done to seal the oldest segment that is full and durable; `None` if there is none, or another is
    /// being sealed.
    pub fn seal_job(&mut self) -> Option<SealJob> {
        if self.is_sealing {
            return None;
        }
        let ticket = self.journal.seal_ticket(self.journal.durable())?;
        self.is_sealing = true;
        Some(SealJob { ticket, life: self.life })
    }

    /// Takes note of what a job has done; what is next.
    pub fn note_sealed(&mut self, result: SealResult) -> Option<SealJob> {
        if result.life != self.life {
            result.step.abandon();
            return None;
        }
        match self.journal.seal_step(result.step) {
            Ok(SealProgress::Goes(ticket)) => return Some(SealJob { ticket, life: self.life }),
            Ok(SealProgress::Sealed(_) | SealProgress::Nothing) => self.is_sealing = false,
            Err(error) => {
                self.is_sealing = false;
                warn!(%error, "a full segment stays uncompressed for now");
                return None; // tried again after the next sync
            }
        }
        self.seal_job()
    }

    /// The records from `at` on that can still be read whole.
    fn carried(&self, at: Position) -> Result<Vec<u8>, JournalError> {
        let mut bytes = Vec::new();
        let mut reader = Reader::open(self.journal.storage(), self.journal.dir(), Start::Seq(at.next_seq))?;
        reader.set_end(self.journal.next_seq());
        while bytes.len() < CARRY_BYTES_MAX {
            match reader.read_raw(CARRY_WRITE_BYTES, &mut bytes)? {
                RawRun::Records { .. } => {}
                RawRun::Lost { .. } | RawRun::End => break, // from here on the keeper must send again
            }
        }
        Ok(bytes)
    }

    fn failed(&mut self, error: &JournalError) -> WriteFailure {
        warn!(%error, "a log takes nothing now");
        self.gone |= error.is_gone();
        if matches!(error, JournalError::NoSpace { .. }) { WriteFailure::NoSpace } else { WriteFailure::Storage }
    }

    fn write_carried(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut records = RecordIter::new(rest, self.journal.end());
            let mut len = 0;
            while len < CARRY_WRITE_BYTES {
                match records.next() {
                    Some(record) => len += record?.header.encoded_len(),
                    None => break,
                }
            }
            self.journal.append_encoded(&rest[..len])?;
            rest = &rest[len..];
        }
        Ok(())
    }
}

impl Known for JournalLog {
    fn chain_before(&self, seq: Seq) -> Option<Chain> {
        match self.journal.place_before(seq) {
            Ok(place) => place.map(|place| place.chain),
            Err(error) => {
                warn!(%error, "a log cannot be read");
                None
            }
        }
    }
}

impl Log for JournalLog {
    type Records = [u8];

    fn append(&mut self, records: &[u8], skip: usize) -> Result<(Position, u64), WriteFailure> {
        let mut skipped = 0;
        if skip > 0 {
            // They were checked on arrival; only their lengths are needed here.
            let known = RecordIter::from_first(records).map_err(|_| WriteFailure::Storage)?;
            skipped = known.take(skip).flatten().map(|record| record.header.encoded_len()).sum();
        }
        let fresh = &records[skipped..];
        let appended = self.journal.append_encoded(fresh).map_err(|error| self.failed(&error))?;
        Ok((appended.end, fresh.len() as u64))
    }

    fn append_gap(&mut self, gap: &Gap) -> Result<(Position, u64), WriteFailure> {
        let output_bytes = gap.output_offset_after.saturating_sub(self.journal.output_offset());
        let reason = u32::from(gap.reason.code());
        let info = GapInfo { to: gap.to, output_bytes, reason, chain_after: gap.chain_after };
        let end = self.journal.append_gap(gap.time_us, &info).map_err(|error| self.failed(&error))?;
        Ok((end, shellkeep_journal::RECORD_HEADER_BYTES as u64))
    }

    fn append_grant(&mut self, grant: Grant, attrs: &Attrs) -> Result<bool, WriteFailure> {
        let identity = self.journal.identity();
        let grant = JournalGrant {
            store: identity.store,
            writer: *grant.writer.as_bytes(),
            epoch: grant.epoch,
            attrs: encode_attrs(attrs).ok_or(WriteFailure::Storage)?,
        };
        self.journal.append_grant(grant).map_err(|error| self.failed(&error))?;
        let result = self.sync_job().sync();
        self.note(&result);
        Ok(result.ok)
    }

    fn new_segment(&mut self, at: Position) -> Result<Position, WriteFailure> {
        if self.gone {
            return Err(WriteFailure::Storage); // a segment here would pass for what was lost, or go into nowhere
        }
        let carried = self.carried(at).map_err(|error| self.failed(&error))?;
        // What lies before was proved, by this life or because its keeper gave it away.
        self.journal.assume_durable(at.next_seq.prev());
        self.journal.new_segment_from(at.next_seq).map_err(|error| self.failed(&error))?;
        if let Err(error) = self.write_carried(&carried) {
            // What could not be copied is with the keeper still, which is told where the log ends.
            warn!(%error, "not all records could be copied after a failed sync");
        }
        Ok(self.journal.end())
    }
}

/// Attributes as a journal keeps them; `None` if they are too long.
pub fn encode_attrs(attrs: &Attrs) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    shellkeep_transport::encode_into(attrs, &mut bytes, ATTRS_BYTES_MAX).ok()?;
    Some(bytes)
}

/// Attributes from a journal; empty ones if nobody can read them.
pub fn decode_attrs(bytes: &[u8]) -> Attrs {
    shellkeep_transport::decode(bytes).unwrap_or_else(|error| {
        warn!(%error, "the attributes of a session cannot be read");
        Attrs::default()
    })
}

/// The real disk.
pub fn real_storage() -> Arc<dyn shellkeep_journal::storage::Storage> {
    Arc::new(shellkeep_journal::storage::RealStorage)
}
