//! The whole output of one thing, to read: scrolling, finding, copying. A pure machine.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};

use super::model::Target;

/// Most characters that are looked for.
const FIND_CHARS_MAX: usize = 200;
/// Lines that are shown above what was looked for.
const LINES_ABOVE_HIT: usize = 3;

/// What a key came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    /// To be shown.
    Notice(String),
    /// The output is to be copied.
    Copy(Target),
    /// Back to the list.
    Closed,
}

/// Output that is read. Lines that are wider than the window go on in the rows below.
#[derive(Debug)]
pub(super) struct Pager {
    pub(super) target: Target,
    pub(super) title: String,
    lines: Vec<Line<'static>>,
    /// For each line the row in which it begins, and behind them the number of rows.
    begins: Vec<usize>,
    /// The first row shown.
    top: usize,
    /// The line from which the next search goes on: the last hit, or the first line shown after scrolling.
    at: usize,
    /// Rows and columns that fit; told by whoever draws.
    page: usize,
    width: usize,
    pub(super) find: String,
    pub(super) is_typing: bool,
}

impl Pager {
    pub(super) fn new(target: Target, title: String, lines: Vec<Line<'static>>) -> Self {
        let begins = (0..=lines.len()).collect();
        let (find, is_typing) = (String::new(), false);
        Self { target, title, lines, begins, top: 0, at: 0, page: 1, width: 0, find, is_typing }
    }

    /// Begins where `text` first is.
    pub(super) fn begin_at(&mut self, text: &str) {
        text.clone_into(&mut self.find);
        self.at = self.lines.iter().position(|line| holds(line, text)).unwrap_or(0);
        self.top = self.begins[self.at].saturating_sub(LINES_ABOVE_HIT);
    }

    /// What of it is seen: the numbers of the first and the last line and of all, from 1.
    pub(super) fn place(&self) -> (usize, usize, usize) {
        let last = (self.top + self.page).min(self.rows()).saturating_sub(1);
        (self.line_in(self.top) + 1, self.line_in(last) + 1, self.lines.len())
    }

    /// The rows that are seen, those of hits marked.
    pub(super) fn shown(&self) -> Vec<Line<'static>> {
        let first = self.line_in(self.top);
        let skipped = self.top - self.begins[first];
        let lines = self.lines.iter().skip(first).flat_map(|line| {
            let is_hit = !self.find.is_empty() && holds(line, &self.find);
            let style = if is_hit { Style::new().bg(Color::DarkGray) } else { Style::new() };
            rows_of(line, self.width).into_iter().map(move |row| row.patch_style(style))
        });
        lines.skip(skipped).take(self.page).collect()
    }

    /// The window that it has; the last page is full.
    pub(super) fn fit(&mut self, page: u16, width: u16) {
        let width = usize::from(width).max(1);
        if self.width != width {
            let (line, is_hit) = (self.line_in(self.top), self.at != self.line_in(self.top));
            self.width = width;
            self.begins.clear();
            self.begins.push(0);
            for line in &self.lines {
                self.begins.push(self.begins.last().unwrap_or(&0) + rows_of(line, width).len());
            }
            let line = if is_hit { self.at.saturating_sub(LINES_ABOVE_HIT).max(line) } else { line };
            self.top = self.begins[line.min(self.lines.len())];
        }
        self.page = usize::from(page).max(1);
        self.top = self.top.min(self.last_top());
    }

    fn rows(&self) -> usize {
        self.begins.last().copied().unwrap_or(0)
    }

    /// The line that a row is part of.
    fn line_in(&self, row: usize) -> usize {
        self.begins.partition_point(|begin| *begin <= row).saturating_sub(1).min(self.lines.len().saturating_sub(1))
    }

    /// What a key does.
    pub(super) fn key(&mut self, key: KeyEvent) -> Said {
        if self.is_typing {
            return self.typed(key.code);
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let half = (self.page / 2).max(1).cast_signed();
        match key.code {
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Char('u') if control => self.step(-half),
            KeyCode::Char('d') if control => self.step(half),
            KeyCode::Down | KeyCode::Char('j') | KeyCode::Enter => self.step(1),
            KeyCode::PageUp | KeyCode::Char('b') => self.step(-self.page.cast_signed()),
            KeyCode::PageDown | KeyCode::Char(' ' | 'f') => self.step(self.page.cast_signed()),
            KeyCode::Home | KeyCode::Char('g') => self.show_from(0),
            KeyCode::End | KeyCode::Char('G') => self.show_from(self.last_top()),
            KeyCode::Char('/') => {
                self.is_typing = true;
                self.find.clear();
            }
            KeyCode::Char('n') => return self.found(Towards::End),
            KeyCode::Char('N') => return self.found(Towards::Start),
            KeyCode::Char('y') => return Said::Copy(self.target),
            KeyCode::Char('q') | KeyCode::Esc => return Said::Closed,
            _ => return Said::Notice("/ find  n N next  g G ends  y copy  q back".to_owned()),
        }
        Said::Nothing
    }

    fn typed(&mut self, code: KeyCode) -> Said {
        match code {
            KeyCode::Enter => {
                self.is_typing = false;
                return self.found(Towards::Here);
            }
            KeyCode::Esc => {
                self.is_typing = false;
                self.find.clear();
            }
            KeyCode::Backspace => drop(self.find.pop()),
            KeyCode::Char(character) if self.find.chars().count() < FIND_CHARS_MAX => self.find.push(character),
            _ => {}
        }
        Said::Nothing
    }

    /// Goes to the next line that has what is looked for; from the end on at the start again.
    fn found(&mut self, towards: Towards) -> Said {
        if self.find.is_empty() {
            return Said::Notice("\"/\" looks for something first".to_owned());
        }
        let count = self.lines.len();
        let has = |at: &usize| holds(&self.lines[*at], &self.find);
        let hit = match towards {
            Towards::Here => (0..count).map(|by| (self.at + by) % count).find(has),
            Towards::End => (1..=count).map(|by| (self.at + by) % count).find(has),
            Towards::Start => (1..=count).map(|by| (self.at + count - by) % count).find(has),
        };
        match hit {
            Some(at) => (self.at, self.top) = (at, self.begins[at].min(self.last_top())),
            None => return Said::Notice(format!("\"{}\" is not in it", self.find)),
        }
        Said::Nothing
    }

    fn step(&mut self, by: isize) {
        self.show_from(self.top.saturating_add_signed(by).min(self.last_top()));
    }

    fn show_from(&mut self, top: usize) {
        (self.top, self.at) = (top, self.line_in(top));
    }

    fn last_top(&self) -> usize {
        self.rows().saturating_sub(self.page)
    }
}

/// Where to look.
#[derive(Debug, Clone, Copy)]
enum Towards {
    /// This line too.
    Here,
    End,
    Start,
}

/// A line in rows of so many columns; at least one.
fn rows_of(line: &Line<'static>, width: usize) -> Vec<Line<'static>> {
    if line.width() <= width {
        return vec![line.clone()];
    }
    let (mut rows, mut row, mut free) = (Vec::new(), Line::default(), width);
    for span in &line.spans {
        let mut part = String::new();
        for character in span.content.chars() {
            let columns = Span::raw(character.encode_utf8(&mut [0; 4]) as &str).width();
            if columns > free {
                row.push_span(Span::styled(std::mem::take(&mut part), span.style));
                rows.push(std::mem::take(&mut row));
                free = width;
            }
            free = free.saturating_sub(columns);
            part.push(character);
        }
        row.push_span(Span::styled(part, span.style));
    }
    rows.push(row);
    rows
}

/// Whether a line has the text, whatever its case, unless an upper-case letter is asked for.
pub(super) fn holds(line: &Line<'_>, text: &str) -> bool {
    let whole = line.to_string();
    if text.chars().any(char::is_uppercase) { whole.contains(text) } else { whole.to_lowercase().contains(text) }
}

#[cfg(test)]
mod tests {
    use shellkeep_protocol::ids::SessionId;

    use super::*;

    fn pager() -> Pager {
        let lines = (0..100).map(|at| Line::from(format!("line {at}"))).collect();
        let mut pager = Pager::new(Target::Session(SessionId::new()), "t".to_owned(), lines);
        pager.fit(10, 80);
        pager
    }

    fn press(pager: &mut Pager, keys: &str) -> Said {
        keys.chars().fold(Said::Nothing, |_, key| {
            let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
            pager.key(KeyEvent::new(code, KeyModifiers::NONE))
        })
    }

    #[test]
    fn what_is_looked_for_is_found_from_here_on_and_around_the_end() {
        let mut pager = pager();
        assert_eq!((press(&mut pager, "/line 7\n"), pager.top), (Said::Nothing, 7));
        assert_eq!((press(&mut pager, "n"), pager.top), (Said::Nothing, 70));
        assert_eq!((press(&mut pager, "N"), pager.top), (Said::Nothing, 7));
        assert_eq!((press(&mut pager, "NN"), pager.top), (Said::Nothing, 78));
        assert_eq!(press(&mut pager, "/nowhere\n"), Said::Notice("\"nowhere\" is not in it".to_owned()));
    }

    #[test]
    fn hits_on_the_last_page_are_all_reached_and_the_page_stays_full() {
        let mut pager = pager();
        assert_eq!((press(&mut pager, "/line 99\n"), pager.top, pager.at), (Said::Nothing, 90, 99));
        press(&mut pager, "/line 9\n");
        assert_eq!((pager.top, pager.at), (90, 99), "from the last hit on");
        press(&mut pager, "N");
        assert_eq!((pager.top, pager.at), (90, 98));
        press(&mut pager, "nn");
        assert_eq!((pager.top, pager.at), (9, 9));
        pager.begin_at("line 97");
        pager.fit(30, 80);
        assert_eq!(pager.top, 70);
    }

    #[test]
    fn wide_lines_go_on_below_and_are_one_line_to_whoever_searches() {
        let text = format!("{}needle{}", "x".repeat(17), "界".repeat(11));
        let lines = vec![Line::from("one"), Line::from(text.clone()), Line::from("three")];
        let mut pager = Pager::new(Target::Session(SessionId::new()), "t".to_owned(), lines);
        pager.fit(3, 20);
        let shown: Vec<String> = pager.shown().iter().map(ToString::to_string).collect();
        assert_eq!(
            (shown[1].as_str(), shown[2].len()),
            ("xxxxxxxxxxxxxxxxxnee", 3 + 8 * 3),
            "8 wide ones in 17 columns"
        );
        assert_eq!(pager.place(), (1, 2, 3));
        press(&mut pager, "G");
        assert_eq!(pager.shown().last().unwrap().to_string(), "three");
        press(&mut pager, "g/needle\n");
        assert_eq!((pager.at, pager.top), (1, 1));
        pager.fit(3, 200);
        assert_eq!(pager.shown()[1].to_string(), text, "a wider window has it in one row");
    }

    #[test]
    fn scrolling_stops_at_both_ends() {
        let mut pager = pager();
        press(&mut pager, "kkk");
        assert_eq!(pager.top, 0);
        press(&mut pager, "Gjjj");
        assert_eq!(pager.top, 90);
    }
}
