//! The line that says where a recording is.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr as _;

use crate::report::{cut, in_one_line, printable};

/// What the line says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// Microseconds from the beginning.
    pub position_us: u64,
    /// Length of the recording.
    pub total_us: u64,
    /// Stands still.
    pub is_paused: bool,
    /// How many times faster than it was.
    pub speed: f64,
    /// Number of the command, how many there are, and its line.
    pub command: Option<(u64, u64, String)>,
    /// What was just told; shown in place of the command.
    pub note: Option<String>,
}

/// What the keys are.
const KEYS: &str = "space pause  \u{2190} \u{2192} command  + - speed  q quit";

impl Status {
    /// In `columns` columns, without a style.
    pub fn line(&self, columns: usize) -> String {
        let mut left = format!(
            " {} {} / {}",
            if self.is_paused { "paused" } else { "playing" },
            clock(self.position_us),
            clock(self.total_us)
        );
        if (self.speed - 1.0).abs() > f64::EPSILON {
            let _infallible = write!(left, "  {}x", self.speed);
        }
        match (&self.note, &self.command) {
            (Some(note), _) => {
                let _infallible = write!(left, "  {}", printable(note));
            }
            (None, Some((number, count, line))) => {
                let _infallible = write!(left, "  {number}/{count}  {}", in_one_line(line));
            }
            (None, None) => {}
        }
        let room = columns.saturating_sub(KEYS.width() + 3);
        if left.width() <= room {
            let filling = " ".repeat(columns - left.width() - KEYS.width() - 1);
            return format!("{left}{filling}{KEYS} ");
        }
        let mut line = cut(&left, columns.saturating_sub(1));
        line.extend(std::iter::repeat_n(' ', columns.saturating_sub(line.width())));
        line
    }

    /// For the title of a window.
    pub fn title(&self) -> String {
        let command = self.command.as_ref().map_or_else(String::new, |(_, _, line)| format!(": {}", in_one_line(line)));
        let paused = if self.is_paused { ", paused" } else { "" };
        cut(&format!("replay {}x{paused}{command}", self.speed), 80)
    }
}

/// Hours where there are any, minutes, seconds.
fn clock(us: u64) -> String {
    let seconds = us / 1_000_000;
    match seconds / 3600 {
        0 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_as_wide_as_the_window_whatever_it_says() {
        let mut status = Status { total_us: 3_723_000_000, speed: 2.0, ..Status::default() };
        assert!(status.line(80).starts_with(" playing 00:00 / 1:02:03  2x"));
        status.command = Some((1, 2, "\u{4e16}\u{1b}[31m\u{202e}".repeat(50)));
        for columns in 1..200 {
            let line = status.line(columns);
            assert_eq!(line.width(), columns, "{line:?}");
            assert!(!line.chars().any(char::is_control));
        }
    }
}
