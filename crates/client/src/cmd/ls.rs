//! `shellkeep ls`: all sessions, as people and programs read them.
//!
//! Promise: what living keepers say of themselves corrects what the daemon has heard, so that the list is true now.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use shellkeep_protocol::attach::{Info, Recording};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{SessionInfo, SessionState};
use shellkeep_protocol::session::ExitStatus;
use unicode_width::UnicodeWidthStr as _;

use super::recorded::sessions;
use crate::daemon_link::DaemonLink;
use crate::keeper::spool::now_us;
use crate::places::Places;
use crate::report::{self, Failure, Outcome, cut, size};
use crate::{keepers, names};

/// One session as `ls --json` shows it. The names are a contract.
#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    name: Option<String>,
    state: &'static str,
    attached: u32,
    connected: bool,
    pid: Option<u32>,
    keeper_pid: Option<u32>,
    command: String,
    cwd: String,
    started_at: String,
    ended_at: Option<String>,
    exit_code: Option<u8>,
    output_bytes: u64,
    gaps: u64,
    /// For people: the id again, to be shortened.
    #[serde(skip)]
    session: SessionId,
    /// For people.
    #[serde(skip)]
    is_paused: bool,
    /// For people: its log says nothing of it.
    #[serde(skip)]
    is_unreadable: bool,
}

/// `shellkeep ls`.
///
/// # Errors
/// If the daemon cannot be had.
pub(super) fn run(places: &Places, all: bool, json: bool) -> Outcome {
    let sessions = listed(places, all)?;
    let text = if json { report::json(&sessions)? } else { table(&sessions, Form::of_stdout()) };
    report::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What the daemon knows, corrected by what living keepers say of themselves.
fn listed(places: &Places, all: bool) -> Result<Vec<Listed>, Failure> {
    let link = DaemonLink::reach(places)?;
    // Keepers first: one that is gone by then has told the daemon everything.
    let mut living: HashMap<SessionId, Info> =
        keepers::all(places).into_iter().map(|keeper| (keeper.info.session, keeper.info)).collect();
    let recorded = sessions(&link, true)?;
    let mut listed: Vec<(SessionId, Listed)> = Vec::new();
    for info in recorded {
        let session = info.session;
        let row = from_record(info, living.remove(&session).as_ref());
        if all || row.state == "running" {
            listed.push((session, row));
        }
    }
    // Keepers that no daemon has heard of yet.
    let unheard = living.into_values().filter(|info| all || info.exit.is_none());
    listed.extend(unheard.map(|info| (info.session, from_keeper(&info))));
    listed.sort_by_key(|(session, _)| std::cmp::Reverse(*session));
    Ok(listed.into_iter().map(|(_, row)| row).collect())
}

fn from_record(info: SessionInfo, keeper: Option<&Info>) -> Listed {
    // The keeper knows of the end before the daemon does.
    let exit = info.exit.or(keeper.and_then(|keeper| keeper.exit));
    let state = match (exit, info.state) {
        (Some(_), _) => "ended",
        (None, _) if keeper.is_some() => "running",
        (None, SessionState::Lost) => "lost",
        (None, _) => "running",
    };
    let pid = |pid: u32| (state == "running" && pid != 0).then_some(pid);
    let is_unreadable = state == "lost" && info.attrs.started_at_us == 0 && info.output_bytes == 0 && info.gaps > 0;
    let is_over = state != "running";
    Listed {
        id: info.session.to_string(),
        name: info.attrs.name,
        state,
        attached: keeper.map_or(0, |keeper| keeper.attached),
        connected: info.connected,
        pid: pid(keeper.map_or(info.attrs.pid, |keeper| keeper.pid)),
        keeper_pid: pid(info.attrs.keeper_pid),
        command: command_line(&info.attrs.command),
        cwd: keeper.map_or(info.attrs.cwd, |keeper| keeper.cwd.clone()),
        started_at: utc(if info.attrs.started_at_us == 0 { info.session.born_us() } else { info.attrs.started_at_us }),
        ended_at: info.ended_at_us.or(is_over.then(now_us)).map(utc),
        exit_code: exit.map(ExitStatus::code),
        output_bytes: keeper.map_or(info.output_bytes, |keeper| keeper.output_bytes.max(info.output_bytes)),
        gaps: info.gaps,
        session: info.session,
        is_paused: keeper.is_some_and(|keeper| keeper.recording == Recording::Paused),
        is_unreadable,
    }
}

fn from_keeper(info: &Info) -> Listed {
    let is_over = info.exit.is_some();
    Listed {
        id: info.session.to_string(),
        name: info.name.clone(),
        state: if is_over { "ended" } else { "running" },
        attached: info.attached,
        connected: info.connected,
        pid: (!is_over && info.pid != 0).then_some(info.pid),
        keeper_pid: (!is_over).then_some(info.keeper_pid),
        command: command_line(&info.command),
        cwd: info.cwd.clone(),
        started_at: utc(info.started_at_us),
        ended_at: is_over.then(|| utc(now_us())),
        exit_code: info.exit.map(ExitStatus::code),
        output_bytes: info.output_bytes,
        gaps: 0,
        session: info.session,
        is_paused: info.recording == Recording::Paused,
        is_unreadable: false,
    }
}

/// Arguments as one string, quoted where a shell would need it.
fn command_line(command: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    let quote = |arg: &String| {
        if !arg.is_empty() && arg.chars().all(plain) {
            arg.clone()
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    };
    command.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// RFC 3339 in UTC, for programs.
pub(super) fn utc(us: u64) -> String {
    let us = i64::try_from(us).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(us).map_or_else(|_| String::new(), |at| at.to_string())
}

/// How a table is written.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// Everything in full, for a file or a pipe.
    Whole,
    /// For a terminal of so many columns: the ends of ids, days and minutes, a line each.
    Fitting(usize),
}

impl Form {
    /// For standard output.
    fn of_stdout() -> Self {
        let columns = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).map_or(0, |window| window.ws_col);
        if columns == 0 { Self::Whole } else { Self::Fitting(columns.into()) }
    }
}

/// For people: a line each, columns as wide as they must be.
fn table(sessions: &[Listed], form: Form) -> String {
    let ids: Vec<SessionId> = sessions.iter().map(|session| session.session).collect();
    let ends = names::ends(&ids);
    let mut rows = vec![["ID", "NAME", "STATE", "ATTACHED", "STARTED", "OUTPUT", "COMMAND"].map(str::to_owned)];
    for session in sessions {
        let (id, started) = match form {
            Form::Whole => (session.id.clone(), local(&session.started_at)),
            Form::Fitting(_) => (session.id[session.id.len() - ends..].to_owned(), briefly(&session.started_at)),
        };
        rows.push([
            id,
            report::printable(session.name.as_deref().unwrap_or("-")),
            state(session),
            session.attached.to_string(),
            started,
            size(session.output_bytes),
            report::printable(&session.command),
        ]);
    }
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let line = |row: &[String; 7]| {
        let padded = |(cell, width): (&String, usize)| cell.clone() + &" ".repeat(width - cell.width());
        let cells: Vec<String> = row.iter().zip(widths).map(padded).collect();
        let line = cells.join("  ");
        match form {
            Form::Whole => line.trim_end().to_owned() + "\n",
            Form::Fitting(columns) => cut(line.trim_end(), columns) + "\n",
        }
    };
    rows.iter().map(line).collect()
}

fn state(session: &Listed) -> String {
    let mut state = session.state.to_owned();
    if let Some(code) = session.exit_code {
        let _infallible = write!(state, " {code}");
    }
    if session.is_unreadable {
        state.push_str(", log unreadable");
    } else if session.gaps > 0 {
        let _infallible = write!(state, ", {} gaps", session.gaps);
    }
    if session.is_paused && session.exit_code.is_none() {
        state.push_str(", not recorded");
    }
    state
}

/// The user's own time, for a narrow column: to the minute, or the day if it is of another year.
fn briefly(utc: &str) -> String {
    let zone = jiff::tz::TimeZone::system();
    let Ok(at) = utc.parse::<jiff::Timestamp>().map(|at| at.to_zoned(zone)) else { return utc.to_owned() };
    let is_this_year = at.year() == jiff::Zoned::now().year();
    at.strftime(if is_this_year { "%m-%d %H:%M" } else { "%Y-%m-%d" }).to_string()
}

/// The user's own time, to the second.
pub(super) fn local(utc: &str) -> String {
    let at = utc.parse::<jiff::Timestamp>().map(|at| at.to_zoned(jiff::tz::TimeZone::system()));
    at.map_or_else(|_| utc.to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}
