//! Output as lines of HTML: as it was last seen, with its colours and links.
//!
//! Promises lines that open and close what they open, in which nothing of a record is markup; and memory that is bounded
//! by the screen and one line. The emulator is somebody else's: a panic in it costs a screen of text and nothing else.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use avt::observer::{Observation, Observer};
use avt::operation::Operation;
use avt::parser::Function;
use avt::{Cell, Color, Line, Pen, ScreenKind, Terminal};
use unicode_width::UnicodeWidthChar as _;

use super::inks::{Ink, Inks};
use crate::replay::filter::Filter;

/// Longest line that is shown, in cells; what is behind is counted.
const LINE_CELLS_MAX: usize = 20_000;
/// Largest window that is emulated: a hostile record may say 65,535 of each.
const SIDE_MAX: u16 = 1000;

/// Turns output into lines of HTML.
pub struct Lines {
    size: (u16, u16),
    terminal: Option<Terminal>,
    filter: Filter,
    paper: Paper,
}

/// What lines are written on.
#[derive(Default)]
struct Paper {
    inks: Inks,
    /// The line that goes on, and how many cells it has.
    open: String,
    open_cells: usize,
    ready: Vec<String>,
    /// Something was drawn on the alternate screen.
    is_full_screen: bool,
}

impl Lines {
    /// In a window of `size`: columns, rows.
    pub fn new(size: (u16, u16)) -> Self {
        let size = (size.0.clamp(1, SIDE_MAX), size.1.clamp(1, SIDE_MAX));
        Self { size, terminal: terminal(size), filter: Filter::default(), paper: Paper::default() }
    }

    /// Takes output; returns the lines that cannot change any more.
    pub fn feed(&mut self, text: &str) -> Vec<String> {
        let text = self.paper.inks.pass(&self.filter.pass(text));
        self.guarded(|terminal, paper| terminal.feed_with(text.as_str(), paper))
    }

    /// The window has another size.
    pub fn resize(&mut self, size: (u16, u16)) -> Vec<String> {
        self.size = (size.0.clamp(1, SIDE_MAX), size.1.clamp(1, SIDE_MAX));
        let (cols, rows) = self.size;
        self.guarded(|terminal, paper| terminal.resize_with(cols.into(), rows.into(), paper))
    }

    /// The lines that are left; what comes then begins anew. Also whether there was a full-screen program.
    pub fn finish(&mut self) -> (Vec<String>, bool) {
        let mut lines = self.guarded(|terminal, paper| {
            paper.screen(terminal);
            std::mem::take(&mut paper.ready)
        });
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        self.terminal = terminal(self.size);
        self.filter = Filter::default();
        self.paper.inks.reset();
        (lines, std::mem::take(&mut self.paper.is_full_screen))
    }

    fn guarded(&mut self, act: impl FnOnce(&mut Terminal, &mut Paper) -> Vec<String>) -> Vec<String> {
        let (Some(terminal), paper) = (&mut self.terminal, &mut self.paper) else { return Vec::new() };
        if let Ok(lines) = catch_unwind(AssertUnwindSafe(|| act(terminal, paper))) {
            return lines;
        }
        tracing::warn!("the terminal emulator failed on recorded output; its screen begins anew");
        self.terminal = self::terminal(self.size);
        Vec::new()
    }
}

fn terminal((cols, rows): (u16, u16)) -> Option<Terminal> {
    Terminal::new(cols.into(), rows.into()).ok()
}

impl Observer for &mut Paper {
    type Output = Vec<String>;

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        if matches!(operation, Operation::Function(Function::Ris)) {
            self.screen(context.terminal());
        }
    }

    fn evicted(&mut self, _: &mut Observation<'_>, line: &Line) {
        self.line(line);
    }

    fn end(&mut self, context: &mut Observation<'_>) -> Vec<String> {
        self.is_full_screen |= context.terminal().active_screen_kind() == ScreenKind::Alternate;
        std::mem::take(&mut self.ready)
    }
}

impl Paper {
    /// All that is on the main screen.
    fn screen(&mut self, terminal: &Terminal) {
        let start = self.ready.len();
        for line in terminal.primary_screen().all_lines() {
            self.line(line);
        }
        while self.ready.len() > start && self.ready.last().is_some_and(String::is_empty) {
            self.ready.pop();
        }
    }

    fn line(&mut self, line: &Line) {
        let cells: Vec<&Cell> = line.cells().iter().filter(|cell| cell.width() > 0).collect();
        let is_wrapped = line.is_wrapped();
        let is_empty =
            |cell: &&&Cell| cell.char() == ' ' && cell.pen().background().is_none() && !cell.pen().is_inverse();
        let trailing = if is_wrapped { 0 } else { cells.iter().rev().take_while(is_empty).count() };
        let cells = &cells[..cells.len() - trailing];
        let room = LINE_CELLS_MAX.saturating_sub(self.open_cells).min(cells.len());
        let mut rest = &cells[..room];
        while let Some(first) = rest.first() {
            let same = rest.iter().take_while(|cell| cell.pen() == first.pen()).count();
            self.run(first.pen(), &rest[..same]);
            rest = &rest[same..];
        }
        self.open_cells += cells.len();
        if !is_wrapped {
            if self.open_cells > LINE_CELLS_MAX {
                let more = self.open_cells - LINE_CELLS_MAX;
                let _infallible =
                    write!(self.open, "<span class=cut>{more} more characters of this line are left out</span>");
            }
            self.open_cells = 0;
            self.ready.push(std::mem::take(&mut self.open));
        }
    }

    /// Cells of one style.
    fn run(&mut self, pen: &Pen, cells: &[&Cell]) {
        let (ink, foreground) = match pen.foreground() {
            Some(Color::RGB(rgb)) => {
                let ink = self.inks.ink(rgb);
                (ink, ink.foreground())
            }
            other => (Ink::default(), other),
        };
        let target = self.inks.link(ink).map(str::to_owned);
        if let Some(target) = &target {
            self.open.push_str("<a target=_blank rel=\"noopener noreferrer nofollow\" href=\"");
            escape(target, &mut self.open);
            self.open.push_str("\">");
        }
        let is_styled = style(pen, foreground, &mut self.open);
        characters(cells, &mut self.open);
        self.open.push_str(if is_styled { "</span>" } else { "" });
        self.open.push_str(if target.is_some() { "</a>" } else { "" });
    }
}

/// Opens a span if the style needs one.
fn style(pen: &Pen, foreground: Option<Color>, html: &mut String) -> bool {
    let (mut front, mut back) = (foreground, pen.background());
    let mut classes = String::new();
    if pen.is_inverse() {
        std::mem::swap(&mut front, &mut back);
        classes.push_str(if front.is_none() { " vf" } else { "" });
        classes.push_str(if back.is_none() { " vb" } else { "" });
    }
    let flags = [
        (pen.is_bold(), " b"),
        (pen.is_faint(), " d"),
        (pen.is_italic(), " i"),
        (pen.is_underline() && pen.is_strikethrough(), " us"),
        (pen.is_underline() && !pen.is_strikethrough(), " u"),
        (pen.is_strikethrough() && !pen.is_underline(), " s"),
    ];
    for (_, class) in flags.iter().filter(|(is_set, _)| *is_set) {
        classes.push_str(class);
    }
    let mut inline = String::new();
    for (color, letter, property) in [(front, 'f', "color"), (back, 'g', "background")] {
        let _infallible = match color {
            Some(Color::Indexed(index @ 0..16)) => write!(classes, " {letter}{index}"),
            Some(Color::Indexed(index)) => write!(inline, "{property}:#{};", cube(index)),
            Some(Color::RGB(rgb)) => write!(inline, "{property}:#{:02x}{:02x}{:02x};", rgb.r, rgb.g, rgb.b),
            None => Ok(()),
        };
    }
    // On a background of its own, the page's text colour may be unreadable.
    if let (None, Some(back)) = (front, back)
        && let Some(is_light) = is_light(back)
        && !pen.is_inverse()
    {
        inline.push_str(if is_light { "color:#111;" } else { "color:#eee;" });
    }
    if classes.is_empty() && inline.is_empty() {
        return false;
    }
    html.push_str("<span");
    if !classes.is_empty() {
        let _infallible = write!(html, " class=\"{}\"", &classes[1..]);
    }
    if !inline.is_empty() {
        let _infallible = write!(html, " style=\"{inline}\"");
    }
    html.push('>');
    true
}

/// Whether dark text is read better on it; `None` for a colour of the page's own palette. Source: ITU-R BT.601.
fn is_light(color: Color) -> Option<bool> {
    let [r, g, b] = match color {
        Color::Indexed(0..16) => return None,
        Color::Indexed(index) => {
            let [_, r, g, b] = u32::from_str_radix(&cube(index), 16).unwrap_or(0).to_be_bytes();
            [r, g, b]
        }
        Color::RGB(rgb) => [rgb.r, rgb.g, rgb.b],
    };
    Some(u32::from(r) * 299 + u32::from(g) * 587 + u32::from(b) * 114 > 140_000)
}

/// A colour of the 256 that is none of the first 16. Source: xterm's 256colres.
fn cube(index: u8) -> String {
    if index >= 232 {
        let grey = 8 + 10 * (index - 232);
        return format!("{grey:02x}{grey:02x}{grey:02x}");
    }
    let level = |value: u8| if value == 0 { 0 } else { 55 + 40 * value };
    let at = index.saturating_sub(16);
    format!("{:02x}{:02x}{:02x}", level(at / 36), level(at / 6 % 6), level(at % 6))
}

/// Wide characters take exactly two columns, unless they are joined to others.
fn characters(cells: &[&Cell], html: &mut String) {
    let mut at = 0;
    while let Some(cell) = cells.get(at) {
        let joins = |cell: &&Cell| cell.char().width() == Some(0);
        let mut end = at + 1;
        while cells.get(end).is_some_and(joins) {
            let is_joiner = cells[end].char() == '\u{200d}';
            end += 1;
            if is_joiner && end < cells.len() {
                end += 1;
            }
        }
        let is_wide = cell.width() == 2;
        html.push_str(if is_wide { "<span class=w>" } else { "" });
        for cell in &cells[at..end] {
            escape_character(cell.char(), html);
        }
        html.push_str(if is_wide { "</span>" } else { "" });
        at = end;
    }
}

/// Adds `text` to `html` as text.
pub fn escape(text: &str, html: &mut String) {
    for character in text.chars() {
        escape_character(character, html);
    }
}

fn escape_character(character: char, html: &mut String) {
    match character {
        '&' => html.push_str("&amp;"),
        '<' => html.push_str("&lt;"),
        '>' => html.push_str("&gt;"),
        '"' => html.push_str("&quot;"),
        '\'' => html.push_str("&#39;"),
        // They would show what comes in another order than it has.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            let _infallible = write!(html, "\u{ab}U+{:04X}\u{bb}", u32::from(character));
        }
        '\n' => html.push('\n'),
        _ if character.is_control() => html.push(char::REPLACEMENT_CHARACTER),
        _ => html.push(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let mut lines = Lines::new((40, 5));
        let mut all = lines.feed(text);
        all.extend(lines.finish().0);
        all
    }

    #[test]
    fn styles_are_spans() {
        assert_eq!(lines("plain\r\n\x1b[1;31mred\x1b[m x"), ["plain", "<span class=\"b f1\">red</span> x"]);
        assert_eq!(lines("\x1b[7ma\x1b[31mb"), ["<span class=\"vf vb\">a</span><span class=\"vf g1\">b</span>"]);
        assert_eq!(
            lines("\x1b[38;5;208;48;2;1;2;3;4;9mx"),
            ["<span class=\"us\" style=\"color:#ff8700;background:#010203;\">x</span>"]
        );
        assert_eq!(lines("\x1b[48;5;231mx"), ["<span style=\"background:#ffffff;color:#111;\">x</span>"]);
        assert_eq!(lines("a\r50%\r100%\r\n\x1b[44m  \x1b[m  "), ["100%", "<span class=\"g4\">  </span>"]);
    }

    #[test]
    fn only_links_of_the_web_lead_somewhere() {
        let link = |to: &str| lines(&format!("\x1b]8;;{to}\x1b\\x\x1b]8;;\x1b\\y")).concat();
        assert_eq!(
            link("https://h/?a=1&b='\"<>"),
            "<a target=_blank rel=\"noopener noreferrer nofollow\" href=\"https://h/?a=1&amp;b=&#39;&quot;&lt;&gt;\">x</a>y"
        );
        for inert in ["javascript:alert(1)", "file:///etc", "data:text/html,x", "//h", " https://h", "https://h\u{e9}"]
        {
            assert_eq!(link(inert), "xy", "{inert}");
        }
    }

    #[test]
    fn nothing_of_a_record_is_markup() {
        let hostile = "<script>&\u{202e}\u{9b}31mx\u{7f}\u{85}</pre>\x1b]0;<b>\x07";
        let all = lines(hostile).concat();
        assert!(!all.contains("<script") && !all.contains("</pre") && !all.contains("<b>"), "{all}");
        assert!(all.contains("\u{ab}U+202E\u{bb}") && !all.chars().any(char::is_control), "{all}");
    }

    #[test]
    fn it_is_the_same_wherever_output_is_cut_and_long_lines_are_bounded() {
        let text = "a\x1b[31mb\x1b]8;;http://h\x07c\r\nd\x1b]8;;\x07e\x1b[m\r\n\u{4e16}\u{1f469}\u{200d}\u{1f4bb}f\r\n"
            .repeat(5);
        let whole = lines(&text);
        for (cut, _) in text.char_indices() {
            let mut pieces = Lines::new((40, 5));
            let mut all = pieces.feed(&text[..cut]);
            all.extend(pieces.feed(&text[cut..]));
            all.extend(pieces.finish().0);
            assert_eq!(all, whole, "cut at {cut}");
        }
        let long = lines(&"x".repeat(50_000));
        assert!(
            long[0].len() < 21_000
                && long[0].ends_with("<span class=cut>30000 more characters of this line are left out</span>")
        );
    }

    #[test]
    fn a_full_screen_program_is_known() {
        let mut lines = Lines::new((40, 5));
        lines.feed("\x1b[?1049hediting");
        lines.feed("\x1b[?1049lafter");
        assert_eq!(lines.finish(), (vec!["after".to_owned()], true));
        assert_eq!(lines.finish(), (vec![], false));
    }
}
