//! Packages as people wait for them: until a command runs in every open shell, until a large one is installed, until a hint is there.
//!
//! Each beside its floor in the same round: the same shells running a program that was there before; `tar` unpacking the same archive,
//! each file synced; the start of a program that does nothing. Owns the rounds and the tables; [`shells`] has the shells.

mod shells;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::home::{Daemon, Home};
use crate::machine::Machine;
use crate::scratch::Scratch;
use crate::stats::median;
use crate::{process, report};

/// Of the large package, and the files that it is in.
const LARGE_BYTES: usize = 20 << 20;
const LARGE_FILES: usize = 40;
/// Packages in the index that hints are looked for in.
const LISTED: usize = 10_000;
/// Hints, and starts of what does nothing, in one round.
const STARTS: u32 = 20;
/// Bounds of the goals, in milliseconds.
const RUNS_MS_MAX: f64 = 100.0;
const HINT_MS_MAX: f64 = 50.0;

/// Packages.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The released program [default: beside this one].
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Times that each is done.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Open shells.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    sessions: u16,
    /// How long to wait for a quiet machine, in seconds.
    #[arg(long, default_value_t = 60)]
    quiet_wait_s: u64,
    /// Also writes every number here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    rounds: u32,
    sessions: u16,
    shells: Vec<shells::Sample>,
    large: Vec<Large>,
    hints: Vec<Hint>,
}

/// One installation of the large package.
#[derive(Debug, Serialize)]
struct Large {
    install_s: f64,
    floor_s: f64,
}

/// Starts of a program: the middle of a round.
#[derive(Debug, Serialize)]
struct Hint {
    what: &'static str,
    ms: f64,
    floor_ms: f64,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::when_quiet(Duration::from_secs(args.quiet_wait_s))?;
    let beside = std::env::current_exe()?.with_file_name("shellkeep");
    let program = args.program.clone().unwrap_or(beside);
    let program = program.canonicalize().context("build it with: cargo build --release")?;
    let measured = measure(args, &program);
    process::end_children();
    let (shells, large, hints) = measured?;
    let results = Results { machine, rounds: args.rounds, sessions: args.sessions, shells, large, hints };
    print(&results);
    args.json.as_ref().map_or(Ok(()), |path| report::json(path, &results))
}

/// Samples of the three.
type All = (Vec<shells::Sample>, Vec<Large>, Vec<Hint>);

fn measure(args: &Args, program: &Path) -> anyhow::Result<All> {
    let mut home = Home::new(program, Daemon::Up)?;
    let all = || {
        let shells = shells::measure(&home, args.sessions, args.rounds)?;
        Ok((shells, large(&home, args.rounds)?, hints(&home, args.rounds)?))
    };
    let measured = all();
    // Marked as stopped, whatever came of it: a keeper that is left would start it again.
    home.end_daemon()?;
    measured
}

/// A package's directory with one command.
fn source(at: &Path, name: &str, program: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(at)?;
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\ndescription = \"d\"\n[[command]]\nname = \"{name}\"\npath = \"program\"\n"
    );
    std::fs::write(at.join("package.toml"), manifest)?;
    std::fs::copy(program, at.join("program"))?;
    Ok(())
}

/// Runs a command to its end; what it says is shown if it fails.
fn done(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {said}", command.get_program().display());
    Ok(())
}

fn timed(command: &mut Command) -> anyhow::Result<f64> {
    let began = Instant::now();
    done(command)?;
    Ok(began.elapsed().as_secs_f64())
}

fn large(home: &Home, rounds: u32) -> anyhow::Result<Vec<Large>> {
    report::note("20 MiB");
    let place = Scratch::new()?;
    let from = place.path().join("from");
    source(&from, "large", Path::new("/bin/true"))?;
    for n in 0..LARGE_FILES {
        let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(LARGE_BYTES / LARGE_FILES).collect();
        std::fs::write(from.join(format!("data-{n}")), random)?;
    }
    done(home.command().args(["pkg", "build"]).arg(&from).arg("--output").arg(place.path()))?;
    let archive = place.path().join("large-1.0.0.tar.gz");
    let mut samples = Vec::new();
    for round in 0..rounds {
        let floor = |at: &Path| {
            std::fs::create_dir(at)?;
            let unpack = "tar -xzf \"$1\" -C \"$2\" && find \"$2\" -type f -exec sync {} +";
            timed(Command::new("sh").args(["-c", unpack, "sh"]).arg(&archive).arg(at))
        };
        let install = || timed(home.command().args(["pkg", "install"]).arg(&archive));
        let at = place.path().join("unpacked");
        let (install_s, floor_s) = if round % 2 == 0 { (install()?, floor(&at)?) } else { (floor(&at)?, install()?) };
        // An odd round has them the other way round.
        let (install_s, floor_s) = if round % 2 == 0 { (install_s, floor_s) } else { (floor_s, install_s) };
        samples.push(Large { install_s, floor_s });
        done(home.command().args(["pkg", "remove", "large"]))?;
        std::fs::remove_dir_all(at)?;
    }
    Ok(samples)
}

fn hints(home: &Home, rounds: u32) -> anyhow::Result<Vec<Hint>> {
    report::note("hints");
    let shop = Scratch::new()?;
    let mut index = "{\"version\":1,\"packages\":[".to_owned();
    for n in 0..LISTED {
        let comma = if n == 0 { "" } else { "," };
        let (description, sha256) = ("a package that does this and that to one thing or another", "0".repeat(64));
        write!(
            index,
            "{comma}{{\"name\":\"package-{n}\",\"version\":\"1.0.0\",\"description\":\"{description}\",\"commands\":[\"command-{n}\"],\"path\":\"package-{n}-1.0.0.tar.gz\",\"sha256\":\"{sha256}\",\"size\":1000}}"
        )?;
    }
    std::fs::write(shop.path().join("index.json"), index + "]}")?;
    done(home.command().args(["pkg", "update", "--index"]).arg(shop.path()))?;
    let kinds: [(&str, &str, Option<i32>); 3] = [
        ("a package has it", "command-4711", Some(11)),
        ("nearly so called", "commadn-4711", Some(0)),
        ("nobody knows it", "xyzzyplugh", Some(1)),
    ];
    let mut samples = Vec::new();
    for _ in 0..rounds {
        for (what, name, status) in kinds {
            let (mut all, mut floors) = (Vec::new(), Vec::new());
            for _ in 0..STARTS {
                let mut command = home.command();
                command.args(["hint", "--", name]).env("SHELLKEEP_PKG_INDEX", shop.path()).stdin(Stdio::null());
                let began = Instant::now();
                let output = command.output()?;
                all.push(began.elapsed().as_secs_f64() * 1e3);
                ensure!(output.status.code() == status, "the hint for {name} says {:?}", output.status);
                floors.push(timed(&mut Command::new("/bin/true"))? * 1e3);
            }
            samples.push(Hint { what, ms: median(all), floor_ms: median(floors) });
        }
    }
    Ok(samples)
}

fn print(results: &Results) {
    let title = format!(
        "a package's command in {} open shells, {} rounds; {}",
        results.sessions, results.rounds, results.machine
    );
    let middle = |of: fn(&shells::Sample) -> f64| median(results.shells.iter().map(of));
    let row = |what: &str, one: f64, all: f64| vec![what.to_owned(), format!("{one:.1}"), format!("{all:.1}")];
    let rows = [
        row("a program that was there", middle(|one| one.floor_first_ms), middle(|one| one.floor_all_ms)),
        row("installed just now", middle(|one| one.first_ms), middle(|one| one.all_ms)),
    ];
    report::table(&title, &["typed in all at once", "first ms", "last of all ms"], 1, &rows);
    let late = middle(|one| one.all_ms - one.floor_all_ms);
    let ratio = median(results.large.iter().map(|one| one.install_s / one.floor_s));
    let seconds = |of: fn(&Large) -> f64| format!("{:.3}", median(results.large.iter().map(of)));
    let rows = [vec![seconds(|one| one.install_s), seconds(|one| one.floor_s), format!("{ratio:.2}")]];
    report::table("installing 20 MiB from an archive", &["pkg install s", "tar and sync s", "ratio"], 0, &rows);
    let mut rows = Vec::new();
    let mut slowest: f64 = 0.0;
    for what in ["a package has it", "nearly so called", "nobody knows it"] {
        let of = || results.hints.iter().filter(|hint| hint.what == what);
        let ms = median(of().map(|hint| hint.ms));
        slowest = slowest.max(ms);
        let floor = median(of().map(|hint| hint.floor_ms));
        rows.push(vec![what.to_owned(), format!("{ms:.1}"), format!("{floor:.1}")]);
    }
    let headings = ["the hint", "ms", "a start of true ms"];
    report::table(&format!("the hint, its process included, with {LISTED} packages listed"), &headings, 1, &rows);
    let goal = |what: &str, bound: f64, measured: f64| {
        let met = if measured < bound { "met" } else { "NOT MET" };
        vec![what.to_owned(), format!("{bound}"), format!("{measured:.1}"), met.to_owned()]
    };
    let goals = [
        goal("it runs in the last of all shells, ms", RUNS_MS_MAX, middle(|one| one.all_ms)),
        goal("of that, more than a program that was there, ms", RUNS_MS_MAX, late),
        goal("the slowest hint, ms", HINT_MS_MAX, slowest),
    ];
    report::table("goals", &["what", "bound", "measured", ""], 1, &goals);
}
