//! Rows that have left the screen become lines: what was wrapped is one again, and spaces at the end go.
//!
//! Promise: no line without a bound, and none with a control character.

use serde::{Deserialize, Serialize};
use shellkeep_journal::Seq;

/// Longest line. A longer one, of a program that never ends its lines, is cut into several.
pub(super) const LINE_BYTES_MAX: usize = 64 << 10;

/// Where something was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// The record.
    pub seq: Seq,
    /// Its time, in microseconds since the Unix epoch.
    pub time_us: u64,
    /// The command that ran; 0 if none.
    pub command: u64,
}

impl Default for At {
    fn default() -> Self {
        Self { seq: Seq::FIRST, time_us: 0, command: 0 }
    }
}

/// Who is given lines: text in UTF-8, and where its first character was printed.
pub type Sink<'a> = dyn FnMut(&[u8], At) + 'a;

/// Joins rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Joiner {
    /// The rows of a line whose last one is still to come.
    pending: Vec<u8>,
    at: At,
}

impl Joiner {
    /// Takes the next row that has left the screen.
    pub(super) fn row(&mut self, text: &[u8], is_wrapped: bool, at: At, sink: &mut Sink<'_>) {
        if self.pending.is_empty() && !is_wrapped {
            return tell(text, at, sink);
        }
        if self.pending.is_empty() {
            self.at = at;
        }
        self.pending.extend_from_slice(text);
        if !is_wrapped || self.pending.len() >= LINE_BYTES_MAX {
            tell(&self.pending, self.at, sink);
            self.pending.clear();
            if self.pending.capacity() > LINE_BYTES_MAX {
                self.pending = Vec::new();
            }
        }
    }

    /// Whether the next row goes on with a line.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }
}

/// Whether a row shows nothing.
pub(super) fn is_blank(text: &[u8]) -> bool {
    trimmed(text).is_empty()
}

fn tell(text: &[u8], at: At, sink: &mut Sink<'_>) {
    let text = trimmed(text);
    // Of all control characters only DEL is shown by terminals: as nothing.
    if memchr::memchr(0x7f, text).is_some() {
        let shown: Vec<u8> = text.iter().copied().filter(|byte| *byte != 0x7f).collect();
        sink(&shown, at);
    } else {
        sink(text, at);
    }
}

/// Without white space at the end.
fn trimmed(mut text: &[u8]) -> &[u8] {
    while let Some((&last, rest)) = text.split_last() {
        if last == b' ' {
            text = rest;
        } else if last.is_ascii() {
            break;
        } else {
            let start =
                text.len() - text.iter().rev().take(4).position(|byte| byte & 0xc0 != 0x80).map_or(1, |at| at + 1);
            let end = std::str::from_utf8(&text[start..]).unwrap_or("?");
            if !end.chars().all(char::is_whitespace) {
                break;
            }
            text = &text[..start];
        }
    }
    text
}
