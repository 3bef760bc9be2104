//! `shellkeep search`: text in what was printed and typed, newest first.
//!
//! Promise: nothing of a record reaches the terminal but printable characters.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use shellkeep_protocol::query::{Cursor, Ended, FOUND_PAGE_MAX, Found, Hit, IndexState, Query, Reply, Search};

use super::ls::{local, utc};
use super::recorded::{catch_up, find};
use crate::cli;
use crate::daemon_link::DaemonLink;
use crate::places::Places;
use crate::report::{self, Failure, Outcome, printable};

/// How long we go on looking while pages come back with less than was wanted.
const LOOK_MAX: Duration = Duration::from_secs(30);

/// How long a search that finds nothing waits for output that is being read into the index: longer than the index stands
/// aside for a flood.
const BEHIND_WAIT_MAX: Duration = Duration::from_secs(15);

/// One hit as `search --json` shows it. The names are a contract.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    session: String,
    session_name: Option<&'a str>,
    command_id: Option<u64>,
    command: Option<&'a str>,
    line: &'a str,
    seq: u64,
    /// `output` or `command`.
    kind: &'static str,
    time: String,
    cwd: Option<&'a str>,
    exit_code: Option<u8>,
    before: &'a [String],
    after: &'a [String],
}

/// Looks, and prints what was found.
///
/// # Errors
/// If the daemon cannot be had, or the session that is meant.
pub(super) fn run(places: &Places, args: &cli::Search) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = args.session.as_ref().map(|session| find(places, &link, Some(session))).transpose()?;
    let directory = args.directory.as_ref().map(std::path::absolute).transpose();
    let directory = directory.map_err(|error| Failure::usage(format_args!("no such directory: {error}")))?;
    let search = Search {
        text: args.text.clone(),
        word: args.word,
        session,
        directory: directory.map(|directory| directory.to_string_lossy().into_owned()),
        ended: args.exit.map(Ended::With).or(args.failed.then_some(Ended::Failed)),
        since_us: args.since.map(|when| when.us),
        until_us: args.until.map(|when| when.us),
        context: args.context,
        limit: args.limit,
        after: None,
    };
    let (hits, last) = look_until_known(places, &link, &search, args.limit as usize)?;
    report::result(&if args.json { json(&hits)? } else { for_people(&hits, &search) })?;
    tell(&hits, &last, args);
    Ok(if hits.is_empty() { ExitCode::from(report::Exit::Refused as u8) } else { ExitCode::SUCCESS })
}

/// Looks again while nothing is found and the newest output is still being read: a miss is to be one. Each look waits for
/// the log and the index by itself.
fn look_until_known(
    places: &Places,
    link: &DaemonLink,
    search: &Search,
    limit: usize,
) -> Result<(Vec<Hit>, Found), Failure> {
    let until = Instant::now() + BEHIND_WAIT_MAX;
    let mut is_told = !std::io::stderr().is_terminal();
    loop {
        let is_recorded = catch_up(places, link, search.session)?;
        let (hits, mut last) = look(link, &mut search.clone(), limit)?;
        last.is_behind |= !is_recorded;
        let may_come = last.is_behind && last.index.trouble.is_none();
        if !hits.is_empty() || !may_come || Instant::now() >= until {
            return Ok((hits, last));
        }
        if !std::mem::replace(&mut is_told, true) {
            report::notice("nothing so far; waiting for what is still being read");
        }
    }
}

/// Page after page, until there are enough hits or there is nothing more.
fn look(link: &DaemonLink, search: &mut Search, limit: usize) -> Result<(Vec<Hit>, Found), Failure> {
    let until = Instant::now() + LOOK_MAX;
    let mut hits = Vec::new();
    loop {
        search.limit = u32::try_from(limit - hits.len()).unwrap_or(FOUND_PAGE_MAX).min(FOUND_PAGE_MAX);
        let mut found = match link.ask(&Query::Search(search.clone())) {
            Ok(Reply::Found(found)) => found,
            Ok(_) => return Err(Failure::bug(&"the daemon answered another question")),
            Err(failure) if failure.exit == report::Exit::Refused => {
                return Err(failure.with_hint(
                    "the index cannot be read; recording goes on, and \"shellkeep reindex\" builds it anew or says why not",
                ));
            }
            Err(failure) => return Err(failure),
        };
        hits.append(&mut found.hits);
        let next: Option<Cursor> = found.next;
        if next.is_none() || hits.len() >= limit || Instant::now() >= until {
            return Ok((hits, found));
        }
        search.after = next;
    }
}

/// What the reader should know beside the hits, on stderr.
fn tell(hits: &[Hit], last: &Found, args: &cli::Search) {
    let IndexState { trouble, is_building, total_bytes, done_bytes } = &last.index;
    if *is_building {
        let percent = done_bytes * 100 / (*total_bytes).max(1);
        report::notice(format_args!("the records are still being read ({percent} %); there may be more"));
    } else if let Some(trouble) = trouble {
        report::notice(format_args!(
            "what was recorded last cannot be found, because the index cannot be written: {trouble}; recording goes on, \
             and \"shellkeep reindex\" builds it anew"
        ));
    } else if last.is_behind {
        report::notice("the newest output is still being read; there may be more");
    }
    if args.json {
        return;
    }
    if let Some((hit, command)) = hits.iter().find_map(|hit| hit.command.as_ref().map(|command| (hit, command.id))) {
        // A name may be another session's by now, which runs; an id never is.
        let session = hit.at.session;
        report::notice(format_args!("\"shellkeep output {session} --command {command}\" prints all of it"));
    }
    if last.next.is_some() {
        report::notice(format_args!("there may be more: --limit {}", u64::from(args.limit) * 5));
    }
}

fn json(hits: &[Hit]) -> Result<String, Failure> {
    let listed: Vec<Listed<'_>> = hits.iter().map(listed).collect();
    report::json(&listed)
}

fn listed(hit: &Hit) -> Listed<'_> {
    let command = hit.command.as_ref();
    Listed {
        session: hit.at.session.to_string(),
        session_name: hit.name.as_deref(),
        command_id: command.map(|command| command.id),
        command: command.map(|command| command.line.as_str()),
        line: &hit.line,
        seq: hit.seq.get(),
        kind: if hit.is_command { "command" } else { "output" },
        time: utc(hit.at.time_us),
        cwd: command.map(|command| command.cwd.as_str()),
        exit_code: command.and_then(|command| command.exit),
        before: &hit.before,
        after: &hit.behind,
    }
}

/// How parts of a line are set off on a terminal that has colours.
struct Style {
    is_coloured: bool,
}

impl Style {
    fn of_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { is_coloured: wanted && std::io::stdout().is_terminal() }
    }

    fn set(&self, code: &str, text: &str) -> String {
        if self.is_coloured && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// `line`, with the text that was looked for set off.
    fn marked(&self, line: &str, search: &Search) -> String {
        if !self.is_coloured {
            return printable(line);
        }
        let exact = search.text.chars().any(char::is_uppercase);
        let (mut shown, mut rest) = (String::new(), line);
        while let Some((at, len)) = position(rest, &search.text, exact) {
            shown += &printable(&rest[..at]);
            shown += &self.set("1;31", &printable(&rest[at..at + len]));
            rest = &rest[at + len..];
        }
        shown + &printable(rest)
    }
}

/// Where `text` is in `line`, and how many bytes it takes there.
fn position(line: &str, text: &str, exact: bool) -> Option<(usize, usize)> {
    if exact {
        return line.find(text).map(|at| (at, text.len()));
    }
    let folded = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<String>();
    let text = folded(text);
    line.char_indices().find_map(|(at, _)| {
        let mut begun = String::new();
        for (len, character) in line[at..].char_indices() {
            begun.extend(character.to_lowercase());
            if !text.starts_with(&begun) {
                return None;
            }
            if begun.len() == text.len() {
                return Some((at, len + character.len_utf8()));
            }
        }
        None
    })
}

/// Hits of one command stand together under it.
fn for_people(hits: &[Hit], search: &Search) -> String {
    let style = Style::of_stdout();
    let mut text = String::new();
    let key = |hit: &Hit| (hit.at.session, hit.command.as_ref().map(|command| command.id));
    for (nth, group) in hits.chunk_by(|one, other| key(one) == key(other)).enumerate() {
        let Some(first) = group.first() else { continue };
        if nth > 0 {
            text.push('\n');
        }
        text += &heading(first, search, &style);
        text += &lines(group, search, &style);
    }
    text
}

/// Newest first over all commands, but what one of them printed is read from top to bottom, and each line once.
fn lines(group: &[Hit], search: &Search, style: &Style) -> String {
    let mut lines: BTreeMap<u64, (&str, bool)> = BTreeMap::new();
    for hit in group.iter().filter(|hit| !hit.is_command) {
        for (line, text) in (0..hit.at.line).rev().zip(hit.before.iter().rev()) {
            lines.entry(line).or_insert((text, false));
        }
        for (line, text) in (hit.at.line + 1..).zip(&hit.behind) {
            lines.entry(line).or_insert((text, false));
        }
        lines.insert(hit.at.line, (&hit.line, true));
    }
    let (mut text, mut last) = (String::new(), None);
    // Only the command itself has the text: what its output begins with stands below it.
    for shown in group.first().filter(|_| lines.is_empty()).iter().flat_map(|hit| &hit.behind) {
        let _infallible = writeln!(text, "  {}", style.set("2", &printable(shown)));
    }
    for (line, (shown, is_hit)) in lines {
        if search.context > 0 && last.is_some_and(|last| last + 1 < line) {
            text += "  --\n";
        }
        last = Some(line);
        let shown = if is_hit { style.marked(shown, search) } else { style.set("2", &printable(shown)) };
        let _infallible = writeln!(text, "  {shown}");
    }
    text
}

fn heading(hit: &Hit, search: &Search, style: &Style) -> String {
    let id = hit.at.session.to_string();
    let session = style.set("36", &printable(hit.name.as_deref().unwrap_or(&id)));
    let Some(command) = &hit.command else {
        return format!("{session}  {}\n", local(&utc(hit.at.time_us)));
    };
    let status = match (command.exit, command.ended_at_us) {
        (Some(0), _) => "ok".to_owned(),
        (Some(exit), _) => style.set("31", &format!("status {exit}")),
        (None, Some(_)) => "?".to_owned(),
        (None, None) => "still running".to_owned(),
    };
    let started = local(&utc(command.started_at_us));
    let line = command.line.lines().next().unwrap_or_default();
    let line = if hit.is_command { style.marked(line, search) } else { style.set("1", &printable(line)) };
    format!("{session} #{}  {started}  {status}  $ {line}\n", command.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_in_a_line_as_the_index_finds_it() {
        assert_eq!(position("An ÉRROR here", "érror", false), Some((3, 6)));
        assert_eq!(position("an error", "Error", true), None);
        assert_eq!(position("aab", "ab", false), Some((1, 2)));
        assert_eq!(position("", "a", false), None);
    }
}
