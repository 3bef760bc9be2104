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

/// What is read of a process's environment, maps and command line, and words of that.
const PROCESS_FILE_BYTES_MAX: u64 = 256 << 10;
const WORDS_MAX: usize = 64;

/// Links that lead from one to the other.
const LINKS_MAX: usize = 8;

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

/// Processes that use releases.
#[derive(Debug)]
pub(super) struct Users {
    /// The releases, each as it is and as it is called.
    directories: Vec<PathBuf>,
    /// Links by which their commands were called.
    names: Vec<PathBuf>,
}

impl Users {
    /// Those of the releases in these directories, absolute paths, whose commands were called by `names` too.
    pub(super) fn of(directories: impl IntoIterator<Item = PathBuf>, names: Vec<PathBuf>) -> Self {
        let both = |path: PathBuf| [std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone()), path];
        Self { directories: directories.into_iter().flat_map(both).collect(), names }
    }

    /// Whether any process uses them. In doubt it does: an interpreter may have closed the script that it runs, or run it by a link of the
    /// user's, or have been told by a wrapper where to look.
    pub(super) fn are_there(&self) -> bool {
        let mut looked_at = 0;
        pids().any(|pid| {
            looked_at += 1;
            looked_at > PROCESSES_MAX
                || links(pid).any(|link| self.have(&link))
                || ["environ", "maps"].iter().any(|file| self.are_named_in(&start_of(pid, file)))
                || words(pid).any(|word| self.are_named_in(word.as_os_str().as_bytes()) || self.are_meant(pid, &word))
        })
    }

    /// Ends the processes whose program lies there, or that an interpreter runs from there or by one of the names; not those that
    /// only read there. Returns how many.
    pub(super) fn end(&self) -> usize {
        let own = rustix::process::getpid();
        let mut ended = 0;
        for pid in pids().filter(|pid| self.runs_them(*pid)) {
            let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|number| *number != own) else {
                continue;
            };
            let Ok(handle) = pidfd_open(number, PidfdFlags::empty()) else { continue };
            // The number may be another's by now; the handle is of whoever has it, so it is that one that must be asked.
            if self.runs_them(pid) && pidfd_send_signal(&handle, Signal::KILL).is_ok() {
                ended += 1;
            }
        }
        ended
    }

    fn have(&self, path: &Path) -> bool {
        self.directories.iter().any(|directory| path.starts_with(directory))
    }

    fn are_named_in(&self, text: &[u8]) -> bool {
        self.directories.iter().any(|directory| memchr::memmem::find(text, directory.as_os_str().as_bytes()).is_some())
    }

    /// Whether a word of a command line is a path there, or one of the names, or leads to one.
    fn are_meant(&self, pid: u32, word: &Path) -> bool {
        let mut path = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default().join(word);
        for _ in 0..LINKS_MAX {
            if self.have(&path) || self.names.contains(&path) {
                return true;
            }
            match std::fs::read_link(&path) {
                Ok(next) => path = path.parent().unwrap_or(&path).join(next),
                Err(_) => return false,
            }
        }
        false
    }

    fn runs_them(&self, pid: u32) -> bool {
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        if self.have(&program) {
            return true;
        }
        let words: Vec<PathBuf> = words(pid).collect();
        let Some((called, arguments)) = words.split_first() else { return false };
        let first = arguments.iter().position(|word| !word.as_os_str().as_bytes().starts_with(b"-"));
        arguments.iter().enumerate().any(|(at, word)| {
            let said = || Said::by(word);
            self.are_meant(pid, word) && (first == Some(at) || said().arguments == arguments[..at]) && {
                let said = said();
                said.is_interpreter(&program) || said.is_interpreter(called)
            }
        })
    }
}

/// What a script says of who runs it, in its first line.
struct Said {
    /// Names of programs.
    programs: Vec<String>,
    /// What stands before the script on its interpreter's command line, if it is divided.
    arguments: Vec<PathBuf>,
}

impl Said {
    fn by(script: &Path) -> Self {
        let real = std::fs::canonicalize(script).unwrap_or_else(|_| script.to_owned());
        let mut start = Vec::new();
        // Nothing to read it from, nothing that it says.
        let _unread = super::disk::open(&real).and_then(|file| file.take(FIRST_LINE_BYTES_MAX).read_to_end(&mut start));
        let start = String::from_utf8_lossy(&start);
        let first = start.strip_prefix("#!").and_then(|said| said.lines().next()).unwrap_or_default();
        let words = || first.split_whitespace();
        let programs = words().filter_map(|word| word.rsplit('/').next()).map(bare).collect();
        let inner = words().skip_while(|word| word.ends_with("/env") || *word == "-S").skip(1);
        Self { programs, arguments: inner.map(PathBuf::from).collect() }
    }

    /// Whether `program` runs scripts: everybody knows it, or this one names it.
    fn is_interpreter(&self, program: &Path) -> bool {
        let name = bare(&program.file_name().unwrap_or_default().to_string_lossy());
        INTERPRETERS.contains(&name.as_str()) || self.programs.contains(&name)
    }
}

/// The name of a program without the digits of its version.
fn bare(name: &str) -> String {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').to_owned()
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

/// What a file of a process begins with.
fn start_of(pid: u32, name: &str) -> Vec<u8> {
    let mut start = Vec::new();
    let file = File::open(format!("/proc/{pid}/{name}"));
    let _gone = file.and_then(|file| file.take(PROCESS_FILE_BYTES_MAX).read_to_end(&mut start));
    start
}

/// A process's command line, or what it begins with.
fn words(pid: u32) -> impl Iterator<Item = PathBuf> {
    let line = start_of(pid, "cmdline");
    let words: Vec<PathBuf> =
        line.split(|byte| *byte == 0).take(WORDS_MAX).map(|word| PathBuf::from(OsStr::from_bytes(word))).collect();
    words.into_iter()
}
