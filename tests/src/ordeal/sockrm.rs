//! The daemon's socket is taken from its path, and something else is put there.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, FileType, Mode};

use super::{Run, Table};
use crate::world::{World, eventually};

/// How long the socket may be away once nothing foreign is in its place.
const BOUND_WITHIN: Duration = Duration::from_secs(1);

/// What may be found at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// Nothing.
    Nothing,
    /// A socket of ours that nobody listens on.
    DeadSocket,
    /// Somebody's file.
    File,
    /// Somebody's directory.
    Directory,
    /// Somebody's link.
    Symlink,
    /// Somebody's FIFO, on which an open would hang.
    Fifo,
}

impl Object {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Nothing, Self::DeadSocket, Self::File, Self::Directory, Self::Symlink, Self::Fifo];

    /// What the daemon may not touch.
    pub fn is_foreign(self) -> bool {
        !matches!(self, Self::Nothing | Self::DeadSocket)
    }

    /// Makes it at a free path.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn make(self, path: &Path) -> Result<()> {
        match self {
            Self::Nothing => {}
            Self::DeadSocket => drop(UnixListener::bind(path)?),
            Self::File => std::fs::write(path, "mine")?,
            Self::Symlink => std::os::unix::fs::symlink("/etc/passwd", path)?,
            Self::Fifo => rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?,
            Self::Directory => std::fs::create_dir(path)?,
        }
        Ok(())
    }

    /// Puts it in the place of the socket, in one step where there is one.
    fn put(self, path: &Path) -> Result<()> {
        let aside = path.with_extension("object");
        self.make(&aside)?;
        if matches!(self, Self::Nothing | Self::Directory) {
            std::fs::remove_file(path)?;
        }
        if self == Self::Directory {
            // Nothing takes a file's place as a directory in one step; the daemon may be faster.
            while std::fs::rename(&aside, path).is_err() {
                std::fs::remove_file(path)?;
            }
        } else if self != Self::Nothing {
            std::fs::rename(&aside, path)?;
        }
        Ok(())
    }

    /// Removes it again.
    ///
    /// # Errors
    /// If it is not there any more.
    pub fn take_away(self, path: &Path) -> Result<()> {
        let removed = if self == Self::Directory { std::fs::remove_dir(path) } else { std::fs::remove_file(path) };
        removed.context("the foreign object is still there")
    }
}

/// F10.
///
/// # Errors
/// The first violation.
pub fn sockrm(run: &Run) -> Result<Table> {
    let world = run.world()?;
    world.ok(&["daemon", "start"])?;
    let daemon = world.daemon_pid();
    let (mut rng, bar) = (run.rng(), run.progress("objects"));
    let mut times = Vec::new();
    for round in 0..run.n {
        let object = Object::ALL[if round < 6 { round as usize } else { rng.usize(0..Object::ALL.len()) }];
        times.push(one(&world, object, &mut rng).with_context(|| format!("{object:?}, round {round}"))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    ensure!(world.daemon_pid() == daemon, "the daemon was replaced for its socket");
    let mut table = Table::default();
    table.add("socket replaced", format_args!("{} times, the same daemon all the time", run.n));
    table.add_times("bound again within", &mut times);
    Ok(table)
}

/// Returns how long the socket was away after the path was free.
fn one(world: &World, object: Object, rng: &mut fastrand::Rng) -> Result<Duration> {
    let path = world.home().join("run/daemon.sock");
    object.put(&path)?;
    if object.is_foreign() {
        let inode = std::fs::symlink_metadata(&path)?.ino();
        // Long enough for the daemon to see it and to try again, or not: the moment is chance.
        std::thread::sleep(Duration::from_millis(rng.u64(0..30)));
        let found = std::fs::symlink_metadata(&path).context("a foreign object was unlinked")?;
        ensure!(found.ino() == inode, "a foreign object was replaced");
        object.take_away(&path)?;
    }
    let free = Instant::now();
    eventually("the daemon answers again", || Ok(world.run(&["daemon", "status"])?.status.success().then_some(())))?;
    let took = free.elapsed();
    ensure!(took <= BOUND_WITHIN, "bound again only after {took:?}");
    Ok(took)
}
