//! The plainest recorder-shaped thing there can be, without the recording: a PTY of its own, a reader thread, a bounded
//! queue, a writer thread. What it costs is what any program between a shell and its terminal costs.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use rustix::io::{Errno, read, write};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Bytes that wait for the outer terminal. At the bound the reader waits, and so does the shell.
const QUEUE_BYTES_MAX: usize = 256 << 10;
/// Bytes read at a time; a PTY's master gives less than 4 KiB.
const READ_BYTES: usize = 16 << 10;

/// What the relay is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Bytes on their way out.
#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    closed: bool,
}

impl Queue {
    fn put(&self, bytes: &[u8]) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |waiting: &mut Waiting| waiting.bytes.len() + bytes.len() > QUEUE_BYTES_MAX;
        let mut state = self.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        state.bytes.extend_from_slice(bytes);
        self.changed.notify_all();
    }

    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }

    /// Swaps what waits into `taken`, which is empty; false at the end.
    fn take(&self, taken: &mut Vec<u8>) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = |waiting: &mut Waiting| waiting.bytes.is_empty() && !waiting.closed;
        let mut state = self.changed.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.bytes, taken);
        self.changed.notify_all();
        !taken.is_empty()
    }
}

/// Runs a command on a PTY of its own and relays until it ends.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let master = Arc::new(File::from(master));
    let modes = tcgetattr(stdin())?;
    let mut child = start(args, &master, &modes)?;
    let mut raw = modes.clone();
    raw.make_raw();
    tcsetattr(stdin(), OptionalActions::Now, &raw)?;

    let queue = Arc::new(Queue::default());
    let reader = std::thread::spawn({
        let (queue, master) = (Arc::clone(&queue), Arc::clone(&master));
        move || {
            let mut chunk = vec![0; READ_BYTES];
            loop {
                match read(&*master, &mut chunk) {
                    Ok(count @ 1..) => queue.put(&chunk[..count]),
                    Err(Errno::INTR) => {}
                    Ok(0) | Err(_) => break queue.close(), // EIO: the command has closed its side
                }
            }
        }
    });
    // Never joined: it sleeps in its read until the process ends.
    std::thread::spawn(move || {
        let mut keys = [0; 4096];
        while let Ok(count @ 1..) = read(stdin(), &mut keys) {
            if write_all(&master, &keys[..count]).is_err() {
                break;
            }
        }
    });
    let mut taken = Vec::new();
    while queue.take(&mut taken) {
        write_all(stdout(), &taken)?;
        taken.clear();
    }
    let _ = reader.join();
    tcsetattr(stdin(), OptionalActions::Now, &modes)?;
    ensure!(child.wait()?.success(), "the command failed");
    Ok(())
}

fn start(args: &Args, master: &File, modes: &rustix::termios::Termios) -> anyhow::Result<std::process::Child> {
    let name = ptsname(master, Vec::new())?;
    let slave = File::options().read(true).write(true).open(name.to_str()?)?;
    tcsetattr(&slave, OptionalActions::Now, modes)?;
    tcsetwinsize(&slave, tcgetwinsize(stdin())?)?;
    let (program, arguments) = args.command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(Stdio::from(slave));
    // SAFETY: both calls are async-signal-safe and allocate nothing.
    #[allow(unsafe_code)] // no safe interface gives a child a controlling terminal
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            Ok(())
        });
    }
    Ok(command.spawn()?)
}

fn write_all(file: impl std::os::fd::AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match write(&file, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_loses_nothing() {
        let queue = Arc::new(Queue::default());
        let chunks: Vec<Vec<u8>> = (0..200_u8).map(|number| vec![number; READ_BYTES]).collect();
        let sent = chunks.concat();
        let putting = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                for chunk in &chunks {
                    queue.put(chunk);
                }
                queue.close();
            }
        });
        let (mut got, mut taken) = (Vec::new(), Vec::new());
        while queue.take(&mut taken) {
            assert!(taken.len() <= QUEUE_BYTES_MAX);
            got.append(&mut taken);
        }
        putting.join().unwrap();
        assert!(got == sent, "{} of {} bytes came through", got.len(), sent.len());
    }
}
