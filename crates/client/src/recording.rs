//! One session's record, read in order and cut where commands begin and end.
//!
//! Promises what was there when it was opened and nothing that came later, each byte of output once and in its place,
//! and times that never go back. One page of records is in memory. Knows no form in which a record is shown.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use shellkeep_journal::Seq;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{
    CHUNK_BYTES_MAX, Chunk, CommandInfo, History, Item, Query, Reply, SessionInfo, SessionState,
};
use shellkeep_protocol::session::ExitStatus;

use crate::cmd::recorded::catch_up;
use crate::daemon_link::DaemonLink;
use crate::keepers;
use crate::places::Places;
use crate::report::Failure;

/// How long the daemon may take to hear of an end that the keeper knows of, and the pause between two looks.
const END_WAIT_MAX: Duration = Duration::from_millis(2500);
const END_STEP: Duration = Duration::from_millis(20);

/// What is known of a recorded session.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The session, as the daemon knows it.
    pub info: SessionInfo,
    /// Its commands, in order.
    pub commands: Vec<CommandInfo>,
    /// Bytes of output from its start to the end of what is read.
    pub output_bytes: u64,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since the Unix epoch; never less than in the moment before.
    pub time_us: u64,
    /// What happened.
    pub what: What,
}

/// What can happen in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It printed bytes.
    Output(Vec<u8>),
    /// These bytes were typed; none if they were secret.
    Input(Vec<u8>),
    /// The window has another size: columns, rows.
    Resized(u16, u16),
    /// The command at this place of [`Recording::commands`] begins.
    Begins(usize),
    /// It has ended.
    Ends(usize),
    /// Something is missing, damaged or was left out.
    Told(Item),
    /// The session's command has ended.
    Exited(ExitStatus),
}

impl Recording {
    /// Asks the daemon what there is; waits until it has what the keeper has.
    ///
    /// # Errors
    /// If the daemon cannot be had or does not know the session.
    pub fn open(places: &Places, link: &DaemonLink, session: SessionId) -> Result<Self, Failure> {
        catch_up(places, link, Some(session))?;
        let mut commands: Vec<CommandInfo> = Vec::new();
        let output_bytes = loop {
            let after = commands.last().map_or(0, |command| command.id);
            let Reply::History(history) = link.ask(&Query::History { session, after })? else {
                return Err(Failure::bug(&"the daemon answered another question"));
            };
            let History { commands: page, output_bytes, is_last } = history;
            commands.extend(page);
            if is_last {
                commands.sort_by_key(|command| command.id);
                break output_bytes;
            }
        };
        let has_ended = keepers::of(places, session).is_some_and(|keeper| keeper.exit.is_some());
        let until = Instant::now() + END_WAIT_MAX;
        let info = loop {
            let info = info(link, session)?;
            if !has_ended || info.state != SessionState::Running || Instant::now() >= until {
                break info;
            }
            std::thread::sleep(END_STEP);
        };
        let mut recording = Self { info, commands, output_bytes };
        if recording.info.attrs.started_at_us == 0 {
            // A log whose header is lost says nothing of its beginning; its first record does.
            let first = recording.read(asking(link, session)).next()?;
            recording.info.attrs.started_at_us = first.map_or(0, |moment| moment.time_us);
        }
        Ok(recording)
    }

    /// The place among the commands of the one with this number.
    ///
    /// # Errors
    /// If there is none.
    pub fn place_of(&self, id: u64) -> Result<usize, Failure> {
        self.commands.iter().position(|command| command.id == id).ok_or_else(|| {
            let session = self.info.session;
            Failure::refused(format_args!("session {session} has no command {id}"))
                .with_hint(format_args!("\"shellkeep history {session}\" lists them"))
        })
    }

    /// Reads it with `ask`, which gives the records from a number on.
    pub fn read<F: FnMut(Seq) -> Result<Chunk, Failure>>(&self, ask: F) -> Reading<F> {
        Reading {
            ask,
            from: Seq::FIRST,
            edges: self.edges(),
            queue: VecDeque::new(),
            time_us: self.info.attrs.started_at_us,
            end: self.output_bytes,
            is_over: false,
        }
    }

    fn edges(&self) -> VecDeque<Edge> {
        let edges = self.commands.iter().enumerate().flat_map(|(place, command)| {
            let begin = Edge { offset: command.output_from, time_us: command.started_at_us, what: What::Begins(place) };
            let end = command.ended_at_us;
            let end = end.map(|time_us| Edge { offset: command.output_to, time_us, what: What::Ends(place) });
            std::iter::once(begin).chain(end)
        });
        edges.collect()
    }
}

/// The session as the daemon knows it.
fn info(link: &DaemonLink, session: SessionId) -> Result<SessionInfo, Failure> {
    let mut after = None;
    loop {
        let Reply::Sessions(page) = link.ask(&Query::Sessions { ended: true, after })? else {
            return Err(Failure::bug(&"the daemon answered another question"));
        };
        after = page.last().map(|info| info.session);
        if let Some(info) = page.into_iter().find(|info| info.session == session) {
            return Ok(info);
        }
        if after.is_none() {
            return Err(Failure::refused("no such session is recorded"));
        }
    }
}

/// Asks the daemon for records.
pub fn asking(link: &DaemonLink, session: SessionId) -> impl FnMut(Seq) -> Result<Chunk, Failure> + '_ {
    move |from| match link.ask(&Query::Read { session, from, bytes_max: CHUNK_BYTES_MAX, wait_ms: 0 })? {
        Reply::Chunk(chunk) => Ok(chunk),
        _ => Err(Failure::bug(&"the daemon answered another question")),
    }
}

/// Where a command begins or ends.
#[derive(Debug)]
struct Edge {
    offset: u64,
    time_us: u64,
    what: What,
}

/// A record being read.
#[derive(Debug)]
pub struct Reading<F> {
    ask: F,
    from: Seq,
    edges: VecDeque<Edge>,
    /// What one page came to.
    queue: VecDeque<Moment>,
    time_us: u64,
    /// Offset behind the last byte that is wanted.
    end: u64,
    is_over: bool,
}

impl<F: FnMut(Seq) -> Result<Chunk, Failure>> Reading<F> {
    /// Begins anew.
    pub fn rewind(&mut self, recording: &Recording) {
        self.from = Seq::FIRST;
        self.edges = recording.edges();
        self.queue.clear();
        self.time_us = recording.info.attrs.started_at_us;
        self.is_over = false;
    }

    /// What happened next; `None` at the end.
    ///
    /// # Errors
    /// If the daemon cannot be had any more.
    #[allow(clippy::should_implement_trait)] // it fails for good, which an iterator does not
    pub fn next(&mut self) -> Result<Option<Moment>, Failure> {
        loop {
            if let Some(moment) = self.queue.pop_front() {
                return Ok(Some(moment));
            }
            if self.is_over {
                return Ok(None);
            }
            let Chunk { items, next, is_last } = (self.ask)(self.from)?;
            let is_end = is_last || items.is_empty() || next == self.from;
            self.is_over = is_end && !is_last;
            self.from = next;
            for item in items {
                if self.is_over {
                    break;
                }
                self.take(item);
            }
            self.is_over |= is_end;
            if self.is_over {
                self.edges_to(u64::MAX);
            }
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Output { offset, .. } if offset >= self.end => self.is_over = true, // it came later
            Item::Output { time_us, offset, bytes } => self.output(time_us, offset, &bytes),
            Item::Input { time_us, bytes } => self.push(time_us, What::Input(bytes)),
            Item::Resize { time_us, cols, rows } => self.push(time_us, What::Resized(cols, rows)),
            Item::Exit { time_us, exit } => {
                self.edges_to(u64::MAX);
                self.push(time_us, What::Exited(exit));
            }
            Item::Recording { time_us, .. } => self.push(time_us, What::Told(item)),
            Item::Gap { .. } | Item::Damage { .. } | Item::Pruned { .. } => self.push(0, What::Told(item)),
        }
    }

    fn output(&mut self, time_us: u64, offset: u64, bytes: &[u8]) {
        let wanted = usize::try_from(self.end - offset).unwrap_or(usize::MAX).min(bytes.len());
        let (mut at, mut left) = (offset, &bytes[..wanted]);
        loop {
            self.edges_to(at);
            let to_edge = self.edges.front().map_or(u64::MAX, |edge| edge.offset - at);
            let (piece, rest) = left.split_at(usize::try_from(to_edge).unwrap_or(usize::MAX).min(left.len()));
            if piece.is_empty() {
                return;
            }
            self.push(time_us, What::Output(piece.to_vec()));
            at += piece.len() as u64;
            left = rest;
        }
    }

    /// Tells the edges up to `offset`.
    fn edges_to(&mut self, offset: u64) {
        while let Some(edge) = self.edges.pop_front_if(|edge| edge.offset <= offset) {
            self.push(edge.time_us, edge.what);
        }
    }

    fn push(&mut self, time_us: u64, what: What) {
        self.time_us = self.time_us.max(time_us);
        self.queue.push_back(Moment { time_us: self.time_us, what });
    }
}

#[cfg(test)]
pub(crate) mod tests;
