//! The goals for keeper and terminal beside what was measured. The numbers are set elsewhere; here is where they are
//! compared, so that no table is read as a success that is none.

use serde::Serialize;

use super::{Contestant, bulk, echo, idle, start_up};
use crate::report;

/// One row.
#[derive(Debug, Serialize)]
pub(super) struct Goal {
    what: &'static str,
    unit: &'static str,
    at_most: f64,
    measured: f64,
    met: bool,
}

fn goal(what: &'static str, unit: &'static str, at_most: f64, measured: f64) -> Goal {
    Goal { what, unit, at_most, measured, met: measured <= at_most }
}

/// Compares. What was not measured has no row.
pub(super) fn judge(
    bulk: &[bulk::Cell],
    echo: &[echo::Cell],
    start_up: &[start_up::Cell],
    idle: &[idle::Cell],
) -> Vec<Goal> {
    let mut goals = Vec::new();
    let of_bulk = |contestant| bulk.iter().find(|cell| cell.contestant == contestant);
    if let (Some(kept), Some(stopped), Some(frozen)) =
        (of_bulk(Contestant::Kept), of_bulk(Contestant::KeptStopped), of_bulk(Contestant::KeptFrozen))
    {
        goals.push(goal("bulk, shellkeep", "× bare PTY", 1.5, kept.by_floor));
        goals.push(goal("bulk, shellkeep", "× plain relay", 1.1, kept.by_relay));
        goals.push(goal("bulk, terminal and keeper", "CPU s per 64 MiB", 0.40, kept.cpu_s));
        goals.push(goal("bulk, daemon never started", "× with daemon", 1.1, stopped.by_kept));
        goals.push(goal("bulk, daemon frozen", "× with daemon", 1.1, frozen.by_kept));
    }
    let of_echo = |contestant| echo.iter().find(|cell| cell.contestant == contestant);
    if let (Some(kept), Some(relay), Some(script)) =
        (of_echo(Contestant::Kept), of_echo(Contestant::Relay), of_echo(Contestant::Script))
    {
        goals.push(goal("echo added p50", "µs: plain relay + 25", relay.added_p50_us + 25.0, kept.added_p50_us));
        goals.push(goal("echo added p99", "µs: plain relay + 50", relay.added_p99_us + 50.0, kept.added_p99_us));
        goals.push(goal("echo added p50", "µs: script", script.added_p50_us, kept.added_p50_us));
    }
    let of_start = |contestant| start_up.iter().find(|cell| cell.contestant == contestant);
    if let (Some(warm), Some(alone)) = (of_start(Contestant::Kept), of_start(Contestant::KeptAlone)) {
        goals.push(goal("start-up, warm", "ms added", 5.0, warm.added_ms));
        goals.push(goal("start-up, daemon to be started", "ms added", 25.0, alone.added_ms));
    }
    let kept = || idle.iter().filter(|cell| cell.contestant == Contestant::Kept);
    if kept().next().is_some() {
        let ours = |cell: &&idle::Cell| cell.process != "daemon";
        let mib = |kib: u64| crate::stats::float(kib) / 1024.0;
        let wakeups = kept().filter(ours).map(|cell| cell.wakeups_per_s).sum();
        let both = kept().filter(ours).map(|cell| cell.memory.rss_kib).sum();
        let daemon = kept().filter(|cell| !ours(cell)).map(|cell| cell.memory.rss_kib).sum();
        goals.push(goal("idle, terminal and keeper", "wakeups/s", 0.0, wakeups));
        goals.push(goal("idle, terminal and keeper", "MiB resident", 6.0, mib(both)));
        goals.push(goal("idle, daemon", "MiB resident", 12.0, mib(daemon)));
    }
    goals
}

/// The table.
pub(super) fn print(goals: &[Goal]) {
    let row = |goal: &Goal| {
        vec![
            goal.what.to_owned(),
            goal.unit.to_owned(),
            format!("{:.2}", goal.at_most),
            format!("{:.2}", goal.measured),
            if goal.met { "met" } else { "NOT MET" }.to_owned(),
        ]
    };
    let rows: Vec<_> = goals.iter().map(row).collect();
    report::table("goals", &["what", "unit", "at most", "measured", ""], 2, &rows);
}
