//! `torture`: long runs under faults, each with the seed and the command that replays its failure.
#![allow(clippy::print_stdout)] // a program for people at a terminal

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use torture::ordeal::kill::Who;
use torture::ordeal::{Every, Run, Table, adopt, kill, log, sockrm, stop};
use torture::sim::{self, Bug};
use torture::world::PROGRAM_NAME;

/// Breaks shellkeep on purpose and checks what must hold.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Where chance begins; another one each time unless given
    #[arg(long, global = true)]
    seed: Option<u64>,
    /// The program to torture: one that was built with the hooks; this very one if nothing is said
    #[arg(long, global = true)]
    program: Option<PathBuf>,
    /// Leave the private home where it is, to be looked at
    #[arg(long, global = true)]
    keep: bool,
}

#[derive(Subcommand)]
enum Command {
    /// The pure cores of keeper and daemon, driven by seeds; `--seed` replays one history
    Sim {
        /// Runs the histories 0 to this
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// Plants a bug, which must then be found
        #[arg(long, default_value = "none")]
        bug: String,
        /// Prints each event
        #[arg(long)]
        trace: bool,
    },
    /// SIGKILL again and again (F1, F2)
    Kill {
        /// Who is killed
        #[arg(long, value_enum, default_value_t = Killed::Daemon)]
        who: Killed,
        /// How often
        #[arg(long, default_value_t = 1_000)]
        n: u32,
        /// Time before each kill, in milliseconds
        #[arg(long, default_value = "1..8")]
        every: Every,
    },
    /// SIGSTOP of the daemon while a session prints and another one echoes keys (F13)
    Stop {
        /// Seconds
        #[arg(long, default_value_t = 10)]
        sec: u32,
        /// So many stops of up to 50 ms instead of a long one
        #[arg(long)]
        times: Option<u32>,
        /// Bytes printed meanwhile
        #[arg(long, default_value_t = 64 << 20)]
        out: u64,
    },
    /// Spools of dead keepers, one of them bad, found by several daemons at once (F3)
    Adopt {
        /// Spools
        #[arg(long, default_value_t = 50)]
        n: u32,
    },
    /// Something else at the path of the daemon's socket (F10)
    Sockrm {
        /// Objects
        #[arg(long, default_value_t = 100)]
        n: u32,
    },
    /// All logs removed while the daemon is down (F4)
    Wipe {
        /// How often
        #[arg(long, default_value_t = 20)]
        n: u32,
    },
    /// Logs set back to an old copy (F5)
    Rollback {
        /// How often
        #[arg(long, default_value_t = 20)]
        snapshots: u32,
    },
    /// The newest segment cut or deleted under the daemon (F25)
    Yank {
        /// How often
        #[arg(long, default_value_t = 20)]
        n: u32,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Killed {
    Daemon,
    Keeper,
    Both,
    Terminal,
}

fn main() -> Result<std::process::ExitCode> {
    // Under this name it is what it tortures: `cargo run` builds no other program beside it.
    if std::env::current_exe()?.file_name().is_some_and(|name| name == PROGRAM_NAME) {
        return Ok(shellkeep::cmd::main());
    }
    let Cli { command, seed, program, keep } = Cli::parse();
    if let Command::Sim { seeds, bug, trace } = command {
        return simulate(seed, seeds, &bug, trace);
    }
    let home = tempfile::Builder::new().prefix("torture-").tempdir()?;
    let program = match program {
        Some(program) => program,
        None => std::env::current_exe()?,
    };
    let program = Some(under_its_name(&program, home.path())?);
    let seed = seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let run = |n| Run { program: program.clone(), seed, n, keep };
    println!("seed {seed}");
    let result = match command {
        Command::Sim { .. } => return Ok(std::process::ExitCode::FAILURE), // done above
        Command::Kill { who, n, every } => {
            let who = match who {
                Killed::Daemon => Who::Daemon,
                Killed::Keeper => Who::Keeper,
                Killed::Both => Who::Both,
                Killed::Terminal => Who::Terminal,
            };
            kill::kill(&run(n), who, every)
        }
        Command::Stop { times: Some(times), .. } => stop::stutter(&run(times)),
        Command::Stop { sec, out, .. } => stop::stop(&run(sec), out),
        Command::Adopt { n } => adopt::adopt(&run(n)),
        Command::Sockrm { n } => sockrm::sockrm(&run(n)),
        Command::Wipe { n } => log::wipe(&run(n)),
        Command::Rollback { snapshots } => log::rollback(&run(snapshots)),
        Command::Yank { n } => log::yank(&run(n)),
    };
    Ok(report(&result))
}

fn report(result: &Result<Table>) -> std::process::ExitCode {
    match result {
        Ok(table) => {
            println!("{table}\nno violation");
            std::process::ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("VIOLATION: {violation:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// A program under the name of the one that is tortured.
fn under_its_name(given: &Path, directory: &Path) -> Result<PathBuf> {
    let program = directory.join(PROGRAM_NAME);
    if std::fs::hard_link(given, &program).is_err() {
        std::fs::copy(given, &program).context("copy this program")?; // another file system
    }
    Ok(program)
}

fn simulate(seed: Option<u64>, seeds: u64, bug: &str, trace: bool) -> Result<std::process::ExitCode> {
    let bug = Bug::named(bug).with_context(|| format!("no bug is called {bug}"))?;
    let range = seed.map_or(0..seeds, |seed| seed..seed + 1);
    let mut failed = 0u32;
    let mut total = sim::Tally::default();
    for seed in range.clone() {
        match sim::run(seed, bug, trace) {
            Ok(tally) => total += tally,
            Err(violation) => {
                failed += 1;
                println!("{violation}\n  replay: cargo run -rp torture -- sim --seed {seed} --bug {}", bug.name());
            }
        }
    }
    println!("{} histories, {failed} violations; {total:?}", range.end - range.start);
    if failed > 0 && bug == Bug::None {
        bail!("{failed} histories broke a promise");
    }
    Ok(std::process::ExitCode::SUCCESS)
}
