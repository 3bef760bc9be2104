//! `shellkeep man`: the manual page, made from the command line's own definition. One page has all commands, as each tells
//! of itself by `--help`: nobody has to find a second one.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::report::{self, Failure, Outcome};

/// Columns of the text: what fits beside a manual page's margin in a window of 80.
const COLUMNS: usize = 72;

pub(super) fn run() -> Outcome {
    let mut page = head().map_err(|error| Failure::refused(format_args!("cannot make the manual page: {error}")))?;
    let mut command = Cli::command().term_width(COLUMNS);
    command.build();
    page.push_str(".SH COMMANDS\n");
    for part in command.get_subcommands_mut() {
        told(&mut page, part);
    }
    report::result(&page)?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that is said of the program itself.
fn head() -> std::io::Result<String> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(Cli::command());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_extra_section(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// One command and those below it, with its help as it is printed.
fn told(page: &mut String, command: &mut clap::Command) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let help = command.render_long_help().to_string();
    let _infallible = write!(page, ".SS {}.nf\n{}.fi\n", escaped(&name), help.lines().map(escaped).collect::<String>());
    for part in command.get_subcommands_mut() {
        told(page, part);
    }
}

/// A line as roff takes it for text. Source: groff(7).
fn escaped(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    format!("\\&{text}\n")
}
