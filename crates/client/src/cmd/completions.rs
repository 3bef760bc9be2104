//! `shellkeep completions`: what the shell can complete. Options and subcommands from the command line's own definition, names of
//! commands and sessions from the program itself while Tab is pressed (`shellkeep complete`).

use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::{Cli, Completions};
use crate::report::{self, Failure, Outcome};

/// Where the script of zsh begins to act; what is defined before can be built upon.
const ZSH_ACTS: &str = "\nif [ \"$funcstack[1]\" = \"_shellkeep\" ]";

pub(super) fn run(args: &Completions) -> Outcome {
    let script = script(args.shell)?;
    match &args.output {
        Some(path) => std::fs::write(path, &script)
            .map_err(|error| Failure::refused(format_args!("cannot write {}: {error}", path.display())))?,
        None => report::result(&script)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> Result<String, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program(), "shellkeep", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    Ok(match shell {
        Shell::Bash => script + include_str!("complete/bash.sh"),
        Shell::Fish => script + include_str!("complete/fish.fish"),
        Shell::Zsh => {
            let at = script.find(ZSH_ACTS).ok_or_else(|| Failure::bug(&"completions of zsh have another form"))?;
            format!("{}\n{}{}", &script[..at], include_str!("complete/zsh.zsh"), &script[at..])
        }
        _ => script,
    })
}

/// The command line without what may stand behind `--`: for zsh that is the first word, and a command's own first word the second, so
/// that the commands would be offered behind each command again.
fn program() -> Command {
    let whole = Cli::command();
    let options = whole.get_arguments().filter(|arg| !arg.is_positional()).cloned();
    // One conflicts with what is left out; scripts know nothing of conflicts.
    let options = options.map(|option| option.conflicts_with(Resettable::Reset));
    Command::new("shellkeep")
        .version(env!("CARGO_PKG_VERSION"))
        .args(options)
        .subcommands(whole.get_subcommands().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_in_the_three_shells_and_the_rest_as_ever() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell).unwrap();
            assert!(script.contains("complete --shell") && script.contains("record-input"), "{shell}");
        }
        assert!(!script(Shell::Elvish).unwrap().contains("complete --shell"));
    }
}
