//! Where everything lies: the one map of files and sockets.
//!
//! Promises that a directory handed out is the user's own, 0700, and no symlink; anything else is a typed error that
//! names the path, its mode and what to do. Knows nothing of what is stored there. Source: DESIGN.md, "Contracts".

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use shellkeep_protocol::ids::SessionId;

/// Mode of every directory of ours.
const DIRECTORY_MODE: u32 = 0o700;
/// Bits that nobody but the owner may have.
const FOREIGN_BITS: u32 = 0o077;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Neither `SHELLKEEP_HOME` nor `HOME` says where to put things.
    #[error("cannot tell where to keep sessions: neither SHELLKEEP_HOME nor HOME is set")]
    NoHome,
    /// The path is a symlink, where another user could make it point elsewhere.
    #[error("{} is a symlink", path.display())]
    Symlink {
        /// The directory that is meant.
        path: PathBuf,
    },
    /// Something else lies there.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The directory that is meant.
        path: PathBuf,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}, not to user {uid} (mode {mode:04o})", path.display())]
    ForeignOwner {
        /// The directory that is meant.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who asks.
        uid: u32,
        /// Its permissions.
        mode: u32,
    },
    /// Others may look into it.
    #[error("{} has mode {mode:04o}; others must have no access", path.display())]
    Open {
        /// The directory that is meant.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The system refused.
    #[error("cannot make {}: {source}", path.display())]
    Io {
        /// The directory that is meant.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl PlaceError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Symlink { path } | Self::NotADirectory { path } => {
                format!("remove {} or set SHELLKEEP_HOME elsewhere", path.display())
            }
            Self::NoHome | Self::ForeignOwner { .. } | Self::Io { .. } => {
                "set SHELLKEEP_HOME to a directory of yours".to_owned()
            }
            Self::Open { path, .. } => format!("chmod 700 {}", path.display()),
        }
    }
}

/// The directories of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Sockets only.
    pub run: PathBuf,
    /// Where sockets go when `run` has vanished under a living session; `None` under `SHELLKEEP_HOME`.
    pub run_fallback: Option<PathBuf>,
    /// Logs, spools, index, diagnostics.
    pub state: PathBuf,
    /// Packages.
    pub data: PathBuf,
    /// `config.toml`.
    pub config: PathBuf,
    /// Socket of a daemon elsewhere, from `SHELLKEEP_SOCKET`.
    pub foreign_socket: Option<PathBuf>,
}

impl Places {
    /// The places that the environment of this process says.
    ///
    /// # Errors
    /// [`PlaceError::NoHome`] when nothing says it.
    pub fn from_env() -> Result<Self, PlaceError> {
        Self::from_lookup(&|name| std::env::var_os(name), rustix::process::getuid().as_raw())
    }

    /// The places that `lookup` says for the user `uid`. An empty variable counts as unset, as XDG demands.
    ///
    /// # Errors
    /// [`PlaceError::NoHome`] when nothing says it.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<OsString>, uid: u32) -> Result<Self, PlaceError> {
        let get = |name| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let foreign_socket = get("SHELLKEEP_SOCKET").map(absolute);
        if let Some(home) = get("SHELLKEEP_HOME") {
            return Ok(Self { foreign_socket, ..Self::under(&absolute(home)) });
        }
        // XDG: a relative path in these variables is invalid and must be ignored.
        let xdg = |name| get(name).filter(|path| path.is_absolute());
        let under_home = |name, default| match (xdg(name), get("HOME")) {
            (Some(base), _) => Ok(base.join("shellkeep")),
            (None, Some(home)) => Ok(absolute(home).join(default).join("shellkeep")),
            (None, None) => Err(PlaceError::NoHome),
        };
        let temporary = PathBuf::from(format!("/tmp/shellkeep-{uid}"));
        let run = xdg("XDG_RUNTIME_DIR").map_or_else(|| temporary.clone(), |d| d.join("shellkeep"));
        Ok(Self {
            run,
            run_fallback: Some(temporary),
            state: under_home("XDG_STATE_HOME", ".local/state")?,
            data: under_home("XDG_DATA_HOME", ".local/share")?,
            config: under_home("XDG_CONFIG_HOME", ".config")?,
            foreign_socket,
        })
    }

    /// The places of a home of its own, as `SHELLKEEP_HOME` would name it.
    pub fn under(home: &Path) -> Self {
        Self {
            run: home.join("run"),
            run_fallback: None,
            state: home.join("state"),
            data: home.join("data"),
            config: home.join("config"),
            foreign_socket: None,
        }
    }

    /// The directory that `SHELLKEEP_HOME` names; `None` where the XDG directories count.
    pub fn home(&self) -> Option<&Path> {
        if self.run_fallback.is_none() { self.state.parent() } else { None }
    }

    /// Where the daemon may be found: its usual socket first.
    pub fn daemon_sockets(&self) -> Vec<PathBuf> {
        let fallback = self.run_fallback.as_ref().filter(|run| **run != self.run && self.foreign_socket.is_none());
        std::iter::once(self.daemon_socket()).chain(fallback.map(|run| run.join("daemon.sock"))).collect()
    }

    /// The daemon's socket.
    pub fn daemon_socket(&self) -> PathBuf {
        self.foreign_socket.clone().unwrap_or_else(|| self.run.join("daemon.sock"))
    }

    /// Directories in which attach sockets may lie, the usual one first. They need not exist.
    pub fn keeper_directories(&self) -> Vec<PathBuf> {
        let mut all = vec![self.run.join("k")];
        if let Some(fallback) = self.run_fallback.as_ref().filter(|fallback| **fallback != self.run) {
            all.push(fallback.join("k"));
        }
        all
    }

    /// Spools of all sessions.
    pub fn spools(&self) -> PathBuf {
        self.state.join("spool")
    }

    /// Logs of all sessions; the daemon's.
    pub fn logs(&self) -> PathBuf {
        self.state.join("log")
    }

    /// The daemon's lock.
    pub fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// Present while the daemon is stopped on purpose.
    pub fn stopped(&self) -> PathBuf {
        self.state.join("stopped")
    }

    /// An empty file that becomes [`Self::stopped`] where the disk has no room for a new one.
    pub fn stopped_reserve(&self) -> PathBuf {
        self.state.join("stopped.reserve")
    }

    /// What shells read at their start so that they mark their commands.
    pub fn shell_scripts(&self) -> PathBuf {
        self.state.join("shell")
    }

    /// What the daemon knows of commands.
    pub fn registry(&self) -> PathBuf {
        self.state.join("registry")
    }

    /// Says another word when commands of all sessions have come or gone.
    pub fn commands_revision(&self) -> PathBuf {
        self.registry().join(shellkeep_daemon::registry::caches::FILE)
    }

    /// The program's own messages.
    pub fn diagnostics(&self) -> PathBuf {
        self.state.join("diagnostics")
    }

    /// Installed packages, with their database.
    pub fn packages(&self) -> PathBuf {
        self.data.join(shellkeep_daemon::packages::DIRECTORY)
    }

    /// The user's settings.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// Makes sure of the directory for attach sockets: the usual one, else the fallback.
    ///
    /// # Errors
    /// What is wrong with the usual one, if no other is allowed or that one cannot be used either.
    pub fn prepare_keeper_directory(&self) -> Result<PathBuf, PlaceError> {
        let prepare = |run: &Path| {
            prepare(run)?;
            let keepers = run.join("k");
            prepare_child(&keepers)?;
            Ok(keepers)
        };
        match (prepare(&self.run), &self.run_fallback) {
            (Err(first), Some(fallback)) => prepare(fallback).map_err(|_| first),
            (result, _) => result,
        }
    }

    /// Makes sure of the directory for spools.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn prepare_spools(&self) -> Result<PathBuf, PlaceError> {
        prepare(&self.state)?;
        let spools = self.spools();
        prepare_child(&spools)?;
        Ok(spools)
    }
}

/// Name of a session's attach socket in its directory.
pub fn keeper_socket_name(session: SessionId) -> String {
    format!("{session}.sock")
}

/// Relative paths would mean another place once a background process has left the caller's directory.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Makes `path` and what is missing above it, then checks it.
///
/// # Errors
/// See [`PlaceError`].
pub fn prepare(path: &Path) -> Result<(), PlaceError> {
    match prepare_child(path) {
        Err(PlaceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                make_parents(parent)?;
            }
            prepare_child(path)
        }
        result => result,
    }
}

/// Makes `path`, whose parent exists, then checks it.
fn prepare_child(path: &Path) -> Result<(), PlaceError> {
    let io = |errno: Errno| PlaceError::Io { path: path.to_owned(), source: errno.into() };
    match rustix::fs::mkdir(path, Mode::from_raw_mode(DIRECTORY_MODE)) {
        // Whatever the umask: it only takes away from what nobody else has anyway.
        Ok(()) => rustix::fs::chmod(path, Mode::from_raw_mode(DIRECTORY_MODE)).map_err(io)?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(io(errno)),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(io)?;
    let stat = rustix::fs::fstat(&opened).map_err(io)?;
    let path = || path.to_owned();
    let (mode, uid) = (stat.st_mode & 0o7777, rustix::process::getuid().as_raw());
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::Directory => {}
        rustix::fs::FileType::Symlink => return Err(PlaceError::Symlink { path: path() }),
        _ => return Err(PlaceError::NotADirectory { path: path() }),
    }
    if stat.st_uid != uid {
        return Err(PlaceError::ForeignOwner { path: path(), owner: stat.st_uid, uid, mode });
    }
    if mode & FOREIGN_BITS != 0 {
        return Err(PlaceError::Open { path: path(), mode });
    }
    Ok(())
}

fn make_parents(path: &Path) -> Result<(), PlaceError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
        .map_err(|source| PlaceError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
