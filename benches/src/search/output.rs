//! Output as sessions print it, of several kinds, from a seed: builds, tests, JSON lines, progress bars, coloured grep,
//! stack traces.

use std::io::Write as _;

use fastrand::Rng;

/// What is printed at one place of the whole and nowhere else.
pub(super) const RARE: &str = "kwyjibo-7f3a91";

/// Words that lines are made of.
const WORDS: usize = 4_000;

/// Writes output.
pub(super) struct Writer {
    random: Rng,
    words: Vec<String>,
    lines: u64,
}

impl Writer {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(1); // the words are the same in every session
        let words = (0..WORDS).map(|_| word(&mut random)).collect();
        Self { random: Rng::with_seed(seed), words, lines: 0 }
    }

    /// Appends about so many bytes of what one command prints.
    pub(super) fn command(&mut self, bytes: usize, out: &mut Vec<u8>) -> std::io::Result<()> {
        let kind = self.random.u8(0..6);
        let end = out.len() + bytes;
        while out.len() < end {
            self.lines += 1;
            match kind {
                0 => self.build(out)?,
                1 => self.test(out)?,
                2 => self.json(out)?,
                3 => self.progress(out)?,
                4 => self.grep(out)?,
                _ => self.trace(out)?,
            }
        }
        Ok(())
    }

    /// A word; the first ones are used most.
    fn word(&mut self) -> &str {
        let at = self.random.f64();
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)] // below WORDS
        let at = (at * at * at * WORDS as f64) as usize;
        &self.words[at.min(WORDS - 1)]
    }

    fn words(&mut self, count: usize, out: &mut Vec<u8>) {
        for _ in 0..count {
            out.push(b' ');
            let word = self.word().to_owned();
            out.extend_from_slice(word.as_bytes());
        }
    }

    fn path(&mut self) -> String {
        let (one, two, three) = (self.word().to_owned(), self.word().to_owned(), self.word().to_owned());
        format!("{one}/{two}/{three}.rs")
    }

    fn build(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let (major, minor, time) = (self.random.u8(0..30), self.random.u8(0..20), self.random.u16(1..9_000));
        let name = self.word().to_owned();
        match self.random.u8(0..20) {
            0 => {
                write!(out, "\x1b[1;33mwarning\x1b[0m\x1b[1m: unused")?;
                self.words(3, out);
                write!(out, "\x1b[0m\r\n  \x1b[1;34m-->\x1b[0m {}:{}:{}\r\n", self.path(), time, minor)
            }
            1 => {
                write!(out, "\x1b[1;31merror[E{:04}]\x1b[0m\x1b[1m: mismatched", self.random.u16(1..800))?;
                self.words(4, out);
                write!(out, "\x1b[0m\r\n")
            }
            _ => write!(out, "\x1b[1;32m   Compiling\x1b[0m {name} v{major}.{minor}.{} ({time} ms)\r\n", time % 7),
        }
    }

    fn test(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let (path, name) = (self.word().to_owned(), self.word().to_owned());
        let result = if self.random.u8(0..50) == 0 { "\x1b[31mFAILED\x1b[0m" } else { "\x1b[32mok\x1b[0m" };
        write!(out, "test {path}::tests::{name}_{} ... {result}\r\n", self.random.u16(..))
    }

    fn json(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let (lines, id, took) = (self.lines, self.random.u64(..), self.random.u16(..));
        let level = ["info", "info", "info", "debug", "warn", "error"][self.random.usize(0..6)];
        let minute = lines / 60 % 60;
        write!(
            out,
            "{{\"time\":\"2026-11-{:02}T{:02}:{minute:02}:{:02}Z\",",
            1 + lines / 86_400 % 28,
            lines / 3600 % 24,
            lines % 60
        )?;
        write!(out, "\"level\":\"{level}\",\"request\":\"{id:016x}\",\"took_ms\":{took},\"message\":\"")?;
        self.words(6, out);
        write!(out, "\"}}\r\n")
    }

    /// A bar that is drawn many times and seen once.
    fn progress(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let name = self.path();
        for percent in (0..=100).step_by(10) {
            let done = percent / 5;
            write!(out, "\r{name} {percent:3}%|{}{}| {percent}/100", "█".repeat(done), " ".repeat(20 - done))?;
        }
        write!(out, "\r\n")
    }

    fn grep(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let (path, line, found) = (self.path(), self.random.u16(..), self.word().to_owned());
        write!(out, "\x1b[35m{path}\x1b[0m\x1b[36m:\x1b[0m\x1b[32m{line}\x1b[0m\x1b[36m:\x1b[0m   ")?;
        self.words(4, out);
        write!(out, "(\x1b[1;31m{found}\x1b[0m)")?;
        self.words(2, out);
        write!(out, ";\r\n")
    }

    fn trace(&mut self, out: &mut Vec<u8>) -> std::io::Result<()> {
        let (path, line, name) = (self.path(), self.random.u16(1..3_000), self.word().to_owned());
        match self.random.u8(0..12) {
            0 => {
                write!(out, "thread '{name}' panicked at {path}:{line}:9:\r\n called")?;
                self.words(5, out);
                write!(out, "\r\n")
            }
            frame => {
                let address = self.random.u32(..);
                write!(
                    out,
                    "  {frame:2}: 0x{address:012x} - {name}::{{{{closure}}}}\r\n             at ./{path}:{line}\r\n"
                )
            }
        }
    }
}

fn word(random: &mut Rng) -> String {
    const PARTS: [&str; 32] = [
        "con", "ver", "ter", "re", "in", "pre", "tion", "ment", "ing", "al", "er", "st", "ble", "com", "pro", "de",
        "mul", "ti", "an", "or", "is", "at", "en", "ic", "ous", "sub", "map", "key", "log", "row", "net", "file",
    ];
    (0..random.usize(1..4)).map(|_| PARTS[random.usize(0..PARTS.len())]).collect()
}
