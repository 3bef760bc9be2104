//! Blocks of text: lines of one session, with the record, the time and the command of each.
//!
//! Promise: what was put together is taken apart to the same, and damaged bytes are `None`. Knows no file.

use shellkeep_journal::Seq;

use super::grams::{get, put};
use super::lines::At;

/// Text of a block. At this size it is closed: smaller blocks are found and read faster, larger ones are packed better.
/// Tests need many blocks of little text.
pub(super) const BLOCK_TEXT_BYTES: usize = if cfg!(test) { 4 << 10 } else { 256 << 10 };

/// How hard text is packed. Higher levels cost more than they save: the log beside it is the same text again.
const ZSTD_LEVEL: i32 = 1;

/// Largest text of a block: one line may go over.
const BLOCK_TEXT_BYTES_MAX: usize = BLOCK_TEXT_BYTES + 4 * super::lines::LINE_BYTES_MAX + (1 << 20);

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Something printed.
    Output,
    /// A line of a command.
    Command,
}

/// Lines in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// Each line ends with a newline.
    pub(super) text: Vec<u8>,
    pub(super) lines: u32,
    /// From this line on it is so, until the next.
    places: Vec<(u32, At, bool)>,
    pub(super) first_us: u64,
    pub(super) last_us: u64,
    pub(super) last_seq: u64,
}

impl Block {
    /// Appends a line.
    pub(super) fn push(&mut self, line: &[u8], at: At, kind: Kind) {
        let is_command = kind == Kind::Command;
        if self.places.last().is_none_or(|(_, last, command)| *last != at || *command != is_command) {
            self.places.push((self.lines, at, is_command));
            self.first_us = if self.lines == 0 { at.time_us } else { self.first_us.min(at.time_us) };
            self.last_us = self.last_us.max(at.time_us);
            self.last_seq = self.last_seq.max(at.seq.get());
        }
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
        self.lines += 1;
    }

    /// It has as much text as a block shall have.
    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= BLOCK_TEXT_BYTES
    }

    /// A copy of the first lines.
    pub(super) fn truncated(&self, lines: u32) -> Self {
        let mut block = Self::default();
        for (number, line) in (0..lines).zip(self.text.split(|byte| *byte == b'\n')) {
            let (at, kind) = self.place(number);
            block.push(line, at, kind);
        }
        block
    }

    /// Where a line began, and what it is.
    pub(super) fn place(&self, line: u32) -> (At, Kind) {
        let index = self.places.partition_point(|(first, ..)| *first <= line);
        let place = self.places.get(index.wrapping_sub(1));
        place.map_or((At::default(), Kind::Output), |(_, at, command)| {
            (*at, if *command { Kind::Command } else { Kind::Output })
        })
    }

    /// The text, packed.
    pub(super) fn packed(&self, packer: &mut zstd::bulk::Compressor<'_>) -> std::io::Result<Vec<u8>> {
        packer.compress(&self.text)
    }

    /// What packs texts; reused, because its tables are large.
    pub(super) fn packer() -> std::io::Result<zstd::bulk::Compressor<'static>> {
        zstd::bulk::Compressor::new(ZSTD_LEVEL)
    }

    /// The places of the lines, encoded.
    pub(super) fn places(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.places.len() * 6);
        let (mut line, mut seq, mut time, mut command) = (0, 0, 0, 0);
        for (first, at, is_command) in &self.places {
            put(&mut out, u64::from(first - line) << 1 | u64::from(*is_command));
            put(&mut out, zigzag(at.seq.get(), seq));
            put(&mut out, zigzag(at.time_us, time));
            put(&mut out, zigzag(at.command, command));
            (line, seq, time, command) = (*first, at.seq.get(), at.time_us, at.command);
        }
        out
    }

    /// Takes apart what [`Self::packed`] and [`Self::places`] made.
    pub(super) fn unpacked(packed: &[u8], mut places: &[u8]) -> Option<Self> {
        let text = zstd::bulk::decompress(packed, BLOCK_TEXT_BYTES_MAX).ok()?;
        let lines = u32::try_from(memchr::memchr_iter(b'\n', &text).count()).ok()?;
        let mut block = Self { text, lines, ..Self::default() };
        let (mut line, mut seq, mut time, mut command) = (0u32, 0, 0, 0);
        while !places.is_empty() {
            let head = get(&mut places)?;
            line = line.checked_add(u32::try_from(head >> 1).ok()?)?;
            seq = unzigzag(get(&mut places)?, seq);
            time = unzigzag(get(&mut places)?, time);
            command = unzigzag(get(&mut places)?, command);
            let at = At { seq: Seq::new(seq), time_us: time, command };
            block.first_us = if block.places.is_empty() { time } else { block.first_us.min(time) };
            block.last_us = block.last_us.max(time);
            block.last_seq = block.last_seq.max(seq);
            block.places.push((line, at, head & 1 == 1));
        }
        Some(block)
    }
}

/// The way from `before` to `value`, small ones in small numbers.
fn zigzag(value: u64, before: u64) -> u64 {
    let delta = value.wrapping_sub(before).cast_signed();
    (delta << 1 ^ delta >> 63).cast_unsigned()
}

fn unzigzag(delta: u64, before: u64) -> u64 {
    let back = (delta >> 1) ^ (delta & 1).wrapping_neg();
    before.wrapping_add(back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_taken_apart_as_it_was_put_together() {
        let mut block = Block::default();
        let at = |seq, time_us, command| At { seq: Seq::new(seq), time_us, command };
        for n in 0..1000u64 {
            block.push(format!("line {n}").as_bytes(), at(1 + n / 10, 5_000 + n / 10, n / 100), Kind::Output);
        }
        block.push(b"make", at(3, 4_000, 1), Kind::Command);
        let packed = block.packed(&mut Block::packer().unwrap()).unwrap();
        let read = Block::unpacked(&packed, &block.places()).unwrap();
        assert_eq!(read, block);
        assert_eq!(read.place(1000), (at(3, 4_000, 1), Kind::Command));
        assert_eq!(read.place(119), (at(12, 5_011, 1), Kind::Output));
        assert_eq!((read.first_us, read.last_us, read.last_seq), (4_000, 5_099, 100));
        let first = block.truncated(10);
        assert_eq!((first.lines, first.text.len(), first.last_seq), (10, 70, 1));
        for cut in 1..packed.len() {
            assert_eq!(Block::unpacked(&packed[..cut], &[]), None);
        }
    }
}
