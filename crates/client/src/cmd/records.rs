//! `ls`, `output`, `tail`, `verify`, `rm`: what the daemon has recorded, as people and programs read it.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use shellkeep_journal::Seq;
use shellkeep_protocol::attach::Info;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{
    CHUNK_BYTES_MAX, Chunk, Item, Query, READ_WAIT_MS_MAX, Reply, SessionInfo, SessionState,
};
use shellkeep_protocol::session::{ExitStatus, GapReason};

use crate::cli::{Output, Tail};
use crate::daemon_link::DaemonLink;
use crate::keeper::spool::now_us;
use crate::keepers;
use crate::names::SessionRef;
use crate::places::Places;
use crate::report::{self, Exit, Failure, Outcome};

/// How long the daemon may take to have what the keeper had when we were asked.
const CATCH_UP_WAIT_MAX: Duration = Duration::from_millis(2500);

/// How long one look for it may wait, in milliseconds.
const CATCH_UP_STEP_MS: u32 = 20;

/// Bytes of record that `tail` begins with.
const TAIL_BYTES: usize = 16 << 10;

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
}

/// `shellkeep ls`.
///
/// # Errors
/// If the daemon cannot be had.
pub(crate) fn ls(places: &Places, all: bool, json: bool) -> Outcome {
    let sessions = listed(places, all)?;
    let text = if json {
        serde_json::to_string(&sessions).map_err(|error| Failure::bug(&error))? + "\n"
    } else {
        table(&sessions)
    };
    report::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// What the daemon knows, corrected by what living keepers say of themselves.
fn listed(places: &Places, all: bool) -> Result<Vec<Listed>, Failure> {
    let recorded = sessions(&DaemonLink::reach(places)?, true)?;
    let mut living: HashMap<SessionId, Info> =
        keepers::all(places).into_iter().map(|keeper| (keeper.info.session, keeper.info)).collect();
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
        started_at: utc(info.attrs.started_at_us),
        ended_at: info.ended_at_us.or(is_over.then(now_us)).map(utc),
        exit_code: exit.map(ExitStatus::code),
        output_bytes: keeper.map_or(info.output_bytes, |keeper| keeper.output_bytes.max(info.output_bytes)),
        gaps: info.gaps,
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
fn utc(us: u64) -> String {
    let us = i64::try_from(us).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(us).map_or_else(|_| String::new(), |at| at.to_string())
}

/// For people: a line each, columns as wide as they must be.
fn table(sessions: &[Listed]) -> String {
    let mut rows = vec![["ID", "NAME", "STATE", "ATTACHED", "STARTED", "OUTPUT", "COMMAND"].map(str::to_owned)];
    for session in sessions {
        let state = match (session.exit_code, session.gaps) {
            (Some(code), 0) => format!("{} {code}", session.state),
            (Some(code), gaps) => format!("{} {code}, {gaps} gaps", session.state),
            (None, 0) => session.state.to_owned(),
            (None, gaps) => format!("{}, {gaps} gaps", session.state),
        };
        rows.push([
            session.id.clone(),
            report::printable(session.name.as_deref().unwrap_or("-")),
            state,
            session.attached.to_string(),
            local(&session.started_at),
            bytes(session.output_bytes),
            report::printable(&session.command),
        ]);
    }
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; 7]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// The user's own time, to the second.
fn local(utc: &str) -> String {
    let at = utc.parse::<jiff::Timestamp>().map(|at| at.to_zoned(jiff::tz::TimeZone::system()));
    at.map_or_else(|_| utc.to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// A size for people.
#[allow(clippy::cast_precision_loss)] // three digits are shown
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// All sessions that the daemon has, newest first.
fn sessions(link: &DaemonLink, ended: bool) -> Result<Vec<SessionInfo>, Failure> {
    let mut all: Vec<SessionInfo> = Vec::new();
    loop {
        let after = all.last().map(|info| info.session);
        match link.ask(&Query::Sessions { ended, after })? {
            Reply::Sessions(page) if page.is_empty() => return Ok(all),
            Reply::Sessions(page) => all.extend(page),
            _ => return Err(Failure::bug(&"the daemon answered another question")),
        }
    }
}

/// The recorded session that is meant: by id, by name (a running one first, else the newest), by prefix, or the last.
fn find(places: &Places, link: &DaemonLink, wanted: Option<&SessionRef>) -> Result<SessionId, Failure> {
    let text = match wanted {
        Some(SessionRef::Id(id)) => return Ok(*id),
        None => match keepers::around_us() {
            Some(id) => return Ok(id),
            None => {
                return Err(Failure::usage("which session?")
                    .with_hint("give a name or an id; \"shellkeep ls --all\" lists them"));
            }
        },
        Some(SessionRef::Last) => None,
        Some(SessionRef::NameOrPrefix(text)) => Some(text),
    };
    let all = known(places, link)?;
    let Some(text) = text else {
        return all.first().map(|known| known.session).ok_or_else(|| Failure::refused("nothing is recorded yet"));
    };
    let named = |known: &&Known| known.name.as_deref() == Some(text);
    let running = all.iter().filter(named).find(|known| known.is_running);
    if let Some(known) = running.or_else(|| all.iter().find(named)) {
        return Ok(known.session);
    }
    let mut matching = all.iter().filter(|known| known.session.to_string().starts_with(text));
    match (matching.next(), matching.count()) {
        (Some(known), 0) => Ok(known.session),
        (Some(_), others) => Err(Failure::refused(format_args!("{text} is the beginning of {} sessions", others + 1))),
        (None, _) => Err(Failure::refused(format_args!("no session is called {text}"))
            .with_hint("\"shellkeep ls --all\" lists the recorded ones")),
    }
}

/// A session that somebody knows of.
struct Known {
    session: SessionId,
    name: Option<String>,
    is_running: bool,
}

/// What the daemon has recorded and what keepers keep, newest first.
fn known(places: &Places, link: &DaemonLink) -> Result<Vec<Known>, Failure> {
    let kept = keepers::all(places).into_iter().map(|keeper| Known {
        session: keeper.info.session,
        name: keeper.info.name,
        is_running: keeper.info.exit.is_none(),
    });
    let mut all: Vec<Known> = kept.collect();
    for info in sessions(link, true)? {
        if !all.iter().any(|known| known.session == info.session) {
            let is_running = info.state == SessionState::Running;
            all.push(Known { session: info.session, name: info.attrs.name, is_running });
        }
    }
    all.sort_by_key(|known| std::cmp::Reverse(known.session));
    Ok(all)
}

/// How a recorded stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follow {
    /// To where it ends now.
    No,
    /// Until the session ends.
    UntilEnd,
}

/// `shellkeep output`: the recorded bytes on stdout, gaps on stderr.
///
/// # Errors
/// If the daemon cannot be had or does not know the session.
pub(crate) fn output(places: &Places, args: &Output) -> Outcome {
    if args.command.is_some() || args.plain {
        return Err(Failure::usage("this build can print only the whole raw output")
            .with_hint("\"--command\" and \"--plain\" come with the index of commands"));
    }
    let link = DaemonLink::reach(places)?;
    let session = find(places, &link, Some(&args.session))?;
    Printer::new(places, session, None).print(&link, session, Follow::No)
}

/// `shellkeep tail`: the newest recorded bytes; with `-f` what comes, until the session ends.
///
/// # Errors
/// As [`output`].
pub(crate) fn tail(places: &Places, args: &Tail) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = find(places, &link, Some(&args.session))?;
    let follow = if args.follow { Follow::UntilEnd } else { Follow::No };
    Printer::new(places, session, Some(TAIL_BYTES)).print(&link, session, follow)
}

/// Puts a record on stdout.
struct Printer {
    out: std::io::Stdout,
    /// So many of the bytes that are there now, then all that come.
    last_bytes: Option<usize>,
    held: VecDeque<u8>,
    /// Bytes of output up to here, lost ones included.
    reached: u64,
    /// Bytes of output that the keeper had when we were asked: the daemon has them soon.
    goal: u64,
    is_kept: bool,
    until: Instant,
}

impl Printer {
    fn new(places: &Places, session: SessionId, last_bytes: Option<usize>) -> Self {
        let keeper = keepers::of(places, session);
        Self {
            out: std::io::stdout(),
            last_bytes,
            held: VecDeque::new(),
            reached: 0,
            goal: keeper.as_ref().map_or(0, |keeper| keeper.output_bytes),
            is_kept: keeper.is_some(),
            until: Instant::now() + CATCH_UP_WAIT_MAX,
        }
    }

    fn print(&mut self, link: &DaemonLink, session: SessionId, follow: Follow) -> Outcome {
        let mut from = Seq::FIRST;
        let mut is_new = false;
        loop {
            let behind = self.reached < self.goal && Instant::now() < self.until;
            let wait_ms = match (is_new, behind) {
                (true, _) => READ_WAIT_MS_MAX,
                (false, true) => CATCH_UP_STEP_MS,
                (false, false) => 0,
            };
            let Some(Chunk { items, next, is_last }) = self.read(link, session, from, wait_ms)? else { continue };
            let nothing = items.is_empty();
            for item in items {
                if !self.take(item, is_new)? {
                    return Ok(ExitCode::SUCCESS); // the reader has gone: its choice
                }
            }
            from = next;
            let behind = self.reached < self.goal && Instant::now() < self.until;
            if nothing && !is_new && !behind {
                is_new = true;
                let held = std::mem::take(&mut self.held);
                if !self.write(&Vec::from(held))? {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            if (is_last && !behind) || (is_new && follow == Follow::No) {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    /// `None` when the daemon has not heard of the session yet and its keeper is about to tell it.
    fn read(&self, link: &DaemonLink, session: SessionId, from: Seq, wait_ms: u32) -> Result<Option<Chunk>, Failure> {
        let query = Query::Read { session, from, bytes_max: CHUNK_BYTES_MAX, wait_ms };
        match link.ask(&query) {
            Ok(Reply::Chunk(chunk)) => Ok(Some(chunk)),
            Ok(_) => Err(Failure::bug(&"the daemon answered another question")),
            Err(failure) if failure.exit == Exit::Refused && self.is_kept && Instant::now() < self.until => {
                std::thread::sleep(Duration::from_millis(CATCH_UP_STEP_MS.into()));
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    /// False when nobody reads any more.
    fn take(&mut self, item: Item, is_new: bool) -> Result<bool, Failure> {
        self.reached += match &item {
            Item::Output { bytes, .. } => bytes.len() as u64,
            Item::Gap { output_bytes, .. } => *output_bytes,
            _ => 0,
        };
        match item {
            Item::Output { bytes, .. } => match self.last_bytes.filter(|_| !is_new) {
                None => self.write(&bytes),
                Some(max) => {
                    self.held.extend(bytes);
                    self.held.drain(..self.held.len().saturating_sub(max));
                    Ok(true)
                }
            },
            Item::Exit { .. } => Ok(true),
            other => {
                report::notice(describe(&other));
                Ok(true)
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        match self.out.write_all(bytes).and_then(|()| self.out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::refused(format_args!("cannot write the result: {error}"))),
        }
    }
}

/// What is missing or damaged, in a line.
fn describe(item: &Item) -> String {
    match item {
        Item::Gap { from, to, output_bytes, reason } => {
            let why = match reason {
                GapReason::SpoolFull => "the spool was full while no daemon took records",
                GapReason::StoreLost => "the log that had them was removed",
                GapReason::SpoolDamaged => "the spool was damaged",
                GapReason::Forked => "they are in the session that this one continues",
            };
            format!("gap: records {from} to {to} ({}) are lost: {why}", bytes(*output_bytes))
        }
        Item::Damage { from, to, what } if from > to => format!("damage: {what}"),
        Item::Damage { from, to, what } => format!("damage: records {from} to {to} cannot be read: {what}"),
        Item::Pruned { from, to } => format!("records {from} to {to} were removed by the limits on age and size"),
        Item::Output { .. } | Item::Exit { .. } => String::new(),
    }
}

/// `shellkeep verify`: 1 on damage or gaps, and says where.
///
/// # Errors
/// If the daemon cannot be had or does not know the session.
pub(crate) fn verify(places: &Places, wanted: Option<&SessionRef>) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let chosen = match wanted {
        Some(_) => vec![find(places, &link, wanted)?],
        None => sessions(&link, true)?.into_iter().map(|info| info.session).collect(),
    };
    let mut is_whole = true;
    for session in chosen {
        let Reply::Verified(verified) = link.ask(&Query::Verify { session })? else {
            return Err(Failure::bug(&"the daemon answered another question"));
        };
        let lost: Vec<&Item> = verified.findings.iter().filter(|item| !matches!(item, Item::Pruned { .. })).collect();
        is_whole &= lost.is_empty();
        let word = if lost.is_empty() { "whole" } else { "NOT whole" };
        let mut text =
            format!("{session}  {word}: {} records, {} of output\n", verified.records, bytes(verified.output_bytes));
        for item in &verified.findings {
            text.push_str("  ");
            text.push_str(&report::printable(&describe(item)));
            text.push('\n');
        }
        report::result(&text)?;
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `shellkeep rm`: removes the record of an ended session.
///
/// # Errors
/// If it runs, or is unknown, or the daemon cannot be had.
pub(crate) fn rm(places: &Places, wanted: &SessionRef) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = find(places, &link, Some(wanted))?;
    match link.ask(&Query::Remove { session }) {
        Ok(Reply::Removed { freed_bytes }) => {
            report::notice(format_args!("removed {session}, {} freed", bytes(freed_bytes)));
            Ok(ExitCode::SUCCESS)
        }
        Ok(_) => Err(Failure::bug(&"the daemon answered another question")),
        Err(failure) => Err(Failure { message: format!("cannot remove {session}: {}", failure.message), ..failure }),
    }
}
