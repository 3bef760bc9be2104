//! Output of which it is not known yet what it is: behind a command it may be the shell's own, at a prompt it is most
//! likely what is typed.
//!
//! Promise: what is given comes in order, each byte once or never, with the place of its record; memory is bounded.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::lines::At;

/// Records that are told apart. Beyond them the oldest output is given, or counts as printed where the one before was.
const PIECES_MAX: usize = 256;

/// Who is given output.
pub(super) type Take<'a> = dyn FnMut(&[u8], At) + 'a;

/// Output that is kept back.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// How many of them each record has printed.
    pieces: VecDeque<(usize, At)>,
}

impl Held {
    /// All of it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes more, and gives what is further from the end than `keep` bytes: at once, or with what comes next.
    pub(super) fn slide(&mut self, bytes: &[u8], at: At, keep: usize, take: &mut Take<'_>) {
        let (passed, kept) = bytes.split_at(bytes.len().saturating_sub(keep));
        if !passed.is_empty() {
            self.give(take);
            take(passed, at);
        }
        self.push(kept, at);
        if self.bytes.len() > keep * 2 || self.pieces.len() > PIECES_MAX {
            let surplus = self.pieces.len().saturating_sub(PIECES_MAX / 2);
            let of_pieces = self.pieces.iter().take(surplus).map(|(count, _)| count).sum();
            self.give_first(self.bytes.len().saturating_sub(keep).max(of_pieces), take);
        }
    }

    /// Takes more.
    pub(super) fn keep(&mut self, bytes: &[u8], at: At) {
        match self.pieces.back() {
            Some((_, last)) if self.pieces.len() >= PIECES_MAX => self.push(bytes, *last),
            _ => self.push(bytes, at),
        }
    }

    /// Gives all of it.
    pub(super) fn give(&mut self, take: &mut Take<'_>) {
        self.give_first(self.bytes.len(), take);
    }

    /// Shows all of it, and keeps it.
    pub(super) fn show(&self, take: &mut Take<'_>) {
        let mut from = 0;
        for (count, at) in &self.pieces {
            take(&self.bytes[from..from + count], *at);
            from += count;
        }
    }

    /// Forgets its last bytes.
    pub(super) fn drop_last(&mut self, count: u64) {
        let mut left = usize::try_from(count).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.truncate(self.bytes.len() - left);
        while let Some((last, _)) = self.pieces.back_mut().filter(|_| left > 0) {
            let dropped = left.min(*last);
            (*last, left) = (*last - dropped, left - dropped);
            self.pieces.pop_back_if(|(count, _)| *count == 0);
        }
    }

    /// Forgets all of it.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
    }

    fn push(&mut self, bytes: &[u8], at: At) {
        if bytes.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        match self.pieces.back_mut() {
            Some((count, last)) if *last == at => *count += bytes.len(),
            _ => self.pieces.push_back((bytes.len(), at)),
        }
    }

    fn give_first(&mut self, count: usize, take: &mut Take<'_>) {
        let mut from = 0;
        while let Some((left, at)) = self.pieces.front_mut().filter(|_| from < count) {
            let given = (*left).min(count - from);
            take(&self.bytes[from..from + given], *at);
            (*left, from) = (*left - given, from + given);
            self.pieces.pop_front_if(|(left, _)| *left == 0);
        }
        self.bytes.drain(..from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shellkeep_journal::Seq;

    #[test]
    fn what_is_given_is_in_order_with_its_places_and_little_is_held() {
        for (size, keep) in [(1, 100), (7, 100), (300, 100)] {
            let (mut held, mut given) = (Held::default(), Vec::new());
            let at = |number: usize| At { seq: Seq::new(number as u64), ..At::default() };
            for number in 0..2000 {
                let bytes = vec![u8::try_from(number % 251).unwrap(); size];
                held.slide(&bytes, at(number), keep, &mut |bytes, at| given.extend(bytes.iter().map(|b| (*b, at))));
                assert!(held.bytes.len() <= 2 * keep && held.pieces.len() <= PIECES_MAX, "{}", held.bytes.len());
            }
            assert_eq!(given.len() + held.bytes.len(), 2000 * size);
            let last = held.bytes.len() - 3;
            held.drop_last(3);
            held.show(&mut |bytes, at| given.extend(bytes.iter().map(|b| (*b, at))));
            assert_eq!((held.bytes.len(), given.len()), (last, 2000 * size - 3));
            for (place, (byte, found)) in given.into_iter().enumerate() {
                let number = place / size;
                assert_eq!((usize::from(byte), found), (number % 251, at(number)));
            }
        }
    }
}
