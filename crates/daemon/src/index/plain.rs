//! Output as it was seen, for whoever has no index: text without escape sequences, with what was overwritten left out.
//!
//! Promises lines without control characters, in order, however the output is cut; what was drawn on the alternate screen
//! (by editors and pagers) is left out, because it was gone afterwards. Memory is bounded by the size of a screen.

use std::panic::{AssertUnwindSafe, catch_unwind};

use avt::Terminal;

use super::fold::{Fold, clamped};
use super::lines::At;

pub use super::fold::SIZE_DEFAULT;

/// Rows that a command line may take while it is typed. Beyond them its end is not seen.
const LINE_ROWS_MAX: usize = 200;

/// Turns output into lines.
#[derive(Debug)]
pub struct PlainText(Fold);

impl PlainText {
    /// For output of a window of `size`: columns, rows.
    pub fn new(size: (u16, u16)) -> Self {
        Self(Fold::new(size))
    }

    /// Takes the next piece of output; returns the lines that cannot change any more.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        self.0.feed(bytes, At::default(), &mut |line, _| lines.push(owned(line)));
        lines
    }

    /// The window has another size from here on.
    pub fn resize(&mut self, size: (u16, u16)) -> Vec<String> {
        let mut lines = Vec::new();
        self.0.resize(size, At::default(), &mut |line, _| lines.push(owned(line)));
        lines
    }

    /// The lines that are left.
    pub fn finish(self) -> Vec<String> {
        let mut lines = Vec::new();
        self.0.finish(&mut |line, _| lines.push(owned(line)));
        lines
    }
}

fn owned(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

/// What stands on a screen of `columns` behind `prompt` once `typed` was printed there; `None` if the emulator fails.
pub(super) fn behind_prompt(prompt: &[u8], typed: &[u8], columns: u16) -> Option<String> {
    let (columns, _) = clamped((columns, 0));
    let read = || {
        let mut terminal = Terminal::new(columns, LINE_ROWS_MAX).ok()?;
        terminal.feed(String::from_utf8_lossy(prompt).as_ref());
        let begin = terminal.cursor();
        terminal.feed(String::from_utf8_lossy(typed).as_ref());
        let screen = terminal.screen();
        let mut text = String::new();
        for (row, line) in screen.visible_lines().enumerate().skip(begin.row) {
            let skipped = if row == begin.row { begin.col } else { 0 };
            text.extend(line.chars().skip(skipped));
            if !line.is_wrapped() {
                text.truncate(text.trim_end().len());
                text.push('\n');
            }
        }
        Some(visible_lines(text.trim_end()))
    };
    catch_unwind(AssertUnwindSafe(read)).ok().flatten()
}

/// Without control characters but the ends of lines.
fn visible_lines(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(pieces: &[&[u8]]) -> Vec<String> {
        let mut text = PlainText::new((20, 4));
        let mut lines: Vec<String> = pieces.iter().flat_map(|piece| text.feed(piece)).collect();
        lines.extend(text.finish());
        lines
    }

    #[test]
    fn lines_are_what_was_last_seen_of_them() {
        let output = "one\r\n\x1b[31mtwo\x1b[0m\r\n 10%\r 50%\r100% done\r\nab\x08c\r\n".as_bytes();
        assert_eq!(plain(&[output]), ["one", "two", "100% done", "ac"]);
        let long = b"a line of more than twenty characters\r\nnext\r\n";
        assert_eq!(plain(&[long]), ["a line of more than twenty characters", "next"]);
    }

    #[test]
    fn it_is_the_same_text_wherever_output_is_cut() {
        let output =
            "é\x1b]0;title\x07 ü\r\n\x1b[1mbold\x1b[m\u{1f600}\r\nmany\r\nlines\r\nscroll\r\noff\r\n".as_bytes();
        let whole = plain(&[output]);
        assert_eq!(whole[..2], ["é ü", "bold\u{1f600}"]);
        for cut in 0..output.len() {
            assert_eq!(plain(&[&output[..cut], &output[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_was_on_the_alternate_screen_is_left_out() {
        assert_eq!(plain(&[b"before\r\n\x1b[?1049hediting\x1b[?1049lafter\r\n"]), ["before", "after"]);
    }

    #[test]
    fn no_control_byte_gets_through() {
        let hostile = b"a\x00b\x7f\xc2\x9b31mc\xff\xfe\x1b]52;c;aGk=\x07d\x1bP+q\x1b\\e\r\n";
        for line in plain(&[hostile]) {
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}
