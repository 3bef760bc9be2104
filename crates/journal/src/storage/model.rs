//! A disk in memory that knows what is live and what is durable: the state behind `FaultyStorage`.
//!
//! Promise: between two syncs every unsynced write, cut and name may survive a power loss or not, each by itself; nothing
//! that was synced is lost. Harsher than any file system, so what holds here holds there. No faults are decided here.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

/// Smallest piece that a disk writes in one: unsynced writes may survive in such pieces.
const SECTOR_BYTES: u64 = 512;

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let start = to_usize(*offset);
                if content.len() < start + bytes.len() {
                    content.resize(start + bytes.len(), 0);
                }
                content[start..start + bytes.len()].copy_from_slice(bytes);
            }
            Self::SetLen(len) => content.resize(to_usize(*len), 0),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct FileState {
    pub(super) live: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync.
    pending: Vec<Change>,
    /// Of a sync that failed: the system holds them for written, a later sync does not write them again.
    doomed: Vec<Change>,
    pub(super) links: u64,
    /// Kept by the system until a power loss; after that what is read is what the medium has.
    pub(super) doubtful: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    File(usize),
    Dir(usize),
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(String, Node),
    Unset(String),
    Rename(String, String, Node),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Self::Set(name, node) => _ = names.insert(name.clone(), *node),
            Self::Unset(name) => _ = names.remove(name),
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
struct DirState {
    live: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    pending: Vec<NameChange>,
}

/// Inodes and directories; inode numbers are places in the vectors and are never used again.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) files: Vec<FileState>,
    dirs: Vec<DirState>,
}

impl Disk {
    pub(super) fn new() -> Self {
        Self { files: Vec::new(), dirs: vec![DirState::default()] }
    }

    fn dir(&self, path: &Path) -> io::Result<usize> {
        let mut at = 0;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            match self.dirs[at].live.get(name.to_string_lossy().as_ref()) {
                Some(Node::Dir(dir)) => at = *dir,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Ok(at)
    }

    fn split(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.dir(path.parent().unwrap_or(Path::new("")))?;
        Ok((dir, name.to_string_lossy().into_owned()))
    }

    pub(super) fn lookup(&self, path: &Path) -> io::Result<Node> {
        let (dir, name) = self.split(path)?;
        self.dirs[dir].live.get(&name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, dir: usize, change: NameChange) {
        change.apply(&mut self.dirs[dir].live);
        self.dirs[dir].pending.push(change);
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<usize> {
        let (dir, name) = self.split(path)?;
        if self.dirs[dir].live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.files.push(FileState { links: 1, ..FileState::default() });
        self.change(dir, NameChange::Set(name, Node::File(self.files.len() - 1)));
        Ok(self.files.len() - 1)
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.split(path)?;
        if self.dirs[dir].live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.dirs.push(DirState::default());
        self.change(dir, NameChange::Set(name, Node::Dir(self.dirs.len() - 1)));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, want_dir: bool) -> io::Result<()> {
        let (dir, name) = self.split(path)?;
        match (self.dirs[dir].live.get(&name), want_dir) {
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
            (Some(Node::Dir(_)), false) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), true) => return Err(io::ErrorKind::NotADirectory.into()),
            (Some(Node::Dir(inner)), true) if !self.dirs[*inner].live.is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            (Some(Node::Dir(_)), true) => {}
            (Some(Node::File(file)), false) => self.files[*file].links -= 1,
        }
        self.change(dir, NameChange::Unset(name));
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.lookup(from)?;
        let ((dir, from), (to_dir, to)) = (self.split(from)?, self.split(to)?);
        if dir != to_dir {
            return Err(io::ErrorKind::CrossesDevices.into()); // no journal ever does
        }
        match self.dirs[dir].live.get(&to) {
            Some(Node::File(old)) => self.files[*old].links -= 1,
            Some(Node::Dir(old)) if !self.dirs[*old].live.is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        self.change(dir, NameChange::Rename(from, to, node));
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<(String, Node)>> {
        Ok(self.dirs[self.dir(path)?].live.iter().map(|(name, node)| (name.clone(), *node)).collect())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.dir(path)?;
        let dir = &mut self.dirs[dir];
        for change in std::mem::take(&mut dir.pending) {
            change.apply(&mut dir.durable);
        }
        Ok(())
    }

    pub(super) fn write(&mut self, file: usize, change: Change) {
        let file = &mut self.files[file];
        change.apply(&mut file.live);
        file.pending.push(change);
    }

    pub(super) fn sync_file(&mut self, file: usize) {
        let file = &mut self.files[file];
        for change in std::mem::take(&mut file.pending) {
            change.apply(&mut file.durable);
        }
    }

    /// What Linux does when a write-back fails: reports once, and holds the pages for clean from then on.
    pub(super) fn fail_sync(&mut self, file: usize) {
        let file = &mut self.files[file];
        file.doomed.append(&mut file.pending);
    }

    /// Bytes that all reachable files hold.
    pub(super) fn used(&self) -> u64 {
        self.files.iter().filter(|file| file.links > 0).map(|file| file.live.len() as u64).sum()
    }

    /// The disk after a power loss: what was durable, and of the rest whatever chance keeps.
    pub(super) fn after_power_loss(&self, random: &mut fastrand::Rng) -> Self {
        let mut disk = self.clone();
        for file in &mut disk.files {
            let mut content = std::mem::take(&mut file.durable);
            let kept = random.u8(0..4);
            let pending = std::mem::take(&mut file.pending);
            for change in std::mem::take(&mut file.doomed).iter().chain(&pending) {
                match kept {
                    0 => {}
                    1 => change.apply(&mut content),
                    _ => apply_part(change, &mut content, random),
                }
            }
            *file = FileState { live: content.clone(), durable: content, links: 0, ..FileState::default() };
        }
        for dir in &mut disk.dirs {
            let mut names = std::mem::take(&mut dir.durable);
            let kept = random.u8(0..4);
            for change in &std::mem::take(&mut dir.pending) {
                if kept == 1 || (kept > 1 && random.bool()) {
                    change.apply(&mut names);
                }
            }
            *dir = DirState { live: names.clone(), durable: names, pending: Vec::new() };
        }
        for dir in &disk.dirs {
            for node in dir.live.values() {
                if let Node::File(file) = node {
                    disk.files[*file].links += 1;
                }
            }
        }
        disk
    }
}

/// Applies nothing, all, a beginning, or some sectors of a change.
fn apply_part(change: &Change, content: &mut Vec<u8>, random: &mut fastrand::Rng) {
    let Change::Write { offset, bytes } = change else {
        if random.bool() {
            change.apply(content);
        }
        return;
    };
    match random.u8(0..4) {
        0 => {}
        1 => change.apply(content),
        2 => {
            let bytes = bytes[..random.usize(0..=bytes.len())].to_vec();
            Change::Write { offset: *offset, bytes }.apply(content);
        }
        _ => {
            let (mut at, end) = (*offset, offset + bytes.len() as u64);
            while at < end {
                let next = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                if random.bool() {
                    let part = bytes[to_usize(at - offset)..to_usize(next - offset)].to_vec();
                    Change::Write { offset: at, bytes: part }.apply(content);
                }
                at = next;
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // content of a test, in memory
pub(super) fn to_usize(value: u64) -> usize {
    value as usize
}
