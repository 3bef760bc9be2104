//! What `browse` reads from the daemon, on a thread of its own, so that no key waits for it.
//!
//! Promises that what was asked last is read first: a preview that nobody looks at any more is not read at all. Ends with
//! the handle. What cannot be read is told in words, not by an end.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use ratatui::text::Line;
use shellkeep_journal::Seq;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{CHUNK_BYTES_MAX, Chunk, CommandInfo, History, Item, Query, Reply, SessionInfo};

use super::model::{CommandRow, Target};
use super::picture;
use crate::cmd::recorded;
use crate::daemon_link::DaemonLink;
use crate::places::Places;
use crate::report::{Failure, size};

/// Most commands that are listed; the newest sessions' come first.
const COMMANDS_MAX: usize = 100_000;
/// Most bytes of output that are read for a preview, and that are drawn of them: the last.
const PREVIEW_READ_BYTES_MAX: usize = 4 << 20;
/// See [`PREVIEW_READ_BYTES_MAX`].
const PREVIEW_BYTES_MAX: usize = 64 << 10;
/// Most bytes of output that are read to be shown whole, or copied: the first.
pub(super) const OPEN_BYTES_MAX: usize = 64 << 20;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    /// All sessions and their commands.
    Everything,
    /// For beside the list.
    Preview(Target),
    /// For the pager.
    Open(Target),
    /// For the clipboard.
    Copy(Target),
}

/// What was read.
#[derive(Debug)]
pub(super) enum Told {
    Sessions(Vec<SessionInfo>),
    Commands(Vec<CommandRow>),
    /// All commands have been told.
    Loaded,
    Preview {
        target: Target,
        lines: Vec<Line<'static>>,
        note: Option<String>,
    },
    Open {
        target: Target,
        lines: Vec<Line<'static>>,
        note: Option<String>,
    },
    /// Lines without escapes.
    Copy {
        text: String,
    },
    Failed(Failure),
}

/// Asks. The thread ends when this is dropped.
pub(super) struct Data {
    asks: Sender<Ask>,
    pub(super) told: Receiver<Told>,
}

impl Data {
    /// Starts the thread, which writes a byte to `wake` after each thing told.
    ///
    /// # Errors
    /// If the daemon cannot be had or the system gives no thread.
    pub(super) fn start(places: &Places, wake: OwnedFd) -> Result<Self, Failure> {
        let link = DaemonLink::reach(places)?;
        let (asks, inbox) = channel();
        let (tell, told) = channel();
        let mut wake = std::fs::File::from(wake);
        let tell = move |what: Told| {
            // A full pipe wakes as well; a closed one means that nobody listens any more.
            tell.send(what).is_ok().then(|| drop(wake.write(&[0]))).is_some()
        };
        std::thread::Builder::new()
            .name("browse-data".into())
            .spawn(move || Reader { link, asks: inbox, backlog: Vec::new(), listed: 0, sessions: Vec::new() }.run(tell))
            .map_err(|error| Failure::refused(format_args!("cannot start a thread: {error}")))?;
        Ok(Self { asks, told })
    }

    pub(super) fn ask(&self, ask: Ask) {
        let _ = self.asks.send(ask); // a thread that has ended has told why
    }
}

struct Reader {
    link: DaemonLink,
    asks: Receiver<Ask>,
    /// Sessions whose commands are still to be read, the newest last, with the last command that was.
    backlog: Vec<(usize, u64)>,
    listed: usize,
    sessions: Vec<SessionInfo>,
}

impl Reader {
    fn run(mut self, mut tell: impl FnMut(Told) -> bool) {
        loop {
            let ask = if self.backlog.is_empty() {
                match self.asks.recv() {
                    Ok(ask) => Some(ask),
                    Err(_) => return,
                }
            } else {
                match self.asks.try_recv() {
                    Ok(ask) => Some(ask),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => return,
                }
            };
            let is_listing = ask.is_none_or(|ask| matches!(ask, Ask::Everything));
            let told = match ask.map(|ask| self.newest(ask)) {
                Some(ask) => self.answer(ask),
                None => self.more_commands(),
            };
            let loaded = is_listing && self.backlog.is_empty();
            if !tell(told.unwrap_or_else(Told::Failed)) || (loaded && !tell(Told::Loaded)) {
                return;
            }
        }
    }

    /// Of several previews that were asked for only the last is looked at.
    fn newest(&self, mut ask: Ask) -> Ask {
        while matches!(ask, Ask::Preview(_)) {
            match self.asks.try_recv() {
                Ok(later) => ask = later,
                Err(_) => break,
            }
        }
        ask
    }

    fn answer(&mut self, ask: Ask) -> Result<Told, Failure> {
        match ask {
            Ask::Everything => {
                self.sessions = recorded::sessions(&self.link, true)?;
                self.backlog = (0..self.sessions.len()).rev().map(|at| (at, 0)).collect();
                self.listed = 0;
                Ok(Told::Sessions(self.sessions.clone()))
            }
            Ask::Preview(target) => {
                let read = self.output(target, PREVIEW_READ_BYTES_MAX)?;
                let cut = last_lines(&read.bytes);
                let note = match cut {
                    0 => read.note(),
                    _ => Some(format!("the last {}; Enter shows more", size(PREVIEW_BYTES_MAX as u64))),
                };
                Ok(Told::Preview { target, lines: picture::lines(&read.bytes[cut..], read.window), note })
            }
            Ask::Open(target) => {
                let read = self.output(target, OPEN_BYTES_MAX)?;
                let note = read.note();
                Ok(Told::Open { target, lines: picture::lines(&read.bytes, read.window), note })
            }
            Ask::Copy(target) => {
                let read = self.output(target, OPEN_BYTES_MAX)?;
                let lines = picture::lines(&read.bytes, read.window);
                let text = lines.iter().map(|line| line.to_string() + "\n").collect();
                Ok(Told::Copy { text })
            }
        }
    }

    /// One page of commands of the newest session that has more.
    fn more_commands(&mut self) -> Result<Told, Failure> {
        let Some((at, after)) = self.backlog.pop() else { return Ok(Told::Commands(Vec::new())) };
        if self.listed >= COMMANDS_MAX {
            self.backlog.clear();
            return Ok(Told::Commands(Vec::new()));
        }
        let info = &self.sessions[at];
        let History { commands, is_last, .. } = self.history(info.session, after)?;
        if let Some(last) = commands.last().filter(|_| !is_last) {
            self.backlog.push((at, last.id));
        }
        let of = super::words(info);
        let row = |info: CommandInfo| CommandRow { session: self.sessions[at].session, of: of.clone(), info };
        let rows: Vec<CommandRow> = commands.into_iter().map(row).collect();
        self.listed += rows.len();
        Ok(Told::Commands(rows))
    }

    fn history(&self, session: SessionId, after: u64) -> Result<History, Failure> {
        match self.link.ask(&Query::History { session, after })? {
            Reply::History(history) => Ok(history),
            _ => Err(Failure::bug(&"the daemon answered another question")),
        }
    }

    fn output(&self, target: Target, bytes_max: usize) -> Result<Read, Failure> {
        let window = |session| {
            let info = self.sessions.iter().find(|info| info.session == session);
            info.map_or((0, 0), |info| info.attrs.size)
        };
        let (session, mut from, range) = match target {
            Target::Session(session) => (session, Seq::FIRST, 0..u64::MAX),
            Target::Command(session, id) => {
                let history = self.history(session, id.saturating_sub(1))?;
                let command = history.commands.into_iter().find(|command| command.id == id);
                let Some(command) = command else {
                    return Err(Failure::refused("that command's record is gone"));
                };
                (session, command.first_seq, command.output_from..command.output_to)
            }
        };
        let mut read = Read { bytes: Vec::new(), window: window(session), is_cut: false };
        loop {
            let query = Query::Read { session, from, bytes_max: CHUNK_BYTES_MAX, wait_ms: 0 };
            let Reply::Chunk(Chunk { items, next, .. }) = self.link.ask(&query)? else {
                return Err(Failure::bug(&"the daemon answered another question"));
            };
            if items.is_empty() || next == from {
                return Ok(read);
            }
            for item in items {
                match item {
                    Item::Output { offset, .. } if offset >= range.end => return Ok(read),
                    Item::Output { offset, bytes, .. } => {
                        read.bytes.extend_from_slice(crate::cmd::part::within(&bytes, offset, &range));
                    }
                    Item::Resize { cols, rows, .. } => read.window = (cols, rows),
                    _ => {}
                }
            }
            if read.bytes.len() >= bytes_max {
                read.bytes.truncate(bytes_max);
                read.is_cut = true;
                return Ok(read);
            }
            from = next;
        }
    }
}

/// Where the last [`PREVIEW_BYTES_MAX`] bytes begin, at the start of a line if there is one.
fn last_lines(bytes: &[u8]) -> usize {
    let cut = bytes.len().saturating_sub(PREVIEW_BYTES_MAX);
    let end_of_line = bytes[cut..].iter().position(|&byte| byte == b'\n');
    if cut == 0 { 0 } else { cut + end_of_line.map_or(0, |at| at + 1) }
}

/// Output that was read.
struct Read {
    bytes: Vec<u8>,
    window: (u16, u16),
    is_cut: bool,
}

impl Read {
    fn note(&self) -> Option<String> {
        if self.is_cut {
            return Some(format!("the first {}; \"shellkeep output\" has all", size(self.bytes.len() as u64)));
        }
        self.bytes.is_empty().then(|| "it printed nothing".to_owned())
    }
}
