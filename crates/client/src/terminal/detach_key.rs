//! The detach key: two keys in a row, found among typed bytes.
//!
//! A program may have had the terminal report keys in another way, and nobody here sees what programs print: so both
//! keys are known in every form that a terminal has for them. Promises that every other byte passes unchanged and in
//! order, and that nothing is held back longer than until it is told from the keys, or until [`DetachKey::release`].
//! Pure: the caller has the clock.

use std::str::FromStr;
use std::time::Duration;

use super::pressed::{Event, Pressed};

/// How long the first key is held back when nothing follows.
const HOLD_MAX: Duration = Duration::from_millis(300);
/// How long the beginning of a sequence is held back. Terminals write a sequence at once; the Escape key looks like
/// the beginning of one, and whoever presses it must not wait.
const CUT_MAX: Duration = Duration::from_millis(20);
/// Longest sequence that may report a key. A longer one passes.
const SEQUENCE_BYTES_MAX: usize = 64;
/// Bytes held back at once: a key that is held down repeats. Beyond it all of them pass.
const HELD_BYTES_MAX: usize = 1024;
const ESC: u8 = 0x1b;

/// A text is no detach key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("want \"none\", or two keys like \"ctrl-space d\" or \"ctrl-a d\"")]
pub struct NoDetachKey;

/// Which keys detach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// `None`: nothing typed detaches.
    pair: Option<(u8, u8)>,
}

impl Keys {
    /// Ctrl-Space (which a terminal sends as NUL), then d.
    pub const DEFAULT: Self = Self { pair: Some((0, b'd')) };
}

impl FromStr for Keys {
    type Err = NoDetachKey;

    fn from_str(text: &str) -> Result<Self, NoDetachKey> {
        if text == "none" {
            return Ok(Self { pair: None });
        }
        let (first, second) = text.split_once(' ').ok_or(NoDetachKey)?;
        let first = first.to_ascii_lowercase();
        let first = match first.strip_prefix("ctrl-").ok_or(NoDetachKey)?.as_bytes() {
            b"space" | b"@" => 0,
            [key @ (b'a'..=b'z' | b'\\' | b']' | b'^' | b'_')] => key.to_ascii_uppercase() & 0x1f,
            _ => return Err(NoDetachKey),
        };
        match second.as_bytes() {
            [second] if second.is_ascii_graphic() => Ok(Self { pair: Some((first, *second)) }),
            _ => Err(NoDetachKey),
        }
    }
}

/// Looks for the keys among typed bytes.
#[derive(Debug)]
pub struct DetachKey {
    keys: Keys,
    /// The first key and what came since that neither is the second nor rules it out. Empty: the first did not come.
    held: Vec<u8>,
    /// What of `held` is no part of the keys: other keys that went up meanwhile.
    beside: Vec<u8>,
    /// The beginning of a sequence.
    cut: Vec<u8>,
}

/// What a key is to the detach key.
#[derive(Clone, Copy)]
enum Role {
    First,
    /// The first is still down.
    FirstAgain,
    /// The first went up.
    FirstUp,
    Second,
    /// Nothing that was typed: a key went up, or one that only modifies others went down.
    Beside,
    Other,
}

impl DetachKey {
    /// Looks for `keys`.
    pub fn new(keys: Keys) -> Self {
        Self { keys, held: Vec::new(), beside: Vec::new(), cut: Vec::new() }
    }

    /// How long what is held back may wait for the next byte; `None` if nothing is.
    pub fn hold(&self) -> Option<Duration> {
        if self.cut.is_empty() { (!self.held.is_empty()).then_some(HOLD_MAX) } else { Some(CUT_MAX) }
    }

    /// Appends what may pass to `out`; true if the keys came: what was typed behind them is dropped.
    pub fn pass(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(pair) = self.keys.pair else {
            out.extend_from_slice(typed);
            return false;
        };
        typed.iter().any(|byte| self.byte(*byte, pair, out))
    }

    /// What is held back stood alone for too long: it passes.
    pub fn release(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        out.append(&mut self.cut);
        self.beside.clear();
    }

    fn byte(&mut self, byte: u8, pair: (u8, u8), out: &mut Vec<u8>) -> bool {
        let is_next = match self.cut.len() {
            0 => byte == ESC,
            1 => byte == b'[',
            len => len < SEQUENCE_BYTES_MAX && matches!(byte, b'0'..=b';'),
        };
        if is_next {
            self.cut.push(byte);
            return false;
        }
        if self.cut.len() > 1 && matches!(byte, b'u' | b'~' | b'A'..=b'Z') {
            let mut sequence = std::mem::take(&mut self.cut);
            sequence.push(byte);
            let role = Pressed::of(&sequence).map_or(Role::Other, |pressed| role(pressed, pair));
            return self.key(role, &sequence, out);
        }
        if !self.cut.is_empty() {
            let other = std::mem::take(&mut self.cut);
            self.key(Role::Other, &other, out);
            return self.byte(byte, pair, out); // once: nothing is cut any more
        }
        let role = match byte {
            _ if byte == pair.0 => Role::First,
            _ if byte == pair.1 => Role::Second,
            _ => Role::Other,
        };
        self.key(role, &[byte], out)
    }

    /// True if the keys are complete.
    fn key(&mut self, role: Role, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        let is_held = !self.held.is_empty();
        let is_kept = match role {
            Role::First => {
                self.release(out);
                true
            }
            Role::Second if is_held => {
                out.append(&mut self.beside);
                self.held.clear();
                return true;
            }
            Role::FirstAgain => true, // from now on, if it was down for longer than it is held
            Role::FirstUp => is_held,
            Role::Beside if is_held => {
                self.beside.extend_from_slice(bytes);
                true
            }
            Role::Beside | Role::Second | Role::Other => false,
        };
        if is_kept && self.held.len() + bytes.len() <= HELD_BYTES_MAX {
            self.held.extend_from_slice(bytes);
        } else {
            self.release(out);
            out.extend_from_slice(bytes);
        }
        false
    }
}

fn role(pressed: Pressed, (first, second): (u8, u8)) -> Role {
    match pressed.event {
        Event::Press if pressed.is_control(first) => Role::First,
        Event::Repeat if pressed.is_control(first) => Role::FirstAgain,
        // Whatever modifies it then: Ctrl may have gone up before it.
        Event::Release if pressed.is_key_of(first) => Role::FirstUp,
        Event::Press if pressed.is_character(second) => Role::Second,
        Event::Release => Role::Beside,
        Event::Press | Event::Repeat if pressed.is_modifier() => Role::Beside,
        Event::Press | Event::Repeat => Role::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes of typed pieces, and whether they detach. What is held back in the end passes.
    fn pass_with(keys: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut key = DetachKey::new(keys.parse().expect("keys"));
        let mut out = Vec::new();
        let detached = pieces.iter().any(|piece| key.pass(piece, &mut out));
        key.release(&mut out);
        assert_eq!(key.hold(), None);
        (out, detached)
    }

    /// As [`pass_with`], which must come to the same however the bytes are cut in up to three pieces.
    fn pass(keys: &str, typed: &[u8]) -> (Vec<u8>, bool) {
        let whole = pass_with(keys, &[typed]);
        for first in 0..=typed.len() {
            for second in first..=typed.len() {
                let pieces = [&typed[..first], &typed[first..second], &typed[second..]];
                assert_eq!(pass_with(keys, &pieces), whole, "{:?} at {first} and {second}", typed.escape_ascii());
            }
        }
        let each: Vec<&[u8]> = typed.chunks(1).collect();
        assert_eq!(pass_with(keys, &each), whole, "{:?}", typed.escape_ascii());
        whole
    }

    /// Forms of Ctrl-Space: plain, xterm's two, kitty's with event, locks, alternate keys; with what comes as it goes up.
    const FIRST: [&[u8]; 14] = [
        b"\0",
        b"\x1b[27;5;32~",
        b"\x1b[32;5u",
        b"\x1b[32;5:1u",
        b"\x1b[32;69u",
        b"\x1b[32;133:1u",
        b"\x1b[32::32;5u",
        b"\x1b[64;5u",
        b"\x1b[27;6;64~",
        b"\x1b[50:64;6u",
        b"\x1b[32;5:1u\x1b[32;5:3u",
        b"\x1b[32;5u\x1b[32;5:2u\x1b[32;5:2u\x1b[32;1:3u",
        b"\x1b[32;5:2u",
        b"\x1b[32;5;u",
    ];
    /// Forms of d.
    const SECOND: [&[u8]; 9] = [
        b"d",
        b"\x1b[100u",
        b"\x1b[100;u",
        b"\x1b[100;1u",
        b"\x1b[100;1:1u",
        b"\x1b[100:68;129u",
        b"\x1b[100;1;100u",
        b"\x1b[1074::100;1:1u",
        b"\x1b[27;1;100~",
    ];

    #[test]
    fn the_keys_detach_in_every_form_and_however_they_are_cut() {
        for first in FIRST {
            for second in SECOND {
                let typed = [b"ls\x1b[A", first, second, b"dropped"].concat();
                assert_eq!(pass("ctrl-space d", &typed), (b"ls\x1b[A".to_vec(), true), "{:?}", typed.escape_ascii());
            }
        }
    }

    #[test]
    fn keys_that_modify_or_go_up_between_the_two_change_nothing_and_pass() {
        let typed = b"\x1b[57442;5:1u\x1b[115;1:3u\x1b[32;5:1u\x1b[32;5:3u\x1b[57442;1:3u\x1b[1;1:3A\x1b[100;1:1u";
        let passed = b"\x1b[57442;5:1u\x1b[115;1:3u\x1b[57442;1:3u\x1b[1;1:3A".to_vec();
        assert_eq!(pass("ctrl-space d", typed), (passed, true));
    }

    #[test]
    fn other_keys_are_known_in_every_form() {
        let detaching: [(&str, &[u8]); 12] = [
            ("ctrl-a d", b"\x01d"),
            ("ctrl-a d", b"\x1b[97;5ud"),
            ("ctrl-a d", b"\x1b[65;5ud"),
            ("ctrl-a d", b"\x1b[27;5;97~\x1b[100u"),
            ("ctrl-a d", b"\x1b[1092::97;5u\x1b[1074::100u"),
            ("ctrl-a D", b"\x1b[97;5u\x1b[100;2u"),
            ("ctrl-a D", b"\x1b[97;5u\x1b[27;2;68~"),
            ("ctrl-a %", b"\x1b[97;5u\x1b[53:37;2u"),
            ("ctrl-] d", b"\x1b[93;5ud"),
            ("ctrl-\\ d", b"\x1b[92;5ud"),
            ("ctrl-_ d", b"\x1b[45:95;6ud"),
            ("ctrl-^ d", b"\x1b[27;6;94~d"),
        ];
        for (keys, typed) in detaching {
            assert_eq!(pass(keys, typed), (Vec::new(), true), "{keys}: {:?}", typed.escape_ascii());
        }
    }

    #[test]
    fn every_other_byte_passes_in_order() {
        let all: Vec<u8> = (0..=255).collect();
        let other: [&[u8]; 26] = [
            &all,
            b"\0\0x\0",
            b"\0\x1b",
            b"\0\x1bd",
            b"\0\x1b[d",
            b"\x1b\x1b[32;5",
            b"\x1bOP\x1b[Z\x1b[I\x1b[<35;1;1M\x1b[200~paste\x1b[201~\x1b[[A",
            b"\x1b[32;6ud",
            b"\x1b[32;7ud",
            b"\x1b[32;13ud",
            b"\x1b[32;5:3ud",
            b"\x1b[32;5:4ud",
            b"\x1b[32;ud",
            b"\x1b[32ud",
            b"\x1b[97;5ud",
            b"\x1b[?32;5ud",
            b"\x1b[27;5;32ud",
            b"\x1b[32;5~d",
            b"\x1b[32;5u\x1b[100;5u",
            b"\x1b[32;5u\x1b[100;2u",
            b"\x1b[32;5u\x1b[100;1:2u",
            b"\x1b[32;5u\x1b[100;1:3uD",
            b"\x1b[32;5u\x1b[101::100u",
            b"\x1b[32;5ux\x1b[100u",
            b"\x1b[32;99999999999999999999ud",
            b"\x1b[3 2;5u\xc3\xa4",
        ];
        for typed in other {
            let typed = if typed.len() > 100 { vec![typed] } else { vec![typed, &typed[..typed.len() - 1]] };
            for typed in typed {
                assert_eq!(pass("ctrl-space d", typed), (typed.to_vec(), false), "{:?}", typed.escape_ascii());
            }
        }
        assert_eq!(pass("none", b"\0d\x1b[32;5ud"), (b"\0d\x1b[32;5ud".to_vec(), false));
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let long = [&b"\x1b["[..], &b"1;".repeat(1000), b"u"].concat();
        assert_eq!(pass_with("ctrl-space d", &[&long]), (long.clone(), false));
        let mut key = DetachKey::new(Keys::DEFAULT);
        let (mut typed, mut out) = (Vec::new(), Vec::new());
        for _ in 0..1000 {
            assert!(!key.pass(b"\x1b[32;5:2u", &mut out));
            typed.extend_from_slice(b"\x1b[32;5:2u");
            assert!(key.held.len() <= HELD_BYTES_MAX && typed.len() - out.len() == key.held.len());
        }
        key.release(&mut out);
        assert_eq!(typed, out);
    }

    #[test]
    fn only_what_may_be_the_keys_is_held_back_and_escape_for_a_moment() {
        let held = |typed: &[u8]| {
            let mut key = DetachKey::new(Keys::DEFAULT);
            key.pass(typed, &mut Vec::new());
            key.hold()
        };
        for typed in [&b"x"[..], b"\x1bO", b"\x1b[A", b"\x1b[<", b"\x1b[32;6u", b"\0x", b"d"] {
            assert_eq!(held(typed), None, "{:?}", typed.escape_ascii());
        }
        for typed in [&b"\x1b"[..], b"\x1b[", b"\x1b[32;5", b"\0\x1b"] {
            assert_eq!(held(typed), Some(CUT_MAX), "{:?}", typed.escape_ascii());
        }
        for typed in [&b"\0"[..], b"\x1b[32;5u", b"\x1b[27;5;32~\x1b[57442;1:3u"] {
            assert_eq!(held(typed), Some(HOLD_MAX), "{:?}", typed.escape_ascii());
        }
    }

    #[test]
    fn keys_are_read_from_text() {
        assert_eq!("ctrl-space d".parse(), Ok(Keys::DEFAULT));
        assert_eq!("Ctrl-A d".parse(), Ok(Keys { pair: Some((1, b'd')) }));
        assert_eq!("none".parse(), Ok(Keys { pair: None }));
        for bad in ["", "d", "ctrl-ä d", "ctrl-a", "ctrl-a  d", "ctrl-1 d"] {
            assert!(bad.parse::<Keys>().is_err(), "{bad}");
        }
    }
}
