//! What a place of a command line wants, by the command line's own definition.

use clap::{Arg, Command};

use super::line::Line;

/// Commands that take only sessions that run.
const OF_RUNNING: [&str; 5] = ["attach", "detach", "kill", "pause", "resume"];

/// A name of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A command of the session; `to_run`: that can be run.
    Command {
        to_run: bool,
    },
    Session {
        is_running: bool,
    },
    /// What a command is given.
    File,
}

/// What the current word is a name of, and at which byte of it the name begins; `None` if it is none.
pub(super) fn wanted(line: &Line, program: &Command) -> Option<(Wanted, usize)> {
    let is_assignment =
        |word: &&String| word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.starts_with('-'));
    let mut words = line.words.iter().skip_while(is_assignment).skip(1);
    let name = words.find(|word| !word.starts_with('-'))?;
    let command = program.find_subcommand(name)?;
    let (mut options, mut places) = (true, 0);
    let mut of_option: Option<&Arg> = None;
    for word in words {
        if of_option.take().is_some() {
            continue;
        }
        if options && word == "--" {
            options = false;
        } else if options && word.len() > 1 && word.starts_with('-') {
            of_option = option(command, word).filter(|_| !word.contains('='));
        } else {
            places += 1;
            // What is behind a command's name is the command's.
            options &= command.get_name() != "run";
        }
    }
    let text = &line.current.text;
    if let Some(option) = of_option {
        return Some((of(command, option)?, 0));
    }
    if options && text.starts_with('-') {
        let (said, _) = text.split_once('=')?;
        return Some((of(command, option(command, said)?)?, said.len() + 1));
    }
    if command.get_name() == "run" && places > 0 {
        return Some((Wanted::File, 0));
    }
    let place = command.get_positionals().nth(places)?;
    Some((of(command, place)?, 0))
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

fn of(command: &Command, arg: &Arg) -> Option<Wanted> {
    match (arg.get_id().as_str(), command.get_name()) {
        ("session", name) => Some(Wanted::Session { is_running: OF_RUNNING.contains(&name) }),
        ("name", "run") => Some(Wanted::Command { to_run: true }),
        ("name", "which" | "trust") | ("query", "commands") => Some(Wanted::Command { to_run: false }),
        _ => None,
    }
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
        ] {
            let parsed = Line::new(line, line.len(), Dialect::Bash, "");
            assert_eq!(wanted(&parsed, &Cli::command()), expected, "{line:?}");
        }
    }
}
