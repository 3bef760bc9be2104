//! `torture`: long runs under faults, each with the seed and the command that replays its failure.
#![allow(clippy::print_stdout)] // a program for people at a terminal

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use torture::sim::{self, Bug};

/// Breaks shellkeep on purpose and checks what must hold.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The pure cores of keeper and daemon, driven by seeds.
    Sim {
        /// Replays one history.
        #[arg(long, conflicts_with = "seeds")]
        seed: Option<u64>,
        /// Runs the histories 0 to this.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// Plants a bug, which must then be found.
        #[arg(long, default_value = "none")]
        bug: String,
        /// Prints each event.
        #[arg(long)]
        trace: bool,
    },
}

fn main() -> anyhow::Result<()> {
    let Command::Sim { seed, seeds, bug, trace } = Cli::parse().command;
    let bug = Bug::named(&bug).with_context(|| format!("no bug is called {bug}"))?;
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
    Ok(())
}
