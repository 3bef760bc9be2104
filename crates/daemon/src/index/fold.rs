//! Output becomes lines as they were last seen: escape sequences stripped, carriage returns, backspaces and erasures
//! done, progress bars folded, the alternate screen left out.
//!
//! Promises the emulator's own text (`emulated`) at several times its speed, the same text however the output is
//! cut, and memory bounded by the size of a screen and of a line. What stays in the row of the cursor is done here; the
//! first sequence that leaves it hands the screen over to the emulator, which gives it back once the cursor stands below
//! everything again.

mod sequences;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::emulated::{Emulated, SavedScreen};
use super::lines::{At, Joiner, Sink, is_blank};
use super::row::{Row, width};
use super::secrets::Secrets;

/// Window of a session that never said one.
pub const SIZE_DEFAULT: (u16, u16) = (80, 24);

/// Largest window that is emulated; a larger one, which no terminal has, counts as this.
const SIZE_MAX: (u16, u16) = (4096, 1024);

/// Where in a sequence the output stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Parse {
    Text,
    /// Behind an escape; what has come is in `sequence`.
    Escape,
    Intermediate,
    Control,
    /// In a string that shows nothing, which BEL ends if it is an OSC.
    Hidden {
        osc: bool,
        /// Its last byte may be the first of an eight-bit control character.
        c2: bool,
    },
}

/// A row above the cursor's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) text: Vec<u8>,
    /// The next row goes on with its line.
    pub(super) is_wrapped: bool,
    pub(super) at: At,
}

/// The screen, as long as it is simple: the cursor is in the last row that has anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Simple {
    columns: usize,
    rows: usize,
    parse: Parse,
    sequence: Vec<u8>,
    /// The beginning of a character whose rest is still to come.
    cut: Vec<u8>,
    done: VecDeque<Done>,
    row: Row,
    row_at: Option<At>,
    /// May be one beyond the last column: the next character wraps.
    column: usize,
    joiner: Joiner,
    /// Ends of lines that the emulator keeps the screen for at least: more the more often it was called.
    patience: u32,
    /// Ends of lines since it gave the screen back.
    since_emulated: u32,
}

/// All that is known of a fold, to go on with it later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedFold {
    simple: Simple,
    emulated: Option<SavedScreen>,
}

/// Turns output into lines.
#[derive(Debug)]
pub struct Fold {
    at: At,
    simple: Simple,
    emulated: Option<Emulated>,
}

/// What to do after a sequence.
enum Then {
    GoOn,
    HandOver,
}

impl Fold {
    /// For output of a window of `size`: columns, rows.
    pub fn new(size: (u16, u16)) -> Self {
        let (columns, rows) = clamped(size);
        let simple = Simple {
            columns,
            rows,
            parse: Parse::Text,
            sequence: Vec::new(),
            cut: Vec::new(),
            done: VecDeque::new(),
            row: Row::reusing(Vec::new()),
            row_at: None,
            column: 0,
            joiner: Joiner::default(),
            patience: 0,
            since_emulated: 0,
        };
        Self { at: At::default(), simple, emulated: None }
    }

    /// What is needed to go on with it.
    pub fn save(&self) -> SavedFold {
        SavedFold { simple: self.simple.clone(), emulated: self.emulated.as_ref().map(Emulated::save) }
    }

    /// Whether a secret is in what has to be kept beside [`Self::visible`]: the screen that a full-screen program draws.
    pub(super) fn has_secret_beside(&self, secrets: &Arc<Secrets>) -> bool {
        let columns = u16::try_from(self.simple.columns).unwrap_or(u16::MAX);
        self.emulated.as_ref().is_some_and(|screen| secrets.are_in_output(screen.dump().as_bytes(), columns))
    }

    /// Goes on.
    pub fn restore(saved: SavedFold) -> Self {
        let size = (saved.simple.columns, saved.simple.rows);
        let emulated = saved.emulated.and_then(|screen| Emulated::restore(screen, size));
        Self { at: At::default(), simple: saved.simple, emulated }
    }

    /// Takes the next piece of output; gives the lines that cannot change any more.
    pub fn feed(&mut self, bytes: &[u8], at: At, sink: &mut Sink<'_>) {
        self.at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = if self.emulated.is_some() { self.emulate(rest, sink) } else { self.fold(rest, sink) };
        }
    }

    /// The window has another size from here on.
    pub fn resize(&mut self, size: (u16, u16), at: At, sink: &mut Sink<'_>) {
        self.at = at;
        let (columns, rows) = clamped(size);
        if (columns, rows) == (self.simple.columns, self.simple.rows) {
            return;
        }
        let is_empty = self.simple.done.is_empty() && self.simple.row.len() == 0 && self.simple.column == 0;
        if self.emulated.is_none() && !is_empty {
            self.hand_over(sink);
        }
        (self.simple.columns, self.simple.rows) = (columns, rows);
        if let Some(emulated) = &mut self.emulated
            && !emulated.resize(columns, rows, &mut self.simple.joiner, sink)
        {
            self.emulated = None;
        }
    }

    /// The lines that are on the screen and may still change.
    pub fn visible(&self, sink: &mut Sink<'_>) {
        let mut joiner = self.simple.joiner.clone();
        let rows: Vec<Done> = if let Some(emulated) = &self.emulated {
            emulated.rows()
        } else {
            let mut text = Vec::new();
            self.simple.row.text(0, &mut text);
            let last = Done { text, is_wrapped: false, at: self.simple.row_at.unwrap_or(self.at) };
            self.simple.done.iter().cloned().chain([last]).collect()
        };
        let shown = rows.iter().rposition(|row| !is_blank(&row.text)).map_or(0, |last| last + 1);
        for row in &rows[..shown] {
            joiner.row(&row.text, row.is_wrapped, row.at, sink);
        }
        if joiner.is_pending() {
            joiner.row(b"", false, self.at, sink);
        }
    }

    /// A text ends: gives the lines that are left, and begins with an empty screen.
    pub fn end(&mut self, sink: &mut Sink<'_>) {
        self.visible(sink);
        self.emulated = None;
        self.simple.blank();
        self.simple.cut.clear();
        self.simple.joiner = Joiner::default();
        (self.simple.patience, self.simple.since_emulated) = (0, 0);
    }

    /// The lines that are left.
    pub fn finish(self, sink: &mut Sink<'_>) {
        self.visible(sink);
    }

    /// Gives the emulator as much as comes before it may give the screen back.
    fn emulate<'a>(&mut self, bytes: &'a [u8], sink: &mut Sink<'_>) -> &'a [u8] {
        let Some(emulated) = &mut self.emulated else { return bytes };
        let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        self.simple.cut.extend_from_slice(&bytes[..end]);
        let text = take_text(&mut self.simple.cut);
        if !emulated.feed(&text, self.at, &mut self.simple.joiner, sink) {
            self.emulated = None;
            self.simple.blank();
        } else if let Some((mut rows, column)) = emulated.given_back(self.simple.patience) {
            self.emulated = None;
            let last = rows.pop_back();
            let simple = &mut self.simple;
            simple.since_emulated = 0;
            simple.row_at = last.as_ref().filter(|row| !row.text.is_empty()).map(|row| row.at);
            simple.row = last.map_or_else(Row::default, |row| Row::of(&String::from_utf8_lossy(&row.text)));
            simple.row.truncate(simple.row.len().min(simple.columns));
            (simple.done, simple.column) = (rows, column);
        }
        &bytes[end..]
    }

    /// The emulator goes on with the screen as it is.
    fn hand_over(&mut self, sink: &mut Sink<'_>) {
        let simple = &mut self.simple;
        // Programs that move about do so again and again, and building a screen costs more than keeping it.
        simple.patience = if simple.since_emulated < 64 { (simple.patience * 2).clamp(1, 1024) } else { 1 };
        let mut current = Vec::new();
        simple.row.text(0, &mut current);
        let done = std::mem::take(&mut simple.done);
        let at = simple.row_at.unwrap_or(self.at);
        let mut emulated = Emulated::showing((simple.columns, simple.rows), &done, &current, simple.column, at);
        let sequence = std::mem::take(&mut simple.sequence);
        if let Some(emulated) = &mut emulated {
            let text = String::from_utf8_lossy(&sequence);
            emulated.feed(&text, self.at, &mut simple.joiner, sink);
        }
        simple.blank();
        self.emulated = emulated;
    }

    /// Goes on as long as the screen is simple; returns what is left.
    fn fold<'a>(&mut self, mut bytes: &'a [u8], sink: &mut Sink<'_>) -> &'a [u8] {
        while let Some((&byte, behind)) = bytes.split_first() {
            let simple = &mut self.simple;
            if simple.parse == Parse::Text && simple.cut.is_empty() {
                let run = plain_run(bytes);
                if run > 0 {
                    simple.print_plain(&bytes[..run], self.at, sink);
                    bytes = &bytes[run..];
                    continue;
                }
            }
            let then = match simple.parse {
                Parse::Text if byte >= 0x80 || !simple.cut.is_empty() => {
                    let (taken, then) = simple.character(bytes, self.at, sink);
                    bytes = &bytes[taken..];
                    if matches!(then, Then::HandOver) {
                        self.hand_over(sink);
                        return bytes;
                    }
                    continue;
                }
                Parse::Text => simple.control(byte, self.at, sink),
                Parse::Escape => simple.escape(byte),
                Parse::Intermediate => simple.intermediate(byte),
                Parse::Control => simple.control_sequence(byte),
                Parse::Hidden { osc, c2 } => {
                    let (taken, then) = simple.string(bytes, osc, c2);
                    bytes = &bytes[taken..];
                    if matches!(then, Then::HandOver) {
                        self.hand_over(sink);
                        return bytes;
                    }
                    continue;
                }
            };
            bytes = behind;
            if matches!(then, Then::HandOver) {
                simple.sequence.push(byte);
                self.hand_over(sink);
                return bytes;
            }
        }
        bytes
    }
}

impl Simple {
    /// An empty screen, as it is behind the emulator.
    fn blank(&mut self) {
        self.parse = Parse::Text;
        self.sequence.clear();
        self.done.clear();
        self.row = Row::reusing(Vec::new());
        self.row_at = None;
        self.column = 0;
    }

    fn print_plain(&mut self, mut text: &[u8], at: At, sink: &mut Sink<'_>) {
        while !text.is_empty() {
            if self.column >= self.columns {
                self.next_row(true, at, sink);
                self.column = 0;
            }
            let fits = text.len().min(self.columns - self.column);
            self.row_at.get_or_insert(at);
            self.row.print_plain(self.column, &text[..fits]);
            self.column += fits;
            text = &text[fits..];
        }
    }

    fn print(&mut self, character: char, at: At, sink: &mut Sink<'_>) {
        let columns = width(character);
        if self.column + columns > self.columns {
            self.next_row(true, at, sink);
            self.column = 0;
            if columns > self.columns {
                return; // too wide for any row: the emulator shows nothing of it either
            }
        }
        self.row_at.get_or_insert(at);
        self.row.print(self.column, character);
        self.column += columns;
    }

    /// The next row is the cursor's; the topmost leaves the screen when it is full.
    fn next_row(&mut self, is_wrapped: bool, at: At, sink: &mut Sink<'_>) {
        let mut buffer = Vec::new();
        if self.done.len() + 1 >= self.rows
            && let Some(top) = self.done.pop_front()
        {
            self.joiner.row(&top.text, top.is_wrapped, top.at, sink);
            buffer = top.text;
        }
        let row = std::mem::replace(&mut self.row, Row::reusing(buffer));
        let row_at = self.row_at.take().unwrap_or(at);
        let text = row.into_text(if is_wrapped { self.columns } else { 0 });
        if self.rows == 1 {
            self.joiner.row(&text, is_wrapped, row_at, sink);
        } else {
            self.done.push_back(Done { text, is_wrapped, at: row_at });
        }
    }

    /// A byte below the space, in text.
    fn control(&mut self, byte: u8, at: At, sink: &mut Sink<'_>) -> Then {
        match byte {
            b'\n' | 0x0b | 0x0c => {
                if self.done.len() + 1 < self.rows {
                    self.column = self.column.min(self.columns - 1); // scrolling leaves it where it is
                }
                self.next_row(false, at, sink);
                self.since_emulated = self.since_emulated.saturating_add(1);
            }
            b'\r' => self.column = 0,
            0x08 => self.left(1),
            b'\t' => self.column = ((self.column / 8 + 1) * 8).min(self.columns - 1),
            0x1b => {
                self.sequence.clear();
                self.sequence.push(byte);
                self.parse = Parse::Escape;
            }
            0x0e => {
                self.sequence.clear();
                return Then::HandOver;
            }
            _ => {}
        }
        Then::GoOn
    }

    fn left(&mut self, count: usize) {
        let beyond = usize::from(self.column == self.columns);
        self.column = self.column.saturating_sub(count.saturating_add(beyond));
    }

    /// A character that is not ASCII, or the rest of one, at the beginning of `bytes`.
    fn character(&mut self, bytes: &[u8], at: At, sink: &mut Sink<'_>) -> (usize, Then) {
        let held = self.cut.len();
        let mut buffer = [0; 4];
        let len = (held + bytes.len()).min(4);
        buffer[..held].copy_from_slice(&self.cut);
        buffer[held..len].copy_from_slice(&bytes[..len - held]);
        let (valid, bad) = match std::str::from_utf8(&buffer[..len]) {
            Ok(_) => (len, None),
            Err(error) => (error.valid_up_to(), error.error_len()),
        };
        let first = std::str::from_utf8(&buffer[..valid]).unwrap_or_default().chars().next();
        let (character, taken) = match (first, bad) {
            (Some(character), _) => (character, character.len_utf8()),
            (None, Some(bad)) => (char::REPLACEMENT_CHARACTER, bad),
            (None, None) => {
                self.cut = buffer[..len].to_vec(); // the rest is still to come
                return (len - held, Then::GoOn);
            }
        };
        self.cut.clear();
        if ('\u{80}'..'\u{a0}').contains(&character) {
            self.sequence.clear();
            self.sequence.extend_from_slice(&buffer[..taken]);
            return (taken - held, Then::HandOver);
        }
        self.print(character, at, sink);
        (taken - held, Then::GoOn)
    }
}

/// How many bytes at the beginning are ASCII and shown.
fn plain_run(bytes: &[u8]) -> usize {
    /// Bytes that are looked at together.
    const STEP: usize = 16;
    let is_other = |byte: &u8| byte.cast_signed() < 0x20;
    let mut at = 0;
    for step in bytes.chunks_exact(STEP) {
        if step.iter().fold(false, |any, byte| any | is_other(byte)) {
            break;
        }
        at += STEP;
    }
    at + bytes[at..].iter().position(is_other).unwrap_or(bytes.len() - at)
}

/// A window of no size shows what one of the usual size would.
pub(super) fn clamped((columns, rows): (u16, u16)) -> (usize, usize) {
    let within = |value: u16, default: u16, max: u16| usize::from(if value == 0 { default } else { value.min(max) });
    (within(columns, SIZE_DEFAULT.0, SIZE_MAX.0), within(rows, SIZE_DEFAULT.1, SIZE_MAX.1))
}

/// What has come as characters; bytes that are none are shown as such, and the beginning of one stays.
fn take_text(cut: &mut Vec<u8>) -> String {
    let mut text = String::with_capacity(cut.len());
    loop {
        match std::str::from_utf8(cut) {
            Ok(whole) => {
                text.push_str(whole);
                cut.clear();
                return text;
            }
            Err(error) => {
                let (whole, rest) = cut.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(whole));
                let Some(bad) = error.error_len() else {
                    *cut = rest.to_vec(); // the rest of the character is still to come
                    return text;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                *cut = rest[bad..].to_vec();
            }
        }
    }
}

#[cfg(test)]
mod tests;
