//! Secrets in text that leaves the record: in the index and in exports they are left out, the log keeps what was printed.
//!
//! Promises that text without a secret is unchanged, that a secret of a known shape leaves nothing of itself but its
//! length, wherever it was cut, and that text without any costs one look. Lines go through [`Secrets::text`] or
//! [`Lines`], raw output of a terminal through [`Stream`]. Knows no files and no settings.

mod key_block;
mod line;
mod rules;
mod stream;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

pub(super) use key_block::KeyBlock;
use rules::{Rule, SHIPPED, any};
pub use stream::Stream;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Most patterns that a user may add.
pub const PATTERNS_MAX: usize = 64;

/// Memory that one compiled pattern may take; a larger one is refused.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Memory of the look at all patterns at once: what they may take one by one.
const SET_BYTES_MAX: usize = (PATTERNS_MAX + SHIPPED.len()) * PATTERN_BYTES_MAX;

/// Memory of its cache; beyond it states are made again when they are needed.
const SET_CACHE_BYTES_MAX: usize = 4 << 20;

/// Why a pattern cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is no regular expression.
    #[error("\"{pattern}\" is no regular expression: {reason}")]
    Syntax {
        /// As it was given.
        pattern: String,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// It matches the empty text, and so everywhere.
    #[error("\"{pattern}\" matches everywhere: it must ask for at least one character")]
    Empty {
        /// As it was given.
        pattern: String,
    },
    /// There are more than [`PATTERNS_MAX`].
    #[error("{count} patterns, at most {PATTERNS_MAX} can be had")]
    TooMany {
        /// So many were given.
        count: usize,
    },
}

/// The shapes of secrets that are left out. Cheap to share; the same for all sessions.
#[derive(Debug)]
pub struct Secrets {
    /// One look for all of them: what it does not find needs no second.
    hints: RegexSet,
    rules: Vec<Rule>,
    key_begins: Option<Regex>,
    key_ends: Option<Regex>,
    digest: u32,
}

impl Secrets {
    /// Leaves nothing out.
    pub fn none() -> Arc<Self> {
        Arc::new(Self { hints: RegexSet::empty(), rules: Vec::new(), key_begins: None, key_ends: None, digest: 0 })
    }

    /// The shipped shapes, and the user's own: regular expressions, of which the last group that takes
    /// part is left out, or all of the match if there is none.
    ///
    /// # Errors
    /// The first pattern that cannot be taken, and why.
    pub fn new(own: &[String]) -> Result<Arc<Self>, PatternError> {
        Self::check_count(own.len())?;
        let mut hints: Vec<&str> = SHIPPED.iter().map(|shipped| shipped.hint).collect();
        hints.extend(own.iter().map(String::as_str));
        let mut rules = Vec::new();
        for shipped in SHIPPED {
            rules.push(Rule { regex: compiled(shipped.pattern)?, accepts: shipped.accepts });
        }
        for pattern in own {
            rules.push(Rule { regex: Self::check(pattern)?, accepts: any });
        }
        let set = RegexSetBuilder::new(&hints).size_limit(SET_BYTES_MAX).dfa_size_limit(SET_CACHE_BYTES_MAX).build();
        let hints = set.map_err(|error| syntax("all patterns together", &error))?;
        let (key_begins, key_ends) = (Some(compiled(rules::KEY_BEGINS)?), Some(compiled(rules::KEY_ENDS)?));
        let shipped = SHIPPED.iter().flat_map(|shipped| [shipped.hint, shipped.pattern]);
        let all = shipped.chain([rules::KEY_BEGINS, rules::KEY_ENDS]).chain(own.iter().map(String::as_str));
        let digest =
            all.fold(1, |digest, text| crc32c::crc32c_append(crc32c::crc32c_append(digest, text.as_bytes()), &[0]));
        Ok(Arc::new(Self { hints, rules, key_begins, key_ends, digest }))
    }

    /// Whether a user's pattern can be taken.
    ///
    /// # Errors
    /// Why not.
    pub fn check(pattern: &str) -> Result<Regex, PatternError> {
        let regex = compiled(pattern)?;
        if regex.is_match(b"") {
            return Err(PatternError::Empty { pattern: pattern.to_owned() });
        }
        Ok(regex)
    }

    /// Whether so many patterns can be taken.
    ///
    /// # Errors
    /// If they cannot.
    pub fn check_count(count: usize) -> Result<(), PatternError> {
        if count > PATTERNS_MAX { Err(PatternError::TooMany { count }) } else { Ok(()) }
    }

    /// Tells these shapes from others, also in another process: text that was looked through with others is to be looked
    /// through again.
    pub fn digest(&self) -> u32 {
        self.digest
    }

    /// Whether there may be a secret in `text`; if not, there is none. One pass.
    pub fn may_be_in(&self, text: &[u8]) -> bool {
        !self.hints.is_empty() && self.hints.is_match(text)
    }

    /// A text of whole lines, like a command line, with [`REDACTED`] for each secret in it.
    pub fn text<'t>(self: &Arc<Self>, text: &'t str) -> Cow<'t, str> {
        if !self.may_be_in(text.as_bytes()) {
            return Cow::Borrowed(text);
        }
        let mut lines = self.lines();
        let shown: Vec<Cow<'_, str>> = text.split('\n').map(|line| lines.line(line)).collect();
        Cow::Owned(shown.join("\n"))
    }

    /// For the lines of a text, one after another.
    pub fn lines(self: &Arc<Self>) -> Lines {
        self.lines_from(KeyBlock::default())
    }

    /// The same behind lines of which [`Lines::block`] is left.
    pub(super) fn lines_from(self: &Arc<Self>, block: KeyBlock) -> Lines {
        Lines { secrets: Arc::clone(self), block }
    }

    /// Whether raw output of a terminal has a secret in it, or the end of one.
    pub(super) fn are_in_output(self: &Arc<Self>, output: &[u8], columns: u16) -> bool {
        if self.hints.is_empty() {
            return false;
        }
        let (mut stream, mut shown) = (self.stream(columns), Vec::with_capacity(output.len()));
        stream.feed((), output, |(), bytes| shown.extend(bytes));
        stream.finish(|(), bytes| shown.extend(bytes));
        shown != output || self.key_ends.as_ref().is_some_and(|ends| ends.is_match(output))
    }

    /// For the raw output of a terminal of so many columns. `T` says of each piece where it belongs, like its time.
    pub fn stream<T>(self: &Arc<Self>, columns: u16) -> Stream<T> {
        Stream::new(Arc::clone(self), columns)
    }

    /// Ranges of `line` that are secrets, in order, none touching another.
    fn spans(&self, line: &[u8]) -> Vec<Range<usize>> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        // Which ones is asked only then: it takes several times as long.
        if !self.may_be_in(line) {
            return spans;
        }
        for rule in self.hints.matches(line).into_iter().map(|index| &self.rules[index]) {
            for found in rule.regex.captures_iter(line).filter(rule.accepts) {
                // The last group that took part: the shipped ones use one of several.
                let groups = found.iter().skip(1).flatten();
                spans.extend(groups.last().or_else(|| found.get(0)).map(|found| found.range()));
            }
        }
        spans.retain(|span| !span.is_empty());
        spans.sort_by_key(|span| span.start);
        spans.dedup_by(|next, before| {
            let overlaps = next.start <= before.end;
            before.end = if overlaps { before.end.max(next.end) } else { before.end };
            overlaps
        });
        spans
    }
}

/// Reads the lines of a text in order: of a key of several lines each is left out.
#[derive(Debug, Clone)]
pub struct Lines {
    secrets: Arc<Secrets>,
    block: KeyBlock,
}

impl Lines {
    /// The next line, without its end, with [`REDACTED`] for each secret in it.
    pub fn line<'t>(&mut self, line: &'t str) -> Cow<'t, str> {
        if self.block.takes(&self.secrets, line.as_bytes()) {
            return Cow::Borrowed(REDACTED);
        }
        without(line, self.secrets.spans(line.as_bytes()))
    }

    /// The same for a part of a line, which goes on with `behind` and began with `before`.
    pub(super) fn part<'t>(&mut self, before: &str, part: &'t str, behind: &str) -> Cow<'t, str> {
        if before.is_empty() && behind.is_empty() {
            return self.line(part);
        }
        if self.block.takes(&self.secrets, part.as_bytes()) {
            return Cow::Borrowed(REDACTED);
        }
        let (from, to) = (before.len(), before.len() + part.len());
        let mut spans = self.secrets.spans([before, part, behind].concat().as_bytes());
        spans.retain(|span| span.end > from && span.start < to);
        without(part, spans.into_iter().map(|span| span.start.max(from) - from..span.end.min(to) - from).collect())
    }

    /// What is known of a key that may go on in the next line.
    pub(super) fn block(&self) -> KeyBlock {
        self.block
    }

    /// Whether nothing is known that makes the next lines secrets, whatever is in them, and `text` has none.
    pub(super) fn are_none_in(&self, text: &[u8]) -> bool {
        !self.block.is_open() && !self.secrets.may_be_in(text)
    }
}

/// `line` with [`REDACTED`] for each of `spans`.
fn without(line: &str, spans: Vec<Range<usize>>) -> Cow<'_, str> {
    if spans.is_empty() {
        return Cow::Borrowed(line);
    }
    let (mut shown, mut taken) = (String::new(), 0);
    for span in spans {
        // A user's pattern may have been cut within a character: all of it goes.
        let (from, to) = (line.floor_char_boundary(span.start), line.ceil_char_boundary(span.end));
        shown.push_str(&line[taken.min(from)..from]);
        shown.push_str(REDACTED);
        taken = to;
    }
    shown.push_str(&line[taken..]);
    Cow::Owned(shown)
}

fn compiled(pattern: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().map_err(|error| syntax(pattern, &error))
}

fn syntax(pattern: &str, error: &regex::Error) -> PatternError {
    // The parser draws several lines; the last one says what is wrong.
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    PatternError::Syntax { pattern: pattern.to_owned(), reason }
}
