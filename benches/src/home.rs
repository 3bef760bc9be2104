//! A shellkeep of its own: one `SHELLKEEP_HOME`, and the daemon in the state that the contestant stands for.
//!
//! Promise: on drop the daemon is gone and the directory with it. Every command has a bound.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{self, Process};
use crate::scratch::Scratch;

/// How long one command of shellkeep may take: reading 64 MiB back is the longest.
const COMMAND_WAIT_MAX: Duration = Duration::from_mins(1);

/// What is done about the daemon before a contestant's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// It runs.
    Up,
    /// It was never started, and is marked as stopped on purpose, so that no keeper starts it.
    Stopped,
    /// It runs and is stopped by SIGSTOP: it holds its lock and answers nobody.
    Frozen,
    /// It does not run, and the session's start has to start it.
    Absent,
}

/// A private home.
#[derive(Debug)]
pub(crate) struct Home {
    program: PathBuf,
    directory: Scratch,
    daemon: Option<Process>,
    /// Where the daemon that runs is to be had.
    socket: PathBuf,
    kind: Daemon,
}

impl Home {
    /// Makes one, with its daemon as `kind` says (one that will be frozen still runs).
    pub(crate) fn new(program: &Path, kind: Daemon) -> anyhow::Result<Self> {
        let directory = Scratch::new()?;
        let mut home = Self { program: program.to_owned(), directory, daemon: None, socket: PathBuf::new(), kind };
        let state = home.state();
        std::fs::create_dir(&state)?;
        std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        std::fs::write(state.join("noticed"), "")?; // the notice before the first session belongs to no measurement
        match kind {
            Daemon::Up | Daemon::Frozen => home.start_daemon()?,
            Daemon::Stopped => home.mark_stopped()?,
            Daemon::Absent => {}
        }
        Ok(home)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    fn mark_stopped(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(self.state().join("stopped"), "")?)
    }

    /// shellkeep, in this home.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("SHELLKEEP_HOME", self.path()).env_remove("SHELLKEEP_SESSION").env_remove("SHELLKEEP_SOCKET");
        command
    }

    /// The daemon's process, if one runs.
    pub(crate) fn daemon(&self) -> Option<Pid> {
        self.daemon.as_ref().map(Process::pid)
    }

    /// The daemon's socket, once one was started.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until the daemon answers, starts one if none runs, and takes it over: it is, or becomes when its starter
    /// has ended, a child of this process.
    pub(crate) fn start_daemon(&mut self) -> anyhow::Result<()> {
        self.run(&["daemon", "start"])?;
        let status: serde_json::Value = serde_json::from_slice(&self.run(&["daemon", "status", "--json"])?)?;
        let pid = status["pid"].as_i64().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        self.socket = status["socket"].as_str().context("the daemon does not say where its socket is")?.into();
        self.daemon = Some(Process::of(pid.context("the daemon does not say which process it is")?)?);
        Ok(())
    }

    /// Ends the daemon, and puts the home back into the state that a start with no daemon finds.
    pub(crate) fn end_daemon(&mut self) -> anyhow::Result<()> {
        self.run(&["daemon", "stop"])?; // marks it as stopped
        if let Some(daemon) = self.daemon.take() {
            daemon.wait(COMMAND_WAIT_MAX)?;
        }
        if self.kind == Daemon::Absent {
            std::fs::remove_file(self.state().join("stopped"))?;
        }
        Ok(())
    }

    /// Freezes the daemon if this home is for that.
    pub(crate) fn before_turn(&self) -> anyhow::Result<()> {
        self.signal_frozen(Signal::STOP)
    }

    /// Brings the daemon up, whatever this home is for, so that the record can be read.
    pub(crate) fn after_turn(&mut self) -> anyhow::Result<()> {
        self.signal_frozen(Signal::CONT)?;
        if self.daemon.is_none() { self.start_daemon() } else { Ok(()) }
    }

    /// Undoes [`Self::after_turn`].
    pub(crate) fn after_reading(&mut self) -> anyhow::Result<()> {
        if self.kind == Daemon::Stopped { self.end_daemon() } else { Ok(()) }
    }

    fn signal_frozen(&self, signal: Signal) -> anyhow::Result<()> {
        match self.daemon() {
            Some(daemon) if self.kind == Daemon::Frozen => Ok(kill_process(daemon, signal)?),
            _ => Ok(()),
        }
    }

    /// CPU time of the daemon since its start; 0 without one.
    pub(crate) fn daemon_cpu(&self) -> anyhow::Result<Duration> {
        self.daemon().map_or(Ok(Duration::ZERO), process::cpu_time)
    }

    /// What was recorded of a session, and then removes the record.
    pub(crate) fn take_record(&self, session: &str) -> anyhow::Result<Vec<u8>> {
        let recorded = self.run(&["output", session])?;
        self.run(&["rm", session])?;
        Ok(recorded)
    }

    /// Runs a command of shellkeep to its end; what it prints goes through a file, so that no pipe can hold it up.
    fn run(&self, args: &[&str]) -> anyhow::Result<Vec<u8>> {
        let (out, err) = (self.path().join("out"), self.path().join("err"));
        let mut command = self.command();
        command.args(args.iter().map(OsStr::new)).stdin(Stdio::null());
        command.stdout(std::fs::File::create(&out)?).stderr(std::fs::File::create(&err)?);
        let ended = Process::start(command)?.wait(COMMAND_WAIT_MAX)?;
        let said = std::fs::read_to_string(err).unwrap_or_default();
        ensure!(ended.success, "shellkeep {} failed: {said}", args.join(" "));
        Ok(std::fs::read(out)?)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.signal_frozen(Signal::CONT);
        self.daemon.take(); // killed: everything under this directory goes with it
    }
}
