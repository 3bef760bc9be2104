//! A disk in memory whose every call can be made to fail, and that can lose power: the faults that tests are made of.
//!
//! Promise: deterministic; the same calls, script and seed give the same disk. No test double of a journal: the real journal
//! runs on it unchanged.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::model::{Change, Disk, Node, to_usize};
use super::{DirEntry, FileStat, OpenMode, Storage, StorageFile};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// What happens to one call instead of its success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Fails with EIO. A failed sync loses what it should have made durable, as Linux does.
    Io,
    /// Fails with ENOSPC; a call that takes no space succeeds.
    NoSpace,
    /// A write takes this part, at most, and reports it; other calls succeed.
    Short(usize),
    /// A write takes this part and then fails with ENOSPC at the next call; other calls succeed.
    ShortThenNoSpace(usize),
    /// Fails with EINTR.
    Interrupted,
}

#[derive(Debug)]
struct State {
    disk: Disk,
    calls: u64,
    syncs: u64,
    faults: BTreeMap<u64, Fault>,
    failing_syncs: BTreeMap<u64, Fault>,
    capacity: Option<u64>,
    dead: bool,
}

/// A disk in memory with separate live and durable state, and with faults by script.
///
/// Clones are the same disk. Calls are counted from 0 over all its files.
#[derive(Debug, Clone)]
pub struct FaultyStorage(Arc<Mutex<State>>);

impl Default for FaultyStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultyStorage {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::with(Disk::new())
    }

    fn with(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(State {
            disk,
            calls: 0,
            syncs: 0,
            faults: BTreeMap::new(),
            failing_syncs: BTreeMap::new(),
            capacity: None,
            dead: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of calls so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Number of syncs of files and directories so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// The call with this number (see [`Self::calls`]) meets `fault`.
    pub fn fail_call(&self, number: u64, fault: Fault) {
        self.state().faults.insert(number, fault);
    }

    /// The sync with this number (see [`Self::syncs`]) meets `fault`.
    pub fn fail_sync(&self, number: u64, fault: Fault) {
        self.state().failing_syncs.insert(number, fault);
    }

    /// No call fails by script any more.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.failing_syncs.clear();
        state.capacity = None;
    }

    /// The disk holds this many bytes of content; what goes beyond meets ENOSPC, a write after the part that fits.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes of content on the disk.
    pub fn used(&self) -> u64 {
        self.state().disk.used()
    }

    /// The disk after a power loss: all that was synced, and of the rest a part that `seed` chooses. This disk is dead
    /// from now on: its files give EIO.
    #[must_use]
    pub fn power_loss(&self, seed: u64) -> Self {
        let mut state = self.state();
        state.dead = true;
        Self::with(state.disk.after_power_loss(&mut fastrand::Rng::with_seed(seed)))
    }

    /// A copy of the disk as it is live now: what a process that was killed leaves behind. Faults are not copied.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self::with(self.state().disk.clone())
    }

    /// The content of a file; `None` if there is none.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        match state.disk.lookup(path) {
            Ok(Node::File(file)) => Some(state.disk.files[file].live.clone()),
            _ => None,
        }
    }

    /// Replaces a file's content, live and unsynced, past every fault; makes the file if there is none. Says whether it could.
    pub fn set_content(&self, path: &Path, content: &[u8]) -> bool {
        let mut state = self.state();
        let file = match state.disk.lookup(path) {
            Ok(Node::File(file)) => file,
            Ok(Node::Dir(_)) => return false,
            Err(_) => match state.disk.create_file(path) {
                Ok(file) => file,
                Err(_) => return false,
            },
        };
        state.disk.write(file, Change::SetLen(0));
        state.disk.write(file, Change::Write { offset: 0, bytes: content.to_vec() });
        true
    }
}

impl State {
    /// Counts a call and says how it must fail. Short writes come back as `Ok(Some(fault))`.
    fn begin(&mut self) -> io::Result<Option<Fault>> {
        let number = self.calls;
        self.calls += 1;
        if self.dead {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        match self.faults.get(&number).copied() {
            Some(Fault::Io) => Err(io::Error::from_raw_os_error(EIO)),
            Some(Fault::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
            other => Ok(other),
        }
    }

    /// Counts a call that takes space.
    fn begin_growing(&mut self) -> io::Result<Option<Fault>> {
        match self.begin()? {
            Some(Fault::NoSpace) => Err(io::Error::from_raw_os_error(ENOSPC)),
            _ if self.capacity.is_some_and(|capacity| self.disk.used() >= capacity) => {
                Err(io::Error::from_raw_os_error(ENOSPC))
            }
            other => Ok(other),
        }
    }

    fn begin_sync(&mut self) -> io::Result<()> {
        let number = self.syncs;
        self.syncs += 1;
        self.begin()?;
        match self.failing_syncs.get(&number) {
            Some(Fault::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
            Some(Fault::NoSpace) => Err(io::Error::from_raw_os_error(ENOSPC)),
            Some(Fault::Io) => Err(io::Error::from_raw_os_error(EIO)),
            _ => Ok(()),
        }
    }
}

impl Storage for FaultyStorage {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.state();
        let file = if mode == OpenMode::Create {
            state.begin_growing()?;
            state.disk.create_file(path)?
        } else {
            state.begin()?;
            match state.disk.lookup(path)? {
                Node::File(file) => file,
                Node::Dir(_) => return Err(io::ErrorKind::IsADirectory.into()),
            }
        };
        Ok(Box::new(FaultyFile { state: Arc::clone(&self.0), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin()?;
        state.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin()?;
        state.disk.remove(path, false)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin_growing()?;
        state.disk.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin()?;
        state.disk.remove(path, true)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state();
        state.begin()?;
        let entries = state.disk.list(path)?;
        Ok(entries.into_iter().map(|(name, node)| DirEntry { name, is_dir: matches!(node, Node::Dir(_)) }).collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin_sync()?;
        state.disk.sync_dir(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    state: Arc<Mutex<State>>,
    file: usize,
}

impl FaultyFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state();
        let fault = state.begin()?;
        let content = &state.disk.files[self.file].live;
        let from = to_usize(offset).min(content.len());
        let mut len = buf.len().min(content.len() - from);
        if let Some(Fault::Short(most)) = fault {
            len = len.min(most.max(1));
        }
        buf[..len].copy_from_slice(&content[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state();
        let mut taken = buf.len();
        match state.begin()? {
            Some(Fault::NoSpace) => return Err(io::Error::from_raw_os_error(ENOSPC)),
            Some(Fault::Short(most)) => taken = taken.min(most),
            Some(Fault::ShortThenNoSpace(most)) => {
                taken = taken.min(most);
                let next = state.calls;
                state.faults.insert(next, Fault::NoSpace);
            }
            _ => {}
        }
        let len = state.disk.files[self.file].live.len() as u64;
        let grown = (offset + taken as u64).saturating_sub(len);
        let free = state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.disk.used()));
        if grown > free {
            taken -= to_usize(grown - free).min(taken);
            if taken == 0 {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
        }
        state.disk.write(self.file, Change::Write { offset, bytes: buf[..taken].to_vec() });
        Ok(taken)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        let result = state.begin_sync();
        match &result {
            Ok(()) => state.disk.sync_file(self.file),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => state.disk.fail_sync(self.file),
        }
        result
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.begin()?;
        state.disk.write(self.file, Change::SetLen(len));
        Ok(())
    }

    fn stat(&self) -> io::Result<FileStat> {
        let mut state = self.state();
        state.begin()?;
        let file = &state.disk.files[self.file];
        Ok(FileStat { len: file.live.len() as u64, links: file.links, doubtful: file.doubtful })
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.begin()?;
        Ok(matches!(state.disk.lookup(path), Ok(Node::File(file)) if file == self.file))
    }

    fn doubt(&self, doubtful: bool) -> io::Result<()> {
        let mut state = self.state();
        state.begin()?;
        state.disk.files[self.file].doubtful = doubtful;
        Ok(())
    }
}
