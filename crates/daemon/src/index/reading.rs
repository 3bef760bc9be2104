//! One session as the index reads it: from where it stopped, record by record, into lines, commands and blocks.
//!
//! Promise: the same log gives the same lines, commands and blocks, however often reading stopped and went on; a log that
//! is not the one that was read before is told, so that what was read of it goes. Nothing is written that has a secret in
//! it: lines and commands are without, and the state to go on from, which has the screen as it is, is written only when
//! it has none; until then what was read behind it is read again after a restart, to the same. A secret of which only a
//! part has been printed is none yet: that part is written over once the rest is there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shellkeep_journal::{Chain, Item, JournalError, Reader, Record, RecordHeader, RecordKind, Seq, Start};
use shellkeep_protocol::attach::Size;
use shellkeep_protocol::ids::{SessionId, StoreId};
use shellkeep_protocol::query::CommandInfo;
use shellkeep_protocol::session::Attrs;

use super::block::{Block, Kind};
use super::commands::{Course, Piece, redacted, status};
use super::fold::{Fold, SavedFold};
use super::grams::{GramSet, fold_case};
use super::lines::At;
use super::marks::Place;
use super::secrets::{KeyBlock, Secrets};
use super::sieve::Sieve;
use super::store::{Store, StoreError};

/// Most bytes of what is kept of a session to go on with it: a screen of the largest size and a command line.
const STATE_BYTES_MAX: usize = 64 << 20;

/// What is kept of a session.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The user's name for the session.
    pub(super) name: Option<String>,
    pub(super) store: StoreId,
    /// Where reading goes on, and the chain there.
    pub(super) next: Seq,
    pub(super) chain: Option<Chain>,
    pub(super) course: Course,
    fold: SavedFold,
    key: KeyBlock,
    /// Row of the block that is not closed, if any, and how many of its lines stay as they are.
    tail: Option<i64>,
    tail_lines: u32,
    /// Number of that block's first line in the session.
    first_line: u64,
}

impl Saved {
    /// `None` if it is of another version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        shellkeep_transport::decode(bytes).ok()
    }
}

/// What writing needs, and what is large: made when there is work, gone when there is none.
pub(super) struct Tools {
    grams: GramSet,
    packer: zstd::bulk::Compressor<'static>,
    folded: Vec<u8>,
}

impl Tools {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { grams: GramSet::new(), packer: Block::packer()?, folded: Vec::new() })
    }
}

/// Why reading cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The log is another one than before: what is known of it must go.
    #[error("the log is another one")]
    Changed,
    /// It cannot be read now, or is gone.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Whether there is more to read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    /// Yes.
    Yes,
    /// Not now.
    No,
}

/// Lines on their way into blocks.
#[derive(Debug, Default)]
struct Packing {
    /// Lines that stay as they are, of the block that is not full.
    block: Block,
    /// Number of its first line in the session.
    first_line: u64,
    full: Vec<(u64, Block)>,
}

impl Packing {
    fn push(&mut self, line: &[u8], at: At, kind: Kind) {
        self.block.push(line, at, kind);
        if self.block.is_full() {
            let block = std::mem::take(&mut self.block);
            let lines = u64::from(block.lines);
            self.full.push((self.first_line, block));
            self.first_line += lines;
        }
    }
}

/// A session that is being read.
pub(super) struct Reading {
    pub(super) id: SessionId,
    row: Option<i64>,
    name: Option<String>,
    /// `None` while it rests.
    reader: Option<Reader>,
    pub(super) store_id: StoreId,
    pub(super) next: Seq,
    chain: Option<Chain>,
    course: Course,
    fold: Fold,
    is_over: bool,
    secrets: Arc<Secrets>,
    sieve: Sieve,
    packing: Packing,
    tail: Option<i64>,
    /// While it rests, how many lines of that block stay as they are.
    tail_lines: u32,
    commands: Vec<CommandInfo>,
    /// Directory of the shell as [`Self::moved`] gave it last.
    told_directory: Option<String>,
    /// The state that is written, and whether more was read and written since.
    resume: Vec<u8>,
    is_ahead: bool,
    /// The first line and the last command behind which another reading may have written.
    stale: Option<(u64, u64)>,
    /// Bytes of output up to here, from the session's start.
    pub(super) output_end: u64,
}

impl Reading {
    /// From the beginning.
    pub(super) fn begin(
        id: SessionId,
        (store_id, attrs): (StoreId, Attrs),
        secrets: Arc<Secrets>,
        open: impl FnOnce(Start) -> Result<Reader, JournalError>,
    ) -> Result<Self, ReadError> {
        let mut course = Course::new(attrs.marks.map(|nonce| nonce.to_string()), attrs.cwd);
        course.resized(attrs.size.0, &mut |_| {});
        let mut reading = Self {
            id,
            row: None,
            name: attrs.name,
            reader: Some(open(Start::Oldest)?),
            store_id,
            next: Seq::FIRST,
            chain: None,
            course,
            fold: Fold::new(attrs.size),
            is_over: false,
            sieve: Sieve::new(secrets.lines()),
            secrets,
            packing: Packing::default(),
            tail: None,
            tail_lines: 0,
            commands: Vec::new(),
            told_directory: None,
            resume: Vec::new(),
            is_ahead: false,
            stale: None,
            output_end: 0,
        };
        // Of a directory with a secret in its name there is no beginning to go on from: then all is read again.
        if !reading.course.has_secret(&reading.secrets) {
            reading.resume = reading.state().unwrap_or_default();
        }
        Ok(reading)
    }

    /// From where it stopped.
    pub(super) fn go_on(
        id: SessionId,
        (row, resume): (i64, Vec<u8>),
        saved: Saved,
        secrets: Arc<Secrets>,
        (store, open): (&Store, impl FnOnce(Start) -> Result<Reader, JournalError>),
    ) -> Result<Result<Self, ReadError>, StoreError> {
        let reading = Self {
            id,
            row: Some(row),
            name: saved.name,
            reader: None,
            store_id: saved.store,
            next: saved.next,
            chain: saved.chain,
            output_end: saved.course.output_end(),
            stale: Some((saved.first_line, saved.course.last_id())),
            course: saved.course,
            fold: Fold::restore(saved.fold),
            is_over: false,
            sieve: Sieve::new(secrets.lines_from(saved.key)),
            secrets,
            packing: Packing { first_line: saved.first_line, ..Packing::default() },
            tail: saved.tail,
            tail_lines: saved.tail_lines,
            commands: Vec::new(),
            told_directory: None,
            resume,
            is_ahead: false,
        };
        reading.wake(store, open)
    }

    /// Goes on, with what was given away for the rest. Something else if the index is not as it was left.
    pub(super) fn wake(
        mut self,
        store: &Store,
        open: impl FnOnce(Start) -> Result<Reader, JournalError>,
    ) -> Result<Result<Self, ReadError>, StoreError> {
        let known = store.session(self.id)?;
        if known.is_none_or(|(row, state)| self.row != Some(row) || self.resume != state) {
            return Ok(Err(ReadError::Changed));
        }
        let tail = self.tail.map(|tail| store.block(tail)).transpose()?.flatten();
        self.packing.block = match tail {
            Some(tail) => tail.truncated(self.tail_lines),
            None if self.tail_lines == 0 => Block::default(),
            None => return Ok(Err(ReadError::Changed)), // pruned, behind the state's back
        };
        self.reader = match open(Start::Seq(self.next)) {
            Ok(reader) => Some(reader),
            Err(error) => return Ok(Err(error.into())),
        };
        Ok(Ok(self))
    }

    /// Gives away what can be had again.
    pub(super) fn rest(&mut self) {
        if self.reader.take().is_some() {
            self.tail_lines = std::mem::take(&mut self.packing.block).lines;
        }
    }

    /// Whether it can be read from.
    pub(super) fn is_awake(&self) -> bool {
        self.reader.is_some()
    }

    /// Whether more was read than the state that is written says.
    pub(super) fn is_ahead(&self) -> bool {
        self.is_ahead
    }

    /// Reads about so many bytes of records, or all that there are.
    pub(super) fn read(&mut self, bytes_max: usize) -> Result<More, ReadError> {
        let more = self.read_records(bytes_max)?;
        let Self { sieve, packing, .. } = self;
        let sink = &mut |line: &[u8], at, kind| packing.push(line, at, kind);
        if self.is_over {
            sieve.finish(sink);
        } else {
            sieve.flush(sink);
        }
        Ok(more)
    }

    fn read_records(&mut self, bytes_max: usize) -> Result<More, ReadError> {
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(item) = self.reader.as_mut().map(Reader::next).transpose()?.flatten() else { return Ok(More::No) };
            let after = match item {
                Item::Record(record) => {
                    if self.chain.is_some_and(|chain| chain != record.header.prev) {
                        return Err(ReadError::Changed);
                    }
                    bytes += record.payload.len() + 1;
                    let lines = Lines { sieve: &mut self.sieve, packing: &mut self.packing };
                    let text = (&mut self.course, &mut self.fold);
                    take(&record, text, lines, (&mut self.commands, &self.secrets));
                    self.is_over |= record.header.kind == RecordKind::Exit;
                    record.after
                }
                Item::Damage(damage) => damage.after,
                Item::Pruned { after, .. } => after,
            };
            (self.next, self.chain, self.output_end) = (after.next_seq, Some(after.chain), after.output_offset);
        }
        Ok(More::Yes)
    }

    /// Where the shell is, if it has said so since this was asked before: somebody may have known better between two prompts.
    pub(super) fn moved(&mut self) -> Option<&str> {
        let has_said = self.course.take_said();
        if self.is_over || !has_said && self.told_directory.as_deref() == Some(self.course.directory()) {
            return None;
        }
        self.told_directory = Some(self.course.directory().to_owned());
        self.told_directory.as_deref()
    }

    /// Whether the session has ended.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Writes what was read. To be done in a transaction.
    pub(super) fn write(&mut self, store: &Store, tools: &mut Tools) -> Result<(), StoreError> {
        let row = match self.row {
            Some(row) => row,
            None => store.put_session(self.id, false, None, &self.resume)?,
        };
        self.row = Some(row);
        if let Some((first_line, last_command)) = self.stale.take() {
            store.drop_behind(row, self.tail, first_line, last_command)?;
        }
        for (first_line, block) in std::mem::take(&mut self.packing.full) {
            put(store, tools, self.tail.take(), (row, first_line), &block, true)?;
        }
        let (shown, is_hidden) = self.shown();
        let place = (row, self.packing.first_line);
        let tail = match (shown.lines, self.tail) {
            (0, None) => None,
            (0, Some(tail)) => {
                store.drop_blocks(&[tail])?;
                None
            }
            _ => Some(put(store, tools, self.tail, place, &shown, self.is_over)?),
        };
        self.tail = tail.filter(|_| !self.is_over);
        if self.is_over {
            self.packing.first_line += u64::from(self.packing.block.lines);
            self.packing.block = Block::default();
            self.course.close(&self.secrets);
        }
        for command in self.commands.drain(..) {
            store.put_command(row, &command)?;
        }
        let has_secret = || self.course.has_secret(&self.secrets) || self.fold.has_secret_beside(&self.secrets);
        self.is_ahead = !self.is_over && (is_hidden || self.sieve.is_waiting() || has_secret());
        if !self.is_ahead {
            self.resume = self.state()?;
        }
        let running = self.course.running().map(|running| redacted(running, &self.secrets));
        store.put_session(self.id, self.is_over, running.as_ref(), &self.resume)?;
        Ok(())
    }

    /// The block that is not full with the lines that may still change, and whether something was left out of those.
    fn shown(&self) -> (Block, bool) {
        let (mut shown, mut sieve) = (self.packing.block.clone(), self.sieve.branch());
        let mut push = |line: &[u8], at, kind| shown.push(line, at, kind);
        let sink = &mut |line: &[u8], at| sieve.push(line, at, Kind::Output, &mut push);
        let mut ahead = None;
        self.course.waiting(&mut |piece| {
            let Piece::Text(bytes, at) = piece else { return };
            ahead.get_or_insert_with(|| Fold::restore(self.fold.save())).feed(bytes, at, sink);
        });
        ahead.as_ref().unwrap_or(&self.fold).visible(sink);
        sieve.finish(&mut push);
        (shown, sieve.found() > 0)
    }

    /// What is needed to go on.
    fn state(&self) -> Result<Vec<u8>, StoreError> {
        let saved = Saved {
            name: self.name.clone(),
            store: self.store_id,
            next: self.next,
            chain: self.chain,
            course: self.course.clone(),
            fold: self.fold.save(),
            key: self.sieve.block(),
            tail: self.tail,
            tail_lines: self.packing.block.lines,
            first_line: self.packing.first_line,
        };
        let mut state = Vec::new();
        let encoded = shellkeep_transport::encode_into(&saved, &mut state, STATE_BYTES_MAX);
        encoded.map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(state)
    }
}

/// Where lines go.
struct Lines<'a> {
    sieve: &'a mut Sieve,
    packing: &'a mut Packing,
}

impl Lines<'_> {
    fn push(&mut self, line: &[u8], at: At, kind: Kind) {
        let packing = &mut *self.packing;
        self.sieve.push(line, at, kind, &mut |line, at, kind| packing.push(line, at, kind));
    }

    /// A command's own line is found as output is; one of several lines is found by each.
    fn command(&mut self, command: &CommandInfo) {
        let at = At { seq: command.first_seq, time_us: command.started_at_us, command: command.id };
        for line in command.line.lines().filter(|line| !line.is_empty()) {
            let shown: String =
                line.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect();
            self.push(shown.as_bytes(), at, Kind::Command);
        }
    }
}

/// Takes what a record says.
fn take(
    record: &Record<'_>,
    (course, fold): (&mut Course, &mut Fold),
    mut lines: Lines<'_>,
    (commands, secrets): (&mut Vec<CommandInfo>, &Arc<Secrets>),
) {
    let RecordHeader { kind, seq, offset, time_us, .. } = record.header;
    let mut give = |piece: Piece<'_>| match piece {
        Piece::Text(bytes, at) => fold.feed(bytes, at, &mut |line, at| lines.push(line, at, Kind::Output)),
        Piece::End => fold.end(&mut |line, at| lines.push(line, at, Kind::Output)),
        Piece::Ended(command) => {
            let command = redacted(command, secrets);
            lines.command(&command);
            commands.push(command);
        }
    };
    match kind {
        RecordKind::Output => course.output(record.payload, Place { seq, offset, time_us }, &mut give),
        RecordKind::Annotation => course.noted(record.payload, (seq, time_us), &mut give),
        RecordKind::Exit => course.exited(status(record.payload), time_us, &mut give),
        RecordKind::Resize => {
            let size = Size::from_payload(record.payload).map_or((0, 0), |size| (size.cols, size.rows));
            course.resized(size.0, &mut give); // what came before is folded as it was shown
            let at = At { seq, time_us, command: 0 };
            fold.resize(size, at, &mut |line, at| lines.push(line, at, Kind::Output));
        }
        _ => {}
    }
}

fn put(
    store: &Store,
    tools: &mut Tools,
    row: Option<i64>,
    place: (i64, u64),
    block: &Block,
    closed: bool,
) -> Result<i64, StoreError> {
    tools.folded.clear();
    fold_case(&block.text, &mut tools.folded);
    tools.grams.add(&tools.folded);
    let grams = tools.grams.take();
    let text = block.packed(&mut tools.packer)?;
    store.put_block(row, place, block, (&text, &grams), closed)
}
