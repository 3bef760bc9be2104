//! Where a package is put together before it counts: a directory of its own, which the next operation throws away if it is still there.
//!
//! Promise: what leaves here by [`Staging::place`] is whole, read-only and on the disk.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::db::{RECEIPT_BYTES_MAX, Receipt};
use super::disk::Disk;
use super::intake::{RECEIPT, Sink};

/// Files and directories that are synced one by one; with more the whole file system is, once.
const SYNC_EACH_MAX: usize = 64;

const PROGRAM_MODE: u32 = 0o555;
const FILE_MODE: u32 = 0o444;
const DIRECTORY_MODE: u32 = 0o555;
/// A directory that is moved must be writable itself: its `..` changes.
pub(super) const MOVABLE_MODE: u32 = 0o700;

/// A package that is being put together.
#[derive(Debug)]
pub(super) struct Staging<'a> {
    disk: &'a dyn Disk,
    root: PathBuf,
    directories: Vec<PathBuf>,
    open: Option<(File, PathBuf, bool)>,
    files: usize,
}

impl<'a> Staging<'a> {
    /// An empty one at `root`, which must not be there.
    pub(super) fn new(disk: &'a dyn Disk, root: &Path) -> io::Result<Self> {
        disk.make_dir(root)?;
        Ok(Self { disk, root: root.to_owned(), directories: Vec::new(), open: None, files: 0 })
    }

    /// Writes the receipt, makes everything read-only, waits for the disk, and moves it to `to`. Where `is_there` says that something lies
    /// there already, the two change places, so that nobody who looks there misses anything.
    pub(super) fn place(mut self, receipt: &Receipt, to: &Path, is_there: bool) -> io::Result<()> {
        let receipt = serde_json::to_vec(receipt)?;
        if receipt.len() as u64 > RECEIPT_BYTES_MAX {
            let why =
                format!("the list of its files takes more than {RECEIPT_BYTES_MAX} bytes: its paths are too long");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        self.begin(RECEIPT, false)?;
        self.data(&receipt)?;
        self.end()?;
        let one_by_one = self.files + self.directories.len() <= SYNC_EACH_MAX;
        for directory in self.directories.iter().rev() {
            if one_by_one {
                self.disk.sync_dir(directory)?;
            }
            self.disk.set_mode(directory, DIRECTORY_MODE)?;
        }
        if one_by_one {
            self.disk.sync_dir(&self.root)?;
        } else {
            self.disk.sync_fs(&self.root)?;
        }
        if is_there {
            self.disk.set_mode(to, MOVABLE_MODE)?;
            self.exchange(to)?;
        } else {
            self.disk.rename(&self.root, to)?;
        }
        self.disk.set_mode(to, DIRECTORY_MODE)?;
        to.parent().map_or(Ok(()), |store| self.disk.sync_dir(store))
    }
}

impl Staging<'_> {
    /// Where the file system cannot do it, one after the other: what was there then lies beside this.
    fn exchange(&self, to: &Path) -> io::Result<()> {
        match self.disk.exchange(&self.root, to) {
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
                self.disk.rename(to, &self.root.with_extension("before"))?;
                self.disk.rename(&self.root, to)
            }
            done => done,
        }
    }
}

impl Sink for Staging<'_> {
    fn directory(&mut self, path: &str) -> io::Result<()> {
        let at = self.root.join(path);
        self.disk.make_dir(&at)?;
        self.directories.push(at);
        Ok(())
    }

    fn begin(&mut self, path: &str, executable: bool) -> io::Result<()> {
        let at = self.root.join(path);
        self.open = Some((self.disk.create(&at)?, at, executable));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.open {
            Some((file, ..)) => self.disk.write(file, bytes),
            None => Err(io::Error::other("bytes of no file")),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        let Some((file, at, executable)) = self.open.take() else { return Ok(()) };
        self.files += 1;
        self.disk.set_mode(&at, if executable { PROGRAM_MODE } else { FILE_MODE })?;
        if self.files <= SYNC_EACH_MAX { self.disk.sync(&file) } else { Ok(()) }
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.disk.link(Path::new(target), &self.root.join(path))
    }
}
