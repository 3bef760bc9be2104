//! The disk as a journal sees it: a small trait, the real one behind it, and one with faults for tests.
//!
//! Promise: a short write and EINTR are retried at the right offset, once, here. Refuses to know the format.

mod faulty;
mod model;
mod real;

use std::fmt;
use std::io;
use std::path::Path;

pub use faulty::{Fault, FaultyStorage};
pub use real::RealStorage;

/// How often in a row EINTR, or a call that moves no byte, is retried before it is reported.
const RETRIES_MAX: u32 = 100;

/// How a file is opened. Symbolic links are never followed and nothing but a regular file is ever opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// To read.
    Read,
    /// To read and write; it must exist and have one name only.
    Write,
    /// To read and write; it must not exist. Made with mode 0600.
    Create,
}

/// What a file's inode says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Length in bytes.
    pub len: u64,
    /// Number of names; 0 means deleted under us.
    pub links: u64,
    /// Marked by [`StorageFile::doubt`].
    pub doubtful: bool,
}

/// Something in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name; names that are no UTF-8 are left out, no file of a journal has one.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Directories and files. Paths are absolute or relative to the working directory, as with the system.
///
/// Errors are those of the system, with their `raw_os_error`, so that ENOSPC and EIO can be told apart.
#[allow(clippy::missing_errors_doc)] // each one: the system's error, see above
pub trait Storage: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StorageFile>>;
    /// Gives a file or directory a new name in one step; a file at the new name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name. Open handles stay usable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory with mode 0700; it must not exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// What is in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// An open regular file. Closing is dropping; it reports nothing, so whoever needs to know calls `sync`.
#[allow(clippy::missing_errors_doc)] // each one: the system's error
pub trait StorageFile: Send + Sync + fmt::Debug {
    /// Reads at `offset`; may give less than asked, and 0 only at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at `offset`; may take less than given.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes content and length durable. After an error this handle must not be trusted again: the system forgets.
    fn sync(&self) -> io::Result<()>;
    /// Cuts or extends with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length, number of names, and the mark.
    fn stat(&self) -> io::Result<FileStat>;
    /// Whether `path` names this very file.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
    /// Sets or takes away a mark that outlives this process, though perhaps not a power loss, and that takes no space: a
    /// sync of the file has failed, so a later one that succeeds proves nothing.
    fn doubt(&self, doubtful: bool) -> io::Result<()>;
}

/// Repeats `call` while it is interrupted, at most [`RETRIES_MAX`] times.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut left = RETRIES_MAX;
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && left > 0 => left -= 1,
            result => return result,
        }
    }
}

/// Writes all of `bytes` at `offset`. On error an unknown part of them is written.
pub(crate) fn write_all_at(file: &dyn StorageFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    let mut left = RETRIES_MAX;
    while done < bytes.len() {
        let taken = uninterrupted(|| file.write_at(&bytes[done..], offset + done as u64))?;
        done += taken;
        if taken == 0 {
            if left == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            left -= 1;
        }
    }
    Ok(())
}

/// Reads until `buf` is full or the file ends; returns how much there was.
pub(crate) fn read_full_at(file: &dyn StorageFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match uninterrupted(|| file.read_at(&mut buf[done..], offset + done as u64))? {
            0 => break,
            got => done += got,
        }
    }
    Ok(done)
}

/// Whether there is no space: nothing is wrong with the file, the same write may succeed later.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    // A file that may not grow (`ulimit -f`) is as full as a disk.
    let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
    kinds.contains(&error.kind())
}
