//! The session's stable way to the user's SSH agent: a link that follows the terminal attached last.
//!
//! Promises that the link is replaced in one step, so that a program never finds none. Knows nothing of agents.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Points `link` at the socket `agent`.
pub fn point(link: &Path, agent: &[u8]) {
    let target = Path::new(OsStr::from_bytes(agent));
    if target == link {
        return; // a terminal inside the session itself
    }
    let aside = link.with_extension("agent-new");
    let _none = std::fs::remove_file(&aside);
    // Without it the session has no agent, like one started without.
    if std::os::unix::fs::symlink(target, &aside).is_ok() {
        let _vanished = std::fs::rename(&aside, link);
    }
}
