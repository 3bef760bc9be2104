//! One session as the index reads it: from where it stopped, record by record, into lines, commands and blocks.
//!
//! Promise: the same log gives the same lines, commands and blocks, however often reading stopped and went on; a log that
//! is not the one that was read before is told, so that what was read of it goes.

use serde::{Deserialize, Serialize};
use shellkeep_journal::{Chain, Item, JournalError, Reader, Record, RecordKind, Seq, Start};
use shellkeep_protocol::attach::Size;
use shellkeep_protocol::ids::{SessionId, StoreId};
use shellkeep_protocol::query::CommandInfo;
use shellkeep_protocol::session::Attrs;

use super::block::{Block, Kind};
use super::commands::Course;
use super::fold::{Fold, SavedFold};
use super::grams::{GramSet, fold_case};
use super::lines::At;
use super::marks::Place;
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

/// A session that is being read.
pub(super) struct Reading {
    pub(super) id: SessionId,
    row: Option<i64>,
    name: Option<String>,
    reader: Reader,
    store_id: StoreId,
    next: Seq,
    chain: Option<Chain>,
    course: Course,
    fold: Fold,
    is_over: bool,
    tail: Option<i64>,
    first_line: u64,
    /// Lines that stay as they are, of the block that is not full.
    block: Block,
    full: Vec<(u64, Block)>,
    commands: Vec<CommandInfo>,
    /// Directory of the shell as [`Self::moved`] gave it last.
    told_directory: Option<String>,
    /// Bytes of output up to here, from the session's start.
    pub(super) output_end: u64,
}

impl Reading {
    /// From the beginning.
    pub(super) fn begin(
        id: SessionId,
        (store_id, attrs): (StoreId, Attrs),
        open: impl FnOnce(Start) -> Result<Reader, JournalError>,
    ) -> Result<Self, ReadError> {
        let mut course = Course::new(attrs.marks.map(|nonce| nonce.to_string()), attrs.cwd);
        course.resized(attrs.size.0);
        Ok(Self {
            id,
            row: None,
            name: attrs.name,
            reader: open(Start::Oldest)?,
            store_id,
            next: Seq::FIRST,
            chain: None,
            course,
            fold: Fold::new(attrs.size),
            is_over: false,
            tail: None,
            first_line: 0,
            block: Block::default(),
            full: Vec::new(),
            commands: Vec::new(),
            told_directory: None,
            output_end: 0,
        })
    }

    /// From where it stopped.
    pub(super) fn go_on(
        id: SessionId,
        (row, saved): (i64, Saved),
        store: &Store,
        open: impl FnOnce(Start) -> Result<Reader, JournalError>,
    ) -> Result<Result<Self, ReadError>, StoreError> {
        let block = match saved.tail {
            Some(tail) => store.block(tail)?.ok_or(StoreError::Damaged)?.truncated(saved.tail_lines),
            None => Block::default(),
        };
        let reader = match open(Start::Seq(saved.next)) {
            Ok(reader) => reader,
            Err(error) => return Ok(Err(error.into())),
        };
        Ok(Ok(Self {
            id,
            row: Some(row),
            name: saved.name,
            reader,
            store_id: saved.store,
            next: saved.next,
            chain: saved.chain,
            output_end: saved.course.output_end(),
            course: saved.course,
            fold: Fold::restore(saved.fold),
            is_over: false,
            tail: saved.tail,
            first_line: saved.first_line,
            block,
            full: Vec::new(),
            commands: Vec::new(),
            told_directory: None,
        }))
    }

    /// Reads about so many bytes of records, or all that there are.
    pub(super) fn read(&mut self, bytes_max: usize) -> Result<More, ReadError> {
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(item) = self.reader.next()? else { return Ok(More::No) };
            let after = match item {
                Item::Record(record) => {
                    if self.chain.is_some_and(|chain| chain != record.header.prev) {
                        return Err(ReadError::Changed);
                    }
                    bytes += record.payload.len() + 1;
                    let mut lines =
                        Lines { block: &mut self.block, full: &mut self.full, first_line: &mut self.first_line };
                    match record.header.kind {
                        RecordKind::Output => output(&mut self.course, &mut self.fold, &mut lines, &record),
                        RecordKind::Resize => {
                            let size = Size::from_payload(record.payload).map_or((0, 0), |size| (size.cols, size.rows));
                            self.course.resized(size.0);
                            let at = at(&record, 0);
                            self.fold.resize(size, at, &mut |line, at| lines.push(line, at, Kind::Output));
                        }
                        RecordKind::Exit => {
                            self.is_over = true;
                            let fold = std::mem::replace(&mut self.fold, Fold::new((0, 0)));
                            fold.finish(&mut |line, at| lines.push(line, at, Kind::Output));
                        }
                        _ => {}
                    }
                    for command in self.course.finished() {
                        lines.command(&command);
                        self.commands.push(command);
                    }
                    record.after
                }
                Item::Damage(damage) => damage.after,
                Item::Pruned { after, .. } => after,
            };
            (self.next, self.chain, self.output_end) = (after.next_seq, Some(after.chain), after.output_offset);
        }
        Ok(More::Yes)
    }

    /// Where the shell is, unless that was given before.
    pub(super) fn moved(&mut self) -> Option<&str> {
        if self.is_over || self.told_directory.as_deref() == Some(self.course.directory()) {
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
            None => store.put_session(self.id, false, &[])?,
        };
        self.row = Some(row);
        for (first_line, block) in std::mem::take(&mut self.full) {
            put(store, tools, self.tail.take(), (row, first_line), &block, true)?;
        }
        let mut shown = self.block.clone();
        self.fold.visible(&mut |line, at| shown.push(line, at, Kind::Output));
        let place = (row, self.first_line);
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
            self.first_line += u64::from(self.block.lines);
            self.block = Block::default();
        }
        for command in self.commands.drain(..) {
            store.put_command(row, &command)?;
        }
        let saved = Saved {
            name: self.name.clone(),
            store: self.store_id,
            next: self.next,
            chain: self.chain,
            course: self.course.clone(),
            fold: self.fold.save(),
            tail: self.tail,
            tail_lines: self.block.lines,
            first_line: self.first_line,
        };
        let mut state = Vec::new();
        let encoded = shellkeep_transport::encode_into(&saved, &mut state, STATE_BYTES_MAX);
        encoded.map_err(|error| StoreError::Failed(error.to_string()))?;
        store.put_session(self.id, self.is_over, &state)?;
        Ok(())
    }
}

/// Where lines go.
struct Lines<'a> {
    block: &'a mut Block,
    full: &'a mut Vec<(u64, Block)>,
    first_line: &'a mut u64,
}

impl Lines<'_> {
    fn push(&mut self, line: &[u8], at: At, kind: Kind) {
        self.block.push(line, at, kind);
        if self.block.is_full() {
            let block = std::mem::take(self.block);
            let lines = u64::from(block.lines);
            self.full.push((*self.first_line, block));
            *self.first_line += lines;
        }
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

fn at(record: &Record<'_>, command: u64) -> At {
    At { seq: record.header.seq, time_us: record.header.time_us, command }
}

fn output(course: &mut Course, fold: &mut Fold, lines: &mut Lines<'_>, record: &Record<'_>) {
    let place = Place { seq: record.header.seq, offset: record.header.offset, time_us: record.header.time_us };
    course.output_with(record.payload, place, |piece, command| {
        fold.feed(piece, at(record, command), &mut |line, at| lines.push(line, at, Kind::Output));
    });
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
