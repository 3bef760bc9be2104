//! Links of a text, carried through an emulator that knows none.
//!
//! The emulator keeps a foreground colour for each cell and moves it with the cell, so each colour that is not in the
//! palette, and each colour inside a link, becomes the number of an [`Ink`]: what it was, and the link. Promises that text
//! and layout are untouched, and that the number of inks is bounded. Its input has been through the replay's filter, so
//! that sequences are whole and links are of the web.

use std::collections::HashMap;
use std::fmt::Write as _;

use avt::{Color, Rgb};

/// Most inks of one export. Beyond them, text has the default colour and no link.
const INKS_MAX: usize = 1 << 18;
/// Most links of one export. Beyond them, text is no link.
const LINKS_MAX: usize = 1 << 15;

/// What stands behind a colour of the emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Ink {
    foreground: Option<(u8, [u8; 3])>,
    /// Place among the links, from 1; 0 for none.
    link: u32,
}

impl Ink {
    fn new(foreground: Option<Color>, link: u32) -> Self {
        let foreground = foreground.map(|color| match color {
            Color::Indexed(index) => (0, [index, 0, 0]),
            Color::RGB(rgb) => (1, [rgb.r, rgb.g, rgb.b]),
        });
        Self { foreground, link }
    }

    /// The colour that was asked for.
    pub fn foreground(&self) -> Option<Color> {
        self.foreground.map(|(kind, [r, g, b])| if kind == 0 { Color::Indexed(r) } else { Color::rgb(r, g, b) })
    }
}

/// The inks of an export, and the state of the text that is read.
#[derive(Debug)]
pub struct Inks {
    known: Vec<Ink>,
    numbers: HashMap<Ink, u32>,
    links: Vec<String>,
    link_numbers: HashMap<String, u32>,
    foreground: Option<Color>,
    link: u32,
}

impl Default for Inks {
    fn default() -> Self {
        let none = Ink::default(); // number 0, for whatever finds no room
        Self {
            known: vec![none],
            numbers: HashMap::from([(none, 0)]),
            links: Vec::new(),
            link_numbers: HashMap::new(),
            foreground: None,
            link: 0,
        }
    }
}

impl Inks {
    /// The text for the emulator.
    pub fn pass(&mut self, text: &str) -> String {
        let mut passed = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('\x1b') {
            passed.push_str(&rest[..at]);
            rest = &rest[at..];
            let length = if let Some(body) = rest.strip_prefix("\x1b[") {
                body.find(|c| matches!(c, '@'..='~')).map_or(rest.len(), |end| end + 3)
            } else if rest.starts_with("\x1b]") {
                rest.find("\x1b\\").map_or(rest.len(), |end| end + 2)
            } else {
                1
            };
            let (sequence, behind) = rest.split_at(length);
            self.sequence(sequence, &mut passed);
            rest = behind;
        }
        passed.push_str(rest);
        passed
    }

    /// What stands behind a colour.
    pub fn ink(&self, rgb: Rgb) -> Ink {
        let number = usize::from(rgb.r) << 16 | usize::from(rgb.g) << 8 | usize::from(rgb.b);
        self.known.get(number).copied().unwrap_or_default()
    }

    /// Where an ink's link leads.
    pub fn link(&self, ink: Ink) -> Option<&str> {
        self.links.get(usize::try_from(ink.link).ok()?.checked_sub(1)?).map(String::as_str)
    }

    /// The text that comes begins anew: a new screen.
    pub fn reset(&mut self) {
        self.foreground = None;
        self.link = 0;
    }

    fn sequence(&mut self, sequence: &str, passed: &mut String) {
        if let Some(link) = sequence.strip_prefix("\x1b]8;;") {
            self.link = self.link_number(link.trim_end_matches("\x1b\\"));
            if self.link > 0 || matches!(self.foreground, Some(Color::RGB(_))) {
                return self.write(passed);
            }
            let _infallible = match self.foreground {
                Some(Color::Indexed(index)) => write!(passed, "\x1b[38;5;{index}m"),
                _ => write!(passed, "\x1b[39m"),
            };
            return;
        }
        passed.push_str(sequence);
        if let Some(parameters) = sequence.strip_prefix("\x1b[").and_then(|rest| rest.strip_suffix('m')) {
            self.foreground = foreground(parameters, self.foreground);
            if self.link > 0 || matches!(self.foreground, Some(Color::RGB(_))) {
                self.write(passed);
            }
        } else if sequence == "\x1b[!p" {
            self.reset();
        }
    }

    fn write(&mut self, passed: &mut String) {
        let ink = Ink::new(self.foreground, self.link);
        let number = match self.numbers.get(&ink) {
            Some(number) => *number,
            None if self.known.len() < INKS_MAX => {
                let number = u32::try_from(self.known.len()).unwrap_or(0);
                self.known.push(ink);
                self.numbers.insert(ink, number);
                number
            }
            None => 0,
        };
        let [_, r, g, b] = number.to_be_bytes();
        let _infallible = write!(passed, "\x1b[38;2;{r};{g};{b}m");
    }

    fn link_number(&mut self, link: &str) -> u32 {
        if link.is_empty() {
            return 0;
        }
        if let Some(number) = self.link_numbers.get(link) {
            return *number;
        }
        if self.links.len() >= LINKS_MAX {
            return 0;
        }
        self.links.push(link.to_owned());
        let number = u32::try_from(self.links.len()).unwrap_or(0);
        self.link_numbers.insert(link.to_owned(), number);
        number
    }
}

/// The foreground after an SGR sequence. Source: ECMA-48, and ITU T.416 for the forms with colons.
fn foreground(parameters: &str, before: Option<Color>) -> Option<Color> {
    let mut color = before;
    let mut parts = parameters.split(';');
    while let Some(part) = parts.next() {
        let mut fields = part.split(':');
        let first: u16 = fields.next().unwrap_or_default().parse().unwrap_or(0);
        let byte = |from: &str| from.parse::<u8>().ok();
        match first {
            0 | 39 => color = None,
            30..=37 => color = Some(Color::Indexed(u8::try_from(first - 30).unwrap_or(0))),
            90..=97 => color = Some(Color::Indexed(u8::try_from(first - 82).unwrap_or(0))),
            38 | 48 | 58 => {
                let named: Vec<&str> = fields.collect();
                let named = if named.is_empty() {
                    // The old form: the fields are parameters of their own.
                    let kind = parts.next().unwrap_or_default();
                    let count = if kind == "2" { 3 } else { 1 };
                    std::iter::once(kind).chain(parts.by_ref().take(count)).collect()
                } else {
                    named
                };
                let told = match named.as_slice() {
                    ["5", index] => byte(index).map(Color::Indexed),
                    ["2", r, g, b] | ["2", _, r, g, b, ..] => {
                        byte(r).zip(byte(g)).zip(byte(b)).map(|((r, g), b)| Color::rgb(r, g, b))
                    }
                    _ => None,
                };
                if first == 38 && told.is_some() {
                    color = told;
                }
            }
            _ => {}
        }
    }
    color
}

#[cfg(test)]
mod tests {
    use avt::Terminal;

    use super::*;

    /// Each character of the first row with the colour and link that it came out with.
    fn drawn(text: &str) -> Vec<(char, Option<Color>, Option<String>)> {
        let mut inks = Inks::default();
        let mut terminal = Terminal::new(20, 2).unwrap();
        terminal.feed(inks.pass(text).as_str());
        let line = terminal.screen().line(0).unwrap().clone();
        let one = |cell: &avt::Cell| match cell.pen().foreground() {
            Some(Color::RGB(rgb)) => {
                let ink = inks.ink(rgb);
                (cell.char(), ink.foreground(), inks.link(ink).map(str::to_owned))
            }
            other => (cell.char(), other, None),
        };
        line.cells().iter().map(one).filter(|cell| cell.0 != ' ').collect()
    }

    #[test]
    fn colours_and_links_come_out_as_they_went_in() {
        let open = "\x1b]8;;http://h\x1b\\";
        let close = "\x1b]8;;\x1b\\";
        let link = || Some("http://h".to_owned());
        let text =
            format!("a\x1b[31mb{open}c\x1b[38;2;1;2;3md\x1b[0me\x1b[1;38:5:9mf{close}g\x1b[39mh\x1b[48;2;38;2;38;94mi");
        assert_eq!(
            drawn(&text),
            [
                ('a', None, None),
                ('b', Some(Color::Indexed(1)), None),
                ('c', Some(Color::Indexed(1)), link()),
                ('d', Some(Color::rgb(1, 2, 3)), link()),
                ('e', None, link()),
                ('f', Some(Color::Indexed(9)), link()),
                ('g', Some(Color::Indexed(9)), None),
                ('h', None, None),
                ('i', Some(Color::Indexed(12)), None),
            ]
        );
    }

    /// A record's own colour cannot be taken for the number of an ink.
    #[test]
    fn no_colour_of_a_record_makes_a_link() {
        let text = "\x1b]8;;http://h\x1b\\x\x1b]8;;\x1b\\\x1b[38;2;0;0;1ma\x1b[38:2::0:0:2mb";
        assert_eq!(drawn(text)[1..], [('a', Some(Color::rgb(0, 0, 1)), None), ('b', Some(Color::rgb(0, 0, 2)), None)]);
    }
}
