//! Processes of a measurement: ended within a bound, asked for what they took and what they hold.
//!
//! Promise: what is started here is gone when its value is dropped, and no wait lasts longer than it was told to. Works
//! by process id and descriptor, because keepers and daemons are nobody's children until they come to us as orphans.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use crate::machine::TICK;

/// How long a killed process may take to be gone.
const KILL_WAIT_MAX: Duration = Duration::from_secs(5);

/// Makes orphans among our descendants our children, so that they can be waited for.
pub(crate) fn adopt_orphans() -> anyhow::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("cannot become a subreaper")
}

/// What became of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// Status 0.
    pub(crate) success: bool,
    /// CPU time of it and of the children that it has waited for.
    pub(crate) cpu: Duration,
}

/// A child of ours. Killed and waited for on drop.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    handle: OwnedFd,
    reaped: bool,
}

impl Process {
    /// Takes over a child: nobody else may wait for it.
    pub(crate) fn of(pid: Pid) -> anyhow::Result<Self> {
        let handle = pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("cannot open process {pid}"))?;
        Ok(Self { pid, handle, reaped: false })
    }

    /// Starts a command and takes over its process. The command's descriptors are closed here.
    pub(crate) fn start(mut command: std::process::Command) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Self::of(Pid::from_child(&child))
    }

    /// Its id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> anyhow::Result<bool> {
        self.ends_within(Duration::ZERO)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        pidfd_send_signal(&self.handle, signal).with_context(|| format!("cannot signal process {}", self.pid))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it has not ended after `wait`.
    pub(crate) fn wait(mut self, wait: Duration) -> anyhow::Result<Ended> {
        ensure!(self.ends_within(wait)?, "process {} ({}) has not ended within {wait:?}", self.pid, name(self.pid));
        self.reap()
    }

    fn ends_within(&self, wait: Duration) -> anyhow::Result<bool> {
        let wait = rustix::time::Timespec::try_from(wait)?;
        let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
        Ok(poll(&mut fds, Some(&wait))? > 0)
    }

    /// Takes what is left of an ended process.
    fn reap(&mut self) -> anyhow::Result<Ended> {
        let mut status = 0;
        // SAFETY: all-zero bytes are a valid rusage, which holds nothing but integers.
        #[allow(unsafe_code)]
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to values of the right type that outlive the call.
        #[allow(unsafe_code)] // no safe interface waits for one process and says what it took
        let pid = unsafe { libc::wait4(self.pid.as_raw_pid(), &raw mut status, 0, &raw mut usage) };
        self.reaped = true;
        ensure!(pid == self.pid.as_raw_pid(), "cannot wait for process {}", self.pid);
        let time = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
        };
        Ok(Ended { success: status == 0, cpu: time(usage.ru_utime) + time(usage.ru_stime) })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.signal(Signal::KILL);
            if self.ends_within(KILL_WAIT_MAX).unwrap_or(false) {
                let _ = self.reap();
            }
        }
    }
}

/// Children of `parent`, orphans that it took included, but not those named. Reads all of /proc: not for a hot path.
pub(crate) fn children_of(parent: Pid, but: &[Pid]) -> anyhow::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(path.join("stat")) else { continue }; // it has just ended
        // State and parent follow the name, which may hold anything (proc_pid_stat(5)).
        let its_parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if its_parent == Some(parent.as_raw_pid()) && !but.contains(&pid) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Children of ours, but not those named.
fn children(but: &[Pid]) -> anyhow::Result<Vec<Pid>> {
    children_of(rustix::process::getpid(), but)
}

/// Waits until no child is left but those named; returns the CPU time that those which ended took.
///
/// # Errors
/// If one of them is alive after `wait`: it is killed.
pub(crate) fn wait_for_orphans(but: &[Pid], wait: Duration) -> anyhow::Result<Duration> {
    let until = Instant::now() + wait;
    let mut cpu = Duration::ZERO;
    loop {
        let left = children(but)?;
        let Some(&first) = left.first() else { return Ok(cpu) };
        let orphan = Process::of(first)?;
        cpu += orphan.wait(until.saturating_duration_since(Instant::now()))?.cpu;
    }
}

/// Kills every child that is left, orphans included.
pub(crate) fn end_children() {
    for pid in children(&[]).unwrap_or_default() {
        drop(Process::of(pid));
    }
}

/// The name of a process, for errors.
fn name(pid: Pid) -> String {
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_pid()));
    name.map_or_else(|_| "gone".to_owned(), |name| name.trim_end().to_owned())
}

/// CPU time of a living process, without its children's; in steps of 10 ms.
pub(crate) fn cpu_time(pid: Pid) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()))?;
    // The name may hold anything; fields 14 and 15 count from before it (proc_pid_stat(5)).
    let (_, after_name) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    Ok(TICK * ticks.sum::<Result<u32, _>>()?)
}

/// How often the threads of a process have slept and were woken since their start.
pub(crate) fn wakeups(pid: Pid) -> anyhow::Result<u64> {
    let tasks = format!("/proc/{}/task", pid.as_raw_pid());
    std::fs::read_dir(tasks)?.try_fold(0, |sum, task| {
        Ok(sum + field(&std::fs::read_to_string(task?.path().join("status"))?, "voluntary_ctxt_switches:")?)
    })
}

/// What a process holds, in KiB.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Memory {
    /// Resident, shared pages included.
    pub(crate) rss_kib: u64,
    /// Resident, shared pages divided among those who share them.
    pub(crate) pss_kib: u64,
}

/// What a process holds now.
pub(crate) fn memory(pid: Pid) -> anyhow::Result<Memory> {
    let path = format!("/proc/{}/smaps_rollup", pid.as_raw_pid());
    let text = std::fs::read_to_string(Path::new(&path)).with_context(|| format!("cannot read {path}"))?;
    Ok(Memory { rss_kib: field(&text, "Rss:")?, pss_kib: field(&text, "Pss:")? })
}

/// The number of the line that begins with `name`.
fn field(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no number after {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_does_not_end_is_an_error_in_time_and_gone_afterwards() {
        let mut command = std::process::Command::new("sleep");
        command.arg("60");
        let process = Process::start(command).unwrap();
        let pid = process.pid();
        let begun = Instant::now();
        assert!(process.wait(Duration::from_millis(20)).is_err());
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(!Path::new(&format!("/proc/{}", pid.as_raw_pid())).exists());
    }

    #[test]
    fn a_process_says_what_it_took() {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3"]);
        let ended = Process::start(command).unwrap().wait(Duration::from_secs(20)).unwrap();
        assert!(!ended.success && ended.cpu > Duration::from_micros(100), "{ended:?}");
        assert!(memory(rustix::process::getpid()).unwrap().rss_kib > 100);
    }
}
