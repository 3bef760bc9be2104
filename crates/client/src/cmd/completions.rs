//! `shellkeep completions`: what the shell can complete, made from the command line's own definition.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::cli::{Cli, Completions};
use crate::report::{self, Failure, Outcome};

pub(super) fn run(args: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "shellkeep", &mut script);
    match &args.output {
        Some(path) => std::fs::write(path, &script)
            .map_err(|error| Failure::refused(format_args!("cannot write {}: {error}", path.display())))?,
        None => report::result(&String::from_utf8_lossy(&script))?,
    }
    Ok(ExitCode::SUCCESS)
}
