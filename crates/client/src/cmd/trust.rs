//! `shellkeep trust`: agreeing to what a project would run, and taking that back.
//!
//! Promise: what is agreed to is what was shown, to the byte; without somebody at a terminal the answer is no.

mod question;

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Write as _};
use std::process::ExitCode;

use serde::Serialize;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{
    Ask, EACH_TIME, EntryInfo, EntryState, Kind, RegistryError, Told, Trust, TrustQuestion, TrustRecord,
};
use unicode_width::UnicodeWidthStr as _;

use self::question::Form;
use super::commands::{NOT_TRUSTED, all, ask, ask_of, refused, session, tell_losses, unexpected};
use super::ls::{local, utc};
use crate::cli;
use crate::daemon_link::DaemonLink;
use crate::places::Places;
use crate::report::{self, COLUMNS_USUAL, Failure, Outcome, cut, printable};
use crate::tools::NOT_THERE;

/// Widest column of names; longer ones push aside what is in their own line.
const NAME_COLUMNS_MAX: usize = 28;

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64;

/// One agreement as `trust --list --json` shows it. The names are a contract.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    root: &'a str,
    entry: &'a str,
    digest: String,
    at: String,
    runs: &'a [String],
}

pub(super) fn run(places: &Places, args: &cli::Trust) -> Outcome {
    let link = DaemonLink::reach(places)?;
    if args.list {
        return list(&link, args.json);
    }
    if args.revoke && args.everywhere {
        return revoke(&link, None, args.name.clone());
    }
    let session = session(places, &link, args.session.as_ref())?;
    if args.revoke {
        let root = project(&link, session)?;
        return revoke(&link, Some(root), args.name.clone());
    }
    match &args.name {
        Some(name) if args.show => show(&link, session, name),
        Some(name) => ask_for(&link, session, name),
        None if args.ask_all => ask_for_all(&link, session),
        None => pending_ones(&link, session),
    }
}

/// Commands that wait for agreement, without those that never run.
fn pending(link: &DaemonLink, session: Option<SessionId>) -> Result<Vec<EntryInfo>, Failure> {
    let mut entries = all(link, session)?.0;
    entries.retain(|entry| entry.trust != Trust::Trusted && !matches!(entry.kind, Kind::Agent | Kind::Hook));
    Ok(entries)
}

/// What waits, and how one agrees to it.
fn pending_ones(link: &DaemonLink, session: Option<SessionId>) -> Outcome {
    tell_losses(link, session)?;
    let entries = pending(link, session)?;
    if entries.is_empty() {
        report::notice("nothing here waits for your agreement; \"--list\" lists what you have agreed to");
        return Ok(ExitCode::SUCCESS);
    }
    let name = |entry: &EntryInfo| printable(&entry.qualified_name);
    let width = entries.iter().map(|entry| name(entry).width()).max().unwrap_or(0).min(NAME_COLUMNS_MAX);
    let columns = report::columns(rustix::stdio::stdout());
    let row = |entry: &EntryInfo| {
        let name = name(entry);
        let padding = " ".repeat(width.saturating_sub(name.width()));
        let row = format!("{name}{padding}  {}", printable(&entry.runs));
        columns.map_or_else(|| row.clone(), |columns| cut(&row, columns)) + "\n"
    };
    report::result(&entries.iter().map(row).collect::<String>())?;
    let first = entries.first().map(name).unwrap_or_default();
    report::notice(format_args!("{} {NOT_TRUSTED}", counted(entries.len(), "command is", "commands are")));
    report::notice(format_args!(
        "\"shellkeep trust {first}\" shows one and asks, \"--ask-all\" each; \"--list\" lists the others"
    ));
    Ok(ExitCode::SUCCESS)
}

fn counted(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn question(link: &DaemonLink, session: Option<SessionId>, name: String) -> Result<Box<TrustQuestion>, Failure> {
    match ask_of(link, session, &Ask::TrustQuestion { session, name })? {
        Told::Question(question) => Ok(question),
        _ => Err(unexpected()),
    }
}

fn show(link: &DaemonLink, session: Option<SessionId>, name: &str) -> Outcome {
    let form = Form {
        columns: report::columns(rustix::stdio::stdout()).unwrap_or(COLUMNS_USUAL),
        colours: std::io::stdout().is_terminal() && report::wants_colours(),
    };
    report::result(&question::whole(&*question(link, session, name.to_owned())?, form))?;
    Ok(ExitCode::SUCCESS)
}

fn ask_for(link: &DaemonLink, session: Option<SessionId>, name: &str) -> Outcome {
    let question = question(link, session, name.to_owned())?;
    if question.entry.trust == Trust::Trusted {
        report::notice(format_args!("{} is trusted already", question.entry.qualified_name));
    } else {
        check_can_run(&question.entry)?;
        can_be_remembered(&question)?;
        if !agreed(link, session, &question)? {
            return Err(declined(&question.entry, &format!("shellkeep trust {}", question.entry.qualified_name)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn ask_for_all(link: &DaemonLink, session: Option<SessionId>) -> Outcome {
    let entries = pending(link, session)?;
    if entries.is_empty() {
        report::notice("everything here is agreed to already");
    }
    for entry in entries {
        if let Err(failure) = check_can_run(&entry) {
            report::notice(format_args!("passed over: {}", failure.message));
            continue;
        }
        let question = question(link, session, entry.id)?;
        if question.entry.trust == Trust::Trusted {
            continue;
        }
        match can_be_remembered(&question) {
            Ok(()) => _ = agreed(link, session, &question)?,
            Err(failure) => report::notice(format_args!("passed over: {}", failure.message)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Why what it does could not be read wholly, if that is so.
fn each_time(question: &TrustQuestion) -> Option<&str> {
    question.runs.first()?.strip_prefix(EACH_TIME)
}

/// Nobody is asked for an agreement that would be forgotten.
///
/// # Errors
/// If not all that decides what it does is known.
fn can_be_remembered(question: &TrustQuestion) -> Result<(), Failure> {
    let Some(why) = each_time(question) else { return Ok(()) };
    let name = &question.entry.qualified_name;
    let failure = Failure::refused(format_args!("what {name} does cannot be remembered: {}", printable(why)));
    Err(match question.entry.kind {
        Kind::McpServer => failure, // which is never run, only agreed to
        _ => failure.with_hint(format_args!("\"shellkeep run {name}\" asks each time")),
    })
}

/// Nobody is asked about what could not run anyway.
///
/// # Errors
/// If it could not, and why.
pub(super) fn check_can_run(entry: &EntryInfo) -> Result<(), Failure> {
    let EntryState::Unavailable(why) = &entry.state else { return Ok(()) };
    let failure = refused(&RegistryError::Unavailable { entry: entry.qualified_name.clone(), why: why.clone() });
    Err(if why.ends_with(NOT_THERE) {
        failure.with_hint("install it, or put its directory into PATH")
    } else {
        failure
    })
}

/// The user has said no, or nothing; `again` asks once more.
pub(super) fn declined(entry: &EntryInfo, again: &str) -> Failure {
    let name = &entry.qualified_name;
    Failure::refused(format_args!("{name} is {NOT_TRUSTED}, and nothing ran"))
        .with_hint(format_args!("\"{again}\" asks again; \"shellkeep trust --show {name}\" shows all that decides"))
}

/// Root of the project that a session is in, as the daemon knows it.
fn project(link: &DaemonLink, session: Option<SessionId>) -> Result<String, Failure> {
    let Told::Reloaded(reloaded) = ask(link, &Ask::Reload { session })? else { return Err(unexpected()) };
    reloaded.root.ok_or_else(|| {
        Failure::refused("no project is around here").with_hint("\"--everywhere\" takes it back in all of them")
    })
}

fn list(link: &DaemonLink, as_json: bool) -> Outcome {
    let Told::Trusted(records) = ask(link, &Ask::TrustList)? else { return Err(unexpected()) };
    let listed = |record: &TrustRecord| {
        let when = local(&utc(record.at_us));
        format!("{when}  {}  {}\n", printable(&called(&record.entry)), printable(&record.root))
    };
    let text = if as_json {
        let all: Vec<Listed<'_>> = records
            .iter()
            .map(|record| Listed {
                root: &record.root,
                entry: &record.entry,
                digest: record.digest.to_string(),
                at: utc(record.at_us),
                runs: &record.runs,
            })
            .collect();
        report::json(&all)?
    } else {
        records.iter().map(listed).collect()
    };
    report::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// An id as `commands` has the name.
fn called(id: &str) -> String {
    let mut parts = id.splitn(3, '/').skip(1);
    match (parts.next(), parts.next()) {
        (Some(owner), Some(name)) => format!("{owner}:{name}"),
        _ => id.to_owned(),
    }
}

fn revoke(link: &DaemonLink, root: Option<String>, entry: Option<String>) -> Outcome {
    if entry.is_none() && !may_revoke_all(link, root.as_deref())? {
        return Err(Failure::refused("nothing was taken back")
            .with_hint("\"shellkeep trust --revoke NAME\" takes one back, \"shellkeep trust --list\" lists all"));
    }
    let Told::Revoked { count } = ask(link, &Ask::TrustRevoke { root, entry })? else { return Err(unexpected()) };
    if count == 0 {
        return Err(Failure::refused("nothing of that was agreed to").with_hint("\"shellkeep trust --list\" lists all"));
    }
    report::notice(format_args!("taken back: {count}"));
    Ok(ExitCode::SUCCESS)
}

/// At a terminal somebody is asked before everything is taken back; a program means what it says.
fn may_revoke_all(link: &DaemonLink, root: Option<&str>) -> Result<bool, Failure> {
    let Some(mut tty) = terminal() else { return Ok(true) };
    let Told::Trusted(records) = ask(link, &Ask::TrustList)? else { return Err(unexpected()) };
    let count = records.iter().filter(|record| root.is_none_or(|root| record.root == root)).count();
    if count == 0 {
        return Ok(true); // which is said by who does it
    }
    let of = root.map_or_else(|| "all projects".to_owned(), printable);
    let what = counted(count, "agreement", "agreements");
    is_yes(&mut tty, &format!("Take back {what} of {of}, and end what runs because of them? [y/N] "))
}

/// The terminal itself, if somebody is there: nothing that is redirected can answer.
fn terminal() -> Option<File> {
    let tty = File::options().read(true).write(true).open("/dev/tty");
    tty.ok().filter(|_| std::io::stdin().is_terminal())
}

/// Asks; whoever just presses Enter has said no.
fn is_yes(tty: &mut File, text: &str) -> Result<bool, Failure> {
    let mut answer = String::new();
    let asked = tty
        .write_all(text.as_bytes())
        .and_then(|()| BufReader::new(Read::take(tty, ANSWER_BYTES_MAX)).read_line(&mut answer));
    asked.map_err(|error| Failure::refused(format_args!("cannot ask: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}

/// Shows what would run and asks. True if the answer is yes.
///
/// # Errors
/// If nobody can be asked: without a terminal the answer is no.
fn wants(question: &TrustQuestion) -> Result<bool, Failure> {
    let Some(mut tty) = terminal() else {
        let name = &question.entry.qualified_name;
        let verb = if each_time(question).is_some() { "run" } else { "trust" };
        return Err(Failure::refused(format_args!("{name} is {NOT_TRUSTED}, and nobody can be asked here"))
            .with_hint(format_args!("\"shellkeep {verb} {name}\" at a terminal shows what it would run, and asks")));
    };
    let form = Form { columns: report::columns(&tty).unwrap_or(COLUMNS_USUAL), colours: report::wants_colours() };
    let asks = match each_time(question) {
        None => "Trust it, as long as it stays like this? [y/N] ",
        Some(_) => "Run it this once? [y/N] ",
    };
    is_yes(&mut tty, &(question::text(question, form) + asks))
}

/// Asks, and tells the daemon if the answer is yes.
///
/// # Errors
/// If nobody can be asked, or it is another command by now.
pub(super) fn agreed(link: &DaemonLink, session: Option<SessionId>, question: &TrustQuestion) -> Result<bool, Failure> {
    if !wants(question)? {
        return Ok(false);
    }
    let entry = &question.entry;
    ask(link, &Ask::Trust { session, entry: entry.id.clone(), digest: entry.digest })?;
    if entry.kind == Kind::McpServer {
        report::notice(format_args!("it is being started; \"shellkeep commands {}\" lists what it offers", entry.name));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agreement_is_called_as_its_command_is() {
        assert_eq!(called("project/just/build"), "just:build");
        assert_eq!(called("project/npm/web:test"), "npm:web:test");
        assert_eq!(called("odd"), "odd");
    }
}
