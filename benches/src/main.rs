//! Measures shellkeep beside the floor and beside others, in one interleaved run: `cargo run -rp shellkeep-benches --`.
//!
//! Promise: every number is a median over rounds in which all contestants took turns on the same cores, and every
//! ratio is formed within a round before the median is taken, so that a slow minute of the machine hits all alike.

mod attach;
mod fleet;
mod home;
mod machine;
mod packages;
mod process;
mod pty;
mod registry;
mod report;
mod scratch;
mod search;
mod sessions;
mod stats;
mod transport;

use clap::{Parser, Subcommand};

/// Measures shellkeep beside the floor, in one interleaved run.
#[derive(Parser)]
#[command(name = "shellkeep-benches", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  cargo build --release && cargo run -rp shellkeep-benches -- pty
  cargo run -rp shellkeep-benches -- transport
  cargo run -rp shellkeep-benches -- transport --pin split --rounds 9 --json transport.json
  cargo run -rp shellkeep-benches -- reconnect --clients 1
  cargo run -rp shellkeep-benches -- many
  cargo build --release && cargo run -rp shellkeep-benches -- sessions
  cargo run -rp shellkeep-benches -- search --gib 1
  cargo run -rp shellkeep-benches -- registry
  cargo build --release && cargo run -rp shellkeep-benches -- packages
  cargo build --release && cargo run -rp shellkeep-benches -- attach";

#[derive(Subcommand)]
enum Command {
    /// Round trips and throughput over a Unix socket between two processes: raw blocking, raw tokio, ours.
    Transport(transport::Args),
    /// A session's output and keys: bare PTY, plain relay, script, shellkeep with its daemon up, stopped and frozen.
    Pty(pty::Args),
    /// From `attach` to the whole screen, with a GiB of history.
    Attach(attach::Args),
    #[command(hide = true)]
    AttachPrint(attach::PrintArgs),
    /// Programs under a measurement; started by the others.
    #[command(hide = true)]
    PtyPrint(pty::child::PrintArgs),
    #[command(hide = true)]
    PtyEcho,
    #[command(hide = true)]
    PtyRelay(pty::relay::Args),
    /// After a restart: from the new socket to the first answered call; and calls that a dead or stopped server has.
    Reconnect(fleet::reconnect::Args),
    /// Ten thousand clients: memory, idleness, a restart.
    Many(fleet::many::Args),
    /// From a session's record to its ack: alone, among 100 quiet sessions, beside one that floods.
    Sessions(sessions::Args),
    #[command(hide = true)]
    ServeSessionsFloor(sessions::floor::Args),
    /// Recorded output: indexing it, and finding words in it.
    Search(search::Args),
    /// The registry of commands: reading, resolving, searching, replacing a layer.
    Registry(registry::Args),
    /// Packages: a command in 100 open shells, a large one, the hint.
    Packages(packages::Args),
    /// The server's side of a measurement; started by the others.
    #[command(hide = true)]
    ServeFleet(fleet::server::Args),
    #[command(hide = true)]
    FleetClients(fleet::clients::Args),
    #[command(hide = true)]
    ServeTransport(transport::server::Args),
}

fn main() -> anyhow::Result<()> {
    let command = Cli::parse().command;
    if matches!(
        command,
        Command::Pty(_)
            | Command::Attach(_)
            | Command::Transport(_)
            | Command::Reconnect(_)
            | Command::Many(_)
            | Command::Sessions(_)
            | Command::Search(_)
            | Command::Packages(_)
    ) {
        scratch::clean_up_when_interrupted()?;
    }
    match command {
        Command::Pty(args) => pty::run(&args),
        Command::Attach(args) => attach::run(&args),
        Command::AttachPrint(args) => attach::print(&args),
        Command::PtyPrint(args) => pty::child::print(&args),
        Command::PtyEcho => pty::child::echo(),
        Command::PtyRelay(args) => pty::relay::run(&args),
        Command::Reconnect(args) => fleet::reconnect::run(&args),
        Command::Many(args) => fleet::many::run(&args),
        Command::Sessions(args) => sessions::run(&args),
        Command::ServeSessionsFloor(args) => sessions::floor::serve(&args),
        Command::ServeFleet(args) => fleet::server::run(&args),
        Command::FleetClients(args) => fleet::clients::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Registry(args) => registry::run(&args),
        Command::Packages(args) => packages::run(&args),
        Command::Transport(args) => transport::run(&args),
        Command::ServeTransport(args) => transport::server::run(&args),
    }
}
