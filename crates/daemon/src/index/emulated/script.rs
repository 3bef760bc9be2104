//! Text as what the emulator is to do: read by its own parser, with the number of its place in the place of its colours.
//!
//! Promise: what is drawn is what the emulator would draw, but for colours; what has to be kept of a sequence that is
//! not at its end is bounded.

use std::str::Chars;

use avt::Parser;
use avt::parser::{Function, State};

use super::places::{no_pen, pen};

/// What is done at a time.
const BATCH: usize = 1 << 10;

/// Longest control sequence. A longer one is none.
const SEQUENCE_CHARS_MAX: usize = 1 << 10;

/// Ends whatever sequence has begun. Source: ECMA-48, CAN.
const CANCEL: char = '\x18';

/// Reads text in order.
#[derive(Debug, Default)]
pub(super) struct Script {
    parser: Parser,
    /// What was read of a sequence that is not at its end, as far as it matters.
    begun: String,
    /// What is to be done.
    todo: Vec<Function>,
    /// Blanks that are to be printed. At the end of a row they have no number: they are as good as nothing.
    blanks: usize,
    is_numbered: bool,
}

impl Script {
    /// Of text of which `begun` was read before.
    pub(super) fn resumed(begun: &str) -> Self {
        let mut script = Self::default();
        for character in begun.chars() {
            script.parse(character);
        }
        script
    }

    /// See [`Self::resumed`].
    pub(super) fn begun(&self) -> &str {
        &self.begun
    }

    /// Reads up to where it must be known what the screen is, or to the end: what is to be done now, and whether there
    /// may be more. Without a number what is printed has none.
    pub(super) fn read(&mut self, text: &mut Chars<'_>, number: Option<u64>) -> (std::vec::Drain<'_, Function>, bool) {
        let mut is_more = false;
        for character in text.by_ref() {
            let Some(function) = self.parse(character) else { continue };
            match function {
                Function::Sgr(_) => {}
                Function::Print(' ') => self.blanks += 1,
                Function::Print(_) | Function::Rep(_) | Function::Decaln => self.print(function, number),
                other => {
                    self.put_down_pen();
                    is_more = matches!(other, Function::Decset(_) | Function::Decrst(_) | Function::Ris);
                    self.todo.push(other);
                }
            }
            is_more |= self.todo.len() + self.blanks >= BATCH;
            if is_more {
                break;
            }
        }
        self.put_down_pen();
        (self.todo.drain(..), is_more)
    }

    fn print(&mut self, function: Function, number: Option<u64>) {
        if let Some(number) = number.filter(|_| !self.is_numbered) {
            self.print_blanks();
            self.todo.push(Function::Sgr(pen(number)));
            self.is_numbered = true;
        }
        self.print_blanks();
        self.todo.push(function);
    }

    fn print_blanks(&mut self) {
        self.todo.extend(std::iter::repeat_n(Function::Print(' '), std::mem::take(&mut self.blanks)));
    }

    fn put_down_pen(&mut self) {
        if std::mem::take(&mut self.is_numbered) {
            self.todo.push(Function::Sgr(no_pen()));
        }
        self.print_blanks();
    }

    fn parse(&mut self, character: char) -> Option<Function> {
        let before = self.parser.state;
        let function = self.parser.feed(character);
        let state = self.parser.state;
        // What is in a string shows nothing, whatever it is.
        let is_string = matches!(
            state,
            State::OscString | State::SosPmApcString | State::DcsPassthrough | State::DcsIgnore | State::CsiIgnore
        );
        if matches!(state, State::Ground | State::Escape) || ('\u{80}'..'\u{a0}').contains(&character) {
            self.begun.clear();
        }
        if state != State::Ground && (!is_string || state != before || self.begun.is_empty()) {
            self.begun.push(character);
        }
        if self.begun.len() > SEQUENCE_CHARS_MAX {
            self.begun.clear();
            self.parser.feed(CANCEL);
        }
        function
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_gone_on_with_wherever_it_was_cut_and_little_is_kept_of_an_endless_one() {
        let text = "a\x1b[31;1mb\x1b]0;title\x07\x1b[5;5Hc\x1b]8;;x\x1b\\d\x1bP1q\x1b\\\u{9b}2Ke\x1b(0f\x1b[12\n3Gg";
        let done = |pieces: &[&str]| {
            let (mut script, mut all) = (Script::default(), Vec::new());
            for piece in pieces {
                script = Script::resumed(script.begun());
                let mut chars = piece.chars();
                loop {
                    let (todo, is_more) = script.read(&mut chars, None);
                    all.extend(todo);
                    if !is_more {
                        break;
                    }
                }
            }
            all
        };
        for (cut, _) in text.char_indices() {
            assert_eq!(done(&[&text[..cut], &text[cut..]]), done(&[text]), "cut at {cut}");
        }
        for endless in ["\x1b]0;", "\x1b[1;", "\x1bP", "\x1bX", "\x1b[\x3a", "\x1b"] {
            let mut script = Script::default();
            for _ in 0..100 {
                let (mut once, mut more) = (endless.chars(), "0123456789".chars());
                let _ = script.read(&mut once, None).0;
                let _ = script.read(&mut more, None).0;
                assert!(script.begun().len() <= SEQUENCE_CHARS_MAX, "{endless:?}");
            }
        }
    }
}
