//! Binding a listener to a path: aside first, then moved into place whole.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, RenameFlags, Stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::address::Place;
use super::connect::{ConnectError, connect_to};
use super::credentials::own_uid;

/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`. Beyond it connecting fails
/// with "try again", which our clients do.
const BACKLOG: i32 = 4096;
/// Rounds of looking and moving before another process that keeps changing the path wins.
const SETTLE_ROUNDS_MAX: u32 = 4;
/// Mode of a socket: its owner only.
const SOCKET_MODE: u32 = 0o600;

/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A live server listens at the path.
    #[error("another server listens at {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a dead socket of ours is at the path. It was left alone.
    #[error("{} is {kind}, and was left alone", path.display())]
    Foreign {
        /// The object.
        path: PathBuf,
        /// What it is.
        kind: ForeignKind,
    },
    /// The directory belongs to another user or is open to others, who could replace the socket.
    #[error("the directory of {} is not private (owner {uid}, mode {mode:03o})", path.display())]
    NotPrivate {
        /// The socket.
        path: PathBuf,
        /// Owner of the directory.
        uid: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// The file name is too long for a socket, even through a directory descriptor.
    #[error("the file name of {} is too long for a socket", path.display())]
    NameTooLong {
        /// The socket.
        path: PathBuf,
    },
    /// A failure of the system.
    #[error("failed to {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// What is in the way of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, wherever it leads.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket of another user, or one that is no stream of connections.
    Socket,
    /// A device.
    Other,
}

impl std::fmt::Display for ForeignKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a foreign socket",
            Self::Other => "a foreign object",
        })
    }
}

/// A listening socket, and its file if it is ours to keep.
#[derive(Debug)]
pub struct BoundSocket {
    // Before the listener: while that is open no new file can get its inode's number, so that unlinking stays safe.
    file: Option<SocketFile>,
    listener: UnixListener,
}

impl BoundSocket {
    /// A listener that somebody else has bound (socket activation). It is never bound, renamed or unlinked.
    pub fn inherited(listener: UnixListener) -> Self {
        let file = None;
        Self { file, listener }
    }

    /// The listener. It is non-blocking if [`bind`] made it.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// The file at the path; `None` of an inherited listener.
    pub fn file(&self) -> Option<&SocketFile> {
        self.file.as_ref()
    }

    /// Whether clients still find this listener at its path. An inherited one is its owner's to judge: true.
    pub fn still_bound(&self) -> bool {
        self.file.as_ref().is_none_or(SocketFile::still_bound)
    }

    /// The two parts. Drop the file first: it is unlinked then.
    pub fn into_parts(self) -> (Option<SocketFile>, UnixListener) {
        (self.file, self.listener)
    }
}

/// The file of a bound socket. Unlinked on drop, if it is still the same one.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    name: OsString,
    dir: OwnedFd,
    identity: Identity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Where it was bound.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of its inode.
    pub fn inode(&self) -> u64 {
        self.identity.inode
    }

    /// Whether the path still leads to this file. One `lstat`.
    pub fn still_bound(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|found| {
            let (device, inode) = (found.dev(), found.ino());
            self.identity == Identity { device, inode }
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        if found.is_ok_and(|found| identity(&found) == self.identity) {
            // No call unlinks "only this inode"; whoever takes the path over does so under the daemon's lock.
            let _ = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
        }
    }
}

/// Makes a directory for sockets: mode 0700 from the start. One that exists must be ours and private.
///
/// # Errors
/// [`BindError::NotPrivate`], or [`BindError::Io`] if it cannot be made or is no directory (a link is none).
pub fn create_private_dir(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Io { action: "create", path: path.to_owned(), source };
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let found = std::fs::symlink_metadata(path).map_err(failed)?;
    if !found.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    private(path, found.uid(), found.mode())
}

/// Listens at `path`, in a directory that must be ours and private (0700). A dead socket of ours is replaced.
///
/// The socket is made aside and renamed into place when it listens, so that whoever finds it can connect. Killed in
/// between, a hidden file `.NAME.PID-N` is left beside it, which nobody connects to ([`super::remove_dead`] is for those).
///
/// # Errors
/// See [`BindError`]. Whatever was at the path is still there.
pub fn bind(path: &Path) -> Result<BoundSocket, BindError> {
    let attempt = Attempt {
        place: Place::open(path).map_err(|source| BindError::Io {
            action: "open the directory of",
            path: path.to_owned(),
            source,
        })?,
        aside: aside_name(path),
    };
    attempt.check_directory()?;
    attempt.check_target()?; // before anything is made: most failures are seen here
    let listener = attempt.bind_aside()?;
    let identity = attempt.finish(&listener).inspect_err(|_| attempt.discard())?;
    let Place { path, name, dir } = attempt.place;
    let file = Some(SocketFile { path, name, dir, identity });
    Ok(BoundSocket { file, listener })
}

/// One try to bind.
struct Attempt {
    place: Place,
    aside: OsString,
}

enum Target {
    Free,
    Stale(Identity),
}

impl Attempt {
    fn check_directory(&self) -> Result<(), BindError> {
        let found =
            rustix::fs::fstat(&self.place.dir).map_err(|error| self.failed("inspect the directory of", error))?;
        private(&self.place.path, found.st_uid, found.st_mode)
    }

    /// What is at the path, if it may be replaced.
    fn check_target(&self) -> Result<Target, BindError> {
        let found = match rustix::fs::statat(&self.place.dir, &self.place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(Target::Free),
            Err(error) => return Err(self.failed("inspect", error)),
        };
        let foreign = |kind| BindError::Foreign { path: self.place.path.clone(), kind };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Socket if found.st_uid == own_uid() => {}
            kind => return Err(foreign(foreign_kind(kind))),
        }
        let address = self.address(&self.place.name)?;
        match connect_to(&address) {
            Err(ConnectError::Refused) => Ok(Target::Stale(identity(&found))),
            Err(ConnectError::NotFound) => Ok(Target::Free),
            // A full queue belongs to a living server, if perhaps a stopped one.
            Ok(_) | Err(ConnectError::Busy) => Err(BindError::InUse { path: self.place.path.clone() }),
            Err(_) => Err(foreign(ForeignKind::Socket)), // not a stream: nothing that we ever bound
        }
    }

    fn bind_aside(&self) -> Result<UnixListener, BindError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| self.failed("make a socket for", error))?;
        // bind gives the file the socket's own mode, less the umask; setting it before leaves no moment with another.
        // (The umask belongs to the whole process and cannot be changed safely beside other threads.)
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(SOCKET_MODE)).map_err(|error| self.failed("protect", error))?;
        rustix::net::bind(&socket, &self.address(&self.aside)?).map_err(|error| self.failed("bind", error))?;
        Ok(socket.into())
    }

    fn finish(&self, listener: &UnixListener) -> Result<Identity, BindError> {
        rustix::net::listen(listener, BACKLOG).map_err(|error| self.failed("listen at", error))?;
        let made = rustix::fs::statat(&self.place.dir, &self.aside, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.failed("inspect", error))?;
        self.move_into_place()?;
        Ok(identity(&made))
    }

    /// Takes away what was made aside.
    fn discard(&self) {
        let _ = rustix::fs::unlinkat(&self.place.dir, &self.aside, AtFlags::empty());
    }

    /// Moves the listening socket to its path, without ever destroying what was not looked at.
    fn move_into_place(&self) -> Result<(), BindError> {
        for _ in 0..SETTLE_ROUNDS_MAX {
            let moved = match self.check_target()? {
                Target::Free => self.rename(RenameFlags::NOREPLACE),
                Target::Stale(seen) => self.exchange(seen),
            };
            match moved {
                Ok(true) => return Ok(()),
                Ok(false) | Err(Errno::EXIST | Errno::NOENT) => {} // it has changed since: look again
                Err(error) => return Err(self.failed("rename into place", error)),
            }
        }
        Err(BindError::InUse { path: self.place.path.clone() })
    }

    /// Swaps the dead socket for ours, and back if it was another one by then.
    fn exchange(&self, seen: Identity) -> Result<bool, Errno> {
        match self.rename(RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS) => return self.rename(RenameFlags::empty()), // the file system cannot
            moved => moved?,
        };
        let taken = rustix::fs::statat(&self.place.dir, &self.aside, AtFlags::SYMLINK_NOFOLLOW)?;
        if identity(&taken) == seen {
            rustix::fs::unlinkat(&self.place.dir, &self.aside, AtFlags::empty())?;
            return Ok(true);
        }
        self.rename(RenameFlags::EXCHANGE)?;
        Ok(false)
    }

    fn rename(&self, flags: RenameFlags) -> Result<bool, Errno> {
        let dir = &self.place.dir;
        rustix::fs::renameat_with(dir, &self.aside, dir, &self.place.name, flags).map(|()| true)
    }

    fn address(&self, name: &std::ffi::OsStr) -> Result<rustix::net::SocketAddrUnix, BindError> {
        self.place.address(name).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidFilename => BindError::NameTooLong { path: self.place.path.clone() },
            _ => self.failed("address", source),
        })
    }

    fn failed(&self, action: &'static str, source: impl Into<io::Error>) -> BindError {
        BindError::Io { action, path: self.place.path.clone(), source: source.into() }
    }
}

fn private(path: &Path, uid: u32, mode: u32) -> Result<(), BindError> {
    let mode = mode & 0o777;
    if uid == own_uid() && mode & OTHERS == 0 {
        return Ok(());
    }
    let path = path.to_owned();
    Err(BindError::NotPrivate { path, uid, mode })
}

fn identity(found: &Stat) -> Identity {
    Identity { device: found.st_dev, inode: found.st_ino }
}

fn foreign_kind(kind: FileType) -> ForeignKind {
    match kind {
        FileType::RegularFile => ForeignKind::File,
        FileType::Directory => ForeignKind::Directory,
        FileType::Symlink => ForeignKind::Symlink,
        FileType::Fifo => ForeignKind::Fifo,
        FileType::Socket => ForeignKind::Socket,
        _ => ForeignKind::Other,
    }
}

/// A name that no other attempt uses: this process's number, and a count within it.
fn aside_name(path: &Path) -> OsString {
    static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
    let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    let mut aside = OsString::from(".");
    aside.push(path.file_name().unwrap_or_default());
    aside.push(format!(".{}-{attempt}", std::process::id()));
    aside
}
