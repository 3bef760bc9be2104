//! Answers the queries of people's commands. Reads logs beside the store thread and never holds it up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shellkeep_journal::Seq;
use shellkeep_protocol::daemon::Response;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{
    CHUNK_BYTES_MAX, Chunk, Failure, Found, QUERY_VERSION, Query, READ_WAIT_MS_MAX, Reply, SCREEN_WAIT_MS_MAX,
    SESSIONS_PAGE_MAX, Search, SessionInfo, SessionState, Status,
};
use shellkeep_protocol::session::SESSION_VERSIONS;
use tokio::sync::oneshot;

use crate::Config;
use crate::index::store::{StoreError, file_in};
use crate::index::{history, search};
use crate::screen::Window;
use crate::screen::follow::Screens;
use crate::sessions::adoption::Adopter;
use crate::sessions::logs::Logs;
use crate::sessions::manager::SessionManager;
use crate::sessions::spool;
use crate::sessions::store::Store;
use crate::sessions::watch::Watchers;

/// Longest encoded reply: below what a frame takes.
const REPLY_BYTES_MAX: usize = 3 << 20;

/// How long the keeper of an ended session may take to go.
const KEEPER_GONE_WAIT_MAX: Duration = Duration::from_secs(4);

/// Pause between two looks at its lock, whose release sends no event.
const KEEPER_LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long logs may take to have what keepers had when somebody asked, and the pause between two looks at one that
/// nobody has registered yet.
const CATCH_UP_WAIT_MAX: Duration = Duration::from_millis(2500);
const CATCH_UP_LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long the index may take to have what the logs had when somebody searched: then the answer says that it is behind.
const INDEX_WAIT_MAX: Duration = Duration::from_millis(2500);

/// How long the index may take to forget a session before `rm` says that it is done.
const FORGET_WAIT_MAX: Duration = Duration::from_mins(1);

/// What queries need to be answered.
pub(crate) struct Queries {
    config: Config,
    store: Store,
    logs: Logs,
    watchers: Watchers,
    adopter: Adopter,
    screens: Screens,
    since: Instant,
}

impl Queries {
    pub(crate) fn new(
        config: Config,
        store: Store,
        logs: Logs,
        watchers: Watchers,
        adopter: Adopter,
        screens: Screens,
    ) -> Self {
        Self { config, store, logs, watchers, adopter, screens, since: Instant::now() }
    }

    /// Answers one encoded query.
    pub(crate) async fn answer(&self, version: u16, body: &[u8]) -> Response {
        if version != QUERY_VERSION {
            return Response::QueryVersion { speaks: QUERY_VERSION, program: self.config.version.clone() };
        }
        let reply = match shellkeep_transport::decode::<Query>(body) {
            Ok(query) => self.reply(query).await,
            Err(error) => Reply::Failed(Failure::Invalid { why: error.to_string() }),
        };
        let mut body = Vec::new();
        if let Err(error) = shellkeep_transport::encode_into(&reply, &mut body, REPLY_BYTES_MAX) {
            tracing::error!(%error, "a reply that cannot be encoded");
        }
        Response::Reply { body }
    }

    async fn reply(&self, query: Query) -> Reply {
        match query {
            Query::Status => self.status().await,
            Query::Sessions { ended, after } => self.sessions(ended, after).await,
            Query::Read { session, from, bytes_max, wait_ms } => {
                let wait = Duration::from_millis(wait_ms.min(READ_WAIT_MS_MAX).into());
                self.read(session, from, bytes_max.clamp(1, CHUNK_BYTES_MAX), wait).await
            }
            Query::Verify { session } => {
                self.adopter.looked().await;
                self.blocking(move |logs| logs.verify(session).map(Reply::Verified)).await
            }
            Query::History { session, after } => {
                self.adopter.looked().await;
                let (index, secrets) = (self.config.places.index.clone(), Arc::clone(&self.config.secrets));
                let found = move |logs: &Logs| history::history(&index, &secrets, logs, session, after);
                self.blocking(move |logs| found(logs).map(Reply::History)).await
            }
            Query::Remove { session } => self.remove(session).await,
            Query::Screen { session, at_least, cols, rows, wait_ms } => {
                let until = Instant::now() + Duration::from_millis(wait_ms.min(SCREEN_WAIT_MS_MAX).into());
                match Window::of(cols, rows) {
                    // A larger window than can be emulated, or none.
                    window if (window.cols, window.rows) != (cols, rows) => Reply::Screen(None),
                    window => self.screen(session, at_least, window, until).await,
                }
            }
            Query::CatchUp { goals } => Reply::CaughtUp { all: self.catch_up(goals).await },
            Query::Search(search) => self.search(search).await,
            Query::Reindex => {
                self.watchers.follower().rebuild().await;
                Reply::Index(self.watchers.follower().state())
            }
            Query::Index => Reply::Index(self.watchers.follower().state()),
        }
    }

    /// Waits until the logs have so many bytes of output each; false if that takes too long.
    async fn catch_up(&self, goals: Vec<(SessionId, u64)>) -> bool {
        self.adopter.looked().await;
        let until = tokio::time::Instant::now() + CATCH_UP_WAIT_MAX;
        for (session, goal) in goals {
            loop {
                let mut changed = self.watchers.subscribe(session);
                let open = self
                    .on_store(move |manager| manager.get(session).map(|open| open.core().end_position().output_offset));
                let reached = match open.await.flatten() {
                    None => self.logs.scan(session).map(|found| found.end.output_offset),
                    reached => reached,
                };
                if reached.is_some_and(|reached| reached >= goal) {
                    break;
                }
                let step = (tokio::time::Instant::now() + CATCH_UP_LOOK_EVERY).min(until);
                if tokio::time::timeout_at(step, changed.changed()).await.is_err() && step == until {
                    return false;
                }
            }
        }
        true
    }

    async fn search(&self, search: Search) -> Reply {
        self.adopter.looked().await;
        let follower = self.watchers.follower();
        let mut built_anew = false;
        loop {
            let caught_up = follower.caught_up(INDEX_WAIT_MAX).await;
            let (index, state, search) = (self.config.places.index.clone(), follower.state(), search.clone());
            let shapes = self.config.secrets.digest();
            let found = tokio::task::spawn_blocking(move || {
                let found = search::search(&index, shapes, &search);
                crate::memory::give_back(); // texts that were unpacked
                found
            });
            return match found.await {
                Ok(Ok(found)) => {
                    let is_behind = !caught_up || state.is_building || state.trouble.is_some();
                    Reply::Found(Found { index: state, is_behind, ..found })
                }
                Ok(Err(StoreError::Damaged)) if !std::mem::replace(&mut built_anew, true) => {
                    follower.rebuild().await; // it is a cache; once, for a disk may damage everything
                    continue;
                }
                Ok(Err(error)) => {
                    let file = file_in(&self.config.places.index);
                    Reply::Failed(failed(&file, &std::io::Error::other(error.to_string())))
                }
                Err(error) => Reply::Failed(Failure::Invalid { why: error.to_string() }),
            };
        }
    }

    async fn status(&self) -> Reply {
        let sessions = self.on_store(|manager| manager.connected().count()).await.unwrap_or(0);
        let bytes = self.blocking(|logs| Ok(Reply::Removed { freed_bytes: logs.bytes_on_disk() })).await;
        let storage_bytes = if let Reply::Removed { freed_bytes } = bytes { freed_bytes } else { 0 };
        Reply::Status(Status {
            pid: std::process::id(),
            version: self.config.version.clone(),
            protocol: *SESSION_VERSIONS.end(),
            socket: self.config.places.socket.display().to_string(),
            uptime_s: self.since.elapsed().as_secs(),
            sessions: sessions as u64,
            storage_bytes,
        })
    }

    async fn sessions(&self, ended: bool, after: Option<SessionId>) -> Reply {
        self.adopter.looked().await;
        let connected = self.on_store(|manager| manager.connected().collect::<Vec<_>>()).await.unwrap_or_default();
        let spools = self.config.places.spools.clone();
        self.blocking(move |logs| {
            let mut ids = logs.ids().map_err(|error| failed(logs.directory(), &error))?;
            ids.sort_unstable_by(|one, other| other.cmp(one)); // UUIDv7: newest first
            let mut page = Vec::new();
            for id in ids.into_iter().filter(|id| after.is_none_or(|after| *id < after)) {
                let is_connected = connected.contains(&id);
                let keeper_lives = is_connected || spool::is_held(&spools, id);
                let Some(info) = describe(logs, id, is_connected, keeper_lives) else { continue };
                if ended || info.state == SessionState::Running {
                    page.push(info);
                }
                if page.len() >= SESSIONS_PAGE_MAX {
                    break;
                }
            }
            Ok(Reply::Sessions(page))
        })
        .await
    }

    async fn read(&self, session: SessionId, from: Seq, bytes_max: u32, wait: Duration) -> Reply {
        if from <= Seq::FIRST {
            self.adopter.looked().await;
        }
        let until = tokio::time::Instant::now() + wait;
        loop {
            let mut changed = self.watchers.subscribe(session);
            let id = session;
            let connected =
                self.on_store(move |manager| manager.get(id).is_some_and(|s| s.core().connection().is_some()));
            let connected = connected.await.unwrap_or(false);
            let spools = self.config.places.spools.clone();
            let reply = self
                .blocking(move |logs| {
                    let mut chunk = logs.read(session, from, bytes_max)?;
                    let lives = connected || spool::is_held(&spools, session);
                    chunk.is_last = chunk.items.is_empty() && (!lives || logs.has_ended(session));
                    if chunk.is_last {
                        chunk.items = logs.around_records(session)?.1; // nobody goes on writing there
                    }
                    Ok(Reply::Chunk(chunk))
                })
                .await;
            match &reply {
                Reply::Chunk(Chunk { items, is_last: false, .. }) if items.is_empty() => {}
                _ => return reply,
            }
            if tokio::time::timeout_at(until, changed.changed()).await.is_err() {
                return reply;
            }
        }
    }

    async fn screen(&self, session: SessionId, at_least: u64, window: Window, until: Instant) -> Reply {
        loop {
            let mut changed = self.watchers.subscribe(session);
            let screens = self.screens.clone();
            let reply = self.blocking(move |_| screens.show(session, at_least, window, until).map(Reply::Screen)).await;
            let over = tokio::time::timeout_at(until.into(), changed.changed());
            if !matches!(reply, Reply::Screen(None)) || over.await.is_err() {
                return reply;
            }
        }
    }

    async fn remove(&self, session: SessionId) -> Reply {
        self.adopter.looked().await;
        self.keeper_gone(session).await;
        match self.adopter.remove(session).await {
            Ok(freed_bytes) => {
                self.screens.forget(session);
                if !self.watchers.follower().forgotten(session, FORGET_WAIT_MAX).await {
                    tracing::warn!(%session, "removed; the index takes longer to forget it");
                }
                Reply::Removed { freed_bytes }
            }
            Err(failure) => Reply::Failed(failure),
        }
    }

    /// The keeper of an ended session is about to go: waits for that, so that `rm` right after the end works.
    async fn keeper_gone(&self, session: SessionId) {
        let until = tokio::time::Instant::now() + KEEPER_GONE_WAIT_MAX;
        loop {
            let mut changed = self.watchers.subscribe(session);
            let spools = self.config.places.spools.clone();
            let lives = self.on_store(move |manager| {
                let connected = manager.get(session).is_some_and(|open| open.core().connection().is_some());
                (connected || spool::is_held(&spools, session)) && manager.logs().has_ended(session)
            });
            if lives.await != Some(true) {
                return;
            }
            let step = (tokio::time::Instant::now() + KEEPER_LOOK_EVERY).min(until);
            if tokio::time::timeout_at(step, changed.changed()).await.is_err() && step == until {
                return;
            }
        }
    }

    async fn on_store<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut SessionManager) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.store.with(move |manager| drop(answer.send(act(manager))));
        answered.await.ok()
    }

    /// Reads files on a thread where that may take its time.
    async fn blocking(&self, act: impl FnOnce(&Logs) -> Result<Reply, Failure> + Send + 'static) -> Reply {
        let logs = self.logs.clone();
        match tokio::task::spawn_blocking(move || act(&logs)).await {
            Ok(reply) => reply.unwrap_or_else(Reply::Failed),
            Err(error) => Reply::Failed(Failure::Invalid { why: error.to_string() }),
        }
    }
}

/// What is known of a session from its log; `None` when the log is gone or tells nothing.
fn describe(logs: &Logs, id: SessionId, connected: bool, keeper_lives: bool) -> Option<SessionInfo> {
    let summary = logs.summary(id)?;
    let state = match summary.exit {
        Some(_) => SessionState::Ended,
        None if keeper_lives => SessionState::Running,
        None => SessionState::Lost,
    };
    Some(SessionInfo {
        session: id,
        attrs: summary.attrs,
        state,
        connected,
        ended_at_us: (state != SessionState::Running).then_some(summary.last_time_us),
        exit: summary.exit,
        output_bytes: summary.output_bytes,
        gaps: summary.gaps + u64::from(summary.is_torn && !keeper_lives),
    })
}

pub(crate) fn failed(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::Storage { path: path.display().to_string(), why: error.to_string() }
}
