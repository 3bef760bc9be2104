//! What of a recording may reach the terminal that it is played in.
//!
//! Promises that nothing gets through that makes a terminal answer, that outlasts the replay (clipboard, title, colours,
//! scrollback, keyboard and mouse modes) or that reaches below the recording's rows; that what begins is also ended, so
//! that a cut sequence swallows nothing; and that it is the same wherever records cut the output. An allow-list: what is
//! not known here is left out. Source: xterm's control sequences, ECMA-48.

use std::fmt::Write as _;

/// Longest control sequence that is passed on, in characters.
const SEQUENCE_CHARS_MAX: usize = 256;
/// Longest link that is passed on, in bytes. Source: the OSC 8 specification names 2083.
const LINK_BYTES_MAX: usize = 2083;
/// Largest parameter that is passed on: no count of cells or colours is greater, and some terminals loop for it.
const PARAMETER_MAX: u32 = 65_535;

/// Private modes that change what is shown, and end with the replay.
const MODES_SHOWN: [u32; 10] = [5, 6, 7, 12, 25, 47, 1047, 1048, 1049, 2026];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    /// Behind an escape, perhaps with intermediates.
    Escape,
    /// In a control sequence.
    Sequence,
    /// In an OSC that may be a link.
    Link,
    /// In a string of any other kind.
    Other,
}

/// Reads output in order and says what may be shown.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    state: State,
    held: String,
    /// An escape came in a string: its end, if a backslash follows.
    is_string_escape: bool,
    /// Rows that the recording has, where the terminal has more.
    rows: Option<u16>,
    /// Nothing of the alternate screen is shown.
    is_main_only: bool,
    /// What was set since the last reset, to be set again after a line of ours.
    pub style: Style,
}

/// State of the terminal that a line of ours would disturb.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts; their combinations are all legal
pub struct Style {
    /// SGR sequences since the last full reset.
    pub sgr: String,
    /// The recording has saved the cursor, and will want it back.
    pub holds_cursor: bool,
    /// Cursor addresses count from the top margin.
    pub origin: bool,
    /// Rows above the top margin.
    pub above: u16,
    /// Characters are inserted.
    pub insert: bool,
    /// The alternate screen is shown.
    pub alternate: bool,
    /// The link that is open.
    pub link: String,
    /// Another character set than ASCII is in use.
    pub charset: bool,
}

impl Filter {
    /// For a recording whose rows end above the terminal's.
    pub fn limit_rows(&mut self, rows: Option<u16>) {
        self.rows = rows;
    }

    /// Without what full-screen programs draw, as a log would have it.
    pub fn main_screen() -> Self {
        Self { is_main_only: true, ..Self::default() }
    }

    /// What may be shown of `text`.
    pub fn pass(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            if self.state == State::Ground {
                let (plain, behind) = rest.split_at(rest.bytes().position(is_special).unwrap_or(rest.len()));
                if !(self.is_main_only && self.style.alternate) {
                    shown.push_str(plain);
                }
                rest = behind;
            }
            let mut characters = rest.chars();
            let Some(character) = characters.next() else { break };
            rest = characters.as_str();
            let (before, was_alternate) = (shown.len(), self.style.alternate);
            self.take(character, &mut shown);
            if self.is_main_only && (was_alternate || self.style.alternate) {
                shown.truncate(before);
            }
        }
        shown
    }

    fn take(&mut self, character: char, shown: &mut String) {
        match (self.state, character) {
            (State::Link | State::Other, _) => self.in_string(character, shown),
            (_, '\u{18}' | '\u{1a}') => self.begin(State::Ground),
            (_, '\u{1b}') => self.begin(State::Escape),
            (_, '\u{80}'..='\u{9f}') => self.c1(character, shown),
            (State::Ground, ' '..='~' | '\u{a0}'..) => shown.push(character),
            // Terminals obey controls inside sequences too.
            (_, '\u{7}'..='\u{f}') => {
                self.style.charset |= character == '\u{e}';
                shown.push(character);
            }
            (_, '\0'..='\u{1f}' | '\u{7f}') => {}
            (State::Escape, _) => self.escape(character, shown),
            (State::Sequence, _) => self.sequence(character, shown),
        }
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.held.clear();
        self.is_string_escape = false;
    }

    /// The eight-bit forms, which some terminals know, in their seven-bit ones.
    fn c1(&mut self, character: char, shown: &mut String) {
        self.begin(State::Ground);
        match character {
            '\u{84}' | '\u{85}' | '\u{88}' | '\u{8d}' => self.escape(char::from(character as u8 - 0x40), shown),
            '\u{9b}' => self.begin(State::Sequence),
            '\u{9d}' => self.begin(State::Link),
            '\u{90}' | '\u{98}' | '\u{9e}' | '\u{9f}' => self.begin(State::Other),
            _ => {}
        }
    }

    fn in_string(&mut self, character: char, shown: &mut String) {
        let is_end = matches!(character, '\u{7}' | '\u{9c}') || (self.is_string_escape && character == '\\');
        if is_end {
            if self.state == State::Link {
                self.link(shown);
            }
            return self.begin(State::Ground);
        }
        if self.is_string_escape {
            // An escape that ends nothing begins something else.
            self.begin(State::Escape);
            return self.take(character, shown);
        }
        match character {
            '\u{1b}' => self.is_string_escape = true,
            '\u{18}' | '\u{1a}' => self.begin(State::Ground),
            _ if self.state == State::Link => {
                self.held.push(character);
                let could_be = self.held.len() <= LINK_BYTES_MAX && (self.held.starts_with("8;") || self.held == "8");
                if !could_be {
                    self.begin(State::Other);
                }
            }
            _ => {}
        }
    }

    fn link(&mut self, shown: &mut String) {
        let Some((_, target)) = self.held.strip_prefix("8;").and_then(|rest| rest.split_once(';')) else { return };
        let is_web = target.starts_with("https://") || target.starts_with("http://");
        let is_plain = target.chars().all(|c| matches!(c, '!'..='~'));
        let target = if is_web && is_plain { target } else { "" };
        if self.style.link.is_empty() && target.is_empty() {
            return;
        }
        let _infallible = write!(shown, "\x1b]8;;{target}\x1b\\");
        target.clone_into(&mut self.style.link);
    }

    fn escape(&mut self, character: char, shown: &mut String) {
        if matches!(character, ' '..='/') {
            self.held.push(character); // an intermediate
            if self.held.len() > SEQUENCE_CHARS_MAX {
                self.begin(State::Ground);
                self.state = State::Ground;
            }
            return;
        }
        let held = std::mem::take(&mut self.held);
        self.state = State::Ground;
        match (held.as_str(), character) {
            ("", '[') => self.begin(State::Sequence),
            ("", ']') => self.begin(State::Link),
            ("", 'P' | 'X' | '^' | '_' | 'k') => self.begin(State::Other),
            ("", 'c') => self.reset(shown),
            ("", '7') => {
                self.style.holds_cursor = true;
                shown.push_str("\x1b7");
            }
            ("", '8') => {
                self.style.holds_cursor = false;
                shown.push_str("\x1b8");
            }
            ("", 'D' | 'E' | 'H' | 'M' | 'N' | 'O' | 'n' | 'o' | '|' | '}' | '~') => {
                let _infallible = write!(shown, "\x1b{character}");
            }
            ("(" | ")" | "*" | "+", 'B' | '0' | 'A') => {
                self.style.charset = character != 'B';
                let _infallible = write!(shown, "\x1b{held}{character}");
            }
            ("#", '8') => shown.push_str("\x1b#8"),
            _ => {}
        }
    }

    /// The whole terminal as new, but not what the user has on it besides the recording.
    fn reset(&mut self, shown: &mut String) {
        if self.style.alternate {
            shown.push_str("\x1b[?1049l");
        }
        self.style = Style::default();
        shown.push_str("\x1b[!p\x1b[?5l\x1b[?7h\x1b[m\x1b(B\x0f");
        self.margins(shown);
        shown.push_str("\x1b[H\x1b[2J");
    }

    /// The recording's rows scroll, and those below stand.
    pub fn margins(&self, shown: &mut String) {
        if let Some(rows) = self.rows {
            let _infallible = write!(shown, "\x1b[1;{rows}r");
        }
    }

    fn sequence(&mut self, character: char, shown: &mut String) {
        if !matches!(character, '@'..='~') {
            if self.held.len() <= SEQUENCE_CHARS_MAX {
                self.held.push(character); // beyond it, it is too long to be passed on
            }
            return;
        }
        let held = std::mem::take(&mut self.held);
        self.state = State::Ground;
        if held.len() > SEQUENCE_CHARS_MAX {
            return;
        }
        let split = held.find(|c: char| matches!(c, ' '..='/')).unwrap_or(held.len());
        let (parameters, intermediates) = held.split_at(split);
        match (parameters.strip_prefix('?'), intermediates, character) {
            (Some(modes), "", 'h' | 'l') => self.private_modes(modes, character, shown),
            (Some(erased), "", 'J' | 'K') if is_numbers(erased) && erased != "3" => {
                let _infallible = write!(shown, "\x1b[?{erased}{character}");
            }
            (None, "", _) if is_numbers(parameters) => self.plain(parameters, character, shown),
            (None, " ", 'q' | '@' | 'A') | (None, "\"", 'q') if is_numbers(parameters) => {
                let _infallible = write!(shown, "\x1b[{held}{character}");
            }
            (None, "!", 'p') => {
                self.style = Style { alternate: self.style.alternate, ..Style::default() };
                shown.push_str("\x1b[!p");
                self.margins(shown);
            }
            _ => {}
        }
    }

    fn plain(&mut self, parameters: &str, character: char, shown: &mut String) {
        let number = |at: usize| parameters.split(';').nth(at).and_then(|number| number.parse::<u16>().ok());
        let allowed = match character {
            '@'
            | 'A'..='I'
            | 'K'..='M'
            | 'P'
            | 'S'
            | 'X'
            | 'Z'
            | '`'
            | 'a'
            | 'b'
            | 'd'
            | 'e'
            | 'f'
            | 'g'
            | 'm'
            | 'r' => true,
            'J' => number(0) != Some(3),      // the scrollback is the user's
            'T' => !parameters.contains(';'), // with more it tracks the mouse
            's' | 'u' => parameters.is_empty(),
            'h' | 'l' => parameters.split(';').all(|mode| matches!(mode, "4" | "20")),
            _ => false,
        };
        if !allowed {
            return;
        }
        if character == 'r' {
            self.style.above = number(0).unwrap_or(1).saturating_sub(1);
        }
        match (character, self.rows) {
            ('r', Some(rows)) => {
                let bottom = number(1).filter(|bottom| (1..=rows).contains(bottom)).unwrap_or(rows);
                let _infallible = write!(shown, "\x1b[{};{bottom}r", number(0).unwrap_or(1).clamp(1, rows));
                return;
            }
            ('H' | 'f', Some(rows)) if number(0).is_some_and(|row| row > rows) => {
                let _infallible = write!(shown, "\x1b[{rows};{}{character}", number(1).unwrap_or(1));
                return;
            }
            ('d', Some(rows)) if number(0).is_some_and(|row| row > rows) => {
                let _infallible = write!(shown, "\x1b[{rows}d");
                return;
            }
            ('s' | 'u', _) => self.style.holds_cursor = character == 's',
            ('h' | 'l', _) => self.style.insert = character == 'h' && parameters.contains('4'),
            ('m', _) => self.sgr(parameters),
            _ => {}
        }
        let _infallible = write!(shown, "\x1b[{parameters}{character}");
    }

    fn sgr(&mut self, parameters: &str) {
        if matches!(parameters, "" | "0") || self.style.sgr.len() > SEQUENCE_CHARS_MAX {
            self.style.sgr.clear();
        }
        if !matches!(parameters, "" | "0") {
            let _infallible = write!(self.style.sgr, "\x1b[{parameters}m");
        }
    }

    fn private_modes(&mut self, modes: &str, character: char, shown: &mut String) {
        let is_set = character == 'h';
        let known =
            modes.split(';').filter_map(|mode| mode.parse::<u32>().ok()).filter(|mode| MODES_SHOWN.contains(mode));
        for mode in known {
            match mode {
                6 => self.style.origin = is_set,
                47 | 1047 | 1049 => {
                    self.style.alternate = is_set;
                    self.margins_before_switch(is_set, shown);
                }
                1048 => self.style.holds_cursor = is_set,
                _ => {}
            }
            let _infallible = write!(shown, "\x1b[?{mode}{character}");
            if is_set && matches!(mode, 47 | 1047 | 1049) {
                self.margins(shown); // some terminals have margins of their own for each screen
            }
        }
    }

    /// Going back restores the cursor, so margins, which move it, come first.
    fn margins_before_switch(&self, is_set: bool, shown: &mut String) {
        if !is_set {
            self.margins(shown);
        }
    }
}

/// Whether a byte of plain text may be, or begin, something else: a control, or one of the eight-bit controls.
fn is_special(byte: u8) -> bool {
    !matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t' | 0x80..) || byte == 0xc2
}

/// Numbers with their separators, none of them too great.
fn is_numbers(parameters: &str) -> bool {
    let is_number = |number: &str| number.is_empty() || number.parse::<u32>().is_ok_and(|n| n <= PARAMETER_MAX);
    parameters.split([';', ':']).all(is_number)
}

#[cfg(test)]
mod tests;
