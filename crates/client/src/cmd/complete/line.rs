//! A command line up to the cursor, in words as its shell will read them.
//!
//! Promise: no line is an error; what cannot be understood is completed as nothing.

use crate::cli::Dialect;
use crate::palette::quoted;

/// Longest line that is looked at, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// How the text at the cursor is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quote {
    None,
    Single,
    Double,
}

impl Quote {
    /// `text` so that it means itself there.
    pub(super) fn applied(self, text: &str) -> String {
        match self {
            Self::None => quoted(text),
            Self::Single => text.replace('\'', "'\\''"),
            Self::Double => {
                let escaped = |character: char| "\\\"$`".contains(character).then_some('\\');
                text.chars().flat_map(|character| escaped(character).into_iter().chain([character])).collect()
            }
        }
    }
}

/// The word that the cursor is in or behind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Current {
    /// What it means so far.
    pub(super) text: String,
    /// Whether a quote is open.
    pub(super) quote: Quote,
    /// Bytes of `text` that the shell leaves as they are.
    pub(super) replaced_from: usize,
}

/// The words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Those before the cursor's.
    pub(super) words: Vec<String>,
    pub(super) current: Current,
}

impl Line {
    /// Of `point` bytes of `line`. `breaks` are the characters behind which bash begins to replace.
    pub(super) fn new(line: &str, point: usize, shell: Dialect, breaks: &str) -> Self {
        let end = line.floor_char_boundary(point.min(line.len()).min(LINE_BYTES_MAX));
        let mut this =
            Self { words: Vec::new(), current: Current { text: String::new(), quote: Quote::None, replaced_from: 0 } };
        let mut is_word = false;
        let mut characters = line[..end].chars().peekable();
        while let Some(character) = characters.next() {
            let current = &mut this.current;
            match (current.quote, character) {
                (Quote::None, ' ' | '\t' | '\n') => {
                    if std::mem::take(&mut is_word) {
                        this.words.push(std::mem::take(&mut current.text));
                    }
                    current.replaced_from = 0;
                    continue;
                }
                (Quote::None, '\'' | '"') => {
                    current.quote = if character == '"' { Quote::Double } else { Quote::Single };
                    current.replaced_from = current.text.len();
                }
                (Quote::Single, '\'') | (Quote::Double, '"') => {
                    current.quote = Quote::None;
                    if breaks.contains(character) {
                        current.replaced_from = current.text.len();
                    }
                }
                (Quote::None, '\\') => current.text.extend(characters.next()),
                (Quote::Double, '\\') => match characters.next_if(|next| "\\\"$`".contains(*next)) {
                    Some(next) => current.text.push(next),
                    None => current.text.push('\\'),
                },
                (Quote::Single, '\\') if shell == Dialect::Fish => {
                    match characters.next_if(|next| "\\'".contains(*next)) {
                        Some(next) => current.text.push(next),
                        None => current.text.push('\\'),
                    }
                }
                (quote, _) => {
                    current.text.push(character);
                    if quote == Quote::None && breaks.contains(character) {
                        current.replaced_from = current.text.len();
                    }
                }
            }
            is_word = true;
        }
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What bash has by default.
    const BREAKS: &str = " \t\n\"'@><=;|&(:";

    fn current(line: &str) -> (String, Quote, usize) {
        let Current { text, quote, replaced_from } = Line::new(line, line.len(), Dialect::Bash, BREAKS).current;
        (text, quote, replaced_from)
    }

    #[test]
    fn words_are_what_the_shell_makes_of_them() {
        let line = Line::new("sk run 'a b'\\ \"c$\\\"d\" x", 99, Dialect::Bash, BREAKS);
        assert_eq!(line.words, ["sk", "run", "a b c$\"d"]);
        assert_eq!(line.current.text, "x");
        assert_eq!(Line::new("sk ru", 2, Dialect::Bash, "").current.text, "sk");
        assert_eq!(Line::new("sk é", 4, Dialect::Bash, "").current.text, ""); // in the middle of a character
        assert_eq!(Line::new("sk 'it\\'", 99, Dialect::Fish, "").current.text, "it'");
        assert_eq!(Line::new("sk ''", 99, Dialect::Zsh, "").words, ["sk"]);
    }

    #[test]
    fn what_bash_replaces_begins_behind_its_last_break() {
        assert_eq!(current("sk run just:te"), ("just:te".to_owned(), Quote::None, 5));
        assert_eq!(current("sk run 'just:te"), ("just:te".to_owned(), Quote::Single, 0));
        assert_eq!(current("sk run just:\"te"), ("just:te".to_owned(), Quote::Double, 5));
        assert_eq!(current("sk run just\\:te"), ("just:te".to_owned(), Quote::None, 0));
        assert_eq!(current("sk run --session=wo"), ("--session=wo".to_owned(), Quote::None, 10));
        assert_eq!(current("sk run just:te "), (String::new(), Quote::None, 0));
    }

    #[test]
    fn a_name_is_quoted_as_the_place_wants_it() {
        for (quote, expected) in
            [(Quote::None, "it\\'s\\$\\\"1"), (Quote::Single, "it'\\''s$\"1"), (Quote::Double, "it's\\$\\\"1")]
        {
            assert_eq!(quote.applied("it's$\"1"), expected);
        }
    }
}
