//! A coloured log through each contestant: how long, what CPU time, and whether every byte came out and was recorded.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use super::{Args, Contestant, Entrant, KEEPER_END_WAIT_MAX, Lines, Stage, child, daemons};
use crate::stats::median;
use crate::{process, report};

/// How long one log may take to come through.
const LOG_WAIT_MAX: Duration = Duration::from_mins(2);
/// Bytes asked for at a time.
const READ_BYTES: usize = 64 << 10;

/// One turn.
#[derive(Debug, Clone, Copy, Serialize)]
#[allow(clippy::struct_field_names)] // the unit comes last
struct Sample {
    /// From the first byte out of the outer terminal to the last.
    wall_s: f64,
    /// Of everything between the two terminals: for shellkeep, terminal and keeper.
    cpu_s: f64,
    /// Of the daemon, up to the keeper's end.
    daemon_cpu_s: f64,
}

/// One contestant.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    pub(super) contestant: Contestant,
    /// In order of the rounds.
    samples: Vec<Sample>,
    /// Times the floor's time, the relay's time and the kept session's time with a daemon: medians of the rounds.
    pub(super) by_floor: f64,
    pub(super) by_relay: f64,
    pub(super) by_kept: f64,
    pub(super) cpu_s: f64,
}

/// What is printed.
struct Log {
    /// Prints it.
    program: Vec<OsString>,
    /// What that program says of itself.
    report: PathBuf,
    /// As it leaves the program's terminal. Nothing else is changed by anybody.
    shown: Vec<u8>,
}

impl Log {
    fn write(stage: &Stage, args: &Args) -> anyhow::Result<Self> {
        let (path, report) = (stage.directory.path().join("log"), stage.directory.path().join("cpu"));
        let printed = coloured_log((args.mib as usize) << 20);
        std::fs::write(&path, &printed)?;
        let mut words = vec!["pty-print".as_ref(), path.as_ref(), report.as_ref()];
        let mut shown = printed;
        if args.lines == Lines::Cooked {
            let lines = shown.split_inclusive(|&byte| byte == b'\n');
            shown = lines
                .flat_map(|line| match line.split_last() {
                    Some((b'\n', text)) => [text, b"\r\n"],
                    _ => [line, b""],
                })
                .flatten()
                .copied()
                .collect();
        } else {
            words.push("--raw".as_ref());
        }
        Ok(Self { program: stage.own(&words), report, shown })
    }
}

/// All rounds.
pub(super) fn measure(stage: &Stage, entrants: &mut [Entrant], args: &Args) -> anyhow::Result<Vec<Cell>> {
    let log = Log::write(stage, args)?;
    let mut seen = vec![0; log.shown.len() + READ_BYTES];
    let mut samples = vec![Vec::new(); entrants.len()];
    for round in 0..=args.rounds as usize {
        for turn in 0..entrants.len() {
            let who = (round + turn) % entrants.len(); // nobody always comes after the same one
            let stay = daemons(entrants);
            let name = entrants[who].contestant.name();
            let sample = one(stage, &mut entrants[who], &format!("bulk-{round}"), &log, &mut seen, &stay)
                .with_context(|| format!("bulk through {name}, round {round}"))?;
            if round > 0 {
                samples[who].push(sample); // the first round warms up
            }
        }
    }
    Ok(cells(entrants, &samples))
}

fn one(
    stage: &Stage,
    entrant: &mut Entrant,
    session: &str,
    log: &Log,
    seen: &mut [u8],
    stay: &[rustix::process::Pid],
) -> anyhow::Result<Sample> {
    let shown = &log.shown[..];
    let daemon_cpu = |entrant: &Entrant| entrant.home.as_ref().map_or(Ok(Duration::ZERO), super::Home::daemon_cpu);
    let daemon_before = daemon_cpu(entrant)?;
    if let Some(home) = &entrant.home {
        home.before_turn()?;
    }
    let tty = stage.start(entrant, &log.program, session)?;
    let until = Instant::now() + LOG_WAIT_MAX;
    let mut count = tty.read(&mut seen[..READ_BYTES], until)?;
    let begun = Instant::now();
    while count < shown.len() {
        let more = tty.read(&mut seen[count..count + READ_BYTES], until)?;
        ensure!(more > 0, "{count} of {} bytes came out", shown.len());
        count += more;
    }
    let wall = begun.elapsed();
    let ended = tty.end()?;
    let mut cpu = ended.cpu + process::wait_for_orphans(stay, KEEPER_END_WAIT_MAX)?;
    ensure!(ended.success && seen[..count] == *shown, "what came out is not what was printed");
    if let Some(home) = &mut entrant.home {
        home.after_turn()?;
    }
    let daemon = daemon_cpu(entrant)?.saturating_sub(daemon_before);
    if let Some(home) = &mut entrant.home {
        ensure!(home.take_record(session)? == shown, "what was recorded is not what was shown");
        stage.on_their_core(|| home.after_reading())?;
    }
    cpu = match entrant.contestant {
        Contestant::Bare => Duration::ZERO,
        _ => cpu.saturating_sub(child::reported(&log.report)?),
    };
    Ok(Sample { wall_s: wall.as_secs_f64(), cpu_s: cpu.as_secs_f64(), daemon_cpu_s: daemon.as_secs_f64() })
}

fn cells(entrants: &[Entrant], samples: &[Vec<Sample>]) -> Vec<Cell> {
    let of = |contestant: Contestant| {
        let at = entrants.iter().position(|entrant| entrant.contestant == contestant);
        samples[at.unwrap_or(0)].clone()
    };
    let (floor, relay, kept) = (of(Contestant::Bare), of(Contestant::Relay), of(Contestant::Kept));
    let by = |own: &[Sample], other: &[Sample]| median(own.iter().zip(other).map(|(own, it)| own.wall_s / it.wall_s));
    let cell = |(entrant, samples): (&Entrant, &Vec<Sample>)| Cell {
        contestant: entrant.contestant,
        by_floor: by(samples, &floor),
        by_relay: by(samples, &relay),
        by_kept: by(samples, &kept),
        cpu_s: median(samples.iter().map(|sample| sample.cpu_s)),
        samples: samples.clone(),
    };
    entrants.iter().zip(samples).map(cell).collect()
}

/// The table.
pub(super) fn print(title: &str, args: &Args, cells: &[Cell]) {
    if cells.is_empty() {
        return;
    }
    let headings = ["contestant", "s", "MiB/s", "× bare", "× relay", "CPU s", "daemon CPU s"];
    let row = |cell: &Cell| {
        let middle = |of: fn(&Sample) -> f64| median(cell.samples.iter().map(of));
        let wall = middle(|sample| sample.wall_s);
        vec![
            cell.contestant.name().to_owned(),
            format!("{wall:.3}"),
            format!("{:.0}", f64::from(args.mib) / wall),
            format!("{:.2}", cell.by_floor),
            format!("{:.2}", cell.by_relay),
            format!("{:.2}", cell.cpu_s),
            format!("{:.2}", middle(|sample| sample.daemon_cpu_s)),
        ]
    };
    let rows: Vec<_> = cells.iter().map(row).collect();
    report::table(
        &format!("bulk: {} MiB of coloured log, {:?} lines, {title}", args.mib, args.lines),
        &headings,
        1,
        &rows,
    );
}

/// A log as compilers and test runners print them.
fn coloured_log(bytes: usize) -> Vec<u8> {
    let (mut text, mut number) = (String::with_capacity(bytes + 256), 0_u64);
    while text.len() < bytes {
        number += 1;
        let (part, minor, patch) = (number % 977, number % 17, number % 5);
        let _ = writeln!(
            text,
            "\x1b[32m{number:>9}\x1b[0m \x1b[1mCompiling\x1b[0m part-{part} v0.{minor}.{patch} (\x1b[36m/src/part-{part}\x1b[0m)"
        );
    }
    text.truncate(bytes);
    text.into_bytes()
}
