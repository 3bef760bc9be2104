//! `shellkeep commands`: what can be run in a session.
//!
//! Promise: nothing of a project reaches the terminal but printable characters, and listing starts no process of it.

use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;

use serde::Serialize;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{
    Ask, EntryInfo, EntryState, GetCommandRegistry, PAGE_MAX, Page, RegistryError, Scope, SearchCommands, Told, Trust,
};
use unicode_width::UnicodeWidthStr as _;

use super::recorded::{catch_up, find};
use crate::cli;
use crate::daemon_link::DaemonLink;
use crate::keepers;
use crate::names::SessionRef;
use crate::places::Places;
use crate::report::{self, Exit, Failure, Outcome, cut, printable};

/// How long a list may wait for a look at the session's directory.
const SETTLE_WAIT_MS: u32 = 3_000;

/// Pages of one list, should it change each time that one is asked for.
const PAGES_MAX: usize = 400;

/// Widest column of names. Longer ones push aside only what is in their own line.
const NAME_COLUMNS_MAX: usize = 28;

/// Least that a description is given before its line is cut.
const DESCRIPTION_COLUMNS_MIN: usize = 12;

/// What whoever asks from nowhere is told.
const OUTSIDE: &str = "this is not a kept session, so no project's commands are known: \"shellkeep\" starts one here, \
                       \"--session SESSION\" names one";

/// One command as `commands --json` shows it. The names are a contract.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    qualified_name: &'a str,
    kind: &'static str,
    source: &'a str,
    scope: &'static str,
    description: &'a str,
    trust: &'static str,
    state: &'static str,
    /// Why it cannot run; null if it can.
    why: Option<&'a str>,
    shadowed_by: Option<&'a str>,
}

/// Lists, or searches.
///
/// # Errors
/// If the daemon cannot be had, or the session that is meant.
pub(super) fn run(places: &Places, args: &cli::Commands) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = session(places, &link, args.session.as_ref())?;
    if session.is_none() && !args.json {
        report::notice(format_args!("{OUTSIDE}"));
    }
    tell_losses(&link, session)?;
    let (entries, complete) = match &args.query {
        Some(query) => (search(&link, session, query)?, true),
        None => all(&link, session)?,
    };
    let text = if args.json {
        report::json(&entries.iter().map(listed).collect::<Vec<_>>())?
    } else {
        for_people(&entries, report::columns(rustix::stdio::stdout()))
    };
    report::result(&text)?;
    if !complete {
        report::notice("the session's directory is still being looked at; there may be more");
    }
    if let Some(query) = args.query.as_ref().filter(|_| entries.is_empty()) {
        report::notice(format_args!("no command matches \"{query}\""));
        return Ok(ExitCode::from(Exit::Refused as u8));
    }
    Ok(ExitCode::SUCCESS)
}

/// The session that is meant, the one around us if none is named, or none; looked at as it is now.
///
/// # Errors
/// If nothing, or more than one session, is meant; or the daemon cannot be had.
pub(super) fn session(
    places: &Places,
    link: &DaemonLink,
    wanted: Option<&SessionRef>,
) -> Result<Option<SessionId>, Failure> {
    let session = match wanted {
        Some(wanted) => Some(find(places, link, Some(wanted))?),
        None => keepers::around_us(),
    };
    if session.is_some() {
        catch_up(places, link, session)?;
    }
    ask(link, &Ask::Settle { session, here: here(session), wait_ms: SETTLE_WAIT_MS })?;
    Ok(session)
}

/// Our directory, if we run in `session`: its shell may have moved since its last prompt.
pub(crate) fn here(session: Option<SessionId>) -> Option<String> {
    session.filter(|session| keepers::around_us() == Some(*session))?;
    std::env::current_dir().ok()?.into_os_string().into_string().ok()
}

/// Asks one thing about commands; a refusal is a failure with a hint where there is one.
///
/// # Errors
/// If the daemon cannot be had, or refuses.
pub(super) fn ask(link: &DaemonLink, ask: &Ask) -> Result<Told, Failure> {
    link.ask_commands(ask)?.map_err(|error| refused(&error))
}

/// A refusal in words.
pub(super) fn refused(error: &RegistryError) -> Failure {
    let failure = Failure::refused(error);
    match error {
        RegistryError::UnknownCommand { near, .. } if !near.is_empty() => {
            failure.with_hint(format_args!("did you mean {}? \"shellkeep commands\" lists all", near.join(", ")))
        }
        RegistryError::UnknownCommand { .. } => failure.with_hint("\"shellkeep commands\" lists all"),
        RegistryError::Ambiguous { candidates, .. } => {
            let one = candidates.first().map(String::as_str).unwrap_or_default();
            failure.with_hint(format_args!("say which one, with its owner: {one}"))
        }
        RegistryError::NotTrusted(question) => failure.with_hint(format_args!(
            "\"shellkeep trust {}\" at a terminal shows what it would run, and asks",
            question.entry.qualified_name
        )),
        RegistryError::StaleEntry { .. } => failure.with_hint("look at it again, then run it"),
        _ => failure,
    }
}

/// A refusal in words, for who may be in no session: then it is mostly that which is missing.
pub(super) fn refused_in(session: Option<SessionId>, error: &RegistryError) -> Failure {
    match error {
        RegistryError::UnknownCommand { .. } if session.is_none() => Failure::refused(error).with_hint(OUTSIDE),
        _ => refused(error),
    }
}

/// Asks for the one command that `ask` names.
///
/// # Errors
/// As [`ask`]; where the name is unknown it is told what may be missing.
pub(super) fn ask_of(link: &DaemonLink, session: Option<SessionId>, ask: &Ask) -> Result<Told, Failure> {
    link.ask_commands(ask)?.map_err(|error| unknown(link, session, &error))
}

/// A refusal in words, after what could not be read if that may be why nothing is called so.
pub(super) fn unknown(link: &DaemonLink, session: Option<SessionId>, error: &RegistryError) -> Failure {
    if matches!(error, RegistryError::UnknownCommand { .. })
        && let Err(failure) = tell_losses(link, session)
    {
        return failure;
    }
    refused_in(session, error)
}

/// Says how many files could not be read, if any.
///
/// # Errors
/// If the daemon cannot be had.
pub(super) fn tell_losses(link: &DaemonLink, session: Option<SessionId>) -> Result<(), Failure> {
    if let Some(said) = losses(link, session)? {
        report::notice(format_args!("{said}: \"shellkeep reload\" says why"));
    }
    Ok(())
}

/// How many files with commands could not be read, in words; `None` if all could.
///
/// # Errors
/// If the daemon cannot be had.
pub(super) fn losses(link: &DaemonLink, session: Option<SessionId>) -> Result<Option<String>, Failure> {
    let Told::Diagnostics(all) = ask(link, &Ask::Diagnostics { session })? else { return Err(unexpected()) };
    let lost = all.iter().filter(|told| told.is_loss);
    let files: BTreeSet<&str> = lost.map(|told| told.file.as_deref().unwrap_or(&told.source)).collect();
    Ok(match files.len() {
        0 => None,
        1 => Some("1 file with commands could not be read, or only in part".to_owned()),
        count => Some(format!("{count} files with commands could not be read, or only in part")),
    })
}

/// The daemon answered another question.
pub(super) fn unexpected() -> Failure {
    Failure::bug(&"the daemon answered another question")
}

/// All commands of one revision, and whether those are all.
///
/// # Errors
/// If the daemon cannot be had.
pub(super) fn all(link: &DaemonLink, session: Option<SessionId>) -> Result<(Vec<EntryInfo>, bool), Failure> {
    let (mut entries, mut revision, mut cursor) = (Vec::new(), None, None);
    for _ in 0..PAGES_MAX {
        let get = GetCommandRegistry { session, cursor, limit: PAGE_MAX, ..GetCommandRegistry::default() };
        let Told::Page(page) = ask(link, &Ask::Get(get))? else { return Err(unexpected()) };
        let Page { revision: now, complete, entries: more, next } = page;
        if revision != Some(now) {
            entries.clear(); // another list: this page is its first
            revision = Some(now);
        }
        entries.extend(more);
        cursor = next;
        if cursor.is_none() {
            return Ok((entries, complete));
        }
    }
    Ok((entries, false))
}

fn search(link: &DaemonLink, session: Option<SessionId>, query: &str) -> Result<Vec<EntryInfo>, Failure> {
    let search = SearchCommands { session, query: query.to_owned(), limit: PAGE_MAX };
    match ask(link, &Ask::Search(search))? {
        Told::Found(entries) => Ok(entries),
        _ => Err(unexpected()),
    }
}

fn listed(entry: &EntryInfo) -> Listed<'_> {
    Listed {
        name: &entry.name,
        qualified_name: &entry.qualified_name,
        kind: entry.kind.name(),
        source: &entry.source,
        scope: entry.scope.name(),
        description: &entry.description,
        trust: entry.trust.name(),
        state: entry.state.name(),
        why: why(entry),
        shadowed_by: entry.shadowed_by.as_deref(),
    }
}

/// Why it cannot run.
pub(super) fn why(entry: &EntryInfo) -> Option<&str> {
    match &entry.state {
        EntryState::Unavailable(why) => Some(why),
        EntryState::Ready | EntryState::Starting => None,
    }
}

/// A line each: how it is called, what it is for, and what stands in its way. shellkeep's own last: who looks for a command of the
/// project knows those.
fn for_people(entries: &[EntryInfo], columns: Option<usize>) -> String {
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for entry in entries {
        *counts.entry(&entry.name).or_default() += 1;
    }
    // As it can be typed: a name that several have means none of them.
    let called = |entry: &EntryInfo| {
        let is_alone = entry.shadowed_by.is_none() && counts.get(entry.name.as_str()) == Some(&1);
        printable(if is_alone { &entry.name } else { &entry.qualified_name })
    };
    let widest = |texts: &mut dyn Iterator<Item = String>| texts.map(|text| text.width()).max().unwrap_or(0);
    let names = widest(&mut entries.iter().map(called)).min(NAME_COLUMNS_MAX);
    let sources = widest(&mut entries.iter().map(|entry| printable(&entry.source))).min(NAME_COLUMNS_MAX / 2);
    let dim = columns.is_some() && report::wants_colours();
    let line = |entry: &EntryInfo| {
        let padded = |text: String, width: usize| format!("{text}{}", " ".repeat(width.saturating_sub(text.width())));
        let head = format!("{}  {}  ", padded(called(entry), names), padded(printable(&entry.source), sources));
        let notes = notes(entry);
        // Of what says nothing of itself what it runs says most.
        let about = if entry.description.is_empty() { &entry.runs } else { &entry.description };
        let mut about = printable(about);
        let mut head = head;
        if let Some(columns) = columns {
            let room = columns.saturating_sub(head.width() + notes.width());
            about = cut(&about, room.max(DESCRIPTION_COLUMNS_MIN));
            let room = columns.saturating_sub(about.width() + notes.width());
            head = if head.width() > room { cut(&head, room) } else { head };
        }
        let text = format!("{head}{about}{notes}");
        let text = text.trim_end();
        let is_off = matches!(entry.state, EntryState::Unavailable(_));
        if dim && is_off { format!("\x1b[2m{text}\x1b[0m\n") } else { format!("{text}\n") }
    };
    let (own, others): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.scope == Scope::Builtin);
    others.into_iter().chain(own).map(line).collect()
}

/// What stands in the way of running it.
fn notes(entry: &EntryInfo) -> String {
    let mut notes = Vec::new();
    match &entry.state {
        EntryState::Unavailable(why) => notes.push(printable(why)),
        _ if entry.trust != Trust::Trusted => notes.push(trust_word(entry.trust).to_owned()),
        _ => {}
    }
    if notes.is_empty() { String::new() } else { format!("  ({})", notes.join(", ")) }
}

/// Whether it is agreed to, as people read it.
pub(crate) fn trust_word(trust: Trust) -> &'static str {
    match trust {
        Trust::Trusted => "trusted",
        Trust::Pending => NOT_TRUSTED,
        Trust::Denied => "denied",
    }
}

/// The one way to say it.
pub(crate) const NOT_TRUSTED: &str = "not trusted yet";
