//! Making durable: what is written and not yet synced, and the ticket that syncs it on another thread.
//!
//! Promise: a ticket says at most what was written when it was made; after a failed sync its files are never used again; a
//! ticket from before `new_segment_from` acknowledges nothing. Source: DESIGN, "Append by position".

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chain::Seq;
use crate::error::JournalError;
use crate::segment::{FileKind, HEADER_FIXED_BYTES};
use crate::storage::{OpenMode, Storage, StorageFile, read_full_at, uninterrupted};

use super::{Durability, Journal};

/// Files that may wait for a sync at once. At the bound the writer itself syncs the oldest before it begins another.
const UNSYNCED_FILES_MAX: usize = 16;

/// A file that was written to, shared between the writer and tickets.
#[derive(Debug)]
pub(super) struct WrittenFile {
    file: Arc<dyn StorageFile>,
    path: PathBuf,
    /// Its first bytes, which never change: another content in the same file shows there.
    head: Vec<u8>,
    /// A sync failed: the system may hold for written what it lost.
    distrusted: AtomicBool,
    /// We removed it ourselves: that it has no name is no surprise.
    removed: AtomicBool,
}

impl WrittenFile {
    pub(super) fn new(file: Arc<dyn StorageFile>, path: PathBuf) -> Self {
        // Unreadable, it is found to be changed at the first sync.
        let head = read_head(&*file).unwrap_or_default();
        Self { file, path, head, distrusted: AtomicBool::new(false), removed: AtomicBool::new(false) }
    }

    pub(super) fn for_writing(&self) -> &dyn StorageFile {
        &*self.file
    }

    pub(super) fn for_reading(&self) -> Arc<dyn StorageFile> {
        Arc::clone(&self.file)
    }

    fn is_distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Acquire)
    }

    /// Never again. The mark is for the next process, if this one dies before it could go on elsewhere: to that one the
    /// system would call the next sync of this file a success. Without the mark that is a limit (docs/wire.md, "Limits").
    fn distrust(&self) {
        if !self.distrusted.swap(true, Ordering::AcqRel) {
            _ = uninterrupted(|| self.file.doubt(true));
        }
    }

    /// Refuses a file that has lost its name, or some of the `len` bytes that were written to it.
    pub(super) fn refuse_vanished(&self, len: u64) -> Result<(), JournalError> {
        let stat = uninterrupted(|| self.file.stat()).map_err(|e| JournalError::of(&self.path, "look at", e))?;
        if stat.links > 0 && stat.len >= len {
            return Ok(());
        }
        self.distrust();
        Err(JournalError::Vanished { path: self.path.clone() })
    }

    /// Syncs, and looks whether the file is still what was written.
    fn sync(&self, len: u64) -> Result<(), SyncError> {
        let result = self.sync_once(len);
        if result.is_err() {
            self.distrust();
        }
        result
    }

    fn sync_once(&self, len: u64) -> Result<(), SyncError> {
        if self.is_distrusted() {
            return Err(SyncError::Distrusted { path: self.path.clone() });
        }
        let io = |source| SyncError::Io { path: self.path.clone(), source };
        uninterrupted(|| self.file.sync()).map_err(io)?;
        let stat = uninterrupted(|| self.file.stat()).map_err(io)?;
        if stat.len < len {
            return Err(SyncError::Cut { path: self.path.clone(), len: stat.len, written: len });
        }
        let is_same = read_head(&*self.file).map_err(io)? == self.head;
        let is_there = is_same && uninterrupted(|| self.file.is_at(&self.path)).map_err(io)?;
        if !is_there && !self.removed.load(Ordering::Acquire) {
            return Err(SyncError::Deleted { path: self.path.clone() });
        }
        Ok(())
    }
}

fn read_head(file: &dyn StorageFile) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEADER_FIXED_BYTES];
    let got = read_full_at(file, &mut head, 0)?;
    head.truncate(got);
    Ok(head)
}

/// A file whose last bytes may not be durable.
#[derive(Debug, Clone)]
struct Unsynced {
    ordinal: u32,
    /// `None`: it was found by recovery, and is opened when it is synced.
    file: Option<Arc<WrittenFile>>,
    first_seq: Seq,
    len: u64,
    synced_len: u64,
    /// An earlier life of the journal left its mark: a sync of the file failed.
    doubtful: bool,
    /// This life of the journal began it.
    is_own: bool,
}

impl Unsynced {
    fn is_distrusted(&self) -> bool {
        self.doubtful || self.file.as_ref().is_some_and(|file| file.is_distrusted())
    }
}

/// What a journal knows about its durability.
#[derive(Debug)]
pub(super) struct SyncState {
    /// Ascending; the last is the active one, if there is any.
    files: Vec<Unsynced>,
    /// Counts changes of the directory's names.
    names: u64,
    names_synced: u64,
    /// The journal's own name may not be durable: who made it may have died before it was.
    own_name_unsynced: bool,
    /// Counts `new_segment_from`: a ticket of another generation acknowledges nothing.
    generation: u64,
    durable: Seq,
}

impl SyncState {
    pub(super) fn new(durable: Seq) -> Self {
        Self { files: Vec::new(), names: 0, names_synced: 0, own_name_unsynced: false, generation: 0, durable }
    }

    /// The journal was there already.
    pub(super) fn found_journal(&mut self) {
        self.own_name_unsynced = true;
        self.names += 1;
    }

    /// A file that recovery found and that may hold what was never synced.
    pub(super) fn found_file(&mut self, ordinal: u32, first_seq: Seq, len: u64, doubtful: bool) {
        self.files.push(Unsynced { ordinal, file: None, first_seq, len, synced_len: 0, doubtful, is_own: false });
        self.names += 1;
    }

    /// The last found file is the active one from now on.
    pub(super) fn reopen_last(&mut self, file: &Arc<WrittenFile>, len: u64) {
        if let Some(last) = self.files.last_mut() {
            (last.file, last.len) = (Some(Arc::clone(file)), len);
        }
    }

    /// A file that was made now, and is the active one.
    pub(super) fn begin_file(&mut self, ordinal: u32, file: &Arc<WrittenFile>, len: u64, first_seq: Seq) {
        let file = Some(Arc::clone(file));
        self.files.push(Unsynced { ordinal, file, first_seq, len, synced_len: 0, doubtful: false, is_own: true });
        self.names += 1;
    }

    /// A file that was made and synced, with its name.
    pub(super) fn published(&mut self, ordinal: u32, file: &Arc<WrittenFile>, len: u64) {
        let file = Some(Arc::clone(file));
        let first_seq = Seq::FIRST;
        self.files.push(Unsynced { ordinal, file, first_seq, len, synced_len: len, doubtful: false, is_own: true });
    }

    /// The active file has this length now.
    pub(super) fn wrote(&mut self, len: u64) {
        if let Some(active) = self.files.last_mut() {
            active.len = len;
        }
    }

    pub(super) fn refuse_distrusted(&self) -> Result<(), JournalError> {
        if self.files.iter().any(Unsynced::is_distrusted) { Err(JournalError::Distrusted) } else { Ok(()) }
    }

    /// Syncs the oldest file if too many wait.
    pub(super) fn make_room(&mut self, storage: &dyn Storage, dir: &Path) -> Result<(), JournalError> {
        while self.files.len() >= UNSYNCED_FILES_MAX {
            let oldest = &self.files[0];
            if oldest.synced_len < oldest.len {
                sync_file(storage, dir, oldest).map_err(|error| match error {
                    SyncError::Io { path, source } => JournalError::of(&path, "sync", source),
                    _ => JournalError::Distrusted,
                })?;
                uninterrupted(|| storage.sync_dir(dir)).map_err(|e| JournalError::of(dir, "sync", e))?;
            }
            self.files.remove(0);
        }
        Ok(())
    }

    /// The segment with this ordinal is removed by us, or its content is in another file that is durable.
    pub(super) fn forget(&mut self, ordinal: u32) {
        self.files.retain(|unsynced| {
            if let (true, Some(file)) = (unsynced.ordinal == ordinal, &unsynced.file) {
                file.removed.store(true, Ordering::Release);
            }
            unsynced.ordinal != ordinal
        });
    }

    /// Whether everything in the segment is known to be durable.
    pub(super) fn is_clean(&self, ordinal: u32) -> bool {
        self.files.iter().all(|unsynced| unsynced.ordinal != ordinal || unsynced.synced_len >= unsynced.len)
    }

    /// Whether a ticket has synced at least the segment's header and its name.
    pub(super) fn was_synced(&self, ordinal: u32) -> bool {
        self.files.iter().all(|unsynced| unsynced.ordinal != ordinal || unsynced.synced_len > 0)
    }

    /// Whether going on from `seq` would leave records that are only in files that may not be trusted.
    pub(super) fn may_restart_at(&self, seq: Seq) -> Result<(), JournalError> {
        let durable = self.durable;
        if seq > durable.next() && self.refuse_distrusted().is_err() {
            return Err(JournalError::NotDurable { seq, durable });
        }
        Ok(())
    }

    /// A segment that begins with `seq` was made: what older ones hold from there on is void. Returns those that were
    /// removed.
    pub(super) fn restart_at(&mut self, seq: Seq, ordinal: u32, storage: &dyn Storage, dir: &Path) -> Vec<u32> {
        let mut gone = Vec::new();
        self.generation += 1;
        self.durable = self.durable.min(seq.prev());
        for unsynced in self.files.iter().filter(|unsynced| unsynced.is_distrusted()) {
            // A copy that this life made and never synced, so that a disk that fails every sync is not filled with copies.
            if let Some(file) = unsynced.file.as_ref().filter(|_| unsynced.is_own && unsynced.synced_len == 0)
                && unsynced.first_seq >= seq
            {
                file.removed.store(true, Ordering::Release);
                _ = uninterrupted(|| storage.remove(&file.path)); // what stays is void, and takes space
                gone.push(unsynced.ordinal);
                continue;
            }
            // What of it still counts is durable, so nothing about it is in doubt any more. A mark that stays costs a copy.
            let path = dir.join(FileKind::Plain.name(unsynced.ordinal));
            _ = uninterrupted(|| storage.open(&path, OpenMode::Read)?.doubt(false));
        }
        self.files
            .retain(|unsynced| unsynced.ordinal == ordinal || (!unsynced.is_distrusted() && unsynced.first_seq < seq));
        gone
    }
}

fn sync_file(storage: &dyn Storage, dir: &Path, unsynced: &Unsynced) -> Result<(), SyncError> {
    if let Some(file) = &unsynced.file {
        return file.sync(unsynced.len);
    }
    let path = dir.join(FileKind::Plain.name(unsynced.ordinal));
    if unsynced.doubtful {
        return Err(SyncError::Distrusted { path });
    }
    match uninterrupted(|| storage.open(&path, OpenMode::Read)) {
        Ok(file) => WrittenFile::new(file.into(), path).sync(unsynced.len),
        Err(source) => Err(SyncError::Io { path, source }),
    }
}

/// Why a sync acknowledges nothing.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The system failed; what it holds for written may be lost.
    #[error("{}: sync failed: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is shorter than what was written to it: somebody cut it.
    #[error("{}: has {len} bytes, {written} were written", path.display())]
    Cut {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// Bytes that were written.
        written: u64,
    },
    /// The file is not at its name any more: somebody deleted, moved or replaced it.
    #[error("{}: was deleted or replaced", path.display())]
    Deleted {
        /// Where it was.
        path: PathBuf,
    },
    /// An earlier sync of the file failed.
    #[error("{}: an earlier sync failed", path.display())]
    Distrusted {
        /// The file.
        path: PathBuf,
    },
}

impl SyncError {
    /// Whether what is on disk is not what was written, so that the journal must be opened again, or made anew.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Cut { .. } | Self::Deleted { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Distrusted { .. } => false,
        }
    }
}

/// Everything that was written and not synced when the ticket was made. Sync it on any thread.
#[derive(Debug)]
pub struct SyncTicket {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    files: Vec<Unsynced>,
    sync_names: bool,
    sync_own_name: bool,
    covers: Synced,
}

/// What a sync has made durable; the journal must be told, and says what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    up_to: Seq,
    epoch: u32,
    generation: u64,
    names: u64,
    files: Vec<(u32, u64)>,
}

impl Synced {
    /// The last record that was written when the ticket was made.
    pub fn up_to(&self) -> Seq {
        self.up_to
    }

    /// The epoch that was granted when the ticket was made.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
}

impl SyncTicket {
    /// The last record that will be durable if the sync succeeds.
    pub fn up_to(&self) -> Seq {
        self.covers.up_to
    }

    /// Syncs: files from the oldest to the newest, then their names.
    ///
    /// # Errors
    /// [`SyncError`]: nothing is acknowledged, and the journal takes no more records until `new_segment_from`.
    pub fn sync(self) -> Result<Synced, SyncError> {
        let result = self.sync_all();
        if result.is_err() {
            for file in self.files.iter().filter_map(|unsynced| unsynced.file.as_ref()) {
                file.distrust();
            }
        }
        result.map(|()| self.covers)
    }

    fn sync_all(&self) -> Result<(), SyncError> {
        for unsynced in self.files.iter().filter(|unsynced| unsynced.synced_len < unsynced.len) {
            sync_file(&*self.storage, &self.dir, unsynced)?;
        }
        let parent = self.dir.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        for (dir, wanted) in [(&*self.dir, self.sync_names), (parent, self.sync_own_name)] {
            if wanted {
                let synced = uninterrupted(|| self.storage.sync_dir(dir));
                synced.map_err(|source| SyncError::Io { path: dir.to_owned(), source })?;
            }
        }
        Ok(())
    }
}

impl Journal {
    /// What is needed to make everything durable that is written by now; `None` if it is, or if this journal is never synced.
    pub fn sync_ticket(&self) -> Option<SyncTicket> {
        let syncs = &self.syncs;
        let sync_names = syncs.names != syncs.names_synced;
        let dirty = sync_names || syncs.files.iter().any(|unsynced| unsynced.synced_len < unsynced.len);
        if self.options.durability == Durability::Unsynced || !dirty {
            return None;
        }
        let covers = Synced {
            up_to: self.end.next_seq.prev(),
            epoch: self.identity.epoch,
            generation: syncs.generation,
            names: syncs.names,
            files: syncs.files.iter().map(|unsynced| (unsynced.ordinal, unsynced.len)).collect(),
        };
        let (storage, dir) = (Arc::clone(&self.storage), self.dir.clone());
        let (files, sync_own_name) = (syncs.files.clone(), syncs.own_name_unsynced);
        Some(SyncTicket { storage, dir, files, sync_names, sync_own_name, covers })
    }

    /// Takes note of a sync; returns the last durable record, or `None` if the sync began before the last
    /// `new_segment_from`, so that it acknowledges nothing.
    pub fn note_synced(&mut self, synced: &Synced) -> Option<Seq> {
        let syncs = &mut self.syncs;
        if synced.generation != syncs.generation {
            return None;
        }
        for unsynced in &mut syncs.files {
            let covered = synced.files.iter().find(|(ordinal, _)| *ordinal == unsynced.ordinal);
            unsynced.synced_len = unsynced.synced_len.max(covered.map_or(0, |(_, len)| *len));
        }
        let active = self.segments.last().filter(|_| self.active.is_some()).map(|segment| segment.ordinal);
        syncs.files.retain(|unsynced| Some(unsynced.ordinal) == active || unsynced.synced_len < unsynced.len);
        syncs.names_synced = syncs.names_synced.max(synced.names);
        syncs.own_name_unsynced = false; // every ticket since the start included it
        syncs.durable = syncs.durable.max(synced.up_to);
        Some(syncs.durable)
    }

    /// Takes the writer's word that records up to `up_to` were acknowledged as durable in an earlier life of this journal:
    /// it no longer has them. They stay where they are, even in a file that may not be written to any more.
    pub fn assume_durable(&mut self, up_to: Seq) {
        let known = up_to.min(self.end.next_seq.prev());
        self.syncs.durable = self.syncs.durable.max(known);
    }

    /// Whether an earlier life of this journal ended after a failed sync and before it could go on elsewhere: it takes
    /// nothing until `new_segment_from`, at most one beyond [`Self::durable`].
    pub fn is_doubtful(&self) -> bool {
        self.syncs.files.iter().any(|unsynced| unsynced.doubtful)
    }

    /// The last record that is known to be durable. After `open` only what is in sealed segments, until a ticket has
    /// synced or [`Self::assume_durable`] was called.
    pub fn durable(&self) -> Seq {
        self.syncs.durable
    }

    /// Whether a sync failed, so that the journal takes nothing until `new_segment_from`.
    pub fn is_distrusted(&self) -> bool {
        self.syncs.refuse_distrusted().is_err()
    }
}
