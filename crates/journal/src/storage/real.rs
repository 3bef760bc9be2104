//! The disk of this machine.
//!
//! Promise: nothing opened here is followed through a link, waits in `open`, or is passed on to a child.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};

use super::{DirEntry, FileStat, OpenMode, Storage, StorageFile};

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealStorage;

/// Most entries of one directory that are looked at. A journal has far fewer; a flooded directory costs no memory without end.
const DIR_ENTRIES_MAX: usize = 1 << 20;

impl Storage for RealStorage {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        // NONBLOCK: opening a planted FIFO would otherwise wait for ever. NOCTTY: a planted tty must not become ours.
        let always = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::Write => OFlags::RDWR,
            OpenMode::Create => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        let file = fs::open(path, flags | always, Mode::RUSR | Mode::WUSR)?;
        let stat = fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if mode == OpenMode::Write && stat.st_nlink != 1 {
            // Somebody else's name for the same inode: writing here would write there.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file has other names"));
        }
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(fs::rename(from, to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(fs::unlink(path)?)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        Ok(fs::mkdir(path, Mode::RWXU)?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        Ok(fs::unlinkat(fs::CWD, path, AtFlags::REMOVEDIR)?)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::Dir::read_from(open_dir(path)?)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            if entries.len() == DIR_ENTRIES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the directory has too many entries"));
            }
            entries.push(DirEntry { name: name.to_owned(), is_dir: entry.file_type() == FileType::Directory });
        }
        Ok(entries)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        Ok(fs::fsync(open_dir(path)?)?)
    }
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(fs::open(path, flags, Mode::empty())?)
}

#[derive(Debug)]
struct RealFile(OwnedFd);

impl StorageFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(&self.0, buf, offset)?)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwrite(&self.0, buf, offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fs::fdatasync(&self.0)?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(fs::ftruncate(&self.0, len)?)
    }

    #[allow(clippy::useless_conversion)] // the width of `st_nlink` depends on the machine
    fn stat(&self) -> io::Result<FileStat> {
        let stat = fs::fstat(&self.0)?;
        // A negative length cannot be; as 0 it is seen as a file that was cut.
        Ok(FileStat {
            len: u64::try_from(stat.st_size).unwrap_or(0),
            links: u64::from(stat.st_nlink),
            doubtful: !Mode::from_raw_mode(stat.st_mode).contains(Mode::WUSR),
        })
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let there = match fs::lstat(path) {
            Ok(there) => there,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        let own = fs::fstat(&self.0)?;
        Ok((there.st_dev, there.st_ino) == (own.st_dev, own.st_ino))
    }

    /// The mark is the missing right to write: it stands in the inode, and every tool shows it.
    fn doubt(&self, doubtful: bool) -> io::Result<()> {
        let mode = if doubtful { Mode::RUSR } else { Mode::RUSR | Mode::WUSR };
        Ok(fs::fchmod(&self.0, mode)?)
    }
}
