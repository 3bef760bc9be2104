//! A sealed world per test: a home of its own, the real program, real processes; everything is gone when it is dropped.
//!
//! Waits are for events with one generous bound; nothing here sleeps to be lucky.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_shellkeep-under-test");

/// How long anything may take that must happen. Far above what it takes: a loaded machine is no failure.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Rounds of killing what a world has left.
const CLEANING_ROUNDS_MAX: u32 = 200;

/// Pause between two looks at something that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One user's shellkeep.
pub(crate) struct World {
    home: tempfile::TempDir,
    path: PathBuf,
}

impl World {
    /// An empty home.
    pub(crate) fn new() -> Result<Self> {
        let home = tempfile::Builder::new().prefix("sk-").tempdir()?;
        let path = home.path().join("home");
        Ok(Self { home, path })
    }

    /// An empty home whose path is `length` bytes long.
    pub(crate) fn with_home_of(length: usize) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("sk-").tempdir()?;
        let mut path = home.path().to_owned();
        while path.as_os_str().len() + 1 < length {
            let rest = length - path.as_os_str().len() - 1;
            path.push("x".repeat(rest.min(100)));
        }
        Ok(Self { home, path })
    }

    /// `SHELLKEEP_HOME`.
    pub(crate) fn home(&self) -> &Path {
        &self.path
    }

    /// A directory of the world that is not the home.
    pub(crate) fn outside(&self) -> &Path {
        self.home.path()
    }

    /// The program with arguments, in the sealed environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args).env_clear().current_dir(self.home.path());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.home.path());
        command.env("SHELLKEEP_HOME", &self.path).env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Output> {
        let child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        wait_with_output(child).with_context(|| format!("shellkeep {}", args.join(" ")))
    }

    /// Runs the program, which must succeed, and returns what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "shellkeep {}: {}: {stderr}", args.join(" "), output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts a detached session that runs a line of shell and returns its id.
    pub(crate) fn session(&self, script: &str) -> Result<String> {
        Ok(self.ok(&["start", "--detached", "--", "/bin/sh", "-c", script])?.trim().to_owned())
    }

    /// What the daemon recorded of a session's output.
    pub(crate) fn output(&self, session: &str) -> Result<Vec<u8>> {
        let output = self.run(&["output", session])?;
        ensure!(output.status.success(), "output: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    /// One session as `ls --all --json` shows it.
    pub(crate) fn listed(&self, session: &str) -> Result<serde_json::Value> {
        let all: Vec<serde_json::Value> = serde_json::from_str(&self.ok(&["ls", "--all", "--json"])?)?;
        all.into_iter().find(|row| row["id"] == session).with_context(|| format!("{session} is not listed"))
    }

    /// Waits until a session is no longer running.
    pub(crate) fn ended(&self, session: &str) -> Result<serde_json::Value> {
        eventually("the session has ended", || {
            let row = self.listed(session)?;
            Ok((row["state"] != "running").then_some(row))
        })
    }

    /// Process id of the daemon that holds the lock.
    pub(crate) fn daemon_pid(&self) -> Option<i32> {
        let holder = shellkeep_daemon::lock::Lock::holder(&self.path.join("state/lock")).ok()??;
        i32::try_from(holder).ok()
    }

    /// Waits until a daemon other than `old` holds the lock.
    pub(crate) fn daemon_other_than(&self, old: Option<i32>) -> Result<i32> {
        eventually("another daemon runs", || Ok(self.daemon_pid().filter(|pid| Some(*pid) != old)))
    }

    /// SIGKILLs the daemon.
    pub(crate) fn kill_daemon(&self) -> Result<i32> {
        let pid = self.daemon_other_than(None)?;
        signal(pid, Signal::KILL)?;
        Ok(pid)
    }

    /// Ids of all keepers that run sessions of this world.
    pub(crate) fn keeper_pid(&self, session: &str) -> Result<i32> {
        let pid = self.listed(session)?["keeper_pid"].as_i64().context("no keeper")?;
        Ok(i32::try_from(pid)?)
    }
}

impl Drop for World {
    /// Nothing of a test outlives it: sessions first, so that no keeper starts a daemon again, then the daemon.
    fn drop(&mut self) {
        let _ = std::fs::create_dir_all(self.path.join("state"));
        let _ = std::fs::write(self.path.join("state/stopped"), "");
        // A dying keeper may have started one more process: until none is left.
        for _ in 0..CLEANING_ROUNDS_MAX {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for pid in left {
                let _ = signal(pid, Signal::KILL);
            }
            std::thread::sleep(LOOK_EVERY); // between two looks: a killed process is gone soon
        }
    }
}

impl World {
    /// Processes whose environment names this home; sessions' own programs among them.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mark = [b"SHELLKEEP_HOME=", self.path.as_os_str().as_encoded_bytes(), b"\0"].concat();
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
        all.flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| *pid != own)
            .filter(|pid| {
                let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment.windows(mark.len()).any(|window| window == mark)
            })
            .collect()
    }
}

/// Sends a signal to a process that this world started.
pub(crate) fn signal(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).context("no process id")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

/// Looks until `look` gives something; fails after [`SOON`].
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let until = Instant::now() + SOON;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > until {
            bail!("not within {SOON:?}: {what}");
        }
        std::thread::sleep(LOOK_EVERY); // between two looks at a state that sends no event
    }
}

/// Waits for a child, which is killed after [`SOON`], and returns what it printed.
fn wait_with_output(child: Child) -> Result<Output> {
    let pid = i32::try_from(child.id())?;
    let (done, is_done) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || drop(done.send(child.wait_with_output())));
    let output = if let Ok(output) = is_done.recv_timeout(SOON * 3) {
        output?
    } else {
        signal(pid, Signal::KILL)?;
        bail!("still running after {:?}", SOON * 3);
    };
    let _ = waiter.join();
    Ok(output)
}
