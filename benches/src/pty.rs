//! A shell's output and its echo through a PTY: bare, under `script`, and kept by shellkeep, in turns.
//!
//! Bulk is the time in which the bytes of a coloured log have come out of the terminal's end, with everything recorded
//! by whoever records. Echo is the time from a key to its return through a program that gives back what it gets.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde::Serialize;

use crate::{machine, report, stats};

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The released program [default: beside this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Rounds in which all take turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(5..))]
    rounds: u32,
    /// MiB of coloured log
    #[arg(long, default_value_t = 64)]
    mib: usize,
    /// Keys per round
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..))]
    keys: u32,
    /// Also writes the results here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Contestant {
    BarePty,
    Script,
    Shellkeep,
}

const ALL: [Contestant; 3] = [Contestant::BarePty, Contestant::Script, Contestant::Shellkeep];

/// Keys that are not counted: everything is loaded and awake after them.
const WARM_UP_KEYS: u32 = 20;

/// Pause between two keys: a person's program is asleep again by then.
const KEY_PAUSE: Duration = Duration::from_millis(2);

/// One contestant's figures.
#[derive(Debug, Serialize)]
struct Figures {
    contestant: Contestant,
    bulk_s: f64,
    bulk_ratio: f64,
    echo_p50_us: f64,
    echo_p99_us: f64,
    echo_added_us: f64,
}

/// Runs the measurement and prints the table.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let program = program(args)?;
    let home = tempfile::tempdir()?;
    let log = home.path().join("coloured.log");
    coloured_log(&log, args.mib << 20)?;
    let before = machine::cores_time()?;
    let mut bulk = vec![Vec::new(); ALL.len()];
    let mut echo = vec![Vec::new(); ALL.len()];
    for round in 0..args.rounds as usize {
        for turn in 0..ALL.len() {
            let who = (round + turn) % ALL.len(); // nobody is always first
            let contestant = Started { contestant: ALL[who], program: &program, home: home.path() };
            bulk[who].push(contestant.bulk(&log, args.mib << 20)?.as_secs_f64());
            echo[who].push(contestant.echo(args.keys)?);
        }
    }
    stop_daemon(&program, home.path())?;
    let figures = figures(&bulk, &echo);
    let after = machine::cores_time()?;
    let share = |busy: Duration, whole: Duration| busy.as_secs_f64() / whole.as_secs_f64().max(f64::EPSILON);
    let busy = share(after.busy.saturating_sub(before.busy), after.whole.saturating_sub(before.whole));
    let title = format!(
        "{} MiB through a PTY, echo of a key; {} rounds; cores {:.0} % busy",
        args.mib,
        args.rounds,
        busy * 100.0
    );
    let headings = ["contestant", "bulk s", "× bare", "echo p50 µs", "p99 µs", "added p50 µs"];
    let row = |f: &Figures| {
        vec![
            format!("{:?}", f.contestant),
            format!("{:.2}", f.bulk_s),
            format!("{:.2}", f.bulk_ratio),
            format!("{:.0}", f.echo_p50_us),
            format!("{:.0}", f.echo_p99_us),
            format!("{:+.0}", f.echo_added_us),
        ]
    };
    report::table(&title, &headings, 1, &figures.iter().map(row).collect::<Vec<_>>());
    args.json.as_deref().map_or(Ok(()), |path| report::json(path, &figures))
}

/// Ratios and differences are formed within a round, then the median is taken.
fn figures(bulk: &[Vec<f64>], echo: &[Vec<Vec<u64>>]) -> Vec<Figures> {
    let micros = |nanos: u64| stats::float(nanos) / 1e3;
    let at = |who: usize, percent: usize| echo[who].iter().map(move |keys| micros(stats::percentile(keys, percent)));
    let each = ALL.iter().enumerate().map(|(who, contestant)| Figures {
        contestant: *contestant,
        bulk_s: stats::median(bulk[who].iter().copied()),
        bulk_ratio: stats::median(bulk[who].iter().zip(&bulk[0]).map(|(own, bare)| own / bare)),
        echo_p50_us: stats::median(at(who, 50)),
        echo_p99_us: stats::median(at(who, 99)),
        echo_added_us: stats::median(at(who, 50).zip(at(0, 50)).map(|(own, bare)| own - bare)),
    });
    each.collect()
}

/// A contestant and what it needs.
struct Started<'a> {
    contestant: Contestant,
    program: &'a Path,
    home: &'a Path,
}

impl Started<'_> {
    /// Runs a line of shell under the contestant, on a new PTY whose other end is returned.
    fn run(&self, line: &str) -> anyhow::Result<(File, Child)> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = File::options().read(true).write(true).open(name.to_str()?)?;
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]); // a terminal of its own, as a person has
        match self.contestant {
            Contestant::BarePty => command.args(["sh", "-c", line]),
            Contestant::Script => {
                command.args(["script", "--quiet", "--return", "--command", line]).arg(self.home.join("typescript"))
            }
            Contestant::Shellkeep => command.arg(self.program).args(["start", "--", "sh", "-c", line]),
        };
        command.env("SHELLKEEP_HOME", self.home).env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(Stdio::from(slave));
        let child = command.spawn().context("setsid (util-linux) is needed")?;
        Ok((File::from(master), child))
    }

    /// How long the log takes from the first byte asked for to the last one shown.
    fn bulk(&self, log: &Path, bytes: usize) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let (mut master, mut child) = self.run(&format!("stty -opost; exec cat {}", log.display()))?;
        let mut seen = 0;
        let mut chunk = vec![0; 64 << 10];
        // EIO is how a PTY says that its other side is closed.
        while let Ok(count @ 1..) = master.read(&mut chunk) {
            seen += count;
        }
        let time = begun.elapsed();
        ensure!(child.wait()?.success() && seen >= bytes, "{:?}: {seen} of {bytes} bytes came", self.contestant);
        Ok(time)
    }

    /// Nanoseconds from a key to its return, sorted.
    fn echo(&self, keys: u32) -> anyhow::Result<Vec<u64>> {
        let (mut master, mut child) = self.run("stty raw -echo; echo ready; exec cat")?;
        let mut seen = Vec::new();
        let mut byte = [0; 1];
        while !seen.ends_with(b"ready\n") && !seen.ends_with(b"ready\r\n") {
            if master.read(&mut byte)? == 0 {
                bail!("{:?} ended before it began", self.contestant);
            }
            seen.push(byte[0]);
        }
        let mut times = Vec::new();
        for key in 0..WARM_UP_KEYS + keys {
            std::thread::sleep(KEY_PAUSE);
            let begun = Instant::now();
            master.write_all(b"k")?;
            master.read_exact(&mut byte)?;
            if key >= WARM_UP_KEYS {
                times.push(stats::nanos(begun.elapsed()));
            }
        }
        drop(master); // hangs up: the program ends
        child.wait()?;
        times.sort_unstable();
        Ok(times)
    }
}

fn program(args: &Args) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("shellkeep");
    let program = args.program.clone().unwrap_or(beside);
    ensure!(program.exists(), "there is no {}; build it with: cargo build --release", program.display());
    Ok(program.canonicalize()?)
}

/// Sessions whose terminal hung up live on: they are ended, and the daemon with them.
fn stop_daemon(program: &Path, home: &Path) -> anyhow::Result<()> {
    let run = |args: &[&str]| Command::new(program).args(args).env("SHELLKEEP_HOME", home).output();
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&run(&["ls", "--json"])?.stdout)?;
    for session in listed.iter().filter_map(|row| row["id"].as_str()) {
        run(&["kill", session])?;
    }
    ensure!(run(&["daemon", "stop"])?.status.success(), "the daemon did not stop");
    Ok(())
}

/// A log as compilers and test runners print them.
fn coloured_log(path: &Path, bytes: usize) -> anyhow::Result<()> {
    let mut text = Vec::with_capacity(bytes + 256);
    let mut number = 0;
    while text.len() < bytes {
        number += 1;
        writeln!(
            text,
            "\x1b[32m{number:>9}\x1b[0m \x1b[1mCompiling\x1b[0m part-{} v0.{}.{} (\x1b[36m/src/part\x1b[0m)",
            number % 977,
            number % 17,
            number % 5
        )?;
    }
    text.truncate(bytes);
    std::fs::write(path, text)?;
    Ok(())
}
