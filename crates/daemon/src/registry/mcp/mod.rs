//! Servers of tools that speak the Model Context Protocol: which of them run, and calling what they offer.
//!
//! Promise: a server runs only as long as its own entry is trusted as it was when it was started, and somebody is in its project (or was,
//! [`Timing::grace`] ago); the sessions of a project share it. At most [`SERVERS_MAX`] run. All of them live on one thread, which there is only as
//! long as one runs: a daemon without servers pays nothing for them, and a server that floods or hangs holds up no one else.
//! Knows of records nothing.

mod arguments;
mod call;
mod expand;
mod http;
mod line;
mod offers;
mod process;
mod quiet;
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shellkeep_protocol::registry::{Digest, EntryState, ExecuteCommand, Kind, RegistryError, Trust};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use self::call::Call;
use self::line::Line;
pub(crate) use self::server::Timing;
use self::server::{Life, Shown};
use super::core::CommandRegistry;
use super::entry::{Entry, Offer};
use super::run::{Act, TIME_MAX_DEFAULT};
use super::trust::TrustStore;
use super::view::View;

/// Servers that run at a time; one more is said to be unavailable.
pub(crate) const SERVERS_MAX: usize = 32;

/// How long a question may wait for servers that are being started.
const STARTED_WAIT_MAX: Duration = Duration::from_secs(12);

/// A server, by its project and its entry's id.
type Key = (Option<PathBuf>, Arc<str>);

/// One that was started.
struct Running {
    entry: Arc<Entry>,
    line: Arc<Line>,
    shown: Shown,
    stop: CancellationToken,
    retry: Arc<Notify>,
    /// When it is stopped because nobody is in its project any more.
    due: Option<Instant>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<Key, Running>,
    /// Those that are too many, and what they decided by.
    refused: BTreeMap<Key, Digest>,
    thread: Option<Thread>,
    is_stopping: bool,
}

/// The thread of all servers.
struct Thread {
    on: tokio::runtime::Handle,
    tasks: TaskTracker,
}

struct Shared {
    registry: Arc<CommandRegistry>,
    trust: Arc<Mutex<TrustStore>>,
    home: PathBuf,
    timing: Timing,
    /// Somebody has asked about commands: then the user's own servers run too.
    was_asked: AtomicBool,
    state: Mutex<State>,
}

/// All servers of this daemon. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Servers {
    shared: Arc<Shared>,
}

impl Servers {
    pub(crate) fn new(
        registry: Arc<CommandRegistry>,
        trust: Arc<Mutex<TrustStore>>,
        home: PathBuf,
        timing: Timing,
    ) -> Self {
        let shared =
            Shared { registry, trust, home, timing, was_asked: AtomicBool::new(false), state: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Starts and stops servers as the registry changes, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut changes = self.shared.registry.subscribe();
        loop {
            let due = self.reconcile();
            let is_due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                there = changes.changed() => if there.is_err() { break },
                () = is_due => {}
            }
        }
        self.stop();
    }

    /// Somebody asks about commands.
    pub(crate) fn asked(&self) {
        if !self.shared.was_asked.swap(true, Ordering::Relaxed) {
            self.reconcile();
        }
    }

    /// Servers that were left alone are tried again.
    pub(crate) fn retry(&self) {
        let state = self.shared.state.lock();
        // Kept until it is taken: one that is just being given up must not miss it.
        state.running.values().filter(|running| running.line.is_down()).for_each(|running| running.retry.notify_one());
    }

    /// Ends all; none is started any more.
    pub(crate) fn stop(&self) {
        let mut state = self.shared.state.lock();
        state.is_stopping = true;
        std::mem::take(&mut state.running).values().for_each(Running::end);
        state.release_thread();
    }

    /// Starts what should run and does not, and stops what should not; when to look again, if at some time.
    pub(crate) fn reconcile(&self) -> Option<Instant> {
        let shared = &self.shared;
        let wanted = shared.registry.wanted_servers();
        let state = &mut *shared.state.lock();
        if state.is_stopping {
            return None;
        }
        let asked = wanted.has_sessions && shared.was_asked.load(Ordering::Relaxed);
        let servers = wanted.servers.into_iter().filter(|(root, _)| root.is_some() || asked);
        let servers: BTreeMap<Key, Arc<Entry>> =
            servers.map(|(root, entry)| ((root, Arc::clone(&entry.id)), entry)).collect();
        let projects = shared.registry.projects();
        let now = Instant::now();
        state.running.retain(|key, running| {
            let stays = match (servers.get(key), &key.0) {
                (Some(entry), _) => {
                    running.due = None;
                    entry.decides == running.entry.decides
                }
                // Nobody knows yet what is there now.
                (None, Some(root)) if wanted.unknown.contains(root) => true,
                (None, Some(root)) if !projects.contains(root) => {
                    let due = *running.due.get_or_insert(now + shared.timing.grace);
                    now < due && shared.trust.lock().of(root, &running.entry) == Trust::Trusted
                }
                (None, _) => false,
            };
            if !stays {
                running.end();
            }
            stays
        });
        state.refused.retain(|key, decides| {
            let stays = servers.get(key).is_some_and(|entry| entry.decides == *decides);
            if !stays {
                shared.registry.take_away(key.0.as_deref(), &key.1); // nobody else shows it
            }
            stays
        });
        for (key, entry) in servers {
            if !state.running.contains_key(&key) {
                self.start(state, key, entry);
            }
        }
        if state.running.is_empty() {
            state.release_thread();
        }
        state.running.values().filter_map(|running| running.due).min()
    }

    fn start(&self, state: &mut State, key: Key, entry: Arc<Entry>) {
        let shared = &self.shared;
        let refused = |state: &mut State, key: Key, why: String| {
            if state.refused.insert(key.clone(), entry.decides) != Some(entry.decides) {
                shared.registry.bring(key.0.as_deref(), &entry, EntryState::Unavailable(why), None);
            }
        };
        if state.running.len() >= SERVERS_MAX {
            return refused(state, key, format!("{SERVERS_MAX} servers run already"));
        }
        if let Err(error) = state.ensure_thread() {
            warn!(%error, "no thread for servers of tools");
            return refused(state, key, format!("the system gives no thread: {error}"));
        }
        state.refused.remove(&key);
        let (line, stop, retry) = (Arc::new(Line::new()), CancellationToken::new(), Arc::new(Notify::new()));
        let shown = Shown::new(Arc::clone(&shared.registry), key.0.clone(), Arc::clone(&entry));
        let server = Life {
            shown: shown.clone(),
            root: key.0.clone(),
            home: shared.home.clone(),
            entry: Arc::clone(&entry),
            line: Arc::clone(&line),
            stop: stop.clone(),
            retry: Arc::clone(&retry),
            timing: shared.timing.clone(),
        };
        shown.show(EntryState::Starting, None);
        if let Some(thread) = &state.thread {
            thread.tasks.spawn_on(server.run(), &thread.on);
        }
        state.running.insert(key, Running { entry, line, shown, stop, retry, due: None });
    }

    /// Until no server that `view` has and that `name` names is being started, so far as that is soon.
    pub(crate) async fn started(&self, name: &str, view: impl Fn() -> View) {
        let is_named = |server: &str| {
            let rest = name.strip_prefix("mcp__").unwrap_or(name).strip_prefix(server);
            rest.is_some_and(|rest| rest.starts_with(':') || rest.starts_with("__"))
        };
        self.reconcile();
        let mut changes = self.shared.registry.subscribe();
        let is_starting = || {
            let is_it = |entry: &Arc<Entry>| entry.kind == Kind::McpServer && is_named(&entry.name);
            view().entries().any(|entry| is_it(entry) && entry.state == EntryState::Starting)
        };
        let until = tokio::time::Instant::now() + STARTED_WAIT_MAX;
        while is_starting() {
            if !matches!(tokio::time::timeout_at(until, changes.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// What calls `entry`, a tool or a prompt, with what was typed.
    ///
    /// # Errors
    /// If its server does not run, or the arguments are wrong.
    pub(super) fn act(
        &self,
        root: Option<&Path>,
        entry: &Entry,
        offer: &Arc<Offer>,
        execute: &ExecuteCommand,
    ) -> Result<Act, RegistryError> {
        let name = entry.qualified_name.to_string();
        let schema = entry.schema.as_ref().and_then(|schema| serde_json::from_str(schema).ok());
        let arguments = arguments::of(&execute.args, &execute.stdin, schema.as_ref())
            .map_err(|why| RegistryError::InvalidArgs { why: format!("{name}: {why}") })?;
        let state = self.shared.state.lock();
        let running = state.running.get(&(root.map(Path::to_owned), Arc::clone(&offer.server)));
        let running = running.filter(|running| running.entry.decides == offer.agreed);
        let (Some(running), Some(thread)) = (running, &state.thread) else {
            return Err(RegistryError::Unavailable { entry: name, why: "its server does not run".to_owned() });
        };
        let call = Call {
            line: Arc::clone(&running.line),
            on: thread.on.clone(),
            name,
            offer: Arc::clone(offer),
            arguments,
            cancel: CancellationToken::new(),
        };
        let time_max = execute.time_max_ms.map_or(TIME_MAX_DEFAULT, Duration::from_millis);
        Ok(Act::Elsewhere { call: Box::new(call), time_max })
    }
}

impl Running {
    /// Nothing of it is seen from now on, and it ends soon.
    fn end(&self) {
        self.shown.end();
        self.stop.cancel();
    }
}

impl State {
    /// The thread of the servers; started for the first one.
    fn ensure_thread(&mut self) -> std::io::Result<()> {
        if self.thread.is_some() {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (on, tasks) = (runtime.handle().clone(), TaskTracker::new());
        let all = tasks.clone();
        // It lives as long as any of its servers: the system ends their processes with it.
        let run = move || {
            runtime.block_on(all.wait());
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("mcp".into()).spawn(run)?;
        self.thread = Some(Thread { on, tasks });
        Ok(())
    }

    /// Ends the thread as soon as the last server has ended.
    fn release_thread(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.tasks.close();
        }
    }
}
