//! Lines on their way into the index, looked through for secrets many at a time.
//!
//! Promises every line once and in order, what is given for a line whatever others it was looked through with, and a
//! secret left out that lies in two parts of a line that was too long to be one. Knows no file.

use super::block::Kind;
use super::lines::{At, LINE_BYTES_MAX};
use super::secrets::{KeyBlock, Lines};

/// Text that is looked through at once: enough to make the look cheap, and little to hold.
const LOOK_BYTES: usize = 64 << 10;

/// Lines that are held at most: empty ones cost memory too.
const LOOK_LINES_MAX: usize = 4 << 10;

/// Who is given lines without secrets.
pub(super) type Sink<'a> = dyn FnMut(&[u8], At, Kind) + 'a;

/// Lines that wait to be looked through.
#[derive(Debug)]
pub(super) struct Sieve {
    lines: Lines,
    /// Each with a newline behind it.
    text: Vec<u8>,
    /// Where each begins in it.
    waiting: Vec<(usize, At, Kind)>,
    /// One of them is a part of a longer line, or the one before them was.
    has_part: bool,
    /// The part that came before.
    before: String,
    found: u64,
}

impl Sieve {
    /// Whose first line goes on from what `lines` has seen.
    pub(super) fn new(lines: Lines) -> Self {
        Self { lines, text: Vec::new(), waiting: Vec::new(), has_part: false, before: String::new(), found: 0 }
    }

    /// Takes a line; gives some, now and then.
    pub(super) fn push(&mut self, line: &[u8], at: At, kind: Kind, sink: &mut Sink<'_>) {
        self.waiting.push((self.text.len(), at, kind));
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
        self.has_part |= is_part(line);
        if self.text.len() >= LOOK_BYTES || self.waiting.len() >= LOOK_LINES_MAX {
            self.flush(sink);
        }
    }

    /// Gives all lines but one that may be a part of the next.
    pub(super) fn flush(&mut self, sink: &mut Sink<'_>) {
        let keeps_last = self.waiting.last().is_some_and(|(from, ..)| is_part(&self.text[*from..self.text.len() - 1]));
        self.give(self.waiting.len() - usize::from(keeps_last), sink);
    }

    /// Gives all lines.
    pub(super) fn finish(&mut self, sink: &mut Sink<'_>) {
        self.give(self.waiting.len(), sink);
    }

    /// Whether a part of a line is held that nobody has looked through.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.before.is_empty()
    }

    /// What is known of a key that may go on in the next line.
    pub(super) fn block(&self) -> KeyBlock {
        self.lines.block()
    }

    /// One that goes on from here on its own.
    pub(super) fn branch(&self) -> Self {
        Self {
            lines: self.lines.clone(),
            text: self.text.clone(),
            waiting: self.waiting.clone(),
            has_part: self.has_part,
            before: self.before.clone(),
            found: 0,
        }
    }

    /// Lines so far in which something was left out.
    pub(super) fn found(&self) -> u64 {
        self.found
    }

    /// Gives the first `count` lines.
    fn give(&mut self, count: usize, sink: &mut Sink<'_>) {
        let end = self.waiting.get(count).map_or(self.text.len(), |(from, ..)| *from);
        let is_clean = !self.has_part && self.lines.are_none_in(&self.text[..end]);
        for index in 0..count {
            let (from, at, kind) = self.waiting[index];
            let to = self.end_of(index);
            // Command lines were looked through as a whole.
            if is_clean || kind == Kind::Command {
                sink(&self.text[from..to], at, kind);
                continue;
            }
            let line = String::from_utf8_lossy(&self.text[from..to]);
            let is_part = is_part(line.as_bytes());
            let next = self.waiting.get(index + 1).filter(|(_, _, kind)| is_part && *kind == Kind::Output);
            let behind = next.map_or(from..from, |(from, ..)| *from..self.end_of(index + 1));
            let behind = String::from_utf8_lossy(&self.text[behind]);
            let shown = self.lines.part(&self.before, &line, &behind);
            self.found += u64::from(shown != line);
            sink(shown.as_bytes(), at, kind);
            self.before = if is_part { line.into_owned() } else { String::new() };
        }
        self.text.drain(..end);
        self.waiting.drain(..count);
        for (from, ..) in &mut self.waiting {
            *from -= end;
        }
        self.has_part = !self.waiting.is_empty() || !self.before.is_empty();
    }

    fn end_of(&self, index: usize) -> usize {
        self.waiting.get(index + 1).map_or(self.text.len(), |(from, ..)| *from) - 1
    }
}

/// Whether a line is as long as one may be: then it goes on in the next.
fn is_part(line: &[u8]) -> bool {
    line.len() >= LINE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::super::secrets::Secrets;
    use super::*;

    fn passed(pieces: &[&str], flush_every: usize) -> Vec<String> {
        let mut sieve = Sieve::new(Secrets::new(&[]).unwrap().lines());
        let mut given = Vec::new();
        let mut sink = |line: &[u8], _: At, _: Kind| given.push(String::from_utf8(line.to_vec()).unwrap());
        for (index, piece) in pieces.iter().enumerate() {
            sieve.push(piece.as_bytes(), At::default(), Kind::Output, &mut sink);
            if index % flush_every == flush_every - 1 {
                sieve.flush(&mut sink);
            }
        }
        sieve.finish(&mut sink);
        assert!(!sieve.text.is_empty() || sieve.waiting.is_empty());
        given
    }

    #[test]
    fn a_secret_in_two_parts_of_a_long_line_leaves_nothing_wherever_it_was_cut() {
        let secret = format!("{}_{}", "ghp", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        for cut in 0..=secret.len() {
            let first = format!("{} {}", "x".repeat(LINE_BYTES_MAX), &secret[..cut]);
            let second = format!("{} and the rest", &secret[cut..]);
            for flush_every in [1, 2, 100] {
                let given = passed(&["one", &first, &second, "two"], flush_every);
                assert_eq!((given.len(), given[0].as_str(), given[3].as_str()), (4, "one", "two"));
                let shown = given[1].clone() + &given[2];
                assert!(
                    shown.contains("[redacted]") && shown.ends_with(" and the rest"),
                    "{}",
                    &shown[first.len() - 50..]
                );
                assert!(!shown.contains("a1B2") && !shown.contains("q7R8"), "cut at {cut}");
            }
        }
    }

    #[test]
    fn lines_are_the_same_whatever_they_were_looked_through_with() {
        let secret = format!("{}_{}", "ghp", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        let typed = format!("token {secret} here");
        let lines =
            ["plain", &typed, "-----BEGIN RSA PRIVATE KEY-----", "abcdef0123", "-----END RSA PRIVATE KEY-----", "é"];
        let expected = ["plain", "token [redacted] here", lines[2], "[redacted]", lines[4], "é"];
        for flush_every in 1..=lines.len() {
            assert_eq!(passed(&lines, flush_every), expected, "{flush_every}");
        }
    }
}
