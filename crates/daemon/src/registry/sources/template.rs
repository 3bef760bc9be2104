//! Text with places for arguments: prompts for agents, and lines for a shell.
//!
//! Promise: one pass. What an argument holds is never looked at again, so `$1` in a value stays `$1`. Runs nothing:
//! `!` and `@`, which agents act on, pass as they are.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::item::Arguments;
use super::quoting::{self, Context};

/// Whose rules a prompt's places follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `$ARGUMENTS`, `$ARGUMENTS[0]`, and positions from `$1`.
    FromOne,
    /// `$ARGUMENTS`, `$ARGUMENTS[0]`, positions from `$0`, and named arguments.
    FromZero,
    /// `{{args}}`.
    Gemini,
}

/// Text for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// As written, without its front matter.
    pub text: Arc<str>,
    /// How its places look.
    pub dialect: Dialect,
    /// Named arguments in order, for `$name`.
    pub names: Vec<String>,
    /// What `${NAME}` means, for a few names whose value is known: the directory of a skill, of a plugin.
    pub constants: Vec<(String, String)>,
}

impl Prompt {
    /// The text with the arguments in their places, in one pass.
    ///
    /// A position that was not given stays as it is written. Text without any place gets what was given at its end, so
    /// that nothing is lost.
    pub fn render(&self, given: &str) -> String {
        let given = given.trim();
        let mut rendered = String::with_capacity(self.text.len() + given.len());
        let has_place = match self.dialect {
            Dialect::Gemini => self.render_braces(given, &mut rendered),
            Dialect::FromOne | Dialect::FromZero => self.render_dollars(given, &mut rendered),
        };
        if !has_place && !given.is_empty() {
            rendered.truncate(rendered.trim_end().len());
            rendered.push_str(if self.dialect == Dialect::Gemini { "\n\n" } else { "\n\nARGUMENTS: " });
            rendered.push_str(given);
        }
        rendered
    }

    fn render_braces(&self, given: &str, rendered: &mut String) -> bool {
        let mut rest = &*self.text;
        let mut has_place = false;
        while let Some(at) = rest.find("{{args}}") {
            has_place = true;
            rendered.push_str(&rest[..at]);
            rendered.push_str(given);
            rest = &rest[at + "{{args}}".len()..];
        }
        rendered.push_str(rest);
        has_place
    }

    fn render_dollars(&self, given: &str, rendered: &mut String) -> bool {
        // What is no shell words (an odd quote) is cut at its spaces.
        let words =
            shlex::split(given).unwrap_or_else(|| given.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let mut rest = &*self.text;
        let mut has_place = false;
        while let Some(at) = rest.find('$') {
            rendered.push_str(&rest[..at]);
            rest = &rest[at..];
            let (length, place) = self.place(&rest[1..]);
            let value = match place {
                Place::All => Some(given),
                Place::Position(position) => words.get(position).map(String::as_str),
                Place::Constant(value) => Some(value),
                Place::No => None,
            };
            has_place |= matches!(place, Place::All | Place::Position(_));
            rendered.push_str(value.unwrap_or(&rest[..=length]));
            rest = &rest[1 + length..];
        }
        rendered.push_str(rest);
        has_place
    }

    /// What a `$` begins, and how many bytes follow it.
    fn place<'a>(&'a self, text: &str) -> (usize, Place<'a>) {
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if let Some(rest) = text.strip_prefix("ARGUMENTS") {
            let index = rest.strip_prefix('[').map_or(0, digits);
            if index > 0 && rest[1 + index..].starts_with(']') {
                let position = rest[1..=index].parse().unwrap_or(usize::MAX);
                return ("ARGUMENTS[]".len() + index, Place::Position(position));
            }
            return ("ARGUMENTS".len(), Place::All);
        }
        let number = digits(text);
        if number > 0 {
            let position: usize = text[..number].parse().unwrap_or(usize::MAX);
            let position = match self.dialect {
                // `$0` is no position where they count from one.
                Dialect::FromOne if position == 0 => return (number, Place::No),
                Dialect::FromOne => position - 1,
                Dialect::FromZero | Dialect::Gemini => position,
            };
            return (number, Place::Position(position));
        }
        if let Some(rest) = text.strip_prefix('{') {
            let known = self
                .constants
                .iter()
                .find(|(name, _)| rest.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('}')));
            return known.map_or((0, Place::No), |(name, value)| (name.len() + 2, Place::Constant(value)));
        }
        let word = text.len() - text.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '-').len();
        // `$branch-name` is the argument `branch-name` if there is one, else `branch` and text.
        for end in (1..=word).rev().filter(|end| text.is_char_boundary(*end)) {
            let ends_here = !text[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
            if let Some(position) = self.names.iter().position(|name| ends_here && *name == text[..end]) {
                return (end, Place::Position(position));
            }
        }
        (0, Place::No)
    }
}

/// What a `$` stands for.
enum Place<'a> {
    All,
    Position(usize),
    Constant(&'a str),
    No,
}

/// How the places of a line look, and how values get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// There are none; what is added goes behind, quoted.
    None,
    /// `{{name}}`, the value quoted as it must be where the place stands.
    Quoted,
    /// The same; a default is put in as its author wrote it.
    Braces,
    /// `<name>`, else as [`Self::Braces`].
    Angles,
}

/// A line for a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// As written.
    pub text: String,
    /// How its places look.
    pub places: Places,
    /// Which shells it is written for; empty: any.
    pub shell: Vec<String>,
    /// Where it runs; nothing: where the session is.
    pub dir: Option<PathBuf>,
    /// Set on top of the child's environment.
    pub env: Vec<(String, String)>,
}

/// Why a line cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// A needed argument was not given.
    #[error("the argument \"{0}\" is missing")]
    Missing(String),
    /// There is no place for it.
    #[error("there is no place for the argument \"{0}\"")]
    TooMany(String),
    /// It has a NUL byte, which no shell can be given.
    #[error("an argument has a NUL byte")]
    Nul,
    /// Its place, or its shell, takes no such value.
    #[error("{0}")]
    Place(String),
}

impl Line {
    /// The line with what was given in its places, in the order of `arguments`, in one pass.
    ///
    /// # Errors
    /// [`LineError`].
    pub fn render(&self, arguments: &Arguments, given: &[String]) -> Result<String, LineError> {
        if given.iter().any(|value| value.contains('\0')) {
            return Err(LineError::Nul);
        }
        let shell = self.shell.first().map_or("sh", String::as_str);
        let quoted = |value: &str, context| {
            let refused = || LineError::Place(format!("{shell} can be given plain words only, not \"{value}\""));
            quoting::quoted(value, context, shell).ok_or_else(refused)
        };
        if self.places == Places::None {
            let mut line = self.text.clone();
            for value in given {
                line.push(' ');
                line.push_str(&quoted(value, Context::Plain)?);
            }
            return Ok(line);
        }
        let places = places(&self.text, self.places);
        let ranges: Vec<_> = places.iter().map(|(range, _)| range.clone()).collect();
        let contexts = quoting::contexts(&self.text, &ranges).map_err(LineError::Place)?;
        let mut values = Vec::with_capacity(arguments.names.len());
        let mut left = given.iter();
        for argument in &arguments.names {
            let mut is_default = false;
            let mut taken: Vec<&str> = if argument.rest {
                left.by_ref().map(String::as_str).collect()
            } else {
                left.next().map(String::as_str).into_iter().collect()
            };
            if taken.is_empty() {
                match &argument.default {
                    Some(default) => {
                        is_default = self.places != Places::Quoted;
                        taken.push(default);
                    }
                    None if argument.required => return Err(LineError::Missing(argument.name.clone())),
                    None => {}
                }
            }
            values.push((argument.name.as_str(), taken, is_default));
        }
        if let Some(extra) = left.next() {
            return Err(LineError::TooMany(extra.clone()));
        }
        let mut line = String::with_capacity(self.text.len());
        let mut end = 0;
        for ((range, name), context) in places.into_iter().zip(contexts) {
            line.push_str(&self.text[end..range.start]);
            match values.iter().find(|(known, ..)| *known == name) {
                Some((_, taken, true)) if context == Context::Plain => line.push_str(&taken.join(" ")),
                Some((_, taken, _)) if context == Context::Plain => {
                    let words: Result<Vec<_>, _> = taken.iter().map(|value| quoted(value, context)).collect();
                    line.push_str(&words?.join(" "));
                }
                Some((_, taken, _)) => line.push_str(&quoted(&taken.join(" "), context)?),
                None => line.push_str(&self.text[range.clone()]),
            }
            end = range.end;
        }
        line.push_str(&self.text[end..]);
        Ok(line)
    }
}

/// Why a line cannot be a command: a place in it stands where an argument would be evaluated.
pub(super) fn refusal(text: &str, kind: Places) -> Option<String> {
    let ranges: Vec<_> = places(text, kind).into_iter().map(|(range, _)| range).collect();
    quoting::contexts(text, &ranges).err()
}

/// The places of a line, with their names, from left to right.
pub(super) fn places(text: &str, kind: Places) -> Vec<(Range<usize>, &str)> {
    let (open, close) = match kind {
        Places::None => return Vec::new(),
        Places::Quoted | Places::Braces => ("{{", "}}"),
        Places::Angles => ("<", ">"),
    };
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = text[at..].find(open).map(|begin| at + begin) {
        let inner = begin + open.len();
        let length = text[inner..].find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | ' '))).unwrap_or(0);
        let name = text[inner..inner + length].trim();
        let is_name = !name.is_empty() && !name.contains(' ') && text[inner + length..].starts_with(close);
        // `a < b` and `cmd <file >out` are redirections: a name in angles has no space about it.
        if is_name && (kind != Places::Angles || name.len() == length) {
            at = inner + length + close.len();
            found.push((begin..at, name));
        } else {
            at = inner;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::item::Argument;
    use super::*;

    fn prompt(text: &str, dialect: Dialect) -> Prompt {
        Prompt { text: text.into(), dialect, names: vec!["issue".into(), "branch".into()], constants: Vec::new() }
    }

    #[test]
    fn positions_are_split_as_a_shell_does_and_all_is_raw() {
        let from_one = prompt("$1|$2|$ARGUMENTS|$ARGUMENTS[0]", Dialect::FromOne);
        assert_eq!(from_one.render("'a b' c"), "a b|c|'a b' c|a b");
        let from_zero = prompt("$0|$1|$issue|$branch", Dialect::FromZero);
        assert_eq!(from_zero.render("'a b' c"), "a b|c|a b|c");
    }

    #[test]
    fn what_an_argument_holds_is_never_looked_at_again() {
        let text = prompt("$1 and $2 of $ARGUMENTS", Dialect::FromOne);
        assert_eq!(text.render("$2 $ARGUMENTS"), "$2 and $ARGUMENTS of $2 $ARGUMENTS");
        assert_eq!(prompt("{{args}}", Dialect::Gemini).render("{{args}} {{args}}"), "{{args}} {{args}}");
    }

    #[test]
    fn a_position_that_was_not_given_stays_as_it_is_written() {
        let text = prompt("cost $100, $2 $issue $other ${X:-y} $", Dialect::FromOne);
        assert_eq!(text.render("one"), "cost $100, $2 one $other ${X:-y} $");
    }

    #[test]
    fn text_without_a_place_gets_the_arguments_at_its_end() {
        assert_eq!(prompt("Do it.\n", Dialect::FromZero).render("now"), "Do it.\n\nARGUMENTS: now");
        assert_eq!(prompt("Do it.\n", Dialect::FromZero).render(" "), "Do it.\n");
        assert_eq!(prompt("Do it.", Dialect::Gemini).render("now"), "Do it.\n\nnow");
    }

    #[test]
    fn commands_and_files_in_a_prompt_stay_text() {
        let text = "!`git status` @src/main.rs !{ls} @{x}";
        assert_eq!(prompt(text, Dialect::FromZero).render(""), text);
        assert_eq!(prompt(text, Dialect::Gemini).render(""), text);
    }

    #[test]
    fn an_odd_quote_does_not_lose_arguments() {
        assert_eq!(prompt("$1|$2", Dialect::FromOne).render("it's fine"), "it's|fine");
    }

    #[test]
    fn constants_are_no_arguments() {
        let mut text = prompt("${CLAUDE_SKILL_DIR}/x.sh ${HOME}", Dialect::FromZero);
        text.constants.push(("CLAUDE_SKILL_DIR".into(), "/p/$0".into()));
        assert_eq!(text.render("a"), "/p/$0/x.sh ${HOME}\n\nARGUMENTS: a");
    }

    fn line(text: &str, places: Places) -> Line {
        Line { text: text.into(), places, shell: Vec::new(), dir: None, env: Vec::new() }
    }

    fn arguments(names: &[(&str, Option<&str>)]) -> Arguments {
        let argument = |(name, default): &(&str, Option<&str>)| Argument {
            name: (*name).into(),
            default: default.map(str::to_owned),
            required: default.is_none(),
            ..Argument::default()
        };
        Arguments { hint: None, names: names.iter().map(argument).collect() }
    }

    #[test]
    fn a_quoted_place_holds_one_word_whatever_is_given() {
        let line = line("echo {{what}} {{ what }}; ls {{other}}", Places::Quoted);
        let given = ["$(reboot); 'x'".to_owned()];
        let rendered = line.render(&arguments(&[("what", None)]), &given).unwrap();
        let words = shlex::split(&rendered).unwrap();
        assert_eq!(words, ["echo", "$(reboot); 'x'", "$(reboot); 'x';", "ls", "{{other}}"]);
    }

    #[test]
    fn places_of_navi_are_told_from_redirections() {
        let line = line("sort <file> < in.txt <(cat a) >out", Places::Angles);
        let rendered = line.render(&arguments(&[("file", None)]), &["x y".to_owned()]).unwrap();
        assert_eq!(rendered, "sort 'x y' < in.txt <(cat a) >out");
    }

    #[test]
    fn too_few_and_too_many_arguments_are_told() {
        let line = line("x {{a}} {{b}}", Places::Braces);
        let arguments = arguments(&[("a", None), ("b", Some("2"))]);
        assert_eq!(line.render(&arguments, &[]), Err(LineError::Missing("a".into())));
        assert_eq!(line.render(&arguments, &["1".into()]).unwrap(), "x 1 2");
        let three = ["1".to_owned(), "2".to_owned(), "3".to_owned()];
        assert_eq!(line.render(&arguments, &three), Err(LineError::TooMany("3".into())));
    }
}
