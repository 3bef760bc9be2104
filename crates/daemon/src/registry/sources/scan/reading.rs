//! One file, one directory: from a path to what is there, within the limits.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use super::super::beneath::{Refusal, path_of};
use super::{Scan, SourceFile};

/// Entries of one directory. A larger directory is left out as a whole: no part of it would be the same each time.
const DIRECTORY_ENTRIES_MAX: usize = 20_000;

impl Scan<'_> {
    /// `asked` is the same path as it was written: what is before a `..` may be a link, and then the two differ.
    pub(super) fn read(&mut self, relative: &Path, asked: &Path, bytes_max: usize) -> Result<SourceFile, Refusal> {
        let (fd, kind) = self.beneath.open(relative)?;
        if kind != FileType::RegularFile {
            return Err(if kind == FileType::Directory {
                Refusal::Absent
            } else {
                Refusal::Other("it is no file".to_owned())
            });
        }
        let stat = rustix::fs::fstat(&fd).map_err(|error| Refusal::Other(error.to_string()))?;
        if asked != relative {
            let is_same = self.beneath.open(asked).ok().and_then(|(fd, _)| rustix::fs::fstat(&fd).ok());
            if is_same.map(|other| (other.st_dev, other.st_ino)) != Some((stat.st_dev, stat.st_ino)) {
                return Err(Refusal::Other("what is before a .. in its path is a link".to_owned()));
            }
        }
        if self.is_late(relative) {
            return Err(Refusal::Limit("there was no time to read it"));
        }
        if self.files == 0 {
            self.slice.complete = false;
            if !self.is_out_of_files {
                self.is_out_of_files = true;
                self.lost(relative, None, "is not read, nor what follows: too many files");
            }
            return Err(Refusal::Limit("there are too many files to read it"));
        }
        self.files -= 1;
        self.budget.files = self.budget.files.saturating_sub(1);
        let bytes = content(&fd, bytes_max as u64)?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let text = if text.contains('\r') { text.replace("\r\n", "\n").into() } else { text.into() };
        Ok(SourceFile {
            path: self.base.join(relative),
            relative: relative.to_owned(),
            text,
            bytes: bytes.into(),
            executable: stat.st_mode & 0o111 != 0,
        })
    }

    pub(super) fn names_in(&mut self, relative: &Path) -> Result<Vec<(String, FileType)>, Refusal> {
        let (fd, kind) = self.beneath.open(relative)?;
        if kind != FileType::Directory {
            return Err(Refusal::Absent);
        }
        let other = |error: io::Error| Refusal::Other(error.to_string());
        let mut names = Vec::new();
        let mut unreadable = 0_usize;
        for entry in fs::read_dir(path_of(&fd)).map_err(other)? {
            let entry = entry.map_err(other)?;
            if names.len() == DIRECTORY_ENTRIES_MAX {
                self.slice.complete = false;
                return Err(Refusal::Other(format!("it has more than {DIRECTORY_ENTRIES_MAX} entries")));
            }
            let kind = entry.file_type().map_err(other)?;
            let kind = match (kind.is_file(), kind.is_dir()) {
                (true, _) => FileType::RegularFile,
                (_, true) => FileType::Directory,
                _ => FileType::Unknown,
            };
            match entry.file_name().into_string() {
                Ok(name) => names.push((name, kind)),
                Err(_) => unreadable += 1,
            }
        }
        if unreadable > 0 {
            self.note(relative, None, format!("{unreadable} names in it are not UTF-8 and are left out"));
        }
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(names)
    }
}

fn content(fd: &OwnedFd, limit: u64) -> Result<Vec<u8>, Refusal> {
    let other = |error: io::Error| Refusal::Other(error.to_string());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = rustix::fs::open(path_of(fd), flags, Mode::empty()).map_err(|error| other(error.into()))?;
    let mut bytes = Vec::new();
    fs::File::from(opened).take(limit + 1).read_to_end(&mut bytes).map_err(other)?;
    if bytes.len() as u64 > limit {
        return Err(Refusal::Other(format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}
