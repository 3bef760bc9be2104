//! Output as it was seen: text without escape sequences, with what was overwritten left out.
//!
//! Promises lines without control characters, in order, however the output is cut; what was drawn on the alternate screen
//! (by editors and pagers) is left out, because it was gone afterwards. Memory is bounded by the size of a screen. The
//! emulator is somebody else's and the bytes are hostile: a panic in it costs the text of that screen and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use avt::Terminal;
use avt::observer::Transcript;

/// Window of a session that never said one.
pub const SIZE_DEFAULT: (u16, u16) = (80, 24);

/// Rows that a command line may take while it is typed. Beyond them its end is not seen.
const LINE_ROWS_MAX: usize = 200;

/// Turns output into lines.
pub struct PlainText {
    size: (u16, u16),
    screen: Option<(Terminal, Transcript)>,
    /// The beginning of a character whose rest is still to come.
    cut: Vec<u8>,
}

impl std::fmt::Debug for PlainText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlainText").field("size", &self.size).finish_non_exhaustive()
    }
}

impl PlainText {
    /// For output of a window of `size`: columns, rows.
    pub fn new(size: (u16, u16)) -> Self {
        Self { size, screen: screen(size), cut: Vec::new() }
    }

    /// Takes the next piece of output; returns the lines that cannot change any more.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        self.cut.extend_from_slice(bytes);
        let text = self.take_text();
        self.guarded(|terminal, transcript| terminal.feed_with(text.as_str(), transcript))
    }

    /// The window has another size from here on.
    pub fn resize(&mut self, size: (u16, u16)) -> Vec<String> {
        self.size = size;
        let (cols, rows) = clamped(size);
        self.guarded(|terminal, transcript| terminal.resize_with(cols, rows, transcript))
    }

    /// The lines that are left.
    pub fn finish(mut self) -> Vec<String> {
        let Some((terminal, transcript)) = self.screen.take() else { return Vec::new() };
        let lines = catch_unwind(AssertUnwindSafe(|| transcript.finish(&terminal))).unwrap_or_default();
        lines.into_iter().map(visible).collect()
    }

    fn guarded(&mut self, act: impl FnOnce(&mut Terminal, &mut Transcript) -> Vec<String>) -> Vec<String> {
        let Some((terminal, transcript)) = &mut self.screen else { return Vec::new() };
        if let Ok(lines) = catch_unwind(AssertUnwindSafe(|| act(terminal, transcript))) {
            return lines.into_iter().map(visible).collect();
        }
        tracing::warn!("the terminal emulator failed on recorded output; its screen begins anew");
        self.screen = screen(self.size);
        Vec::new()
    }

    /// What has come as characters; bytes that are none are shown as such.
    fn take_text(&mut self) -> String {
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.cut) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.cut.clear();
                    return text;
                }
                Err(error) => {
                    let (whole, rest) = self.cut.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    let Some(bad) = error.error_len() else {
                        self.cut = rest.to_vec(); // the rest of the character is still to come
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.cut = rest[bad..].to_vec();
                }
            }
        }
    }
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

fn screen(size: (u16, u16)) -> Option<(Terminal, Transcript)> {
    let (cols, rows) = clamped(size);
    Some((Terminal::new(cols, rows).ok()?, Transcript::new()))
}

/// A window of no size shows what one of the usual size would.
fn clamped((cols, rows): (u16, u16)) -> (usize, usize) {
    let or = |value: u16, default: u16| usize::from(if value == 0 { default } else { value });
    (or(cols, SIZE_DEFAULT.0), or(rows, SIZE_DEFAULT.1))
}

/// No emulator is trusted to leave no control character in its cells.
fn visible(line: String) -> String {
    if line.chars().any(char::is_control) { line.chars().filter(|c| !c.is_control()).collect() } else { line }
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
