//! What stands on the screen of a recording, to be drawn anew after a jump.
//!
//! The emulator is somebody else's and the bytes are hostile: a panic in it empties this screen and nothing else. Source of
//! the idea: `avt`'s dump, which makes an empty terminal of the same size look the same.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use avt::{Color, Pen, Terminal};
use shellkeep_daemon::index::plain::SIZE_DEFAULT;

/// Largest window that is emulated, in columns and rows: a hostile record may say 65,535 of each.
const SIDE_MAX: u16 = 1000;

/// A screen.
pub struct Screen {
    size: (u16, u16),
    terminal: Option<Terminal>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Screen {
    /// An empty one of `size`: columns, rows.
    pub fn new(size: (u16, u16)) -> Self {
        let size = clamped(size);
        Self { size, terminal: Terminal::new(size.0.into(), size.1.into()).ok() }
    }

    /// Columns and rows.
    pub fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Takes what is shown.
    pub fn feed(&mut self, text: &str) {
        self.guarded(|terminal| terminal.feed(text));
    }

    /// The window has another size.
    pub fn resize(&mut self, size: (u16, u16)) {
        self.size = clamped(size);
        let (cols, rows) = self.size;
        self.guarded(|terminal| terminal.resize(cols.into(), rows.into()));
    }

    /// What makes an empty terminal look like this one.
    pub fn dump(&mut self) -> String {
        self.guarded(|terminal| terminal.dump()).unwrap_or_default()
    }

    /// Row and column of the cursor, from 1. The column may be one behind the last.
    pub fn cursor(&mut self) -> (usize, usize) {
        self.guarded(|terminal| (terminal.cursor().row + 1, terminal.cursor().col + 1)).unwrap_or((1, 1))
    }

    /// What draws this row, counted from 0, over whatever stands there. Begins and ends with a plain style.
    pub fn row(&mut self, row: usize) -> String {
        let draw = |terminal: &mut Terminal| {
            let mut drawn = String::from("\x1b[m\x1b[2K");
            let Some(line) = terminal.screen().line(row) else { return drawn };
            for cells in line.chunks(|one, other| one.pen() != other.pen()) {
                let pen = cells.first().map(|cell| *cell.pen()).unwrap_or_default();
                drawn.push_str(&sgr(&pen));
                drawn.extend(cells.iter().map(avt::Cell::char));
            }
            drawn.push_str("\x1b[m");
            drawn
        };
        self.guarded(draw).unwrap_or_default()
    }

    fn guarded<T>(&mut self, act: impl FnOnce(&mut Terminal) -> T) -> Option<T> {
        let terminal = self.terminal.as_mut()?;
        let done = catch_unwind(AssertUnwindSafe(|| act(terminal))).ok();
        if done.is_none() {
            self.terminal = Terminal::new(self.size.0.into(), self.size.1.into()).ok();
        }
        done
    }
}

fn clamped((cols, rows): (u16, u16)) -> (u16, u16) {
    let or = |value, default| if value == 0 { default } else { value };
    (or(cols, SIZE_DEFAULT.0).min(SIDE_MAX), or(rows, SIZE_DEFAULT.1).min(SIDE_MAX))
}

fn sgr(pen: &Pen) -> String {
    let mut sgr = String::from("\x1b[0");
    let flags = [
        (pen.is_bold(), 1),
        (pen.is_faint(), 2),
        (pen.is_italic(), 3),
        (pen.is_underline(), 4),
        (pen.is_blink(), 5),
        (pen.is_inverse(), 7),
        (pen.is_strikethrough(), 9),
    ];
    for (_, code) in flags.iter().filter(|(is_set, _)| *is_set) {
        let _infallible = write!(sgr, ";{code}");
    }
    for (color, code) in [(pen.foreground(), 38), (pen.background(), 48)] {
        let _infallible = match color {
            Some(Color::Indexed(index)) => write!(sgr, ";{code};5;{index}"),
            Some(Color::RGB(rgb)) => write!(sgr, ";{code};2;{};{};{}", rgb.r, rgb.g, rgb.b),
            None => Ok(()),
        };
    }
    sgr + "m"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_makes_the_same_screen() {
        let mut screen = Screen::new((20, 4));
        screen.feed("one\r\n\x1b[1;31mtwo\x1b[m \u{4e16}\r\nthree\r\nfour\r\nfive\x1b[2;3H");
        let mut other = Screen::new((20, 4));
        other.feed(&screen.dump());
        assert_eq!(
            (0..4).map(|row| screen.row(row)).collect::<Vec<_>>(),
            (0..4).map(|row| other.row(row)).collect::<Vec<_>>()
        );
        assert_eq!(screen.cursor(), other.cursor());
        assert!(screen.row(0).starts_with("\x1b[m\x1b[2K\x1b[0;1;38;5;1mtwo\x1b[0m \u{4e16}"), "{:?}", screen.row(0));
    }

    #[test]
    fn a_window_of_any_size_is_bounded() {
        assert_eq!(Screen::new((65535, 65535)).size(), (1000, 1000));
        assert_eq!(Screen::new((0, 0)).size(), SIZE_DEFAULT);
    }
}
