//! The row of a screen that is being written: cells, overwritten in place.
//!
//! Promise: cell for cell what the emulator would hold, as long as nothing leaves the row. Knows no columns' limit and no
//! other row.

use serde::{Deserialize, Serialize};
use unicode_width::UnicodeWidthChar as _;

/// Stands behind a character of two columns, in the column that it also takes.
const TAIL: char = '\0';

/// Columns that a character takes: whatever is not wide takes one, as the emulator has it.
pub(super) fn width(character: char) -> usize {
    if character > '\u{7e}' && character.width() == Some(2) { 2 } else { 1 }
}

/// The cells up to the last one that was written. Erased ones at the end are gone, others are spaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// One byte per cell, as long as all that was written is ASCII.
    plain: Vec<u8>,
    /// From the first other character on.
    cells: Vec<char>,
    is_plain: bool,
}

impl Row {
    /// An empty one, in the memory of a text that is not needed any more.
    pub(super) fn reusing(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { plain: buffer, cells: Vec::new(), is_plain: true }
    }

    /// Of text without control characters, as it was given by [`Self::text`].
    pub(super) fn of(text: &str) -> Self {
        let mut row = Self::reusing(Vec::new());
        for character in text.chars() {
            row.print(row.len(), character);
        }
        row
    }

    /// Cells.
    pub(super) fn len(&self) -> usize {
        if self.is_plain { self.plain.len() } else { self.cells.len() }
    }

    /// Writes ASCII from `column` on; beyond the end it is filled with spaces.
    pub(super) fn print_plain(&mut self, column: usize, text: &[u8]) {
        if !self.is_plain {
            for (place, byte) in (column..).zip(text) {
                self.print(place, char::from(*byte));
            }
            return;
        }
        if column >= self.plain.len() {
            self.plain.resize(column, b' ');
            self.plain.extend_from_slice(text);
            return;
        }
        let over = text.len().min(self.plain.len() - column);
        self.plain[column..column + over].copy_from_slice(&text[..over]);
        self.plain.extend_from_slice(&text[over..]);
    }

    /// Writes one character, for which there is room.
    pub(super) fn print(&mut self, column: usize, character: char) {
        if self.is_plain && character.is_ascii() {
            let byte = [u8::try_from(character).unwrap_or(b'?')];
            return self.print_plain(column, &byte);
        }
        self.widen();
        let columns = width(character);
        if self.cells.len() < column {
            self.cells.resize(column, ' ');
        }
        if column == self.cells.len() {
            self.cells.push(character);
            if columns == 2 {
                self.cells.push(TAIL);
            }
            return;
        }
        self.split(column);
        self.split(column + columns);
        self.cells.resize(self.cells.len().max(column + columns), ' ');
        self.cells[column] = character;
        if columns == 2 {
            self.cells[column + 1] = TAIL;
        }
    }

    /// Erases from `column` to the end.
    pub(super) fn truncate(&mut self, column: usize) {
        if self.is_plain {
            self.plain.truncate(column);
        } else {
            self.split(column);
            self.cells.truncate(column);
        }
    }

    /// Erases what is in `columns`.
    pub(super) fn erase(&mut self, columns: std::ops::Range<usize>) {
        let end = columns.end.min(self.len());
        if columns.start >= end {
            return;
        }
        if self.is_plain {
            self.plain[columns.start..end].fill(b' ');
        } else {
            self.split(columns.start);
            self.split(end);
            self.cells[columns.start..end].fill(' ');
        }
    }

    /// Removes `count` cells from `column` on. False, and nothing done, if there are wide characters.
    pub(super) fn delete(&mut self, column: usize, count: usize) -> bool {
        if self.is_plain {
            let end = column.saturating_add(count).min(self.plain.len());
            if column < end {
                self.plain.drain(column..end);
            }
        }
        self.is_plain
    }

    /// Makes room for `count` cells at `column`; what goes beyond `columns` is lost. False, and nothing done, if there are
    /// wide characters.
    pub(super) fn insert(&mut self, column: usize, count: usize, columns: usize) -> bool {
        if self.is_plain && column < self.plain.len() {
            self.plain.splice(column..column, std::iter::repeat_n(b' ', count));
            self.plain.truncate(columns);
        }
        self.is_plain
    }

    /// Appends the row's text, and spaces up to `columns` cells.
    pub(super) fn text(&self, columns: usize, out: &mut Vec<u8>) {
        if self.is_plain {
            out.extend_from_slice(&self.plain);
        } else {
            let mut buffer = [0; 4];
            for cell in self.cells.iter().filter(|cell| **cell != TAIL) {
                out.extend_from_slice(cell.encode_utf8(&mut buffer).as_bytes());
            }
        }
        out.resize(out.len() + columns.saturating_sub(self.len()), b' ');
    }

    /// The row's text, by giving up the row.
    pub(super) fn into_text(self, columns: usize) -> Vec<u8> {
        if self.is_plain {
            let mut text = self.plain;
            if text.len() < columns {
                text.resize(columns, b' ');
            }
            return text;
        }
        let mut text = self.plain;
        text.clear();
        let row = Self { plain: Vec::new(), cells: self.cells, is_plain: false };
        row.text(columns, &mut text);
        text
    }

    fn widen(&mut self) {
        if self.is_plain {
            self.is_plain = false;
            self.cells.clear();
            self.cells.extend(self.plain.iter().map(|byte| char::from(*byte)));
        }
    }

    /// A wide character that lies across this border becomes two spaces.
    fn split(&mut self, column: usize) {
        if column > 0 && self.cells.get(column) == Some(&TAIL) {
            self.cells[column - 1] = ' ';
            self.cells[column] = ' ';
        }
    }
}
