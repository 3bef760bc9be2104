//! An emulator's dump made into what every terminal understands, and a terminal prepared for it.
//!
//! Promises only sequences that terminals share (no repeats, no colons in colours, no 8-bit controls), no blanks at the
//! ends of lines, and none that makes a terminal answer.

use unicode_width::UnicodeWidthChar as _;

/// A terminal in its first modes, whatever was shown before; what it shows is scrolled away, not erased.
pub fn prepare(rows: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"\x1b[?2026h\x1b[m\x0f\x1b(B\x1b)B\x1b[r\x1b[?6l\x1b[?7h\x1b[4l\x1b[20l\x1b[?1l\x1b>\x1b[?25h\
          \x1b[?5l\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1016l\
          \x1b[?2004l\x1b[0 q",
    );
    scroll(rows, rows, out);
}

/// Scrolls so many lines out of the window, and goes home.
pub fn scroll(rows: usize, lines: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("\x1b[{rows};1H").as_bytes());
    out.extend(std::iter::repeat_n(b'\n', lines));
    out.extend_from_slice(b"\x1b[H");
}

/// Makes an emulator's dump portable. `alternate` is the mode that selected the alternate screen (0 if none did);
/// `before_alternate` is written just before that.
pub fn portable(dump: &str, cols: usize, alternate: u16, before_alternate: &[u8]) -> Vec<u8> {
    let mut out = Writer { out: Vec::with_capacity(dump.len()), cols, used: 0, blanks: 0, last: None, attributes: 0 };
    let mut rest = dump;
    let mut is_saved = false;
    while let Some(character) = rest.chars().next() {
        if character != '\x1b' {
            out.character(character);
            rest = &rest[character.len_utf8()..];
            continue;
        }
        let (sequence, behind) = rest.split_at(sequence_len(rest));
        rest = behind;
        match sequence.as_bytes() {
            [0x1b, b'[', count @ .., b'b'] => out.repeat(std::str::from_utf8(count).ok().and_then(|n| n.parse().ok())),
            [0x1b, b'[', .., b'm'] => out.pen(sequence),
            b"\x1b[5W" => out.sequence(b"\x1b[3g"),
            b"\x1b[0W" => out.sequence(b"\x1bH"),
            b"\x1b[?1047h" if alternate == 0 => {
                // What is saved on a screen that is not shown is of no use to anybody, and would be saved here.
                rest = rest.split_once("\x1b[?1047l").map_or("", |(_, behind)| behind);
            }
            b"\x1b[?1047h" => {
                out.sequence(before_alternate);
                if alternate == 1049 {
                    // It saves the cursor, which is where the program will come back to, with its attributes; these
                    // must not colour the new screen.
                    out.sequence(if is_saved { b"\x1b8" } else { b"" });
                    out.sequence(b"\x1b[?1049h\x1b[m\x1b[?7h\x1b[?6l\x1b[2J");
                } else {
                    out.sequence(format!("\x1b[?{alternate}h").as_bytes());
                }
            }
            other => {
                is_saved |= other == b"\x1b7";
                out.sequence(other);
            }
        }
    }
    out.flush();
    out.out
}

/// Length of the sequence that `text` begins with.
fn sequence_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let from = if bytes.get(1) == Some(&b'[') { 2 } else { 1 };
    let ends = |byte: &u8| if from == 2 { (0x40..=0x7e).contains(byte) } else { (0x30..=0x7e).contains(byte) };
    bytes[from..].iter().position(ends).map_or(bytes.len(), |at| from + at + 1)
}

/// Holds blanks back until it is known that something follows them on their line.
struct Writer {
    out: Vec<u8>,
    cols: usize,
    /// Columns printed since the last end of line, without `blanks`. More than `cols` of them have wrapped.
    used: usize,
    blanks: usize,
    last: Option<char>,
    /// Those in force, a bit each; 0 are the default ones.
    attributes: u16,
}

impl Writer {
    fn character(&mut self, character: char) {
        self.print(character, 1);
        self.last = Some(character);
    }

    fn print(&mut self, character: char, count: usize) {
        match character {
            ' ' if self.attributes == 0 => self.blanks += count,
            '\r' => {
                // The line is blank there. But a row that the line has wrapped into must be reached.
                let wrapped = (self.used + self.blanks).saturating_sub(1) / self.cols * self.cols;
                self.blanks = if wrapped >= self.used.max(1) { wrapped + 1 - self.used } else { 0 };
                self.flush();
                self.used = 0;
                self.out.push(b'\r');
            }
            _ => {
                self.flush();
                self.used += count * character.width().unwrap_or(0);
                let mut bytes = [0; 4];
                for _ in 0..count {
                    self.out.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
                }
            }
        }
    }

    fn repeat(&mut self, count: Option<usize>) {
        if let Some(last) = self.last {
            self.print(last, count.unwrap_or(1));
        }
    }

    fn pen(&mut self, sequence: &str) {
        self.sequence(sequence.replace(':', ";").as_bytes());
        let parameters = sequence.trim_start_matches("\x1b[").trim_end_matches('m');
        for parameter in parameters.split(';') {
            let number: u16 = parameter.split(':').next().and_then(|first| first.parse().ok()).unwrap_or(0);
            match number {
                0 => self.attributes = 0,
                22 => self.attributes &= !0b110,
                1..=9 => self.attributes |= 1 << number,
                23..=29 => self.attributes &= !(1 << (number - 20)),
                39 => self.attributes &= !(1 << 10),
                49 => self.attributes &= !(1 << 11),
                40..=48 | 100..=107 => self.attributes |= 1 << 11,
                _ => self.attributes |= 1 << 10,
            }
        }
    }

    fn sequence(&mut self, bytes: &[u8]) {
        self.flush();
        self.out.extend_from_slice(bytes);
    }

    fn flush(&mut self) {
        self.used += self.blanks;
        self.out.extend(std::iter::repeat_n(b' ', std::mem::take(&mut self.blanks)));
    }
}
