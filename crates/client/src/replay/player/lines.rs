//! The lines of ours on a recording's screen: where it is, and what the keys are.
//!
//! Promises that drawing one changes nothing of the recording's own state: cursor, style, margins, link.

use std::fmt::Write as _;
use std::time::Instant;

use shellkeep_journal::Seq;
use shellkeep_protocol::query::Chunk;

use super::{Player, Stop, TICK};
use crate::replay::Console;
use crate::replay::status::Status;
use crate::report::{Failure, cut};

/// What the keys are, a line each.
const HELP: [&str; 7] = [
    " space        pause, or go on",
    " .            one step, while paused",
    " right, n     next command",
    " left, p      this command from its start, or the one before",
    " + - > <      faster, slower",
    " q, Ctrl-C    quit",
    " any key      back to the recording",
];

impl<C: Console, F: FnMut(Seq) -> Result<Chunk, Failure>> Player<'_, C, F> {
    pub(super) fn draw_status(&mut self, now: bool) -> Result<(), Stop> {
        let Some((cols, rows)) = self.console.window() else { return Ok(()) };
        let time = self.console.now();
        if self.is_helping || (!now && self.status_due.is_some_and(|due| due > time)) {
            return Ok(());
        }
        if self.note.as_ref().is_some_and(|(_, until)| *until <= time) {
            self.note = None;
        }
        self.status_due = Some(time + TICK);
        let status = self.status(time);
        let shown = if self.has_row() {
            self.over(&[(rows, status.line(cols.into()))])
        } else if self.pace.is_paused() {
            self.covered = 1;
            self.over(&[(rows, status.line(cols.into()))])
        } else if now {
            format!("\x1b]2;{}\x1b\\", status.title())
        } else {
            return Ok(());
        };
        self.console.show(&shown)?;
        Ok(())
    }

    fn status(&self, time: Instant) -> Status {
        let start_us = self.recording.info.attrs.started_at_us;
        let position_us = self.pace.position_us(self.next.as_ref().map_or(0, |next| next.time_us), time);
        let commands = &self.recording.commands;
        let current = self.begun.checked_sub(1).and_then(|place| commands.get(place));
        Status {
            position_us: position_us.saturating_sub(start_us),
            total_us: self.end_us.max(position_us).saturating_sub(start_us),
            is_paused: self.pace.is_paused(),
            speed: self.pace.speed(),
            command: current.map(|command| (command.id, commands.len() as u64, command.line.clone())),
            note: self.note.as_ref().map(|(text, _)| text.clone()),
        }
    }

    pub(super) fn help(&mut self) -> Result<(), Stop> {
        let Some((cols, rows)) = self.console.window() else { return Ok(()) };
        if !self.pace.is_paused() {
            self.pace.toggle_pause(self.console.now());
        }
        let count = HELP.len().min(rows.into());
        let first = usize::from(rows) - count;
        let pad = |line: &str| format!("{:1$}", cut(line, cols.into()), usize::from(cols));
        let row = |at: usize| u16::try_from(first + at + 1).unwrap_or(rows);
        let lines: Vec<(u16, String)> =
            HELP[..count].iter().enumerate().map(|(at, line)| (row(at), pad(line))).collect();
        let shown = self.over(&lines);
        self.console.show(&shown)?;
        self.covered = count;
        self.is_helping = true;
        Ok(())
    }

    /// Draws lines of ours, and puts everything back that this changes of the recording's state.
    fn over(&mut self, lines: &[(u16, String)]) -> String {
        let style = self.filter.style.clone();
        let mut shown = String::from("\x1b[?2026h");
        if !style.holds_cursor {
            shown.push_str("\x1b7");
        }
        shown.push_str(if style.origin { "\x1b[?6l" } else { "" });
        shown.push_str(if style.insert { "\x1b[4l" } else { "" });
        shown.push_str(if style.link.is_empty() { "" } else { "\x1b]8;;\x1b\\" });
        shown.push_str(if style.charset { "\x1b(B\x0f" } else { "" });
        for (row, line) in lines {
            // Without wrapping: a last column that is full would scroll the recording.
            let _infallible = write!(shown, "\x1b[{row};1H\x1b[?7l\x1b[0;7m{line}\x1b[m\x1b[?7h");
        }
        if style.insert {
            shown.push_str("\x1b[4h");
        }
        if !style.link.is_empty() {
            let _infallible = write!(shown, "\x1b]8;;{}\x1b\\", style.link);
        }
        if style.holds_cursor {
            // Its saved cursor stays its own; where it is now, the emulator knows.
            let (row, col) = self.screen.cursor();
            let above = if style.origin { usize::from(style.above) } else { 0 };
            shown.push_str(if style.origin { "\x1b[?6h" } else { "" });
            let _infallible = write!(shown, "\x1b[{};{col}H\x1b[m{}", row.saturating_sub(above).max(1), style.sgr);
        } else {
            shown.push_str("\x1b8");
        }
        shown.push_str("\x1b[?2026l");
        shown
    }
}
