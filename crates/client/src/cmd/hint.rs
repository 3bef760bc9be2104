//! `shellkeep hint`: what a shell's integration says of a name that the shell does not find.
//!
//! Promises to answer in [`ANSWER_WAIT_MAX`] whatever the daemon and the disk do, to be silent where nothing is known, to ask no network,
//! and to run nothing: it only says that a trusted command may be run because its user has said so in the settings.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use shellkeep_daemon::packages::{Near, Packages, Provides, Source, slips_max};
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

/// How long the daemon may take, and the disk: a person who has mistyped waits for it.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(50);

/// Status that says: run it. The others are 0 if something was said to add to that the name is unknown, [`ANSWERED`], and 1.
const RUN: u8 = 10;

/// Status that says: this is all that is to be said of it.
const ANSWERED: u8 = 11;

/// Status that says: nothing is known of it, and this is how it may be shown.
const SHOWN: u8 = 12;

/// Longest name that is asked for, in bytes: no command has a longer one.
const NAME_BYTES_MAX: usize = 128;

/// Shortest name of which near ones are said.
const NEAR_BYTES_MIN: usize = 3;

/// Near names that are said.
const NEAR_MAX: usize = 2;

pub(super) fn run(places: &Places, args: &cli::Hint) -> Outcome {
    let nothing = Ok(ExitCode::from(Exit::Refused as u8));
    let shown = printable(&args.name.to_string_lossy());
    let Some(name) = args.name.to_str().filter(|name| *name == shown) else {
        // What a terminal would act on is in no name that is known.
        report::result(&(shown + "\n"))?;
        return Ok(ExitCode::from(SHOWN));
    };
    if name.len() > NAME_BYTES_MAX || name.contains('/') {
        return nothing;
    }
    let until = Instant::now() + ANSWER_WAIT_MAX;
    let settings = Settings::load(places).ok();
    let packages = of_packages(places, settings.as_ref(), name);
    let resolve = ResolveCommand { session: keepers::around_us(), name: name.to_owned() };
    let answer = DaemonLink::ask_commands_running(places, &Ask::Resolve(resolve), ANSWER_WAIT_MAX);
    let near = match answer {
        Some(Ok(Told::Resolved(entry))) if is_there(&entry) => {
            let may_run = entry.trust == Trust::Trusted && entry.state == EntryState::Ready;
            if may_run && settings.is_some_and(|settings| settings.commands.run_not_found) {
                return Ok(ExitCode::from(RUN));
            }
            let Some(said) = about(name, &entry) else { return nothing };
            report::result(&(said + "\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Err(error)) => Some(error),
        _ => None,
    };
    let provides = packages.recv_timeout(until.saturating_duration_since(Instant::now())).unwrap_or_default();
    if let Some(package) = &provides.package {
        report::result(&format!("command not found: {name} (install with: {} install {package})\n", args.pkg))?;
        return Ok(ExitCode::from(ANSWERED));
    }
    let mut lines: Vec<String> = provides.near.iter().map(|near| meant(near, &args.pkg)).collect();
    lines.extend(near.and_then(|error| of_others(name, &error, &provides)));
    if lines.is_empty() {
        return nothing;
    }
    report::result(&(lines.join("\n") + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// What packages know of a name: looked for beside all else, since a disk may take its time. Ends with this program.
fn of_packages(places: &Places, settings: Option<&Settings>, name: &str) -> Receiver<Provides> {
    let (found, is_found) = channel();
    let (packages, name) = (Packages::new(&places.packages()), name.to_owned());
    let source = index_of_settings(settings);
    let look = move || {
        let _nobody_waits = found.send(packages.provides(source.as_ref(), &name));
    };
    // Without a thread nothing is known.
    let _none = std::thread::Builder::new().name("packages".into()).spawn(look);
    is_found
}

/// The index that the environment or the settings name.
pub(super) fn index_of_settings(settings: Option<&Settings>) -> Option<Source> {
    let said = std::env::var("SHELLKEEP_PKG_INDEX").ok().filter(|place| !place.is_empty());
    let place = said.or_else(|| settings.map(|settings| settings.packages.index.clone()))?;
    Source::parse(&place).ok()
}

/// A package's command that was removed this moment may still be listed.
fn is_there(entry: &EntryInfo) -> bool {
    entry.kind != Kind::Package || entry.path.as_deref().is_none_or(|path| std::path::Path::new(path).exists())
}

/// A command of a package that is nearly called so.
fn meant(near: &Near, pkg: &str) -> String {
    match &near.package {
        Some(package) => format!("did you mean: {} (install with: {pkg} install {package})", near.command),
        None => format!("did you mean: {}", near.command),
    }
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

/// Several that have the name, or some that are called nearly so and were not said yet.
fn of_others(name: &str, error: &RegistryError, said: &Provides) -> Option<String> {
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
            let is_near = |near: &&String| strsim::damerau_levenshtein(near, name) <= slips_max(name);
            let is_new = |near: &&String| said.near.iter().all(|said| said.command != **near);
            let near: Vec<&String> = near.iter().filter(is_near).filter(is_new).take(NEAR_MAX).collect();
            (!near.is_empty()).then(|| format!("a command of this session is called nearly so: {}", all(&near)))
        }
        _ => None,
    }
}
