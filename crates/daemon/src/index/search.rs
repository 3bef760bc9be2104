//! Finds text: which blocks may have it, then which lines do, newest first, one page at a time.
//!
//! Promise: what is given is in the index, in order and each once over all pages; a page takes bounded time. Reads only.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, params};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{
    CONTEXT_LINES_MAX, CommandInfo, Cursor, Ended, FOUND_PAGE_BYTES_MAX, FOUND_PAGE_MAX, Found, Hit,
    SEARCH_TEXT_BYTES_MAX, Search,
};

use super::block::{Block, Kind};
use super::grams::{fold_case, of_word};
use super::lines::At;
use super::runs::having;
use super::store::{self, BlockRow, COMMAND, Shapes, Store, StoreError, signed, unsigned};

/// How long one page may take: then it ends where it has come to, and the next one goes on.
const PAGE_TIME_MAX: Duration = Duration::from_secs(2);

/// Blocks of text that are kept while context is looked for around hits.
const BLOCKS_KEPT_MAX: usize = 4;

/// Blocks in which the beginning of a command's output is looked for, from the one with its first record on.
const BEGINNING_BLOCKS_MAX: usize = 3;

/// Longest line that is given whole; of a longer one the part around the text.
const LINE_BYTES_MAX: usize = 4 << 10;

/// Commands of our own that print what was recorded before.
const LOOKS: [&str; 5] = ["history", "output", "replay", "search", "tail"];

type Result<T> = std::result::Result<T, StoreError>;

/// Looks for something.
///
/// # Errors
/// If there is no index, or it cannot be read.
pub(crate) fn search(directory: &Path, shapes: Shapes, search: &Search) -> Result<Found> {
    let Some(db) = Store::read(directory, shapes)? else { return Ok(Found::default()) };
    db.execute_batch("BEGIN")?; // one state of the index, whatever is written meanwhile
    Seeker::new(&db, search)?.map_or_else(|| Ok(Found::default()), Seeker::page)
}

/// The text that is looked for.
struct Needle {
    text: Vec<u8>,
    finder: memchr::memmem::Finder<'static>,
    /// Found only as it is written.
    exact: bool,
    word: bool,
}

impl Needle {
    fn new(search: &Search) -> Self {
        let exact = search.text.chars().any(char::is_uppercase);
        let mut text = Vec::new();
        if exact {
            text.extend_from_slice(search.text.as_bytes());
        } else {
            fold_case(search.text.as_bytes(), &mut text);
        }
        let finder = memchr::memmem::Finder::new(&text).into_owned();
        Self { text, finder, exact, word: search.word }
    }

    /// Groups of bytes that every text with it has.
    fn grams(&self) -> Vec<u32> {
        let mut folded = Vec::new();
        fold_case(&self.text, &mut folded);
        of_word(&folded)
    }

    /// Numbers of the lines of a text that have it, ascending.
    fn lines(&self, text: &[u8]) -> Vec<u32> {
        let mut folded = Vec::new();
        let searched = if self.exact {
            text
        } else {
            fold_case(text, &mut folded);
            &folded
        };
        let (mut lines, mut line, mut counted, mut from) = (Vec::new(), 0u32, 0, 0);
        while let Some(at) = searched.get(from..).and_then(|rest| self.finder.find(rest)).map(|at| from + at) {
            if self.word && !is_word(searched, at, at + self.text.len()) {
                from = at + 1;
                continue;
            }
            line += u32::try_from(memchr::memchr_iter(b'\n', &searched[counted..at]).count()).unwrap_or(0);
            counted = at;
            lines.push(line);
            let Some(end) = memchr::memchr(b'\n', &searched[at..]) else { break };
            from = at + end;
        }
        lines
    }

    /// The part of a long line around the text.
    fn part<'a>(&self, line: &'a str) -> &'a str {
        if line.len() <= LINE_BYTES_MAX {
            return line;
        }
        let mut folded = Vec::new();
        fold_case(line.as_bytes(), &mut folded);
        let at = self.finder.find(if self.exact { line.as_bytes() } else { &folded }).unwrap_or(0);
        let from = line.floor_char_boundary(at.saturating_sub(LINE_BYTES_MAX / 2));
        &line[from..line.floor_char_boundary(from + LINE_BYTES_MAX)]
    }
}

/// Whether nothing that belongs to a word stands beside this place.
fn is_word(text: &[u8], from: usize, to: usize) -> bool {
    let belongs = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    let before = from.checked_sub(1).and_then(|at| text.get(at));
    !before.is_some_and(belongs) && !text.get(to).is_some_and(belongs)
}

/// A session with hits.
struct Owner {
    id: SessionId,
    name: Option<String>,
    commands: HashMap<u64, Option<CommandInfo>>,
}

/// Where context is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    Behind,
}

/// One search.
struct Seeker<'a> {
    db: &'a Connection,
    search: &'a Search,
    needle: Needle,
    session: Option<i64>,
    owners: HashMap<i64, Owner>,
    blocks: Vec<(i64, Block)>,
    until: Instant,
}

/// A line that has the text: order, block, line in it, row of its session.
type Line = (Cursor, i64, u32, i64);

impl<'a> Seeker<'a> {
    /// `None` if nothing can be found.
    fn new(db: &'a Connection, search: &'a Search) -> Result<Option<Self>> {
        let session = match search.session {
            None => None,
            Some(id) => match session_row(db, id)? {
                None => return Ok(None),
                found => found,
            },
        };
        let is_text = !search.text.is_empty() && search.text.len() <= SEARCH_TEXT_BYTES_MAX;
        if !is_text || search.text.contains('\n') {
            return Ok(None);
        }
        let until = Instant::now() + PAGE_TIME_MAX;
        let needle = Needle::new(search);
        Ok(Some(Self { db, search, needle, session, owners: HashMap::new(), blocks: Vec::new(), until }))
    }

    fn page(mut self) -> Result<Found> {
        let limit = self.search.limit.clamp(1, FOUND_PAGE_MAX) as usize;
        let mut found = Found::default();
        // Lines that were found and are not given yet, the newest on top: blocks of several sessions overlap in time.
        let mut lines: BinaryHeap<Line> = BinaryHeap::new();
        let mut bytes = 0;
        let candidates = self.candidates()?;
        let mut candidates = candidates.iter().peekable();
        loop {
            let next = candidates.peek().map(|block| block.last_us);
            let is_newest = |line: &Line| next.is_none_or(|next| line.0.time_us > next);
            if let Some((at, block, line, owner)) = lines.peek().copied().filter(is_newest) {
                if found.hits.len() >= limit || bytes >= FOUND_PAGE_BYTES_MAX {
                    found.next = found.hits.last().map(|hit| hit.at);
                    return Ok(found);
                }
                lines.pop();
                if let Some(hit) = self.hit(at, block, line, owner)? {
                    bytes += hit.line.len() + hit.before.iter().chain(&hit.behind).map(String::len).sum::<usize>();
                    found.hits.push(hit);
                }
                continue;
            }
            let Some(block) = candidates.next() else { return Ok(found) };
            if Instant::now() >= self.until {
                // Everything that is newer than this block was given.
                let here = Cursor { time_us: block.last_us + 1, session: SessionId::from_bytes([0; 16]), line: 0 };
                found.next = Some(self.search.after.map_or(here, |after| after.min(here)));
                return Ok(found);
            }
            self.lines_of(block, &mut lines)?;
        }
    }

    /// Blocks that may have the text, newest first.
    fn candidates(&self) -> Result<Vec<BlockRow>> {
        let grams = self.needle.grams();
        let wanted = |block: &(BlockRow, u64)| {
            self.session.is_none_or(|session| session == block.0.session)
                && self.search.since_us.is_none_or(|since| block.0.last_us >= since)
                && self.search.until_us.is_none_or(|until| block.1 < until)
                && self.search.after.is_none_or(|after| block.1 <= after.time_us)
        };
        let mut blocks: Vec<BlockRow> = if grams.is_empty() {
            let mut query = self.db.prepare("SELECT id, session, first_line, last_us, first_us FROM blocks")?;
            let rows = query.query_map([], block_row)?;
            rows.filter(|row| row.as_ref().map_or(true, wanted))
                .map(|row| row.map(|row| row.0))
                .collect::<rusqlite::Result<_>>()?
        } else {
            let mut query =
                self.db.prepare("SELECT id, session, first_line, last_us, first_us FROM blocks WHERE id = ?")?;
            let mut blocks = Vec::new();
            for id in having(self.db, &grams)? {
                blocks.extend(query.query_row([id], block_row).optional()?.filter(wanted).map(|row| row.0));
            }
            blocks
        };
        if let Some(after) = self.search.after {
            // A block that goes beyond the page before has lines on both sides of it.
            for block in &mut blocks {
                block.last_us = block.last_us.min(after.time_us);
            }
        }
        blocks.sort_unstable_by_key(|block| Reverse((block.last_us, block.id)));
        Ok(blocks)
    }

    /// The lines of a block that have the text and come behind the page before.
    fn lines_of(&mut self, row: &BlockRow, lines: &mut BinaryHeap<Line>) -> Result<()> {
        let Some(id) = self.owner(row.session)?.map(|owner| owner.id) else { return Ok(()) };
        let Some(block) = store::block(self.db, row.id)? else { return Ok(()) };
        for line in self.needle.lines(&block.text) {
            let (at, _) = block.place(line);
            let at = Cursor { time_us: at.time_us, session: id, line: row.first_line + u64::from(line) };
            let is_in_time = self.search.since_us.is_none_or(|since| at.time_us >= since)
                && self.search.until_us.is_none_or(|until| at.time_us < until);
            if is_in_time && self.search.after.is_none_or(|after| at < after) {
                lines.push((at, row.id, line, row.session));
            }
        }
        self.keep(row.id, block);
        Ok(())
    }

    fn keep(&mut self, id: i64, block: Block) {
        if self.blocks.len() >= BLOCKS_KEPT_MAX {
            self.blocks.remove(0);
        }
        self.blocks.push((id, block));
    }

    /// A line as it is given; `None` if it is not wanted after all.
    fn hit(&mut self, at: Cursor, row: i64, line: u32, owner: i64) -> Result<Option<Hit>> {
        if !self.blocks.iter().any(|(kept, _)| *kept == row) {
            let Some(block) = store::block(self.db, row)? else { return Ok(None) };
            self.keep(row, block);
        }
        let Some(index) = self.blocks.iter().position(|(kept, _)| *kept == row) else { return Ok(None) };
        let (place, kind) = self.blocks[index].1.place(line);
        let command = self.command(owner, place.command)?;
        if !self.is_wanted(command.as_ref()) {
            return Ok(None);
        }
        let is_command = kind == Kind::Command;
        if !is_command && command.as_ref().is_some_and(|command| is_look(&command.line)) {
            return Ok(None);
        }
        let text = self.blocks[index].1.text.split(|byte| *byte == b'\n').nth(line as usize).unwrap_or_default();
        let text = self.needle.part(&String::from_utf8_lossy(text)).to_owned();
        let context = self.search.context.min(CONTEXT_LINES_MAX) as usize;
        let (before, behind) = match (context, is_command) {
            (0, _) => (Vec::new(), Vec::new()),
            (_, true) => (Vec::new(), self.beginning(owner, place, context)?),
            (_, false) => {
                let before = self.beside((owner, row), (0..line).rev(), place.command, context, Side::Before)?;
                let behind = self.beside((owner, row), line + 1..u32::MAX, place.command, context, Side::Behind)?;
                (before.into_iter().rev().collect(), behind)
            }
        };
        let name = self.owner(owner)?.and_then(|owner| owner.name.clone());
        Ok(Some(Hit { at, seq: place.seq, name, command, is_command, line: text, before, behind }))
    }

    /// Lines of the same command's output on one side of a line, the nearest first: in its block at `numbers`, then in
    /// the one beside it.
    fn beside(
        &self,
        (owner, row): (i64, i64),
        numbers: impl Iterator<Item = u32>,
        command: u64,
        count: usize,
        side: Side,
    ) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let Some((_, block)) = self.blocks.iter().find(|(kept, _)| *kept == row) else { return Ok(found) };
        if take_output(block, numbers, command, count, &mut found) {
            return Ok(found);
        }
        let (than, order) = if side == Side::Before { ("<", "DESC") } else { (">", "ASC") };
        let query = format!(
            "SELECT id FROM blocks WHERE session = ?1 AND first_line {than} \
             (SELECT first_line FROM blocks WHERE id = ?2) ORDER BY first_line {order} LIMIT 1"
        );
        let id = self.db.prepare_cached(&query)?.query_row(params![owner, row], |row| row.get(0)).optional()?;
        if let Some(block) = id.map(|id| store::block(self.db, id)).transpose()?.flatten() {
            let all = 0..block.lines;
            match side {
                Side::Before => take_output(&block, all.rev(), command, count, &mut found),
                Side::Behind => take_output(&block, all, command, count, &mut found),
            };
        }
        Ok(found)
    }

    /// The first lines of a command's output: they stand somewhere before its own line.
    fn beginning(&self, owner: i64, command: At, count: usize) -> Result<Vec<String>> {
        let query = format!(
            "SELECT id FROM blocks WHERE session = ? AND last_seq >= ? ORDER BY first_line LIMIT {BEGINNING_BLOCKS_MAX}"
        );
        let mut query = self.db.prepare_cached(&query)?;
        let ids = query.query_map(params![owner, signed(command.seq.get())], |row| row.get(0))?;
        let mut found = Vec::new();
        for id in ids.collect::<rusqlite::Result<Vec<i64>>>()? {
            let Some(block) = store::block(self.db, id)? else { continue };
            let is_its = |(at, kind): (At, Kind)| kind == Kind::Output && at.command >= command.command;
            let from = (0..block.lines).find(|line| is_its(block.place(*line))).unwrap_or(block.lines);
            if take_output(&block, from..block.lines, command.command, count, &mut found) {
                break;
            }
        }
        Ok(found)
    }

    fn is_wanted(&self, command: Option<&CommandInfo>) -> bool {
        if let Some(directory) = &self.search.directory {
            let below = |cwd: &str| {
                let rest = cwd.strip_prefix(directory.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if !command.is_some_and(|command| below(&command.cwd)) {
                return false;
            }
        }
        match self.search.ended {
            None => true,
            Some(Ended::With(exit)) => command.is_some_and(|command| command.exit == Some(exit)),
            Some(Ended::Failed) => command.is_some_and(|command| command.exit.is_some_and(|exit| exit != 0)),
        }
    }

    fn owner(&mut self, row: i64) -> Result<Option<&mut Owner>> {
        if !self.owners.contains_key(&row) {
            let query = "SELECT id FROM sessions WHERE key = ?";
            let id: Option<[u8; 16]> = self.db.prepare_cached(query)?.query_row([row], |row| row.get(0)).optional()?;
            let Some(id) = id.map(SessionId::from_bytes) else { return Ok(None) };
            let name = super::history::saved_row(self.db, row)?.and_then(|saved| saved.name);
            self.owners.insert(row, Owner { id, name, commands: HashMap::new() });
        }
        Ok(self.owners.get_mut(&row))
    }

    /// A command of a session; one that still runs only if its shell has said its line.
    fn command(&mut self, owner: i64, number: u64) -> Result<Option<CommandInfo>> {
        if number == 0 {
            return Ok(None);
        }
        let db = self.db;
        let Some(known) = self.owner(owner)? else { return Ok(None) };
        if let Some(command) = known.commands.get(&number) {
            return Ok(command.clone());
        }
        let query = format!("SELECT {COMMAND} FROM commands WHERE session = ? AND number = ?");
        let row = params![owner, signed(number)];
        let mut found = db.prepare_cached(&query)?.query_row(row, store::command).optional()?;
        if found.is_none() {
            found = store::running(db, owner)?.filter(|running| running.id == number);
        }
        known.commands.insert(number, found.clone());
        Ok(found)
    }
}

/// Whether a command line only looks into the record: what it printed stands there already, with the command that it is of. Not if it
/// has more commands than that one: theirs is nowhere else.
fn is_look(line: &str) -> bool {
    if line.contains([';', '&', '|', '\n']) {
        return false;
    }
    let mut words = line.split_whitespace();
    let program = words.next().map(|word| word.trim_matches(['\'', '"']).rsplit('/').next());
    program == Some(Some("shellkeep")) && words.next().is_some_and(|command| LOOKS.contains(&command))
}

/// Takes lines of a command's output until there are `count` of them; true if there are, or another's output came.
fn take_output(
    block: &Block,
    numbers: impl Iterator<Item = u32>,
    command: u64,
    count: usize,
    found: &mut Vec<String>,
) -> bool {
    let text = block.text.strip_suffix(b"\n").unwrap_or(&block.text);
    let all: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    for number in numbers {
        let Some(line) = all.get(number as usize).filter(|_| found.len() < count) else { break };
        match block.place(number) {
            (_, Kind::Command) => {}
            (at, Kind::Output) if at.command == command => found.push(String::from_utf8_lossy(line).into_owned()),
            (_, Kind::Output) => return true,
        }
    }
    found.len() >= count
}

fn block_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<(BlockRow, u64)> {
    let block = BlockRow {
        id: row.get(0)?,
        session: row.get(1)?,
        first_line: unsigned(row.get(2)?),
        last_us: unsigned(row.get(3)?),
    };
    Ok((block, unsigned(row.get(4)?)))
}

/// The row of a session.
pub(super) fn session_row(db: &Connection, id: SessionId) -> Result<Option<i64>> {
    let mut query = db.prepare_cached("SELECT key FROM sessions WHERE id = ?")?;
    Ok(query.query_row([&id.as_bytes()[..]], |row| row.get(0)).optional()?)
}
