//! From a question to run something to what is done.
//!
//! Promise: looked up as it is on the disk now, checked against what the user saw and has agreed to, and only then begun.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{
    ARGS_BYTES_MAX, ARGS_MAX, ClientEffect, EntryState, ExecuteCommand, ExecutionEvent, Kind, RUN_DEPTH, RegistryError,
    STDIN_BYTES_MAX, Scope, Told,
};

use super::caches;
use super::conversation::{Conversation, blocking};
use super::entry::{Effect, Entry, Exec, Service, words};
use super::run::{Act, Job, Recheck, TIME_MAX_DEFAULT};
use super::sources;
use super::trust;
use super::usage::Usage;

/// Name of the file that keeps how often commands were run.
const USAGE_FILE: &str = "usage.json";

/// Begins executions, and counts them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Executor {
    usage: Arc<Mutex<Usage>>,
    file: PathBuf,
}

impl Executor {
    /// Counts on from the file in `directory`; a file that cannot be read counts as none.
    pub(crate) fn new(directory: &Path) -> Self {
        let file = directory.join(USAGE_FILE);
        let usage = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { usage: Arc::new(Mutex::new(usage.unwrap_or_default())), file }
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage.lock().clone()
    }

    /// Begins what is asked for, if it may be.
    ///
    /// # Errors
    /// Every reason why not.
    pub(super) async fn begin(
        &self,
        conversation: &Conversation,
        mut execute: ExecuteCommand,
        only_services: bool,
        connection: u64,
    ) -> Result<Told, RegistryError> {
        check_size(&execute)?;
        let session = execute.session;
        let registry = &conversation.registry;
        if let Some(root) = session.and_then(|session| registry.project_of(session)).filter(|_| !only_services) {
            // What the user agreed to is compared with what is there now, not with what was seen when it was looked last.
            let discovery = conversation.discovery.clone();
            if !blocking(move || discovery.look_at(&root)).await? {
                return Err(RegistryError::Busy);
            }
        }
        let view = conversation.view_with(session, &execute.command).await;
        let found = conversation.one(&view, session, &execute.command);
        let entry = match (found, only_services) {
            (Ok(entry), true) if !matches!(entry.kind, Kind::Builtin | Kind::Service) => Err(unknown_service(&execute)),
            (Err(_), true) => Err(unknown_service(&execute)),
            (found, _) => found,
        }?;
        if execute.digest.is_some_and(|seen| seen != entry.digest) {
            return Err(RegistryError::StaleEntry { entry: entry.id.to_string() });
        }
        if let EntryState::Unavailable(why) = &entry.state {
            return Err(RegistryError::Unavailable { entry: entry.qualified_name.to_string(), why: why.clone() });
        }
        let line = line_of(entry, &execute.args)?;
        conversation.check_trust(&view, session, entry).map_err(|error| asked_with(error, line))?;
        let entry = Arc::clone(entry);
        let act = act(conversation, &entry, &mut execute).await?;
        if !execute.given.is_empty() && !matches!(act, Act::Process { .. }) {
            let why = format!("{} runs no process that a variable could be given to", entry.qualified_name);
            return Err(RegistryError::InvalidArgs { why });
        }
        let here = session.and_then(|session| conversation.discovery.directory(session));
        let line = typed(&act, here.as_deref());
        let root = session.and_then(|session| registry.project_of(session)).filter(|_| entry.scope == Scope::Project);
        let id = entry.id.to_string();
        let recheck = recheck(conversation, session, &entry);
        let job = Job { entry, root, session, connection, act, recheck };
        let invocation = conversation.invocations.begin(job)?;
        self.count(&id);
        Ok(Told::Accepted { invocation, entry: id, line })
    }

    /// Saved on the side: a crash may cost a use or two.
    fn count(&self, id: &str) {
        self.usage.lock().note(id, crate::now_us());
        let own = self.clone();
        drop(tokio::task::spawn_blocking(move || {
            let usage = own.usage.lock();
            if let Err(error) = saved(&own.file, &usage) {
                tracing::debug!(%error, "how often commands were run cannot be saved");
            }
        }));
    }
}

/// Looks again at what waited for others to end: it may be another by now.
fn recheck(conversation: &Conversation, session: Option<SessionId>, entry: &Arc<Entry>) -> Recheck {
    let (own, entry) = (conversation.clone(), Arc::clone(entry));
    Recheck::new(move || {
        if let Some(root) = session.and_then(|session| own.registry.project_of(session)) {
            own.discovery.look_at(&root).then_some(()).ok_or(RegistryError::Busy)?;
        }
        let view = own.registry.get_for_session(session);
        let now = own.one(&view, session, &entry.id)?;
        if now.digest != entry.digest {
            return Err(RegistryError::StaleEntry { entry: entry.id.to_string() });
        }
        own.check_trust(&view, session, now)
    })
}

fn saved(file: &Path, usage: &Usage) -> std::io::Result<()> {
    caches::replace(file, &serde_json::to_vec(usage)?)
}

fn unknown_service(execute: &ExecuteCommand) -> RegistryError {
    RegistryError::UnknownCommand { name: execute.command.clone(), near: Vec::new(), is_service: true }
}

fn check_size(execute: &ExecuteCommand) -> Result<(), RegistryError> {
    let too_large = |what: &str| Err(RegistryError::TooLarge { what: what.to_owned() });
    let given = execute.given.iter().map(|(name, value)| name.len() + value.len());
    let bytes: usize = execute.args.iter().map(String::len).chain(given).sum();
    if execute.args.len() + execute.given.len() > ARGS_MAX || bytes > ARGS_BYTES_MAX {
        return too_large("the arguments");
    }
    if execute.stdin.len() > STDIN_BYTES_MAX {
        return too_large("the standard input");
    }
    let usable = |(name, value): &(String, String)| {
        !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0') && name != RUN_DEPTH
    };
    if let Some((name, _)) = execute.given.iter().find(|pair| !usable(pair)) {
        return Err(RegistryError::InvalidArgs { why: format!("the variable \"{name}\" cannot be given") });
    }
    if execute.args.iter().any(|arg| arg.contains('\0')) {
        return Err(RegistryError::InvalidArgs { why: "an argument has a NUL byte".to_owned() });
    }
    Ok(())
}

async fn act(
    conversation: &Conversation,
    entry: &Arc<Entry>,
    execute: &mut ExecuteCommand,
) -> Result<Act, RegistryError> {
    let said =
        |text: String| Act::Done(vec![ExecutionEvent::Stdout(text.into_bytes()), ExecutionEvent::Exit { code: 0 }]);
    let directory = || {
        let session = execute.session.and_then(|session| conversation.discovery.directory(session));
        let directory = session.or_else(|| execute.cwd.clone()).map(PathBuf::from);
        directory.unwrap_or_else(|| conversation.discovery.home().to_owned())
    };
    match &entry.exec {
        Exec::Client(effect) => {
            let effect = match effect {
                Effect::ChangeDirectory => {
                    let home = || conversation.discovery.home().to_string_lossy().into_owned();
                    ClientEffect::ChangeDirectory(execute.args.first().cloned().unwrap_or_else(home))
                }
                Effect::Exit => ClientEffect::Exit,
                Effect::StopDaemon => ClientEffect::StopDaemon,
                Effect::Packages => ClientEffect::Packages(std::mem::take(&mut execute.args)),
            };
            Ok(Act::Done(vec![ExecutionEvent::Client(effect), ExecutionEvent::Exit { code: 0 }]))
        }
        Exec::Service(Service::Directory) => Ok(said(format!("{}\n", directory().display()))),
        Exec::Service(Service::Reload) => {
            let reloaded = conversation.reload(execute.session).await?;
            Ok(said(reload_text(&reloaded)))
        }
        Exec::Service(Service::Shell) => {
            let line = execute.args.join(" ");
            if line.trim().is_empty() {
                return Err(RegistryError::InvalidArgs { why: "which line?".to_owned() });
            }
            let directory = directory();
            Ok(process(vec!["sh".to_owned(), "-c".to_owned(), line], directory, Vec::new(), execute))
        }
        Exec::Found(item) => {
            let directory = directory();
            found(entry, item, directory, execute)
        }
        Exec::Mcp(offer) => {
            let root = execute.session.and_then(|session| conversation.registry.project_of(session));
            let root = root.filter(|_| entry.scope == Scope::Project);
            conversation.servers.act(root.as_deref(), entry, offer, execute)
        }
        Exec::Spawn(spawn) => {
            let gone = |error: std::io::Error| RegistryError::Unavailable {
                entry: entry.qualified_name.to_string(),
                why: format!("its program cannot be had: {error}"),
            };
            let held = spawn.hold().map_err(gone)?;
            let argv = std::iter::once(spawn.program.clone()).chain(std::mem::take(&mut execute.args)).collect();
            let mut act = process(argv, directory(), Vec::new(), execute);
            if let Act::Process { held: place, .. } = &mut act {
                *place = Some(held);
            }
            Ok(act)
        }
        Exec::Nothing => {
            let why = "nothing runs it yet".to_owned();
            Err(RegistryError::Unavailable { entry: entry.qualified_name.to_string(), why })
        }
    }
}

fn found(
    entry: &Entry,
    item: &sources::Item,
    here: PathBuf,
    execute: &mut ExecuteCommand,
) -> Result<Act, RegistryError> {
    let invalid = |why: &dyn std::fmt::Display| invalid(entry, why);
    match &item.exec {
        sources::Exec::Program(program) => {
            let argv = program.with(&execute.args).map_err(|error| invalid(&error))?;
            Ok(process(argv, program.dir.clone().unwrap_or(here), program.env.clone(), execute))
        }
        sources::Exec::Line(line) => {
            let text = line.render(&item.arguments, &execute.args).map_err(|error| invalid(&error))?;
            let shell = line.shell.first().map_or("sh", String::as_str).to_owned();
            Ok(process(vec![shell, "-c".to_owned(), text], line.dir.clone().unwrap_or(here), line.env.clone(), execute))
        }
        sources::Exec::Prompt(prompt) => {
            let text = prompt.render(&words(&execute.args));
            Ok(Act::Done(vec![ExecutionEvent::Prompt { text }, ExecutionEvent::Exit { code: 0 }]))
        }
        sources::Exec::McpServer(_) => Err(RegistryError::Unavailable {
            entry: entry.qualified_name.to_string(),
            why: format!("it is a server; \"shellkeep commands {}\" lists what it offers", entry.name),
        }),
        sources::Exec::Nothing => Err(RegistryError::Unavailable {
            entry: entry.qualified_name.to_string(),
            why: "it is only listed".to_owned(),
        }),
    }
}

fn invalid(entry: &Entry, why: &dyn std::fmt::Display) -> RegistryError {
    RegistryError::InvalidArgs { why: format!("{}: {why}", entry.qualified_name) }
}

/// What would run with these arguments, for people.
///
/// # Errors
/// [`RegistryError::InvalidArgs`]: nobody is asked about what cannot run.
fn line_of(entry: &Entry, args: &[String]) -> Result<String, RegistryError> {
    let item = match &entry.exec {
        Exec::Found(item) => item,
        Exec::Spawn(spawn) => return Ok(words(&[std::slice::from_ref(&spawn.program), args].concat())),
        _ => return Ok(entry.runs()),
    };
    match &item.exec {
        sources::Exec::Program(program) => {
            program.with(args).map(|argv| words(&argv)).map_err(|error| invalid(entry, &error))
        }
        sources::Exec::Line(line) => line.render(&item.arguments, args).map_err(|error| invalid(entry, &error)),
        _ => Ok(trust::line(entry)),
    }
}

/// The same refusal, with the line that was asked for.
fn asked_with(mut error: RegistryError, line: String) -> RegistryError {
    if let RegistryError::NotTrusted(question) = &mut error {
        question.line = line;
    }
    error
}

/// What does the same when it is typed at a prompt in the directory `here`.
fn typed(act: &Act, here: Option<&str>) -> Option<String> {
    let Act::Process { argv, directory, .. } = act else { return None };
    let line = words(argv);
    if here.is_some_and(|here| Path::new(here) == directory) {
        return Some(line);
    }
    Some(format!("cd {} && {line}", words(&[directory.to_str()?.to_owned()])))
}

fn process(
    argv: Vec<String>,
    directory: PathBuf,
    mut environment: Vec<(String, String)>,
    execute: &mut ExecuteCommand,
) -> Act {
    environment.extend(std::mem::take(&mut execute.given));
    Act::Process {
        argv,
        directory,
        environment,
        asked: std::mem::take(&mut execute.env),
        stdin: std::mem::take(&mut execute.stdin),
        merged: execute.merged,
        time_max: execute.time_max_ms.map_or(TIME_MAX_DEFAULT, Duration::from_millis),
        held: None,
    }
}

/// What `reload-remote` says.
fn reload_text(reloaded: &shellkeep_protocol::registry::Reloaded) -> String {
    let mut text = format!(
        "{} commands: {} everywhere, {} of this session, {} of plugins among them\n",
        reloaded.base + reloaded.session,
        reloaded.base,
        reloaded.session,
        reloaded.plugins
    );
    for diagnostic in &reloaded.diagnostics {
        let place = match (&diagnostic.file, diagnostic.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            (Some(file), None) => file.clone(),
            (None, _) => diagnostic.source.clone(),
        };
        let _infallible = writeln!(text, "warning: {place}: {}", diagnostic.message);
    }
    text
}
