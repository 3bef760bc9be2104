//! `shellkeep history`: the commands of a session, as its shell marked them.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use shellkeep_journal::{POSITION_MAX, Seq};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{CommandInfo, History, Item, Query, Reply};

use super::ls::{local, utc};
use super::output::notice_of;
use super::part;
use super::recorded::{catch_up, find};
use crate::cli;
use crate::daemon_link::DaemonLink;
use crate::places::Places;
use crate::report::{self, Failure, Outcome, in_one_line, size};

/// One command as `history --json` shows it. The names are a contract.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    id: u64,
    command: &'a str,
    cwd: &'a str,
    started_at: String,
    duration_ms: Option<u64>,
    exit_code: Option<u8>,
    output_bytes: u64,
}

pub(super) fn run(places: &Places, args: &cli::History) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = find(places, &link, args.session.as_ref())?;
    catch_up(places, &link, Some(session))?;
    let mut commands: Vec<CommandInfo> = Vec::new();
    loop {
        let after = commands.last().map_or(0, |command| command.id);
        let page = page(&link, session, after)?;
        commands.extend(page.commands);
        if page.is_last {
            break;
        }
    }
    commands.sort_by_key(|command| command.id); // the one that runs comes last, also when others were run beside it
    let end = part::chunk(&link, session, Seq::new(POSITION_MAX))?.items; // what is wrong there is in no command
    for damage in end.iter().filter(|item| matches!(item, Item::Damage { .. })) {
        report::notice(notice_of(session, damage));
    }
    let text = if args.json {
        let listed: Vec<Listed<'_>> = commands.iter().map(listed).collect();
        report::json(&listed)?
    } else {
        let header = format!("{:>5}  {:>3}  {:<19}  {:>8}  {:>9}  COMMAND\n", "N", "END", "STARTED", "TOOK", "OUTPUT");
        (!commands.is_empty()).then_some(header).into_iter().chain(commands.iter().map(line)).collect()
    };
    report::result(&text)?;
    if commands.is_empty() {
        report::notice(
            "no commands are marked in this record; bash, zsh and fish mark theirs when they are started kept",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// One page of commands behind `after`.
///
/// # Errors
/// If the daemon cannot be had or does not know the session.
pub(super) fn page(link: &DaemonLink, session: SessionId, after: u64) -> Result<History, Failure> {
    match link.ask(&Query::History { session, after })? {
        Reply::History(history) => Ok(history),
        _ => Err(Failure::bug(&"the daemon answered another question")),
    }
}

fn listed(command: &CommandInfo) -> Listed<'_> {
    Listed {
        id: command.id,
        command: &command.line,
        cwd: &command.cwd,
        started_at: utc(command.started_at_us),
        duration_ms: duration(command).map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        exit_code: command.exit,
        output_bytes: command.output_to - command.output_from,
    }
}

pub(super) fn duration(command: &CommandInfo) -> Option<Duration> {
    command.ended_at_us.map(|end| Duration::from_micros(end.saturating_sub(command.started_at_us)))
}

/// For people: number, status, time, duration, size of the output, and the line; the directory is in `--json`.
fn line(command: &CommandInfo) -> String {
    let status = match (command.exit, command.ended_at_us) {
        (Some(exit), _) => exit.to_string(),
        (None, Some(_)) => "?".to_owned(),
        (None, None) => "...".to_owned(),
    };
    let took = duration(command).map_or_else(String::new, |took| format!("{:.1}s", took.as_secs_f64()));
    let started = local(&utc(command.started_at_us));
    let output = size(command.output_to - command.output_from);
    let text = in_one_line(&command.line);
    format!("{:>5}  {status:>3}  {started}  {took:>8}  {output:>9}  {text}\n", command.id)
}
