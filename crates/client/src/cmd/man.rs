//! `shellkeep man`: the manual page, made from the command line's own definition.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::report::{self, Failure, Outcome};

pub(super) fn run() -> Outcome {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| Failure::refused(format_args!("cannot make the manual page: {error}")))?;
    report::result(&String::from_utf8_lossy(&page))?;
    Ok(ExitCode::SUCCESS)
}
