//! Clients that come back by themselves: how soon after a restart, and how many at once.
//!
//! Owns the conversation, the server's process and the clients' processes. What is measured with them is in `reconnect`
//! and `many`. Times of different processes are compared on the system's one monotonic clock.

pub(crate) mod clients;
pub(crate) mod many;
pub(crate) mod reconnect;
pub(crate) mod server;

use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use shellkeep_transport::Protocol;

use crate::process::Process;
use crate::scratch::Scratch;

/// Lines that a child may have said before they are read; it waits beyond that.
const LINES_MAX: usize = 64;
/// How long a child may take to be ready.
const READY_WAIT_MAX: Duration = Duration::from_secs(30);

/// The conversation of a session's replay and one call after it.
#[derive(Debug)]
enum Fleet {}

#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// What a client replays on each new connection.
    SessionStart { client: u64 },
    /// The first call of a user.
    Which,
    /// Is never answered.
    Hang,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Told {
    Welcome,
    /// The process that answers.
    Server(u32),
}

impl Protocol for Fleet {
    type Request = Ask;
    type Response = Told;
    type Push = ();
    const NAME: [u8; 4] = *b"FLET";
    const VERSIONS: RangeInclusive<u16> = 1..=1;
}

/// Nanoseconds of the clock that all processes share.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    crate::stats::nanos(Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0)))
}

/// As many descriptors as the system lets us have: one per client.
fn raise_descriptor_limit() -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit on descriptors")
}

/// A private directory with room for a socket.
struct Place {
    _directory: Scratch,
    socket: PathBuf,
}

impl Place {
    fn new() -> anyhow::Result<Self> {
        let directory = Scratch::new()?;
        let socket = directory.path().join("sock");
        Ok(Self { _directory: directory, socket })
    }
}

/// A child of this program that speaks in lines. Killed on drop; it also ends when its standard input does.
struct Child {
    process: Process,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Child {
    fn start(subcommand: &str, socket: &Path, args: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(subcommand).arg("--socket").arg(socket).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {subcommand}"))?;
        let process = Process::of(Pid::from_child(&child))?;
        let stdin = child.stdin.take().context("a child without stdin")?;
        let stdout = child.stdout.take().context("a child without stdout")?;
        let (said, lines) = sync_channel(LINES_MAX);
        // Ends with the child's standard output.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { process, stdin, lines })
    }

    fn line(&self, wait: Duration) -> anyhow::Result<String> {
        match self.lines.recv_timeout(wait) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("process {} said nothing for {wait:?}", self.process.pid()),
            Err(RecvTimeoutError::Disconnected) => bail!("process {} has gone", self.process.pid()),
        }
    }

    fn ask(&mut self) -> anyhow::Result<String> {
        writeln!(self.stdin)?;
        self.line(READY_WAIT_MAX)
    }
}
