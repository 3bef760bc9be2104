//! A sealed home, real PTYs and the built program. Waits for events, never for time, and leaves no process behind.
// Each test file uses its part, and a test that cannot go on must panic.
#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::panic)]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize};

/// Longest wait for an event that must come.
pub const WAIT: Duration = Duration::from_secs(15);

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_shellkeep");

/// A home of its own; its sessions are killed when it goes.
pub struct World {
    home: tempfile::TempDir,
}

impl World {
    /// Without a daemon, which was stopped on purpose: what is promised here holds without one.
    pub fn new() -> Self {
        let world = Self { home: tempfile::tempdir().expect("a temporary directory") };
        std::fs::DirBuilder::new().mode(0o700).create(world.path().join("state")).expect("made");
        world.settle();
        world
    }

    /// With a daemon as soon as a session wants one; it is stopped when the world goes.
    pub fn with_daemon() -> Self {
        let world = Self::new();
        std::fs::remove_file(world.path().join("state/stopped")).expect("removed");
        world
    }

    /// Says that no daemon shall run, and that what is told once was told.
    pub fn settle(&self) {
        for mark in ["stopped", "noticed"] {
            // Where a test has put something else in the place of the directory, there is nothing to say.
            let _not_there = std::fs::write(self.path().join("state").join(mark), "");
        }
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }

    /// The program with these arguments, in this home and a fixed environment.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(PROGRAM);
        self.seal(&mut command);
        command.args(arguments);
        command
    }

    fn seal(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").expect("PATH");
        command
            .current_dir(self.path()) // where the sources lie has no part in what is promised
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path())
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .env("SHELLKEEP_HOME", self.path());
    }

    /// Runs the program to its end, without a terminal and with nothing to read.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.run_with_input(arguments, b"")
    }

    /// Runs the program to its end with `input` in a pipe.
    pub fn run_with_input<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, input: &[u8]) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        child.stdin.take().expect("a pipe").write_all(input).expect("input is taken");
        child.wait_with_output().expect("the program ends")
    }

    /// The program on a PTY of its own.
    pub fn terminal<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Tty {
        self.terminal_sized(arguments, 80, 24)
    }

    pub fn terminal_sized<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, cols: u16, rows: u16) -> Tty {
        let mut words = vec![PROGRAM.into()];
        words.extend(arguments.into_iter().map(|word| word.as_ref().to_owned()));
        self.any_on_terminal(&words, cols, rows)
    }

    /// Any program as the leader of a session on a PTY of its own.
    pub fn any_on_terminal(&self, words: &[std::ffi::OsString], cols: u16, rows: u16) -> Tty {
        let (master, slave) = pty(cols, rows);
        let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
        let mut command = Command::new("setsid");
        self.seal(&mut command);
        command.arg("--ctty").args(words).stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("setsid starts");
        Tty { master, slave: Some(slave), child: Some(child), seen: Vec::new() }
    }

    /// Starts a session without a terminal; returns its id.
    pub fn detached(&self, name: &str, script: &str) -> String {
        let output = self.run(["start", "--detached", "-n", name, "--", "sh", "-c", script]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("an id").trim().to_owned()
    }

    /// Where attach sockets lie.
    pub fn sockets(&self) -> PathBuf {
        self.path().join("run/k")
    }

    /// The attach sockets there are.
    pub fn socket_list(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.sockets()).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.extension() == Some(OsStr::new("sock"))).collect()
    }

    /// What the keeper of the only session says about it.
    pub fn info(&self) -> shellkeep_protocol::attach::Info {
        let sockets = self.socket_list();
        assert_eq!(sockets.len(), 1, "{sockets:?}");
        shellkeep::keepers::info(&sockets[0]).expect("the keeper answers")
    }

    /// Waits until no session can be found.
    pub fn no_session_is_left(&self) {
        wait_until("every keeper has gone", || self.socket_list().is_empty());
    }
}

impl Drop for World {
    /// Kills whatever runs in this home, found by its environment: a keeper that a broken test lost has no socket.
    fn drop(&mut self) {
        self.settle(); // no keeper starts a daemon now
        let home = format!("SHELLKEEP_HOME={}\0", self.path().display()).into_bytes();
        let is_ours = |pid: &u32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.windows(home.len()).any(|window| window == home)
        };
        let all = || {
            let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_ours).collect::<Vec<u32>>()
        };
        // Again until none is left: one may have started another meanwhile.
        is_so_within(WAIT, || {
            let left = all();
            for pid in &left {
                signal(*pid, Signal::KILL);
            }
            left.is_empty()
        });
    }
}

/// A program on a PTY, and what it has shown.
pub struct Tty {
    pub master: File,
    /// Held so that the modes can be read after the program has ended.
    slave: Option<OwnedFd>,
    child: Option<Child>,
    pub seen: Vec<u8>,
}

impl Tty {
    /// A PTY without a program.
    pub fn of_master(master: File) -> Self {
        Self { master, slave: None, child: None, seen: Vec::new() }
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("a program runs here")
    }

    /// Types bytes.
    pub fn keys(&mut self, bytes: impl AsRef<[u8]>) {
        self.master.write_all(bytes.as_ref()).expect("the terminal takes keys");
    }

    /// Waits until `text` is shown behind what was waited for before; returns everything up to its end.
    pub fn expect(&mut self, text: impl AsRef<[u8]>) -> Vec<u8> {
        let text = text.as_ref();
        let deadline = Instant::now() + WAIT;
        loop {
            if let Some(at) = self.seen.windows(text.len()).position(|window| window == text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            assert!(
                self.read_until(deadline),
                "never saw {:?}, only {:?}",
                String::from_utf8_lossy(text),
                String::from_utf8_lossy(&self.seen)
            );
        }
    }

    /// Reads once; false if nothing comes until `deadline`.
    pub fn read_until(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: i64::try_from(left.as_secs()).expect("seconds"), tv_nsec: left.subsec_nanos().into() };
        let mut polled = [PollFd::from_borrowed_fd(self.master.as_fd(), PollFlags::IN)];
        if rustix::event::poll(&mut polled, Some(&timeout)).expect("poll") == 0 {
            return false;
        }
        let mut chunk = vec![0; 65536];
        match self.master.read(&mut chunk) {
            Ok(count) => {
                self.seen.extend_from_slice(&chunk[..count]);
                count > 0
            }
            Err(_) => false,
        }
    }

    /// Waits for the program's end, reading what it still shows.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + WAIT;
        loop {
            if let Some(status) = self.child().try_wait().expect("wait") {
                self.slave_closed();
                return status;
            }
            assert!(Instant::now() < deadline, "still running: {:?}", String::from_utf8_lossy(&self.seen));
            self.read_until(Instant::now() + Duration::from_millis(5));
        }
    }

    /// Reads what is left.
    fn slave_closed(&mut self) {
        while self.read_until(Instant::now() + Duration::from_millis(1)) {}
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    pub fn signal(&self, signal_: Signal) {
        signal(self.pid(), signal_);
    }

    pub fn resize(&self, cols: u16, rows: u16) {
        rustix::termios::tcsetwinsize(&self.master, window(cols, rows)).expect("resize");
    }

    /// Whether the terminal edits and echoes lines, as it does for a shell.
    pub fn is_cooked(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.master).expect("modes").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits until the terminal is lent to a session.
    pub fn is_lent(&self) {
        wait_until("the terminal is raw", || !self.is_cooked());
    }

    /// Closes the terminal's window.
    pub fn close(mut self) -> u32 {
        self.slave = None;
        self.pid()
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child
            && child.try_wait().is_ok_and(|status| status.is_none())
        {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}

pub fn pty(cols: u16, rows: u16) -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).expect("a PTY");
    rustix::pty::grantpt(&master).expect("grantpt");
    rustix::pty::unlockpt(&master).expect("unlockpt");
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("the terminal side");
    rustix::termios::tcsetwinsize(&master, window(cols, rows)).expect("a size");
    (File::from(master), slave)
}

fn window(cols: u16, rows: u16) -> Winsize {
    Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}

pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _gone = rustix::process::kill_process(pid, signal);
    }
}

/// Whether a process runs; a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Looks again and again until it is so.
pub fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(is_so_within(WAIT, is_so), "waited in vain until {what}");
}

/// Looks again and again; false if it is not so in time.
pub fn is_so_within(wait: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + wait;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2)); // between two looks at a state that sends no event
    }
    true
}
