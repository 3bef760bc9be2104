//! The conversation about commands: which there are for a session, which one a name means, running one, and what the user
//! has agreed to.
//!
//! Both ends must be of one version, as for [`crate::query`]. What a session of the founding protocol called
//! `GetCommandRegistry{session_id}` and `ExecuteServiceCommand{command, args, session_id}` are [`Ask::Get`] and
//! [`Ask::ExecuteService`].

mod entry;
mod error;
mod told;

use serde::{Deserialize, Serialize};

pub use self::entry::{Digest, EntryInfo, EntryState, Kind, Scope, Trust};
pub use self::error::RegistryError;
pub use self::told::{
    ALL_OF, Change, ClientEffect, Diagnostic, EACH_TIME, ExecutionEvent, Page, RegistryChanged, RegistryPush, Reloaded,
    Told, TrustQuestion, TrustRecord,
};
use crate::ids::SessionId;

/// Version of [`Ask`], [`Told`] and [`RegistryPush`]. Raised with every change of any.
pub const REGISTRY_VERSION: u16 = 1;

/// Commands in one [`Page`], and bytes of their texts; more come with the next page.
pub const PAGE_MAX: u32 = 1_000;
/// See [`PAGE_MAX`].
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// Longest that [`Ask::Follow`] may wait for something to tell, in milliseconds.
pub const FOLLOW_WAIT_MS_MAX: u32 = 60_000;

/// Longest that [`Ask::Settle`] may wait, in milliseconds.
pub const SETTLE_WAIT_MS_MAX: u32 = 10_000;

/// Bytes of output in one [`Told::Events`].
pub const EVENTS_BYTES_MAX: usize = 256 << 10;

/// Most bytes that a command is given as its standard input.
pub const STDIN_BYTES_MAX: usize = 1 << 20;

/// Arguments of one execution, and bytes of them.
pub const ARGS_MAX: usize = 4_096;
/// See [`ARGS_MAX`].
pub const ARGS_BYTES_MAX: usize = 128 << 10;

/// Variables of the asking program that commands get, beside those that begin with `LC_`. Nothing else reaches a project's program, so
/// that no secret of the user's shell does.
pub const ENVIRONMENT_PASSED: [&str; 12] = [
    "PATH",
    "HOME",
    "LANG",
    "LANGUAGE",
    "TMPDIR",
    "TERM",
    "NO_COLOR",
    // So that shellkeep inside finds the same daemon and session, and knows how deep it is.
    "SHELLKEEP_HOME",
    "SHELLKEEP_SOCKET",
    "SHELLKEEP_SESSION",
    "XDG_RUNTIME_DIR",
    RUN_DEPTH,
];

/// The variable that counts runs inside runs.
pub const RUN_DEPTH: &str = "SHELLKEEP_RUN_DEPTH";

/// Set for servers of tools that the daemon starts: a `shellkeep mcp` among them offers no tools of servers, so that none offers its own.
pub const MCP_CHILD: &str = "SHELLKEEP_MCP_CHILD";

/// Whether a variable is passed on to commands.
pub fn is_passed(name: &str) -> bool {
    ENVIRONMENT_PASSED.contains(&name) || name.starts_with("LC_")
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// The commands of a session. Answered by [`Told::Page`] or [`Told::NotModified`].
    Get(GetCommandRegistry),
    /// Commands that match a text, the best first. Answered by [`Told::Found`].
    Search(SearchCommands),
    /// Which command a name means. Answered by [`Told::Resolved`].
    Resolve(ResolveCommand),
    /// From now on changes of a session's commands come as [`RegistryPush`]. Answered by [`Told::Subscribed`].
    Subscribe {
        /// Whose; the base alone if nobody's.
        session: Option<SessionId>,
    },
    /// Looks for commands anew: the base's and those of this session. Answered by [`Told::Reloaded`].
    Reload {
        /// Whose directory is looked at.
        session: Option<SessionId>,
    },
    /// Runs a command. Answered by [`Told::Accepted`].
    Execute(ExecuteCommand),
    /// The same, but only builtins and service commands are known by it.
    ExecuteService(ExecuteCommand),
    /// What a running command has done since. Answered by [`Told::Events`], at once if there is something.
    Follow {
        /// Which.
        invocation: InvocationId,
        /// Events that the asker has had. Those before are forgotten.
        from: u64,
        /// Longest wait, in milliseconds. At most [`FOLLOW_WAIT_MS_MAX`].
        wait_ms: u32,
    },
    /// What Ctrl-C does: INT to a command's processes, which may go on; what is no process is ended. Answered by [`Told::Done`].
    Interrupt {
        /// Which.
        invocation: InvocationId,
    },
    /// Ends a running command, which its events then tell. Answered by [`Told::Done`].
    Cancel {
        /// Which.
        invocation: InvocationId,
    },
    /// Agrees that a command may run as it is now. Answered by [`Told::Done`], or an error if it is another by now.
    Trust {
        /// Whose view.
        session: Option<SessionId>,
        /// The command's id.
        entry: String,
        /// What the user has seen.
        digest: Digest,
    },
    /// What would run, and how that differs from what was agreed to. Answered by [`Told::Question`].
    TrustQuestion {
        /// Whose view.
        session: Option<SessionId>,
        /// Name, qualified name or id.
        name: String,
    },
    /// All that was agreed to. Answered by [`Told::Trusted`].
    TrustList,
    /// Takes agreement back. Answered by [`Told::Revoked`].
    TrustRevoke {
        /// Root of the project; all if `None`.
        root: Option<String>,
        /// The command's id or qualified name; all of the root if `None`.
        entry: Option<String>,
    },
    /// Waits until what is known of the session's directory was looked at. No other question waits for that. Answered by
    /// [`Told::Done`], at the latest when the wait is over.
    Settle {
        /// Whose.
        session: Option<SessionId>,
        /// Where its shell is, from an asker who runs in it: what was printed may not say so yet.
        here: Option<String>,
        /// Longest wait, in milliseconds. At most [`SETTLE_WAIT_MS_MAX`].
        wait_ms: u32,
    },
    /// What is wrong with commands and their sources. Answered by [`Told::Diagnostics`].
    Diagnostics {
        /// Whose view.
        session: Option<SessionId>,
    },
}

/// Which commands are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetCommandRegistry {
    /// Whose; the base alone if nobody's, or of an unknown session.
    pub session: Option<SessionId>,
    /// If this is still the revision, [`Told::NotModified`] is the answer.
    pub if_revision: Option<Revision>,
    /// Only of these kinds; all if empty.
    pub kinds: Vec<Kind>,
    /// Behind this one, which the page before gave. A cursor of another revision starts again.
    pub cursor: Option<Cursor>,
    /// How many; at most [`PAGE_MAX`].
    pub limit: u32,
}

/// A place in the list of one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The list.
    pub revision: Revision,
    /// Commands before it.
    pub at: u32,
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchCommands {
    /// In whose commands; the base alone if nobody's.
    pub session: Option<SessionId>,
    /// The text.
    pub query: String,
    /// How many; at most [`PAGE_MAX`].
    pub limit: u32,
}

/// A name in need of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveCommand {
    /// Whose.
    pub session: Option<SessionId>,
    /// Name, qualified name, alias or id.
    pub name: String,
}

/// What is to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecuteCommand {
    /// For whom: in its directory, and as long as it lives.
    pub session: Option<SessionId>,
    /// Name, qualified name, alias or id.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What the user saw; another by now is [`RegistryError::StaleEntry`].
    pub digest: Option<Digest>,
    /// Given to it as standard input; at most [`STDIN_BYTES_MAX`].
    #[serde(with = "serde_bytes")]
    pub stdin: Vec<u8>,
    /// The asker's environment, of which only what the daemon lets through counts.
    pub env: Vec<(String, String)>,
    /// Variables that the user has named for this one run: passed on whatever they are called, over all others.
    pub given: Vec<(String, String)>,
    /// Its two outputs go to one place: both come as [`ExecutionEvent::Stdout`], in the order in which they were written.
    pub merged: bool,
    /// Directory, for a command that names none and a session that is unknown.
    pub cwd: Option<String>,
    /// Longest that it may take, in milliseconds; the command's own limit if `None`.
    pub time_max_ms: Option<u64>,
}

/// Which list. Another boot is another daemon: nothing of before counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Revision {
    /// Random for each life of a daemon.
    pub boot: u64,
    /// Grows with each change.
    pub n: u64,
}

/// One execution of one daemon's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InvocationId {
    /// The daemon's life.
    pub boot: u64,
    /// From 1.
    pub n: u64,
}
