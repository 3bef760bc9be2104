//! One command as the registry holds it: what it is called, what it is, what it runs.
//!
//! Promise: immutable; its digest says all that decides what it does, so that what was seen is what runs.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use shellkeep_protocol::registry::{Digest, EntryInfo, EntryState, Kind, Scope, Trust};

use super::installed::Spawn;
use super::names;
use super::sources::{self, Item};

/// What the asking program does itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Go to a directory.
    ChangeDirectory,
    /// End the shell.
    Exit,
    /// End the daemon.
    StopDaemon,
    /// Install packages and manage them.
    Packages,
}

/// What the daemon does itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Says where the session is.
    Directory,
    /// Looks for commands anew.
    Reload,
    /// Runs a line in a shell.
    Shell,
}

/// How a command is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exec {
    /// By the asking program.
    Client(Effect),
    /// By the daemon.
    Service(Service),
    /// As a file says: a program, a line, a text for an agent.
    Found(Arc<Item>),
    /// By a server of tools that runs.
    Mcp(Arc<Offer>),
    /// As a program of an installed package.
    Spawn(Arc<Spawn>),
    /// By what somebody has to start first, or never.
    Nothing,
}

/// A tool or a prompt of a server that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Id of the server's entry: who agreed to that agreed to this.
    pub server: Arc<str>,
    /// What the server's entry decided by when it was started.
    pub agreed: Digest,
    /// As the server calls it.
    pub name: String,
    /// Gives a text, instead of doing something.
    pub is_prompt: bool,
    /// Its server is the user's own ([`Item::is_own`]).
    pub is_own: bool,
}

/// What a source says of a command, before it is one.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The bare name.
    pub name: String,
    /// A name of its own: `just:test`.
    pub qualified_name: String,
    /// What it is.
    pub kind: Kind,
    /// Where it belongs.
    pub scope: Scope,
    /// Program, package or plugin that has it: `just`.
    pub owner: String,
    /// The file that defines it.
    pub path: Option<String>,
    /// For people.
    pub description: String,
    /// Its arguments, for people.
    pub args_hint: Option<String>,
    /// Its arguments, as a JSON Schema of one object.
    pub schema: Option<String>,
    /// Heading under which it is listed.
    pub group: Option<String>,
    /// A name for people.
    pub display_name: Option<String>,
    /// Other bare names.
    pub aliases: Vec<String>,
    /// How it is executed.
    pub exec: Exec,
    /// All that decides what it does, for the digest.
    pub decides: Vec<u8>,
    /// Whether it may run.
    pub trust: Trust,
    /// Whether it could.
    pub state: EntryState,
    /// Order in which packages were installed, from 1.
    pub installed: Option<u64>,
    /// Shown in lists and found by searching; else it is only known by its name.
    pub is_listed: bool,
}

impl Draft {
    /// A command of which nothing more is said than its names.
    pub fn new(name: &str, owner: &str, kind: Kind, scope: Scope, exec: Exec) -> Self {
        Self {
            name: name.to_owned(),
            qualified_name: format!("{owner}:{name}"),
            kind,
            scope,
            owner: owner.to_owned(),
            path: None,
            description: String::new(),
            args_hint: None,
            schema: None,
            group: None,
            display_name: None,
            aliases: Vec::new(),
            exec,
            decides: Vec::new(),
            trust: Trust::Trusted,
            state: EntryState::Ready,
            installed: None,
            is_listed: true,
        }
    }
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `scope/owner/name`.
    pub id: Arc<str>,
    /// The bare name.
    pub name: Arc<str>,
    /// A name of its own.
    pub qualified_name: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Where it belongs.
    pub scope: Scope,
    /// Program, package or plugin that has it.
    pub owner: Arc<str>,
    /// The file that defines it.
    pub path: Option<Arc<str>>,
    /// One line, clean.
    pub description: Box<str>,
    /// Its arguments, for people.
    pub args_hint: Option<Box<str>>,
    /// Its arguments, as a JSON Schema of one object.
    pub schema: Option<Box<str>>,
    /// Heading under which it is listed.
    pub group: Option<Box<str>>,
    /// A name for people.
    pub display_name: Option<Box<str>>,
    /// Other bare names.
    pub aliases: Box<[Arc<str>]>,
    /// How it is executed.
    pub exec: Exec,
    /// Whether it may run.
    pub trust: Trust,
    /// Whether it could.
    pub state: EntryState,
    /// Order in which packages were installed.
    pub installed: Option<u64>,
    /// Shown in lists.
    pub is_listed: bool,
    /// Over all that decides what it does: what is agreed to.
    pub decides: Digest,
    /// Over all that it is but for trust and state: what is seen.
    pub digest: Digest,
}

impl Entry {
    /// The entry that a draft describes, with its texts cleaned. Names were checked.
    pub(super) fn of(draft: Draft) -> Self {
        let clean = |text: Option<String>| text.map(|text| names::shown(&text).into_boxed_str());
        let Draft { name, qualified_name, kind, scope, owner, path, description, .. } = draft;
        let mut entry = Self {
            // Owners are checked as names are: what is between two "/" has none.
            id: format!("{}/{owner}/{name}", scope.name()).into(),
            name: name.into(),
            qualified_name: qualified_name.into(),
            kind,
            scope,
            owner: owner.into(),
            path: path.map(Arc::from),
            description: names::shown(&description).into_boxed_str(),
            args_hint: clean(draft.args_hint),
            schema: draft.schema.map(String::into_boxed_str),
            group: clean(draft.group),
            display_name: clean(draft.display_name),
            aliases: draft.aliases.into_iter().map(Arc::from).collect(),
            exec: draft.exec,
            trust: draft.trust,
            state: draft.state,
            installed: draft.installed,
            is_listed: draft.is_listed,
            decides: Digest(Sha256::digest(&draft.decides).into()),
            digest: Digest::default(),
        };
        entry.digest = entry.digest_of_all();
        entry
    }

    /// Every part with its length before it, so that no two entries give the same bytes.
    fn digest_of_all(&self) -> Digest {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let optional = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
        part(self.id.as_bytes());
        part(self.qualified_name.as_bytes());
        part(self.kind.name().as_bytes());
        part(self.path.as_deref().unwrap_or_default().as_bytes());
        part(self.description.as_bytes());
        part(optional(&self.args_hint).as_bytes());
        part(optional(&self.schema).as_bytes());
        part(optional(&self.group).as_bytes());
        part(optional(&self.display_name).as_bytes());
        part(&(self.aliases.len() as u64).to_le_bytes());
        self.aliases.iter().for_each(|alias| part(alias.as_bytes()));
        part(&self.installed.unwrap_or(0).to_le_bytes());
        part(&[u8::from(self.is_listed)]);
        part(&self.decides.0);
        Digest(hash.finalize().into())
    }

    /// Id and digest of what the user agrees to for this: the server's, for what a server offers.
    pub fn agreed_as(&self) -> (&str, Digest) {
        match &self.exec {
            Exec::Mcp(offer) => (&offer.server, offer.agreed),
            _ => (&self.id, self.decides),
        }
    }

    /// Said by the user alone, though it is of a project: it asks nobody.
    pub fn is_own(&self) -> bool {
        match &self.exec {
            Exec::Found(item) => item.is_own,
            Exec::Mcp(offer) => offer.is_own,
            Exec::Client(_) | Exec::Service(_) | Exec::Spawn(_) | Exec::Nothing => false,
        }
    }

    /// As it is shown, with the id of the one that has its bare name.
    pub fn info(&self, shadowed_by: Option<&Entry>) -> EntryInfo {
        EntryInfo {
            id: self.id.to_string(),
            name: self.name.to_string(),
            qualified_name: self.qualified_name.to_string(),
            kind: self.kind,
            scope: self.scope,
            source: self.owner.to_string(),
            path: self.path.as_ref().map(ToString::to_string),
            description: self.description.to_string(),
            args_hint: self.args_hint.as_ref().map(ToString::to_string),
            schema: self.schema.as_ref().map(ToString::to_string),
            group: self.group.as_ref().map(ToString::to_string),
            display_name: self.display_name.as_ref().map(ToString::to_string),
            aliases: self.aliases.iter().map(ToString::to_string).collect(),
            trust: self.trust,
            state: self.state.clone(),
            shadowed_by: shadowed_by.map(|other| other.id.to_string()),
            runs: self.runs(),
            digest: self.digest,
        }
    }

    /// What would run, in a line.
    pub fn runs(&self) -> String {
        match &self.exec {
            Exec::Client(Effect::Packages) => "shellkeep pkg".to_owned(),
            Exec::Client(_) => "done by your shell".to_owned(),
            Exec::Service(Service::Shell) => "sh -c".to_owned(),
            Exec::Service(_) => "done by shellkeep".to_owned(),
            Exec::Found(item) => names::shown(&match &item.exec {
                sources::Exec::Program(program) => words(&program.argv),
                sources::Exec::Line(line) => line.text.clone(),
                sources::Exec::Prompt(prompt) => prompt.text.lines().next().unwrap_or_default().to_owned(),
                sources::Exec::McpServer(server) => match &server.transport {
                    sources::Transport::Stdio { command, args, .. } => {
                        words(&[std::slice::from_ref(command), args].concat())
                    }
                    sources::Transport::Http { url, .. } | sources::Transport::Sse { url, .. } => url.clone(),
                },
                sources::Exec::Nothing => String::new(),
            }),
            Exec::Mcp(offer) if offer.is_prompt => format!("text of the server {}", self.owner),
            Exec::Mcp(_) => format!("done by the server {}", self.owner),
            Exec::Spawn(spawn) => words(std::slice::from_ref(&spawn.program)),
            Exec::Nothing => String::new(),
        }
    }
}

/// Arguments as they would be typed.
pub(super) fn words(argv: &[String]) -> String {
    let word = |word: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// What shellkeep itself brings. `bash` can be run and is not listed.
pub fn builtins() -> Vec<Draft> {
    let builtin = |name, effect, description: &str| Draft {
        description: description.to_owned(),
        ..Draft::new(name, "shellkeep", Kind::Builtin, Scope::Builtin, Exec::Client(effect))
    };
    let service = |name, service, description: &str| Draft {
        description: description.to_owned(),
        ..Draft::new(name, "shellkeep", Kind::Service, Scope::Builtin, Exec::Service(service))
    };
    vec![
        Draft { args_hint: Some("[DIR]".to_owned()), ..builtin("cd", Effect::ChangeDirectory, "Go to a directory") },
        service("pwd", Service::Directory, "Say which directory the session is in"),
        builtin("exit", Effect::Exit, "End the shell"),
        builtin("exit-daemon", Effect::StopDaemon, "Stop the daemon; sessions go on"),
        service("reload-remote", Service::Reload, "Look for commands anew"),
        Draft {
            args_hint: Some("VERB".to_owned()),
            ..builtin("pkg", Effect::Packages, "Install and manage packages of commands")
        },
        Draft {
            is_listed: false,
            args_hint: Some("LINE".to_owned()),
            ..service("bash", Service::Shell, "Run a line in the session's directory")
        },
    ]
}
