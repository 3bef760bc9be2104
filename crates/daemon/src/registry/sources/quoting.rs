//! What an argument must be written like where it stands in a shell's line.
//!
//! Promise: whatever an argument holds, the shell takes it for text: in a plain place for one word, within quotes for a part of what is
//! quoted. Places for which that cannot be had are refused before anybody sees the command. Pure.

use std::ops::Range;

/// How a place stands in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    /// Outside of quotes.
    Plain,
    /// Between `'` and `'`.
    Single,
    /// Between `"` and `"`.
    Double,
}

/// Who reads the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Posix,
    Fish,
    Other,
}

fn dialect(shell: &str) -> Dialect {
    match shell.rsplit('/').next().unwrap_or(shell) {
        "sh" | "bash" | "zsh" | "dash" | "ksh" | "mksh" | "ash" => Dialect::Posix,
        "fish" => Dialect::Fish,
        _ => Dialect::Other,
    }
}

/// A value for its place; nothing if it cannot be written for that shell.
pub(super) fn quoted(value: &str, context: Context, shell: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+,-".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return Some(value.to_owned());
    }
    let escaped = |special: &str| -> String {
        value.chars().flat_map(|c| special.contains(c).then_some('\\').into_iter().chain([c])).collect()
    };
    Some(match (dialect(shell), context) {
        (Dialect::Other, _) => return None,
        (Dialect::Posix, Context::Plain) => format!("'{}'", value.replace('\'', r"'\''")),
        (Dialect::Posix, Context::Single) => value.replace('\'', r"'\''"),
        (Dialect::Posix, Context::Double) => escaped("\\\"$`"),
        (Dialect::Fish, Context::Plain) => format!("'{}'", escaped("\\'")),
        (Dialect::Fish, Context::Single) => escaped("\\'"),
        (Dialect::Fish, Context::Double) => escaped("\\\"$"),
    })
}

/// What the characters mean at some point of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    Single,
    Double,
    /// `$(…)` or `(…)`: as plain.
    Group,
    /// `${…}`, `$((…))`, `` `…` ``, `$'…'`: no place may stand there.
    Odd(&'static str, &'static str),
}

/// How each place stands in its line.
///
/// # Errors
/// Why one of them may not stand where it stands, and what to write instead.
pub(super) fn contexts(text: &str, places: &[Range<usize>]) -> Result<Vec<Context>, String> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let mut line =
        Line { text, at: 0, modes: vec![Mode::Plain], is_escaped: false, before: ' ', has_group_in_quotes: false };
    let mut found = Vec::with_capacity(places.len());
    for place in places {
        line.go_to(place.start)?;
        found.push(line.context(&text[place.clone()])?);
        line.at = place.end;
        line.before = '}';
    }
    line.go_to(text.len())?;
    if line.has_group_in_quotes && text.contains("case ") {
        return Err("a place beside a case within quotes cannot be told from text; set a variable before it".to_owned());
    }
    Ok(found)
}

struct Line<'a> {
    text: &'a str,
    at: usize,
    modes: Vec<Mode>,
    is_escaped: bool,
    before: char,
    has_group_in_quotes: bool,
}

impl Line<'_> {
    fn mode(&self) -> Mode {
        self.modes.last().copied().unwrap_or(Mode::Plain)
    }

    fn context(&self, place: &str) -> Result<Context, String> {
        let instead = "write it as a plain word of its own";
        if self.is_escaped {
            return Err(format!("{place} stands behind a backslash; {instead}"));
        }
        if self.before == '$' {
            return Err(format!("{place} stands behind a $, where it would be evaluated; {instead}"));
        }
        if self.is_read_again() {
            return Err(format!(
                "{place} would be read by a second shell; give it as an argument instead: sh -c '… \"$1\"' sh {place}"
            ));
        }
        match self.mode() {
            Mode::Plain | Mode::Group => Ok(Context::Plain),
            Mode::Single => Ok(Context::Single),
            Mode::Double => Ok(Context::Double),
            Mode::Odd(what, _) => Err(format!("{place} stands in {what}, where it would be evaluated; {instead}")),
        }
    }

    /// `eval …`, `sh -c …`, `trap …`.
    fn is_read_again(&self) -> bool {
        let command = self.text[..self.at].rsplit([';', '|', '&', '\n', '(', '`']).next().unwrap_or_default();
        let words: Vec<&str> = command.split_whitespace().collect();
        let is_shell = |word: &&str| dialect(word) != Dialect::Other || matches!(*word, "su" | "nu" | "busybox");
        let begins = words.iter().position(is_shell);
        let is_option = |word: &&str| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c');
        // Behind the line itself there are arguments, which are not read again.
        let line = begins.and_then(|begins| words.iter().skip(begins).position(is_option).map(|at| begins + at));
        let is_in_line = line.is_some() && matches!(self.mode(), Mode::Single | Mode::Double);
        let is_bare = line.is_some_and(|line| line + 1 == words.len());
        is_in_line || is_bare || words.iter().any(|word| matches!(*word, "eval" | "trap"))
    }

    fn go_to(&mut self, end: usize) -> Result<(), String> {
        while self.at < end {
            let Some(c) = self.text[self.at..].chars().next() else { break };
            self.step(c)?;
        }
        Ok(())
    }

    fn step(&mut self, c: char) -> Result<(), String> {
        let rest = &self.text[self.at..];
        let begins = |mark: &str| rest.starts_with(mark);
        let mut length = c.len_utf8();
        if std::mem::take(&mut self.is_escaped) {
            (self.at, self.before) = (self.at + length, ' ');
            return Ok(());
        }
        let in_plain = matches!(self.mode(), Mode::Plain | Mode::Group);
        match (self.mode(), c) {
            (Mode::Single, '\'') | (Mode::Double, '"') | (Mode::Group, ')') => _ = self.modes.pop(),
            (Mode::Odd(_, end), _) if begins(end) => {
                length = end.len();
                self.modes.pop();
            }
            (Mode::Single, _) => {}
            (_, '\\') => self.is_escaped = true,
            (Mode::Odd("quotes of the form $'…'", _), _) => {}
            (_, '$') if begins("$((") => length = self.open(Mode::Odd("an arithmetic expression", "))"), 3),
            (_, '$') if begins("$(") => {
                self.has_group_in_quotes |= self.mode() == Mode::Double;
                length = self.open(Mode::Group, 2);
            }
            (_, '$') if begins("${") && !begins("${{") => length = self.open(Mode::Odd("${…}", "}"), 2),
            (_, '$') if in_plain && begins("$'") => length = self.open(Mode::Odd("quotes of the form $'…'", "'"), 2),
            (_, '`') => length = self.open(Mode::Odd("backquotes", "`"), 1),
            (Mode::Double | Mode::Odd(..), _) => {}
            (_, '\'') => length = self.open(Mode::Single, 1),
            (_, '"') => length = self.open(Mode::Double, 1),
            (_, '(') if begins("((") => length = self.open(Mode::Odd("an arithmetic expression", "))"), 2),
            (_, '(') => length = self.open(Mode::Group, 1),
            (_, '<') if begins("<<<") => length = 3,
            (_, '<') if begins("<<") => {
                let why = "a here-document and places do not go together; write printf '%s\\n' {{place}} | … instead";
                return Err(why.to_owned());
            }
            (_, '#') if self.before.is_whitespace() || ";|&(".contains(self.before) || self.at == 0 => {
                length = self.open(Mode::Odd("a comment", "\n"), 1);
            }
            _ => {}
        }
        (self.at, self.before) = (self.at + length, c);
        Ok(())
    }

    fn open(&mut self, mode: Mode, length: usize) -> usize {
        self.modes.push(mode);
        length
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::template::{Places, places};
    use super::*;

    const HOSTILE: [&str; 9] = [
        "$(touch PWN)",
        "`touch PWN`",
        "'; touch PWN; '",
        "\"; touch PWN; \"",
        "\\",
        "a\\'b",
        "$HOME",
        "a\nb # c",
        "\\\"; touch PWN #",
    ];

    fn filled(line: &str, value: &str, shell: &str) -> Option<String> {
        let places = places(line, Places::Quoted);
        let ranges: Vec<_> = places.iter().map(|(range, _)| range.clone()).collect();
        let contexts = contexts(line, &ranges).unwrap();
        let mut text = line.to_owned();
        for (range, context) in ranges.into_iter().zip(contexts).rev() {
            text.replace_range(range, &quoted(value, context, shell)?);
        }
        Some(text)
    }

    /// By the shells themselves.
    #[test]
    fn whatever_an_argument_holds_stays_text_wherever_its_place_stands() {
        let lines = [
            "printf %s {{a}}",
            "printf %s '{{a}}'",
            "printf %s \"{{a}}\"",
            "printf %s \"$(printf %s \"{{a}}\"; printf .)\" | sed 's/[.]$//'",
            "printf %s ''\"\"{{a}} # it's",
            "sh -c 'printf %s \"$1\"' sh {{a}}",
        ];
        for shell in ["sh", "bash", "zsh", "dash", "fish"] {
            let directory = tempfile::tempdir().unwrap();
            for line in lines.iter().filter(|line| shell != "fish" || !line.contains("$(")) {
                for value in HOSTILE {
                    let text = filled(line, value, shell).unwrap();
                    let Ok(run) = Command::new(shell).args(["-c", &text]).current_dir(directory.path()).output() else {
                        continue;
                    };
                    let said = String::from_utf8_lossy(&run.stdout);
                    assert_eq!(
                        said.trim_end_matches('\n'),
                        value,
                        "{shell}: {text}: {}",
                        String::from_utf8_lossy(&run.stderr)
                    );
                    assert!(!directory.path().join("PWN").exists(), "{shell}: {text}");
                }
            }
        }
        assert_eq!(filled("x {{a}}", "$(y)", "pwsh"), None);
        assert_eq!(filled("x {{a}}", "plain-1.0", "pwsh").as_deref(), Some("x plain-1.0"));
    }

    #[test]
    fn places_that_would_be_evaluated_are_refused() {
        for line in [
            "echo `ls {{a}}`",
            "cat <<EOF\n{{a}}\nEOF",
            "cat <<'EOF'\n{{a}}\nEOF",
            "echo $(({{a}}))",
            "echo ${x:-{{a}}}",
            "echo $'{{a}}'",
            "echo \\{{a}}",
            "echo ${{a}}",
            "echo x # {{a}}",
            "eval echo {{a}}",
            "bash -c 'echo {{a}}'",
            "bash -ec {{a}}",
            "echo \"$(case x in x) echo \"{{a}}\";; esac)\"",
        ] {
            let ranges: Vec<_> = places(line, Places::Quoted).into_iter().map(|(range, _)| range).collect();
            assert!(!ranges.is_empty(), "{line}");
            assert!(contexts(line, &ranges).is_err(), "{line}");
        }
    }
}
