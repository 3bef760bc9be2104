//! Which processes still use a release that is gone from the list.
//!
//! Promise: what runs from it, reads from it, or has a descriptor of it counts, so a lease is nothing but an open directory. What
//! belongs to other users cannot be seen, and does not count.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Processes that are looked at; beyond that a release counts as used, and is looked at again by the next operation.
const PROCESSES_MAX: usize = 65_536;

/// Longest first line of a script that is read.
const FIRST_LINE_BYTES_MAX: u64 = 256;

/// Programs that run scripts, without the digits of their versions.
const INTERPRETERS: [&str; 22] = [
    "sh", "ash", "bash", "dash", "ksh", "mksh", "zsh", "fish", "busybox", "python", "pypy", "perl", "ruby", "node",
    "deno", "bun", "lua", "php", "tclsh", "java", "awk", "make",
];

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

/// Whether any process uses something under `directory`, an absolute path without links, or is run from there or by one of `names`: an
/// interpreter may have closed the script that it runs.
pub(super) fn is_used(directory: &Path, names: &[PathBuf]) -> bool {
    let mut looked_at = 0;
    for pid in pids() {
        looked_at += 1;
        if looked_at > PROCESSES_MAX {
            return true;
        }
        if links(pid).any(|link| link.starts_with(directory)) || script(pid, directory, names).is_some() {
            return true;
        }
    }
    false
}

/// Ends the processes whose program lies under `directory`, or that an interpreter runs from there or by one of `names`; not those that
/// only read there. Returns how many.
pub(super) fn end(directory: &Path, names: &[PathBuf]) -> usize {
    let own = rustix::process::getpid();
    let runs_it = |pid: u32| {
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let called = words(pid).into_iter().next().unwrap_or_default();
        let runs = |script: &Path| is_interpreter(&program, script) || is_interpreter(&called, script);
        program.starts_with(directory) || script(pid, directory, names).is_some_and(|script| runs(&script))
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

/// What an interpreter would run of a process's command line, its first word that is no option, if that lies under `directory` or is one of
/// `names`.
fn script(pid: u32, directory: &Path, names: &[PathBuf]) -> Option<PathBuf> {
    let is_option = |word: &PathBuf| word.as_os_str().as_bytes().starts_with(b"-");
    let script = words(pid).into_iter().skip(1).find(|word| !is_option(word))?;
    (script.starts_with(directory) || names.contains(&script)).then_some(script)
}

/// A process's command line.
fn words(pid: u32) -> Vec<PathBuf> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| PathBuf::from(OsStr::from_bytes(word))).collect()
}

/// Whether `program` runs scripts: everybody knows it, or this one names it in its first line.
fn is_interpreter(program: &Path, script: &Path) -> bool {
    let bare = |name: &str| name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').to_owned();
    let name = bare(&program.file_name().unwrap_or_default().to_string_lossy());
    let mut start = Vec::new();
    // Nothing to read it from, nothing that it says.
    let real = std::fs::canonicalize(script).unwrap_or_else(|_| script.to_owned());
    let _unread = super::disk::open(&real).and_then(|file| file.take(FIRST_LINE_BYTES_MAX).read_to_end(&mut start));
    let start = String::from_utf8_lossy(&start);
    let first = start.strip_prefix("#!").and_then(|said| said.lines().next()).unwrap_or_default();
    let said = first.split_whitespace().filter_map(|word| word.rsplit('/').next());
    INTERPRETERS.contains(&name.as_str()) || said.map(bare).any(|said| said == name)
}
