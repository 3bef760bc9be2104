//! A keeper's spool as the daemon sees it: held by a living keeper, or abandoned and then read like any journal.
//!
//! Promise: a spool is only read, and only removed, while its lock is ours.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags};
use shellkeep_journal::storage::Storage;
use shellkeep_journal::{
    Chain, Identity, JournalError, Position, RawRun, Reader, RecordIter, Seq, Start, remove_journal, scan_read_only,
};
use shellkeep_protocol::ids::{SessionId, WriterId};
use shellkeep_protocol::query::Failure;
use shellkeep_protocol::resume::Retained;
use shellkeep_protocol::session::{APPEND_BYTES_MAX, GapReason, SessionStart, SpoolAttrs};

use super::adopt::{AbandonedSpool, Batch};
use super::core::Arrived;
use super::journal_log::real_storage;

/// Name of the file whose lock a keeper holds for life.
pub const LOCK_NAME: &str = "lock";

/// How a spool was found.
pub enum SpoolState {
    /// Its keeper lives.
    Held,
    /// There is none any more.
    Gone,
    /// It cannot be read; left as it is.
    Bad(String),
    /// Its keeper is dead, and the lock is ours now.
    Free(Box<OpenSpool>),
}

/// An abandoned spool whose lock is ours.
pub struct OpenSpool {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    session: SessionId,
    attrs: SpoolAttrs,
    writer: WriterId,
    epoch: u32,
    first: Position,
    end: Position,
    buffer: Vec<u8>,
    lock: File,
}

/// Whether a living keeper holds the spool of a session.
pub fn is_held(spools: &Path, session: SessionId) -> bool {
    matches!(lock(&spools.join(session.to_string())), Ok(None))
}

/// Takes the lock: `None` if somebody else has it.
fn lock(directory: &Path) -> std::io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(directory.join(LOCK_NAME), flags, Mode::empty())?);
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The spool that holds records of a session, as somebody who wants it away finds it.
pub(crate) enum Found {
    /// Its keeper lives.
    Held,
    /// There is none.
    None,
    /// Its keeper is dead, and the lock is ours now.
    Free(FreeSpool),
}

/// A spool to be removed, whether or not anybody can read it. Its lock is ours.
pub(crate) struct FreeSpool {
    directory: PathBuf,
    name: SessionId,
    lock: File,
}

impl FreeSpool {
    /// Removes it; returns the bytes that it had.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn remove(self) -> Result<u64, Failure> {
        let freed = super::logs::directory_bytes(&self.directory);
        let parent = self.directory.parent().unwrap_or(Path::new(""));
        let removed = remove_journal(&*real_storage(), parent, &self.name.to_string());
        removed.map_err(|error| Failure::Storage {
            path: self.directory.display().to_string(),
            why: format!("this spool of the session cannot be removed, and would bring it back: {error}"),
        })?;
        drop(self.lock); // not before it is gone
        Ok(freed)
    }
}

/// Finds the spool whose records are of `session`. After a conflict its directory has another session's name.
pub(crate) fn of(spools: &Path, session: SessionId) -> Found {
    for entry in std::fs::read_dir(spools).into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let found = match OpenSpool::open(&entry.path(), name) {
            SpoolState::Held if name == session => return Found::Held,
            SpoolState::Free(spool) if spool.attrs.session == session => Some(spool.lock),
            SpoolState::Bad(_) if name == session => lock(&entry.path()).ok().flatten(),
            _ => None,
        };
        if let Some(lock) = found {
            return Found::Free(FreeSpool { directory: entry.path(), name, lock });
        }
    }
    Found::None
}

/// Removes the spool of this name if its keeper is dead; returns the bytes that it had.
///
/// # Errors
/// If it is held, or cannot be removed.
pub(crate) fn remove_free(spools: &Path, name: SessionId) -> Result<u64, Failure> {
    let directory = spools.join(name.to_string());
    match lock(&directory) {
        Ok(Some(lock)) => FreeSpool { directory, name, lock }.remove(),
        Ok(None) => Err(Failure::StillRunning),
        Err(error) => Err(crate::queries::failed(&directory, &error)),
    }
}

impl OpenSpool {
    /// Looks at the spool in `directory`, which is named after `session`.
    pub fn open(directory: &Path, session: SessionId) -> SpoolState {
        let lock = match lock(directory) {
            Ok(Some(lock)) => lock,
            Ok(None) => return SpoolState::Held,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return SpoolState::Gone,
            Err(error) => return SpoolState::Bad(error.to_string()),
        };
        let storage = real_storage();
        let recovery = match scan_read_only(&*storage, directory) {
            Ok(recovery) => recovery,
            Err(JournalError::NotFound { .. }) => return SpoolState::Gone,
            Err(error) => return SpoolState::Bad(error.to_string()),
        };
        let Some(Identity { writer, epoch, attrs, .. }) = recovery.identity else {
            return SpoolState::Bad("no segment says whose it is".to_owned());
        };
        let attrs: SpoolAttrs = match shellkeep_transport::decode(&attrs) {
            Ok(attrs) => attrs,
            Err(error) => return SpoolState::Bad(error.to_string()),
        };
        SpoolState::Free(Box::new(Self {
            storage,
            directory: directory.to_owned(),
            session,
            attrs,
            writer: WriterId::from_bytes(writer),
            epoch,
            first: recovery.first,
            end: recovery.end,
            buffer: Vec::new(),
            lock,
        }))
    }

    /// The session that its directory is named after.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The full state, as its keeper would say it.
    pub fn start(&self) -> SessionStart {
        SessionStart {
            session: self.attrs.session,
            writer: self.writer,
            epoch_known: self.epoch,
            first_retained: self.first.next_seq,
            chain_before_first: self.first.chain,
            next_seq: self.end.next_seq,
            chain_at_end: self.end.chain,
            attrs: self.attrs.attrs.clone(),
        }
    }

    /// Why records before the first one retained are not there.
    pub fn gap_reason(&self) -> GapReason {
        if self.attrs.attrs.parent.is_some() { GapReason::Forked } else { GapReason::SpoolFull }
    }

    /// The log has other records: what is left goes into a new session.
    pub fn fork(&mut self) {
        self.attrs.attrs.parent = Some(self.attrs.session);
        self.attrs.session = SessionId::new();
        self.epoch = 0;
    }

    /// Removes it: the log has everything.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(self) -> Result<(), JournalError> {
        let parent = self.directory.parent().unwrap_or(Path::new(""));
        remove_journal(&*self.storage, parent, &self.session.to_string())
    }
}

impl Retained for OpenSpool {
    fn first(&self) -> Position {
        self.first
    }

    fn end(&self) -> Position {
        self.end
    }

    fn chain_before(&self, seq: Seq) -> Option<Chain> {
        if seq == self.end.next_seq {
            return Some(self.end.chain);
        }
        if seq == self.first.next_seq {
            return Some(self.first.chain);
        }
        let mut reader = Reader::open(Arc::clone(&self.storage), &self.directory, Start::Seq(seq)).ok()?;
        let mut bytes = Vec::new();
        match reader.read_raw(1, &mut bytes).ok()? {
            RawRun::Records { before, .. } => (before.next_seq == seq).then_some(before.chain),
            RawRun::Lost { .. } | RawRun::End => None,
        }
    }
}

impl AbandonedSpool<[u8]> for OpenSpool {
    fn batch(&mut self, from: Seq) -> Batch<'_, [u8]> {
        self.buffer.clear();
        let opened = Reader::open(Arc::clone(&self.storage), &self.directory, Start::Seq(from));
        let run = opened.and_then(|mut reader| reader.read_raw(APPEND_BYTES_MAX as usize, &mut self.buffer));
        match run {
            Ok(RawRun::Records { before, after }) if before.next_seq == from => {
                let records = RecordIter::new(&self.buffer, before).flatten();
                let arrived = records.map(|r| Arrived { seq: r.header.seq, check: r.header.check }).collect();
                Batch::Records { arrived, prev_chain: before.chain, records: &self.buffer, next: after.next_seq }
            }
            Ok(RawRun::Records { before, .. }) => Batch::Hole(before),
            Ok(RawRun::Lost { after, .. }) => Batch::Hole(after),
            Err(error) if error.is_passing() => Batch::Unreadable,
            Ok(RawRun::End) | Err(_) => Batch::Hole(self.end),
        }
    }
}
