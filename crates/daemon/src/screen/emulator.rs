//! The terminal emulator behind a trait: what has to be known of one, and avt as that one.
//!
//! Promises grid, cursor, and the modes that change how text lands on the grid. Everything else is in `modes`.

use avt::{Color, Line, Pen, Terminal};

/// A terminal emulator as this module uses it. May panic on what it does not foresee: the caller catches that.
pub trait Emulator: Send {
    /// Shows text and whole control sequences.
    fn feed(&mut self, text: &str);
    /// Gives the window another size, at least 1 × 1.
    fn resize(&mut self, cols: usize, rows: usize);
    /// Columns and rows.
    fn size(&self) -> (usize, usize);
    /// Sequences that bring an emulator of this kind and size, new, to the same grids, cursor and modes. Without the
    /// lines that were scrolled away.
    fn dump(&self) -> String;
    /// The lines that were scrolled away, oldest first, each as text with colours; behind a line that goes on in the
    /// next of them there is no end of line.
    fn scrolled(&self, out: &mut String);
    /// How many lines those are.
    fn scrolled_len(&self) -> usize;
    /// Column and row of the cursor, from 0; the column behind the last means that the next character wraps.
    fn cursor(&self) -> (usize, usize);
    /// The screen that is shown, as text with attributes: for comparisons.
    fn grid(&self) -> Vec<String>;
}

/// avt.
pub struct Avt(Terminal);

impl Avt {
    /// A new one; `None` if a side is 0.
    pub fn new(cols: usize, rows: usize, scrolled_max: usize) -> Option<Self> {
        Terminal::with_scrollback(cols, rows, Some(scrolled_max)).ok().map(Self)
    }
}

impl Emulator for Avt {
    fn feed(&mut self, text: &str) {
        self.0.feed(text);
    }

    fn resize(&mut self, cols: usize, rows: usize) {
        self.0.resize(cols, rows);
    }

    fn size(&self) -> (usize, usize) {
        self.0.size()
    }

    fn dump(&self) -> String {
        self.0.dump()
    }

    fn scrolled(&self, out: &mut String) {
        let mut pen = Pen::default();
        let mut is_begun = false;
        for line in self.0.primary_screen().all_lines().take(self.scrolled_len()) {
            write_line(line, is_begun, &mut pen, out);
            is_begun = line.is_wrapped();
        }
        set_pen(&mut pen, Pen::default(), out);
        if !out.is_empty() && !out.ends_with('\n') {
            out.push_str("\r\n");
        }
    }

    fn scrolled_len(&self) -> usize {
        self.0.primary_screen().all_lines().count() - self.0.size().1
    }

    fn cursor(&self) -> (usize, usize) {
        let cursor = self.0.cursor();
        (cursor.col, cursor.row)
    }

    fn grid(&self) -> Vec<String> {
        let shown = self.0.screen().visible_lines();
        let line = |line: &Line| {
            let (mut pen, mut out) = (Pen::default(), String::new());
            write_line(line, false, &mut pen, &mut out);
            out
        };
        shown.map(line).collect()
    }
}

/// Writes one line and its end; blanks at its end are left out. `is_begun`: the line above has wrapped into it.
fn write_line(line: &Line, is_begun: bool, pen: &mut Pen, out: &mut String) {
    let cells = line.cells();
    let is_blank = |cell: &avt::Cell| cell.char() == ' ' && cell.pen().is_default() && cell.width() == 1;
    let filled = cells.iter().rposition(|cell| !is_blank(cell)).map_or(0, |at| at + 1);
    // Such a row is reached only by printing.
    let used = if line.is_wrapped() { cells.len() } else { filled.max(usize::from(is_begun)) };
    for cell in cells[..used].iter().filter(|cell| cell.width() > 0) {
        set_pen(pen, *cell.pen(), out);
        out.push(cell.char());
    }
    if !line.is_wrapped() {
        // Scrolling fills new lines with the colour in force, and so does wrapping.
        set_pen(pen, Pen::default(), out);
        out.push_str(if is_begun && used < cells.len() { "\x1b[K\r\n" } else { "\r\n" });
    }
}

/// Writes what changes `from` into `to`.
fn set_pen(from: &mut Pen, to: Pen, out: &mut String) {
    if *from == to {
        return;
    }
    *from = to;
    out.push_str("\x1b[0");
    let attributes = [
        (to.is_bold(), ";1"),
        (to.is_faint(), ";2"),
        (to.is_italic(), ";3"),
        (to.is_underline(), ";4"),
        (to.is_blink(), ";5"),
        (to.is_inverse(), ";7"),
        (to.is_strikethrough(), ";9"),
    ];
    for (_, code) in attributes.iter().filter(|(is_set, _)| *is_set) {
        out.push_str(code);
    }
    for (colour, base) in [(to.foreground(), 30u16), (to.background(), 40)] {
        let code = match colour {
            None => continue,
            Some(Color::Indexed(index @ 0..8)) => format!(";{}", base + u16::from(index)),
            Some(Color::Indexed(index @ 8..16)) => format!(";{}", base + 52 + u16::from(index)),
            Some(Color::Indexed(index)) => format!(";{};5;{index}", base + 8),
            Some(Color::RGB(rgb)) => format!(";{};2;{};{};{}", base + 8, rgb.r, rgb.g, rgb.b),
        };
        out.push_str(&code);
    }
    out.push('m');
}
