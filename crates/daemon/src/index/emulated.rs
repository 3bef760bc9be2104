//! The screen while a program moves about on it: somebody else's emulator, watched for what leaves the screen and for
//! the moment from which the screen is simple again.
//!
//! The bytes are hostile and the code is not ours: a panic in it costs the text of that screen and nothing else.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use avt::parser::{AnsiMode, DecMode, Function};
use avt::{Charset, Line, Observation, Observer, Operation, ScreenKind, Terminal};
use serde::{Deserialize, Serialize};

use super::fold::Done;
use super::lines::{At, Joiner, Sink, is_blank};

/// The screen and what is known of it.
pub(super) struct Emulated {
    terminal: Terminal,
    modes: Modes,
    /// Where the lines on the screen began, as far as ends of lines tell.
    places: VecDeque<At>,
    /// Ends of lines since it was begun.
    lines: u32,
    /// The last thing was one.
    at_line_end: bool,
}

/// The same, to be kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SavedScreen {
    dump: String,
    modes: Modes,
    places: VecDeque<At>,
    lines: u32,
    at_line_end: bool,
}

/// What makes a screen more than rows of text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // each is a mode of its own
struct Modes {
    margins: bool,
    origin: bool,
    no_wrap: bool,
    insert: bool,
    new_line: bool,
    drawing: bool,
    shifted: bool,
    tabs: bool,
}

impl Modes {
    fn take(&mut self, function: &Function, rows: usize) {
        match function {
            Function::Decstbm(top, bottom) => {
                self.margins = *top > 1 || (*bottom != 0 && usize::from(*bottom) < rows);
            }
            Function::Decset(modes) => modes.as_slice().iter().for_each(|mode| self.dec(*mode, true)),
            Function::Decrst(modes) => modes.as_slice().iter().for_each(|mode| self.dec(*mode, false)),
            Function::Sm(modes) => modes.as_slice().iter().for_each(|mode| self.ansi(*mode, true)),
            Function::Rm(modes) => modes.as_slice().iter().for_each(|mode| self.ansi(*mode, false)),
            Function::Gzd4(charset) => self.drawing = *charset == Charset::Drawing,
            Function::So => self.shifted = true,
            Function::Si => self.shifted = false,
            Function::Hts | Function::Ctc(_) | Function::Tbc(_) => self.tabs = true,
            Function::Ris => *self = Self::default(),
            Function::Decstr => *self = Self { tabs: self.tabs, new_line: self.new_line, ..Self::default() },
            _ => {}
        }
    }

    fn dec(&mut self, mode: DecMode, on: bool) {
        match mode {
            DecMode::Origin => self.origin = on,
            DecMode::AutoWrap => self.no_wrap = !on,
            _ => {}
        }
    }

    fn ansi(&mut self, mode: AnsiMode, on: bool) {
        match mode {
            AnsiMode::Insert => self.insert = on,
            AnsiMode::NewLine => self.new_line = on,
        }
    }
}

/// Sees what the emulator does in one call.
struct Watcher<'a> {
    modes: &'a mut Modes,
    rows: usize,
    /// Rows that have left the screen.
    gone: Vec<(Vec<u8>, bool)>,
    /// The last thing was the end of a line.
    at_line_end: bool,
}

impl Observer for Watcher<'_> {
    type Output = ();

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        let Operation::Function(function) = operation else { return };
        if matches!(function, Function::Ris) {
            let rows: Vec<_> = context.terminal().primary_screen().visible_lines().map(text).collect();
            let shown = rows.iter().rposition(|(text, _)| !is_blank(text)).map_or(0, |last| last + 1);
            self.gone.extend(rows.into_iter().take(shown));
            if let Some((_, is_wrapped)) = self.gone.last_mut() {
                *is_wrapped = false;
            }
        }
        self.at_line_end = matches!(function, Function::Lf);
        self.modes.take(function, self.rows);
    }

    fn evicted(&mut self, _: &mut Observation<'_>, line: &Line) {
        self.gone.push(text(line));
    }

    fn end(&mut self, _: &mut Observation<'_>) {}
}

/// A row's text, and whether the next one goes on with its line.
fn text(line: &Line) -> (Vec<u8>, bool) {
    // No emulator is trusted to leave no control character in its cells.
    let text: String = line.chars().filter(|character| *character == '\u{7f}' || !character.is_control()).collect();
    (text.into_bytes(), line.is_wrapped())
}

impl Emulated {
    /// A screen with `done` above the cursor's row, which holds `current`. `None` if the emulator fails.
    pub(super) fn showing(
        (columns, rows): (usize, usize),
        done: &VecDeque<Done>,
        current: &[u8],
        column: usize,
        at: At,
    ) -> Option<Self> {
        let mut places: VecDeque<At> = done.iter().filter(|row| !row.is_wrapped).map(|row| row.at).collect();
        places.push_back(at);
        let mut shown = Vec::new();
        let mut is_wrapped = false;
        let open = |shown: &mut Vec<u8>, is_wrapped: bool, text: &[u8]| {
            if is_wrapped && text.is_empty() {
                shown.extend_from_slice(b" \r"); // the row is there, though what was in it is gone
            }
            shown.extend_from_slice(text);
        };
        for row in done {
            open(&mut shown, is_wrapped, &row.text);
            is_wrapped = row.is_wrapped;
            if !is_wrapped {
                shown.extend_from_slice(b"\r\n");
            }
        }
        open(&mut shown, is_wrapped, current);
        let build = || {
            let mut terminal = Terminal::new(columns, rows).ok()?;
            terminal.feed(String::from_utf8_lossy(&shown).as_ref());
            if column == 0 {
                terminal.feed("\r");
            } else if column < columns {
                terminal.feed(format!("\r\x1b[{column}C").as_str());
            } else if terminal.cursor().col < columns {
                // Beyond the last column, though the last cell was erased: written again, it is.
                terminal.feed(format!("\r\x1b[{column}C ").as_str());
            }
            Some(terminal)
        };
        let terminal = catch_unwind(AssertUnwindSafe(build)).ok().flatten()?;
        Some(Self { terminal, modes: Modes::default(), places, lines: 0, at_line_end: false })
    }

    /// Output that draws the screen.
    pub(super) fn dump(&self) -> String {
        catch_unwind(AssertUnwindSafe(|| self.terminal.dump())).unwrap_or_default()
    }

    pub(super) fn save(&self) -> SavedScreen {
        SavedScreen {
            dump: self.dump(),
            modes: self.modes,
            places: self.places.clone(),
            lines: self.lines,
            at_line_end: self.at_line_end,
        }
    }

    /// `None` if the emulator fails.
    pub(super) fn restore(saved: SavedScreen, (columns, rows): (usize, usize)) -> Option<Self> {
        let SavedScreen { dump, modes, places, lines, at_line_end } = saved;
        let build = || {
            let mut terminal = Terminal::new(columns, rows).ok()?;
            terminal.feed(dump.as_str());
            Some(terminal)
        };
        let terminal = catch_unwind(AssertUnwindSafe(build)).ok().flatten()?;
        Some(Self { terminal, modes, places, lines, at_line_end })
    }

    /// Takes text up to the end of a line at the most; false if the emulator has failed.
    pub(super) fn feed(&mut self, text: &str, at: At, joiner: &mut Joiner, sink: &mut Sink<'_>) -> bool {
        if text.ends_with('\n') {
            self.lines = self.lines.saturating_add(1);
            self.places.push_back(at);
            while self.places.len() > self.terminal.size().1 + 1 {
                self.places.pop_front();
            }
        }
        self.guarded(joiner, sink, |terminal, watcher| terminal.feed_with(text, watcher))
    }

    /// The window has another size; false if the emulator has failed.
    pub(super) fn resize(&mut self, columns: usize, rows: usize, joiner: &mut Joiner, sink: &mut Sink<'_>) -> bool {
        self.modes.margins = false;
        self.guarded(joiner, sink, |terminal, watcher| terminal.resize_with(columns, rows, watcher))
    }

    fn guarded(
        &mut self,
        joiner: &mut Joiner,
        sink: &mut Sink<'_>,
        act: impl FnOnce(&mut Terminal, &mut Watcher<'_>),
    ) -> bool {
        let rows = self.terminal.size().1;
        let mut watcher = Watcher { modes: &mut self.modes, rows, gone: Vec::new(), at_line_end: false };
        let terminal = &mut self.terminal;
        if catch_unwind(AssertUnwindSafe(|| act(terminal, &mut watcher))).is_err() {
            tracing::warn!("the terminal emulator failed on recorded output; its screen begins anew");
            return false;
        }
        self.at_line_end = watcher.at_line_end;
        for (text, is_wrapped) in watcher.gone {
            let at = self.places.front().copied().unwrap_or_default();
            if !is_wrapped && self.places.len() > 1 {
                self.places.pop_front();
            }
            joiner.row(&text, is_wrapped, at, sink);
        }
        true
    }

    /// All rows of the screen.
    pub(super) fn rows(&self) -> Vec<Done> {
        let rows = self.terminal.primary_screen().visible_lines().map(text).collect();
        self.placed(rows)
    }

    /// With the places of their lines, as well as they are known.
    fn placed(&self, rows: Vec<(Vec<u8>, bool)>) -> Vec<Done> {
        let mut places = self.places.iter().copied();
        let mut at = places.next().unwrap_or_default();
        let place = |(text, is_wrapped): (Vec<u8>, bool)| {
            let row = Done { text, is_wrapped, at };
            if !is_wrapped {
                at = places.next().unwrap_or(at);
            }
            row
        };
        rows.into_iter().map(place).collect()
    }

    /// The rows up to the cursor's and its column, if a line has just ended and nothing but rows is left of the screen.
    pub(super) fn given_back(&self, patience: u32) -> Option<(VecDeque<Done>, usize)> {
        let is_due = self.at_line_end && self.lines >= patience;
        if !is_due || self.modes != Modes::default() || self.terminal.active_screen_kind() != ScreenKind::Primary {
            return None;
        }
        let cursor = self.terminal.cursor();
        let screen = self.terminal.primary_screen();
        let is_below = screen.visible_lines().skip(cursor.row + 1).all(|line| is_blank(&text(line).0));
        if !is_below {
            return None;
        }
        let mut rows: Vec<_> = screen.visible_lines().take(cursor.row + 1).map(text).collect();
        if let Some((last, is_wrapped)) = rows.last_mut() {
            last.truncate(last.len() - last.iter().rev().take_while(|byte| **byte == b' ').count());
            *is_wrapped = false;
        }
        for (row, is_wrapped) in &mut rows {
            if !*is_wrapped {
                row.truncate(row.len() - row.iter().rev().take_while(|byte| **byte == b' ').count());
            }
        }
        Some((self.placed(rows).into(), cursor.col))
    }
}

impl std::fmt::Debug for Emulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulated").field("modes", &self.modes).finish_non_exhaustive()
    }
}
