//! What a source has found: a command as plain data, with everything that decides what would run.
//!
//! Promise: two items with equal [`Item::trust_input`] run the same thing, as far as files of the project say what
//! runs. Knows no registry, no trust record and no process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::evidence::{Common, Content, Evidence, Parts};
use super::template::{Line, Prompt};

/// Whose file a command comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The user's own, from the home or the configuration directory.
    User,
    /// The project's: hostile until the user has agreed.
    Project,
}

/// What a command is. The registry has more kinds; these are those that files can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The user's own, from the configuration directory.
    UserCommand,
    /// A project's own, from `.shellkeep/commands`.
    ProjectCommand,
    /// A task of a task runner.
    Task,
    /// Text for an agent.
    Prompt,
    /// Text for an agent, which the agent may also take up by itself.
    Skill,
    /// A server of tools. The tools are items only once it runs.
    McpServer,
    /// An agent's description: listed, never run.
    Agent,
    /// What an agent would run by itself at some event: listed, never run.
    Hook,
}

/// One argument of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Argument {
    /// As its author calls it.
    pub name: String,
    /// One line, cleaned; empty if there is none.
    pub description: String,
    /// What is taken if it is not given; as text of the source, never evaluated.
    pub default: Option<String>,
    /// It must be given.
    pub required: bool,
    /// It takes all that is left.
    pub rest: bool,
}

/// What a command takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// One line for people, cleaned: `[issue] <branch>`.
    pub hint: Option<String>,
    /// In order; empty if nothing is known of them.
    pub names: Vec<Argument>,
}

/// How what the user adds reaches a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Behind its other arguments.
    Behind,
    /// Behind its other arguments and a `--`.
    BehindDashes,
    /// `NAME=VALUE` at its front as it is, the rest behind a `--`.
    AssignmentsThenDashes,
    /// Only `NAME=VALUE`: anything else would be another target.
    Assignments,
    /// Not at all.
    Refused,
}

/// A program in a directory, without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments, ready to run.
    pub argv: Vec<String>,
    /// Where it runs; nothing: where the session is.
    pub dir: Option<PathBuf>,
    /// Set on top of the child's environment.
    pub env: Vec<(String, String)>,
    /// How more arguments are added.
    pub passing: Passing,
}

/// Arguments that a program cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    /// It takes none.
    #[error("takes no arguments, but was given \"{0}\"")]
    Refused(String),
    /// It takes only `NAME=VALUE`.
    #[error("takes arguments of the form NAME=VALUE, but was given \"{0}\"")]
    NoAssignment(String),
}

impl Program {
    /// The whole argument vector with what the user adds.
    ///
    /// # Errors
    /// [`ArgumentError`] if the program cannot take them.
    pub fn with(&self, added: &[String]) -> Result<Vec<String>, ArgumentError> {
        let mut argv = self.argv.clone();
        match self.passing {
            Passing::Behind => {}
            Passing::BehindDashes if added.is_empty() => {}
            Passing::BehindDashes => argv.push("--".to_owned()),
            Passing::Assignments => {
                if let Some(other) = added.iter().find(|argument| !is_assignment(argument)) {
                    return Err(ArgumentError::NoAssignment(other.clone()));
                }
            }
            Passing::AssignmentsThenDashes => {
                let count = added.iter().take_while(|argument| is_assignment(argument)).count();
                argv.extend(added[..count].iter().cloned());
                if count < added.len() {
                    argv.push("--".to_owned());
                    argv.extend(added[count..].iter().cloned());
                }
                return Ok(argv);
            }
            Passing::Refused => {
                if let Some(first) = added.first() {
                    return Err(ArgumentError::Refused(first.clone()));
                }
            }
        }
        argv.extend(added.iter().cloned());
        Ok(argv)
    }
}

fn is_assignment(argument: &str) -> bool {
    argument.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    })
}

/// How a server of tools is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A process that speaks on its standard streams.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Set on top of the child's environment.
        env: Vec<(String, String)>,
    },
    /// An address that answers with streamed HTTP.
    Http {
        /// Where.
        url: String,
        /// Sent with each request.
        headers: Vec<(String, String)>,
    },
    /// The older form over HTTP, with server-sent events.
    Sse {
        /// Where.
        url: String,
        /// Sent with each request.
        headers: Vec<(String, String)>,
    },
}

/// A server of tools as its file describes it: nothing is expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpServer {
    /// Its name in the file, which becomes the group of its tools.
    pub name: String,
    /// How it is reached.
    pub transport: Transport,
    /// Where a process of it runs; nothing: where the session is.
    pub dir: Option<PathBuf>,
    /// Names in `${NAME}` and `${NAME:-default}`, sorted: only those that the user has agreed to may be expanded.
    pub variables: Vec<String>,
}

/// How an item is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exec {
    /// A program, without a shell.
    Program(Program),
    /// A line for a shell.
    Line(Line),
    /// Text for an agent.
    Prompt(Prompt),
    /// A server to be started or reached; lists tools then.
    McpServer(McpServer),
    /// It is only listed.
    Nothing,
}

/// One command that a source has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What a user types; unique only within its source.
    pub name: String,
    /// `just:test`: the owner, a colon, the name. Unique within its slice.
    pub qualified_name: String,
    /// Which tool or package it belongs to: `just`, `npm`, a plugin's name, a server's name.
    pub owner: String,
    /// For people, if its author gave one. Cleaned.
    pub display_name: Option<String>,
    /// Belongs together in a list: a workspace's package, a plugin, a folder.
    pub group: Option<String>,
    /// Other names for [`name`](Item::name).
    pub aliases: Vec<String>,
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub scope: Scope,
    /// Of a project's scope, but said by the user alone, in their home: nothing of the project has a say in it.
    pub is_own: bool,
    /// One line, without anything that a terminal acts on. Empty if there is none.
    pub description: String,
    /// What it takes.
    pub arguments: Arguments,
    /// How it is executed.
    pub exec: Exec,
    /// The file that describes it.
    pub file: PathBuf,
    /// Where in the file, from 1.
    pub line: Option<u32>,
    /// What the file says of it alone, as it is written; for people, who are asked. Empty if `exec` says all.
    pub own: String,
    /// Its author wants people to see it; hidden ones can still be run by name.
    pub listed: bool,
    /// Its author lets an agent take it up without being asked.
    pub agents_may: bool,
    /// What else decides what would run, beside what is `shared`.
    pub evidence: Vec<Evidence>,
    /// What decides of this and of others.
    pub shared: Vec<Arc<Common>>,
}

impl Program {
    /// A program of the search path in a directory.
    pub(super) fn new(argv: &[&str], dir: Option<PathBuf>, passing: Passing) -> Self {
        Self { argv: argv.iter().map(|&argument| argument.to_owned()).collect(), dir, env: Vec::new(), passing }
    }
}

impl Item {
    /// An item with a name and an owner; everything else as if nothing was said of it.
    pub(super) fn new(owner: &str, name: impl Into<String>, kind: Kind, exec: Exec, file: PathBuf) -> Self {
        let name = name.into();
        Self {
            qualified_name: format!("{owner}:{name}"),
            name,
            owner: owner.to_owned(),
            display_name: None,
            group: None,
            aliases: Vec::new(),
            kind,
            scope: Scope::Project,
            is_own: false,
            description: String::new(),
            arguments: Arguments::default(),
            exec,
            file,
            line: None,
            own: String::new(),
            listed: true,
            agents_may: true,
            evidence: Vec::new(),
            shared: Vec::new(),
        }
    }

    /// Everything that decides what would run, in a form of its own (length before each part), to be hashed for trust.
    ///
    /// Descriptions and groups are not in it: they change nothing that runs.
    pub fn trust_input(&self) -> Vec<u8> {
        let mut parts = Parts(Vec::new());
        parts.text("shellkeep item 3");
        parts.text(&format!("{:?} {:?}", self.scope, self.kind));
        parts.text(&self.qualified_name);
        parts.bytes(self.file.as_os_str().as_encoded_bytes());
        exec_parts(&self.exec, &mut parts);
        for argument in &self.arguments.names {
            parts.text(&argument.name);
            parts.text(argument.default.as_deref().unwrap_or_default());
            parts.text(if argument.default.is_some() { "default" } else { "" });
        }
        parts.evidence(&self.evidence);
        for common in &self.shared {
            parts.text("shared");
            parts.bytes(common.digest());
        }
        parts.0
    }

    /// All that decides beside the item's own words.
    pub fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        self.shared.iter().flat_map(|common| common.all()).chain(&self.evidence)
    }

    /// What decides and was not read, with the reasons. If there is any, agreement must not be remembered.
    pub fn unread(&self) -> impl Iterator<Item = (&str, &str)> {
        self.evidence().filter_map(|evidence| match &evidence.content {
            Content::Unread(why) => Some((&*evidence.what, &**why)),
            Content::Bytes(_) | Content::Absent => None,
        })
    }

    /// Whether agreement may be remembered: all that decides was read.
    pub fn can_be_remembered(&self) -> bool {
        self.unread().next().is_none()
    }
}

/// Bytes of what an item's file says of it alone, for people. Of longer ones the beginning.
const OWN_BYTES_MAX: usize = 4 << 10;

/// What a file says of an item alone, as far as people are shown it.
pub(super) fn own(lines: &mut dyn Iterator<Item = &str>) -> String {
    let mut own = String::new();
    for line in lines {
        if own.len() + line.len() > OWN_BYTES_MAX {
            let mut end = OWN_BYTES_MAX.saturating_sub(own.len()).min(line.len());
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            own.extend([&line[..end], "…"]);
            break;
        }
        own.extend([line, "\n"]);
    }
    own.truncate(own.trim_end().len());
    own
}

/// A line of a text, from 1, with the deeper ones below it: a recipe with its head.
pub(super) fn block(lines: &[&str], line: u32) -> String {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut lines = lines.iter().copied().skip((line as usize).saturating_sub(1));
    let Some(head) = lines.next() else { return String::new() };
    // A head goes on behind a backslash.
    let mut goes_on = head.ends_with('\\');
    let body = lines.take_while(|line| {
        let is_part = goes_on || line.trim().is_empty() || depth(line) > depth(head);
        goes_on = line.ends_with('\\');
        is_part
    });
    own(&mut std::iter::once(head).chain(body))
}

impl Parts {
    fn place(&mut self, place: Option<&Path>) {
        self.bytes(place.map_or(b"the session's", |place| place.as_os_str().as_encoded_bytes()));
    }

    fn list<T>(&mut self, list: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.bytes(&(list.len() as u64).to_le_bytes());
        for one in list {
            each(self, one);
        }
    }

    fn pairs(&mut self, pairs: &[(String, String)]) {
        self.list(pairs, |parts, (name, value)| {
            parts.text(name);
            parts.text(value);
        });
    }

    fn texts(&mut self, texts: &[String]) {
        self.list(texts, |parts, text| parts.text(text));
    }
}

fn exec_parts(exec: &Exec, parts: &mut Parts) {
    match exec {
        Exec::Program(Program { argv, dir, env, passing }) => {
            parts.text("program");
            parts.texts(argv);
            parts.place(dir.as_deref());
            parts.pairs(env);
            parts.text(&format!("{passing:?}"));
        }
        Exec::Line(line) => {
            parts.text("line");
            parts.text(&line.text);
            parts.text(&format!("{:?} {:?}", line.places, line.shell));
            parts.place(line.dir.as_deref());
            parts.pairs(&line.env);
        }
        Exec::Prompt(prompt) => {
            parts.text("prompt");
            parts.text(&prompt.text);
            parts.text(&format!("{:?}", prompt.dialect));
            parts.texts(&prompt.names);
            parts.pairs(&prompt.constants);
        }
        Exec::McpServer(server) => {
            parts.text("server");
            parts.text(&server.name);
            parts.place(server.dir.as_deref());
            match &server.transport {
                Transport::Stdio { command, args, env } => {
                    parts.text("stdio");
                    parts.text(command);
                    parts.texts(args);
                    parts.pairs(env);
                }
                Transport::Http { url, headers } => {
                    parts.text("http");
                    parts.text(url);
                    parts.pairs(headers);
                }
                Transport::Sse { url, headers } => {
                    parts.text("sse");
                    parts.text(url);
                    parts.pairs(headers);
                }
            }
        }
        Exec::Nothing => parts.text("nothing"),
    }
}
