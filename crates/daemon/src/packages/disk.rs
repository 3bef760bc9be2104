//! Every call to the file system that an operation on packages makes, behind one small trait.
//!
//! Promise: an operation changes the disk through [`Disk`] alone, so that a test can end it, or fail it, at each of its steps. Reading an
//! archive or a directory that the user named, and downloads without a name, are no steps: they leave nothing behind.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use rustix::fs::CWD;

/// What lies in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name; what is no UTF-8 is none of ours, and is kept apart by its lossy name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is; a link is not followed.
    pub kind: Kind,
}

impl Found {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }
}

/// What something in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file, with its permissions.
    File {
        /// The twelve bits.
        mode: u32,
    },
    /// A symlink.
    Link,
    /// Anything else.
    Other,
}

/// The steps. Paths are absolute; none of the calls follows a link at its path's end.
pub trait Disk: Debug + Send + Sync {
    /// Makes a directory, mode 0700.
    ///
    /// # Errors
    /// The system's; also if it is there.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a file that is not there yet, mode 0600, to be written.
    ///
    /// # Errors
    /// The system's; also if it is there.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all bytes at the end.
    ///
    /// # Errors
    /// The system's; some may be written then.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()>;
    /// Waits until the file is on the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Waits until a directory's names are on the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Waits until all of the file system that has `path` is on the disk: for many files at once.
    ///
    /// # Errors
    /// The system's.
    fn sync_fs(&self, path: &Path) -> io::Result<()>;
    /// Sets the permissions of a file or directory.
    ///
    /// # Errors
    /// The system's.
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Makes a symlink at `path`.
    ///
    /// # Errors
    /// The system's; also if something is there.
    fn link(&self, target: &Path, path: &Path) -> io::Result<()>;
    /// Moves, over what is there.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Puts each of two directories in the place of the other, both of which are there at each moment.
    ///
    /// # Errors
    /// The system's; also of file systems that cannot do that.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;
    /// Removes a file or link.
    ///
    /// # Errors
    /// The system's.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    ///
    /// # Errors
    /// The system's.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// All of a file, which may have `bytes_max` at the most.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::FileTooLarge`] beyond that.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>>;
    /// Where a symlink leads.
    ///
    /// # Errors
    /// The system's.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;
    /// What lies in a directory, by name.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, path: &Path) -> io::Result<Vec<Found>>;
}

/// What lies in a directory of ours.
///
/// # Errors
/// The system's; also if somebody has put a link in its place: what lies behind that is not ours, and must not be tidied up.
pub(super) fn list_own(disk: &dyn Disk, path: &Path) -> io::Result<Vec<Found>> {
    if disk.read_link(path).is_ok() {
        return Err(io::Error::other("it is a link, and what lies behind it is not ours"));
    }
    disk.list(path)
}

/// The real one.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        File::options().write(true).create_new(true).mode(0o600).open(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_fs(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        return Ok(rustix::fs::renameat_with(CWD, one, CWD, other, rustix::fs::RenameFlags::EXCHANGE)?);
        #[cfg(not(target_os = "linux"))]
        return Err(io::ErrorKind::Unsupported.into());
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Found>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let meta = entry.metadata()?; // of the link itself
            let kind = match meta.file_type() {
                kind if kind.is_dir() => Kind::Directory,
                kind if kind.is_file() => Kind::File { mode: meta.permissions().mode() & 0o7777 },
                kind if kind.is_symlink() => Kind::Link,
                _ => Kind::Other,
            };
            all.push(Found { name: entry.file_name().to_string_lossy().into_owned(), path: entry.path(), kind });
        }
        all.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(all)
    }
}

/// Opens a regular file to read it: neither through a link nor waiting for a FIFO's writer.
///
/// # Errors
/// The system's; [`io::ErrorKind::InvalidInput`] if it is no regular file.
pub(super) fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::LOOP | Errno::NXIO) => return Err(no_file()), // a link; a socket
        opened => File::from(opened?),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}
