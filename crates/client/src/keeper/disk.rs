//! The spool's part on disk: a journal of unsynced segments beside a lock that the keeper holds for life.
//!
//! Promises that what is visible under the session's name is locked or free for adoption, and that it never takes more
//! than its bound: the oldest segments go first. Knows no memory and no daemon.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags};
use shellkeep_journal::storage::{RealStorage, Storage};
use shellkeep_journal::{
    Durability, GapInfo, Grant, Identity, Journal, JournalError, NewJournal, Options, Position, RecordKind, Seq,
};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::session::GapReason;

/// Size of a segment. Only whole ones are given back, so this is what an idle session costs at the most.
const SEGMENT_BYTES: u64 = 4 << 20;

/// How to make a spool.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Directory of all spools.
    pub spools: PathBuf,
    /// Whose records these are, and what the session is.
    pub identity: Identity,
    /// Most bytes on disk.
    pub bytes_max: u64,
}

/// Records on disk.
#[derive(Debug)]
pub struct Disk {
    journal: Journal,
    bytes_max: u64,
    /// Number of the first record of each segment, the oldest segment first.
    starts: VecDeque<Seq>,
    /// Held until the process ends; never passed on.
    _lock: OwnedFd,
}

impl Disk {
    /// Makes the spool, empty.
    ///
    /// # Errors
    /// Of the system, mostly `NoSpace`; nothing is left behind that could be adopted.
    pub fn create(plan: &Plan) -> Result<Self, JournalError> {
        let name = SessionId::from_bytes(plan.identity.session).to_string();
        let options = Options { segment_bytes_max: SEGMENT_BYTES, durability: Durability::Unsynced };
        let storage: Arc<dyn Storage> = Arc::new(RealStorage);
        let new = NewJournal::prepare(storage, &plan.spools, &name, plan.identity.clone(), options)?;
        // Before it is visible: a visible spool without a lock would be adopted under us.
        let lock = lock(&new.dir().join("lock"))?;
        let journal = new.publish()?;
        Ok(Self { journal, bytes_max: plan.bytes_max, starts: VecDeque::from([Seq::FIRST]), _lock: lock })
    }

    /// The place behind the newest record.
    pub fn end(&self) -> Position {
        self.journal.end()
    }

    /// The place of the oldest record; equal to the end if there is none.
    pub fn first(&self) -> Position {
        self.journal.first()
    }

    /// The journal's directory, for readers.
    pub fn dir(&self) -> PathBuf {
        self.journal.dir().to_owned()
    }

    /// Numbers and writes one record. True if older ones had to go.
    ///
    /// # Errors
    /// Of the journal; nothing was written then.
    pub fn append(&mut self, kind: RecordKind, time_us: u64, payload: &[u8]) -> Result<bool, JournalError> {
        let filled = self.journal.active_bytes();
        let (seq, _) = self.journal.append(kind, time_us, payload)?;
        Ok(self.appended(filled, seq))
    }

    /// Writes records that have their numbers, up to the next one after them. True if older ones had to go.
    ///
    /// # Errors
    /// Of the journal; nothing was written then.
    pub fn append_encoded(&mut self, records: &[u8]) -> Result<bool, JournalError> {
        let filled = self.journal.active_bytes();
        let first = self.journal.append_encoded(records)?.first_seq;
        Ok(self.appended(filled, first))
    }

    /// States that what would come next, up to `after`, is lost.
    ///
    /// # Errors
    /// Of the journal; nothing was written then.
    pub fn append_gap(&mut self, time_us: u64, after: Position, reason: GapReason) -> Result<(), JournalError> {
        let end = self.end();
        let gap = GapInfo {
            to: after.next_seq.prev(),
            output_bytes: after.output_offset.saturating_sub(end.output_offset),
            reason: u32::from(reason.code()),
            chain_after: after.chain,
        };
        let filled = self.journal.active_bytes();
        self.journal.append_gap(time_us, &gap)?;
        self.appended(filled, end.next_seq);
        Ok(())
    }

    /// Whether an append could push older records out.
    pub fn is_full(&self) -> bool {
        self.journal.bytes_on_disk() + SEGMENT_BYTES > self.bytes_max
    }

    /// Drops whole segments below `below`. What cannot be removed stays until the next time.
    pub fn trim(&mut self, below: Seq) {
        let _stays = self.journal.drop_front(below.prev());
        let first = self.journal.first_retained();
        while self.starts.len() > 1 && self.starts[0] < first {
            self.starts.pop_front();
        }
    }

    /// The chain before `seq`, where it can be told.
    pub fn chain_before(&self, seq: Seq) -> Option<shellkeep_journal::Chain> {
        self.journal.place_before(seq).ok().flatten().map(|place| place.chain)
    }

    /// Removes the spool: everything in it is durable elsewhere.
    pub fn remove(self) {
        // Left for adoption if that fails, which adds nothing then.
        let _stays = self.journal.remove();
    }

    /// Goes on as another session: says so in the journal, for whoever adopts it. The directory keeps its name.
    ///
    /// # Errors
    /// Of the system; then it is still the old session's.
    pub fn fork(&mut self, attrs: Vec<u8>) -> Result<(), JournalError> {
        let Identity { store, writer, .. } = *self.journal.identity();
        self.journal.append_grant(Grant { store, writer, epoch: 0, attrs })
    }

    /// Notices a new segment and keeps the bound.
    fn appended(&mut self, filled_before: u64, first: Seq) -> bool {
        if self.journal.active_bytes() >= filled_before {
            return false;
        }
        self.starts.push_back(first);
        let mut dropped = false;
        while self.journal.bytes_on_disk() + SEGMENT_BYTES > self.bytes_max && self.starts.len() > 1 {
            let before = self.starts.len();
            self.trim(self.starts[1]);
            dropped = true;
            if self.starts.len() == before {
                break; // cannot be removed now
            }
        }
        dropped
    }
}

fn lock(path: &Path) -> Result<OwnedFd, JournalError> {
    let failed =
        |doing| move |errno: rustix::io::Errno| JournalError::Io { path: path.to_owned(), doing, source: errno.into() };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(failed("make"))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(failed("lock"))?;
    Ok(lock)
}
