//! The process of one server: started, its streams, its end.
//!
//! Promise: a process group of its own that dies with the daemon, with the environment that was agreed to and nothing else; of what it says
//! on its standard error the last [`STDERR_BYTES_MAX`] bytes are kept and no more is read than [`STDERR_READ_BYTES`] each
//! [`STDERR_READ_EVERY`]; when this is dropped nothing of the group is left. Lives on the thread of the servers: the system kills the
//! process when the thread that started it ends.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::unix::pipe;

use super::super::names;
use super::super::run::prepare_child;

/// What is kept of its standard error.
const STDERR_BYTES_MAX: usize = 64 << 10;
const STDERR_READ_BYTES: usize = 16 << 10;
const STDERR_READ_EVERY: Duration = Duration::from_millis(10);

/// How long it may take to end when its standard input is closed, and then after TERM.
const CLOSE_WAIT_MAX: Duration = Duration::from_millis(500);
const TERM_WAIT_MAX: Duration = Duration::from_secs(2);

/// A running server.
pub(super) struct Process {
    child: Child,
    group: Pid,
    ended: AsyncFd<OwnedFd>,
    has_ended: bool,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    reader: tokio::task::JoinHandle<()>,
}

/// Its standard output and input.
pub(super) type Streams = (pipe::Receiver, pipe::Sender);

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn start(
        argv: &[String],
        directory: &Path,
        environment: &[(String, String)],
    ) -> std::io::Result<(Self, Streams)> {
        let (program, words) = argv.split_first().ok_or_else(|| std::io::Error::other("there is nothing to start"))?;
        let mut command = Command::new(program);
        command.args(words).current_dir(directory).env_clear().envs(environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        prepare_child(&mut command);
        let mut child = command.spawn()?;
        let group = Pid::from_child(&child);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let parts = || {
            let missing = || std::io::Error::other("a stream is missing");
            let ended = watched(pidfd_open(group, PidfdFlags::empty())?)?;
            let stdin = pipe::Sender::from_owned_fd(stdin.ok_or_else(missing)?.into())?;
            let stdout = pipe::Receiver::from_owned_fd(stdout.ok_or_else(missing)?.into())?;
            let stderr = pipe::Receiver::from_owned_fd(stderr.ok_or_else(missing)?.into())?;
            Ok((ended, stdin, stdout, stderr))
        };
        match parts() {
            Ok((ended, stdin, stdout, stderr)) => {
                let kept = Arc::new(Mutex::new(VecDeque::new()));
                let reader = tokio::spawn(keep(stderr, Arc::clone(&kept)));
                Ok((Self { child, group, ended, has_ended: false, stderr: kept, reader }, (stdout, stdin)))
            }
            Err(error) => {
                let _gone = kill_process_group(group, Signal::KILL);
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Resolves when it has ended by itself.
    pub(super) async fn ended(&self) {
        let _readable = self.ended.readable().await;
    }

    /// Ends it and all of its group. Its streams were closed before.
    pub(super) async fn end(mut self) {
        for (wait, signal) in [(CLOSE_WAIT_MAX, Signal::TERM), (TERM_WAIT_MAX, Signal::KILL)] {
            if tokio::time::timeout(wait, self.ended()).await.is_ok() {
                break;
            }
            let _gone = kill_process_group(self.group, signal);
        }
        self.collect();
    }

    /// How it ended, in words; the last line of its standard error with them.
    pub(super) async fn why(mut self) -> String {
        let _still_runs = tokio::time::timeout(CLOSE_WAIT_MAX, self.ended()).await;
        // What it said at last may still be in the pipe.
        let _has_more = tokio::time::timeout(CLOSE_WAIT_MAX, &mut self.reader).await;
        let said = self.said();
        let how = match self.collect() {
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("it ended with status {code}"),
                (None, Some(signal)) => format!("signal {signal} ended it"),
                (None, None) => "it ended".to_owned(),
            },
            None => "it closed its streams".to_owned(),
        };
        said.map_or(how.clone(), |said| format!("{how}: {said}"))
    }

    /// The last line of its standard error.
    fn said(&self) -> Option<String> {
        let bytes: Vec<u8> = self.stderr.lock().iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().rev().map(names::shown);
        lines.into_iter().find(|line| !line.is_empty())
    }

    /// Nothing of the group runs after this. How it ended, if it had ended by itself.
    fn collect(&mut self) -> Option<std::process::ExitStatus> {
        self.has_ended = true;
        self.reader.abort();
        let mut fds = [PollFd::new(self.ended.get_ref(), PollFlags::IN)];
        let had_ended = matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1));
        // Children that it left behind too; and before it is waited for, as long as its number is its own.
        let _gone = kill_process_group(self.group, Signal::KILL);
        self.child.wait().ok().filter(|_| had_ended)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended {
            self.collect();
        }
    }
}

/// Readable when the process has ended.
fn watched(pidfd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and names the same as long as it is owned, and it is owned by what is returned.
    #[allow(unsafe_code)]
    let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    Ok(watched?)
}

/// Keeps the last of what it says.
async fn keep(mut stderr: pipe::Receiver, kept: Arc<Mutex<VecDeque<u8>>>) {
    let mut bytes = vec![0; STDERR_READ_BYTES];
    while let Ok(count @ 1..) = stderr.read(&mut bytes).await {
        {
            let mut kept = kept.lock();
            kept.extend(&bytes[..count]);
            let over = kept.len().saturating_sub(STDERR_BYTES_MAX);
            kept.drain(..over);
        }
        if count == STDERR_READ_BYTES {
            tokio::time::sleep(STDERR_READ_EVERY).await;
        }
    }
}
