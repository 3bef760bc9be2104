//! The transport beside raw sockets: two processes, one connection, the same loads for all.
//!
//! Owns what is measured and in which order. How a load is put on a contestant is that contestant's file.

mod callers;
mod echo;
mod ours;
mod peer_tarpc;
mod peer_tonic;
mod peer_ttrpc;
mod raw;
mod raw_tokio;
pub(crate) mod server;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use crate::machine::{self, Machine, Pin};
use crate::report;
use crate::stats::{float, median, nanos, percentile};
use server::Server;

/// Calls of the first, uncounted run of each cell, from which the counted ones learn how many calls fill their time.
const WARM_UP_CALLS: u64 = 2_048;
/// Most calls in one run of a cell: bounds the memory of the latencies.
const CALLS_MAX: u64 = 4_000_000;

/// The transport's measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the two processes run; on one core and then on one each if not said.
    #[arg(long, value_enum)]
    pin: Vec<Pin>,
    /// Rounds; each contestant has its turn in each.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(5..=1000))]
    rounds: u32,
    /// Time for one contestant under one load in one round, in milliseconds.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    cell_ms: u64,
    /// Only loads whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    load: String,
    /// Ours looks for answers for a moment before it sleeps (`ConnectOptions::spin`).
    #[arg(long)]
    spin: bool,
    /// Beside the two floors; all if not said.
    #[arg(long = "with", value_enum, value_name = "CONTESTANT")]
    others: Vec<Contestant>,
    /// How long to wait for a quiet machine, in seconds.
    #[arg(long, default_value_t = 60)]
    quiet_wait_s: u64,
    /// Also writes every number here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Args {
    fn contestants(&self) -> Vec<Contestant> {
        let others = if self.others.is_empty() { &OTHERS[..] } else { &self.others[..] };
        let others = others.iter().filter(|contestant| !FLOORS.contains(contestant));
        FLOORS.iter().chain(others).copied().collect()
    }

    fn loads(&self) -> Vec<Load> {
        LOADS.into_iter().filter(|load| load.name.contains(&self.load)).collect()
    }
}

/// Who is measured. The first is the floor that the others are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Contestant {
    /// `read` and `write` on blocking sockets.
    RawBlocking,
    /// The same bytes through tokio, current-thread on both ends.
    RawTokio,
    /// `shellkeep-transport`; this and all that follow current-thread on both ends.
    Ours,
    Tarpc,
    Tonic,
    Ttrpc,
}

/// The two floors are always there, and come first.
const FLOORS: [Contestant; 2] = [Contestant::RawBlocking, Contestant::RawTokio];
const OTHERS: [Contestant; 4] = [Contestant::Ours, Contestant::Tarpc, Contestant::Tonic, Contestant::Ttrpc];

/// What is asked of a contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Load {
    name: &'static str,
    payload_bytes: usize,
    /// Calls that wait for their answer at a time.
    in_flight: usize,
    discipline: Discipline,
}

/// How the raw contestants keep calls in flight; ours has a task for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Discipline {
    /// All of them in one write, then all answers: the fewest system calls that there can be.
    Batch,
    /// One by one, as long as there is room.
    Window,
}

const LOADS: [Load; 4] = [
    Load { name: "round trip, 64 B", payload_bytes: 64, in_flight: 1, discipline: Discipline::Batch },
    Load { name: "64 in flight, 64 B", payload_bytes: 64, in_flight: 64, discipline: Discipline::Batch },
    Load { name: "1024 in flight, 64 B", payload_bytes: 64, in_flight: 1024, discipline: Discipline::Batch },
    Load { name: "16 in flight, 64 KiB", payload_bytes: 64 << 10, in_flight: 16, discipline: Discipline::Window },
];

/// What a contestant's client measured.
#[derive(Debug, Default)]
struct Run {
    elapsed: Duration,
    /// Of each call, in nanoseconds; only where one call is in flight.
    latencies_ns: Vec<u64>,
}

/// One run, reduced to what is reported.
#[derive(Debug, Clone, Copy, Serialize)]
struct Sample {
    ns_per_call: f64,
    p50_ns: u64,
    p99_ns: u64,
    /// Of both processes together.
    cpu_ns_per_call: f64,
}

/// One contestant under one load.
#[derive(Debug, Serialize)]
struct Cell {
    pin: Pin,
    load: Load,
    contestant: Contestant,
    calls_per_round: u64,
    /// In order of the rounds.
    samples: Vec<Sample>,
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    rounds: u32,
    cell_ms: u64,
    cells: Vec<Cell>,
    /// Of all cores' time during the run, what went to others: the noise in the numbers.
    others_percent: Vec<(Pin, u64)>,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::when_quiet(Duration::from_secs(args.quiet_wait_s))?;
    let pins = if args.pin.is_empty() { vec![Pin::Same, Pin::Split] } else { args.pin.clone() };
    let cores = machine::cores(if pins.contains(&Pin::Split) { 2 } else { 1 })?;
    let every_core = machine::cores(machine::count()?)?;
    let (rounds, cell_ms) = (args.rounds, args.cell_ms);
    let mut results = Results { machine, rounds, cell_ms, cells: Vec::new(), others_percent: Vec::new() };
    for pin in pins {
        let (own, servers) = match pin {
            Pin::Same => (&cores[..1], Some(cores[0])),
            Pin::Split => (&cores[..1], Some(cores[1])),
            Pin::None => (&every_core[..], None),
        };
        machine::pin_to(own)?;
        let (cells, others) = measure(pin, servers, args)?;
        print(&results.machine, pin, args, &cells, others);
        results.cells.extend(cells);
        results.others_percent.push((pin, others));
    }
    args.json.as_ref().map_or(Ok(()), |path| report::json(path, &results))
}

/// The cells, and what of all cores' time went to others, in percent.
fn measure(pin: Pin, server_core: Option<usize>, args: &Args) -> anyhow::Result<(Vec<Cell>, u64)> {
    let contestants = args.contestants();
    let mut servers = Vec::new();
    for &contestant in &contestants {
        servers.push(Server::start(contestant, server_core)?);
    }
    let mut cells = Vec::new();
    for load in args.loads() {
        for (&contestant, server) in contestants.iter().zip(&servers) {
            let calls_per_round = calls_that_fill(args, contestant, server, load)?;
            cells.push(Cell { pin, load, contestant, calls_per_round, samples: Vec::new() });
        }
    }
    let (all_before, own_before) = (machine::cores_time()?, own_time(&mut servers)?);
    for round in 0..args.rounds as usize {
        for load in 0..args.loads().len() {
            for turn in 0..contestants.len() {
                let who = (turn + round) % contestants.len(); // nobody always comes after the same one
                let cell = &mut cells[load * contestants.len() + who];
                let sample = sample(&mut servers[who], cell, args.spin)?;
                cell.samples.push(sample);
            }
        }
    }
    let (all, own) = (machine::cores_time()?, own_time(&mut servers)?.saturating_sub(own_before));
    let others = all.busy.saturating_sub(all_before.busy).saturating_sub(own);
    let whole = all.whole.saturating_sub(all_before.whole);
    Ok((cells, nanos(others) * 100 / nanos(whole).max(1)))
}

/// CPU time of this process and its servers.
fn own_time(servers: &mut [Server]) -> anyhow::Result<Duration> {
    servers.iter_mut().try_fold(machine::cpu_time(), |sum, server| Ok(sum + server.cpu_time()?))
}

/// How many calls take about so long, from a first run that warms everything up.
fn calls_that_fill(args: &Args, contestant: Contestant, server: &Server, load: Load) -> anyhow::Result<u64> {
    let warm_up = drive(contestant, server, load, WARM_UP_CALLS, args.spin)?;
    let cell = Duration::from_millis(args.cell_ms).as_nanos();
    let calls = cell * u128::from(WARM_UP_CALLS) / warm_up.elapsed.as_nanos().max(1);
    let calls = u64::try_from(calls).unwrap_or(u64::MAX).clamp(WARM_UP_CALLS, CALLS_MAX);
    Ok(calls.next_multiple_of(load.in_flight as u64))
}

fn sample(server: &mut Server, cell: &Cell, spin: bool) -> anyhow::Result<Sample> {
    let cpu_before = machine::cpu_time() + server.cpu_time()?;
    let mut run = drive(cell.contestant, server, cell.load, cell.calls_per_round, spin)?;
    let cpu = (machine::cpu_time() + server.cpu_time()?).saturating_sub(cpu_before);
    run.latencies_ns.sort_unstable();
    let per_call = |time: Duration| float(nanos(time)) / float(cell.calls_per_round);
    Ok(Sample {
        ns_per_call: per_call(run.elapsed),
        p50_ns: percentile(&run.latencies_ns, 50),
        p99_ns: percentile(&run.latencies_ns, 99),
        cpu_ns_per_call: per_call(cpu),
    })
}

fn drive(contestant: Contestant, server: &Server, load: Load, calls: u64, spin: bool) -> anyhow::Result<Run> {
    let path = server.socket();
    match contestant {
        Contestant::RawBlocking => raw::drive(path, load, calls),
        Contestant::RawTokio => on_this_thread(raw_tokio::drive(path, load, calls)),
        Contestant::Ours => on_this_thread(ours::drive(path, load, calls, spin)),
        Contestant::Tarpc => on_this_thread(peer_tarpc::drive(path, load, calls)),
        Contestant::Tonic => on_this_thread(peer_tonic::drive(path, load, calls)),
        Contestant::Ttrpc => on_this_thread(peer_ttrpc::drive(path, load, calls)),
    }
    .with_context(|| format!("{contestant:?} failed under the load \"{}\"", load.name))
}

/// Runs a future on a current-thread runtime of its own.
fn on_this_thread<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

fn print(machine: &Machine, pin: Pin, args: &Args, cells: &[Cell], others: u64) {
    let headings =
        ["load", "contestant", "µs/call", "× raw blocking", "× raw tokio", "p50 µs", "p99 µs", "CPU µs/call"];
    let mut rows = Vec::new();
    for group in cells.chunks(args.contestants().len()) {
        for cell in group {
            let middle = |of: fn(&Sample) -> f64| median(cell.samples.iter().map(of));
            let micros = |nanos: f64| format!("{:.2}", nanos / 1e3);
            let latency = |nanos: f64| if nanos > 0.0 { micros(nanos) } else { "–".to_owned() };
            rows.push(vec![
                if cell.contestant == FLOORS[0] { cell.load.name.to_owned() } else { String::new() },
                cell.contestant.to_possible_value().map_or_else(String::new, |name| name.get_name().replace('-', " ")),
                micros(middle(|sample| sample.ns_per_call)),
                format!("{:.2}", ratio(cell, &group[0])),
                format!("{:.2}", ratio(cell, &group[1])),
                latency(middle(|sample| float(sample.p50_ns))),
                latency(middle(|sample| float(sample.p99_ns))),
                micros(middle(|sample| sample.cpu_ns_per_call)),
            ]);
        }
    }
    let rounds = format!("medians of {} rounds of {} ms", args.rounds, args.cell_ms);
    let title = format!("transport, {}: {rounds}; {machine}; others took {others} % of the cores", pin.words());
    report::table(&title, &headings, 2, &rows);
}

/// How many times the floor's time a call takes: formed in each round, then the middle. Of single calls the p50 counts,
/// because one of them that was preempted takes as long as a thousand that were not.
fn ratio(cell: &Cell, floor: &Cell) -> f64 {
    let time = |sample: &Sample| if sample.p50_ns > 0 { float(sample.p50_ns) } else { sample.ns_per_call };
    let rounds = cell.samples.iter().zip(&floor.samples);
    median(rounds.map(|(ours, floor)| time(ours) / time(floor)))
}
