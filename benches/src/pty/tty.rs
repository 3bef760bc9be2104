//! The outer PTY: what a terminal emulator would hold, with a contestant at its other end.
//!
//! Promise: no read waits for ever, and the contestant is ended and waited for, or named in an error.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::process::{Ended, Process};

/// How long one answer may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a contestant may take to end once its program has ended.
const END_WAIT_MAX: Duration = Duration::from_secs(15);
/// Window of the outer terminal, in characters.
const WINDOW: rustix::termios::Winsize =
    rustix::termios::Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };

/// A contestant on a terminal of its own.
#[derive(Debug)]
pub(crate) struct Tty {
    master: File,
    process: Process,
}

impl Tty {
    /// Starts a command as the leader of a session on a new PTY.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = File::options().read(true).write(true).open(name.to_str()?)?;
        rustix::termios::tcsetwinsize(&slave, WINDOW)?;
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(Stdio::from(slave));
        // SAFETY: both calls are async-signal-safe and allocate nothing.
        #[allow(unsafe_code)] // no safe interface gives a child a controlling terminal
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self { master: File::from(master), process: Process::start(command)? })
    }

    /// The contestant's process.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Types.
    pub(crate) fn write(&self, keys: &[u8]) -> anyhow::Result<()> {
        let written = rustix::io::write(&self.master, keys)?;
        ensure!(written == keys.len(), "the terminal took {written} of {} bytes", keys.len());
        Ok(())
    }

    /// What has come out, at least one byte; 0 if the other end is closed for good.
    pub(crate) fn read(&self, buffer: &mut [u8], until: Instant) -> anyhow::Result<usize> {
        loop {
            // Read first: while there is more, no other call is made, as the floor demands.
            match rustix::io::read(&self.master, &mut *buffer) {
                Ok(count) => return Ok(count),
                Err(Errno::IO) => return Ok(0), // how a PTY says that its other side is closed
                Err(Errno::AGAIN) => ensure!(self.readable_by(until)?, "nothing came out in time"),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn readable_by(&self, until: Instant) -> anyhow::Result<bool> {
        let wait = rustix::time::Timespec::try_from(until.saturating_duration_since(Instant::now()))?;
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        Ok(poll(&mut fds, Some(&wait))? > 0)
    }

    /// Reads until `text` has come out, whatever came before it.
    pub(crate) fn read_until(&self, text: &[u8]) -> anyhow::Result<()> {
        self.read_until_within(text, ANSWER_WAIT_MAX)
    }

    /// The same, with a limit of its own.
    pub(crate) fn read_until_within(&self, text: &[u8], wait: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + wait;
        let (mut seen, mut chunk) = (Vec::new(), [0; 1024]);
        loop {
            let shown = || String::from_utf8_lossy(text).into_owned();
            let count = self.read(&mut chunk, until).with_context(|| format!("waiting for {:?}", shown()))?;
            ensure!(count > 0, "ended before it said {:?}: {:?}", shown(), String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&chunk[..count]);
            if seen.windows(text.len()).any(|window| window == text) {
                return Ok(());
            }
        }
    }

    /// One key there and back.
    pub(crate) fn echo(&self, key: u8) -> anyhow::Result<Duration> {
        let mut byte = [0; 8];
        let begun = Instant::now();
        self.write(&[key])?;
        let count = self.read(&mut byte, begun + ANSWER_WAIT_MAX)?;
        let time = begun.elapsed();
        ensure!(byte[..count] == [key], "{:?} came back for one key", &byte[..count]);
        Ok(time)
    }

    /// Takes what still comes out and waits for the contestant's end; its program must have ended, or have been told.
    pub(crate) fn end(self) -> anyhow::Result<Ended> {
        let until = Instant::now() + END_WAIT_MAX;
        let mut rest = [0; 4096];
        while !self.process.has_ended()? {
            if self.read(&mut rest, until).context("waiting for its end")? == 0 {
                break;
            }
        }
        self.process.wait(until.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Tty {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]);
        Tty::start(command).unwrap()
    }

    #[test]
    fn a_key_comes_back_once_and_the_end_is_seen() {
        let tty = shell("stty raw -echo; printf '<on>'; dd bs=1 count=3 2>/dev/null");
        tty.read_until(b"<on>").unwrap();
        for _ in 0..3 {
            tty.echo(b'k').unwrap();
        }
        assert!(tty.end().unwrap().success);
    }

    #[test]
    fn a_key_that_comes_back_twice_is_an_error() {
        let tty = shell("stty raw -echo; printf '<on>'; read -r k < /dev/tty; printf kk");
        tty.read_until(b"<on>").unwrap();
        tty.write(b"x").unwrap();
        assert!(tty.echo(b'\n').is_err());
    }

    #[test]
    fn a_program_that_says_something_else_is_named_in_the_error() {
        let error = shell("echo other").read_until(b"<on>").unwrap_err();
        assert!(format!("{error:#}").contains("other"), "{error:#}");
    }
}
