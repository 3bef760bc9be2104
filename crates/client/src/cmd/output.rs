//! `output` and `tail`: a record on stdout, byte for byte; what is missing from it on stderr.
//!
//! On a terminal, `tail` is a log: without what would make the terminal answer, and without what full-screen programs drew.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use shellkeep_journal::Seq;
use shellkeep_protocol::attach::Recording;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{CHUNK_BYTES_MAX, Chunk, Item, Query, READ_WAIT_MS_MAX, Reply};
use shellkeep_protocol::session::GapReason;

use super::attach::controlling_tty;
use super::part;
use super::recorded::{catch_up, find};
use crate::cli::{Output, Tail};
use crate::daemon_link::DaemonLink;
use crate::export::passage::Passage;
use crate::keepers;
use crate::places::Places;
use crate::replay::filter::Filter;
use crate::report::{self, Failure, Outcome, size};
use crate::stdout;

/// Bytes of record that `tail` begins with.
const TAIL_BYTES: usize = 16 << 10;

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
pub(super) fn output(places: &Places, args: &Output) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = find(places, &link, args.session.as_ref())?;
    if args.command.is_some() || args.plain {
        return part::print(places, &link, session, args);
    }
    let mut printer = Printer::new(places, session, None);
    catch_up(places, &link, Some(session))?;
    printer.print(&link, session, Follow::No)
}

/// `shellkeep tail`: the newest recorded bytes; with `-f` what comes, until the session ends.
///
/// # Errors
/// As [`output`].
pub(super) fn tail(places: &Places, args: &Tail) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = find(places, &link, args.session.as_ref())?;
    let follow = if args.follow { Follow::UntilEnd } else { Follow::No };
    let here = controlling_tty().filter(|_| args.follow && std::io::stdout().is_terminal());
    if here.is_some() && keepers::of(places, session).is_some_and(|keeper| Some(keeper.tty) == here) {
        return Err(Failure::refused(format_args!(
            "session {session} cannot be followed inside itself: it would never end"
        )));
    }
    let mut printer = Printer::new(places, session, Some(TAIL_BYTES));
    if std::io::stdout().is_terminal() {
        printer.screen = Some((Passage::default(), Filter::main_screen()));
    }
    catch_up(places, &link, Some(session))?;
    printer.print(&link, session, follow)
}

/// Puts a record on stdout.
struct Printer {
    /// So many of the bytes that are there now, then all that come.
    last_bytes: Option<usize>,
    held: VecDeque<u8>,
    /// Bytes went out of `held`.
    is_cut: bool,
    /// What a terminal is shown.
    screen: Option<(Passage, Filter)>,
    /// What was written ends in the middle of a line.
    in_line: bool,
    /// Bytes of output up to here, lost ones included.
    reached: u64,
    /// Bytes of output that the keeper had when we were asked: the daemon has them, or says nothing of them.
    goal: u64,
}

impl Printer {
    fn new(places: &Places, session: SessionId, last_bytes: Option<usize>) -> Self {
        Self {
            last_bytes,
            held: VecDeque::new(),
            is_cut: false,
            screen: None,
            in_line: false,
            reached: 0,
            goal: keepers::of(places, session).map_or(0, |keeper| keeper.output_bytes),
        }
    }

    fn print(&mut self, link: &DaemonLink, session: SessionId, follow: Follow) -> Outcome {
        let mut from = Seq::FIRST;
        let mut is_new = false;
        loop {
            let wait_ms = if is_new { READ_WAIT_MS_MAX } else { 0 };
            let Chunk { items, next, is_last } = read(link, session, from, wait_ms)?;
            let nothing = items.is_empty() || is_last;
            for item in items {
                if !self.take(session, item, is_new)? {
                    return Ok(ExitCode::SUCCESS); // the reader has gone: its choice
                }
            }
            from = next;
            if nothing && !is_new {
                is_new = true;
                if !self.write_held()? {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            if is_last || (is_new && follow == Follow::No) {
                if self.screen.is_some() {
                    self.write(if self.in_line { b"\x1b[m\n" } else { b"\x1b[m" })?; // the prompt comes on a line of its own
                }
                if self.reached < self.goal {
                    report::notice(still_waiting(self.goal - self.reached));
                }
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    /// False when nobody reads any more.
    fn take(&mut self, session: SessionId, item: Item, is_new: bool) -> Result<bool, Failure> {
        self.reached += match &item {
            Item::Output { bytes, .. } => bytes.len() as u64,
            Item::Gap { output_bytes, .. } => *output_bytes,
            Item::Pruned { output_offset_after, .. } => output_offset_after.saturating_sub(self.reached),
            _ => 0,
        };
        match item {
            Item::Output { bytes, .. } => {
                let bytes = match &mut self.screen {
                    Some((passage, filter)) => filter.pass(&passage.text(&bytes)).into_bytes(),
                    None => bytes,
                };
                let Some(max) = self.last_bytes.filter(|_| !is_new) else { return self.write(&bytes) };
                self.held.extend(bytes);
                let cut = self.held.len().saturating_sub(max);
                self.is_cut |= cut > 0;
                self.held.drain(..cut);
                Ok(true)
            }
            Item::Exit { .. } | Item::Resize { .. } | Item::Input { .. } => Ok(true),
            other => {
                report::notice(notice_of(session, &other));
                Ok(true)
            }
        }
    }

    /// From the beginning of a line, where there is one: not from the middle of a character or a colour.
    fn write_held(&mut self) -> Result<bool, Failure> {
        let mut held = Vec::from(std::mem::take(&mut self.held));
        if self.is_cut
            && let Some(end) = held.iter().position(|byte| *byte == b'\n').filter(|end| end + 1 < held.len())
        {
            held.drain(..=end);
        }
        self.write(&held)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        if let Some(last) = bytes.last() {
            self.in_line = *last != b'\n';
        }
        stdout::write(bytes)
    }
}

fn read(link: &DaemonLink, session: SessionId, from: Seq, wait_ms: u32) -> Result<Chunk, Failure> {
    match link.ask(&Query::Read { session, from, bytes_max: CHUNK_BYTES_MAX, wait_ms })? {
        Reply::Chunk(chunk) => Ok(chunk),
        _ => Err(Failure::bug(&"the daemon answered another question")),
    }
}

/// The end of a record that is not in the log yet.
pub(super) fn still_waiting(count: u64) -> String {
    format!("{} more wait in the keeper until the daemon can take them", size(count))
}

/// The same for whoever reads a record, with what to do about damage.
pub(super) fn notice_of(session: SessionId, item: &Item) -> String {
    let hint = if matches!(item, Item::Damage { .. }) {
        format!("; \"shellkeep verify {session}\" says all that is wrong")
    } else {
        String::new()
    };
    describe(item) + &hint
}

/// What is missing, damaged or left out, in a line.
pub(super) fn describe(item: &Item) -> String {
    match item {
        Item::Gap { from, to, output_bytes, reason } => {
            let why = match reason {
                GapReason::SpoolFull => "the spool was full while no daemon took records",
                GapReason::StoreLost => "the log that had them was removed",
                GapReason::SpoolDamaged => "the spool was damaged",
                GapReason::Forked => "they are in the session that this one continues",
            };
            format!("gap: records {from} to {to} ({}) are lost: {why}", size(*output_bytes))
        }
        Item::Damage { from, to, what } if from > to => format!("damage: {what}"),
        Item::Damage { from, to, what } => format!("damage: records {from} to {to} cannot be read: {what}"),
        Item::Pruned { from, to, .. } => format!("records {from} to {to} were removed by the limits on age and size"),
        Item::Recording { recording: Recording::Paused, .. } => "recording was paused here, as asked for".to_owned(),
        Item::Recording { recording: Recording::On, .. } => "recording goes on here".to_owned(),
        Item::Output { .. } | Item::Input { .. } | Item::Exit { .. } | Item::Resize { .. } => String::new(),
    }
}
