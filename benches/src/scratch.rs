//! Directories of a run, gone with it, also when it is interrupted: then with every process that it has started.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempDir;

use crate::process;

/// Those that exist.
static ALL: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// Generations of orphans that are ended: a terminal's keeper, and what that keeper runs.
const GENERATIONS_MAX: usize = 8;
/// What a shell adds to a signal's number, for a status.
const STATUS_SIGNALLED: i32 = 128;

/// A private directory, as sockets and sessions need it. Removed on drop.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    /// Makes one.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let private = Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix("shellkeep-bench-").permissions(private).tempdir()?;
        ALL.lock().unwrap_or_else(PoisonError::into_inner).push(directory.path().to_owned());
        Ok(Self(directory))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        ALL.lock().unwrap_or_else(PoisonError::into_inner).retain(|path| path != self.0.path());
    }
}

/// From here on TERM, INT and HUP end the run in good order, and orphans among our descendants come to us.
pub(crate) fn clean_up_when_interrupted() -> anyhow::Result<()> {
    process::adopt_orphans()?;
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        for _ in 0..GENERATIONS_MAX {
            process::end_children();
        }
        for directory in ALL.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = std::fs::remove_dir_all(directory);
        }
        std::process::exit(STATUS_SIGNALLED + signal);
    });
    Ok(())
}
