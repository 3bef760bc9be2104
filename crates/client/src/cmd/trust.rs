//! `shellkeep trust`: agreeing to what a project would run, and taking that back.
//!
//! Promise: what is agreed to is what was shown, to the byte; without somebody at a terminal the answer is no.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use serde::Serialize;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{Ask, Told, Trust, TrustQuestion, TrustRecord};

use super::commands::{all, ask, session, unexpected};
use super::ls::{local, utc};
use crate::cli;
use crate::daemon_link::DaemonLink;
use crate::places::Places;
use crate::report::{self, Failure, Outcome, printable, printable_line};

/// Lines of a question that are shown; it says how many more there are.
const LINES_MAX: usize = 200;

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
    let names: Vec<String> = if let Some(name) = &args.name {
        vec![name.clone()]
    } else {
        let pending = all(&link, session)?.0.into_iter().filter(|entry| entry.trust != Trust::Trusted);
        pending.map(|entry| entry.id).collect()
    };
    if names.is_empty() {
        report::notice("everything here is agreed to already");
    }
    for name in names {
        let Told::Question(question) = ask(&link, &Ask::TrustQuestion { session, name })? else {
            return Err(unexpected());
        };
        if question.entry.trust == Trust::Trusted {
            report::notice(format_args!("{} is trusted already", question.entry.qualified_name));
        } else if !agreed(&link, session, &question)? && args.name.is_some() {
            return Err(Failure::refused(format_args!("{} is not trusted", question.entry.qualified_name)));
        }
    }
    Ok(ExitCode::SUCCESS)
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
        format!("{when}  {}  {}\n", printable(&record.entry), printable(&record.root))
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

fn revoke(link: &DaemonLink, root: Option<String>, entry: Option<String>) -> Outcome {
    let Told::Revoked { count } = ask(link, &Ask::TrustRevoke { root, entry })? else { return Err(unexpected()) };
    if count == 0 {
        return Err(Failure::refused("nothing of that was agreed to").with_hint("\"shellkeep trust --list\" lists all"));
    }
    report::notice(format_args!("taken back: {count}"));
    Ok(ExitCode::SUCCESS)
}

/// Shows what would run and asks, at the terminal itself: nothing that is redirected can answer. True if the answer is yes.
///
/// # Errors
/// If nobody can be asked: without a terminal the answer is no.
fn wants(question: &TrustQuestion) -> Result<bool, Failure> {
    let tty = std::fs::File::options().read(true).write(true).open("/dev/tty");
    let Some(mut tty) = tty.ok().filter(|_| std::io::stdin().is_terminal()) else {
        let name = &question.entry.qualified_name;
        return Err(Failure::refused(format_args!("{name} is not trusted, and nobody can be asked here"))
            .with_hint(format_args!("\"shellkeep trust {name}\" at a terminal shows what it would run, and asks")));
    };
    let mut answer = String::new();
    let asked = tty
        .write_all(text(question).as_bytes())
        .and_then(|()| tty.write_all(b"Trust it, as long as it stays like this? [y/N] "))
        .and_then(|()| BufReader::new(tty.take(ANSWER_BYTES_MAX)).read_line(&mut answer));
    asked.map_err(|error| Failure::refused(format_args!("cannot ask: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
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
    Ok(true)
}

/// What is asked, without anything that a terminal acts on.
fn text(question: &TrustQuestion) -> String {
    let name = printable(&question.entry.qualified_name);
    let root = printable(&question.root);
    let shown = |mark: &str, lines: &[String]| -> String {
        let line = |line: &String| format!("  {mark}{}\n", printable_line(line));
        let mut text: String = lines.iter().take(LINES_MAX).map(line).collect();
        if lines.len() > LINES_MAX {
            let more = lines.len() - LINES_MAX;
            text.extend([format!("  … and {more} more lines\n")]);
        }
        text
    };
    match &question.before {
        None => format!("{name} of {root} is new here. This is all of it:\n{}", shown("", &question.runs)),
        Some(before) => {
            let (gone, come) = difference(before, &question.runs);
            format!("{name} of {root} has changed since you agreed to it:\n{}{}", shown("- ", gone), shown("+ ", come))
        }
    }
}

/// The lines between those that both begin and end with.
fn difference<'a>(before: &'a [String], now: &'a [String]) -> (&'a [String], &'a [String]) {
    let same = before.iter().zip(now).take_while(|(one, other)| one == other).count();
    let (before, now) = (&before[same..], &now[same..]);
    let same = before.iter().rev().zip(now.iter().rev()).take_while(|(one, other)| one == other).count();
    (&before[..before.len() - same], &now[..now.len() - same])
}
