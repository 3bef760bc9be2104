//! Escape sequences of a simple screen: what one does to the cursor's row is done here, and whatever does more is handed
//! over to the emulator. They are read as it reads them.

use super::{Parse, Simple, Then};

/// Longest control sequence that is read here; the emulator reads longer ones.
const SEQUENCE_BYTES_MAX: usize = 64;

impl Simple {
    pub(super) fn escape(&mut self, byte: u8) -> Then {
        match byte {
            b'[' => self.parse = Parse::Control,
            b']' => self.parse = Parse::Hidden { osc: true, c2: false },
            b'P' | b'X' | b'^' | b'_' => self.parse = Parse::Hidden { osc: false, c2: false },
            // Saved positions, resets, other rows: nothing of one row.
            b'7' | b'8' | b'c' | b'D' | b'E' | b'H' | b'M' => return Then::HandOver,
            0x1b => return Then::GoOn,
            0x18 | 0x1a | 0x30..=0x7e => self.parse = Parse::Text,
            0x20..=0x2f => self.parse = Parse::Intermediate,
            _ => return Then::HandOver,
        }
        self.sequence.push(byte);
        Then::GoOn
    }

    pub(super) fn intermediate(&mut self, byte: u8) -> Then {
        match (byte, self.sequence.last()) {
            (b'0', Some(b'(' | b')')) | (b'8', Some(b'#')) => return Then::HandOver,
            (0x30..=0x7e | 0x18 | 0x1a, _) => self.parse = Parse::Text,
            _ => return Then::HandOver,
        }
        Then::GoOn
    }

    pub(super) fn control_sequence(&mut self, byte: u8) -> Then {
        match byte {
            0x20..=0x3f if self.sequence.len() < SEQUENCE_BYTES_MAX => self.sequence.push(byte),
            0x40..=0x7e => {
                self.parse = Parse::Text;
                return if self.execute(byte) { Then::GoOn } else { Then::HandOver };
            }
            0x1b => {
                self.sequence.truncate(1);
                self.parse = Parse::Escape;
            }
            0x18 | 0x1a => self.parse = Parse::Text,
            _ => return Then::HandOver,
        }
        Then::GoOn
    }

    /// Does what a control sequence says; false if that is more than a row.
    fn execute(&mut self, last: u8) -> bool {
        let parameters = &self.sequence[2..];
        if last == b'm' {
            return true;
        }
        if let Some((b'?', modes)) = parameters.split_first()
            && matches!(last, b'h' | b'l')
        {
            let changes = |mode: &[u8]| matches!(mode, b"6" | b"7" | b"47" | b"1047" | b"1048" | b"1049");
            let is_known = modes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b';'));
            return is_known
                && !modes.split(|byte| *byte == b';').any(|mode| changes(mode) || mode.first() == Some(&b'0'));
        }
        if matches!(parameters, [b'<' | b'=' | b'>' | b'?', ..]) {
            return parameters[1..].iter().all(|byte| matches!(byte, b'0'..=b'9' | b';'));
        }
        if !parameters.iter().all(|byte| matches!(byte, b'0'..=b'9' | b';')) {
            // A space before the last byte sets the cursor's shape and the like.
            return parameters.last() == Some(&b' ') && parameters.iter().filter(|byte| **byte < b'0').count() == 1;
        }
        let first = parameters.split(|byte| *byte == b';').next().unwrap_or_default();
        if first.len() > 4 {
            return false;
        }
        let number = first.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
        self.execute_in_row(last, number)
    }

    fn execute_in_row(&mut self, last: u8, number: usize) -> bool {
        let count = number.max(1);
        let (column, columns) = (self.column, self.columns);
        match last {
            b'K' => match number {
                0 => self.row.truncate(column),
                1 => self.row.erase(0..(column + 1).min(columns)),
                2 => self.row.truncate(0),
                _ => {}
            },
            b'J' => match number {
                0 => self.row.truncate(column), // nothing is below
                1 | 2 => return false,
                _ => {}
            },
            b'C' | b'a' => self.column = (column + count).min(columns - 1),
            b'D' => self.left(count),
            b'G' | b'`' => self.column = (count - 1).min(columns - 1),
            b'X' => self.row.erase(column..(column + count).min(columns)),
            b'P' => {
                let column = column.min(columns - 1);
                if !self.row.delete(column, count) {
                    return false;
                }
                self.column = column;
            }
            b'@' => {
                let column = column.min(columns - 1);
                if !self.row.insert(column, count.min(columns - column), columns) {
                    return false;
                }
                self.column = column;
            }
            // Other rows, tabs, margins, repetition, modes.
            b'A' | b'B' | b'E' | b'F' | b'H' | b'I' | b'L' | b'M' | b'S' | b'T' | b'W' | b'Z' | b'b' | b'd' | b'e'
            | b'f' | b'g' | b'h' | b'l' | b'r' | b's' | b'u' => return false,
            _ => {}
        }
        true
    }

    /// In a string that shows nothing: how many bytes of it there are.
    pub(super) fn string(&mut self, bytes: &[u8], osc: bool, mut c2: bool) -> (usize, Then) {
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                0x07 if osc => self.parse = Parse::Text,
                0x18 | 0x1a => self.parse = Parse::Text,
                0x1b => {
                    self.sequence.truncate(1);
                    self.parse = Parse::Escape;
                }
                0x80..=0x9f if c2 => {
                    // An eight-bit control character: what it means in a string the emulator knows.
                    self.sequence.extend_from_slice(&[0xc2, byte]);
                    return (at + 1, Then::HandOver);
                }
                _ => {
                    c2 = byte == 0xc2;
                    continue;
                }
            }
            return (at + 1, Then::GoOn);
        }
        self.parse = Parse::Hidden { osc, c2 };
        (bytes.len(), Then::GoOn)
    }
}
