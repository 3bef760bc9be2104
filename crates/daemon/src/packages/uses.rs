//! Which processes still use a release that is gone from the list.
//!
//! Promise: what runs from it, reads from it, or has a descriptor of it counts, so a lease is nothing but an open directory. What
//! belongs to other users cannot be seen, and does not count.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Processes that are looked at; beyond that a release counts as used, and is looked at again by the next operation.
const PROCESSES_MAX: usize = 65_536;

/// Held while something of a release runs: as long as it is, the release's files stay.
#[derive(Debug)]
pub struct Lease {
    _directory: File,
}

impl Lease {
    /// For the release that `program` is in, or any directory of it.
    ///
    /// # Errors
    /// If it is gone.
    pub fn take(program: &Path) -> io::Result<Self> {
        let directory = program.parent().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { _directory: File::open(directory)? })
    }
}

/// Whether any process uses something under `directory`, an absolute path without links.
pub(super) fn is_used(directory: &Path) -> bool {
    let mut looked_at = 0;
    for pid in pids() {
        looked_at += 1;
        if looked_at > PROCESSES_MAX {
            return true;
        }
        if links(pid).any(|link| link.starts_with(directory)) {
            return true;
        }
    }
    false
}

/// Ends the processes whose program lies under `directory`, or that an interpreter runs from there or by one of `names`.
/// Returns how many.
pub(super) fn end(directory: &Path, names: &[PathBuf]) -> usize {
    let own = rustix::process::getpid();
    let runs_it = |pid: u32| {
        let program =
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.starts_with(directory));
        program || words(pid).iter().any(|word| word.starts_with(directory) || names.contains(word))
    };
    let mut ended = 0;
    for pid in pids().filter(|pid| runs_it(*pid)) {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|number| *number != own) else {
            continue;
        };
        let Ok(handle) = pidfd_open(number, PidfdFlags::empty()) else { continue };
        // The number may be another's by now; the handle is of whoever has it, so it is that one that must be asked.
        if runs_it(pid) && pidfd_send_signal(&handle, Signal::KILL).is_ok() {
            ended += 1;
        }
    }
    ended
}

fn pids() -> impl Iterator<Item = u32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Program, directory and open files of a process.
fn links(pid: u32) -> impl Iterator<Item = PathBuf> {
    let of = |name| std::fs::read_link(format!("/proc/{pid}/{name}")).ok();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let open = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    [of("exe"), of("cwd")].into_iter().flatten().chain(open)
}

/// The first words of a process's command line: the program, and what an interpreter runs.
fn words(pid: u32) -> Vec<PathBuf> {
    const WORDS_MAX: usize = 3;
    use std::os::unix::ffi::OsStrExt as _;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).take(WORDS_MAX);
    words.map(|word| PathBuf::from(std::ffi::OsStr::from_bytes(word))).collect()
}
