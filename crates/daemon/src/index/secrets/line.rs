//! The line of a terminal on which text is being printed: what stands in which column, and which bytes put it there.
//!
//! Follows the cursor as far as shells that edit a command line move it; whatever else moves it ends the line. Bounded.

/// Longest line that is followed. Beyond it the caller lets the beginning go.
pub(super) const COLUMNS_MAX: usize = 8 << 10;

/// Bytes of a held stream that printed one character, whether it still stands there or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    pub(super) column: usize,
    /// Absolute position of the first byte.
    pub(super) at: usize,
    pub(super) len: u8,
}

/// A line, from its first column on. Rows of a line that the terminal has wrapped follow one another.
#[derive(Debug, Default)]
pub(super) struct Line {
    cells: Vec<Cell>,
    cursor: usize,
    /// Everything printed on this line, in order.
    pub(super) writes: Vec<Write>,
    /// Something was printed since the last look.
    is_new: bool,
    /// And the cursor has gone elsewhere since.
    has_moved: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    character: char,
    is_secret: bool,
}

impl Line {
    /// Whether printing here would replace what nobody has looked at.
    pub(super) fn would_overwrite(&self) -> bool {
        self.has_moved && self.cells.get(self.cursor).is_some_and(|cell| !matches!(cell.character, ' ' | '\0'))
    }

    /// Whether something was printed since the last call.
    pub(super) fn take_new(&mut self) -> bool {
        self.has_moved = false;
        std::mem::take(&mut self.is_new)
    }

    /// Whether it is as long as one may be.
    pub(super) fn is_full(&self) -> bool {
        self.cursor >= COLUMNS_MAX || self.writes.len() >= COLUMNS_MAX * 4
    }

    /// Prints.
    pub(super) fn put(&mut self, character: char, at: usize, len: u8) {
        if self.cells.len() <= self.cursor {
            self.cells.resize(self.cursor + 1, Cell::default());
        }
        self.cells[self.cursor] = Cell { character, is_secret: false };
        self.writes.push(Write { column: self.cursor, at, len });
        self.cursor += 1;
        self.is_new = true;
    }

    /// To the first column of the row. A row that is just full is still the cursor's.
    pub(super) fn carriage_return(&mut self, columns: usize) {
        self.has_moved = self.is_new;
        self.cursor = self.row_begin(columns);
    }

    fn row_begin(&self, columns: usize) -> usize {
        let is_behind_full = self.cursor > 0 && self.cursor.is_multiple_of(columns) && self.cursor == self.cells.len();
        let column = if is_behind_full { self.cursor - 1 } else { self.cursor };
        column - column % columns
    }

    /// To the left, to the first column at the most.
    pub(super) fn left(&mut self, by: usize) {
        self.has_moved = self.is_new;
        self.cursor = self.cursor.saturating_sub(by.max(1));
    }

    /// To the right.
    pub(super) fn right(&mut self, by: usize) {
        self.cursor = (self.cursor + by.max(1)).min(COLUMNS_MAX);
    }

    /// To a column of the row, from 1.
    pub(super) fn column_of_row(&mut self, column: usize, columns: usize) {
        self.has_moved = self.is_new;
        self.cursor = (self.row_begin(columns) + column.saturating_sub(1)).min(COLUMNS_MAX);
    }

    /// Up by rows; false if that leaves the line.
    pub(super) fn up(&mut self, by: usize, columns: usize) -> bool {
        let distance = by.max(1).saturating_mul(columns);
        self.has_moved = self.is_new;
        let stays = distance <= self.cursor;
        self.cursor = self.cursor.saturating_sub(distance);
        stays
    }

    /// Erases from the cursor on.
    pub(super) fn erase_behind(&mut self) {
        self.cells.truncate(self.cursor);
    }

    /// Removes characters at the cursor; those behind them move up. So do the marks of which bytes printed them.
    pub(super) fn delete(&mut self, count: usize) {
        let (from, to) = (self.cursor, self.cursor.saturating_add(count.max(1)).min(self.cells.len()));
        if from < to {
            self.cells.drain(from..to);
            for write in self.writes.iter_mut().filter(|write| write.column >= to) {
                write.column -= to - from;
            }
        }
    }

    /// Makes room at the cursor.
    pub(super) fn insert(&mut self, count: usize) {
        let count = count.clamp(1, COLUMNS_MAX);
        if self.cursor < self.cells.len() && self.cells.len() + count <= COLUMNS_MAX * 2 {
            let blank = std::iter::repeat_n(Cell::default(), count);
            self.cells.splice(self.cursor..self.cursor, blank);
            for write in self.writes.iter_mut().filter(|write| write.column >= self.cursor) {
                write.column += count;
            }
        }
    }

    /// Puts what stands on it into `text`, and the column of each byte of it into `columns`.
    pub(super) fn read(&self, text: &mut Vec<u8>, columns: &mut Vec<usize>) {
        text.clear();
        columns.clear();
        let mut encoded = [0; 4];
        for (column, cell) in self.cells.iter().enumerate() {
            let character = if cell.character == '\0' { ' ' } else { cell.character };
            text.extend_from_slice(character.encode_utf8(&mut encoded).as_bytes());
            columns.resize(text.len(), column);
        }
    }

    /// How many characters from the first column on belong to a secret whose beginning has been let go.
    pub(super) fn continued(&self) -> usize {
        if !self.cells.first().is_some_and(|cell| cell.is_secret) {
            return 0;
        }
        self.cells.iter().position(|cell| matches!(cell.character, ' ' | '\0' | '"' | '\'')).unwrap_or(self.cells.len())
    }

    /// These columns hold a secret.
    pub(super) fn mark(&mut self, columns: std::ops::Range<usize>) {
        for cell in self.cells.iter_mut().take(columns.end).skip(columns.start) {
            cell.is_secret = true;
        }
    }

    /// Forgets all but the last `keep` columns and the bytes before `from`.
    pub(super) fn forget(&mut self, keep: usize, from: usize) {
        let gone = self.cursor.saturating_sub(keep).min(self.cells.len());
        self.cells.drain(..gone);
        self.cursor -= gone;
        self.writes.retain_mut(|write| {
            let stays = write.column >= gone && write.at >= from;
            write.column = write.column.saturating_sub(gone);
            stays
        });
    }

    /// The line is over.
    pub(super) fn clear(&mut self) {
        self.cells.clear();
        self.writes.clear();
        self.cursor = 0;
        (self.is_new, self.has_moved) = (false, false);
    }
}
