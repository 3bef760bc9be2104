//! What a session's terminal shows: the output fed to an emulator, and the state as bytes for another terminal.
//!
//! Promises that what [`Screen::show`] gives, printed on a terminal of the same size, makes it the same: grid, cursor,
//! modes, title, the screen beneath an alternate one, and the last lines that scrolled away. Nothing in it makes a
//! terminal answer. Memory is bounded whatever was printed. A cache: everything here can be made again from the log.
//! Knows no log (that is [`follow`]) and no terminal.

pub mod attributes;
pub mod checkpoint;
pub mod elide;
pub mod emulator;
pub mod follow;
pub mod modes;
pub mod render;
pub mod saved;
pub mod scan;
pub mod text;

use std::panic::AssertUnwindSafe;

use serde::{Deserialize, Serialize};

use self::elide::{Effect, Plan, effect};
use self::emulator::{Avt, Emulator};
use self::modes::Modes;
use self::scan::{Csi, Scanner, Token};
use self::text::Joined;

/// Lines above the screen that are kept.
pub const SCROLLED_LINES_MAX: usize = 300;
/// Cells of those lines: a very wide window keeps fewer.
const SCROLLED_CELLS_MAX: usize = 60_000;
/// Widest window that is emulated, and highest. Of a larger one no screen is shown.
pub const COLS_MAX: u16 = 1000;
/// See [`COLS_MAX`].
pub const ROWS_MAX: u16 = 500;
/// Largest state, and largest show, in bytes. Of a screen that needs more none is shown.
pub const STATE_BYTES_MAX: usize = 2 << 20;
/// Columns and rows where the session has none.
const SIZE_DEFAULT: (u16, u16) = (80, 24);
/// Least output for which it is worth looking what can be left out.
const ELIDE_BYTES_MIN: usize = 32 << 10;

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Columns, from 1.
    pub cols: u16,
    /// Rows, from 1.
    pub rows: u16,
}

impl Window {
    /// A window that can be emulated: a side of 0 is the usual one, larger ones are cut.
    pub fn of(cols: u16, rows: u16) -> Self {
        let side = |side: u16, usual: u16, max: u16| if side == 0 { usual } else { side.min(max) };
        Self { cols: side(cols, SIZE_DEFAULT.0, COLS_MAX), rows: side(rows, SIZE_DEFAULT.1, ROWS_MAX) }
    }

    fn kept_lines(self) -> usize {
        SCROLLED_LINES_MAX.min(SCROLLED_CELLS_MAX / usize::from(self.cols))
    }

    fn rows(self) -> usize {
        self.rows.into()
    }
}

/// What one terminal shows.
pub struct Screen {
    window: Window,
    emulator: Box<dyn Emulator>,
    scanner: Scanner,
    modes: Modes,
    joined: Joined,
    /// Nothing was missing in what was fed, as far as the screen shows it.
    is_exact: bool,
}

/// All of a screen, as bytes for [`Screen::restore`].
#[derive(Serialize, Deserialize)]
struct State {
    window: Window,
    scanner: Scanner,
    modes: Modes,
    joined: Joined,
    is_exact: bool,
    scrolled: String,
    scrolled_lines: u32,
    dump: String,
}

impl Screen {
    /// An empty one.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            emulator: new_emulator(window),
            scanner: Scanner::default(),
            modes: Modes::default(),
            joined: Joined::default(),
            is_exact: true,
        }
    }

    /// Its window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Whether nothing was missing.
    pub fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// The modes beside the grid.
    pub fn modes(&self) -> &Modes {
        &self.modes
    }

    /// Some output is missing here.
    pub fn missed(&mut self) {
        self.is_exact = false;
    }

    /// Shows the next output.
    pub fn feed(&mut self, output: &[u8]) {
        self.guarded(|this| {
            if output.len() < ELIDE_BYTES_MIN {
                this.feed_all(output);
            } else {
                this.feed_elided(output);
            }
        });
    }

    /// Shows the next output, all of it by way of the emulator: what [`Self::feed`] must equal.
    pub fn feed_whole(&mut self, output: &[u8]) {
        self.guarded(|this| this.feed_all(output));
    }

    /// Gives the window another size.
    pub fn resize(&mut self, window: Window) {
        if window != self.window {
            if window.rows != self.window.rows {
                self.modes.resized();
            }
            self.window = window;
            self.guarded(|this| {
                this.emulator.resize(window.cols.into(), window.rows.into());
                if this.modes.alternate() == 1049 {
                    this.come_back_behind_text();
                }
            });
        }
    }

    /// The lines of the main screen may have other rows now: whoever leaves the alternate one must come back to the
    /// cursor that moved with them.
    fn come_back_behind_text(&mut self) {
        if let Some(dump) = saved::at_main_cursor(&self.emulator.dump()) {
            let mut scrolled = String::new();
            self.emulator.scrolled(&mut scrolled);
            self.emulator = emulator_with(self.window, &scrolled, self.emulator.scrolled_len(), &dump);
        }
    }

    /// Does something with the emulator, which may panic on input that nobody foresaw: then it begins anew.
    fn guarded(&mut self, act: impl FnOnce(&mut Self)) {
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| act(self)));
        if done.is_err() {
            tracing::error!("the terminal emulator failed on some output; its screen begins anew");
            let fresh = Self::new(self.window);
            *self = Self { is_exact: false, ..fresh };
        }
    }

    fn feed_all(&mut self, output: &[u8]) {
        let mut scanner = std::mem::take(&mut self.scanner);
        scanner.scan(output, |token, _| self.take(token));
        self.scanner = scanner;
    }

    /// Leaves out what scrolls away.
    fn feed_elided(&mut self, output: &[u8]) {
        let mut plan = Plan::new(self.window.rows(), self.window.kept_lines());
        self.scanner.clone().scan(output, |token, behind| plan.note(token, behind));
        let Some((from, to)) = plan.left_out() else { return self.feed_all(output) };
        self.feed_all(&output[..from]);
        if self.modes.has_margins() {
            return self.feed_all(&output[from..]);
        }
        let mut scanner = std::mem::take(&mut self.scanner);
        let mut lasting = Lasting::default();
        scanner.scan(&output[from..to], |token, _| {
            self.modes.note(token);
            lasting.note(token);
        });
        self.scanner = scanner;
        self.emulator.feed(&String::from_utf8_lossy(&lasting.modes));
        self.emulator.feed(&String::from_utf8_lossy(&lasting.attributes));
        self.emulator.feed("\r");
        self.emulator.feed(&"\n".repeat(self.window.rows()));
        self.joined.interrupted();
        self.feed_all(&output[to..]);
    }

    /// Does what a token says.
    fn take(&mut self, token: Token<'_>) {
        self.modes.note(token);
        match token {
            Token::Text(text) => self.joined.show(text, &mut *self.emulator),
            Token::Osc(_) => {}
            Token::Escape(bytes) | Token::Csi(bytes) => {
                self.joined.interrupted();
                let known = attributes::known(bytes);
                if let Ok(text) = std::str::from_utf8(&known) {
                    self.emulator.feed(text);
                }
                if bytes == b"\x1b[3J" {
                    self.forget_scrolled();
                }
                if bytes == b"\x1bc" {
                    self.is_exact = true; // whatever was missing, nothing of it is left
                }
            }
        }
    }

    /// The program wants nothing to be above the screen: the emulator cannot forget it by itself.
    fn forget_scrolled(&mut self) {
        if self.emulator.scrolled_len() > 0 {
            let dump = self.emulator.dump();
            self.emulator = new_emulator(self.window);
            self.emulator.feed(&dump);
        }
    }

    /// All of it, as bytes; `None` if they are too many.
    pub fn state(&self) -> Option<Vec<u8>> {
        let mut scrolled = String::new();
        self.emulator.scrolled(&mut scrolled);
        let state = State {
            window: self.window,
            scanner: self.scanner.clone(),
            modes: self.modes.clone(),
            joined: self.joined.clone(),
            is_exact: self.is_exact,
            scrolled_lines: u32::try_from(self.emulator.scrolled_len()).unwrap_or(0),
            scrolled,
            dump: self.emulator.dump(),
        };
        let mut bytes = Vec::new();
        shellkeep_transport::encode_into(&state, &mut bytes, STATE_BYTES_MAX).ok()?;
        Some(bytes)
    }

    /// The screen that gave these bytes; `None` if none did.
    pub fn restore(state: &[u8]) -> Option<Self> {
        let State { window, scanner, modes, joined, is_exact, scrolled, scrolled_lines, dump } =
            shellkeep_transport::decode(state).ok()?;
        if Window::of(window.cols, window.rows) != window {
            return None;
        }
        let lines = usize::try_from(scrolled_lines).unwrap_or(0);
        let emulator = std::panic::catch_unwind(|| emulator_with(window, &scrolled, lines, &dump)).ok()?;
        Some(Self { window, emulator, scanner, modes, joined, is_exact })
    }

    /// What a terminal with this window must be shown to show the same; `None` if that is too much.
    pub fn show(&self, window: Window) -> Option<Vec<u8>> {
        if window != self.window {
            let mut other = Self::restore(&self.state()?)?;
            other.resize(window);
            return other.show(window);
        }
        let mut out = Vec::new();
        render::prepare(window.rows(), &mut out);
        let lines = self.emulator.scrolled_len();
        if lines > 0 {
            let mut scrolled = String::new();
            self.emulator.scrolled(&mut scrolled);
            out.extend_from_slice(self.joined.expand(&scrolled).as_bytes());
            render::scroll(window.rows(), lines.min(window.rows() - 1), &mut out);
        }
        let mut keyboard = Vec::new();
        self.modes.set_main(&mut keyboard);
        let in_place = self.modes.alternate() == 0;
        if in_place {
            out.append(&mut keyboard);
        }
        let dump = self.joined.expand(&self.emulator.dump());
        out.extend_from_slice(&render::portable(&dump, window.cols.into(), self.modes.alternate(), &keyboard));
        self.modes.set(&mut out);
        if !self.modes.is_synchronised() {
            out.extend_from_slice(b"\x1b[?2026l");
        }
        self.scanner.unfinished(&mut out);
        (out.len() <= STATE_BYTES_MAX).then_some(out)
    }

    /// The screen that is shown, for comparisons: each row with its attributes, and the cursor.
    pub fn grid(&self) -> (Vec<String>, (usize, usize)) {
        let rows = self.emulator.grid().iter().map(|row| self.joined.expand(row)).collect();
        (rows, self.emulator.cursor())
    }

    /// Bytes of memory that it takes, roughly.
    pub fn bytes(&self) -> usize {
        const CELL_BYTES: usize = 24;
        let lines = 2 * self.window.rows() + self.emulator.scrolled_len();
        lines * usize::from(self.window.cols) * CELL_BYTES
    }
}

/// A new emulator for a window that can be emulated.
fn new_emulator(window: Window) -> Box<dyn Emulator> {
    match Avt::new(window.cols.into(), window.rows.into(), window.kept_lines()) {
        Some(emulator) => Box::new(emulator),
        // A side of 0, which no window has.
        None => new_emulator(Window::of(0, 0)),
    }
}

/// An emulator with these lines above what was dumped.
fn emulator_with(window: Window, scrolled: &str, lines: usize, dump: &str) -> Box<dyn Emulator> {
    let mut emulator = new_emulator(window);
    if lines > 0 {
        emulator.feed(scrolled);
        let mut above = Vec::new();
        render::scroll(window.rows(), lines.min(window.rows() - 1), &mut above);
        emulator.feed(&String::from_utf8_lossy(&above));
    }
    emulator.feed(dump);
    emulator
}

/// What lasts of output that is left out.
#[derive(Default)]
struct Lasting {
    modes: Vec<u8>,
    /// Since they were all ended: a coloured log does that in every line.
    attributes: Vec<u8>,
}

impl Lasting {
    fn note(&mut self, token: Token<'_>) {
        match token {
            Token::Text(text) => {
                let shift = memchr::memrchr2(0x0e, 0x0f, text);
                self.modes.extend(shift.map(|at| text[at]));
            }
            Token::Csi(bytes) if bytes.ends_with(b"m") && effect(token) == Effect::State => {
                if is_reset(bytes) {
                    self.attributes.clear();
                }
                self.attributes.extend_from_slice(&attributes::known(bytes));
            }
            Token::Csi(bytes) | Token::Escape(bytes) if effect(token) == Effect::State => {
                self.modes.extend_from_slice(bytes);
            }
            _ => {}
        }
    }
}

/// Whether it ends all attributes.
fn is_reset(bytes: &[u8]) -> bool {
    let csi = Csi::of(bytes);
    (csi.prefix, csi.intermediate, csi.last, csi.has_controls) == (None, None, b'm', false)
        && csi.numbers().all(|number| number == 0)
}

#[cfg(test)]
mod tests;
