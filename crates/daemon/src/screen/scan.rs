//! Output cut into what a terminal would do one by one: text, and whole control sequences.
//!
//! Promises that no byte is in two tokens, that a cut anywhere in the output changes no token (text may come in more
//! pieces), and that a sequence without an end costs bounded memory. Knows no meaning of any sequence.
//! Source: ECMA-48; Williams, "A parser for DEC's ANSI-compatible video terminals".

use std::mem;

use memchr::memchr;
use serde::{Deserialize, Serialize};

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
/// They end a sequence without executing it.
const CANCELS: [u8; 2] = [0x18, 0x1a];

/// Longest escape or control sequence. A longer one is skipped whole.
const SEQUENCE_BYTES_MAX: usize = 256;

/// Most bytes of a command to the operating system (title, colours) that are kept. A longer one is skipped whole.
pub const OSC_BYTES_MAX: usize = 4096;

/// One thing that a terminal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// Text and control characters. Never ends within a character, but may hold bytes that are none.
    Text(&'a [u8]),
    /// An escape sequence that is no other kind, from its ESC on.
    Escape(&'a [u8]),
    /// A control sequence, from its ESC on.
    Csi(&'a [u8]),
    /// A whole command to the operating system, without what encloses it.
    Osc(&'a [u8]),
}

/// Where the last call has left off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
enum State {
    #[default]
    Ground,
    /// Within a control sequence that is too long.
    Skipped,
    /// Within a string.
    String(Kind),
}

/// Which string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    /// Up to BEL or ST.
    Osc,
    /// Device control, privacy message and others: up to ST.
    Other,
}

/// Cuts output into tokens, across calls.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Scanner {
    state: State,
    /// The beginning of a sequence or character whose end has not come; at most [`SEQUENCE_BYTES_MAX`] bytes.
    begun: Vec<u8>,
    /// Of the string that has not ended, at most [`OSC_BYTES_MAX`] bytes and one.
    string: Vec<u8>,
}

impl Scanner {
    /// Cuts the next piece of output; `take` gets each token and where the piece stands behind it (0 if it began in an
    /// earlier piece and that is not known better).
    pub fn scan(&mut self, piece: &[u8], mut take: impl FnMut(Token<'_>, usize)) {
        if self.begun.is_empty() {
            self.run(piece, 0, &mut take);
        } else {
            let before = self.begun.len();
            let mut joined = mem::take(&mut self.begun);
            joined.extend_from_slice(piece);
            self.run(&joined, before, &mut take);
        }
    }

    /// What a terminal must see so that it stands where this scanner does: it will be shown the rest. Of a string only
    /// what is harmless: the rest of any other one is swallowed.
    pub fn unfinished(&self, out: &mut Vec<u8>) {
        match self.state {
            State::Ground => out.extend_from_slice(&self.begun),
            State::Skipped => out.extend_from_slice(b"\x1b[:"),
            State::String(Kind::Other) => out.extend_from_slice(b"\x1b_"),
            State::String(Kind::Osc) => {
                let is_title =
                    [&b"0;"[..], b"1;", b"2;", b"7;", b"8;"].iter().any(|kind| self.string.starts_with(kind));
                let is_plain = self.string.iter().all(|byte| (0x20..0x7f).contains(byte));
                out.extend_from_slice(b"\x1b]");
                // An unknown number makes a terminal ignore whatever comes.
                let known = is_title && is_plain && self.string.len() <= OSC_BYTES_MAX;
                out.extend_from_slice(if known { &self.string } else { b"7777;" });
            }
        }
        if self.state != State::Ground && self.begun == [ESC] {
            out.push(ESC);
        }
    }

    /// `bytes` begin `before` bytes in front of the piece.
    fn run(&mut self, bytes: &[u8], before: usize, take: &mut impl FnMut(Token<'_>, usize)) {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let step = match self.state {
                State::Ground if rest[0] == ESC => self.sequence(rest),
                State::Ground => text(rest),
                State::Skipped => self.skip(rest),
                State::String(kind) => self.string(rest, kind),
            };
            let behind = (at + step.len).saturating_sub(before);
            match step.token {
                Found::Nothing => {}
                Found::Text => take(Token::Text(&rest[..step.len]), behind),
                Found::Escape => take(Token::Escape(&rest[..step.len]), behind),
                Found::Csi => take(Token::Csi(&rest[..step.len]), behind),
                Found::Osc => {
                    if self.string.len() <= OSC_BYTES_MAX {
                        take(Token::Osc(&self.string), behind);
                    }
                    self.string = Vec::new();
                }
                Found::More => {
                    self.begun.extend_from_slice(rest);
                    return;
                }
            }
            at += step.len;
        }
    }

    /// `rest` begins with ESC in the ground state.
    fn sequence(&mut self, rest: &[u8]) -> Step {
        let Some(&second) = rest.get(1) else { return Step::MORE };
        match second {
            b'[' => self.control_sequence(rest),
            b']' => self.begin(Kind::Osc),
            b'P' | b'X' | b'^' | b'_' => self.begin(Kind::Other),
            _ => {
                for (at, &byte) in rest.iter().enumerate().skip(1).take(SEQUENCE_BYTES_MAX) {
                    match byte {
                        0x20..=0x2f => {}
                        0x30..=0x7e => return Step { len: at + 1, token: Found::Escape },
                        // Aborted; whatever this byte is, it is for itself.
                        _ => return Step { len: at, token: Found::Nothing },
                    }
                }
                if rest.len() > SEQUENCE_BYTES_MAX { Step { len: 1, token: Found::Nothing } } else { Step::MORE }
            }
        }
    }

    fn begin(&mut self, kind: Kind) -> Step {
        self.state = State::String(kind);
        self.string.clear();
        Step { len: 2, token: Found::Nothing }
    }

    fn control_sequence(&mut self, rest: &[u8]) -> Step {
        for (at, &byte) in rest.iter().enumerate().skip(2).take(SEQUENCE_BYTES_MAX) {
            match byte {
                0x40..=0x7e => return Step { len: at + 1, token: Found::Csi },
                ESC | 0x80.. => return Step { len: at, token: Found::Nothing },
                _ if CANCELS.contains(&byte) => return Step { len: at + 1, token: Found::Nothing },
                _ => {}
            }
        }
        if rest.len() > SEQUENCE_BYTES_MAX {
            self.state = State::Skipped;
            return Step { len: SEQUENCE_BYTES_MAX, token: Found::Nothing };
        }
        Step::MORE
    }

    fn skip(&mut self, rest: &[u8]) -> Step {
        let ends = |byte: &u8| matches!(*byte, 0x40..=0x7e | ESC | 0x80..) || CANCELS.contains(byte);
        let Some(at) = rest.iter().position(ends) else { return Step { len: rest.len(), token: Found::Nothing } };
        self.state = State::Ground;
        let is_own = (0x40..=0x7e).contains(&rest[at]) || CANCELS.contains(&rest[at]);
        Step { len: at + usize::from(is_own), token: Found::Nothing }
    }

    fn string(&mut self, rest: &[u8], kind: Kind) -> Step {
        let ends = |byte: &u8| *byte == ESC || CANCELS.contains(byte) || (*byte == BEL && kind == Kind::Osc);
        let end = rest.iter().position(ends).unwrap_or(rest.len());
        if kind == Kind::Osc {
            let room = (OSC_BYTES_MAX + 1).saturating_sub(self.string.len());
            self.string.extend_from_slice(&rest[..end.min(room)]);
        }
        let whole = if kind == Kind::Osc { Found::Osc } else { Found::Nothing };
        match (rest.get(end), rest.get(end + 1)) {
            (Some(&BEL), _) => self.end(end + 1, whole),
            (Some(&ESC), Some(b'\\')) => self.end(end + 2, whole),
            (Some(&ESC), None) if end == 0 => Step::MORE,
            (None, _) | (Some(&ESC), None) => Step { len: end, token: Found::Nothing },
            // Another sequence ends it as well: xterm executes what came.
            (Some(&ESC), Some(_)) => self.end(end, whole),
            (Some(_), _) => {
                self.string.clear();
                self.end(end + 1, Found::Nothing)
            }
        }
    }

    fn end(&mut self, len: usize, token: Found) -> Step {
        self.state = State::Ground;
        Step { len, token }
    }
}

/// What was found and how long it is.
struct Step {
    len: usize,
    token: Found,
}

impl Step {
    const MORE: Self = Self { len: 0, token: Found::More };
}

enum Found {
    Nothing,
    Text,
    Escape,
    Csi,
    Osc,
    /// Its end has not come.
    More,
}

/// Text up to the next sequence, without a character whose end has not come.
fn text(rest: &[u8]) -> Step {
    let len = memchr(ESC, rest).unwrap_or_else(|| rest.len() - cut_character(rest));
    if len == 0 { Step::MORE } else { Step { len, token: Found::Text } }
}

/// Bytes at the end that are the beginning of a character.
fn cut_character(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let needs = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return 0,
        };
        // Bytes that can be no character are text for themselves: only what may still become one waits.
        let is_open = std::str::from_utf8(&bytes[bytes.len() - back..]).is_err_and(|error| error.error_len().is_none());
        return if back < needs && is_open { back } else { 0 };
    }
    0
}

/// The parts of a control sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Csi<'a> {
    /// `<`, `=`, `>` or `?` before the parameters.
    pub prefix: Option<u8>,
    /// The parameters with their separators.
    parameters: &'a [u8],
    /// Before the final byte.
    pub intermediate: Option<u8>,
    /// What it does.
    pub last: u8,
    /// There are control characters in it, which a terminal executes.
    pub has_controls: bool,
}

impl<'a> Csi<'a> {
    /// Takes a token apart.
    pub fn of(token: &'a [u8]) -> Self {
        let (last, body) = token.get(2..).and_then(|body| body.split_last()).map_or((0, &[][..]), |(l, b)| (*l, b));
        let prefix = body.first().copied().filter(|byte| (0x3c..=0x3f).contains(byte));
        let body = &body[usize::from(prefix.is_some())..];
        let end = body.iter().position(|byte| !(0x30..=0x3f).contains(byte)).unwrap_or(body.len());
        let (parameters, tail) = body.split_at(end);
        let intermediate = tail.iter().copied().rev().find(|byte| (0x20..=0x2f).contains(byte));
        Self { prefix, parameters, intermediate, last, has_controls: tail.iter().any(|byte| *byte < 0x20) }
    }

    /// The parameters; 0 where one is left out, and of one with parts the first.
    pub fn numbers(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.parameters.split(|byte| *byte == b';').map(|parameter| {
            let digits = parameter.split(|byte| *byte == b':').next().unwrap_or_default();
            digits
                .iter()
                .filter(|byte| byte.is_ascii_digit())
                .fold(0, |number: u16, digit| number.saturating_mul(10).saturating_add(u16::from(digit - b'0')))
        })
    }

    /// The first parameter, 0 if it is left out.
    pub fn number(&self) -> u16 {
        self.numbers().next().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tokens in words, text pieces joined.
    fn words(pieces: &[&[u8]]) -> Vec<(char, Vec<u8>)> {
        let mut scanner = Scanner::default();
        let mut words: Vec<(char, Vec<u8>)> = Vec::new();
        for piece in pieces {
            scanner.scan(piece, |token, _| match token {
                Token::Text(text) => match words.last_mut() {
                    Some(('t', before)) => before.extend_from_slice(text),
                    _ => words.push(('t', text.to_vec())),
                },
                Token::Escape(bytes) => words.push(('e', bytes.to_vec())),
                Token::Csi(bytes) => words.push(('c', bytes.to_vec())),
                Token::Osc(bytes) => words.push(('o', bytes.to_vec())),
            });
        }
        words
    }

    #[test]
    fn sequences_come_whole_and_strings_without_an_end_cost_nothing() {
        let all = words(&[b"a\x1b[1;31mb\x1b]0;t\x07c\x1b(0\x1bPq..\x1b\\d\x1b]2;u\x1b\\\x1b[\x18e\x1b7"]);
        let kinds: String = all.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, "tctotetote", "{all:?}");
        let mut scanner = Scanner::default();
        scanner.scan(b"\x1b]52;c;", |_, _| {});
        for _ in 0..1000 {
            scanner.scan(&[b'A'; 10_000], |_, _| panic!("a string is no token before its end"));
        }
        assert!(scanner.string.capacity() < 4 * OSC_BYTES_MAX);
        let mut left = Vec::new();
        scanner.unfinished(&mut left);
        assert_eq!(left, b"\x1b]7777;");
    }

    proptest! {
        #[test]
        fn a_cut_anywhere_changes_no_token(
            parts in prop::collection::vec(prop::sample::select(vec![
                &b"\x1b"[..], b"[", b"]", b"0;x", b"\x07", b"\\", b"P", b"m", b"?1049h", b"\xc3", b"\xa4", b"\xf0\x9f",
                b"\x92\xbb", b"text\r\n", b"\x18", b"31;1", b"(", b"\x9b", b"\xff",
            ]), 0..40),
            cuts in prop::collection::vec(0usize..200, 0..6),
        ) {
            let bytes = parts.concat();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(words(&pieces), words(&[&bytes]));
        }
    }
}
