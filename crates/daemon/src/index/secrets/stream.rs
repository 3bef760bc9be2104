//! Secrets in raw output of a terminal, as recordings have it.
//!
//! Promises that escape sequences, columns and times stay as they are: each printed character of a secret becomes one of
//! [`REDACTED`] or a star, wherever pieces were cut, colours were changed, or a shell redrew what was typed. Each piece
//! comes out once, in order, later by one line of text at the most and [`HELD_BYTES_MAX`] bytes. A secret that is drawn
//! with the cursor going from row to row, as a full-screen editor may, is not seen.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::key_block::KeyBlock;
use super::line::{COLUMNS_MAX, Line};
use super::{REDACTED, Secrets};

/// Most bytes that are held back. At the limit all but the last [`KEPT_COLUMNS`] columns are let go.
pub(super) const HELD_BYTES_MAX: usize = 64 << 10;

/// Most pieces that are held back; at the limit as for bytes.
const HELD_PIECES_MAX: usize = 64 << 10;

/// What of a line that is too long is looked at again with what follows: no secret but a token of tokens is longer.
const KEPT_COLUMNS: usize = 4 << 10;
const _: () = assert!(KEPT_COLUMNS < COLUMNS_MAX);

/// Longest parameters of a control sequence. Of a longer one the rest counts as text.
const PARAMETERS_MAX: usize = 64;

/// Stands for a character that was several bytes long: they go. No byte that is put in the place of another.
const GONE: u8 = 0xff;
/// Stays as it is.
const KEPT: u8 = 0;

const ESCAPE: u8 = 0x1b;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    Escape,
    /// Behind an escape and an intermediate byte.
    Intermediate,
    Control,
    /// In a string: OSC, DCS, APC and the like.
    Body,
    BodyEscape,
}

/// Reads output in order; gives it back without secrets.
#[derive(Debug)]
pub struct Stream<T> {
    secrets: Arc<Secrets>,
    columns: usize,
    state: State,
    /// Bytes held back, what is put in their place, and the position of the first among all.
    held: Vec<u8>,
    mask: Vec<u8>,
    base: usize,
    /// Pieces held back: how many bytes of each are still to come.
    pieces: VecDeque<(T, usize)>,
    /// What of the first piece has been let go.
    begun: Vec<u8>,
    line: Line,
    block: KeyBlock,
    /// A character that is not whole yet.
    cut: Vec<u8>,
    parameters: Vec<u8>,
    /// Where the body that is being read begins.
    body_from: usize,
}

impl<T> Stream<T> {
    pub(super) fn new(secrets: Arc<Secrets>, columns: u16) -> Self {
        let mut stream = Self {
            secrets,
            columns: 0,
            state: State::Text,
            held: Vec::new(),
            mask: Vec::new(),
            base: 0,
            pieces: VecDeque::new(),
            begun: Vec::new(),
            line: Line::default(),
            block: KeyBlock::default(),
            cut: Vec::new(),
            parameters: Vec::new(),
            body_from: 0,
        };
        stream.resize(columns);
        stream
    }

    /// The terminal has so many columns from here on; 0 counts as 80.
    pub fn resize(&mut self, columns: u16) {
        self.columns = if columns == 0 { 80 } else { usize::from(columns) };
    }

    /// Takes a piece, perhaps an empty one; gives back those that are done, each with its own `T`.
    pub fn feed(&mut self, of: T, bytes: &[u8], mut give: impl FnMut(T, Vec<u8>)) {
        self.pieces.push_back((of, bytes.len()));
        for part in bytes.chunks(HELD_BYTES_MAX / 2) {
            let from = self.base + self.held.len();
            self.held.extend_from_slice(part);
            self.mask.resize(self.held.len(), KEPT);
            let mut next = 0;
            while next < part.len() {
                let plain = self.plain(&part[next..]);
                next += plain;
                // A line, or what a line needs to be whole.
                while next < part.len() {
                    self.step(part[next], from + next, &mut give);
                    next += 1;
                    if self.is_idle() && part[next - 1] == b'\n' {
                        break;
                    }
                }
            }
            if self.held.len() > HELD_BYTES_MAX / 2 || self.pieces.len() > HELD_PIECES_MAX {
                self.relieve(self.base + self.held.len(), &mut give);
            }
        }
        // Nobody waits for what nothing can change any more: whole lines, and escapes between them.
        if self.is_idle() {
            self.let_go(self.base + self.held.len(), &mut give);
        }
    }

    /// Something is missing here: what comes does not go on from what came.
    pub fn interrupt(&mut self, mut give: impl FnMut(T, Vec<u8>)) {
        self.end_line(self.base + self.held.len(), &mut give);
        self.state = State::Text;
        self.cut.clear();
        self.block.reset();
    }

    /// Gives back what is left.
    pub fn finish(mut self, give: impl FnMut(T, Vec<u8>)) {
        if matches!(self.state, State::Body | State::BodyEscape) {
            self.look_at_body(self.base + self.held.len());
        }
        self.interrupt(give);
    }

    /// Nothing that is held back matters to what comes.
    fn is_idle(&self) -> bool {
        self.state == State::Text && self.line.writes.is_empty() && self.cut.is_empty()
    }

    /// The usual case: how many bytes are whole lines of text in which nothing can be.
    fn plain(&self, part: &[u8]) -> usize {
        if !self.is_idle() || self.block.is_open() {
            return 0;
        }
        let end = part.iter().position(|byte| matches!(*byte, ESCAPE | 0x08)).unwrap_or(part.len());
        let whole = part[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if whole == 0 || !self.secrets.may_be_in(&part[..whole]) {
            return whole;
        }
        // Something may be in one of them: up to there.
        let mut taken = 0;
        for line in part[..whole].split_inclusive(|byte| *byte == b'\n') {
            if self.secrets.may_be_in(line) {
                break;
            }
            taken += line.len();
        }
        taken
    }

    fn step(&mut self, byte: u8, at: usize, give: &mut impl FnMut(T, Vec<u8>)) {
        self.state = match (self.state, byte) {
            (State::Body, 0x07) | (State::BodyEscape, b'\\') => {
                self.look_at_body(at);
                State::Text
            }
            (State::Body, ESCAPE) => State::BodyEscape,
            (State::Body, _) => State::Body,
            (State::BodyEscape, _) => {
                self.look_at_body(at);
                self.escape(byte, at, give)
            }
            (_, ESCAPE) => State::Escape,
            (State::Text, _) => {
                self.text(byte, at, give);
                State::Text
            }
            (State::Escape, _) => self.escape(byte, at, give),
            (State::Intermediate, 0x20..0x30) => State::Intermediate,
            (State::Control, 0x40..0x7f) => {
                self.control(byte, at, give);
                State::Text
            }
            (State::Control, 0x20..0x40) if self.parameters.len() < PARAMETERS_MAX => {
                self.parameters.push(byte);
                State::Control
            }
            (State::Control, 0x20..) | (State::Intermediate, _) => State::Text,
            // A control character within a sequence counts at once. Source: ECMA-48, and what terminals do.
            (State::Control, _) => {
                self.text(byte, at, give);
                State::Control
            }
        };
    }

    fn escape(&mut self, byte: u8, at: usize, give: &mut impl FnMut(T, Vec<u8>)) -> State {
        match byte {
            b'[' => {
                self.parameters.clear();
                State::Control
            }
            b']' | b'P' | b'X' | b'^' | b'_' => {
                self.body_from = at + 1;
                State::Body
            }
            0x20..0x30 => State::Intermediate,
            b'D' | b'E' | b'M' | b'c' | b'8' => {
                self.end_line(at + 1, give);
                State::Text
            }
            _ => State::Text,
        }
    }

    fn control(&mut self, last: u8, at: usize, give: &mut impl FnMut(T, Vec<u8>)) {
        let first = self.parameters.split(|byte| *byte == b';').next().unwrap_or_default();
        let number = std::str::from_utf8(first).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let is_private = self.parameters.first().is_some_and(|byte| (b'<'..=b'?').contains(byte));
        match last {
            b'C' => self.line.right(number),
            b'D' => self.line.left(number),
            b'G' | b'`' => self.line.column_of_row(number, self.columns),
            b'A' if self.line.up(number, self.columns) => {}
            b'K' | b'J' if number == 0 => {
                self.look();
                self.line.erase_behind();
            }
            b'P' | b'@' => {
                self.look();
                if last == b'P' { self.line.delete(number) } else { self.line.insert(number) }
            }
            b'm' | b'n' | b'c' | b'q' | b't' | b'u' => {}
            b'h' | b'l' if !is_private || !matches!(number, 47 | 1047 | 1049) => {}
            _ => self.end_line(at + 1, give),
        }
    }

    fn text(&mut self, byte: u8, at: usize, give: &mut impl FnMut(T, Vec<u8>)) {
        match byte {
            b' '..=b'~' => {
                self.cut.clear();
                self.put(char::from(byte), at, 1);
            }
            0x80.. => {
                self.cut.push(byte);
                match std::str::from_utf8(&self.cut).map(|text| text.chars().next()) {
                    Ok(Some(character)) => {
                        let len = self.cut.len();
                        self.cut.clear();
                        self.put(character, at + 1 - len, u8::try_from(len).unwrap_or(4));
                    }
                    Err(error) if error.error_len().is_none() => {}
                    _ => self.cut.clear(),
                }
            }
            b'\n' | 0x0b | 0x0c => self.end_line(at + 1, give),
            b'\r' => self.line.carriage_return(self.columns),
            0x08 => self.line.left(1),
            b'\t' => self.put(' ', at, 1),
            _ => {}
        }
        if self.line.is_full() {
            self.relieve(at + 1, give);
        }
    }

    fn put(&mut self, character: char, at: usize, len: u8) {
        if self.line.would_overwrite() {
            self.look(); // what is replaced was seen
        }
        self.line.put(character, at, len);
    }

    /// Hides what of the line is a secret.
    fn look(&mut self) {
        if !self.line.take_new() {
            return;
        }
        let (mut text, mut columns) = (Vec::new(), Vec::new());
        self.line.read(&mut text, &mut columns);
        let mut spans = self.secrets.spans(&text);
        let continued = self.line.continued();
        if continued > 0 {
            spans.push(0..columns.partition_point(|column| *column < continued));
        }
        for span in spans {
            let from = columns[span.start];
            let to = columns.get(span.end.max(1) - 1).map_or(from, |last| last + 1);
            self.hide(from..to);
        }
    }

    /// Hides whatever was printed in these columns of the line.
    fn hide(&mut self, columns: Range<usize>) {
        self.line.mark(columns.clone());
        for write in self.line.writes.iter().filter(|write| columns.contains(&write.column)) {
            let Some(first) = write.at.checked_sub(self.base) else { continue };
            if !matches!(self.held[first], b'\t') {
                self.mask[first] = stand_in(write.column - columns.start, columns.len());
                self.mask[first + 1..first + usize::from(write.len)].fill(GONE);
            }
        }
    }

    /// The line is over with the byte before `to`.
    fn end_line(&mut self, to: usize, give: &mut impl FnMut(T, Vec<u8>)) {
        self.look();
        let (mut text, mut columns) = (Vec::new(), Vec::new());
        self.line.read(&mut text, &mut columns);
        if self.block.takes(&self.secrets, &text) {
            self.hide(0..columns.last().map_or(0, |last| last + 1));
        }
        self.line.clear();
        self.let_go(to, give);
    }

    /// Hides what of a string is a secret. Titles and marks hold command lines; in marks they are percent-encoded.
    fn look_at_body(&mut self, to: usize) {
        let from = self.body_from.max(self.base) - self.base;
        let body = &self.held[from..(to - self.base).max(from)];
        let (text, places) = percent_decoded(body);
        if !self.secrets.may_be_in(&text) {
            return;
        }
        for span in self.secrets.spans(&text) {
            let end = places.get(span.end).copied().unwrap_or(body.len());
            let length = span.len();
            for index in span.clone() {
                let first = from + places[index];
                let last = from + places.get(index + 1).copied().unwrap_or(end);
                self.mask[first] = stand_in(index - span.start, length);
                self.mask[first + 1..last].fill(GONE);
            }
        }
    }

    /// Too much is held back: the newest columns before `end` stay, to be looked at with what follows.
    fn relieve(&mut self, end: usize, give: &mut impl FnMut(T, Vec<u8>)) {
        if matches!(self.state, State::Body | State::BodyEscape) {
            self.look_at_body(end);
        }
        self.look();
        let keep = end.saturating_sub(KEPT_COLUMNS).max(self.base);
        self.line.forget(KEPT_COLUMNS, keep);
        self.let_go(keep, give);
    }

    /// Gives back everything before `to`.
    fn let_go(&mut self, to: usize, give: &mut impl FnMut(T, Vec<u8>)) {
        let mut left = to.saturating_sub(self.base).min(self.held.len());
        let all = left;
        let mut taken = 0;
        while let Some((_, waits)) = self.pieces.front_mut() {
            let part = left.min(*waits);
            let shown = self.held[taken..taken + part].iter().zip(&self.mask[taken..taken + part]);
            self.begun.extend(shown.filter(|(_, mask)| **mask != GONE).map(
                |(byte, mask)| {
                    if *mask == KEPT { *byte } else { *mask }
                },
            ));
            *waits -= part;
            left -= part;
            taken += part;
            if *waits > 0 {
                break;
            }
            if let Some((of, _)) = self.pieces.pop_front() {
                give(of, std::mem::take(&mut self.begun));
            }
        }
        self.held.drain(..all);
        self.mask.drain(..all);
        self.base += all;
    }
}

/// What is shown for one character of a secret.
fn stand_in(index: usize, length: usize) -> u8 {
    if length < REDACTED.len() { b'*' } else { REDACTED.as_bytes().get(index).copied().unwrap_or(b'*') }
}

/// A body without percent-encoding, and where each byte of that begins.
fn percent_decoded(body: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut text, mut places, mut at) = (Vec::with_capacity(body.len()), Vec::with_capacity(body.len()), 0);
    while let Some(byte) = body.get(at) {
        let code = body.get(at + 1..at + 3).filter(|_| *byte == b'%').and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        text.push(code.unwrap_or(*byte));
        places.push(at);
        at += if code.is_some() { 3 } else { 1 };
    }
    (text, places)
}
