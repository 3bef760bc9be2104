//! Words of a command line that may name files, as a shell would have them: quotes undone, cut where a shell cuts.
//!
//! Promise: what a shell would take for one word is among the words, and more besides: this is to find too much, never to run anything.
//! Pure; knows no files.

/// Words within quotes within quotes.
const DEPTH_MAX: usize = 4;

/// Programs that run a file that they are given, or words that do.
const INTERPRETERS: [&str; 28] = [
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "fish",
    "busybox",
    ".",
    "source",
    "eval",
    "node",
    "nodejs",
    "bun",
    "deno",
    "tsx",
    "ts-node",
    "python",
    "python2",
    "python3",
    "ruby",
    "perl",
    "php",
    "lua",
    "xargs",
    "parallel",
    "run-parts",
    "for",
    "make",
];

/// Words before the one that says what runs.
const BEFORE: [&str; 18] = [
    "env",
    "sudo",
    "doas",
    "exec",
    "command",
    "builtin",
    "nohup",
    "time",
    "nice",
    "timeout",
    "then",
    "do",
    "else",
    "if",
    "while",
    "until",
    "!",
    "cross-env",
];

/// Options whose value is the directory that something runs in.
const DIRECTORY_OPTIONS: [&str; 6] = ["-C", "--directory", "--prefix", "--cwd", "--dir", "--chdir"];

/// What a word is to what runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// Given to a program that makes of it what it likes.
    #[default]
    Argument,
    /// It runs.
    Program,
    /// Given to a program that runs files.
    Script,
}

/// One word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// Without its quotes; of what is not known only what stands around it.
    pub text: String,
    /// It has `*`, `?` or brackets, or a variable that only the shell knows.
    pub is_open: bool,
    pub role: Role,
    /// It says where what follows runs.
    pub is_directory: bool,
}

/// What is known of variables.
pub(super) type Known<'a> = &'a dyn Fn(&str) -> Option<String>;

/// All words of a text. At most `max`; false if there are more.
pub(super) fn words(text: &str, known: Known<'_>, max: usize) -> (Vec<Word>, bool) {
    let mut found = Vec::new();
    let is_all = collect(text, known, max, 0, &mut found);
    (found, is_all)
}

fn collect(text: &str, known: Known<'_>, max: usize, depth: usize, found: &mut Vec<Word>) -> bool {
    for command in Cutter::cut(text, known) {
        let what = command.iter().position(|word| !is_before(&word.text));
        // No line begins with an option; make has marks there.
        let what = if command.first().is_some_and(|word| word.text.starts_with('-')) { Some(0) } else { what };
        let first = what;
        let what = first.and_then(|at| command.get(at)).map(|word| base_name(&word.text));
        let is_interpreter = what.is_some_and(|what| INTERPRETERS.contains(&what));
        let goes = matches!(what, Some("cd" | "pushd"));
        let mut before = String::new();
        for (at, mut word) in command.into_iter().enumerate() {
            if found.len() >= max {
                return false;
            }
            let is_what = first == Some(at);
            word.role = match (is_what, is_interpreter) {
                (true, _) => Role::Program,
                (false, true) => Role::Script,
                (false, false) => Role::Argument,
            };
            word.is_open &= !word.text.trim_matches(['[', ']', '@']).is_empty() || word.text.is_empty();
            word.is_directory = (goes && !is_what) || DIRECTORY_OPTIONS.contains(&before.as_str());
            before.clone_from(&word.text);
            let value = DIRECTORY_OPTIONS.iter().find_map(|option| word.text.strip_prefix(option)?.strip_prefix('='));
            found.extend(value.map(|value| Word { text: value.to_owned(), is_directory: true, ..Word::default() }));
            if depth < DEPTH_MAX && word.text.contains(|c: char| c.is_whitespace() || "\"'`;|&()<>$".contains(c)) {
                let inner = word.text.clone();
                found.push(word);
                // A line within a line, as of `bash -c "…"`.
                if !collect(&inner, known, max, depth + 1, found) {
                    return false;
                }
            } else {
                found.push(word);
            }
        }
    }
    true
}

/// Settings of variables, options, numbers, and words such as `sudo`.
fn is_before(word: &str) -> bool {
    BEFORE.contains(&word)
        || word.starts_with('-')
        || word.chars().all(|c| c.is_ascii_digit() || ".smhd".contains(c))
            && word.starts_with(|c: char| c.is_ascii_digit())
        || word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

fn base_name(word: &str) -> &str {
    if word.starts_with('/') {
        word.rsplit('/').next().unwrap_or(word)
    } else {
        word.trim_start_matches(['@', '-', '+'])
    }
}

/// Cuts a text into commands, and those into words.
struct Cutter<'a> {
    known: Known<'a>,
    rest: &'a str,
    commands: Vec<Vec<Word>>,
    command: Vec<Word>,
    word: Option<Word>,
}

impl<'a> Cutter<'a> {
    fn cut(text: &'a str, known: Known<'a>) -> Vec<Vec<Word>> {
        let mut cutter = Self { known, rest: text, commands: Vec::new(), command: Vec::new(), word: None };
        while let Some(c) = cutter.next() {
            cutter.take(c);
        }
        cutter.end_command();
        cutter.commands
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn word(&mut self) -> &mut Word {
        self.word.get_or_insert_with(Word::default)
    }

    fn end_word(&mut self) {
        self.command.extend(self.word.take());
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.command.is_empty() {
            self.commands.push(std::mem::take(&mut self.command));
        }
    }

    fn take(&mut self, c: char) {
        match c {
            '\\' => match self.next() {
                Some('\n') | None => self.end_word(),
                Some(c) => self.word().text.push(c),
            },
            '\'' => {
                let end = self.rest.find('\'').unwrap_or(self.rest.len());
                let (inner, rest) = self.rest.split_at(end);
                self.word().text.push_str(inner);
                self.rest = rest.get(1..).unwrap_or_default();
            }
            '"' => self.double_quoted(),
            '\n' | ';' | '|' | '&' | '(' => self.end_command(),
            ')' | '`' => {
                self.end_command();
                // `$(…)/x.sh`: what is before it is not known.
                if self.rest.starts_with(|c: char| c == '/' || c == '.' || c.is_alphanumeric()) {
                    self.word().is_open = true;
                }
            }
            c if c.is_whitespace() => self.end_word(),
            '<' | '>' => self.end_word(),
            '{' if self.rest.starts_with('{') => {
                // A place of a template, of which somebody else knows what it means.
                let end = self.rest.find("}}").map_or(self.rest.len(), |end| end + 2);
                self.rest = &self.rest[end..];
                self.word().is_open = true;
            }
            '{' | '}' if self.word.is_none() => self.end_command(),
            '$' => self.dollar(true),
            '*' | '?' | '[' | ']' | '{' | '}' => {
                let word = self.word();
                word.text.push(c);
                word.is_open = true;
            }
            c => self.word().text.push(c),
        }
    }

    fn double_quoted(&mut self) {
        self.word();
        while let Some(c) = self.next() {
            match c {
                '"' => return,
                '\\' => match self.next() {
                    Some(c) if "\"\\$`\n".contains(c) => self.word().text.push(c),
                    Some(c) => self.word().text.extend(['\\', c]),
                    None => {}
                },
                '$' => self.dollar(false),
                '`' => {
                    let word = self.word();
                    word.text.push('`');
                    word.is_open = true;
                }
                c => self.word().text.push(c),
            }
        }
    }

    /// A variable or a command whose output is put in; within quotes the command is looked at as a line within a line.
    fn dollar(&mut self, cuts: bool) {
        // make doubles it.
        self.rest = self.rest.strip_prefix('$').unwrap_or(self.rest);
        for here in ["(pwd)", "(CURDIR)", "{CURDIR}", "(PWD)", "(shell pwd)", "{PWD}"] {
            if let Some(rest) = self.rest.strip_prefix(here) {
                self.rest = rest;
                let value = (self.known)("PWD").unwrap_or_else(|| ".".to_owned());
                return self.word().text.push_str(&value);
            }
        }
        if self.rest.starts_with('(') {
            if cuts {
                self.word().is_open = true;
                return self.end_command();
            }
            let word = self.word();
            word.text.push('$');
            word.is_open = true;
            return;
        }
        let is_braced = self.rest.starts_with('{');
        let name = self.rest.trim_start_matches('{');
        let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(name.len());
        let (name, after) = name.split_at(end);
        let inner = if is_braced { after.find('}').map_or(after, |end| &after[..end]) } else { "" };
        self.rest = if is_braced { after.get(inner.len() + 1..).unwrap_or_default() } else { after };
        if let Some(value) = (self.known)(name).filter(|_| inner.is_empty()) {
            self.word().text.push_str(&value);
        } else {
            self.word().is_open = true;
            // `${X:-./x.sh}`: what it is otherwise.
            if let Some(otherwise) = inner.strip_prefix([':', '-', '=']).filter(|inner| !inner.is_empty()) {
                let text = otherwise.trim_start_matches(['-', '=', '+']).to_owned();
                self.command.push(Word { text, ..Word::default() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let known = |name: &str| (name == "PWD").then(|| "/p".to_owned());
        words(text, &known, 1_000).0.into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn quotes_are_undone_and_lines_within_lines_are_cut() {
        assert_eq!(
            texts(r#""./my deploy.sh" a'b'c d\ e"#),
            ["./my deploy.sh", "./my", "deploy.sh", "abc", "d e", "d", "e"]
        );
        assert_eq!(texts("bash -c 'x && ./y.sh z'"), ["bash", "-c", "x && ./y.sh z", "x", "./y.sh", "z"]);
        assert_eq!(texts("a;b|c&&(d)>e `f`"), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(texts("$PWD/x ${PWD}/y $(pwd)/z"), ["/p/x", "/p/y", "/p/z"]);
    }

    #[test]
    fn what_runs_is_told_from_what_is_given_to_it() {
        let known = |_: &str| None;
        let run = |text: &str| -> Vec<String> {
            words(text, &known, 100)
                .0
                .into_iter()
                .filter(|word| word.role != Role::Argument)
                .map(|word| word.text)
                .collect()
        };
        assert_eq!(run("A=1 sudo -u x cargo test; eslint src/**"), ["x", "eslint"]);
        assert_eq!(run("cargo test --all && eslint 'src/**'"), ["cargo", "eslint"]);
        assert_eq!(run("for f in s/*.sh; do sh $f; done"), ["for", "f", "in", "s/*.sh", "do", "sh", "", "done"]);
        assert_eq!(run("@-rm -f *.o"), ["@-rm"]);
    }

    #[test]
    fn what_only_the_shell_knows_is_open() {
        let known = |_: &str| None;
        for open in [
            "$X/y.sh",
            "${X}/y.sh",
            "s/*.sh",
            "$(x)/y.sh",
            "\"$(dirname \"$0\")/y.sh\"",
            "`x`/y.sh",
            "{{x}}/y.sh",
            "a{b,c}",
        ] {
            let found = words(open, &known, 100).0;
            assert!(found.iter().any(|word| word.is_open && !word.text.is_empty()), "{open}: {found:?}");
        }
    }
}
