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
    ARGS_BYTES_MAX, ARGS_MAX, ClientEffect, EntryState, ExecuteCommand, ExecutionEvent, Kind, RegistryError,
    STDIN_BYTES_MAX, Scope, Told,
};

use super::conversation::{Conversation, blocking};
use super::entry::{Effect, Entry, Exec, Service, words};
use super::run::{Act, Job, Recheck, TIME_MAX_DEFAULT};
use super::sources;
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
        conversation.check_trust(&view, session, entry)?;
        let entry = Arc::clone(entry);
        let act = act(conversation, &entry, &mut execute).await?;
        let root = session.and_then(|session| registry.project_of(session)).filter(|_| entry.scope == Scope::Project);
        let id = entry.id.to_string();
        let recheck = recheck(conversation, session, &entry);
        let job = Job { entry, root, session, connection, act, recheck };
        let invocation = conversation.invocations.begin(job)?;
        self.count(&id);
        Ok(Told::Accepted { invocation, entry: id })
    }

    /// Saved on the side: a crash may cost a use or two.
    fn count(&self, id: &str) {
        self.usage.lock().note(id, crate::now_us());
        let own = self.clone();
        drop(tokio::task::spawn_blocking(move || {
            let usage = own.usage.lock();
            if let Err(error) = save(&own.file, &usage) {
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

fn save(file: &Path, usage: &Usage) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if let Some(directory) = file.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let beside = file.with_extension("new");
    std::fs::write(&beside, serde_json::to_vec(usage)?)?;
    std::fs::rename(beside, file)
}

fn unknown_service(execute: &ExecuteCommand) -> RegistryError {
    RegistryError::UnknownCommand { name: execute.command.clone(), near: Vec::new(), is_service: true }
}

fn check_size(execute: &ExecuteCommand) -> Result<(), RegistryError> {
    let too_large = |what: &str| Err(RegistryError::TooLarge { what: what.to_owned() });
    let bytes: usize = execute.args.iter().map(String::len).sum();
    if execute.args.len() > ARGS_MAX || bytes > ARGS_BYTES_MAX {
        return too_large("the arguments");
    }
    if execute.stdin.len() > STDIN_BYTES_MAX {
        return too_large("the standard input");
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
    let invalid =
        |why: &dyn std::fmt::Display| RegistryError::InvalidArgs { why: format!("{} {why}", entry.qualified_name) };
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
            why: "it is a server; what it offers can be run".to_owned(),
        }),
        sources::Exec::Nothing => Err(RegistryError::Unavailable {
            entry: entry.qualified_name.to_string(),
            why: "it is only listed".to_owned(),
        }),
    }
}

fn process(
    argv: Vec<String>,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    execute: &mut ExecuteCommand,
) -> Act {
    Act::Process {
        argv,
        directory,
        environment,
        asked: std::mem::take(&mut execute.env),
        stdin: std::mem::take(&mut execute.stdin),
        merged: execute.merged,
        time_max: execute.time_max_ms.map_or(TIME_MAX_DEFAULT, Duration::from_millis),
    }
}

/// What `reload-remote` says.
fn reload_text(reloaded: &shellkeep_protocol::registry::Reloaded) -> String {
    let mut text = format!(
        "{} commands in the base, {} of this session, {} of plugins among them\n",
        reloaded.base, reloaded.session, reloaded.plugins
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
