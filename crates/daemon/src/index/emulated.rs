//! The screen while a program moves about on it: somebody else's emulator, watched for what leaves the screen and for
//! the moment from which the screen is simple again.
//!
//! The bytes are hostile and the code is not ours: a panic in it costs the text of that screen and nothing else.

mod places;
mod script;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use avt::parser::{AnsiMode, DecMode, Function};
use avt::{Charset, Line, Observation, Observer, Operation, ScreenKind, Terminal};
use serde::{Deserialize, Serialize};

use places::Places;
use script::Script;

use super::fold::Done;
use super::lines::{At, Joiner, Sink, is_blank};

/// The screen and what is known of it.
pub(super) struct Emulated {
    terminal: Terminal,
    script: Script,
    modes: Modes,
    places: Places,
    /// Where the newest row that has left the screen began: empty rows have no place of their own.
    last_at: At,
    /// Ends of lines since it was begun.
    lines: u32,
    /// The last thing was one.
    at_line_end: bool,
}

/// The same, to be kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SavedScreen {
    dump: String,
    begun: String,
    modes: Modes,
    places: Places,
    last_at: At,
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
    places: &'a Places,
    rows: usize,
    /// Rows that have left the screen.
    gone: Vec<Shown>,
    /// The last thing was the end of a line.
    at_line_end: bool,
}

/// A row, and where it began if it is not empty.
struct Shown {
    text: Vec<u8>,
    is_wrapped: bool,
    at: Option<At>,
}

impl Shown {
    fn of(line: &Line, places: &Places) -> Self {
        // No emulator is trusted to leave no control character in its cells.
        let text: String = line.chars().filter(|character| *character == '\u{7f}' || !character.is_control()).collect();
        Self { text: text.into_bytes(), is_wrapped: line.is_wrapped(), at: places.of(line) }
    }
}

impl Observer for Watcher<'_> {
    type Output = ();

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        let Operation::Function(function) = operation else { return };
        if matches!(function, Function::Ris) {
            let lines = context.terminal().primary_screen().visible_lines();
            let rows: Vec<_> = lines.map(|line| Shown::of(line, self.places)).collect();
            let shown = rows.iter().rposition(|row| !is_blank(&row.text)).map_or(0, |last| last + 1);
            self.gone.extend(rows.into_iter().take(shown));
            if let Some(last) = self.gone.last_mut() {
                last.is_wrapped = false;
            }
        }
        self.at_line_end = matches!(function, Function::Lf);
        self.modes.take(function, self.rows);
    }

    fn evicted(&mut self, _: &mut Observation<'_>, line: &Line) {
        self.gone.push(Shown::of(line, self.places));
    }

    fn end(&mut self, _: &mut Observation<'_>) {}
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
        let mut drawn: Vec<(String, At)> = Vec::new();
        let mut is_wrapped = false;
        let current = Done { text: current.to_vec(), is_wrapped: true, at };
        for row in done.iter().chain([&current]) {
            // The row is there, though what was in it is gone.
            let shown = if is_wrapped && row.text.is_empty() { b" \r" } else { row.text.as_slice() };
            let end = if row.is_wrapped { "" } else { "\r\n" };
            drawn.push((String::from_utf8_lossy(shown).into_owned() + end, row.at));
            is_wrapped = row.is_wrapped;
        }
        let mut places = Places::default();
        let build = || {
            let (mut terminal, mut script) = (Terminal::new(columns, rows).ok()?, Script::default());
            let mut draw = |text: &str, at| {
                let number = places.number(at);
                perform(&mut terminal, &mut script, text, number, ());
                terminal.cursor().col
            };
            for (text, at) in &drawn {
                draw(text, *at);
            }
            if column == 0 {
                draw("\r", at);
            } else if column < columns {
                draw(&format!("\r\x1b[{column}C"), at);
            } else if draw("", at) < columns {
                // Beyond the last column, though the last cell was erased: written again, it is.
                draw(&format!("\r\x1b[{column}C "), at);
            }
            Some((terminal, script))
        };
        let (terminal, script) = catch_unwind(AssertUnwindSafe(build)).ok().flatten()?;
        let last_at = drawn.first().map_or(at, |(_, at)| *at);
        let modes = Modes::default();
        Some(Self { terminal, script, modes, places, last_at, lines: 0, at_line_end: false })
    }

    /// Output that draws the screen.
    pub(super) fn dump(&self) -> String {
        catch_unwind(AssertUnwindSafe(|| self.terminal.dump())).unwrap_or_default()
    }

    pub(super) fn save(&self) -> SavedScreen {
        SavedScreen {
            dump: self.dump(),
            begun: self.script.begun().to_owned(),
            modes: self.modes,
            places: self.places.clone(),
            last_at: self.last_at,
            lines: self.lines,
            at_line_end: self.at_line_end,
        }
    }

    /// `None` if the emulator fails.
    pub(super) fn restore(saved: SavedScreen, (columns, rows): (usize, usize)) -> Option<Self> {
        let SavedScreen { dump, begun, modes, places, last_at, lines, at_line_end } = saved;
        let build = || {
            let mut terminal = Terminal::new(columns, rows).ok()?;
            terminal.feed(dump.as_str());
            Some((terminal, Script::resumed(&begun)))
        };
        let (terminal, script) = catch_unwind(AssertUnwindSafe(build)).ok().flatten()?;
        Some(Self { terminal, script, modes, places, last_at, lines, at_line_end })
    }

    /// Takes text up to the end of a line at the most; false if the emulator has failed.
    pub(super) fn feed(&mut self, text: &str, at: At, joiner: &mut Joiner, sink: &mut Sink<'_>) -> bool {
        if text.ends_with('\n') {
            self.lines = self.lines.saturating_add(1);
        }
        if self.places.are_many() {
            self.places.keep(self.terminal.primary_screen().visible_lines());
        }
        let number = self.places.number(at);
        self.guarded(joiner, sink, |terminal, script, watcher| perform(terminal, script, text, number, watcher))
    }

    /// The window has another size; false if the emulator has failed.
    pub(super) fn resize(&mut self, columns: usize, rows: usize, joiner: &mut Joiner, sink: &mut Sink<'_>) -> bool {
        self.modes.margins = false;
        self.guarded(joiner, sink, |terminal, _, watcher| terminal.resize_with(columns, rows, watcher))
    }

    fn guarded(
        &mut self,
        joiner: &mut Joiner,
        sink: &mut Sink<'_>,
        act: impl FnOnce(&mut Terminal, &mut Script, &mut Watcher<'_>),
    ) -> bool {
        let rows = self.terminal.size().1;
        let (modes, places) = (&mut self.modes, &self.places);
        let mut watcher = Watcher { modes, places, rows, gone: Vec::new(), at_line_end: false };
        let (terminal, script) = (&mut self.terminal, &mut self.script);
        if catch_unwind(AssertUnwindSafe(|| act(terminal, script, &mut watcher))).is_err() {
            tracing::warn!("the terminal emulator failed on recorded output; its screen begins anew");
            return false;
        }
        self.at_line_end = watcher.at_line_end;
        for Shown { text, is_wrapped, at } in watcher.gone {
            self.last_at = at.unwrap_or(self.last_at);
            joiner.row(&text, is_wrapped, self.last_at, sink);
        }
        true
    }

    /// All rows of the screen.
    pub(super) fn rows(&self) -> Vec<Done> {
        let lines = self.terminal.primary_screen().visible_lines();
        self.placed(lines.map(|line| Shown::of(line, &self.places)).collect())
    }

    /// With a place for each.
    fn placed(&self, rows: Vec<Shown>) -> Vec<Done> {
        let mut last_at = self.last_at;
        let place = |Shown { text, is_wrapped, at }| {
            last_at = at.unwrap_or(last_at);
            Done { text, is_wrapped, at: last_at }
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
        let is_below =
            screen.visible_lines().skip(cursor.row + 1).all(|line| is_blank(&Shown::of(line, &self.places).text));
        if !is_below {
            return None;
        }
        let lines = screen.visible_lines().take(cursor.row + 1);
        let mut rows: Vec<_> = lines.map(|line| Shown::of(line, &self.places)).collect();
        if let Some(last) = rows.last_mut() {
            last.is_wrapped = false;
        }
        for row in rows.iter_mut().filter(|row| !row.is_wrapped) {
            row.text.truncate(row.text.len() - row.text.iter().rev().take_while(|byte| **byte == b' ').count());
        }
        Some((self.placed(rows).into(), cursor.col))
    }
}

/// Does what a text says; what it prints on the screen that stays has this number.
fn perform<O: Observer<Output = ()>>(
    terminal: &mut Terminal,
    script: &mut Script,
    text: &str,
    number: u64,
    mut observer: O,
) {
    let mut text = text.chars();
    loop {
        let stays = terminal.active_screen_kind() == ScreenKind::Primary;
        let (todo, is_more) = script.read(&mut text, stays.then_some(number));
        terminal.execute_with(todo, &mut observer);
        if !is_more {
            return;
        }
    }
}

impl std::fmt::Debug for Emulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulated").field("modes", &self.modes).finish_non_exhaustive()
    }
}
