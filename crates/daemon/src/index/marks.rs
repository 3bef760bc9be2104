//! Finds the shell's marks (OSC 133 and OSC 7) in a session's output, wherever they are cut by records.
//!
//! Promises that nothing without the session's nonce counts as a mark of commands, that one which is shown again, as when
//! the session prints its own record, counts once, that memory is bounded whatever was printed, and that text between marks
//! costs one pass. Knows no commands. Source: `client/shell_integration`.

use serde::{Deserialize, Serialize};
use shellkeep_journal::Seq;

/// Longest body of a mark. A longer one is no mark; shells cut command lines far below.
const BODY_BYTES_MAX: usize = 128 << 10;

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;

/// What a shell says of its course.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// The shell is in this directory.
    Directory(String),
    /// A prompt begins.
    Prompt,
    /// It ends: what comes is typed.
    PromptEnd,
    /// A command line was read and is executed.
    Started {
        /// The line, if the shell knows it at this moment.
        command: Option<String>,
        /// Escape sequences up to a carriage return, if they follow at once, are the shell's own.
        has_lead: bool,
    },
    /// It has ended.
    Ended {
        /// Its status, if the shell said a number.
        exit: Option<u8>,
        /// The line, if the shell knows it only now.
        command: Option<Told>,
        /// With this, blanks and carriage returns the shell has filled the line behind the output.
        fill: Option<String>,
    },
}

/// A command line as told at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It was this one.
    New(String),
    /// The newest line of the shell's history is this one, as it was before: typed again, or kept out of the history.
    Same(String),
}

/// A mark and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it says.
    pub mark: Mark,
    /// Offset of its first byte among all output.
    pub from: u64,
    /// Offset behind its last byte.
    pub to: u64,
    /// Record that ends it.
    pub seq: Seq,
    /// Time of that record, in microseconds since the Unix epoch.
    pub time_us: u64,
}

/// Where a piece of output lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its record.
    pub seq: Seq,
    /// Offset of its first byte among all output.
    pub offset: u64,
    /// Microseconds since the Unix epoch.
    pub time_us: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    #[default]
    Text,
    Escape,
    /// In the body of an OSC.
    Body,
    /// An escape in a body: its end, if a backslash comes.
    BodyEscape,
    /// In an OSC that is no mark.
    Other,
    OtherEscape,
}

/// Where in the shell's course a mark stands: its number, which the shell raises at each prompt and at each line that it
/// executes, then its letter, `A` to `D`, for marks that share one. Only compared, so that no number is too great.
type Turn = (u64, u8);

/// Number of a mark that a shell inside prints, which has the prompts from its environment and counts nothing.
const FOREIGN: u64 = 0;

/// Reads output in order, piece by piece.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MarkReader {
    /// `;sk=` and the nonce, without which no mark of commands counts.
    nonce: Option<String>,
    /// The newest mark that counted and had a number.
    newest: Option<Turn>,
    state: State,
    body: Vec<u8>,
    from: u64,
    /// Where the next piece begins, unless something is missing between.
    next: u64,
}

impl MarkReader {
    /// For a session whose marks carry `nonce`; without one there are none.
    pub fn new(nonce: Option<String>) -> Self {
        let nonce = nonce.map(|nonce| format!("sk={nonce}"));
        Self { nonce, newest: None, state: State::Text, body: Vec::new(), from: 0, next: 0 }
    }

    /// Reads the next piece of output; tells each mark that ends in it.
    pub fn feed(&mut self, bytes: &[u8], place: Place, mut tell: impl FnMut(Found)) {
        let Place { seq, offset, time_us } = place;
        if offset != self.next {
            self.state = State::Text; // a sequence whose end is lost would swallow what comes
        }
        self.next = offset + bytes.len() as u64;
        let mut at = 0;
        while at < bytes.len() {
            if self.state == State::Text {
                let Some(escape) = memchr::memchr(ESCAPE, &bytes[at..]) else { return };
                at += escape;
                self.from = offset + at as u64;
                self.state = State::Escape;
                at += 1;
                continue;
            }
            if matches!(self.state, State::BodyEscape | State::OtherEscape) && bytes[at] == b']' {
                self.from = offset + at as u64 - 1; // what was not ended is output, and this begins here
            }
            if self.step(bytes[at]) {
                let found =
                    self.mark().map(|mark| Found { mark, from: self.from, to: offset + at as u64 + 1, seq, time_us });
                self.body.clear();
                if let Some(found) = found {
                    tell(found);
                }
            }
            at += 1;
        }
    }

    /// The mark that has begun and not ended, as an escape sequence.
    pub(super) fn unfinished(&self) -> Vec<u8> {
        [b"\x1b]".as_slice(), &self.body, b"\x07"].concat()
    }

    /// Takes one byte of an escape sequence; true if it ends a body.
    fn step(&mut self, byte: u8) -> bool {
        self.state = match (&self.state, byte) {
            (State::Body, BELL) | (State::BodyEscape, b'\\') => {
                self.state = State::Text;
                return true;
            }
            (State::Escape, b']') => {
                self.body.clear();
                State::Body
            }
            (State::Escape, ESCAPE) => State::Escape,
            (State::Escape, _) | (State::Other, BELL) | (State::OtherEscape, b'\\') | (_, CANCEL | SUBSTITUTE) => {
                State::Text
            }
            (State::Body, ESCAPE) => State::BodyEscape,
            (State::Other, ESCAPE) => State::OtherEscape,
            (State::Body, _) => {
                self.body.push(byte);
                if could_be_mark(&self.body) { State::Body } else { State::Other }
            }
            // An escape that ends nothing begins something else.
            (State::BodyEscape | State::OtherEscape, b']') => {
                self.body.clear();
                State::Body
            }
            (State::Other, _) => State::Other,
            (State::BodyEscape | State::OtherEscape | State::Text, _) => State::Text,
        };
        false
    }

    /// What the body says, if it counts.
    fn mark(&mut self) -> Option<Mark> {
        let body = std::str::from_utf8(&self.body).ok()?;
        if let Some(url) = body.strip_prefix("7;file://") {
            let path = &url[url.find('/')?..];
            return Some(Mark::Directory(decoded(path)));
        }
        let mut fields = body.strip_prefix("133;")?.split(';');
        let kind = fields.next()?;
        let fields: Vec<&str> = fields.collect();
        let nonce = self.nonce.as_deref()?;
        if !fields.contains(&nonce) {
            return None;
        }
        let (letter, number) = (*kind.as_bytes().first()?, fields.iter().find_map(|field| field.strip_prefix("sn=")));
        let turn = match number {
            Some(number) => Some((number.parse().ok().filter(|number| *number != FOREIGN)?, letter)),
            None => None,
        };
        if !is_next(self.newest, turn) {
            return None;
        }
        let told = |name: &str| fields.iter().find_map(|field| field.strip_prefix(name)).map(decoded);
        let mark = match kind {
            "A" => Mark::Prompt,
            "B" => Mark::PromptEnd,
            "C" => Mark::Started { command: told("cmdline_url="), has_lead: fields.contains(&"lead") },
            "D" => Mark::Ended {
                exit: fields.first().and_then(|status| status.parse().ok()),
                command: told("cmdline_url=").map(Told::New).or_else(|| told("same_url=").map(Told::Same)),
                fill: told("fill="),
            },
            _ => return None,
        };
        self.newest = turn.or(self.newest);
        Some(mark)
    }
}

/// Whether a mark counts behind the newest one that had a number. One without is of a keeper from before there were
/// numbers, whose shell numbers none. The first number may be any: what was before it is pruned or lost.
fn is_next(newest: Option<Turn>, turn: Option<Turn>) -> bool {
    match (newest, turn) {
        (None, _) => true,
        (Some(_), None) => false,
        // A prompt that is drawn again, as by Ctrl-L, has the same end.
        (Some(newest), Some(turn)) => turn > newest || turn == newest && turn.1 == b'B',
    }
}

/// Whether a body that begins like this may be a mark.
fn could_be_mark(body: &[u8]) -> bool {
    let begins = |prefix: &[u8]| body.iter().zip(prefix).all(|(one, other)| one == other);
    body.len() <= BODY_BYTES_MAX && (begins(b"133;") || begins(b"7;file://"))
}

/// Undoes percent-encoding; what is no UTF-8 is shown as such.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Place {
        Place { seq: Seq::FIRST, offset, time_us: 7 }
    }

    fn read(pieces: &[&[u8]]) -> Vec<Found> {
        let mut reader = MarkReader::new(Some("n0".to_owned()));
        let (mut offset, mut all) = (0, Vec::new());
        for piece in pieces {
            reader.feed(piece, at(offset), |found| all.push(found));
            offset += piece.len() as u64;
        }
        all
    }

    /// A title that a program began and never ended is part of what it printed.
    #[test]
    fn a_mark_behind_a_sequence_without_an_end_begins_where_it_begins() {
        let text = b"out\x1b]0;no end\r\n\x1b]133;D;0;sk=n0\x07";
        for cut in 0..text.len() {
            let found = read(&[&text[..cut], &text[cut..]]);
            assert_eq!(found.len(), 1, "cut at {cut}");
            assert_eq!(found[0].from, 15, "cut at {cut}");
        }
    }

    const LIFE: &[u8] = b"text\x1b[1m\x1b]7;file://host/a%20b\x07\x1b]133;A;sk=n0\x07$ \x1b]133;B;sk=n0\x1b\\ls\r\n\
        \x1b]133;C;sk=n0;cmdline_url=ls%3B x\x07out\x1b]133;D;3;sk=n0;same_url=ls\x07";

    #[test]
    fn marks_are_found_with_their_places_wherever_output_is_cut() {
        let whole = read(&[LIFE]);
        let marks: Vec<Mark> = whole.iter().map(|found| found.mark.clone()).collect();
        assert_eq!(
            marks,
            [
                Mark::Directory("/a b".to_owned()),
                Mark::Prompt,
                Mark::PromptEnd,
                Mark::Started { command: Some("ls; x".to_owned()), has_lead: false },
                Mark::Ended { exit: Some(3), command: Some(Told::Same("ls".to_owned())), fill: None },
            ]
        );
        let out = &LIFE[usize::try_from(whole[3].to).unwrap()..usize::try_from(whole[4].from).unwrap()];
        assert_eq!(out, b"out");
        for cut in 0..LIFE.len() {
            assert_eq!(read(&[&LIFE[..cut], &LIFE[cut..]]), whole, "cut at {cut}");
        }
        let single: Vec<&[u8]> = LIFE.chunks(1).collect();
        assert_eq!(read(&single), whole);
    }

    /// How many marks of these count; each is a letter and what follows the nonce.
    fn counted(marks: &[(&str, &str)]) -> Vec<bool> {
        let mut reader = MarkReader::new(Some("n0".to_owned()));
        let mut offset = 0;
        let mut counts = |(letter, rest): &(&str, &str)| {
            let (text, mut is_found) = (format!("\x1b]133;{letter};sk=n0{rest}\x07"), false);
            reader.feed(text.as_bytes(), at(offset), |_| is_found = true);
            offset += text.len() as u64;
            // As after a restart of the daemon.
            let mut state = Vec::new();
            shellkeep_transport::encode_into(&reader, &mut state, 1 << 20).unwrap();
            reader = shellkeep_transport::decode(&state).unwrap();
            is_found
        };
        marks.iter().map(&mut counts).collect()
    }

    #[test]
    fn a_mark_that_is_shown_again_counts_once() {
        let turn = |from: u64| {
            let (prompt, line) = (format!(";sn={from}"), format!(";sn={}", from + 1));
            [("A", prompt.clone()), ("B", prompt), ("C", line.clone()), ("D", line)]
        };
        // What is shown again by the command whose line is the newest, and then by a job at the prompt after it.
        let seen: Vec<_> = [&turn(1)[..], &turn(500), &turn(502)[..3], &turn(1), &turn(500), &turn(502)[..3]].concat();
        let job = [&turn(502)[3..], &turn(504)[..2], &turn(500), &turn(502), &turn(504)[..1], &turn(504)[2..]].concat();
        let all: Vec<_> = seen.iter().chain(&job).map(|(letter, rest)| (*letter, rest.as_str())).collect();
        let expected = [vec![true; 11], vec![false; 11], vec![true; 3], vec![false; 9], vec![true; 2]].concat();
        assert_eq!(counted(&all), expected);
    }

    #[test]
    fn numbers_begin_anywhere_and_none_stops_the_list_by_accident() {
        for (marks, expected) in [
            // The front is pruned, in the middle something is lost.
            (&[("D", ";sn=500"), ("A", ";sn=501"), ("C", ";sn=9000")][..], &[true; 3][..]),
            // The prompt is drawn again; or begun again, with the next number.
            (&[("A", ";sn=3"), ("B", ";sn=3"), ("B", ";sn=3"), ("A", ";sn=4"), ("B", ";sn=4")], &[true; 5]),
            (&[("A", ";sn=3"), ("A", ";sn=3"), ("B", ";sn=2")], &[true, false, false]),
            // Of lines that were pasted each is executed, and no prompt is between.
            (&[("B", ";sn=3"), ("C", ";sn=4"), ("C", ";sn=5"), ("D", ";sn=5")], &[true; 4]),
            // An older keeper's shell; one that numbers its marks numbers all.
            (&[("A", ""), ("B", ""), ("A", ""), ("C", ""), ("D", "")], &[true; 5]),
            (&[("A", ";sn=3"), ("A", ""), ("D", ";cmdline_url=x"), ("B", ";sn=3")], &[true, false, false, true]),
            // A shell inside; what is no number, or too great for one; and the greatest.
            (&[("C", ";sn=0"), ("B", ";sn="), ("A", ";sn=-1"), ("A", ";sn=18446744073709551616")], &[false; 4]),
            (
                &[("A", ";sn=18446744073709551615"), ("C", ";sn=18446744073709551615"), ("A", ";sn=1")],
                &[true, true, false],
            ),
            // What is none of ours has no turn.
            (&[("P", ";sn=9"), ("", ";sn=9"), ("A", ";sn=2")], &[false, false, true]),
        ] {
            assert_eq!(counted(marks), expected, "{marks:?}");
        }
    }

    #[test]
    fn printed_text_forges_no_mark() {
        for forged in [
            &b"\x1b]133;C\x07"[..],
            b"\x1b]133;C;sk=n1;cmdline_url=rm\x07",
            b"\x1b]133;C;sk=\x07",
            b"\x1b]133;C;xsk=n0\x07",
            b"]133;C;sk=n0\x07",
            b"\x1b]133;\x18C;sk=n0\x07",
        ] {
            assert_eq!(read(&[forged]), [], "{:?}", String::from_utf8_lossy(forged));
        }
        assert_eq!(MarkReader::new(None).mark(), None);
    }

    #[test]
    fn an_endless_sequence_costs_bounded_memory_and_hides_nothing_behind_it() {
        let mut reader = MarkReader::new(Some("n0".to_owned()));
        let mut all = Vec::new();
        reader.feed(b"\x1b]133;C;sk=n0;cmdline_url=", at(0), |found| all.push(found));
        for piece in 0..1000 {
            reader.feed(&[b'x'; 1024], at(26 + piece * 1024), |found| all.push(found));
        }
        assert!(reader.body.capacity() <= 2 * BODY_BYTES_MAX, "{}", reader.body.capacity());
        reader.feed(b"\x07\x1b]133;A;sk=n0\x07", at(26 + (1000 << 10)), |found| all.push(found));
        assert_eq!(all.iter().map(|found| &found.mark).collect::<Vec<_>>(), [&Mark::Prompt]);
    }
}
