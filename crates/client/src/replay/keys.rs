//! Keys of a player, from the bytes that a terminal sends.

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Pause, or go on.
    Pause,
    /// One step.
    Step,
    /// The next command.
    Next,
    /// This command again, or the one before.
    Back,
    /// Faster.
    Faster,
    /// Slower.
    Slower,
    /// What the keys are.
    Help,
    /// Draw the screen again.
    Redraw,
    /// Give the terminal back for a while.
    Suspend,
    /// The end.
    Quit,
    /// Any other: it ends what waits for any.
    Other,
}

/// Most bytes of one key's sequence that are looked at.
const SEQUENCE_BYTES_MAX: usize = 16;

/// Reads keys; a sequence may come in pieces.
#[derive(Debug, Default)]
pub struct Keys {
    sequence: Vec<u8>,
}

impl Keys {
    /// The keys in what was typed.
    pub fn read(&mut self, typed: &[u8]) -> Vec<Key> {
        typed.iter().filter_map(|byte| self.take(*byte)).collect()
    }

    fn take(&mut self, byte: u8) -> Option<Key> {
        if byte == 0x1b {
            self.sequence = vec![byte];
            return None;
        }
        if self.sequence.is_empty() {
            return Some(plain(byte));
        }
        if self.sequence.len() == 1 && !matches!(byte, b'[' | b'O') {
            self.sequence.clear();
            return Some(plain(byte)); // escape alone means nothing
        }
        let is_end = self.sequence.len() > 1 && matches!(byte, 0x40..=0x7e);
        self.sequence.push(byte);
        if !is_end && self.sequence.len() < SEQUENCE_BYTES_MAX {
            return None;
        }
        self.sequence.clear();
        match byte {
            b'A' => Some(Key::Faster),
            b'B' => Some(Key::Slower),
            b'C' => Some(Key::Next),
            b'D' => Some(Key::Back),
            _ => Some(Key::Other),
        }
    }
}

fn plain(byte: u8) -> Key {
    match byte {
        b' ' => Key::Pause,
        b'.' => Key::Step,
        b'n' => Key::Next,
        b'p' => Key::Back,
        b'+' | b'=' | b'>' => Key::Faster,
        b'-' | b'<' => Key::Slower,
        b'?' | b'h' => Key::Help,
        0x0c => Key::Redraw,
        0x1a => Key::Suspend,
        b'q' | 0x03 | 0x04 => Key::Quit,
        _ => Key::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_are_read_in_both_forms_and_in_pieces() {
        let mut keys = Keys::default();
        assert_eq!(keys.read(b"\x1b[C\x1bOD\x1b[1;5A\x1b"), [Key::Next, Key::Back, Key::Faster]);
        assert_eq!(keys.read(b"["), []);
        assert_eq!(keys.read(b"Bq"), [Key::Slower, Key::Quit]);
        assert_eq!(keys.read(b"\x1bx \x1b[200~n"), [Key::Other, Key::Pause, Key::Other, Key::Next]);
    }
}
