//! `shellkeep which`: what a name means, whose it is, and what would run.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use shellkeep_protocol::registry::{Ask, EntryInfo, ResolveCommand, Told};

use super::commands::{ask_of, session, tell_losses, trust_word, unexpected, why};
use crate::cli;
use crate::daemon_link::DaemonLink;
use crate::places::Places;
use crate::report::{self, Outcome, printable};

/// One command as `which --json` shows it. The names are a contract.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    qualified_name: &'a str,
    kind: &'static str,
    source: &'a str,
    scope: &'static str,
    path: Option<&'a str>,
    description: &'a str,
    args_hint: Option<&'a str>,
    aliases: &'a [String],
    runs: &'a str,
    trust: &'static str,
    state: &'static str,
    /// Why it cannot run; null if it can.
    why: Option<&'a str>,
    shadowed_by: Option<&'a str>,
    digest: String,
}

pub(super) fn run(places: &Places, args: &cli::Which) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = session(places, &link, args.session.as_ref())?;
    let resolve = ResolveCommand { session, name: args.name.clone() };
    let Told::Resolved(entry) = ask_of(&link, session, &Ask::Resolve(resolve))? else { return Err(unexpected()) };
    tell_losses(&link, session)?;
    let text = if args.json { report::json(&shown(&entry))? } else { for_people(&entry) };
    report::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn shown(entry: &EntryInfo) -> Shown<'_> {
    Shown {
        id: &entry.id,
        name: &entry.name,
        qualified_name: &entry.qualified_name,
        kind: entry.kind.name(),
        source: &entry.source,
        scope: entry.scope.name(),
        path: entry.path.as_deref(),
        description: &entry.description,
        args_hint: entry.args_hint.as_deref(),
        aliases: &entry.aliases,
        runs: &entry.runs,
        trust: entry.trust.name(),
        state: entry.state.name(),
        why: why(entry),
        shadowed_by: entry.shadowed_by.as_deref(),
        digest: entry.digest.to_string(),
    }
}

fn for_people(entry: &EntryInfo) -> String {
    let mut text = format!("{}\n", printable(&entry.qualified_name));
    let mut line = |what: &str, value: &str| {
        if !value.is_empty() {
            let _infallible = writeln!(text, "  {what:<12} {}", printable(value));
        }
    };
    line("is", &entry.description);
    line("arguments", entry.args_hint.as_deref().unwrap_or_default());
    line("runs", &entry.runs);
    line("kind", &format!("{}, {}", entry.kind.name().replace('_', " "), entry.scope.name()));
    line("from", entry.path.as_deref().unwrap_or_default());
    line("trust", trust_word(entry.trust));
    line("unavailable", why(entry).unwrap_or_default());
    line("shadowed by", entry.shadowed_by.as_deref().unwrap_or_default());
    text
}
