//! The machine that a measurement ran on: what to print beside a number, which cores to use, how much CPU was taken.

use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::thread::CpuSet;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Unit of `/proc/stat`: `USER_HZ`, which is 100 on all machines that Linux runs on today.
const TICK: Duration = Duration::from_millis(10);

/// What a number means nothing without.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// When the run began, RFC 3339 in UTC.
    started_at: String,
    /// The CPU's own name.
    cpu: String,
    /// How many of them this process may use.
    cpus: u32,
    /// Name and release of the kernel.
    kernel: String,
}

impl Machine {
    /// This one, now. To be asked before [`pin`].
    pub(crate) fn here() -> anyhow::Result<Self> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
        let named = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let uname = rustix::system::uname();
        Ok(Self {
            started_at: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
            cpu: named.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cpus: allowed()?.count(),
            kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
        })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} × {}, {}", self.started_at, self.cpus, self.cpu, self.kernel)
    }
}

/// The first `count` cores that this process may use. To be asked before [`pin`].
pub(crate) fn cores(count: usize) -> anyhow::Result<Vec<usize>> {
    let set = allowed()?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).take(count).collect();
    ensure!(cores.len() == count, "this needs {count} cores, and the process may use {}", set.count());
    Ok(cores)
}

/// Keeps this thread, and those that it starts from now on, on one core.
pub(crate) fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("cannot stay on core {cpu}"))
}

/// CPU time that this process has taken since its start.
pub(crate) fn cpu_time() -> Duration {
    let taken = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(taken.tv_sec.unsigned_abs(), u32::try_from(taken.tv_nsec).unwrap_or(0))
}

/// Time of all cores together since the machine's start, in steps of 10 ms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CoresTime {
    /// Given to anybody.
    pub(crate) busy: Duration,
    /// Given, or idle.
    pub(crate) whole: Duration,
}

/// What the cores have done until now.
pub(crate) fn cores_time() -> anyhow::Result<CoresTime> {
    let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    // user nice system idle iowait irq softirq steal guest guest_nice; guests are also counted as user (proc_stat(5)).
    let (mut busy, mut whole) = (Duration::ZERO, Duration::ZERO);
    for (field, ticks) in ticks.into_iter().take(8).enumerate() {
        whole += TICK * ticks;
        if field != 3 && field != 4 {
            busy += TICK * ticks;
        }
    }
    Ok(CoresTime { busy, whole })
}

fn allowed() -> anyhow::Result<CpuSet> {
    rustix::thread::sched_getaffinity(None).context("cannot read the cores that this process may use")
}
