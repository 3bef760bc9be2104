//! A socket's path split into a directory that is held open and a name in it, and the address made of both.
//!
//! An address holds 108 bytes. A longer path is reached through the directory's descriptor instead, and the same
//! descriptor serves every other step, so that no step can end up in another directory of the same name.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::SocketAddrUnix;

/// Bytes of a path in `sockaddr_un`, one of them for the end. Source: unix(7).
const ADDRESS_BYTES_MAX: usize = 107;

/// Where a socket is, or shall be.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) name: OsString,
    pub(crate) dir: OwnedFd,
}

impl Place {
    /// Opens the directory of `path`.
    ///
    /// # Errors
    /// Of open, or `InvalidInput` if the path has no file name.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(directory_of(path), flags, Mode::empty())?;
        let path = path.to_owned();
        Ok(Self { path, name, dir })
    }

    /// The address of `name` in this directory: its path if that fits, else through the descriptor.
    ///
    /// # Errors
    /// `InvalidFilename` if even that is too long (a name of more than about 85 bytes).
    pub(crate) fn address(&self, name: &OsStr) -> io::Result<SocketAddrUnix> {
        let direct = self.path.with_file_name(name);
        let through = || Path::new("/proc/self/fd").join(self.dir.as_raw_fd().to_string()).join(name);
        let address = if direct.as_os_str().as_bytes().len() <= ADDRESS_BYTES_MAX { direct } else { through() };
        if address.as_os_str().as_bytes().len() > ADDRESS_BYTES_MAX {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        Ok(SocketAddrUnix::new(&address)?)
    }
}

/// The directory that holds `path`; of a bare name, the current one.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
