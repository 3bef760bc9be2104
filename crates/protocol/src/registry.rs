//! The conversation about commands: which there are for a session, which one a name means, running one, and what the user
//! has agreed to.
//!
//! Both ends must be of one version, as for [`crate::query`]. What a session of the founding protocol called
//! `GetCommandRegistry{session_id}` and `ExecuteServiceCommand{command, args, session_id}` are [`Ask::Get`] and
//! [`Ask::ExecuteService`].

use serde::{Deserialize, Serialize};

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
    /// Directory, for a command that names none and a session that is unknown.
    pub cwd: Option<String>,
    /// Longest that it may take, in milliseconds; the command's own limit if `None`.
    pub time_max_ms: Option<u64>,
}

/// What a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // their names say it
pub enum Kind {
    /// Of shellkeep, done by the asking program.
    Builtin,
    /// Of shellkeep, done by the daemon.
    Service,
    UserCommand,
    ProjectCommand,
    /// Of a task runner: npm, just, make and the like.
    Task,
    /// A text for an agent.
    Prompt,
    Skill,
    Package,
    Extension,
    McpTool,
    McpPrompt,
    /// Has tools once it runs.
    McpServer,
    /// Of an agent: listed, never run.
    Agent,
    /// What an agent runs by itself: listed, never run.
    Hook,
}

impl Kind {
    /// All, in the order of their declaration.
    pub const ALL: [Self; 14] = [
        Self::Builtin,
        Self::Service,
        Self::UserCommand,
        Self::ProjectCommand,
        Self::Task,
        Self::Prompt,
        Self::Skill,
        Self::Package,
        Self::Extension,
        Self::McpTool,
        Self::McpPrompt,
        Self::McpServer,
        Self::Agent,
        Self::Hook,
    ];

    /// As it stands in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Service => "service",
            Self::UserCommand => "user_command",
            Self::ProjectCommand => "project_command",
            Self::Task => "task",
            Self::Prompt => "prompt",
            Self::Skill => "skill",
            Self::Package => "package",
            Self::Extension => "extension",
            Self::McpTool => "mcp_tool",
            Self::McpPrompt => "mcp_prompt",
            Self::McpServer => "mcp_server",
            Self::Agent => "agent",
            Self::Hook => "hook",
        }
    }
}

/// Where a command belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// shellkeep's own.
    Builtin,
    /// The user's, in every session.
    User,
    /// Of the project that a session is in.
    Project,
    /// Of one session.
    Session,
}

impl Scope {
    /// As it stands in JSON and in ids.
    pub fn name(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::User => "user",
            Self::Project => "project",
            Self::Session => "session",
        }
    }
}

/// Whether a command may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// Yes.
    Trusted,
    /// Once the user has seen it and agreed.
    Pending,
    /// The user has said no.
    Denied,
}

impl Trust {
    /// As it stands in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Pending => "pending",
            Self::Denied => "denied",
        }
    }
}

/// Whether a command could run now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryState {
    /// Yes.
    Ready,
    /// What it needs is being started.
    Starting,
    /// No, and why.
    Unavailable(String),
}

impl EntryState {
    /// As it stands in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// SHA-256 over all that decides what a command does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// One command, as it is shown. No text has a control character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryInfo {
    /// `scope/owner/name`, of which there is one in a view.
    pub id: String,
    /// The bare name.
    pub name: String,
    /// A name that works whatever has the bare one.
    pub qualified_name: String,
    /// What it is.
    pub kind: Kind,
    /// Where it belongs.
    pub scope: Scope,
    /// What it is of: a program's name, a file.
    pub source: String,
    /// The file that defines it.
    pub path: Option<String>,
    /// One line.
    pub description: String,
    /// Its arguments, for people.
    pub args_hint: Option<String>,
    /// Its arguments, for programs: a JSON Schema of one object.
    pub schema: Option<String>,
    /// Heading under which it is listed.
    pub group: Option<String>,
    /// A name for people.
    pub display_name: Option<String>,
    /// Other bare names.
    pub aliases: Vec<String>,
    /// Whether it may run.
    pub trust: Trust,
    /// Whether it could.
    pub state: EntryState,
    /// Id of the one that has the bare name instead.
    pub shadowed_by: Option<String>,
    /// What would run, in a line.
    pub runs: String,
    /// Of all that decides what it does.
    pub digest: Digest,
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
}

/// What the user is asked before a command of a project runs for the first time, or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustQuestion {
    /// The command.
    pub entry: EntryInfo,
    /// Root of its project.
    pub root: String,
    /// All that decides what it does, line by line.
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

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RegistryError {
    /// No such session runs.
    #[error("no such session is running")]
    UnknownSession,
    /// No such command; those of similar names.
    #[error("{}: {name}", if *.is_service { "Unknown service command" } else { "no command is called so" })]
    UnknownCommand {
        /// As asked for.
        name: String,
        /// What may have been meant, the nearest first.
        near: Vec<String>,
        /// Only service commands were asked for.
        is_service: bool,
    },
    /// Several commands have the name; qualified names of all.
    #[error("{name} may mean {}", .candidates.join(", "))]
    Ambiguous {
        /// As asked for.
        name: String,
        /// Qualified names, in order.
        candidates: Vec<String>,
    },
    /// It is another command than the one that was seen.
    #[error("{entry} has changed since it was shown")]
    StaleEntry {
        /// Its id.
        entry: String,
    },
    /// The user has not agreed to it yet, or has said no.
    #[error("{} is not trusted", .0.entry.qualified_name)]
    NotTrusted(Box<TrustQuestion>),
    /// It cannot run now.
    #[error("{entry} is unavailable: {why}")]
    Unavailable {
        /// Qualified name.
        entry: String,
        /// Why.
        why: String,
    },
    /// The arguments are wrong.
    #[error("{why}")]
    InvalidArgs {
        /// How.
        why: String,
    },
    /// It took too long and was ended.
    #[error("it was ended after {after_ms} ms, its time limit")]
    Timeout {
        /// The limit.
        after_ms: u64,
    },
    /// It was cancelled.
    #[error("it was cancelled")]
    Cancelled,
    /// Its session has ended, and it with it.
    #[error("its session has ended")]
    SessionEnded,
    /// What ran it was replaced. It may be tried again.
    #[error("what ran it was replaced")]
    Reloaded,
    /// The daemon that ran it has ended.
    #[error("the daemon that ran it has ended")]
    Interrupted,
    /// Too much runs already.
    #[error("too many commands run already")]
    Busy,
    /// More than the limits allow.
    #[error("too large: {what}")]
    TooLarge {
        /// What.
        what: String,
    },
    /// What runs it says so.
    #[error("error {code}: {data}")]
    RemoteError {
        /// Its number.
        code: i64,
        /// Its words.
        data: String,
    },
    /// The system refused.
    #[error("{what}: {why}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        why: String,
    },
    /// The question was not understood.
    #[error("the daemon did not understand the question: {why}")]
    Invalid {
        /// Why.
        why: String,
    },
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
