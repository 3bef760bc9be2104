//! What need not be emulated: text that scrolls away before anybody could look.
//!
//! Promises that a screen fed what [`Plan`] leaves is the same as one fed everything: text may go only if at least a
//! screen and all kept lines come behind it, and nothing between depends on where it stood. Pure.

use memchr::memchr_iter;

use super::scan::{Csi, Token};

/// What a token means for leaving text out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Changes the grid at the cursor's row or below, or columns.
    Passing,
    /// Moves the cursor to another row, or moves rows: lines behind it may not scroll.
    Moving,
    /// Changes a state that does not depend on where the cursor is: is kept.
    State,
    /// Anything else: all before it must be emulated.
    Barrier,
    /// Nothing that an emulator knows of.
    None,
}

/// What a token other than text does.
pub fn effect(token: Token<'_>) -> Effect {
    match token {
        Token::Text(_) => Effect::Passing,
        Token::Osc(_) => Effect::None,
        Token::Escape(bytes) => match bytes {
            [0x1b, b'(' | b')', _] => Effect::State,
            [0x1b, b'=' | b'>' | b'\\'] => Effect::None,
            [0x1b, b'M'] => Effect::Moving,
            _ => Effect::Barrier,
        },
        Token::Csi(bytes) => control(Csi::of(bytes)),
    }
}

fn control(csi: Csi<'_>) -> Effect {
    if csi.has_controls {
        return Effect::Barrier;
    }
    match (csi.prefix, csi.intermediate, csi.last) {
        (None, None, b'm' | b'h' | b'l') => Effect::State,
        (Some(b'?'), None, b'h' | b'l') => {
            if csi.numbers().any(|mode| matches!(mode, 6 | 47 | 1047..=1049)) {
                Effect::Barrier
            } else {
                Effect::State
            }
        }
        (None, None, b'C' | b'D' | b'G' | b'I' | b'K' | b'P' | b'X' | b'Z' | b'@' | b'`' | b'a' | b'b') => {
            Effect::Passing
        }
        // Forgets lines of the main screen also while the alternate one is shown.
        (None, None, b'J') if csi.number() == 3 => Effect::Barrier,
        (None, None, b'A' | b'B' | b'E' | b'F' | b'H' | b'J' | b'L' | b'M' | b'S' | b'T' | b'd' | b'e' | b'f') => {
            Effect::Moving
        }
        (None, None, b'c' | b'n' | b't' | b'q') | (Some(_), None, _) | (None, Some(b' '), b'q') => Effect::None,
        _ => Effect::Barrier,
    }
}

/// Which part of a piece of output need not be emulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Lines that must come behind what is left out.
    lines_behind: usize,
    /// Rows of the window.
    rows: usize,
    barrier: usize,
    /// Where lines begin whose start is column 0, since the last token that moves, and how many ends of line came
    /// before each.
    starts: Vec<(u32, u32)>,
    ends: u32,
}

impl Plan {
    /// For a window of so many rows, above which so many lines are kept.
    pub fn new(rows: usize, kept: usize) -> Self {
        Self { lines_behind: rows + kept + 2, rows, barrier: 0, starts: Vec::new(), ends: 0 }
    }

    /// Notes a token and where the piece stands behind it.
    pub fn note(&mut self, token: Token<'_>, behind: usize) {
        match token {
            Token::Text(text) => self.text(text, behind),
            token => match effect(token) {
                Effect::Passing | Effect::State | Effect::None => {}
                Effect::Moving => self.forget(),
                Effect::Barrier => {
                    self.barrier = behind;
                    self.forget();
                }
            },
        }
    }

    fn forget(&mut self) {
        self.starts.clear();
        self.ends = 0;
    }

    fn text(&mut self, text: &[u8], behind: usize) {
        for at in memchr_iter(b'\n', text) {
            self.ends += 1;
            // Text that began in an earlier piece has no place in this one.
            let start = (behind + at + 1).checked_sub(text.len());
            if let (Some(start), Some(b'\r')) = (start, at.checked_sub(1).map(|before| text[before])) {
                self.starts.extend(u32::try_from(start).ok().map(|start| (start, self.ends)));
            }
        }
    }

    /// From where to where; `None` if everything must be emulated.
    pub fn left_out(&self) -> Option<(usize, usize)> {
        let last = self.ends.checked_sub(u32::try_from(self.lines_behind).ok()?)?;
        let found = self.starts.partition_point(|(_, ends)| *ends <= last).checked_sub(1)?;
        let (start, ends) = self.starts[found];
        let start = start as usize;
        (ends as usize >= self.rows && start > self.barrier).then_some((self.barrier, start))
    }
}
