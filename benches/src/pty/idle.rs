//! A session in which nothing happens: who wakes up, and what they hold.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Pid;
use serde::Serialize;

use super::{Contestant, Entrant, KEEPER_END_WAIT_MAX, Stage, daemons};
use crate::process::{self, Memory};
use crate::report;

/// Until what the start began has settled.
const SETTLE: Duration = Duration::from_secs(2);
/// How long is looked.
const LOOK: Duration = Duration::from_secs(5);
/// Says that it runs, and then waits for a line.
const PROGRAM: [&str; 3] = ["/bin/sh", "-c", "printf '<idle>'; read line"];

/// One process of a contestant.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    pub(super) contestant: Contestant,
    pub(super) process: &'static str,
    /// While it was looked at.
    wakeups: u64,
    pub(super) wakeups_per_s: f64,
    pub(super) memory: Memory,
}

/// One look at all of them at once.
pub(super) fn measure(stage: &Stage, entrants: &[Entrant]) -> anyhow::Result<Vec<Cell>> {
    let relayed = |entrant: &&Entrant| {
        matches!(
            entrant.contestant,
            Contestant::Relay | Contestant::Script | Contestant::Kept | Contestant::KeptStopped
        )
    };
    let (mut ttys, mut watched) = (Vec::new(), Vec::new());
    for entrant in entrants.iter().filter(relayed) {
        let tty = stage.start(entrant, &PROGRAM.map(OsString::from), "idle")?;
        tty.read_until(b"<idle>")?;
        let own = tty.process().pid();
        if let Some(home) = &entrant.home {
            // The terminal's only child.
            let keeper = process::children_of(own, &[])?.into_iter().next().context("the terminal has no keeper")?;
            watched.push((entrant.contestant, "terminal", own));
            watched.push((entrant.contestant, "keeper", keeper));
            watched.extend(home.daemon().map(|daemon| (entrant.contestant, "daemon", daemon)));
        } else {
            watched.push((entrant.contestant, "relay", own));
        }
        ttys.push(tty);
    }
    std::thread::sleep(SETTLE); // what comes after it is the measure, so there is no event to wait for
    let before = watched.iter().map(|(_, _, pid)| process::wakeups(*pid)).collect::<anyhow::Result<Vec<_>>>()?;
    std::thread::sleep(LOOK);
    let mut cells = Vec::new();
    for ((contestant, process, pid), before) in watched.into_iter().zip(before) {
        cells.push(look(contestant, process, pid, before)?);
    }
    for tty in ttys {
        tty.write(b"\n")?;
        tty.end()?;
    }
    process::wait_for_orphans(&daemons(entrants), KEEPER_END_WAIT_MAX)?;
    Ok(cells)
}

fn look(contestant: Contestant, process: &'static str, pid: Pid, before: u64) -> anyhow::Result<Cell> {
    let wakeups = process::wakeups(pid)?.saturating_sub(before);
    let wakeups_per_s = crate::stats::float(wakeups) / LOOK.as_secs_f64();
    Ok(Cell { contestant, process, wakeups, wakeups_per_s, memory: process::memory(pid)? })
}

/// The table.
pub(super) fn print(title: &str, cells: &[Cell]) {
    if cells.is_empty() {
        return;
    }
    let mib = |kib: u64| format!("{:.2}", crate::stats::float(kib) / 1024.0);
    let row = |cell: &Cell| {
        vec![
            cell.contestant.name().to_owned(),
            cell.process.to_owned(),
            format!("{:.1}", cell.wakeups_per_s),
            mib(cell.memory.rss_kib),
            mib(cell.memory.pss_kib),
        ]
    };
    let rows: Vec<_> = cells.iter().map(row).collect();
    let title = format!("idle: one look of {} s, {title}", LOOK.as_secs());
    report::table(&title, &["contestant", "process", "wakeups/s", "RSS MiB", "PSS MiB"], 2, &rows);
}
