//! The command line: what can be said, with help and examples. Man pages and completions come from here too.
//!
//! Promises that names and ids are valid when they get past here. Knows nothing of how a command does its work.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::Settings;
use crate::names::{SessionName, SessionRef};
use crate::terminal::detach_key::Keys;

mod export;
mod pkg;
mod registry;
mod replay;
mod search;

pub use export::{Export, Format};
pub use pkg::{
    IndexPlace, Pkg, PkgBuild, PkgFormat, PkgIndex, PkgInfo, PkgInstall, PkgJson, PkgNamed, PkgRemove, PkgSearch,
    PkgUpdate, PkgUpgrade, PkgVerb, PkgVerify,
};
pub use registry::{Commands, Complete, Dialect, Hint, Mcp, Palette, Reload, Run, Trust, Which};
pub use replay::{IdleLimit, Replay, Speed};
pub use search::Search;

/// Keeps your shell: recorded, attached from anywhere, never lost with its terminal.
#[derive(Debug, Parser)]
#[command(
    name = "shellkeep",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  shellkeep                        your own shell, kept\n  shellkeep attach last            come back to it, from anywhere"
)]
pub struct Cli {
    /// What to do; `start` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of the default command.
    #[command(flatten)]
    pub start: Start,
}

/// Everything that can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a kept session here
    #[command(after_help = START_EXAMPLES)]
    Start(Start),
    /// Show a running session here
    #[command(after_help = "Examples:\n  shellkeep attach build-7\n  shellkeep attach last")]
    Attach(Attach),
    /// Let a session's terminals go; the session goes on
    #[command(
        after_help = "Examples:\n  shellkeep detach            the session around you\n  shellkeep detach build-7"
    )]
    Detach(Detach),
    /// End a session: HUP, after 2 s KILL
    #[command(after_help = "Examples:\n  shellkeep kill build-7\n  shellkeep kill last")]
    Kill(Kill),
    /// Record nothing of a session until `resume`; the pause is marked in the record
    #[command(
        after_help = "Examples:\n  shellkeep pause             the session around you\n  shellkeep pause build-7"
    )]
    Pause(Pause),
    /// Go on recording a session
    #[command(
        after_help = "Examples:\n  shellkeep resume            the session around you\n  shellkeep resume build-7"
    )]
    Resume(Pause),
    /// List sessions, newest first
    #[command(after_help = "Examples:\n  shellkeep ls --all\n  shellkeep ls --json | jq '.[].name'")]
    Ls(Ls),
    /// Look through sessions and commands, full screen: filter, preview, open, copy
    #[command(
        after_help = "Examples:\n  shellkeep browse              then / to filter, Enter to open, ? for the keys"
    )]
    Browse,
    /// Print the recorded output of a session
    #[command(after_help = "Examples:\n  shellkeep output last | less -R\n  shellkeep output build-7 > build-7.txt")]
    Output(Output),
    /// List the commands of a session
    #[command(
        after_help = "Examples:\n  shellkeep history             the session around you\n  shellkeep history last --json | jq '.[] | select(.exit_code != 0)'"
    )]
    History(History),
    /// Find text in the output and the commands of all sessions, newest first; status 1 if it is nowhere
    #[command(
        after_help = "What search, history, output, tail and replay have printed from the record is found where it was printed first.\n\nExamples:\n  shellkeep search 'connection refused' --since 2d\n  shellkeep search panicked --failed -C 3 --json | jq '.[].command'"
    )]
    Search(Search),
    /// Build what is searched anew from the records
    #[command(after_help = "Examples:\n  shellkeep reindex\n  shellkeep reindex && shellkeep search error")]
    Reindex,
    /// Print the newest output of a session, and what comes
    #[command(
        after_help = "On a terminal, what full-screen programs draw is left out; \"shellkeep attach\" and \"shellkeep replay\" show it.\n\nExamples:\n  shellkeep tail build-7\n  shellkeep tail -f last"
    )]
    Tail(Tail),
    /// Play a session here, with its timing
    #[command(after_help = replay::HELP)]
    Replay(Replay),
    /// Write a session, or one command of it, in a form for others
    #[command(after_help = export::HELP)]
    Export(Export),
    /// Check the record of a session, or of all; status 1 on damage or gaps
    #[command(after_help = "Examples:\n  shellkeep verify\n  shellkeep verify build-7")]
    Verify(Verify),
    /// Delete the record of an ended session
    #[command(after_help = "Examples:\n  shellkeep rm build-7\n  shellkeep rm 0197c0de")]
    Rm(Rm),
    /// List the commands of the session around you: tasks of its project, prompts, skills, your own
    #[command(after_help = registry::COMMANDS_HELP)]
    Commands(Commands),
    /// Run one of them, with its output here
    #[command(after_help = registry::RUN_HELP)]
    Run(Run),
    /// Say what a name means: which command it is, whose, and what would run; status 1 if nothing
    #[command(after_help = "Examples:\n  shellkeep which test\n  shellkeep which just:test --json | jq -r .runs")]
    Which(Which),
    /// Look for commands anew
    #[command(after_help = "Examples:\n  shellkeep reload\n  shellkeep reload --session build-7")]
    Reload(Reload),
    /// Agree that a command of a project may run as it is now, or take that back
    #[command(after_help = registry::TRUST_HELP)]
    Trust(Trust),
    /// Choose one of them from a list, by a few letters, full screen; prints the line that runs it
    #[command(after_help = registry::PALETTE_HELP)]
    Palette(Palette),
    /// Offer the session's commands to an agent, as a server of tools on standard input and output
    #[command(after_help = registry::MCP_HELP)]
    Mcp(Mcp),
    /// Install and manage packages of commands
    #[command(after_help = pkg::HELP)]
    Pkg(Pkg),
    /// Run and manage the daemon
    #[command(after_help = "Examples:\n  shellkeep daemon status --json\n  shellkeep daemon restart")]
    Daemon(Daemon),
    /// Show the settings and where they come from
    #[command(after_help = "Examples:\n  shellkeep config show\n  ${EDITOR:-vi} \"$(shellkeep config path)\"")]
    Config(Config),
    /// Print completions for a shell
    #[command(
        after_help = "Examples:\n  shellkeep completions bash > ~/.local/share/bash-completion/completions/shellkeep\n  shellkeep completions fish | source"
    )]
    Completions(Completions),
    /// Print the manual page
    #[command(after_help = "Examples:\n  shellkeep man | man -l -\n  shellkeep man > shellkeep.1")]
    Man,
    /// Look for what is wrong with this installation
    #[command(after_help = "Examples:\n  shellkeep doctor\n  SHELLKEEP_HOME=/srv/keep shellkeep doctor")]
    Doctor,
    /// Show what shellkeep does, in a home of its own that is removed afterwards
    #[command(after_help = "Examples:\n  shellkeep demo\n  NO_COLOR=1 shellkeep demo")]
    Demo(Demo),
    /// The process that keeps one session; started by `start`
    #[command(hide = true)]
    Keeper,
    /// What a shell says of a name that it does not find; asked by its integration
    #[command(hide = true)]
    Hint(Hint),
    /// What may stand at a place of a command line; asked by completions
    #[command(hide = true)]
    Complete(Complete),
}

const START_EXAMPLES: &str = "Examples:\n  shellkeep start -n build-7 -- make -j8\n  shellkeep start --detached -- ./nightly.sh\n  exec shellkeep start --login     in a login profile";

/// Start a kept session here.
#[derive(Debug, Default, Args)]
#[allow(clippy::struct_excessive_bools)] // one for each switch that can be typed
pub struct Start {
    /// Name of the session, unique among running ones
    #[arg(short = 'n', long, value_name = "NAME")]
    pub name: Option<SessionName>,
    /// Start it without a terminal and print its id
    #[arg(long)]
    pub detached: bool,
    /// Record what is typed too, but not at password prompts
    #[arg(long)]
    pub record_input: bool,
    /// Start the shell as a login shell
    #[arg(long, conflicts_with = "cmd")]
    pub login: bool,
    /// Allow a session inside a session
    #[arg(long)]
    pub nested: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub detach_key: DetachKey,
    /// Program and arguments [default: $SHELL]
    #[arg(last = true, value_name = "CMD")]
    pub cmd: Vec<OsString>,
}

/// Keys that detach, wherever a session is shown.
#[derive(Debug, Default, Args)]
pub struct DetachKey {
    /// Keys that detach, like "ctrl-a d", or "none" [default: ctrl-space d]
    #[arg(long = "detach-key", env = "SHELLKEEP_DETACH_KEY", hide_env_values = true, value_name = "KEYS")]
    pub keys: Option<Keys>,
}

impl DetachKey {
    /// The keys to look for: those said here, else those of the settings.
    pub fn keys(&self, settings: Option<&Settings>) -> Keys {
        let set = || settings.and_then(|settings| settings.terminal.detach_key.parse().ok());
        self.keys.or_else(set).unwrap_or(Keys::DEFAULT)
    }
}

/// Show a running session here.
#[derive(Debug, Args)]
pub struct Attach {
    /// Name, id, beginning or end of an id, or "last"; inside a session it may be left out
    pub session: Option<SessionRef>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub detach_key: DetachKey,
}

/// Let a session's terminals go.
#[derive(Debug, Args)]
pub struct Detach {
    /// Name, id, beginning or end of an id, or "last"; inside a session it may be left out
    pub session: Option<SessionRef>,
}

/// Pause the recording of a session, or go on with it.
#[derive(Debug, Args)]
pub struct Pause {
    /// Name, id, beginning or end of an id, or "last"; inside a session it may be left out
    pub session: Option<SessionRef>,
}

/// End a session.
#[derive(Debug, Args)]
pub struct Kill {
    /// Name, id, beginning or end of an id, or "last"; inside a session it may be left out
    pub session: Option<SessionRef>,
}

/// List sessions.
#[derive(Debug, Args)]
pub struct Ls {
    /// The ended ones too
    #[arg(short, long)]
    pub all: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// List commands.
#[derive(Debug, Args)]
pub struct History {
    /// Name, id, beginning or end of an id, or "last"; inside a session it may be left out
    pub session: Option<SessionRef>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Print recorded output.
#[derive(Debug, Args)]
pub struct Output {
    /// Name, id, beginning or end of an id, or "last"; inside a session it may be left out
    pub session: Option<SessionRef>,
    /// Only the output of the command with this number in `history`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub command: Option<u64>,
    /// As text: without escape sequences, progress bars as they were last seen
    #[arg(long)]
    pub plain: bool,
}

/// Print the newest output.
#[derive(Debug, Args)]
pub struct Tail {
    /// Go on until the session ends
    #[arg(short, long)]
    pub follow: bool,
    /// Name, id, beginning or end of an id, or "last"; inside a session it may be left out
    pub session: Option<SessionRef>,
}

/// Check records.
#[derive(Debug, Args)]
pub struct Verify {
    /// Name, id, beginning or end of an id, or "last"; all sessions if left out
    pub session: Option<SessionRef>,
}

/// Delete a record.
#[derive(Debug, Args)]
pub struct Rm {
    /// Name, id, beginning or end of an id, or "last"; inside a session it may be left out
    pub session: Option<SessionRef>,
}

/// Run and manage the daemon.
#[derive(Debug, Args)]
pub struct Daemon {
    /// What to do with it.
    #[command(subcommand)]
    pub verb: DaemonVerb,
}

/// What can be done with the daemon.
#[derive(Debug, Subcommand)]
pub enum DaemonVerb {
    /// Be the daemon, in the foreground
    #[command(after_help = "Examples:\n  shellkeep daemon run\n  SHELLKEEP_DIAGNOSTICS=debug shellkeep daemon run")]
    Run,
    /// Start it, unless it runs
    #[command(after_help = "Examples:\n  shellkeep daemon start\n  shellkeep daemon start && shellkeep daemon status")]
    Start,
    /// Stop it and keep it stopped, until a command or `start` needs it; sessions go on
    #[command(
        after_help = "Examples:\n  shellkeep daemon stop\n  shellkeep daemon stop; shellkeep daemon status || echo stopped"
    )]
    Stop,
    /// Stop it, then start it, also one that hangs; sessions go on
    #[command(
        after_help = "Examples:\n  shellkeep daemon restart\n  cargo install --path crates/client && shellkeep daemon restart"
    )]
    Restart,
    /// Say how it is; status 3 if it does not run
    #[command(after_help = "Examples:\n  shellkeep daemon status\n  shellkeep daemon status --json | jq .pid")]
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write systemd user units, socket-activated
    #[command(
        after_help = "Examples:\n  shellkeep daemon install\n  shellkeep daemon install && systemctl --user status shellkeep.socket"
    )]
    Install,
}

/// Show the settings.
#[derive(Debug, Args)]
pub struct Config {
    /// What to show.
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// What can be shown of the settings.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// All settings in force, and where each comes from
    #[command(after_help = "Examples:\n  shellkeep config show\n  shellkeep config show --defaults | less")]
    Show {
        /// The shipped ones, whatever your file says
        #[arg(long)]
        defaults: bool,
    },
    /// Path of the user's file
    #[command(after_help = "Examples:\n  shellkeep config path\n  ${EDITOR:-vi} \"$(shellkeep config path)\"")]
    Path,
}

/// Show what shellkeep does.
#[derive(Debug, Args)]
pub struct Demo {
    /// How often the daemon is killed
    #[arg(long, default_value_t = crate::cmd::demo::KILLS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub kills: u32,
    /// Leave one record out of what is read back: the comparison must notice
    #[arg(long)]
    pub sabotage: bool,
    /// The session of the demo, with its directory
    #[arg(long, hide = true, value_name = "DIR")]
    pub chatter: Option<PathBuf>,
}

/// Print completions.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
    /// Where to write them instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
