//! Ten thousand clients at once: what they cost while nothing happens, and how a restart goes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;

use super::clients::Clients;
use super::server::Server;
use super::{Place, raise_descriptor_limit};
use crate::machine::Machine;
use crate::process::{self, Memory};
use crate::report;
use crate::stats::{float, median, percentile};

/// How long all clients may take to be there.
const ALL_WAIT_MAX: Duration = Duration::from_mins(2);
/// Until what the connecting began has settled.
const SETTLE: Duration = Duration::from_secs(2);
/// How long idleness is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The measurement of many clients.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Clients.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=16_384))]
    clients: u64,
    /// Processes that they are spread over.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    processes: u64,
    /// Restarts of the server.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    restarts: u32,
    /// How long to wait for a quiet machine, in seconds.
    #[arg(long, default_value_t = 60)]
    quiet_wait_s: u64,
    /// Also writes every number here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One restart.
#[derive(Debug, Clone, Copy, Serialize)]
struct Restart {
    /// From the new server's bind to the client's first answered call.
    p50_ns: u64,
    all_ns: u64,
    /// Connections that the server has accepted, per client.
    accepted_each: f64,
    /// Tries, failed ones included, per client.
    tries_each: f64,
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    clients: u64,
    processes: u64,
    server_before: Memory,
    server_with_all: Memory,
    server_kib_each: f64,
    /// Of one core.
    server_idle_percent: f64,
    server_idle_wakeups_per_s: f64,
    clients_idle_percent: f64,
    restarts: Vec<Restart>,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::when_quiet(Duration::from_secs(args.quiet_wait_s))?;
    raise_descriptor_limit()?;
    let results = measure(args, machine);
    process::end_children();
    let results = results?;
    print(&results);
    args.json.as_ref().map_or(Ok(()), |path| report::json(path, &results))
}

fn measure(args: &Args, machine: Machine) -> anyhow::Result<Results> {
    let place = Place::new()?;
    let mut server = Server::start(&place)?;
    let pid = |server: &Server| server.child.process.pid();
    let number = |server: &Server| pid(server).as_raw_pid().unsigned_abs();
    let server_before = process::memory(pid(&server))?;
    let fleet = Clients::start(&place, args.clients, args.processes)?;
    fleet.with(number(&server), ALL_WAIT_MAX)?;
    std::thread::sleep(SETTLE); // what comes after it is the measure, so there is no event to wait for
    let server_with_all = process::memory(pid(&server))?;
    let clients_cpu = || {
        fleet
            .children
            .iter()
            .try_fold(Duration::ZERO, |sum, child| anyhow::Ok(sum + process::cpu_time(child.process.pid())?))
    };
    let before = (process::cpu_time(pid(&server))?, process::wakeups(pid(&server))?, clients_cpu()?);
    std::thread::sleep(LOOK);
    let after = (process::cpu_time(pid(&server))?, process::wakeups(pid(&server))?, clients_cpu()?);
    let percent = |time: Duration| time.as_secs_f64() / LOOK.as_secs_f64() * 100.0;
    let mut restarts = Vec::new();
    for _ in 0..args.restarts {
        server.kill();
        server = Server::start(&place)?;
        let arrived = fleet.with(number(&server), ALL_WAIT_MAX)?;
        let mut back: Vec<u64> = arrived.answered_ns.iter().map(|at| at.saturating_sub(server.listening_ns)).collect();
        back.sort_unstable();
        let seen = server.seen()?;
        ensure!(seen.connected == args.clients, "{} of {} clients are connected", seen.connected, args.clients);
        restarts.push(Restart {
            p50_ns: percentile(&back, 50),
            all_ns: percentile(&back, 100),
            accepted_each: float(seen.accepted) / float(args.clients),
            tries_each: 1.0 + float(arrived.failed_tries) / float(args.clients),
        });
    }
    let grown = server_with_all.rss_kib.saturating_sub(server_before.rss_kib);
    Ok(Results {
        machine,
        clients: args.clients,
        processes: args.processes,
        server_before,
        server_with_all,
        server_kib_each: float(grown) / float(args.clients),
        server_idle_percent: percent(after.0.saturating_sub(before.0)),
        server_idle_wakeups_per_s: float(after.1.saturating_sub(before.1)) / LOOK.as_secs_f64(),
        clients_idle_percent: percent(after.2.saturating_sub(before.2)),
        restarts,
    })
}

fn print(results: &Results) {
    let middle = |of: fn(&Restart) -> f64| format!("{:.2}", median(results.restarts.iter().map(of)));
    let last = results.restarts.iter().map(|restart| restart.all_ns).max().unwrap_or(0);
    let rows = [
        ("server memory per client, KiB", "6.5", format!("{:.2}", results.server_kib_each)),
        ("server, idle, % of a core", "–", format!("{:.2}", results.server_idle_percent)),
        ("server, idle, wakeups/s", "–", format!("{:.1}", results.server_idle_wakeups_per_s)),
        ("clients, idle, % of a core in all", "–", format!("{:.2}", results.clients_idle_percent)),
        ("restart: half resumed after, s", "–", middle(|restart| float(restart.p50_ns) / 1e9)),
        ("restart: all resumed after, s", "3", middle(|restart| float(restart.all_ns) / 1e9)),
        ("restart: all resumed after, s, slowest restart", "3", format!("{:.2}", float(last) / 1e9)),
        ("restart: connections accepted per client", "3", middle(|restart| restart.accepted_each)),
        ("restart: tries per client, failed ones included", "3", middle(|restart| restart.tries_each)),
    ];
    let rows: Vec<_> = rows.map(|(what, goal, value)| vec![what.to_owned(), goal.to_owned(), value]).into();
    let title = format!(
        "{} clients in {} processes; medians of {} restarts; {}",
        results.clients,
        results.processes,
        results.restarts.len(),
        results.machine
    );
    report::table(&title, &["what", "at most", "measured"], 1, &rows);
}
