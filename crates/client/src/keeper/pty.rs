//! The PTY and the command on it.
//!
//! Promises that the command is a session leader with the PTY as its controlling terminal, that it inherits
//! descriptors 0 to 2 and nothing else of ours, that it has the caller's umask and OOM score, and that a signal never
//! reaches a process that is not it. Reads and writes no bytes.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use parking_lot::Mutex;
use rustix::fs::Mode;
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, setrlimit};
use rustix::pty::OpenptFlags;
use rustix::termios::{InputModes, OptionalActions, SpecialCodeIndex, Termios, Winsize};
use shellkeep_protocol::attach::{Launch, Size};
use shellkeep_protocol::session::ExitStatus;

use super::environment::Environment;

/// Window of a session that was started without one.
pub const SIZE_DEFAULT: Size = Size { cols: 80, rows: 24, x_pixels: 0, y_pixels: 0 };

/// Where the kernel keeps a process's badness. Source: proc(5).
const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

/// Status of a shell that finds no such program. Source: POSIX, "Exit Status for Commands".
const STATUS_MISSING: u8 = 127;
/// Status of a shell that may not execute the program.
const STATUS_NOT_EXECUTABLE: u8 = 126;

/// An open PTY before its command.
#[derive(Debug)]
pub struct Pty {
    /// The keeper's end.
    pub master: File,
    slave: OwnedFd,
}

/// What the command gets that is not on its command line.
#[derive(Debug)]
pub struct Inheritance<'a> {
    /// The caller's umask.
    pub umask: Mode,
    /// The caller's OOM score, as the kernel writes it.
    pub oom_score: Option<String>,
    /// The caller's limit on core files.
    pub core_limit: Rlimit,
    /// What comes on top of the caller's environment and before its arguments.
    pub environment: &'a Environment,
}

/// A command that could not be started.
#[derive(Debug)]
pub struct SpawnError {
    /// The status that a shell would return.
    pub status: u8,
    /// Why.
    pub source: io::Error,
}

impl Pty {
    /// Opens a PTY with the modes of `termios` (the caller's terminal) and the window `size`.
    ///
    /// # Errors
    /// When the system has no PTY to give.
    pub fn open(termios: Option<&Termios>, size: Size) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        if let Some(termios) = termios {
            rustix::termios::tcsetattr(&slave, OptionalActions::Now, termios)?;
        } else {
            let mut modes = rustix::termios::tcgetattr(&slave)?;
            modes.input_modes |= InputModes::IUTF8; // erasing a character in cooked mode erases all its bytes
            rustix::termios::tcsetattr(&slave, OptionalActions::Now, &modes)?;
        }
        rustix::termios::tcsetwinsize(&slave, winsize(size))?;
        Ok(Self { master: File::from(master), slave })
    }

    /// Device number of the terminal side.
    ///
    /// # Errors
    /// Of fstat.
    pub fn device(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.slave)?.st_rdev)
    }

    /// Starts the command; the PTY's terminal side is the command's alone from then on.
    ///
    /// # Errors
    /// [`SpawnError`] with the status that a shell would return.
    pub fn spawn(self, launch: &Launch, with: &Inheritance<'_>) -> Result<(File, Child), SpawnError> {
        let lost = |source| SpawnError { status: STATUS_NOT_EXECUTABLE, source };
        let program = OsString::from_vec(launch.program.to_vec());
        let mut command = Command::new(&program);
        command.args(&with.environment.arguments);
        command.args(launch.args.iter().map(|arg| OsString::from_vec(arg.to_vec())));
        if let Some(arg0) = &launch.arg0 {
            command.arg0(OsString::from_vec(arg0.to_vec()));
        }
        for (name, value) in &with.environment.variables {
            command.env(name, value);
        }
        for use_as in [Command::stdin, Command::stdout, Command::stderr] {
            use_as(&mut command, Stdio::from(self.slave.try_clone().map_err(lost)?));
        }
        become_session_leader(&mut command, with);
        let spawned = command.spawn();
        // `command` and `slave` would keep the terminal side open, and the master would never report the end.
        drop(command);
        drop(self.slave);
        match spawned {
            Ok(child) => Ok((self.master, Child::new(&child).map_err(lost)?)),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                Err(SpawnError { status: STATUS_MISSING, source })
            }
            Err(source) => Err(lost(source)),
        }
    }
}

/// Whether a process could not be made for want of something, whatever its program is.
pub fn is_scarcity(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN))
}

/// Makes the child a session leader on its standard input's terminal, with the caller's umask, OOM score and core limit.
#[allow(unsafe_code)]
fn become_session_leader(command: &mut Command, with: &Inheritance<'_>) {
    let umask = with.umask;
    let oom_score = with.oom_score.clone();
    let core_limit = with.core_limit;
    let prepare = move || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        if let Some(score) = &oom_score {
            // Not being able to is no reason not to start: the child is then spared like the keeper.
            let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
            if let Ok(file) = rustix::fs::open(OOM_SCORE_FILE, flags, Mode::empty()) {
                let _written = rustix::io::write(&file, score.as_bytes());
            }
        }
        rustix::process::umask(umask);
        let _lower_at_the_worst = setrlimit(Resource::Core, core_limit);
        // SAFETY: signal(2) is async-signal-safe; an ignored signal would stay ignored in the command.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed, because another thread may have held a
    // lock at the fork. The closure makes system calls on data prepared before the fork; it takes no lock and
    // allocates nothing (the path is short enough for rustix's own buffer on the stack).
    unsafe {
        command.pre_exec(prepare);
    }
}

/// The running command. Signals go through here, so that none is sent to a number that was given to somebody else.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    /// The status, once it has ended. Until it is set the number is ours, even if the process is dead.
    ended: Mutex<Option<ExitStatus>>,
}

impl Child {
    fn new(child: &std::process::Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a process without a number"))?;
        Ok(Self { pid, ended: Mutex::new(None) })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Blocks until it has ended. Call from one thread only.
    pub fn wait(&self) -> ExitStatus {
        loop {
            // Left waitable at first: as long as it is, its number cannot be given away under a signal.
            let looked = rustix::process::waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            if matches!(looked, Err(rustix::io::Errno::INTR) | Ok(None)) {
                continue;
            }
            let mut ended = self.ended.lock();
            let status = rustix::process::waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED);
            let exit = status.ok().flatten().map_or(ExitStatus::Signal(9), |status| {
                let byte = |value: i32| u8::try_from(value & 0xff).unwrap_or(u8::MAX);
                match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => ExitStatus::Code(byte(code)),
                    (None, Some(signal)) => ExitStatus::Signal(byte(signal)),
                    (None, None) => ExitStatus::Code(u8::MAX),
                }
            });
            *ended = Some(exit);
            return exit;
        }
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.ended.lock()
    }

    /// Signals the command's own process group, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let ended = self.ended.lock();
        if ended.is_none() {
            let _gone = rustix::process::kill_process_group(self.pid, signal);
        }
    }

    /// Signals what runs in the foreground of the PTY, which may be the command itself.
    pub fn signal_foreground(&self, master: &File, signal: Signal) {
        match foreground(master) {
            Some(group) if group != self.pid => {
                let _gone = rustix::process::kill_process_group(group, signal);
            }
            _ => self.signal(signal),
        }
    }

    /// Directory that the command is in now.
    pub fn directory(&self) -> Option<String> {
        let link = std::fs::read_link(format!("/proc/{}/cwd", self.pid())).ok()?;
        Some(link.to_string_lossy().into_owned())
    }
}

/// Process group in the foreground of the PTY.
fn foreground(master: &File) -> Option<Pid> {
    rustix::termios::tcgetpgrp(master).ok()
}

/// Tells the PTY and the programs on it how large the window is.
pub fn resize(master: &File, size: Size) {
    // Fails only when the command has ended.
    let _ended = rustix::termios::tcsetwinsize(master, winsize(size));
}

/// The window as the PTY has it.
pub fn size(master: &File) -> Size {
    rustix::termios::tcgetwinsize(master).map_or(SIZE_DEFAULT, |w| Size {
        cols: w.ws_col,
        rows: w.ws_row,
        x_pixels: w.ws_xpixel,
        y_pixels: w.ws_ypixel,
    })
}

/// The byte that ends the input of a program that reads lines.
pub fn end_of_file(master: &File) -> u8 {
    const CTRL_D: u8 = 4;
    rustix::termios::tcgetattr(master).map_or(CTRL_D, |modes| modes.special_codes[SpecialCodeIndex::VEOF])
}

/// The OOM score of this process, which the command gets back.
pub fn oom_score() -> Option<String> {
    std::fs::read_to_string(OOM_SCORE_FILE).ok()
}

/// Asks the kernel to take others before this process. Allowed to root only; refused silently.
pub fn spare_from_oom() {
    const KEEPER_SCORE: &str = "-500";
    let file = File::options().write(true).open(OOM_SCORE_FILE);
    let _not_allowed = file.and_then(|mut file| file.write_all(KEEPER_SCORE.as_bytes()));
}

/// Forbids core files of this process, whose memory holds what was printed and typed. Returns the limit before, which
/// the command gets back: only the soft one is lowered.
pub fn forbid_core() -> Rlimit {
    let before = getrlimit(Resource::Core);
    let _always_allowed = setrlimit(Resource::Core, Rlimit { current: Some(0), ..before });
    before
}

/// A file that may not grow any more (`ulimit -f`) is an error of the write, not the end of this process.
#[allow(unsafe_code)] // no safe interface ignores a signal without a handler
pub fn survive_full_files() {
    // SAFETY: sets the disposition of one signal to "ignore", which runs no code; nothing else in the process sets it.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Reads the modes of a terminal by any descriptor of it.
pub fn modes(tty: impl AsFd) -> Option<Termios> {
    rustix::termios::tcgetattr(tty).ok()
}

fn winsize(size: Size) -> Winsize {
    Winsize { ws_col: size.cols, ws_row: size.rows, ws_xpixel: size.x_pixels, ws_ypixel: size.y_pixels }
}
