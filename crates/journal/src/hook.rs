//! Named points at which a test may stop a process, to kill it exactly there. In every other build they are nothing.
//!
//! Promise: without the feature `test-hooks` no point leaves a trace in the program; with it, nothing happens unless the
//! environment names a directory and a file of the point's name stands in it. Then the process announces itself with a
//! file `NAME.reached.PID` beside it and waits until the first one is removed. Lives on this floor because keeper and
//! daemon both stand on it. Knows nothing of what is being done at a point.

/// Where a process can be stopped. The daemon's come first.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "test-hooks", derive(Debug))]
pub enum Point {
    /// The daemon's process has begun, and holds nothing.
    DaemonStarting,
    /// The daemon holds its lock, and has bound nothing.
    DaemonLocked,
    /// A keeper's new epoch is durable, and it was not told.
    DaemonGranted,
    /// Records are in the log's file, and nobody was told.
    DaemonWrote,
    /// `fdatasync` has returned, and nobody was told.
    DaemonSynced,
    /// A segment has its compressed copy under its name, and the original is still there.
    DaemonSealed,
    /// The log has all of a dead keeper's records, durable, and the spool is still there.
    DaemonAdopted,
    /// Output is in the spool, and no terminal has seen it.
    KeeperSpooled,
    /// The daemon called records durable, and the spool still has them.
    KeeperToldDurable,
    /// The shell has ended and its terminals know; the daemon was not told that this is the end.
    KeeperEnding,
    /// The keeper has the terminal's tty, and the terminal has set it up for the session.
    TerminalHanded,
}

/// Stops here if a test wants it.
#[cfg(not(feature = "test-hooks"))]
#[inline(always)]
pub fn pause(_: Point) {}

#[cfg(feature = "test-hooks")]
pub use on::{DIRECTORY, pause};

#[cfg(feature = "test-hooks")]
mod on {
    use std::ffi::OsString;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    use super::Point;

    /// Variable of the environment that names the directory.
    pub const DIRECTORY: &str = "SHELLKEEP_TEST_HOOKS";

    /// Longest stop. Whoever was to kill or release the process is gone then, and it goes on.
    const STOP_MAX: Duration = Duration::from_mins(1);

    /// Pause between two looks at the file: it sends no event that would not need a descriptor.
    const LOOK_EVERY: Duration = Duration::from_millis(1);

    impl Point {
        /// All of them.
        pub const ALL: [Self; 11] = [
            Self::DaemonStarting,
            Self::DaemonLocked,
            Self::DaemonGranted,
            Self::DaemonWrote,
            Self::DaemonSynced,
            Self::DaemonSealed,
            Self::DaemonAdopted,
            Self::KeeperSpooled,
            Self::KeeperToldDurable,
            Self::KeeperEnding,
            Self::TerminalHanded,
        ];

        /// The name of its file.
        #[must_use]
        pub const fn name(self) -> &'static str {
            match self {
                Self::DaemonStarting => "daemon.starting",
                Self::DaemonLocked => "daemon.locked",
                Self::DaemonGranted => "daemon.granted",
                Self::DaemonWrote => "daemon.wrote",
                Self::DaemonSynced => "daemon.synced",
                Self::DaemonSealed => "daemon.sealed",
                Self::DaemonAdopted => "daemon.adopted",
                Self::KeeperSpooled => "keeper.spooled",
                Self::KeeperToldDurable => "keeper.told_durable",
                Self::KeeperEnding => "keeper.ending",
                Self::TerminalHanded => "terminal.handed",
            }
        }
    }

    /// Stops here if a test wants it.
    pub fn pause(point: Point) {
        static PLACE: OnceLock<Option<PathBuf>> = OnceLock::new();
        let place = PLACE.get_or_init(|| std::env::var_os(DIRECTORY).map(PathBuf::from));
        let Some(file) = place.as_ref().map(|place| place.join(point.name())).filter(|file| file.exists()) else {
            return;
        };
        let mut reached = OsString::from(&file);
        reached.push(format!(".reached.{}", std::process::id()));
        if std::fs::write(reached, "").is_err() {
            return; // nobody would know that something waits here
        }
        let until = Instant::now() + STOP_MAX;
        while file.exists() && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
