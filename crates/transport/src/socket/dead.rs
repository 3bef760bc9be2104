//! Sockets of ours whose process was killed, and whose path nobody will bind again.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType};

use super::address::Place;
use super::connect::{ConnectError, connect_to};
use super::credentials::own_uid;

/// Age below which a socket on which nobody listens is left alone: it may be one that is just being bound.
pub const DEAD_FOR_MIN: Duration = Duration::from_mins(1);

/// Removes the socket at `path` if it is ours, older than [`DEAD_FOR_MIN`], and nobody listens on it; true if it is gone
/// by that.
///
/// A server that comes back to its old path at this very moment may lose its file, and binds again
/// ([`super::SocketFile::still_bound`]).
pub fn remove_dead(path: &Path) -> bool {
    let Ok(place) = Place::open(path) else { return false };
    let Ok(found) = rustix::fs::statat(&place.dir, &place.name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let is_ours = FileType::from_raw_mode(found.st_mode) == FileType::Socket && found.st_uid == own_uid();
    // Bound in the future by a clock that was set back: young, as far as anybody can tell.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let born = Duration::from_secs(u64::try_from(found.st_mtime).unwrap_or(u64::MAX));
    if !is_ours || now.saturating_sub(born) < DEAD_FOR_MIN {
        return false;
    }
    let Ok(address) = place.address(&place.name) else { return false };
    matches!(connect_to(&address), Err(ConnectError::Refused))
        && rustix::fs::unlinkat(&place.dir, &place.name, AtFlags::empty()).is_ok()
}
