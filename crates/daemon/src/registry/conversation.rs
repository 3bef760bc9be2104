//! Answers questions about commands, and does what is asked of them.
//!
//! Promise: reading never waits for a look at the disk; nothing of a project runs that the user has not agreed to as it is on the disk at that
//! moment. Holds no commands itself.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shellkeep_protocol::daemon::{DaemonProtocol, Response};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{
    Ask, Diagnostic, EntryInfo, FOLLOW_WAIT_MS_MAX, GetCommandRegistry, PAGE_BYTES_MAX, PAGE_MAX, Page,
    REGISTRY_VERSION, RegistryError, Reloaded, SETTLE_WAIT_MS_MAX, SearchCommands, Told,
};
use shellkeep_transport::Context;

use super::core::CommandRegistry;
use super::discovery::{Discovery, Sessions};
use super::entry::Entry;
use super::execution::Executor;
use super::mcp::Servers;
use super::run::Invocations;
use super::subscriptions::Subscriptions;
use super::trust::TrustStore;
use super::view::View;
use crate::index::follower::Follower;

/// Longest encoded answer: below what a frame takes.
const TOLD_BYTES_MAX: usize = 3 << 20;

/// Diagnostics in one answer.
const DIAGNOSTICS_MAX: usize = 1_000;

/// What answering needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Conversation {
    pub(crate) registry: Arc<CommandRegistry>,
    pub(crate) trust: Arc<Mutex<TrustStore>>,
    pub(crate) discovery: Discovery,
    pub(crate) invocations: Invocations,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) executor: Executor,
    pub(crate) servers: Servers,
    pub(crate) follower: Follower,
    pub(crate) sessions: Arc<dyn Sessions>,
    /// Of the program.
    pub(crate) version: String,
}

impl Conversation {
    /// Answers one encoded question.
    pub(crate) async fn answer(&self, context: &Context<DaemonProtocol>, version: u16, body: &[u8]) -> Response {
        if version != REGISTRY_VERSION {
            return Response::QueryVersion { speaks: REGISTRY_VERSION, program: self.version.clone() };
        }
        let told = match shellkeep_transport::decode::<Ask>(body) {
            Ok(ask) => self.told(context, ask).await.unwrap_or_else(Told::Failed),
            Err(error) => Told::Failed(RegistryError::Invalid { why: error.to_string() }),
        };
        let mut body = Vec::new();
        if let Err(error) = shellkeep_transport::encode_into(&told, &mut body, TOLD_BYTES_MAX) {
            tracing::warn!(%error, "an answer about commands that cannot be encoded");
            body.clear();
            let told = Told::Failed(RegistryError::TooLarge { what: "the answer".to_owned() });
            let _fits = shellkeep_transport::encode_into(&told, &mut body, TOLD_BYTES_MAX);
        }
        Response::Registry { body }
    }

    /// A connection has gone.
    pub(crate) fn disconnected(&self, connection: u64) {
        self.subscriptions.disconnected(connection);
        self.invocations.disconnected(connection);
    }

    async fn told(&self, context: &Context<DaemonProtocol>, ask: Ask) -> Result<Told, RegistryError> {
        let connection = context.connection();
        self.servers.asked();
        match ask {
            Ask::Get(get) => Ok(self.get(&get)),
            Ask::Search(search) => Ok(self.search(&search)),
            Ask::Resolve(resolve) => {
                let view = self.view_with(resolve.session, &resolve.name).await;
                let entry = self.one(&view, resolve.session, &resolve.name)?;
                Ok(Told::Resolved(Box::new(info(&view, entry))))
            }
            Ask::Subscribe { session } => {
                let revision = self.subscriptions.add(connection, context.pusher(), session)?;
                Ok(Told::Subscribed { revision })
            }
            Ask::Settle { session, here, wait_ms } => {
                self.settle(session, here, Duration::from_millis(wait_ms.min(SETTLE_WAIT_MS_MAX).into())).await;
                Ok(Told::Done)
            }
            Ask::Reload { session } => self.reload(session).await.map(Told::Reloaded),
            Ask::Execute(execute) => self.executor.begin(self, execute, false, connection).await,
            Ask::ExecuteService(execute) => self.executor.begin(self, execute, true, connection).await,
            Ask::Follow { invocation, from, wait_ms } => {
                let wait = Duration::from_millis(wait_ms.min(FOLLOW_WAIT_MS_MAX).into());
                Ok(self.invocations.follow(invocation, from, wait, connection).await)
            }
            Ask::Interrupt { invocation } if self.invocations.interrupt(invocation) => Ok(Told::Done),
            Ask::Cancel { invocation } if self.invocations.cancel(invocation) => Ok(Told::Done),
            Ask::Interrupt { .. } | Ask::Cancel { .. } => Err(RegistryError::Interrupted),
            Ask::Trust { session, entry, digest } => self.agree(session, &entry, digest).await,
            Ask::TrustQuestion { session, name } => {
                let view = self.view_with(session, &name).await;
                let entry = self.one(&view, session, &name)?;
                Ok(Told::Question(Box::new(self.question(&view, session, entry))))
            }
            Ask::TrustList => Ok(Told::Trusted(self.trust.lock().all())),
            Ask::TrustRevoke { root, entry } => self.revoke(root, entry).await,
            Ask::Diagnostics { session } => {
                Ok(Told::Diagnostics(self.diagnostics(&self.registry.get_for_session(session))))
            }
        }
    }

    fn get(&self, get: &GetCommandRegistry) -> Told {
        let view = self.registry.get_for_session(get.session);
        let revision = view.revision();
        if get.if_revision == Some(revision) {
            return Told::NotModified;
        }
        let from = get.cursor.filter(|cursor| cursor.revision == revision).map_or(0, |cursor| cursor.at);
        let limit = get.limit.clamp(1, PAGE_MAX) as usize;
        let (mut entries, mut bytes, mut next) = (Vec::new(), 0, None);
        for (at, entry) in (from..).zip(view.entries_from(from as usize)) {
            if !entry.is_listed || !(get.kinds.is_empty() || get.kinds.contains(&entry.kind)) {
                continue;
            }
            if entries.len() >= limit || bytes >= PAGE_BYTES_MAX {
                next = Some(shellkeep_protocol::registry::Cursor { revision, at });
                break;
            }
            let info = info(&view, entry);
            bytes += size(&info);
            entries.push(info);
        }
        Told::Page(Page { revision, complete: view.is_complete(), entries, next })
    }

    fn search(&self, search: &SearchCommands) -> Told {
        let view = self.registry.get_for_session(search.session);
        let usage = self.executor.usage();
        let limit = search.limit.clamp(1, PAGE_MAX) as usize;
        let found = view.search(&search.query, limit, &usage, crate::now_us());
        let mut bytes = 0;
        let fits = |info: &EntryInfo| {
            bytes += size(info);
            bytes < PAGE_BYTES_MAX
        };
        Told::Found(found.iter().map(|entry| info(&view, entry)).take_while(fits).collect())
    }

    /// What a session sees; if nothing is called `name`, then only when its servers of tools have said what they offer, so far as they do
    /// that soon.
    pub(super) async fn view_with(&self, session: Option<SessionId>, name: &str) -> View {
        let view = self.registry.get_for_session(session);
        if !matches!(view.one(name), Err(RegistryError::UnknownCommand { .. })) {
            return view;
        }
        self.servers.started(name, || self.registry.get_for_session(session)).await;
        self.registry.get_for_session(session)
    }

    /// The entry that a name means; if there is none because the session is unknown, that is said.
    pub(super) fn one<'a>(
        &self,
        view: &'a View,
        session: Option<SessionId>,
        name: &str,
    ) -> Result<&'a Arc<Entry>, RegistryError> {
        match view.one(name) {
            Err(RegistryError::UnknownCommand { .. })
                if session.is_some_and(|session| !self.registry.has_session(session)) =>
            {
                Err(RegistryError::UnknownSession)
            }
            found => found,
        }
    }

    /// Until the newest of the session's directories was looked at.
    async fn settle(&self, session: Option<SessionId>, here: Option<String>, wait: Duration) {
        let until = tokio::time::Instant::now() + wait;
        if session.is_some() {
            self.follower.caught_up(wait).await;
        }
        // Behind what was printed: between two prompts a shell moves without a word.
        if let (Some(session), Some(here)) = (session, here.filter(|here| here.starts_with('/'))) {
            self.discovery.moved(session, &here);
        }
        let mut changes = self.registry.subscribe();
        if tokio::time::timeout_at(until, self.discovery.noted()).await.is_err() {
            return;
        }
        // A daemon that has just started: the session's keeper is on its way.
        let unknown = session.filter(|session| !self.registry.has_session(*session));
        let sessions = Arc::clone(&self.sessions);
        let comes = match unknown {
            Some(session) => blocking(move || sessions.is_alive(session)).await.unwrap_or(false),
            None => false,
        };
        let is_expected = || comes && unknown.is_some_and(|session| !self.registry.has_session(session));
        while is_expected() || !self.registry.get_for_session(session).is_complete() {
            if !matches!(tokio::time::timeout_at(until, changes.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Looks for the user's own and the session's project anew. What others have set stays.
    pub(super) async fn reload(&self, session: Option<SessionId>) -> Result<Reloaded, RegistryError> {
        self.discovery.noted().await;
        self.servers.retry();
        let (own, discovery) = (self.clone(), self.discovery.clone());
        blocking(move || {
            let root = session.and_then(|session| own.registry.project_of(session));
            discovery.look_again(root.as_deref());
            let view = own.registry.get_for_session(session);
            // As many as are listed, so that whoever counts comes to the same.
            let listed = || view.entries().filter(|entry| entry.is_listed);
            let base = own.registry.get_all().entries().filter(|entry| entry.is_listed).count();
            let plugins = listed().filter(|entry| entry.path.as_deref().is_some_and(is_of_plugin)).count();
            Reloaded {
                base: base as u64,
                session: listed().count().saturating_sub(base) as u64,
                plugins: plugins as u64,
                root: root.map(|root| root.to_string_lossy().into_owned()),
                diagnostics: own.diagnostics(&view),
            }
        })
        .await
    }
}

/// About so many bytes as it takes in an answer.
fn size(info: &EntryInfo) -> usize {
    let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    256 + info.description.len() + info.runs.len() + optional(&info.path) + optional(&info.schema)
}

/// Plugins of agents lie in directories of that name.
fn is_of_plugin(path: &str) -> bool {
    path.contains("/plugins/")
}

/// An entry as a session sees it.
pub(super) fn info(view: &View, entry: &Entry) -> EntryInfo {
    entry.info(view.shadowing(entry).map(|other| &**other))
}

impl Conversation {
    fn diagnostics(&self, view: &View) -> Vec<Diagnostic> {
        let told = self.trust.lock().told().map(|told| Diagnostic {
            source: "trust".to_owned(),
            file: None,
            line: None,
            message: told.to_owned(),
            is_loss: true,
        });
        told.into_iter().chain(diagnostics(view)).take(DIAGNOSTICS_MAX).collect()
    }
}

/// What is wrong with the sources, and names that are easily confused.
fn diagnostics(view: &View) -> Vec<Diagnostic> {
    let variants = view.case_variants().into_iter().map(|names| Diagnostic {
        source: "names".to_owned(),
        file: None,
        line: None,
        message: format!("these differ only in case: {}", names.join(", ")),
        is_loss: false,
    });
    view.diagnostics().cloned().chain(variants).take(DIAGNOSTICS_MAX).collect()
}

/// Does what takes its time on a thread where that is allowed.
pub(super) async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, RegistryError> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|error| RegistryError::System { what: "cannot answer".to_owned(), why: error.to_string() })
}
