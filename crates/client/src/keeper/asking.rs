//! Whether what is typed now is a secret that somebody has asked for.
//!
//! The tty's modes say it first: lines are read and not shown, as `sudo`, `ssh`, `getpass` and a shell's `read -s` do it; a
//! full-screen program shows nothing either, but reads no lines. A shell may read a secret character by character and look
//! like a full-screen program then (fish's `read -s`, `read -sn 4` of bash, `read -sk 4` of zsh), so who reads counts as
//! well: the kept shell itself, while a command runs; another shell at any time, since its prompt cannot be told from a
//! question, unless it waits for a program; and the programs that are known to ask like that (`ASKERS`). Any other program
//! is meant by none of this: what it reads character by character cannot be told from what an editor reads.
//! Source: termios(3), proc(5).

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::process::Pid;
use rustix::termios::LocalModes;
use shellkeep_daemon::index::marks::{Mark, MarkReader, Place};
use shellkeep_journal::Seq;
use shellkeep_protocol::ids::MarksNonce;

/// Programs that ask character by character, to show a star for each, by the first 15 bytes of their names (proc(5), comm).
/// sudo does so if it was told to (`pwfeedback`); it has no child until it knows the password.
const ASKERS: [&str; 5] = ["systemd-ask-pas", "systemd-tty-ask", "pinentry-curses", "pinentry-tty", "sudo"];

/// Shells, by the names of their programs without versions.
const SHELLS: [&str; 13] =
    ["ash", "bash", "busybox", "dash", "elvish", "fish", "ksh", "mksh", "nu", "oksh", "sh", "xonsh", "zsh"];

/// Most processes of a session that are looked at. Behind them it is not known who reads.
const PROCESSES_MAX: usize = 64;

/// Looks at one session's terminal.
#[derive(Debug)]
pub struct Asking {
    shell: Option<Shell>,
}

/// A shell that marks its commands.
#[derive(Debug)]
struct Shell {
    /// Is in the environment with which the shell was started, and in that of no program which it starts: it removes it.
    variable: String,
    /// Marks so far, and bytes of output.
    marks: Mutex<(MarkReader, u64)>,
    /// A command has begun and not ended.
    runs: AtomicBool,
}

impl Asking {
    /// In a session whose shell marks its commands with `nonce`, if any.
    pub fn new(nonce: Option<MarksNonce>) -> Self {
        let shell = |nonce: MarksNonce| Shell {
            variable: format!("SHELLKEEP_MARKS={nonce}"),
            marks: Mutex::new((MarkReader::new(Some(nonce.to_string())), 0)),
            runs: AtomicBool::new(false),
        };
        Self { shell: nonce.map(shell) }
    }

    /// Takes the next output, before anybody sees it.
    pub fn output(&self, bytes: &[u8]) {
        let Some(shell) = &self.shell else { return };
        let mut guard = shell.marks.lock();
        let (marks, offset) = &mut *guard;
        marks.feed(bytes, Place { seq: Seq::FIRST, offset: *offset, time_us: 0 }, |found| match found.mark {
            Mark::Started { .. } => shell.runs.store(true, Ordering::SeqCst),
            Mark::Ended { .. } | Mark::Prompt => shell.runs.store(false, Ordering::SeqCst),
            Mark::PromptEnd | Mark::Directory(_) => {}
        });
        *offset += bytes.len() as u64;
    }

    /// Whether whoever reads from the PTY behind `master` asks for a secret.
    pub fn is_for_a_secret(&self, master: &File) -> bool {
        // If the modes cannot be read, the safe side is to record nothing.
        let Ok(modes) = rustix::termios::tcgetattr(master) else { return true };
        if modes.local_modes.contains(LocalModes::ECHO) {
            return false;
        }
        if modes.local_modes.contains(LocalModes::ICANON) {
            return true;
        }
        let Ok(group) = rustix::termios::tcgetpgrp(master) else { return true };
        let Ok(leader) = rustix::termios::tcgetsid(master) else { return true };
        let readers = Process::in_the_foreground(group, leader);
        // Nobody is found, or too many are there: the safe side again.
        readers.is_none_or(|readers| readers.is_empty() || readers.iter().any(|reader| self.asks(reader)))
    }

    /// Whether a process that has the terminal asks for secrets character by character, as far as that is known.
    fn asks(&self, reader: &Process) -> bool {
        match &self.shell {
            Some(shell) if shell.is(reader) => shell.runs.load(Ordering::SeqCst),
            _ => !reader.waits && (reader.is_a_shell() || ASKERS.contains(&reader.read("comm").trim_end())),
        }
    }
}

impl Shell {
    /// Whether a process is the shell, or one that it has forked and that is no other program: another one, also one in its
    /// place, has an environment without the variable.
    fn is(&self, process: &Process) -> bool {
        // The environment as it was when the program was started.
        let environment = std::fs::read(process.file("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == self.variable.as_bytes())
    }
}

/// A process of the terminal's foreground.
struct Process {
    id: i32,
    /// It has children: it is taken to wait for them.
    waits: bool,
}

impl Process {
    /// All processes of `group` that descend from it or from the session's leader; none if they are too many to look at.
    fn in_the_foreground(group: Pid, leader: Pid) -> Option<Vec<Self>> {
        let (group, leader) = (group.as_raw_nonzero().get(), leader.as_raw_nonzero().get());
        let (mut left, mut seen, mut found) = (vec![leader, group], Vec::new(), Vec::new());
        while let Some(id) = left.pop() {
            if seen.contains(&id) {
                continue;
            }
            if seen.len() == PROCESSES_MAX {
                return None;
            }
            seen.push(id);
            let mut process = Self { id, waits: false };
            let children = process.read(&format!("task/{id}/children"));
            left.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
            process.waits = !children.trim().is_empty();
            if process.group() == Some(group) {
                found.push(process);
            }
        }
        Some(found)
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.id)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// Its process group; none if it has ended.
    fn group(&self) -> Option<i32> {
        let stat = self.read("stat");
        let (_, behind_its_name) = stat.rsplit_once(')')?;
        let mut fields = behind_its_name.split_whitespace();
        let is_dead = fields.next().is_none_or(|state| matches!(state, "Z" | "X"));
        fields.nth(1).filter(|_| !is_dead).and_then(|group| group.parse().ok())
    }

    fn is_a_shell(&self) -> bool {
        // Not readable for a program that runs as somebody else; then its name is all that there is.
        let program = std::fs::read_link(self.file("exe")).ok();
        let program = program.as_deref().and_then(Path::file_name).and_then(OsStr::to_str).map(str::to_owned);
        let name = program.unwrap_or_else(|| self.read("comm"));
        let name = name.trim().trim_end_matches(" (deleted)");
        SHELLS
            .contains(&name.trim_end_matches(|character: char| character.is_ascii_digit() || "-._".contains(character)))
    }
}
