//! From a record to its ack, for a session that prints little: alone, among 100 like it, and beside one that floods.
//!
//! The daemon is the real one, each session has a connection of its own, and all speak what a keeper speaks. The floor
//! is a process that writes the same bytes into a file and answers, on blocking sockets. Owns the rounds and the table.

pub(crate) mod floor;
pub(crate) mod keeper;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use self::keeper::Keeper;
use crate::home::{Daemon, Home};
use crate::machine::Machine;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::stats::{float, median, nanos, percentile};
use crate::{process, report};

/// Bytes of output in a quiet session's record.
const QUIET_BYTES: usize = 64;
/// Bytes of output in each of the flooding session's records: what a PTY gives at a time, several of them in one append.
const FLOOD_BYTES: usize = 4095;
/// Records in one of its appends, and appends that it has under way: the window of the session conversation is full.
const FLOOD_RECORDS: usize = 32;
/// See [`FLOOD_RECORDS`].
const FLOOD_APPENDS: usize = 7;
const _: () = assert!(FLOOD_APPENDS * FLOOD_RECORDS * FLOOD_BYTES < shellkeep_protocol::session::WINDOW_BYTES as usize);
/// Longest that a quiet session's append may take at the 99th percentile beside the flood. Source: reliability, S17.
const QUIET_P99_MAX: Duration = Duration::from_millis(5);
/// How long a server may take to listen.
const READY_WAIT_MAX: Duration = Duration::from_secs(10);

/// The measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The released program [default: beside this one].
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Quiet sessions.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    quiet: u32,
    /// Rounds; each contestant has its turn in each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(3..=100))]
    rounds: u32,
    /// Appends of quiet sessions in a turn, one after the other, each by the next session.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    appends: u32,
    /// Only these, beside the floor; may be repeated.
    #[arg(long = "with", value_name = "WHAT", value_enum)]
    with: Vec<Beside>,
    /// How long to wait for a quiet machine, in seconds.
    #[arg(long, default_value_t = 60)]
    quiet_wait_s: u64,
    /// Also writes every number here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What happens beside the append that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
enum Beside {
    /// Nothing, and nobody but a file behind a socket.
    Floor,
    /// Nothing.
    Alone,
    /// The others of the quiet sessions are connected and have their turns.
    Quiet,
    /// The same, and one session floods.
    Flood,
}

const ALL: [Beside; 4] = [Beside::Floor, Beside::Alone, Beside::Quiet, Beside::Flood];

impl Beside {
    fn words(self, quiet: u32) -> String {
        match self {
            Self::Floor => "floor: file behind a socket".to_owned(),
            Self::Alone => "one session".to_owned(),
            Self::Quiet => format!("{quiet} quiet ones"),
            Self::Flood => format!("{quiet} quiet ones, one floods"),
        }
    }
}

/// One contestant's turn.
#[derive(Debug, Clone, Copy, Serialize)]
struct Turn {
    beside: Beside,
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
    flood_mib_per_s: f64,
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    quiet: u32,
    turns: Vec<Turn>,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let beside_this = || anyhow::Ok(std::env::current_exe()?.with_file_name("shellkeep"));
    let program = args.program.clone().map_or_else(beside_this, Ok)?;
    ensure!(program.exists(), "there is no {}: build it, or name it with --program", program.display());
    let machine = Machine::when_quiet(Duration::from_secs(args.quiet_wait_s))?;
    let turns = measure(args, &program);
    process::end_children();
    let results = Results { machine, quiet: args.quiet, turns: turns? };
    print(&results);
    args.json.as_ref().map_or(Ok(()), |path| report::json(path, &results))
}

fn measure(args: &Args, program: &Path) -> anyhow::Result<Vec<Turn>> {
    let home = Home::new(program, Daemon::Up)?;
    let socket = home.socket();
    let scratch = Scratch::new()?;
    let beneath = scratch.path().join("sock");
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve-sessions-floor").arg("--socket").arg(&beneath);
    let _server = Process::start(command)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut keepers = Vec::new();
    for _ in 0..args.quiet {
        keepers.push(runtime.block_on(Keeper::start(socket))?);
    }
    let mut turns = Vec::new();
    for round in 0..args.rounds {
        for at in 0..ALL.len() {
            let beside = ALL[(at + round as usize) % ALL.len()];
            if beside != Beside::Floor && !args.with.is_empty() && !args.with.contains(&beside) {
                continue;
            }
            let all = if beside == Beside::Alone { 1 } else { keepers.len() };
            turns.push(match beside {
                Beside::Floor => turn(beside, floor::drive(&beneath, QUIET_BYTES, args.appends)?, 0.0),
                Beside::Alone | Beside::Quiet => {
                    let took = runtime.block_on(appends(&mut keepers[..all], args.appends))?;
                    turn(beside, took, 0.0)
                }
                Beside::Flood => {
                    let flood = Flood::start(socket)?;
                    let took = runtime.block_on(appends(&mut keepers, args.appends));
                    let speed = flood.end()?;
                    turn(beside, took?, speed)
                }
            });
        }
    }
    Ok(turns)
}

/// Appends of all, one after the other; what each took.
async fn appends(keepers: &mut [Keeper], count: u32) -> anyhow::Result<Vec<u64>> {
    let output = [b'q'; QUIET_BYTES];
    let all = keepers.len();
    let mut took = Vec::with_capacity(count as usize);
    for turn in 0..count as usize {
        let keeper = &mut keepers[turn % all];
        let append = keeper.append(&output, 1)?;
        let asked = Instant::now();
        keeper.written(&append).await?;
        took.push(nanos(asked.elapsed()));
    }
    Ok(took)
}

fn turn(beside: Beside, mut took: Vec<u64>, flood_mib_per_s: f64) -> Turn {
    took.sort_unstable();
    let at = |percent| percentile(&took, percent);
    Turn { beside, p50_ns: at(50), p99_ns: at(99), max_ns: at(100), flood_mib_per_s }
}

/// A session that has as much under way as it may, on a thread of its own.
struct Flood {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    since: Instant,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Flood {
    /// Returns once it flows.
    fn start(socket: &Path) -> anyhow::Result<Self> {
        let (stop, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, written, socket) = (Arc::clone(&stop), Arc::clone(&bytes), socket.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(flood(&socket, &stopped, &written))
        });
        let flood = Self { stop, bytes, since: Instant::now(), thread };
        while flood.bytes.load(Ordering::Relaxed) == 0 {
            ensure!(flood.since.elapsed() < READY_WAIT_MAX && !flood.thread.is_finished(), "the flood does not begin");
            std::thread::yield_now();
        }
        Ok(flood)
    }

    /// Ends it; how much it wrote, in MiB per second.
    fn end(self) -> anyhow::Result<f64> {
        let (elapsed, bytes) = (self.since.elapsed(), self.bytes.load(Ordering::Relaxed));
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the flood panicked"))??;
        Ok(float(bytes) / f64::from(1 << 20) / elapsed.as_secs_f64())
    }
}

async fn flood(socket: &Path, stop: &AtomicBool, written: &AtomicU64) -> anyhow::Result<()> {
    let mut keeper = Keeper::start(socket).await?;
    let output = [b'f'; FLOOD_BYTES];
    let mut under_way = std::collections::VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        while under_way.len() < FLOOD_APPENDS {
            let append = keeper.append(&output, FLOOD_RECORDS)?;
            under_way.push_back(keeper.send(&append));
        }
        let oldest = under_way.pop_front().context("something is under way")?;
        keeper.answered(oldest).await?;
        written.fetch_add((FLOOD_BYTES * FLOOD_RECORDS) as u64, Ordering::Relaxed);
    }
    for call in under_way {
        keeper.answered(call).await?;
    }
    Ok(())
}

fn print(results: &Results) {
    let of = |beside: Beside| results.turns.iter().filter(move |turn| turn.beside == beside);
    let middle = |beside: Beside, value: fn(&Turn) -> f64| median(of(beside).map(value));
    let micros = |ns: f64| format!("{:.1}", ns / 1000.0);
    let lowest = middle(Beside::Floor, |turn| float(turn.p50_ns));
    let rows: Vec<Vec<String>> = ALL
        .into_iter()
        .filter(|beside| of(*beside).next().is_some())
        .map(|beside| {
            let p50 = middle(beside, |turn| float(turn.p50_ns));
            let flood = middle(beside, |turn| turn.flood_mib_per_s);
            vec![
                beside.words(results.quiet),
                micros(p50),
                format!("{:.2}", p50 / lowest),
                micros(middle(beside, |turn| float(turn.p99_ns))),
                micros(middle(beside, |turn| float(turn.max_ns))),
                if beside == Beside::Flood { format!("{flood:.0}") } else { "–".to_owned() },
            ]
        })
        .collect();
    let title = format!("from a record of {QUIET_BYTES} bytes to its ack; medians of the rounds; {}", results.machine);
    report::table(&title, &["session", "p50 µs", "× floor", "p99 µs", "max µs", "flood MiB/s"], 1, &rows);
    let p99 = middle(Beside::Flood, |turn| float(turn.p99_ns)) / 1e6;
    let most = QUIET_P99_MAX.as_secs_f64() * 1e3;
    let verdict = if p99 <= most { "met" } else { "NOT MET" };
    let row = vec![
        "quiet sessions beside a flood, p99".to_owned(),
        format!("{most:.1} ms"),
        format!("{p99:.2}"),
        verdict.to_owned(),
    ];
    report::table("goal", &["what", "at most", "ms", ""], 1, &[row]);
}
