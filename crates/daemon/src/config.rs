//! What a daemon is told at its start: where things are and how much may be kept. Reads no file and no environment.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::index::secrets::Secrets;
use crate::registry::Preferences;

/// Where the daemon's things are. All are absolute.
#[derive(Debug, Clone)]
pub struct Places {
    /// The socket that it serves on.
    pub socket: PathBuf,
    /// Where it serves when the directory of `socket` is gone and cannot be made.
    pub socket_fallback: Option<PathBuf>,
    /// Locked for the daemon's life; holds its process id.
    pub lock: PathBuf,
    /// One journal per session.
    pub logs: PathBuf,
    /// What keepers on this machine have spooled, one journal per session.
    pub spools: PathBuf,
    /// Directories in which keepers on this machine have their attach sockets, each as `ID.sock`.
    pub keepers: Vec<PathBuf>,
    /// What is found by searching; a cache of the logs.
    pub index: PathBuf,
    /// What the user has agreed to run, and how often what was run.
    pub registry: PathBuf,
    /// Installed packages; need not exist.
    pub packages: PathBuf,
    /// The user's configuration, with commands of their own.
    pub config: PathBuf,
    /// The user's home, in which agents have theirs.
    pub home: Option<PathBuf>,
}

/// How much is kept. What goes over a limit is pruned, oldest first; that is no gap.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Bytes of disk per session.
    pub session_bytes_max: u64,
    /// Bytes of disk for all sessions.
    pub total_bytes_max: u64,
    /// Age, since its end, at which a session goes as a whole.
    pub age_max: Duration,
}

impl Retention {
    /// Bytes of disk that one session may have when it is alone.
    pub(crate) fn of_one_session(&self) -> u64 {
        self.session_bytes_max.min(self.total_bytes_max)
    }
}

/// Everything a daemon is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where.
    pub places: Places,
    /// How much.
    pub retention: Retention,
    /// What is left out of the index. The logs keep everything.
    pub secrets: Arc<Secrets>,
    /// What names of commands mean.
    pub preferences: Preferences,
    /// Version of the program, for `status`.
    pub version: String,
}
