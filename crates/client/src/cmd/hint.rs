//! `shellkeep hint`: what a shell's integration says of a name that the shell does not find.
//!
//! Promises to answer in [`ANSWER_WAIT_MAX`] whatever the daemon does, to be silent where nothing is known, and to run nothing: it
//! only says that a trusted command may be run because its user has said so in the settings.

use std::process::ExitCode;
use std::time::Duration;

use shellkeep_protocol::registry::{
    Ask, EntryInfo, EntryState, Kind, RegistryError, ResolveCommand, Scope, Told, Trust,
};

use super::commands::NOT_TRUSTED;
use crate::cli;
use crate::config::Settings;
use crate::daemon_link::DaemonLink;
use crate::keepers;
use crate::palette::quoted;
use crate::places::Places;
use crate::report::{self, Exit, Outcome, printable};

/// How long the daemon may take: a person who has mistyped waits for it.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(50);

/// Status that says: run it. The others are 0 if something was said, and 1.
const RUN: u8 = 10;

/// Longest name that is asked for, in bytes: no command has a longer one.
const NAME_BYTES_MAX: usize = 128;

/// Shortest name of which near ones are said.
const NEAR_BYTES_MIN: usize = 3;

/// Near names that are said.
const NEAR_MAX: usize = 2;

pub(super) fn run(places: &Places, args: &cli::Hint) -> Outcome {
    let nothing = Ok(ExitCode::from(Exit::Refused as u8));
    if args.name.len() > NAME_BYTES_MAX || args.name.contains('/') {
        return nothing;
    }
    let resolve = ResolveCommand { session: keepers::around_us(), name: args.name.clone() };
    let said = match DaemonLink::ask_commands_running(places, &Ask::Resolve(resolve), ANSWER_WAIT_MAX) {
        Some(Ok(Told::Resolved(entry))) => {
            let may_run = entry.trust == Trust::Trusted && entry.state == EntryState::Ready;
            if may_run && Settings::load(places).is_ok_and(|settings| settings.commands.run_not_found) {
                return Ok(ExitCode::from(RUN));
            }
            about(&args.name, &entry)
        }
        Some(Err(error)) => of_others(&args.name, &error),
        _ => None,
    };
    let Some(said) = said else { return nothing };
    report::result(&(said + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// What it is, and how it is run; nothing if it cannot be.
fn about(name: &str, entry: &EntryInfo) -> Option<String> {
    if matches!(entry.kind, Kind::Agent | Kind::Hook | Kind::McpServer) {
        return None;
    }
    let whose = match entry.scope {
        Scope::Builtin => "of shellkeep",
        Scope::User => "of yours",
        Scope::Project => "of this project",
        Scope::Session => "of this session",
    };
    let but = match (entry.trust, &entry.state) {
        (_, EntryState::Unavailable(why)) => format!(", unavailable: {}", printable(why)),
        (Trust::Trusted, _) => String::new(),
        _ => format!(", {NOT_TRUSTED}"),
    };
    Some(format!("\"{}\" is a command {whose}{but}: shellkeep run {}", printable(name), printable(&quoted(name))))
}

/// Several that have the name, or some that are called nearly so.
fn of_others(name: &str, error: &RegistryError) -> Option<String> {
    let all = |names: &[&String]| {
        let lines: Vec<String> =
            names.iter().map(|name| format!("shellkeep run {}", printable(&quoted(name)))).collect();
        lines.join(", or ")
    };
    match error {
        RegistryError::Ambiguous { candidates, .. } => {
            let candidates: Vec<&String> = candidates.iter().collect();
            Some(format!("several commands are called \"{}\": {}", printable(name), all(&candidates)))
        }
        RegistryError::UnknownCommand { near, .. } if name.len() >= NEAR_BYTES_MIN => {
            // One slip in a short name, two in a long one: more is another word.
            let slips = if name.len() > 5 { 2 } else { 1 };
            let is_near = |near: &&String| strsim::damerau_levenshtein(near, name) <= slips;
            let near: Vec<&String> = near.iter().filter(is_near).take(NEAR_MAX).collect();
            (!near.is_empty()).then(|| format!("a command of this session is called nearly so: {}", all(&near)))
        }
        _ => None,
    }
}
