//! The machine that a measurement ran on: what to print beside a number, which cores to use, how much CPU was taken.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use rustix::thread::CpuSet;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::stats::nanos;

/// Unit of `/proc/stat`: `USER_HZ`, which is 100 on all machines that Linux runs on today.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Most of the cores' time that others may take in a second that counts as quiet, in percent.
const QUIET_PERCENT: u64 = 5;
/// How long the machine is looked at, to tell whether it is quiet.
const QUIET_LOOK: Duration = Duration::from_secs(1);

/// Which cores a measurement's processes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pin {
    /// All on one.
    Same,
    /// The measuring one on one, the measured on another.
    Split,
    /// Wherever the kernel puts them.
    None,
}

impl Pin {
    /// In words, for a table's title.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Same => "all processes on one core",
            Self::Split => "measuring and measured on one core each",
            Self::None => "on any core",
        }
    }
}

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
    /// Of all cores' time, what others took just before the run.
    busy_before_percent: u64,
    /// Processes that wanted a core, on average of the last minute before the run.
    load_1min: String,
}

impl Machine {
    /// This one, once it is quiet; as busy as it is after `quiet_wait`. To be asked before [`pin`].
    pub(crate) fn when_quiet(quiet_wait: Duration) -> anyhow::Result<Self> {
        let busy_before_percent = wait_for_quiet(quiet_wait)?;
        let load = std::fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
        let named = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let uname = rustix::system::uname();
        Ok(Self {
            started_at: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
            cpu: named.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cpus: allowed()?.count(),
            kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
            busy_before_percent,
            load_1min: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} × {}, {}, ", self.started_at, self.cpus, self.cpu, self.kernel)?;
        write!(f, "load {} and {} % busy before", self.load_1min, self.busy_before_percent)
    }
}

/// How many cores this process may use now.
pub(crate) fn count() -> anyhow::Result<usize> {
    Ok(usize::try_from(allowed()?.count())?)
}

/// The first `count` cores that this process may use. To be asked before [`pin`].
pub(crate) fn cores(count: usize) -> anyhow::Result<Vec<usize>> {
    let set = allowed()?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).take(count).collect();
    ensure!(cores.len() == count, "this needs {count} cores, and the process may use {}", set.count());
    Ok(cores)
}

/// Lets this thread, and those that it starts from now on, run on these cores.
pub(crate) fn pin_to(cores: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("cannot stay on the cores {cores:?}"))
}

/// Keeps this thread, and those that it starts from now on, on one core.
pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    pin_to(&[core])
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

impl CoresTime {
    /// Of all cores' time from here to `later`, what was given to anybody.
    pub(crate) fn busy_percent_until(self, later: Self) -> u64 {
        let (busy, whole) = (later.busy.saturating_sub(self.busy), later.whole.saturating_sub(self.whole));
        nanos(busy) * 100 / nanos(whole).max(1)
    }
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

/// Waits until others leave the cores alone, at the longest so long; says what they took last, in percent.
fn wait_for_quiet(wait: Duration) -> anyhow::Result<u64> {
    let until = Instant::now() + wait;
    loop {
        let before = cores_time()?;
        std::thread::sleep(QUIET_LOOK);
        let busy = before.busy_percent_until(cores_time()?);
        if busy <= QUIET_PERCENT || Instant::now() >= until {
            return Ok(busy);
        }
    }
}

fn allowed() -> anyhow::Result<CpuSet> {
    rustix::thread::sched_getaffinity(None).context("cannot read the cores that this process may use")
}
