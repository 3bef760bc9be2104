//! `shellkeep complete`: what may stand at a place of a command line, for the completions of shells.
//!
//! Promises to answer in [`ANSWER_WAIT_MAX`] whatever the daemon and the disk do, to ask no network, and of commands and sessions nothing
//! where no daemon runs. Status 1 says that the place is none of such a name: then what the command line itself defines is completed; 10
//! that it is an argument of a command, of which only the shell's own files are known. Of `pkg`, which shells have as a function and know
//! nothing of, everything is told.

mod line;
mod place;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;

use clap::CommandFactory as _;
use shellkeep_daemon::packages::{Packages, Source};
use shellkeep_protocol::query::{Query, Reply, SessionInfo, SessionState};
use shellkeep_protocol::registry::{Ask, EntryInfo, EntryState, Kind, Scope, SearchCommands, Told, Trust};

use self::line::{Current, Line};
use self::place::Wanted;
use super::commands::{NOT_TRUSTED, why};
use crate::cli::{self, Cli, Dialect};
use crate::config::Settings;
use crate::daemon_link::DaemonLink;
use crate::keepers;
use crate::places::Places;
use crate::report::{self, Exit, Outcome, printable};

/// How long the daemon may take: somebody has pressed Tab.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(100);

/// Status that says: a file, as the shell completes those.
const FILES: u8 = 10;

/// Most names that are said.
const NAMES_MAX: u32 = 1_000;

/// Longest description, in characters: a line of a list.
const DESCRIPTION_CHARS_MAX: usize = 60;

/// Builtins that `run` leaves to the shell.
const OF_THE_SHELL: [&str; 2] = ["cd", "exit"];

/// A name, and what it is.
type Candidate = (String, String);

pub(super) fn run(places: &Places, args: &cli::Complete) -> Outcome {
    let line = Line::new(&args.line, args.point.unwrap_or(args.line.len()), args.shell, &args.breaks);
    let Some((wanted, from)) = place::wanted(&line, &Cli::command()) else {
        return Ok(ExitCode::from(Exit::Refused as u8));
    };
    let word = &line.current.text[from..];
    let all = match wanted {
        Wanted::File => return Ok(ExitCode::from(FILES)),
        Wanted::Command { to_run } => commands(places, word, to_run),
        Wanted::Session { is_running } => sessions(places, word, is_running),
        Wanted::Package { is_installed } => packages(places, &line.words, word, is_installed),
        Wanted::Words(all) => all.into_iter().map(|(name, what)| (name, short(&what))).collect(),
    };
    let said = all.iter().map(|(name, what)| match args.shell {
        Dialect::Bash => line.current.behind(from, name).map(|rest| format!("{rest}\t{what}\n")),
        // They filter and quote by themselves, as their users have set it.
        Dialect::Zsh | Dialect::Fish => Some(format!("{}{name}\t{what}\n", &line.current.text[..from])),
    });
    report::result(&said.flatten().collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

/// Names of the session's commands for what is typed of one: bare ones, each if it means one command; those with their owner
/// where the text is the beginning of no bare one, and for the others. To be run: only those that `run` can run now.
fn commands(places: &Places, word: &str, to_run: bool) -> Vec<Candidate> {
    let search = SearchCommands { session: keepers::around_us(), query: word.to_owned(), limit: NAMES_MAX };
    let answer = DaemonLink::ask_commands_running(places, &Ask::Search(search), ANSWER_WAIT_MAX);
    let Some(Ok(Told::Found(mut found))) = answer else { return Vec::new() };
    found.retain(|entry| entry.scope != Scope::Builtin); // their names are those of the shell's own
    let offered = |entry: &&EntryInfo| !to_run || can_run(entry);
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for entry in &found {
        *counts.entry(&entry.name).or_default() += 1;
    }
    let is_alone = |entry: &&EntryInfo| entry.shadowed_by.is_none() && counts.get(entry.name.as_str()) == Some(&1);
    let begins = |name: &str| name.starts_with(word);
    let has_bare = found.iter().filter(offered).any(|entry| begins(&entry.name));
    let named = |entry: &EntryInfo| {
        let is_bare = is_alone(&entry) && (has_bare || !begins(&entry.qualified_name));
        (if is_bare { &entry.name } else { &entry.qualified_name }).clone()
    };
    found.iter().filter(offered).map(|entry| (named(entry), what_command(entry))).collect()
}

/// Whether `run` would do anything with it: not with what belongs to an agent, a server itself, what is away, or what only a
/// shell can do.
fn can_run(entry: &EntryInfo) -> bool {
    let is_of_shell = entry.kind == Kind::Builtin && OF_THE_SHELL.contains(&entry.name.as_str());
    let is_run = !matches!(entry.kind, Kind::Agent | Kind::Hook | Kind::McpServer) && !is_of_shell;
    is_run && why(entry).is_none()
}

fn what_command(entry: &EntryInfo) -> String {
    let note = match &entry.state {
        EntryState::Unavailable(why) => format!(" ({})", printable(why)),
        _ if entry.trust == Trust::Trusted => String::new(),
        _ => format!(" ({NOT_TRUSTED})"),
    };
    let of = if entry.description.is_empty() { &entry.source } else { &entry.description };
    short(of) + &note
}

/// Names of sessions; ids of those that have none, and of all if what is typed is the beginning of no name.
fn sessions(places: &Places, word: &str, is_running: bool) -> Vec<Candidate> {
    let query = Query::Sessions { ended: !is_running, after: None };
    let Some(Reply::Sessions(all)) = DaemonLink::ask_running(places, &query, ANSWER_WAIT_MAX) else {
        return Vec::new();
    };
    let name = |info: &SessionInfo| info.attrs.name.clone();
    let has_name = all.iter().filter_map(name).any(|name| name.starts_with(word));
    let what = |info: &SessionInfo| {
        let state = match info.state {
            SessionState::Running => "runs",
            SessionState::Ended => "ended",
            SessionState::Lost => "lost",
        };
        short(&format!("{state}: {} in {}", info.attrs.command.join(" "), info.attrs.cwd))
    };
    let mut candidates: Vec<Candidate> = Vec::new();
    for info in &all {
        let called = name(info).filter(|_| has_name).unwrap_or_else(|| info.session.to_string());
        // Of several of one name the newest is meant.
        if !candidates.iter().any(|(name, _)| *name == called) {
            candidates.push((called, what(info)));
        }
    }
    candidates.extend(all.first().map(|info| ("last".to_owned(), format!("the newest: {}", what(info)))));
    candidates
}

/// Packages with what they are: installed ones, else those of the index as it was last seen. None of those that stand in the line already.
fn packages(places: &Places, said: &[String], word: &str, is_installed: bool) -> Vec<Candidate> {
    let index = said.windows(2).find(|pair| pair[0] == "--index").map(|pair| pair[1].clone());
    let source = match index {
        Some(place) => Source::parse(&place).ok(),
        None => super::hint::index_of_settings(Settings::load(places).ok().as_ref()),
    };
    let (packages, word) = (Packages::new(&places.packages()), word.to_owned());
    let (found, is_found) = channel();
    let look = move || {
        let here = packages.installed();
        let all: Vec<Candidate> = if is_installed {
            here.into_iter().map(|(name, version)| (name, version.to_string())).collect()
        } else {
            let listed = source.map(|source| packages.listed(&source, &word)).unwrap_or_default();
            let new = listed.into_iter().filter(|(name, _)| !here.contains_key(name)).take(NAMES_MAX as usize);
            new.map(|(name, commands)| (name, short(&commands.join(", ")))).collect()
        };
        let _nobody_waits = found.send(all);
    };
    // Beside all else, since a disk may take its time; it ends with this program. Without a thread nothing is known.
    let _none = std::thread::Builder::new().name("packages".into()).spawn(look);
    let mut all = is_found.recv_timeout(ANSWER_WAIT_MAX).unwrap_or_default();
    all.retain(|(name, _)| !said.contains(name));
    all
}

/// In one line, without anything that a terminal acts on.
fn short(text: &str) -> String {
    let text = printable(text.trim());
    match text.char_indices().nth(DESCRIPTION_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl Current {
    /// What bash puts in place of what it replaces itself for `name`, which the word from `from` on is the beginning of.
    fn behind(&self, from: usize, name: &str) -> Option<String> {
        name.strip_prefix(&self.text[from..])?;
        let whole = format!("{}{name}", &self.text[..from]);
        whole.get(self.replaced_from..).map(|rest| self.quote.applied(rest))
    }
}
