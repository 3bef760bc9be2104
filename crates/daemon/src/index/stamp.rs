//! How the index's file is told from another one, and from what somebody has left of it.
//!
//! Promises that a file that was deleted, replaced or cut is found out without opening it: `SQLite` takes an empty one for a
//! new one, in which nothing was ever recorded. Does not see what was overwritten; `SQLite` does.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::store::{FILE, PAGE_BYTES, file_in};

/// What tells the file from another one, and from what somebody has left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes_min: u64,
}

impl Stamp {
    /// Of the file that is there and open, if it is: what is in it may still be beside it.
    pub(super) fn of_open(directory: &Path) -> Option<Self> {
        let found = std::fs::symlink_metadata(file_in(directory)).ok()?;
        Some(Self { device: found.dev(), inode: found.ino(), bytes_min: PAGE_BYTES })
    }

    /// The same file, closed now: as long as it is from here on, unless a reader holds back what is beside it.
    pub(super) fn closed(self, directory: &Path) -> Self {
        let beside = std::fs::symlink_metadata(directory.join(format!("{FILE}-wal")));
        let is_all = beside.map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |found| found.len() == 0);
        match std::fs::symlink_metadata(file_in(directory)) {
            Ok(found) if is_all && self.is_of(&found) => Self { bytes_min: found.len(), ..self },
            _ => self,
        }
    }

    /// Whether the file is still there, and nothing was cut off.
    pub(super) fn is_there(&self, directory: &Path) -> bool {
        std::fs::symlink_metadata(file_in(directory)).is_ok_and(|found| self.is_of(&found))
    }

    fn is_of(&self, found: &std::fs::Metadata) -> bool {
        (found.dev(), found.ino()) == (self.device, self.inode) && found.len() >= self.bytes_min
    }
}
