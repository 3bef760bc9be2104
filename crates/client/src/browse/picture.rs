//! Recorded output as styled lines, as a terminal would have shown them.
//!
//! Promises text without control characters, whatever was recorded, and bounded memory: the emulator keeps as many lines
//! as it is told to. A panic in it costs the picture, not the program. Knows no keys and no screen of ours.

use std::panic::{AssertUnwindSafe, catch_unwind};

use avt::{Cell, Color as Shade, Pen, Terminal};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// Most lines of a picture; the oldest go first.
pub(super) const LINES_MAX: usize = 20_000;

/// Window of a session that never said one.
const SIZE_DEFAULT: (u16, u16) = (80, 24);

/// What `output` looked like in a window of `size`, without what was drawn on the alternate screen: lines as they were
/// printed, also those that the window wrapped. Empty ones at the end are left out.
pub(super) fn lines(output: &[u8], size: (u16, u16)) -> Vec<Line<'static>> {
    catch_unwind(AssertUnwindSafe(|| draw(output, size))).unwrap_or_default()
}

fn draw(output: &[u8], (cols, rows): (u16, u16)) -> Vec<Line<'static>> {
    let or = |value: u16, default: u16| usize::from(if value == 0 { default } else { value });
    let size = (or(cols, SIZE_DEFAULT.0), or(rows, SIZE_DEFAULT.1));
    let Ok(mut terminal) = Terminal::with_scrollback(size.0, size.1, Some(LINES_MAX)) else { return Vec::new() };
    terminal.feed(String::from_utf8_lossy(output).as_ref());
    let (mut lines, mut cells) = (Vec::new(), Vec::new());
    for row in terminal.primary_screen().all_lines() {
        cells.extend_from_slice(row.cells());
        if !row.is_wrapped() {
            lines.push(styled(&cells));
            cells.clear();
        }
    }
    while lines.last().is_some_and(|line: &Line<'_>| line.spans.is_empty()) {
        lines.pop();
    }
    lines
}

/// One line, a span for each run of equal looks; spaces at the end that show nothing are left out.
fn styled(cells: &[Cell]) -> Line<'static> {
    let blank = |cell: &Cell| cell.char() == ' ' && cell.pen().is_default();
    let shown = cells.iter().rposition(|cell| !blank(cell)).map_or(0, |last| last + 1);
    let mut spans: Vec<Span<'static>> = Vec::new();
    for cell in cells[..shown].iter().filter(|cell| cell.width() > 0) {
        let character = if is_visible(cell.char()) { cell.char() } else { char::REPLACEMENT_CHARACTER };
        let style = style(cell.pen());
        match spans.last_mut().filter(|span| span.style == style) {
            Some(span) => span.content.to_mut().push(character),
            None => spans.push(Span::styled(character.to_string(), style)),
        }
    }
    Line::from(spans)
}

/// No emulator is trusted to leave no control character in its cells.
fn is_visible(character: char) -> bool {
    !character.is_control() && crate::report::printable(character.encode_utf8(&mut [0; 4])).chars().count() == 1
}

fn style(pen: &Pen) -> Style {
    let mut style = Style::default();
    if let Some(shade) = pen.foreground() {
        style = style.fg(colour(shade));
    }
    if let Some(shade) = pen.background() {
        style = style.bg(colour(shade));
    }
    let looks = [
        (pen.is_bold(), Modifier::BOLD),
        (pen.is_faint(), Modifier::DIM),
        (pen.is_italic(), Modifier::ITALIC),
        (pen.is_underline(), Modifier::UNDERLINED),
        (pen.is_strikethrough(), Modifier::CROSSED_OUT),
        (pen.is_inverse(), Modifier::REVERSED),
    ];
    looks.into_iter().filter(|(is, _)| *is).fold(style, |style, (_, look)| style.add_modifier(look))
}

const fn colour(shade: Shade) -> Color {
    match shade {
        Shade::Indexed(number) => Color::Indexed(number),
        Shade::RGB(rgb) => Color::Rgb(rgb.r, rgb.g, rgb.b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(output: &[u8]) -> Vec<String> {
        lines(output, (20, 4)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn output_keeps_its_colours_and_shows_what_was_last_visible() {
        let drawn = lines(b"\x1b[1;31mred\x1b[0m plain\r\n 10%\r100%\r\n", (20, 4));
        assert_eq!(drawn.len(), 2);
        let red = Style::default().fg(Color::Indexed(1)).add_modifier(Modifier::BOLD);
        assert_eq!((drawn[0].spans[0].content.as_ref(), drawn[0].spans[0].style), ("red", red));
        assert_eq!(drawn[1].to_string(), "100%");
    }

    #[test]
    fn what_the_window_wrapped_is_one_line_again() {
        let (long, wide) = ("0123456789".repeat(5), "界".repeat(15));
        assert_eq!(text(format!("{long}\r\n{wide}\r\nend\r\n").as_bytes()), [long.as_str(), &wide, "end"]);
    }

    #[test]
    fn no_control_character_and_no_reordering_one_gets_through() {
        let hostile = "a\u{9b}31mb\x1b]0;t\x07c\u{202e}d\x1b]52;c;eHh4\x07\r\n".as_bytes();
        for line in text(hostile) {
            assert!(line.chars().all(is_visible), "{line:?}");
        }
    }

    #[test]
    fn what_was_on_the_alternate_screen_and_behind_the_end_is_left_out() {
        assert_eq!(text(b"one\r\n\x1b[?1049hdrawn\x1b[?1049l\r\n\r\n"), ["one"]);
    }
}
