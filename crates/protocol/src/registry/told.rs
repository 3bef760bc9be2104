//! What is answered, and what is said to who has subscribed.

use serde::{Deserialize, Serialize};

use super::{Cursor, Digest, EntryInfo, InvocationId, RegistryError, Revision};
use crate::ids::SessionId;

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// Commands.
    Page(Page),
    /// Nothing has changed.
    NotModified,
    /// Commands, the best first.
    Found(Vec<EntryInfo>),
    /// It means this one.
    Resolved(Box<EntryInfo>),
    /// Changes of this revision's list will come.
    Subscribed {
        /// The list as it is now.
        revision: Revision,
    },
    /// Sources were looked at again.
    Reloaded(Reloaded),
    /// It runs.
    Accepted {
        /// To follow and to cancel it.
        invocation: InvocationId,
        /// What runs.
        entry: String,
        /// If it is a process: the line that does the same when it is typed in the session's directory.
        line: Option<String>,
    },
    /// What it did.
    Events {
        /// In order.
        events: Vec<ExecutionEvent>,
        /// Where the next ones begin.
        next: u64,
        /// There will be no more.
        is_last: bool,
    },
    /// Done.
    Done,
    /// What the user is asked.
    Question(Box<TrustQuestion>),
    /// What was agreed to.
    Trusted(Vec<TrustRecord>),
    /// Agreement was taken back.
    Revoked {
        /// Number of commands.
        count: u64,
    },
    /// What is wrong.
    Diagnostics(Vec<Diagnostic>),
    /// It was not done.
    Failed(RegistryError),
}

/// Some commands of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Of which list.
    pub revision: Revision,
    /// All sources of the session were looked at since the daemon started.
    pub complete: bool,
    /// Base first, then the session's, each in the order of its sources.
    pub entries: Vec<EntryInfo>,
    /// Where to go on; `None` if these are the last.
    pub next: Option<Cursor>,
}

/// What a reload found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Commands of the base.
    pub base: u64,
    /// Commands of the session's layer.
    pub session: u64,
    /// Of both, those of plugins.
    pub plugins: u64,
    /// The session's project.
    pub root: Option<String>,
    /// What was not understood.
    pub diagnostics: Vec<Diagnostic>,
}

/// Something wrong with a source of commands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Which source.
    pub source: String,
    /// Which file.
    pub file: Option<String>,
    /// Which line of it, from 1.
    pub line: Option<u32>,
    /// What.
    pub message: String,
    /// Commands are missing because of it: a file, or a part of one, could not be read.
    pub is_loss: bool,
}

/// What a running command does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutionEvent {
    /// It printed.
    Stdout(#[serde(with = "serde_bytes")] Vec<u8>),
    /// It printed on its standard error.
    Stderr(#[serde(with = "serde_bytes")] Vec<u8>),
    /// It is a text for an agent.
    Prompt {
        /// With the arguments in it.
        text: String,
    },
    /// The asking program is to do this itself.
    Client(ClientEffect),
    /// It still runs, and says nothing.
    Progress {
        /// For so long, in milliseconds.
        elapsed_ms: u64,
    },
    /// It has ended: its status, or 128 and the signal. The last event.
    Exit {
        /// The status.
        code: i32,
    },
    /// It came to nothing. The last event.
    Error(RegistryError),
}

/// What only the asking program, or its shell, can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientEffect {
    /// Go to a directory.
    ChangeDirectory(String),
    /// End the shell.
    Exit,
    /// End the daemon.
    StopDaemon,
    /// Install packages and manage them: the words behind `pkg`.
    Packages(Vec<String>),
}

/// How a line begins behind which the lines of a whole file stand, in what decides what a command does.
pub const ALL_OF: &str = "all of ";

/// How the first lines begin of what decides, where not all of that could be read: such agreement is not remembered.
pub const EACH_TIME: &str = "asked each time: ";

/// What the user is asked before a command of a project runs for the first time, or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustQuestion {
    /// The command.
    pub entry: EntryInfo,
    /// Root of its project.
    pub root: String,
    /// The line that would run, with the arguments that were asked for, as it is: it may have control characters.
    pub line: String,
    /// All that decides what it does, line by line: first what is its own, each with a word and a colon before it, then whole files, each
    /// behind a line that begins with [`ALL_OF`] and with two spaces before each of its lines.
    pub runs: Vec<String>,
    /// The same as it was when it was agreed to, if ever.
    pub before: Option<Vec<String>>,
}

/// What was agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustRecord {
    /// Root of the project.
    pub root: String,
    /// The command.
    pub entry: String,
    /// As it was.
    pub digest: Digest,
    /// When, in microseconds since the Unix epoch.
    pub at_us: u64,
    /// All that decides what it does, line by line.
    pub runs: Vec<String>,
}

/// Said to who has subscribed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegistryPush {
    /// A session's commands are others than before.
    Changed(RegistryChanged),
}

/// How a list became the one of `revision`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryChanged {
    /// Whose.
    pub session: Option<SessionId>,
    /// From now on. Never lower than before of one boot.
    pub revision: Revision,
    /// All sources of the session were looked at.
    pub complete: bool,
    /// What became of it: a [`Change`], encoded once for all who see the same.
    #[serde(with = "serde_bytes")]
    pub change: Vec<u8>,
}

/// A difference between two lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// These, in order of the new list; ids of what is gone.
    Delta {
        /// New.
        added: Vec<EntryInfo>,
        /// Others than before under the same id.
        updated: Vec<EntryInfo>,
        /// Gone.
        removed: Vec<String>,
    },
    /// Too much to say, or something was not said: ask for all of it.
    Reset,
}
