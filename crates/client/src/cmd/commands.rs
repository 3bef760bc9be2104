//! `shellkeep commands`: what can be run in a session.
//!
//! Promise: nothing of a project reaches the terminal but printable characters, and listing starts no process of it.

use std::process::ExitCode;

use serde::Serialize;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{
    Ask, EntryInfo, EntryState, GetCommandRegistry, PAGE_MAX, Page, RegistryError, SearchCommands, Told, Trust,
};

use super::recorded::{catch_up, find};
use crate::cli;
use crate::daemon_link::DaemonLink;
use crate::keepers;
use crate::names::SessionRef;
use crate::places::Places;
use crate::report::{self, Failure, Outcome, printable};

/// How long a list may wait for a look at the session's directory.
const SETTLE_WAIT_MS: u32 = 3_000;

/// Pages of one list, should it change each time that one is asked for.
const PAGES_MAX: usize = 400;

/// Widest column of names, in characters.
const NAME_COLUMNS_MAX: usize = 32;

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
    let (entries, complete) = match &args.query {
        Some(query) => (search(&link, session, query)?, true),
        None => all(&link, session)?,
    };
    let text =
        if args.json { report::json(&entries.iter().map(listed).collect::<Vec<_>>())? } else { for_people(&entries) };
    report::result(&text)?;
    if !complete {
        report::notice("the session's directory is still being looked at; there may be more");
    } else if entries.is_empty() && args.query.is_some() {
        report::notice("no command matches");
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
            failure.with_hint(format_args!("did you mean {}?", near.join(", ")))
        }
        RegistryError::UnknownCommand { .. } => failure.with_hint("\"shellkeep commands\" lists all"),
        RegistryError::Ambiguous { .. } => failure.with_hint("say which one, with its owner"),
        RegistryError::NotTrusted(question) => failure.with_hint(format_args!(
            "\"shellkeep trust {}\" at a terminal shows what it would run, and asks",
            question.entry.qualified_name
        )),
        RegistryError::StaleEntry { .. } => failure.with_hint("look at it again, then run it"),
        _ => failure,
    }
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

/// A line each: how it is called, what it is for, and what stands in its way.
fn for_people(entries: &[EntryInfo]) -> String {
    let called = |entry: &EntryInfo| {
        let name = if entry.shadowed_by.is_some() { &entry.qualified_name } else { &entry.name };
        printable(name)
    };
    let width = entries.iter().map(|entry| called(entry).chars().count()).max().unwrap_or(0).min(NAME_COLUMNS_MAX);
    let line = |entry: &EntryInfo| {
        let mut notes = Vec::new();
        match entry.trust {
            Trust::Trusted => {}
            Trust::Pending => notes.push("not trusted yet".to_owned()),
            Trust::Denied => notes.push("denied".to_owned()),
        }
        match &entry.state {
            EntryState::Ready => {}
            EntryState::Starting => notes.push("starting".to_owned()),
            EntryState::Unavailable(why) => notes.push(format!("unavailable: {}", printable(why))),
        }
        let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join(", ")) };
        let source = printable(&entry.source);
        format!("{:<width$}  {source:<10}  {}{notes}\n", called(entry), printable(&entry.description))
    };
    entries.iter().map(line).collect()
}
