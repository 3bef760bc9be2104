//! What lies beside the logs: a log that nobody can go on with, put aside under another name, and what unfinished work
//! left behind. All of it is bounded, and none of it is ever read again by the daemon: it is there for people.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use shellkeep_protocol::ids::SessionId;
use tracing::{info, warn};

use super::spool::LOCK_NAME;

/// Beginning of the name of a log that was put aside.
const LOST: &str = ".lost-";

/// Beginnings of the names of what is made and of what is removed (docs/journal-format.md, "Files").
const MAKING: &str = ".new-";
const REMOVING: &str = ".del-";

/// Logs that are kept aside; the ones of the oldest sessions go first.
const LOST_MAX: usize = 16;

/// Age at which a spool in the making, whose keeper does not hold it, is taken for what a dead one left.
const MAKING_AGE_MAX: Duration = Duration::from_hours(1);

/// Puts whatever is at the log's name aside, in place of what was put aside for this session before.
///
/// # Errors
/// If it cannot be renamed.
pub(super) fn put(logs: &Path, id: SessionId) -> io::Result<()> {
    let (from, to) = (logs.join(id.to_string()), place(logs, id));
    remove(&to)?;
    std::fs::rename(&from, &to)?;
    warn!(session = %id, path = %to.display(), "nobody can go on with this log; it is put aside, and a new one is begun");
    bound(logs, LOST_MAX);
    Ok(())
}

/// Removes what was put aside for a session; fine if nothing was.
pub(super) fn forget(logs: &Path, id: SessionId) -> io::Result<()> {
    remove(&place(logs, id))
}

fn place(logs: &Path, id: SessionId) -> PathBuf {
    logs.join(format!("{LOST}{id}"))
}

/// Removes what unfinished work left in the directory of logs. On the store thread only: it makes and removes logs.
pub(crate) fn sweep_logs(logs: &Path) {
    for (name, path) in entries(logs) {
        if name.starts_with(MAKING) || name.starts_with(REMOVING) {
            swept(&path);
        }
    }
    bound(logs, LOST_MAX);
}

/// Removes what dead keepers, or a dead daemon, left half made or half removed in the directory of spools.
pub(crate) fn sweep_spools(spools: &Path) {
    for (name, path) in entries(spools) {
        let left = name.starts_with(REMOVING) || (name.starts_with(MAKING) && is_old(&path));
        if left && !is_locked(&path) {
            swept(&path);
        }
    }
}

fn bound(logs: &Path, most: usize) {
    let mut lost: Vec<_> = entries(logs).into_iter().filter(|(name, _)| name.starts_with(LOST)).collect();
    lost.sort_unstable(); // UUIDv7: oldest first
    for (_, path) in lost.iter().take(lost.len().saturating_sub(most)) {
        swept(path);
    }
}

fn entries(directory: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}

fn swept(path: &Path) {
    match remove(path) {
        Ok(()) => info!(path = %path.display(), "removed what was left behind"),
        Err(error) => warn!(path = %path.display(), %error, "cannot remove what was left behind"),
    }
}

/// Never follows a link.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_old(path: &Path) -> bool {
    let changed = std::fs::symlink_metadata(path).and_then(|found| found.modified());
    changed.ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age > MAKING_AGE_MAX)
}

fn is_locked(path: &Path) -> bool {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let lock = rustix::fs::open(path.join(LOCK_NAME), flags, Mode::empty());
    lock.is_ok_and(|lock| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_put_aside_are_bounded_and_the_oldest_go_first() {
        let home = tempfile::tempdir().unwrap();
        let mut ids = Vec::new();
        for _ in 0..LOST_MAX + 3 {
            let id = SessionId::new();
            std::fs::create_dir(home.path().join(id.to_string())).unwrap();
            std::fs::write(home.path().join(id.to_string()).join("00000001.seg"), "no segment").unwrap();
            put(home.path(), id).unwrap();
            ids.push(id);
        }
        ids.sort_unstable();
        let kept: Vec<_> = ids.iter().filter(|id| place(home.path(), **id).exists()).copied().collect();
        assert_eq!(kept, ids[3..]);
        forget(home.path(), ids[5]).unwrap();
        assert!(!place(home.path(), ids[5]).exists());
        forget(home.path(), ids[5]).unwrap();
    }

    #[test]
    fn a_session_has_one_log_aside() {
        let home = tempfile::tempdir().unwrap();
        let id = SessionId::new();
        for content in ["first", "second"] {
            std::fs::write(home.path().join(id.to_string()), content).unwrap();
            put(home.path(), id).unwrap();
        }
        assert_eq!(std::fs::read_to_string(place(home.path(), id)).unwrap(), "second");
    }

    #[test]
    fn what_was_left_half_made_is_swept_and_what_is_held_stays() {
        let home = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = home.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join(LOCK_NAME), "").unwrap();
            path
        };
        let (half_removed, being_made, whole) = (make(".del-a"), make(".new-b"), make("c"));
        let held = make(".del-d");
        let lock = std::fs::File::open(held.join(LOCK_NAME)).unwrap();
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        sweep_spools(home.path());
        assert!(!half_removed.exists() && being_made.exists() && whole.exists() && held.exists());
        sweep_logs(home.path());
        assert!(!being_made.exists() && whole.exists());
    }
}
