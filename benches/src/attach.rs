//! From the start of `shellkeep attach` to the whole screen, with a long history behind it.
//!
//! The programs draw once and never again, so only the daemon can know their screens: an attach without it would not
//! end. Promise: what is timed is what a person waits for, the program's own start included.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::home::{Daemon, Home};
use crate::machine::Machine;
use crate::pty::tty::Tty;
use crate::stats::{float, nanos, percentile};
use crate::{process, report};

/// What the last drawn thing says.
const END: &[u8] = b"<end>";
/// How long a program may take to print its history.
const PRINT_WAIT_MAX: Duration = Duration::from_mins(10);
/// How long the daemon may take to know the screen once all was printed.
const KNOWN_WAIT_MAX: Duration = Duration::from_mins(2);
/// How long to wait for a quiet machine.
const QUIET_WAIT_MAX: Duration = Duration::from_mins(1);
/// How long one attach may take. Then the daemon did not tell the screen in time.
const ATTACH_WAIT_MAX: Duration = Duration::from_secs(1);
/// The goal, in milliseconds.
const GOAL_MS: f64 = 50.0;
/// Bytes that a program writes at once.
const WRITE_BYTES: usize = 64 << 10;

/// The attaching measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The released program [default: beside this one].
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// History of each session, in MiB.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=4096))]
    mib: u64,
    /// Attaches of each session.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(5..=1000))]
    attaches: u32,
    /// Attaches right after a restart of the daemon.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    restarts: u32,
    /// Also writes every number here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a program prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum History {
    /// A line.
    Nothing,
    /// Coloured lines.
    Log,
    /// Frames on the alternate screen.
    FullScreen,
}

/// What the printing program is told.
#[derive(Debug, clap::Args)]
pub(crate) struct PrintArgs {
    #[arg(value_enum)]
    history: History,
    bytes: u64,
    /// Is made when all is printed.
    done: PathBuf,
}

/// Prints the history, and then nothing until its terminal goes.
pub(crate) fn print(args: &PrintArgs) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let (mut printed, mut count) = (0, 0u64);
    while printed < args.bytes {
        let mut piece = Vec::with_capacity(WRITE_BYTES * 2);
        while piece.len() < WRITE_BYTES {
            draw(args.history, count, &mut piece)?;
            count += 1;
        }
        out.write_all(&piece)?;
        printed += piece.len() as u64;
    }
    out.write_all(END)?;
    out.flush()?;
    std::fs::write(&args.done, "")?;
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    Ok(())
}

fn draw(history: History, count: u64, out: &mut Vec<u8>) -> anyhow::Result<()> {
    match history {
        History::Nothing => out.extend_from_slice(b" "),
        History::Log => {
            let colour = 31 + count % 6;
            writeln!(
                out,
                "\x1b[{colour}mINFO\x1b[0m {count:010} \x1b[2msome::module\x1b[0m a request took {} ms",
                count % 997
            )?;
        }
        History::FullScreen => {
            out.extend_from_slice(if count == 0 { b"\x1b[?1049h\x1b[2J" } else { b"" });
            for row in 1..24 {
                let load = (count * 7 + row * 13) % 60;
                write!(out, "\x1b[{row};1H\x1b[1;32m{:5}\x1b[m [\x1b[34m{:|<60}\x1b[m]\x1b[K", count + row, load)?;
            }
            out.extend_from_slice(b"\x1b[24;1H\x1b[7mF1 Help\x1b[m ");
        }
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Cell {
    history: History,
    mib: f64,
    /// From the last byte printed to the first attach that showed the screen.
    known_ms: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// The slowest right after a restart of the daemon.
    restarted_max_ms: f64,
    daemon_rss_mib: f64,
    /// Attaches that the daemon did not tell the screen in time: programs would have been asked to draw.
    missed: u32,
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    cells: Vec<Cell>,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::when_quiet(QUIET_WAIT_MAX)?;
    let beside = std::env::current_exe()?.with_file_name("shellkeep");
    let program =
        args.program.clone().unwrap_or(beside).canonicalize().context("build it with: cargo build --release")?;
    let measured: anyhow::Result<Vec<Cell>> = [History::Nothing, History::Log, History::FullScreen]
        .into_iter()
        .map(|history| measure(args, &program, history).with_context(|| format!("{history:?}")))
        .collect();
    process::end_children();
    let results = Results { machine, cells: measured? };
    let row = |cell: &Cell| {
        let met = if cell.max_ms <= GOAL_MS && cell.missed == 0 { "met" } else { "NOT MET" };
        let numbers = [
            cell.mib,
            cell.known_ms,
            cell.p50_ms,
            cell.p99_ms,
            cell.max_ms,
            cell.restarted_max_ms,
            cell.daemon_rss_mib,
        ];
        let numbers = numbers.map(|number| format!("{number:.1}"));
        [format!("{:?}", cell.history)]
            .into_iter()
            .chain(numbers)
            .chain([cell.missed.to_string(), met.to_owned()])
            .collect()
    };
    let rows: Vec<Vec<String>> = results.cells.iter().map(row).collect();
    let title =
        format!("attach to the whole screen, goal {GOAL_MS} ms; {} attaches each; {}", args.attaches, results.machine);
    let headings =
        ["history", "MiB", "known after ms", "p50 ms", "p99", "max", "restarted max", "daemon MiB", "missed", ""];
    report::table(&title, &headings, 1, &rows);
    args.json.as_ref().map_or(Ok(()), |path| report::json(path, &results))
}

fn measure(args: &Args, program: &Path, history: History) -> anyhow::Result<Cell> {
    let mut home = Home::new(program, Daemon::Up)?;
    let done = home.path().join("done");
    let bytes = if history == History::Nothing { 1 } else { args.mib << 20 };
    let bench = std::env::current_exe()?;
    let mut start = home.command();
    start.args(["start", "--detached", "-n", "history", "--"]).arg(bench).arg("attach-print");
    start
        .arg(clap::ValueEnum::to_possible_value(&history).context("a name")?.get_name())
        .arg(bytes.to_string())
        .arg(&done);
    ensure!(start.stdout(std::process::Stdio::null()).status()?.success(), "the session does not start");
    let until = Instant::now() + PRINT_WAIT_MAX;
    while !done.exists() {
        ensure!(Instant::now() < until, "the history is not printed in time");
        std::thread::sleep(Duration::from_millis(5));
    }
    let printed = Instant::now();
    while attach(&home)?.is_none() {
        ensure!(printed.elapsed() < KNOWN_WAIT_MAX, "the screen is not known in time");
    }
    let known = printed.elapsed();
    let mut missed = 0;
    let mut times = Vec::new();
    for _ in 0..args.attaches {
        times.extend(attach(&home)?.or_else(|| count(&mut missed)));
    }
    times.sort_unstable();
    let rss_kib = home.daemon().map(process::memory).transpose()?.map_or(0, |memory| memory.rss_kib);
    let mut restarted_max = 0;
    for _ in 0..args.restarts {
        home.end_daemon()?;
        home.start_daemon()?;
        restarted_max = restarted_max.max(attach(&home)?.or_else(|| count(&mut missed)).unwrap_or(0));
    }
    let ms = |ns: u64| float(ns) / 1e6;
    ensure!(home.command().args(["kill", "history"]).status()?.success(), "the session does not end");
    Ok(Cell {
        history,
        mib: float(bytes) / f64::from(1 << 20),
        known_ms: ms(nanos(known)),
        p50_ms: ms(percentile(&times, 50)),
        p99_ms: ms(percentile(&times, 99)),
        max_ms: ms(times.last().copied().unwrap_or(0)),
        restarted_max_ms: ms(restarted_max),
        daemon_rss_mib: float(rss_kib) / 1024.0,
        missed,
    })
}

/// Counts one that was not told.
fn count(missed: &mut u32) -> Option<u64> {
    *missed += 1;
    None
}

/// One attach and detach; how long the screen took, in nanoseconds; `None` if it was not told.
fn attach(home: &Home) -> anyhow::Result<Option<u64>> {
    let mut command = home.command();
    command.args(["attach", "history"]).env("TERM", "xterm-256color");
    let begun = Instant::now();
    let tty = Tty::start(command)?;
    let shown = tty.read_until_within(END, ATTACH_WAIT_MAX);
    let time = nanos(begun.elapsed());
    tty.write(b"\0d")?;
    tty.end()?;
    Ok(shown.ok().map(|()| time))
}
