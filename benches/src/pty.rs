//! A session's output and keys through a PTY: bare, under relays, and kept by shellkeep with its daemon up, stopped and
//! frozen; beside the goals that they are measured for.
//!
//! Owns who takes part and in which order. What is measured, and how, is in one file per measure.

mod bulk;
pub(crate) mod child;
mod echo;
mod goals;
mod idle;
pub(crate) mod relay;
mod start_up;
pub(crate) mod tty;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use self::tty::Tty;
use crate::home::{Daemon, Home};
use crate::machine::{self, Machine, Pin};
use crate::scratch::Scratch;
use crate::{process, report};

/// The keeper's and terminal's measurement.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The released program [default: beside this one].
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Where the processes run.
    #[arg(long, value_enum, default_value = "none")]
    pin: Pin,
    /// Rounds; each contestant has its turn in each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(5..=100))]
    rounds: u32,
    /// Coloured log per turn, in MiB.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=512))]
    mib: u32,
    /// What the program's terminal does to its lines.
    #[arg(long, value_enum, default_value = "cooked")]
    lines: Lines,
    /// Windows of keys per round.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    windows: u32,
    /// Keys in a window.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    keys: u32,
    /// Starts of each contestant per round.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    starts: u32,
    /// How long to wait for a quiet machine, in seconds.
    #[arg(long, default_value_t = 60)]
    quiet_wait_s: u64,
    /// Only these measures.
    #[arg(long, value_enum)]
    only: Vec<Measure>,
    /// Also writes every number here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the program's terminal does to the lines of the bulk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Lines {
    /// Puts a carriage return before each newline, as every terminal does unless told otherwise.
    Cooked,
    /// Nothing.
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Measure {
    Bulk,
    Echo,
    StartUp,
    Idle,
}

/// Who takes part. The first is the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Contestant {
    /// The program on the PTY that this process reads.
    Bare,
    /// Our own relay: reader, queue, writer, and nothing else.
    Relay,
    /// util-linux, recording to a file.
    Script,
    /// shellkeep, with its daemon up.
    Kept,
    /// shellkeep, whose daemon was never started.
    KeptStopped,
    /// shellkeep, whose daemon is stopped by SIGSTOP.
    KeptFrozen,
    /// shellkeep, whose daemon has to be started by the session.
    KeptAlone,
}

/// The order of their first turns. The last is for the start alone.
const ALL: [Contestant; 7] = [
    Contestant::Bare,
    Contestant::Relay,
    Contestant::Script,
    Contestant::Kept,
    Contestant::KeptStopped,
    Contestant::KeptFrozen,
    Contestant::KeptAlone,
];

impl Contestant {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare PTY",
            Self::Relay => "plain relay",
            Self::Script => "script",
            Self::Kept => "shellkeep",
            Self::KeptStopped => "shellkeep, no daemon",
            Self::KeptFrozen => "shellkeep, daemon frozen",
            Self::KeptAlone => "shellkeep, starts daemon",
        }
    }

    fn daemon(self) -> Option<Daemon> {
        match self {
            Self::Bare | Self::Relay | Self::Script => None,
            Self::Kept => Some(Daemon::Up),
            Self::KeptStopped => Some(Daemon::Stopped),
            Self::KeptFrozen => Some(Daemon::Frozen),
            Self::KeptAlone => Some(Daemon::Absent),
        }
    }
}

/// A contestant with what it needs.
#[derive(Debug)]
struct Entrant {
    contestant: Contestant,
    /// Of shellkeep.
    home: Option<Home>,
}

/// Where the processes run, and what they share.
#[derive(Debug)]
struct Stage {
    bench: PathBuf,
    directory: Scratch,
    own_core: Option<usize>,
    their_core: Option<usize>,
}

impl Stage {
    fn new(pin: Pin) -> anyhow::Result<Self> {
        let (own_core, their_core) = match pin {
            Pin::None => (None, None),
            Pin::Same => machine::cores(1).map(|cores| (Some(cores[0]), Some(cores[0])))?,
            Pin::Split => machine::cores(2).map(|cores| (Some(cores[0]), Some(cores[1])))?,
        };
        let directory = Scratch::new()?;
        let stage = Self { bench: std::env::current_exe()?, directory, own_core, their_core };
        own_core.map_or(Ok(()), machine::pin)?;
        Ok(stage)
    }

    /// A subcommand of this program, as words.
    fn own(&self, words: &[&OsStr]) -> Vec<OsString> {
        std::iter::once(self.bench.as_os_str()).chain(words.iter().copied()).map(OsStr::to_owned).collect()
    }

    /// Runs `start` on the contestants' core: what it starts stays there.
    fn on_their_core<T>(&self, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.their_core.map_or(Ok(()), machine::pin)?;
        let started = start();
        self.own_core.map_or(Ok(()), machine::pin)?;
        started
    }

    /// Starts a program under a contestant, on a new terminal.
    fn start(&self, entrant: &Entrant, program: &[OsString], session: &str) -> anyhow::Result<Tty> {
        let mut command = match (&entrant.home, entrant.contestant) {
            (Some(home), _) => home.command(),
            (None, Contestant::Script) => Command::new("script"),
            (None, Contestant::Relay) => Command::new(&self.bench),
            (None, _) => Command::new(&program[0]),
        };
        match entrant.contestant {
            Contestant::Bare => command.args(&program[1..]),
            Contestant::Relay => command.args(["pty-relay", "--"]).args(program),
            Contestant::Script => {
                let line = program.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
                let record = self.directory.path().join("typescript");
                command.args(["--quiet", "--return", "--command"]).arg(format!("exec {line}")).arg(record)
            }
            _ => command.args(["start", "-n", session, "--"]).args(program),
        };
        command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh").env_remove("SHELLKEEP_SESSION");
        self.on_their_core(|| Tty::start(command))
            .with_context(|| format!("cannot start {}", entrant.contestant.name()))
    }
}

/// A word as a shell reads it back.
fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}

/// How long a keeper may take to end after its terminal: two seconds for durability, which no daemon gives it here.
const KEEPER_END_WAIT_MAX: Duration = Duration::from_secs(15);

/// Processes that stay between turns.
fn daemons(entrants: &[Entrant]) -> Vec<rustix::process::Pid> {
    entrants.iter().filter_map(|entrant| entrant.home.as_ref()?.daemon()).collect()
}

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    pin: Pin,
    rounds: u32,
    mib: u32,
    lines: Lines,
    /// Of all cores' time during the run, what anybody took, the measured included.
    busy_percent: u64,
    bulk: Vec<bulk::Cell>,
    echo: Vec<echo::Cell>,
    start_up: Vec<start_up::Cell>,
    idle: Vec<idle::Cell>,
    goals: Vec<goals::Goal>,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let machine = Machine::when_quiet(Duration::from_secs(args.quiet_wait_s))?;
    let measured = measure(args, machine);
    process::end_children(); // after an error, keepers may be left
    let results = measured?;
    let title = format!("{}; {} rounds; {}", args.pin.words(), args.rounds, results.machine);
    bulk::print(&title, args, &results.bulk);
    echo::print(&title, args.windows * args.keys, &results.echo);
    start_up::print(&title, args.starts, &results.start_up);
    idle::print(&title, &results.idle);
    goals::print(&results.goals);
    args.json.as_ref().map_or(Ok(()), |path| report::json(path, &results))
}

fn measure(args: &Args, machine: Machine) -> anyhow::Result<Results> {
    let beside = std::env::current_exe()?.with_file_name("shellkeep");
    let program = args.program.clone().unwrap_or(beside);
    ensure!(program.exists(), "there is no {}; build it with: cargo build --release", program.display());
    let program = program.canonicalize()?;
    let stage = Stage::new(args.pin)?;
    let entrant = |contestant: Contestant| {
        let make = |daemon| stage.on_their_core(|| Home::new(&program, daemon));
        Ok(Entrant { contestant, home: contestant.daemon().map(make).transpose()? })
    };
    let mut all = ALL.map(entrant).into_iter().collect::<anyhow::Result<Vec<Entrant>>>()?;
    let wanted = |measure: Measure| args.only.is_empty() || args.only.contains(&measure);
    let before = machine::cores_time()?;
    let (mut bulk, mut echo, mut start_up, mut idle) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let others = all.len() - 1; // the last is for start-up alone
    if wanted(Measure::Bulk) {
        bulk = bulk::measure(&stage, &mut all[..others], args)?;
    }
    if wanted(Measure::Echo) {
        echo = echo::measure(&stage, &mut all[..others], args)?;
    }
    if wanted(Measure::StartUp) {
        start_up = start_up::measure(&stage, &mut all, args)?;
    }
    if wanted(Measure::Idle) {
        idle = idle::measure(&stage, &all[..others])?;
    }
    let busy_percent = before.busy_percent_until(machine::cores_time()?);
    let goals = goals::judge(&bulk, &echo, &start_up, &idle);
    let (pin, rounds, mib, lines) = (args.pin, args.rounds, args.mib, args.lines);
    Ok(Results { machine, pin, rounds, mib, lines, busy_percent, bulk, echo, start_up, idle, goals })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_quoted_word_back_as_it_was() {
        let word = "it's $HOME \"and\" `more`";
        let line = format!("printf %s {}", quoted(word.as_ref()));
        let said = Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
        assert_eq!(said.stdout, word.as_bytes());
    }
}
