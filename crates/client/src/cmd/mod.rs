//! What each subcommand does, one file each.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use shellkeep_protocol::attach::Recording;

use crate::cli::{Cli, Command};
use crate::places::Places;
use crate::report::{self, Exit, Failure, Outcome};

pub(crate) mod attach;
mod browse;
pub(crate) mod commands;
mod complete;
mod completions;
mod config;
pub(crate) mod daemon;
pub mod demo;
mod detach;
mod doctor;
mod export;
mod first_run;
mod hint;
mod history;
mod kill;
mod ls;
mod man;
mod mcp;
mod note;
mod output;
mod palette;
pub(crate) mod part;
mod pause;
mod pkg;
pub(crate) mod recorded;
mod reindex;
mod reload;
pub(crate) mod replay;
mod rm;
mod run;
mod search;
mod start;
mod trust;
mod verify;
mod which;

pub(crate) use self::commands::NOT_TRUSTED;

/// How alike two words must be for the one to be taken for the other, mistyped: from 0 to 1.
pub(crate) const NEAR: f64 = 0.7;

/// The hidden subcommand that is the keeper.
const KEEPER_VERB: &str = "keeper";

/// What is missing, damaged or left out, in a line.
pub(crate) fn told(item: &shellkeep_protocol::query::Item) -> String {
    output::describe(item)
}

/// Microseconds since the Unix epoch in RFC 3339, UTC.
pub(crate) fn utc_time(us: u64) -> String {
    ls::utc(us)
}

/// The same in the user's own time, to the second.
pub(crate) fn local_time(us: u64) -> String {
    ls::local(&ls::utc(us))
}

/// Runs the program.
pub fn main() -> ExitCode {
    if rustix::process::geteuid() != rustix::process::getuid() {
        // With another user's rights every directory check would be about the wrong user.
        return report::failure(&Failure::refused("shellkeep does not run with another user's rights (set-user-id)"));
    }
    // Before everything else: a keeper lives long and needs no parser, and its descriptors must be its own at once.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == KEEPER_VERB) {
        return crate::keeper::run();
    }
    let outcome = match Cli::try_parse() {
        Ok(cli) => dispatch(cli),
        Err(error) => return say_usage(&error, std::env::args().nth(1).as_deref()),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => report::failure(&failure),
    }
}

fn dispatch(cli: Cli) -> Outcome {
    match cli.command.unwrap_or(Command::Start(cli.start)) {
        Command::Start(args) => start::run(&args),
        Command::Attach(args) => attach::run(&args),
        Command::Detach(args) => detach::run(&args),
        Command::Kill(args) => kill::run(&args),
        Command::Pause(args) => pause::run(&args, Recording::Paused),
        Command::Resume(args) => pause::run(&args, Recording::On),
        Command::Completions(args) => completions::run(&args),
        Command::Man => man::run(),
        Command::Demo(args) => demo::run(&args),
        other => recorded(other, &Places::from_env()?),
    }
}

/// Commands that read records or steer the daemon.
fn recorded(command: Command, places: &Places) -> Outcome {
    match command {
        Command::Browse => browse::run(places),
        Command::Ls(args) => ls::run(places, args.all, args.json),
        Command::Output(args) => output::output(places, &args),
        Command::History(args) => history::run(places, &args),
        Command::Search(args) => search::run(places, &args),
        Command::Reindex => reindex::run(places),
        Command::Tail(args) => output::tail(places, &args),
        Command::Replay(args) => replay::run(places, &args),
        Command::Export(args) => export::run(places, &args),
        Command::Verify(args) => verify::run(places, args.session.as_ref()),
        Command::Rm(args) => rm::run(places, args.session.as_ref()),
        Command::Commands(args) => commands::run(places, &args),
        Command::Run(args) => run::run(places, &args),
        Command::Which(args) => which::run(places, &args),
        Command::Reload(args) => reload::run(places, &args),
        Command::Trust(args) => trust::run(places, &args),
        Command::Palette(args) => palette::run(places, &args),
        Command::Hint(args) => hint::run(places, &args),
        Command::Complete(args) => complete::run(places, &args),
        Command::Mcp(args) => mcp::run(places, &args),
        Command::Pkg(args) => pkg::run(places, &args.verb),
        Command::Daemon(args) => daemon::steer(places, &args.verb),
        Command::Config(args) => config::run(places, &args.verb),
        Command::Doctor => doctor::run(places),
        other => Err(Failure::bug(&format_args!("{other:?} has no code"))),
    }
}

/// Help and versions are results; everything else is a usage error.
fn say_usage(error: &clap::Error, first: Option<&str>) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match report::result(&error.render().to_string()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => report::failure(&failure),
        },
        ErrorKind::UnknownArgument => match first.and_then(|said| Some((said, nearest_command(said)?))) {
            Some((said, meant)) => {
                let failure = Failure::usage(format_args!("there is no command \"{said}\""));
                let hint = format!("did you mean \"{meant}\"? \"shellkeep --help\" lists all");
                report::failure(&failure.with_hint(hint))
            }
            None => plain_usage(error),
        },
        _ => plain_usage(error),
    }
}

fn plain_usage(error: &clap::Error) -> ExitCode {
    report::usage(&error.render().to_string());
    ExitCode::from(Exit::Usage as u8)
}

/// The command that a first word which is none was probably meant to be.
fn nearest_command(said: &str) -> Option<String> {
    let command = Cli::command();
    if said.starts_with('-') || command.find_subcommand(said).is_some() {
        return None; // it is no command that is wrong
    }
    let all = command.get_subcommands().filter(|known| !known.is_hide_set()).map(|known| known.get_name().to_owned());
    let near = all.map(|name| (strsim::jaro(&name, said), name)).filter(|(alike, _)| *alike > NEAR);
    near.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, name)| name)
}
