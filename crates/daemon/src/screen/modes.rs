//! What a terminal keeps beside its grid and the emulator does not: mouse and paste modes, keyboard protocols, the
//! cursor's shape, title, directory, colours.
//!
//! Promises that [`Modes::set`], shown to a terminal in its first state, brings it to the same modes; that nothing it
//! writes makes a terminal answer; and bounded memory. Source: xterm's control sequences; kitty's keyboard protocol.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::scan::{Csi, Token};

/// Longest title or directory that is kept, in bytes. A longer one is cut, a longer directory left out.
const TEXT_BYTES_MAX: usize = 1024;
/// Titles and keyboard modes that are put by. Beyond it the oldest go.
const STACK_MAX: usize = 16;
/// Longest value of a colour.
const COLOUR_BYTES_MAX: usize = 32;

/// Private modes that are off at first and kept here. The rest is the emulator's, or no state.
const KEPT: [u16; 19] =
    [5, 9, 45, 66, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1016, 1036, 1039, 2004, 2027, 2031];
/// Synchronised output: on while a program draws.
const SYNCHRONISED: u16 = 2026;
/// Modes that select the alternate screen.
const ALTERNATE: [u16; 3] = [47, 1047, 1049];

/// The modes of one terminal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Modes {
    /// Kept private modes that are on, in the order in which they were set: of those that exclude each other the last
    /// counts.
    on: Vec<u16>,
    keypad: bool,
    /// As in DECSCUSR; 0 is the terminal's own.
    cursor_shape: u8,
    /// Flags of the kitty keyboard protocol, of the main and of the alternate screen.
    keyboards: [Vec<u8>; 2],
    /// xterm's modifyOtherKeys.
    other_keys: u8,
    title: String,
    titles: Vec<String>,
    directory: String,
    /// By what follows `OSC`: `4;N`, `10`, `11`, `12`.
    colours: BTreeMap<(u8, u8), String>,
    /// By which mode the alternate screen was selected; 0 while the main one is.
    alternate: u16,
    /// A scroll region may be in force.
    has_margins: bool,
}

impl Modes {
    /// Notes what a token changes.
    pub fn note(&mut self, token: Token<'_>) {
        match token {
            Token::Escape(b"\x1b=") => self.keypad = true,
            Token::Escape(b"\x1b>") => self.keypad = false,
            Token::Escape(b"\x1bc") => *self = Self::default(),
            Token::Text(_) | Token::Escape(_) => {}
            Token::Csi(bytes) => self.control(Csi::of(bytes)),
            Token::Osc(bytes) => self.command(bytes),
        }
    }

    /// The window has another height.
    pub fn resized(&mut self) {
        self.has_margins = false;
    }

    /// Whether the alternate screen is shown.
    pub fn is_alternate(&self) -> bool {
        self.alternate != 0
    }

    /// By which mode it was selected; 0 if it was not.
    pub fn alternate(&self) -> u16 {
        self.alternate
    }

    /// Whether a scroll region may be in force.
    pub fn has_margins(&self) -> bool {
        self.has_margins
    }

    /// Whether a program is drawing, and wants the result shown at once.
    pub fn is_synchronised(&self) -> bool {
        self.on.contains(&SYNCHRONISED)
    }

    fn control(&mut self, csi: Csi<'_>) {
        match (csi.prefix, csi.intermediate, csi.last) {
            (Some(b'?'), None, b'h') => csi.numbers().for_each(|mode| self.switch(mode, true)),
            (Some(b'?'), None, b'l') => csi.numbers().for_each(|mode| self.switch(mode, false)),
            (None, Some(b' '), b'q') => self.cursor_shape = u8::try_from(csi.number()).unwrap_or(0).min(6),
            (None, Some(b'!'), b'p') => {
                self.keypad = false;
                self.has_margins = false;
            }
            (None, None, b'r') => self.has_margins = csi.numbers().any(|margin| margin > 1),
            (Some(b'>'), None, b'm') => {
                let mut numbers = csi.numbers();
                match (numbers.next(), numbers.next()) {
                    (Some(4), level) => self.other_keys = u8::try_from(level.unwrap_or(0)).unwrap_or(0).min(3),
                    (Some(0), None) => self.other_keys = 0,
                    _ => {}
                }
            }
            (Some(b'<' | b'=' | b'>'), None, b'u') => self.keyboard(csi),
            (None, None, b't') => match csi.number() {
                22 => push(&mut self.titles, self.title.clone()),
                23 => self.title = self.titles.pop().unwrap_or_default(),
                _ => {}
            },
            _ => {}
        }
    }

    fn switch(&mut self, mode: u16, on: bool) {
        if ALTERNATE.contains(&mode) {
            self.alternate = if on { mode } else { 0 };
        }
        if KEPT.contains(&mode) || mode == SYNCHRONISED {
            self.on.retain(|other| *other != mode);
            if on {
                self.on.push(mode);
            }
        }
    }

    fn keyboard(&mut self, csi: Csi<'_>) {
        let stack = &mut self.keyboards[usize::from(self.is_alternate())];
        let mut numbers = csi.numbers();
        let first = numbers.next().unwrap_or(0);
        let flags = u8::try_from(first).unwrap_or(0) & 0x1f;
        match csi.prefix {
            Some(b'>') => push(stack, flags),
            Some(b'<') => stack.truncate(stack.len().saturating_sub(usize::from(first.max(1)))),
            _ => {
                let now = stack.pop().unwrap_or(0);
                stack.push(match numbers.next() {
                    Some(2) => now | flags,
                    Some(3) => now & !flags,
                    _ => flags,
                });
            }
        }
    }

    fn command(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let (kind, value) = text.split_once(';').unwrap_or((&text, ""));
        match kind {
            "0" | "2" => self.title = harmless(value),
            "7" if value.len() <= TEXT_BYTES_MAX && value.bytes().all(|byte| byte.is_ascii_graphic()) => {
                value.clone_into(&mut self.directory);
            }
            "4" => {
                let mut parts = value.split(';');
                while let (Some(index), Some(colour)) = (parts.next(), parts.next()) {
                    if let (Ok(index), true) = (index.parse(), is_colour(colour)) {
                        self.colours.insert((4, index), colour.to_owned());
                    }
                }
            }
            "10" | "11" | "12" if is_colour(value) => {
                self.colours.insert((kind.parse().unwrap_or(10), 0), value.to_owned());
            }
            "104" if value.is_empty() => self.colours.retain(|(kind, _), _| *kind != 4),
            "104" => value.split(';').filter_map(|index| index.parse().ok()).for_each(|index| {
                self.colours.remove(&(4, index));
            }),
            "110" | "111" | "112" => {
                self.colours.remove(&(kind.parse().unwrap_or(110) - 100, 0));
            }
            _ => {}
        }
    }

    /// Writes what must be set before the grid is drawn: the keyboard of the main screen.
    pub fn set_main(&self, out: &mut Vec<u8>) {
        set_keyboard(&self.keyboards[0], out);
    }

    /// Writes everything else, with the session's screen selected.
    pub fn set(&self, out: &mut Vec<u8>) {
        if self.is_alternate() {
            set_keyboard(&self.keyboards[1], out);
        }
        for ((kind, index), colour) in &self.colours {
            let command = if *kind == 4 {
                format!("\x1b]4;{index};{colour}\x1b\\")
            } else {
                format!("\x1b]{kind};{colour}\x1b\\")
            };
            out.extend_from_slice(command.as_bytes());
        }
        if !self.title.is_empty() {
            out.extend_from_slice(format!("\x1b]2;{}\x1b\\", self.title).as_bytes());
        }
        if !self.directory.is_empty() {
            out.extend_from_slice(format!("\x1b]7;{}\x1b\\", self.directory).as_bytes());
        }
        if self.cursor_shape != 0 {
            out.extend_from_slice(format!("\x1b[{} q", self.cursor_shape).as_bytes());
        }
        if self.other_keys != 0 {
            out.extend_from_slice(format!("\x1b[>4;{}m", self.other_keys).as_bytes());
        }
        if self.keypad {
            out.extend_from_slice(b"\x1b=");
        }
        for mode in self.on.iter().filter(|mode| **mode != SYNCHRONISED) {
            out.extend_from_slice(format!("\x1b[?{mode}h").as_bytes());
        }
    }
}

fn set_keyboard(stack: &[u8], out: &mut Vec<u8>) {
    for flags in stack {
        out.extend_from_slice(format!("\x1b[>{flags}u").as_bytes());
    }
}

fn push<T>(stack: &mut Vec<T>, item: T) {
    if stack.len() >= STACK_MAX {
        stack.remove(0);
    }
    stack.push(item);
}

/// A title without control characters and of bounded length.
fn harmless(text: &str) -> String {
    let mut kept = String::new();
    for character in text.chars().filter(|character| !character.is_control()) {
        if kept.len() + character.len_utf8() > TEXT_BYTES_MAX {
            break;
        }
        kept.push(character);
    }
    kept
}

/// Whether it sets a colour, and asks for none.
fn is_colour(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'#' | b':' | b'/' | b'.');
    !text.is_empty() && text.len() <= COLOUR_BYTES_MAX && text.bytes().all(allowed)
}
