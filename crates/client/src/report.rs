//! The only printer: errors and notices on stderr, results on stdout.
//!
//! Promises one form (`error: …`, then `hint: …`), that a broken pipe is success, and that no control byte of a name
//! or a path reaches the screen. Knows the exit codes and nothing of what failed.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Columns of a terminal that does not say how many it has.
pub const COLUMNS_USUAL: usize = 80;

/// How the program ends when it does not pass a command's own status on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Nothing found, or refused.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The daemon is needed and cannot be had.
    NoDaemon = 3,
    /// Our bug.
    Bug = 70,
    /// Another daemon has the lock.
    Locked = 75,
}

/// An error as the user sees it: what failed, on which object, why; and what to do now.
#[derive(Debug)]
pub struct Failure {
    /// What failed, without a capital or a full stop.
    pub message: String,
    /// What to do now.
    pub hint: Option<String>,
    /// The status of the program.
    pub exit: Exit,
}

impl Failure {
    /// Something was not found or is refused.
    pub fn refused(message: impl Display) -> Self {
        Self { message: message.to_string(), hint: None, exit: Exit::Refused }
    }

    /// The command line cannot be understood.
    pub fn usage(message: impl Display) -> Self {
        Self { message: message.to_string(), hint: None, exit: Exit::Usage }
    }

    /// Something happened that must not: status 70.
    pub fn bug(what: &dyn Display) -> Self {
        let message = format!("this is a bug in shellkeep: {what}");
        Self { message, hint: None, exit: Exit::Bug }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

impl From<crate::places::PlaceError> for Failure {
    fn from(error: crate::places::PlaceError) -> Self {
        Self::refused(&error).with_hint(error.hint())
    }
}

/// What a command comes to: the status of the program.
pub type Outcome = Result<ExitCode, Failure>;

/// Prints `failure` and says with which status to end.
pub fn failure(failure: &Failure) -> ExitCode {
    line("error", "31", &failure.message);
    if let Some(hint) = &failure.hint {
        line("hint", "36", hint);
    }
    ExitCode::from(failure.exit as u8)
}

/// Prints one line that the user should know and that stops nothing.
pub fn notice(message: impl Display) {
    line("shellkeep", "33", &message.to_string());
}

/// Prints one line of advice for something that went wrong without an error of ours.
pub fn hint(message: impl Display) {
    line("hint", "36", &message.to_string());
}

/// Prints a text that the user should know, in as many lines as the terminal's width asks for, each cut between words.
pub fn notice_wrapped(message: &str) {
    const LABEL_COLUMNS: usize = "shellkeep: ".len();
    match columns(io::stderr()) {
        Some(columns) => wrapped(message, columns.saturating_sub(LABEL_COLUMNS)).into_iter().for_each(notice),
        None => notice(message),
    }
}

/// Columns of a terminal; `None` if it is none, or does not say.
pub fn columns(terminal: impl std::os::fd::AsFd) -> Option<usize> {
    let columns = rustix::termios::tcgetwinsize(terminal).map_or(0, |window| window.ws_col);
    (columns > 0).then_some(columns.into())
}

/// Whether colours are wanted, as far as the environment says.
pub fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The words of `text` in lines of at most `columns`; a longer word has a line of its own.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Prints `text` on stdout as it is.
///
/// # Errors
/// A [`Failure`] if stdout takes no more; but not if its reader has gone, which is the reader's choice.
pub fn result(text: &str) -> Result<(), Failure> {
    crate::stdout::write(text.as_bytes()).map(|_reader_is_there| ())
}

/// Prints what is wrong with a command line, as the parser says it: that repeats words of the line, wherever they are from.
pub fn usage(text: &str) {
    let shown: Vec<String> = text.split('\n').map(printable).collect();
    let _nobody_left = io::stderr().lock().write_all(shown.join("\n").as_bytes());
}

/// A size for people.
#[allow(clippy::cast_precision_loss)] // three digits are shown
pub fn size(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `text` with control characters as escapes: names and paths may come from others.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_reordering(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A line of recorded text, as [`printable`] but with its tabs: what orders text anew is shown as an escape.
pub fn printable_line(line: &str) -> String {
    let parts: Vec<String> = line.split('\t').map(printable).collect();
    parts.join("\t")
}

/// As much of a line as `columns` have room for; what is left out is told by its last character.
pub fn cut(line: &str, columns: usize) -> String {
    if line.width() <= columns {
        return line.to_owned();
    }
    let mut room = columns.saturating_sub(1);
    let fits = |character: &char| {
        let width = character.width().unwrap_or(0);
        let is_room = width <= room;
        room = room.saturating_sub(width);
        is_room
    };
    line.chars().take_while(fits).chain(['…']).collect()
}

/// A command line, which may have several lines, in one of ours.
pub fn in_one_line(command: &str) -> String {
    printable(&command.replace('\n', " \u{21b5} "))
}

/// `value` as JSON on a line of its own. Whatever a terminal would act on is escaped there too: JSON asks for that only of
/// the first 32 characters, but what is recorded is hostile.
///
/// # Errors
/// If it cannot be put into JSON, which is a bug.
pub fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::bug(&error))?;
    Ok(json_escaped(&text).into_owned() + "\n")
}

/// JSON that means the same, with whatever a terminal would act on as an escape: [`json`] for what is written in pieces.
pub fn json_escaped(text: &str) -> Cow<'_, str> {
    let is_escaped = |character: char| character.is_control() || is_reordering(character);
    if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_control()) || !text.contains(is_escaped) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_escaped(character) {
            // Only in strings can they stand; all of them have four digits.
            let _infallible = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown.into()
}

/// Characters that make a terminal show text in another order than it has.
fn is_reordering(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn line(label: &str, colour: &str, message: &str) {
    let mut err = io::stderr().lock();
    let coloured = err.is_terminal() && wants_colours();
    let text = printable(message);
    let written = if coloured {
        writeln!(err, "\x1b[1;{colour}m{label}:\x1b[0m {text}")
    } else {
        writeln!(err, "{label}: {text}")
    };
    drop(written); // nobody is left to tell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("/a/very/long/path is one", 6), ["/a/very/long/path", "is one"]);
    }
}
