//! Whether what is typed now is a secret that somebody has asked for.
//!
//! Three things say so. The tty's modes: lines are read and not shown, as `sudo`, `ssh`, `getpass` and a shell's `read -s`
//! do it; a full-screen program shows nothing either, but reads no lines. And, since a shell may read a secret character by
//! character and look like a full-screen program then (fish's `read -s`, `read -sn 4` of bash, `read -sk 4` of zsh): the
//! one who reads is the shell itself, while a command runs. And a program is known to ask like that (`ASKERS`). Neither
//! a prompt is meant nor any other program: what it reads character by character cannot be told from what an editor reads.
//! Source: termios(3).

use std::fs::File;
use std::num::NonZeroI32;
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

/// Most processes of the foreground that are looked at. Behind them nobody is known.
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
        let Ok(group) = rustix::termios::tcgetpgrp(master).map(Pid::as_raw_nonzero) else { return true };
        self.shell.as_ref().is_some_and(|shell| shell.reads(group)) || is_known_to_ask(group)
    }
}

/// Whether one who only asks is in the foreground: a process of the group's leader that has none of its own.
fn is_known_to_ask(group: NonZeroI32) -> bool {
    let mut left = vec![group.get()];
    for _ in 0..PROCESSES_MAX {
        let Some(process) = left.pop() else { return false };
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        let children = read(&format!("task/{process}/children"));
        if children.is_empty() && ASKERS.contains(&read("comm").trim_end()) {
            return true;
        }
        left.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
    }
    false
}

impl Shell {
    /// Whether it reads itself while a command runs, in its own process or in one that it has forked and that is no other
    /// program: another one, also one in its place, has an environment without the variable.
    fn reads(&self, group: NonZeroI32) -> bool {
        if !self.runs.load(Ordering::SeqCst) {
            return false;
        }
        // Source: proc(5): the environment as it was when the program was started. Gone with its process.
        let environment = std::fs::read(format!("/proc/{group}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == self.variable.as_bytes())
    }
}
