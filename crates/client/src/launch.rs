//! Starts a daemon in the background, from the program as it is installed now.
//!
//! Promise: what is started holds no descriptor, no directory and no session of the caller's. Whether one should be
//! started is the caller's to know; two at a time are no harm, the lock decides.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::places::Places;

/// Stack of the thread that waits for a daemon's end, so that no zombie stays behind.
const REAPER_STACK_BYTES: usize = 64 << 10;

/// Set for a daemon that others start: it ends at once if it was stopped on purpose before it came to serve. A variable
/// and not an option, which an older program that is installed again would refuse.
pub const UNLESS_STOPPED: &str = "SHELLKEEP_UNLESS_STOPPED";

/// The installed program: not the file that a running process was started from, which an upgrade may have removed.
///
/// # Errors
/// If the system does not say what runs here.
pub fn installed_program() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    // The kernel marks a file that was replaced while it ran.
    let installed = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(installed.unwrap_or(path))
}

/// Starts `shellkeep daemon run` in a session of its own.
///
/// # Errors
/// If the program cannot be started.
pub fn daemon(places: &Places) -> std::io::Result<Child> {
    let mut command = Command::new(installed_program()?);
    command.args(["daemon", "run"]).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.env_remove("SHELLKEEP_SESSION").env_remove("SHELLKEEP_SOCKET");
    command.env(UNLESS_STOPPED, "1");
    if let Some(home) = places.home() {
        command.env("SHELLKEEP_HOME", home); // absolute: the working directory is another now
    }
    // SAFETY: setsid is async-signal-safe and allocates nothing.
    #[allow(unsafe_code)] // no safe interface makes a child the leader of a session
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
    command.spawn()
}

/// Starts a daemon unless one holds the lock. For keepers, which never wait for it. False if it was stopped on purpose.
pub fn daemon_for_keeper(places: &Places) -> bool {
    // Without the state directory somebody has removed shellkeep: a daemon would only make it again.
    if places.stopped().exists() || !places.state.exists() {
        return false;
    }
    if shellkeep_daemon::lock::Lock::holder(&places.lock()).is_ok_and(|holder| holder.is_some()) {
        return true;
    }
    match daemon(places) {
        Ok(child) => reap(child),
        Err(error) => tracing::warn!(%error, "cannot start a daemon; records wait in the spool"),
    }
    true
}

fn reap(mut child: Child) {
    let waits = std::thread::Builder::new().stack_size(REAPER_STACK_BYTES).name("reaper".into());
    let _ = waits.spawn(move || drop(child.wait()));
}
