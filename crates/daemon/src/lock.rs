//! One daemon per user: a lock on a file in the state directory, taken before anything is touched.
//!
//! Promise: it ends with the process, however that ends, and no child inherits it. The socket's path is no lock.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};

/// Looks at a lock file whose holder has not written its id yet, and the pause between two.
const PID_LOOKS_MAX: u32 = 100;
const PID_LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(1);

/// Why this process may not be the daemon.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon runs.
    #[error("another daemon is running{}", .pid.map_or_else(String::new, |pid| format!(" as process {pid}")))]
    Held {
        /// Its process id, if it could be read.
        pid: Option<u32>,
    },
    /// The file cannot be had.
    #[error("cannot lock {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The right to be the daemon, held until dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock and writes this process's id into the file.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process has it; never waits.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let failed = |source: io::Error| LockError::Io { path: path.to_owned(), source };
        let mut file = open(path, OFlags::CREATE).map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held { pid: holder_pid(&mut file) }),
            Err(errno) => return Err(failed(errno.into())),
        }
        // Over the old id, so that a full disk is no hindrance; and rather no id than another process's.
        let line = format!("{}\n", std::process::id());
        let written = file.write_all(line.as_bytes()).and_then(|()| file.set_len(line.len() as u64));
        written.or_else(|_| file.set_len(0)).map_err(failed)?;
        Ok(Self { file })
    }

    /// Process id of the daemon that holds the lock at `path`; `None` if none does.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn holder(path: &Path) -> io::Result<Option<u32>> {
        // Asking makes nothing: not in a directory that nobody has checked yet.
        let mut file = match open(path, OFlags::empty()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(holder_pid(&mut file)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The locked file, so that tests can look at its flags.
    pub fn file(&self) -> &File {
        &self.file
    }
}

fn open(path: &Path, create: OFlags) -> io::Result<File> {
    // NOFOLLOW and NONBLOCK: a link or a FIFO planted here is neither followed nor waited for.
    let flags = create | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// Whoever holds the lock writes its id right after taking it. Until then the file says who had it before: that process
/// is dead, or, worse, its number is another's by now, who must not be taken for the daemon and be signalled.
fn holder_pid(file: &mut File) -> Option<u32> {
    for _ in 0..PID_LOOKS_MAX {
        if let Some(pid) = read_pid(file).filter(|pid| has_open(*pid, file)) {
            return Some(pid);
        }
        std::thread::sleep(PID_LOOK_EVERY);
    }
    None
}

/// Whether a process of this user has the file open.
fn has_open(pid: u32, file: &File) -> bool {
    let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
    let Ok(lock) = file.metadata().map(identity) else { return false };
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| std::fs::metadata(entry.path()).ok()).any(|found| identity(found) == lock)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
