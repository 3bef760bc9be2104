//! A sealed world per test: a home of its own, the real program, real processes; everything is gone when it is dropped.
//!
//! Waits are for events with one generous bound; nothing here sleeps to be lucky.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use shellkeep::places::Places;
use shellkeep_journal::hook::Point;

/// Name of the program under test, which is built with the hooks of [`shellkeep_journal::hook`].
pub const PROGRAM_NAME: &str = "shellkeep-under-test";

/// How long anything may take that must happen. Far above what it takes: a loaded machine is no failure.
pub const SOON: Duration = Duration::from_secs(20);

/// Rounds of killing what a world has left.
const CLEANING_ROUNDS_MAX: u32 = 200;

/// Pause between two looks at something that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One user's shellkeep.
#[derive(Debug)]
pub struct World {
    home: tempfile::TempDir,
    path: PathBuf,
    program: PathBuf,
}

impl World {
    /// An empty home, and the program that lies beside the running test.
    ///
    /// # Errors
    /// If there is no room for it, or no such program.
    pub fn new() -> Result<Self> {
        Self::of(&program_beside_tests()?)
    }

    /// An empty home for this program.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn of(program: &Path) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("sk-").tempdir()?;
        let path = home.path().join("home");
        Ok(Self { home, path, program: program.to_owned() })
    }

    /// An empty home whose path is `length` bytes long.
    ///
    /// # Errors
    /// What went wrong, for the report of a failed test.
    pub fn with_home_of(length: usize) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("sk-").tempdir()?;
        let mut path = home.path().to_owned();
        while path.as_os_str().len() + 1 < length {
            let rest = length - path.as_os_str().len() - 1;
            path.push("x".repeat(rest.min(100)));
        }
        Ok(Self { home, path, program: program_beside_tests()? })
    }

    /// Whether the files stay when the world goes, to be looked at.
    pub fn keep_files(&mut self, keep: bool) {
        self.home.disable_cleanup(keep);
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Where files, sockets and logs of this world lie.
    pub fn places(&self) -> Places {
        Places::under(&self.path)
    }

    /// `SHELLKEEP_HOME`.
    pub fn home(&self) -> &Path {
        &self.path
    }

    /// Where the points at which processes shall stop are named. Source: `shellkeep_journal::hook`.
    fn hooks(&self) -> PathBuf {
        self.home.path().join("hooks")
    }

    /// From now on every process of this world that comes to `point` stops there.
    ///
    /// # Errors
    /// If the file that says so cannot be written.
    pub fn trap(&self, point: Point) -> Result<Trap> {
        std::fs::create_dir_all(self.hooks())?;
        let file = self.hooks().join(point.name());
        std::fs::write(&file, "")?;
        Ok(Trap { point, file })
    }

    /// A directory of the world that is not the home.
    pub fn outside(&self) -> &Path {
        self.home.path()
    }

    /// What the program said beside the session in the terminal that was started last.
    pub fn stderr_of_screens(&self) -> PathBuf {
        self.home.path().join("stderr")
    }

    /// The program with arguments, in the sealed environment.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env_clear().current_dir(self.home.path());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.home.path());
        command.env("SHELLKEEP_HOME", &self.path).env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        command.env(shellkeep_journal::hook::DIRECTORY, self.hooks());
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC").env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// What went wrong, for the report of a failed test.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        let child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        wait_with_output(child).with_context(|| format!("shellkeep {}", args.join(" ")))
    }

    /// Runs the program, which must succeed, and returns what it printed.
    ///
    /// # Errors
    /// What went wrong, for the report of a failed test.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "shellkeep {}: {}: {stderr}", args.join(" "), output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts a detached session that runs a line of shell and returns its id.
    ///
    /// # Errors
    /// What went wrong, for the report of a failed test.
    pub fn session(&self, script: &str) -> Result<String> {
        Ok(self.ok(&["start", "--detached", "--", "/bin/sh", "-c", script])?.trim().to_owned())
    }

    /// What the daemon recorded of a session's output.
    ///
    /// # Errors
    /// What went wrong, for the report of a failed test.
    pub fn output(&self, session: &str) -> Result<Vec<u8>> {
        let output = self.run(&["output", session])?;
        ensure!(output.status.success(), "output: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    /// One session as `ls --all --json` shows it.
    ///
    /// # Errors
    /// What went wrong, for the report of a failed test.
    pub fn listed(&self, session: &str) -> Result<serde_json::Value> {
        let all: Vec<serde_json::Value> = serde_json::from_str(&self.ok(&["ls", "--all", "--json"])?)?;
        all.into_iter().find(|row| row["id"] == session).with_context(|| format!("{session} is not listed"))
    }

    /// Id of the newest session of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn listed_by_name(&self, name: &str) -> Result<String> {
        let all: Vec<serde_json::Value> = serde_json::from_str(&self.ok(&["ls", "--all", "--json"])?)?;
        let row =
            all.into_iter().find(|row| row["name"] == name).with_context(|| format!("no session is called {name}"))?;
        Ok(row["id"].as_str().context("a session has an id")?.to_owned())
    }

    /// Waits until a session is no longer running.
    ///
    /// # Errors
    /// What went wrong, for the report of a failed test.
    pub fn ended(&self, session: &str) -> Result<serde_json::Value> {
        eventually("the session has ended", || {
            let row = self.listed(session)?;
            Ok((row["state"] != "running").then_some(row))
        })
    }

    /// Process id of the daemon that holds the lock.
    pub fn daemon_pid(&self) -> Option<i32> {
        let holder = shellkeep_daemon::lock::Lock::holder(&self.path.join("state/lock")).ok()??;
        i32::try_from(holder).ok()
    }

    /// Waits until a daemon other than `old` holds the lock.
    ///
    /// # Errors
    /// What went wrong, for the report of a failed test.
    pub fn daemon_other_than(&self, old: Option<i32>) -> Result<i32> {
        eventually("another daemon runs", || Ok(self.daemon_pid().filter(|pid| Some(*pid) != old)))
    }

    /// SIGKILLs the daemon.
    ///
    /// # Errors
    /// What went wrong, for the report of a failed test.
    pub fn kill_daemon(&self) -> Result<i32> {
        let pid = self.daemon_other_than(None)?;
        signal(pid, Signal::KILL)?;
        Ok(pid)
    }

    /// Ids of all keepers that run sessions of this world.
    ///
    /// # Errors
    /// What went wrong, for the report of a failed test.
    pub fn keeper_pid(&self, session: &str) -> Result<i32> {
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
    /// Processes of this world, known by what every one of them has in its environment; sessions' own programs too.
    pub fn processes(&self) -> Vec<i32> {
        let hooks = self.hooks();
        let variable = shellkeep_journal::hook::DIRECTORY.as_bytes();
        let mark = [variable, b"=", hooks.as_os_str().as_encoded_bytes(), b"\0"].concat();
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

/// The program that was built with this test.
fn program_beside_tests() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let beside = test.parent().context("a program lies in a directory")?;
    let beside = if beside.ends_with("deps") { beside.parent().unwrap_or(beside) } else { beside };
    let program = beside.join(PROGRAM_NAME);
    ensure!(program.exists(), "{} is not built", program.display());
    Ok(program)
}

/// A point at which processes stop, as long as this lives.
#[derive(Debug)]
pub struct Trap {
    point: Point,
    file: PathBuf,
}

impl Trap {
    /// Waits until a process stands there; returns which.
    ///
    /// # Errors
    /// If none comes.
    pub fn caught(&self) -> Result<i32> {
        let prefix = format!("{}.reached.", self.point.name());
        let directory = self.file.parent().context("a file lies in a directory")?;
        eventually(&format!("a process comes to {}", self.point.name()), || {
            let names =
                std::fs::read_dir(directory)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            let mut pids = names.filter_map(|name| name.strip_prefix(&prefix)?.parse::<i32>().ok());
            Ok(pids.find(|pid| is_alive(*pid)))
        })
    }

    /// Waits until a process stands there, and kills it; returns which it was.
    ///
    /// # Errors
    /// If none comes.
    pub fn kill(self) -> Result<i32> {
        let pid = self.caught()?;
        signal(pid, Signal::KILL)?;
        gone(pid)?;
        Ok(pid)
    }
}

impl Drop for Trap {
    /// Whoever stands there goes on.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Whether a process runs; one that nobody has waited for yet does not. A first thread that has ended is not the end:
/// another one, in the middle of a sync, still holds the process's locks.
pub fn is_alive(pid: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    let mut letters = stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next());
    letters.any(|letter| !matches!(letter, 'Z' | 'X'))
}

/// Waits until a process that was killed has ended.
///
/// # Errors
/// If it does not end.
pub fn gone(pid: i32) -> Result<()> {
    eventually("a killed process is gone", || Ok((!is_alive(pid)).then_some(())))
}

/// Sends a signal to a process that this world started.
///
/// # Errors
/// What went wrong, for the report of a failed test.
pub fn signal(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).context("no process id")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

/// Looks until `look` gives something; fails after [`SOON`].
///
/// # Errors
/// What went wrong, for the report of a failed test.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    within(SOON, what, look)
}

/// The same for another time.
///
/// # Errors
/// What went wrong, for the report of a failed test.
pub fn within<T>(wait: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let until = Instant::now() + wait;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > until {
            bail!("not within {wait:?}: {what}");
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
