//! `shellkeep export`: what can be said to it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::names::SessionRef;

/// What stands under the help.
pub(super) const HELP: &str = "The forms are described in docs/export.md. What a shell did not mark is in no list of \
commands; \"shellkeep output\" has every byte.\n\nExamples:\n  shellkeep export last --format html -o build.html\n  \
shellkeep export build-7 --format cast | asciinema play -";

/// Write a session in a form for others.
#[derive(Debug, Args)]
pub struct Export {
    /// Name, id, beginning or end of an id, or "last"; inside a session it may be left out
    pub session: Option<SessionRef>,
    /// The form
    #[arg(short, long, value_enum)]
    pub format: Format,
    /// Where to write it instead of standard output; a file that is there is replaced once the new one is whole
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Only the command with this number in `history`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub command: Option<u64>,
}

/// Forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// asciicast v3, for asciinema 3
    Cast,
    /// asciicast v2, for older players
    Cast2,
    /// Text: each command and what it printed, as it was last seen
    Txt,
    /// One page that works without a network
    Html,
    /// One document for programs
    Json,
}
