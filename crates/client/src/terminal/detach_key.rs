//! The detach key: two keys in a row, found among typed bytes.
//!
//! Promises that every other byte passes unchanged and in order, and that the first key is held back only until the
//! next byte or until [`DetachKey::release`]. Pure: the caller has the clock.

use std::str::FromStr;

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
    held: bool,
}

impl DetachKey {
    /// Looks for `keys`.
    pub fn new(keys: Keys) -> Self {
        Self { keys, held: false }
    }

    /// Whether the first key waits for the next byte.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Appends what may pass to `out`; true if the keys came: what was typed behind them is dropped.
    pub fn pass(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        let Some((first, second)) = self.keys.pair else {
            out.extend_from_slice(typed);
            return false;
        };
        for &byte in typed {
            if self.held {
                if byte == second {
                    self.held = false;
                    return true;
                }
                out.push(first);
            }
            self.held = byte == first;
            if !self.held {
                out.push(byte);
            }
        }
        false
    }

    /// The first key stood alone for too long: it passes.
    pub fn release(&mut self, out: &mut Vec<u8>) {
        if let (true, Some((first, _))) = (std::mem::take(&mut self.held), self.keys.pair) {
            out.push(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(chunks: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut key = DetachKey::new(Keys::DEFAULT);
        let mut out = Vec::new();
        let detached = chunks.iter().any(|chunk| key.pass(chunk, &mut out));
        key.release(&mut out);
        (out, detached)
    }

    #[test]
    fn the_keys_detach_however_they_are_cut() {
        assert_eq!(pass(&[b"ls\0d"]), (b"ls".to_vec(), true));
        assert_eq!(pass(&[b"ls\0", b"d"]), (b"ls".to_vec(), true));
        assert_eq!(pass(&[b"\0\0d"]), (b"\0".to_vec(), true));
    }

    #[test]
    fn every_other_byte_passes_in_order() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(pass(&[&all]), (all.clone(), false));
        let each: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(pass(&each), (all.clone(), false));
        assert_eq!(pass(&[b"\0", b"\0x\0"]), (b"\0\0x\0".to_vec(), false));
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
