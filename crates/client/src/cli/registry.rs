//! The arguments of `commands`, `run`, `which`, `reload`, `trust`, `palette`, `mcp`, and of what shells ask.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use crate::names::SessionRef;

pub(super) const COMMANDS_HELP: &str = "Examples:
  shellkeep commands                 those of the session around you
  shellkeep commands deploy          those that match, the best first
  shellkeep commands --json | jq -r '.[] | select(.kind == \"task\").qualified_name'";

pub(super) const RUN_HELP: &str = "\
A command of a project runs only after you have seen it and agreed; when it changes you are asked again, with what is different. \
It gets no terminal, and of your environment PATH, HOME, LANG, LC_*, TMPDIR and TERM and what --env names. Ctrl-C ends it. Its status \
is passed on; 124 if its time is over, 130 if you ended it.

Examples:
  shellkeep run test
  shellkeep run npm:build -- --watch
  shellkeep run --env AWS_PROFILE --env STAGE=test deploy
  git diff | shellkeep run --stdin review";

pub(super) const TRUST_HELP: &str = "\
Without a name: what waits for your agreement.

Examples:
  shellkeep trust just:test          shows it and asks
  shellkeep trust --show just:test   all that decides what it does, and what has changed
  shellkeep trust --ask-all          one after the other, all that wait
  shellkeep trust --list             what you have agreed to
  shellkeep trust --revoke just:test";

pub(super) const PALETTE_HELP: &str = "\
Type some letters of a name, or words of a description; Enter prints the line that runs the selected one, Esc nothing (130). \
A kept bash, zsh or fish opens it with Alt-m: the word before the cursor is looked for, and the line put in its place. \
Another key: \"[palette] key\" in the settings. Choosing runs nothing; what is marked with \"?\" asks you when it runs.

Examples:
  shellkeep palette
  eval \"$(shellkeep palette --query test)\"";

pub(super) const MCP_HELP: &str = "\
Speaks the Model Context Protocol until standard input ends. An agent started in a kept shell finds that shell's commands. \
What is not trusted yet is listed, and does not run.

Examples:
  claude mcp add shellkeep -- shellkeep mcp
  {\"mcpServers\": {\"shellkeep\": {\"command\": \"shellkeep\", \"args\": [\"mcp\", \"--session\", \"build-7\"]}}}";

/// Serve an agent.
#[derive(Debug, Args)]
pub struct Mcp {
    /// Of this session: name, id, beginning of an id, or "last" [default: the one around you]
    #[arg(short, long, value_name = "SESSION")]
    pub session: Option<SessionRef>,
}

/// List commands.
#[derive(Debug, Args)]
pub struct Commands {
    /// Letters of their names, or words of their descriptions
    #[arg(value_name = "QUERY")]
    pub query: Option<String>,
    /// Of this session: name, id, beginning of an id, or "last" [default: the one around you]
    #[arg(short, long, value_name = "SESSION")]
    pub session: Option<SessionRef>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Run a command.
#[derive(Debug, Args)]
pub struct Run {
    /// For this session: name, id, beginning of an id, or "last" [default: the one around you]
    #[arg(short, long, value_name = "SESSION")]
    pub session: Option<SessionRef>,
    /// Give it what is on standard input, at most 1 MiB
    #[arg(long)]
    pub stdin: bool,
    /// Pass this variable on too, with the value that it has here or this one; may be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// End it after so long: 90s, 30m, 2h [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub time_limit: Option<Duration>,
    /// Name, or name with its owner: just:test
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Its arguments
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// Say what a name means.
#[derive(Debug, Args)]
pub struct Which {
    /// In this session: name, id, beginning of an id, or "last" [default: the one around you]
    #[arg(short, long, value_name = "SESSION")]
    pub session: Option<SessionRef>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Name, or name with its owner: just:test
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Look for commands anew.
#[derive(Debug, Args)]
pub struct Reload {
    /// Of this session: name, id, beginning of an id, or "last" [default: the one around you]
    #[arg(short, long, value_name = "SESSION")]
    pub session: Option<SessionRef>,
}

/// Agree, or take it back.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // one for each switch that can be typed
pub struct Trust {
    /// Of this session: name, id, beginning of an id, or "last" [default: the one around you]
    #[arg(short, long, value_name = "SESSION")]
    pub session: Option<SessionRef>,
    /// What was agreed to, in all projects
    #[arg(long, conflicts_with_all = ["revoke", "ask_all", "name"])]
    pub list: bool,
    /// Take it back: for NAME in this session's project, or for all of the project; what runs because of it is ended
    #[arg(long, conflicts_with = "ask_all")]
    pub revoke: bool,
    /// With --revoke: of all projects
    #[arg(long, requires = "revoke")]
    pub everywhere: bool,
    /// Ask for each command that is not trusted yet
    #[arg(long, conflicts_with = "name")]
    pub ask_all: bool,
    /// Print all that decides what NAME does, and what of it has changed; asks nothing
    #[arg(long, requires = "name", conflicts_with_all = ["list", "revoke", "ask_all"])]
    pub show: bool,
    /// With --list: as JSON
    #[arg(long, requires = "list")]
    pub json: bool,
    /// Name, or name with its owner: just:test; without one, what waits for your agreement is listed
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// Choose a command.
#[derive(Debug, Args)]
pub struct Palette {
    /// What is looked for at first
    #[arg(long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    pub query: String,
    /// Of this session: name, id, beginning of an id, or "last" [default: the one around you]
    #[arg(short, long, value_name = "SESSION")]
    pub session: Option<SessionRef>,
}

/// Say what a name that a shell does not find may be.
#[derive(Debug, Args)]
pub struct Hint {
    /// How the shell calls what installs packages
    #[arg(long = "pkg", default_value = "pkg", value_name = "WORDS")]
    pub pkg: String,
    /// As typed
    #[arg(value_name = "NAME")]
    pub name: OsString,
}

/// Say what may stand at a place of a command line.
#[derive(Debug, Args)]
pub struct Complete {
    /// Whose line it is
    #[arg(long)]
    pub shell: Dialect,
    /// The line
    #[arg(long, allow_hyphen_values = true)]
    pub line: String,
    /// Bytes of it before the cursor [default: all]
    #[arg(long)]
    pub point: Option<usize>,
    /// Characters at which the shell begins a new part of a word, which it replaces by itself
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub breaks: String,
}

/// A shell that completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// Takes what is said as it stands.
    Bash,
    /// Quotes and filters by itself.
    Zsh,
    /// As zsh.
    Fish,
}

fn time(text: &str) -> Result<Duration, String> {
    let bad = || format!("\"{text}\" is no time; write it like 90s, 30m or 2h");
    let unit = text.chars().last().ok_or_else(bad)?;
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| bad())?;
    let seconds = match unit {
        's' => Some(number),
        'm' => number.checked_mul(60),
        'h' => number.checked_mul(3600),
        _ => None,
    };
    seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("2h"), Ok(Duration::from_hours(2)));
        for bad in ["", "s", "5", "0s", "1d", "-1s", "1é", "99999999999999999999h", "9999999999999999999h"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
