//! The registry in the daemon: its parts put together, and told what becomes of sessions.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use shellkeep_protocol::daemon::{DaemonProtocol, Response};
use shellkeep_protocol::ids::{SessionId, StoreId};
use shellkeep_transport::{CancellationToken, Context};

use super::caches;
use super::conversation::Conversation;
use super::core::CommandRegistry;
use super::discovery::{Discovery, Places, Sessions};
use super::execution::Executor;
use super::installed::Installed;
use super::mcp::{Servers, Timing};
use super::run::Invocations;
use super::subscriptions::Subscriptions;
use super::trust::TrustStore;
use crate::Config;
use crate::index::follower::Follower;
use crate::index::history;
use crate::index::secrets::Secrets;
use crate::sessions::logs::Logs;
use crate::sessions::manager::LogChange;
use crate::sessions::spool;
use crate::sessions::store::Store;

/// The commands of all sessions of this daemon. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Registry {
    conversation: Conversation,
    stop: CancellationToken,
}

impl Registry {
    /// Starts the threads, which sleep until the first session comes or somebody asks.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(config: &Config, store: &Store, logs: &Logs, follower: &Follower) -> std::io::Result<Self> {
        let boot = boot();
        let registry = Arc::new(CommandRegistry::new(boot, config.preferences.clone()));
        let trust = Arc::new(Mutex::new(TrustStore::load(&config.places.registry)));
        let invocations = Invocations::new(boot);
        let places = Places {
            // Without a home there is nothing of the user's in it.
            home: config.places.home.clone().unwrap_or_else(|| config.places.registry.join("no-home")),
            config: config.places.config.clone(),
        };
        let home = places.home.clone();
        let installed = Installed::new(Arc::clone(&registry), &config.places.packages);
        let discovery =
            Discovery::new(Arc::clone(&registry), Arc::clone(&trust), invocations.clone(), places, installed);
        let sessions = Arc::new(Recorded {
            store: store.clone(),
            logs: logs.clone(),
            spools: config.places.spools.clone(),
            index: config.places.index.clone(),
            secrets: Arc::clone(&config.secrets),
        });
        discovery.start(Arc::clone(&sessions))?;
        let moved = discovery.clone();
        follower.when_moved(Box::new(move |session, directory| moved.moved(session, directory)));
        let subscriptions = Subscriptions::new(Arc::clone(&registry));
        let stop = CancellationToken::new();
        drop(tokio::spawn(subscriptions.clone().run(stop.clone())));
        drop(tokio::spawn(caches::run(Arc::clone(&registry), config.places.registry.clone(), stop.clone())));
        let servers = Servers::new(Arc::clone(&registry), Arc::clone(&trust), home, Timing::default());
        drop(tokio::spawn(servers.clone().run(stop.clone())));
        let conversation = Conversation {
            registry,
            trust,
            discovery,
            invocations,
            subscriptions,
            executor: Executor::new(&config.places.registry),
            servers,
            follower: follower.clone(),
            sessions,
            version: config.version.clone(),
        };
        Ok(Self { conversation, stop })
    }

    /// Answers one encoded question.
    pub(crate) async fn answer(&self, context: &Context<DaemonProtocol>, version: u16, body: &[u8]) -> Response {
        self.conversation.answer(context, version, body).await
    }

    /// A connection has gone.
    pub(crate) fn disconnected(&self, connection: u64) {
        self.conversation.disconnected(connection);
    }

    /// Something became of a session. Never waits.
    pub(crate) fn changed(&self, session: SessionId, change: LogChange) {
        let discovery = &self.conversation.discovery;
        match change {
            LogChange::Opened => discovery.came(session),
            LogChange::Left => discovery.left(session),
            LogChange::Ended => discovery.ended(session),
            LogChange::Grew(_) | LogChange::Replaced => {}
        }
    }

    /// Ends threads and commands soon.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        self.conversation.invocations.stop();
        self.conversation.discovery.stop();
    }
}

/// What tells this daemon's life from others.
fn boot() -> u64 {
    let random = StoreId::random().map(|id| *id.as_bytes()).unwrap_or_default();
    let (bytes, _) = random.as_chunks::<8>();
    let random = bytes.first().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    random ^ crate::now_us()
}

/// What the daemon has recorded of sessions.
struct Recorded {
    store: Store,
    logs: Logs,
    spools: PathBuf,
    index: PathBuf,
    secrets: Arc<Secrets>,
}

impl Sessions for Recorded {
    fn directory(&self, session: SessionId) -> Option<String> {
        history::directory(&self.index, &self.secrets, session).or_else(|| Some(self.logs.summary(session)?.attrs.cwd))
    }

    fn is_here(&self, session: SessionId) -> bool {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.logs.summary(session).is_some_and(|summary| summary.attrs.host == host)
    }

    fn is_connected(&self, session: SessionId) -> bool {
        let connected =
            self.store.run(move |manager| manager.get(session).is_some_and(|open| open.core().connection().is_some()));
        connected.unwrap_or(false)
    }

    fn is_alive(&self, session: SessionId) -> bool {
        self.is_connected(session) || spool::is_held(&self.spools, session)
    }
}
