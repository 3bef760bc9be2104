//! One command as it is shown.

use serde::{Deserialize, Serialize};

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
