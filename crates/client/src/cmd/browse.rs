//! `shellkeep browse`: refused where there is no screen.

use std::io::IsTerminal as _;

use crate::places::Places;
use crate::report::{Failure, Outcome};

pub(super) fn run(places: &Places) -> Outcome {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(Failure::usage("browse needs a terminal")
            .with_hint("programs use \"shellkeep ls --all --json\" and \"shellkeep history SESSION --json\""));
    }
    crate::browse::run(places)
}
