//! What a place of a command line wants, by the command line's own definition.

use clap::{Arg, ArgAction, Command};

use super::Candidate;
use super::line::Line;

/// Commands that take only sessions that run.
const OF_RUNNING: [&str; 5] = ["attach", "detach", "kill", "pause", "resume"];

/// What shells' integration calls a function, and this program one of its commands.
const PKG: &str = "pkg";

/// A name of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A command of the session; `to_run`: that can be run.
    Command {
        to_run: bool,
    },
    Session {
        is_running: bool,
    },
    /// A package; else one of the index.
    Package {
        is_installed: bool,
    },
    /// One of these; none: nothing is known of it.
    Words(Vec<Candidate>),
    /// What a command is given.
    File,
}

/// Where a line has come to.
struct Place<'a> {
    command: &'a Command,
    /// The command that it is one of.
    above: &'a str,
    /// Nobody else completes the function that shells have: all of it is told.
    is_function: bool,
}

/// What the current word is a name of, and at which byte of it the name begins; `None` if it is none.
pub(super) fn wanted(line: &Line, program: &Command) -> Option<(Wanted, usize)> {
    let is_assignment =
        |word: &&String| word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.starts_with('-'));
    let mut words = line.words.iter().skip_while(is_assignment);
    let is_function = words.next()? == PKG;
    let command = if is_function { program.find_subcommand(PKG)? } else { program };
    let found = Place { command, above: "", is_function }.follow(words, &line.current.text);
    found.or_else(|| is_function.then_some((Wanted::Words(Vec::new()), 0)))
}

impl Place<'_> {
    /// What `text` behind `words` is a name of.
    fn follow<'w>(mut self, words: impl Iterator<Item = &'w String>, text: &str) -> Option<(Wanted, usize)> {
        let (mut options, mut places) = (true, 0);
        let mut of_option: Option<&Arg> = None;
        for word in words {
            if of_option.take().is_some() {
                continue;
            }
            if options && word == "--" {
                options = false;
            } else if options && word.len() > 1 && word.starts_with('-') {
                of_option = option(self.command, word).filter(|_| !word.contains('='));
            } else if self.command.has_subcommands() {
                self.above = self.command.get_name();
                self.command = self.command.find_subcommand(word)?;
            } else {
                places += 1;
                // What is behind a command's name is the command's.
                options &= self.command.get_name() != "run";
            }
        }
        if let Some(option) = of_option {
            return Some((self.of(option, text)?, 0));
        }
        if options && text.starts_with('-') {
            let Some((said, value)) = text.split_once('=') else { return Some((self.words(options_of)?, 0)) };
            return Some((self.of(option(self.command, said)?, value)?, said.len() + 1));
        }
        if self.command.get_name() == "run" && places > 0 {
            return Some((Wanted::File, 0));
        }
        if self.command.has_subcommands() {
            return Some((self.words(subcommands_of)?, 0));
        }
        let takes_all = |arg: &&Arg| matches!(arg.get_action(), ArgAction::Append);
        let mut positionals = self.command.get_positionals();
        match positionals.nth(places).or_else(|| self.command.get_positionals().last().filter(takes_all)) {
            Some(arg) => Some((self.of(arg, text)?, 0)),
            None => Some((self.words(|_| Vec::new())?, 0)),
        }
    }

    /// What a value of `arg` is, of which `text` is there.
    fn of(&self, arg: &Arg, text: &str) -> Option<Wanted> {
        let is_path = text.contains('/') || text.starts_with(['.', '~']);
        match (self.above, self.command.get_name(), arg.get_id().as_str()) {
            (PKG, "install" | "upgrade", "packages") if is_path => Some(Wanted::File),
            (PKG, "install", "packages") => Some(Wanted::Package { is_installed: false }),
            (PKG, _, "name" | "names" | "packages") => Some(Wanted::Package { is_installed: true }),
            (PKG, _, "place" | "directory" | "output") => Some(Wanted::File),
            (_, name, "session") => Some(Wanted::Session { is_running: OF_RUNNING.contains(&name) }),
            (_, "run", "name") => Some(Wanted::Command { to_run: true }),
            (_, "which" | "trust", "name") | (_, "commands", "query") => Some(Wanted::Command { to_run: false }),
            _ => self.words(|_| {
                arg.get_possible_values().iter().map(|value| (value.get_name().to_owned(), String::new())).collect()
            }),
        }
    }

    fn words(&self, of: impl Fn(&Command) -> Vec<Candidate>) -> Option<Wanted> {
        self.is_function.then(|| Wanted::Words(of(self.command)))
    }
}

fn subcommands_of(command: &Command) -> Vec<Candidate> {
    let about = |one: &Command| one.get_about().map(ToString::to_string).unwrap_or_default();
    let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
    shown.map(|one| (one.get_name().to_owned(), about(one))).collect()
}

fn options_of(command: &Command) -> Vec<Candidate> {
    let named = |arg: &Arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        Some((format!("--{}", arg.get_long()?), help)).filter(|_| !arg.is_hide_set())
    };
    command.get_arguments().filter_map(named).collect()
}

/// The option that a word is, or ends in, if it takes a value that is not in the word.
fn option<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let takes = |arg: &&Arg| arg.get_action().takes_values();
    if let Some(long) = word.strip_prefix("--") {
        let long = long.split('=').next().unwrap_or(long);
        return command.get_opts().filter(takes).find(|arg| arg.get_long() == Some(long));
    }
    // "-sbuild" has its value in it; of "-as" the last one takes one.
    let short = word.chars().last()?;
    let first = word
        .chars()
        .skip(1)
        .find_map(|short| command.get_opts().filter(takes).find(|arg| arg.get_short() == Some(short)).map(|_| short))?;
    (first == short).then(|| command.get_opts().filter(takes).find(|arg| arg.get_short() == Some(short)))?
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::{Cli, Dialect};

    #[test]
    fn places_of_names_are_known_and_no_others() {
        const TO_RUN: Wanted = Wanted::Command { to_run: true };
        const ANY: Wanted = Wanted::Command { to_run: false };
        const RECORDED: Wanted = Wanted::Session { is_running: false };
        const RUNNING: Wanted = Wanted::Session { is_running: true };
        const LISTED: Wanted = Wanted::Package { is_installed: false };
        const INSTALLED: Wanted = Wanted::Package { is_installed: true };
        for (line, expected) in [
            ("shellkeep run ", Some((TO_RUN, 0))),
            ("A=b shellkeep run --time-limit 5s te", Some((TO_RUN, 0))),
            ("sk run test ", Some((Wanted::File, 0))),
            ("sk run test --session ", Some((Wanted::File, 0))),
            ("sk run test a b", Some((Wanted::File, 0))),
            ("sk run --session ", Some((RECORDED, 0))),
            ("sk run -s ", Some((RECORDED, 0))),
            ("sk run --session=wo", Some((RECORDED, 10))),
            ("sk run --session work ", Some((TO_RUN, 0))),
            ("sk run -- te", Some((TO_RUN, 0))),
            ("sk run --ti", None),
            ("sk run", None),
            ("sk which ", Some((ANY, 0))),
            ("sk trust --revoke ", Some((ANY, 0))),
            ("sk commands ", Some((ANY, 0))),
            ("sk attach ", Some((RUNNING, 0))),
            ("sk kill b", Some((RUNNING, 0))),
            ("sk output ", Some((RECORDED, 0))),
            ("sk output --command ", None),
            ("sk output --command 3 ", Some((RECORDED, 0))),
            ("sk output a ", None),
            ("sk search --session ", Some((RECORDED, 0))),
            ("sk search ", None),
            ("sk daemon ", None),
            ("sk -n ", None),
            ("", None),
            ("sk pkg ", None),
            ("sk pkg install -", None),
            ("sk pkg install a b", Some((LISTED, 0))),
            ("sk pkg install ./a", Some((Wanted::File, 0))),
            ("sk pkg remove a ", Some((INSTALLED, 0))),
            ("sk pkg info ", Some((INSTALLED, 0))),
            ("sk pkg info a ", None),
            ("sk pkg search ", None),
            ("sk pkg build ", Some((Wanted::File, 0))),
            ("sk pkg update --index=", Some((Wanted::File, 8))),
            ("pkg install --index x b", Some((LISTED, 0))),
            ("pkg upgrade ", Some((INSTALLED, 0))),
            ("pkg rollback a ", Some((Wanted::Words(Vec::new()), 0))),
            ("pkg nothing ", Some((Wanted::Words(Vec::new()), 0))),
        ] {
            let parsed = Line::new(line, line.len(), Dialect::Bash, "");
            assert_eq!(wanted(&parsed, &Cli::command()), expected, "{line:?}");
        }
    }

    /// Shells know nothing else of it.
    #[test]
    fn of_the_function_that_shells_have_verbs_options_and_values_are_told() {
        for (line, expected) in [
            ("pkg ", "install remove list info search update upgrade rollback verify build index"),
            ("pkg rem", "install remove list info search update upgrade rollback verify build index"),
            ("pkg rollback --", "--json"),
            ("pkg build --format ", "gz zst"),
            ("pkg search ", ""),
        ] {
            let parsed = Line::new(line, line.len(), Dialect::Bash, "");
            let Some((Wanted::Words(words), 0)) = wanted(&parsed, &Cli::command()) else { panic!("{line:?}") };
            let names: Vec<&str> = words.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names.join(" "), expected, "{line:?}");
        }
    }
}
