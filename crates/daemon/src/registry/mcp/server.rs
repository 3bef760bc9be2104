//! The life of one server: started, listed, listed again when it says so, started again when it dies, ended.
//!
//! Promise: whatever it does, its wait for it is bounded, and what is seen of it in the registry is what is true: starting, there, or away
//! and why. What it offered stays to be seen for [`Timing::dead`] after it died; a list that fails changes nothing. After
//! [`Timing::again`] has no more pauses it is left alone until somebody reloads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rmcp::model::{ClientRequest, PaginatedRequestParams, PingRequest, Prompt, Tool};
use rmcp::service::{Peer, RunningService, ServiceError};
use rmcp::transport::IntoTransport;
use rmcp::{RoleClient, ServiceExt as _};
use shellkeep_protocol::registry::{EntryState, MCP_CHILD, RUN_DEPTH, is_passed};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::super::core::CommandRegistry;
use super::super::entry::{Entry, Exec};
use super::super::names;
use super::super::slice::Slice;
use super::super::sources::{self, McpServer, Transport};
use super::line::{Handler, Line, Up};
use super::process::Process;
use super::quiet::{Quiet, Reason};
use super::{expand, http, offers};

/// Pages of one list.
const PAGES_MAX: usize = 100;

/// How long its protocol may take to end.
const QUIT_WAIT_MAX: Duration = Duration::from_secs(1);

/// What is shown of an error that has the server's own words.
const ERROR_CHARS_MAX: usize = 200;

/// Waits, which a test may shorten.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    /// For `initialize`, and for each list.
    pub(crate) answer: Duration,
    /// How long tools of a dead server are still shown.
    pub(crate) dead: Duration,
    /// Pauses before it is started again.
    pub(crate) again: Vec<Duration>,
    /// A server that lived so long begins with the first pause.
    pub(crate) steady: Duration,
    /// Changes that come together are listed once.
    pub(crate) settle: Duration,
    /// How often a server over HTTP is asked whether it is there: nothing else tells of its end.
    pub(crate) ping: Duration,
    /// How long servers of a project run on when the last session has left it.
    pub(crate) grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            dead: Duration::from_mins(1),
            again: [1, 5, 25].map(Duration::from_secs).to_vec(),
            steady: Duration::from_mins(10),
            settle: Duration::from_millis(100),
            ping: Duration::from_secs(30),
            grace: Duration::from_secs(30),
        }
    }
}

/// What the registry shows of one server, until another one has its place.
#[derive(Clone)]
pub(super) struct Shown {
    registry: Arc<CommandRegistry>,
    root: Option<PathBuf>,
    entry: Arc<Entry>,
    is_over: Arc<Mutex<bool>>,
}

impl Shown {
    pub(super) fn new(registry: Arc<CommandRegistry>, root: Option<PathBuf>, entry: Arc<Entry>) -> Self {
        Self { registry, root, entry, is_over: Arc::default() }
    }

    /// It is in this state, and offers this, or what it did before.
    pub(super) fn show(&self, state: EntryState, offers: Option<Slice>) {
        let is_over = self.is_over.lock(); // held, so that nothing is shown behind the end
        if !*is_over {
            self.registry.bring(self.root.as_deref(), &self.entry, state, offers);
        }
    }

    /// Nothing of it is shown from now on.
    pub(super) fn end(&self) {
        let mut is_over = self.is_over.lock();
        if !std::mem::replace(&mut *is_over, true) {
            self.registry.take_away(self.root.as_deref(), &self.entry.id);
        }
    }
}

/// One server that shall run.
pub(super) struct Life {
    pub(super) shown: Shown,
    pub(super) root: Option<PathBuf>,
    pub(super) home: PathBuf,
    pub(super) entry: Arc<Entry>,
    pub(super) line: Arc<Line>,
    pub(super) stop: CancellationToken,
    /// Somebody wants one that was left alone to be tried again.
    pub(super) retry: Arc<tokio::sync::Notify>,
    pub(super) timing: Timing,
}

/// A running server, and its process if it has one.
struct Connected {
    service: RunningService<RoleClient, Handler>,
    process: Option<Process>,
    reason: Reason,
}

impl Life {
    /// Until it is stopped.
    pub(super) async fn run(self) {
        let (mut tries, mut dead_since) = (0, None);
        while !self.stop.is_cancelled() {
            self.shown.show(EntryState::Starting, None);
            self.line.set(Up::Starting);
            let began = Instant::now();
            let stop = self.stop.clone();
            let mut was_up = false;
            let outcome = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                outcome = self.connect() => outcome,
            };
            let why = match outcome {
                Err(why) => why,
                Ok(connected) => {
                    was_up = true;
                    match self.serve(connected).await {
                        None => break,
                        Some(why) => why,
                    }
                }
            };
            info!(server = %self.entry.id, tries, was_up, "a server of tools has ended");
            self.line.set(Up::No(why.clone()));
            self.shown.show(EntryState::Unavailable(why.clone()), None);
            if was_up || dead_since.is_none() {
                dead_since = Some(Instant::now());
            }
            if began.elapsed() > self.timing.steady {
                tries = 0;
            }
            let pause = self.timing.again.get(tries).copied();
            tries = if pause.is_some() { tries + 1 } else { 0 };
            self.rest(pause, &mut dead_since, &why).await;
        }
        self.line.set(Up::No("its server was stopped".to_owned()));
    }

    /// So long, or until somebody wants it; takes away what it offered when it has been dead for too long.
    async fn rest(&self, pause: Option<Duration>, dead_since: &mut Option<Instant>, why: &str) {
        let until = pause.map(|pause| Instant::now() + pause);
        loop {
            let gone_at = dead_since.map(|since| since + self.timing.dead);
            let sleep = |at: Option<Instant>| async move {
                match at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = sleep(until) => return,
                () = self.retry.notified(), if pause.is_none() => return,
                () = sleep(gone_at) => {
                    *dead_since = None;
                    let nothing = offers::slice(&self.entry, Vec::new(), Vec::new());
                    self.shown.show(EntryState::Unavailable(why.to_owned()), Some(nothing));
                }
            }
        }
    }

    /// Starts it and lists what it offers; else why that cannot be.
    async fn connect(&self) -> Result<Connected, String> {
        let Exec::Found(item) = &self.entry.exec else { return Err("it is no server".to_owned()) };
        let sources::Exec::McpServer(server) = &item.exec else { return Err("it is no server".to_owned()) };
        let environment: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let agreed = |name: &str| {
            let is_agreed = server.variables.iter().any(|agreed| agreed == name);
            let found = environment.iter().find(|(known, _)| known == name);
            found.filter(|_| is_agreed).map(|(_, value)| value.clone())
        };
        let expand = |text: &str| {
            expand::expand(text, &agreed).map_err(|name| format!("the variable {name} is not set for the daemon"))
        };
        let pairs = |pairs: &[(String, String)]| -> Result<Vec<(String, String)>, String> {
            pairs.iter().map(|(name, value)| Ok((name.clone(), expand(value)?))).collect()
        };
        let reason = Reason::default();
        match &server.transport {
            Transport::Stdio { command, args, env } => {
                let argv: Vec<String> =
                    [command].into_iter().chain(args).map(|word| expand(word)).collect::<Result<_, _>>()?;
                let (env, directory) = (child_environment(&environment, pairs(env)?), self.directory(server));
                let (process, (stdout, stdin)) =
                    Process::start(&argv, &directory, &env).map_err(|error| not_started(&argv, &error))?;
                let transport = (Quiet::new(stdout, Arc::clone(&reason)), stdin);
                match self.greet(transport).await {
                    Ok(service) => Ok(Connected { service, process: Some(process), reason }),
                    Err(Greeting::Slow) => {
                        process.end().await;
                        Err(self.too_slow())
                    }
                    Err(Greeting::Failed(error)) => {
                        let said = reason.lock().take();
                        let has_ended = timeout(QUIT_WAIT_MAX, process.ended()).await.is_ok();
                        if said.is_none() && has_ended {
                            return Err(process.why().await);
                        }
                        process.end().await;
                        Err(said.unwrap_or_else(|| not_greeted(&error)))
                    }
                }
            }
            Transport::Http { url, headers } => {
                let transport = http::transport(&expand(url)?, &pairs(headers)?)?;
                match self.greet(transport).await {
                    Ok(service) => Ok(Connected { service, process: None, reason }),
                    Err(Greeting::Slow) => Err(self.too_slow()),
                    Err(Greeting::Failed(error)) => Err(not_greeted(&error)),
                }
            }
            Transport::Sse { .. } => {
                Err("it is described as one of the older form (sse), which is not spoken here; try \"type\": \"http\""
                    .to_owned())
            }
        }
    }

    fn too_slow(&self) -> String {
        format!("it did not answer within {} s", self.timing.answer.as_secs())
    }

    fn directory(&self, server: &McpServer) -> PathBuf {
        let named: Option<&Path> = server.dir.as_deref().or(self.root.as_deref());
        named.unwrap_or(&self.home).to_owned()
    }

    async fn greet<T, E, A>(&self, transport: T) -> Result<RunningService<RoleClient, Handler>, Greeting>
    where
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let greeted = Handler(Arc::clone(&self.line)).serve(transport);
        match timeout(self.timing.answer, greeted).await {
            Err(_) => Err(Greeting::Slow),
            Ok(Err(error)) => Err(Greeting::Failed(error.to_string())),
            Ok(Ok(service)) => Ok(service),
        }
    }

    /// Keeps its list as it is until it ends: why, or nothing if it was stopped.
    async fn serve(&self, connected: Connected) -> Option<String> {
        let Connected { service, process, reason } = connected;
        let (peer, quit) = (service.peer().clone(), service.cancellation_token());
        let mut over = std::pin::pin!(service.waiting());
        let (mut is_stopped, mut is_over) = (false, false);
        let why = tokio::select! {
            biased;
            () = self.stop.cancelled() => { is_stopped = true; None }
            _ = &mut over => { is_over = true; None }
            () = ended(process.as_ref()) => None,
            why = self.follow(&peer, process.is_none()) => Some(why),
        };
        quit.cancel();
        if !is_over {
            let _slow = timeout(QUIT_WAIT_MAX, over).await;
        }
        let said = reason.lock().take();
        match process {
            Some(process) if is_stopped => {
                process.end().await;
                None
            }
            Some(process) => {
                let has_ended = timeout(QUIT_WAIT_MAX, process.ended()).await.is_ok();
                match said.or(why.filter(|_| !has_ended)) {
                    None => Some(process.why().await),
                    why => {
                        process.end().await;
                        why
                    }
                }
            }
            None => (!is_stopped).then(|| why.unwrap_or_else(|| "its connection has ended".to_owned())),
        }
    }

    /// Lists, and lists again; why that is over.
    async fn follow(&self, peer: &Peer<RoleClient>, over_http: bool) -> String {
        match self.listed(peer).await {
            Ok(slice) => {
                self.shown.show(EntryState::Ready, Some(slice));
                self.line.set(Up::Yes(peer.clone()));
            }
            Err(why) => return format!("it does not list its tools: {why}"),
        }
        loop {
            tokio::select! {
                () = self.line.changed.notified() => {
                    tokio::time::sleep(self.timing.settle).await;
                    match self.listed(peer).await {
                        Ok(slice) => self.shown.show(EntryState::Ready, Some(slice)),
                        Err(why) => debug!(server = %self.entry.id, why, "a list failed; the one before stays"),
                    }
                }
                () = self.line.doubt.notified(), if over_http => {
                    if let Some(why) = self.is_gone(peer).await { return why; }
                }
                () = tokio::time::sleep(self.timing.ping), if over_http => {
                    if let Some(why) = self.is_gone(peer).await { return why; }
                }
            }
        }
    }

    async fn is_gone(&self, peer: &Peer<RoleClient>) -> Option<String> {
        let ping = peer.send_request(ClientRequest::PingRequest(PingRequest::default()));
        match timeout(self.timing.answer, ping).await {
            Err(_) => Some(self.too_slow()),
            // A server that does not know the question is there.
            Ok(Ok(_) | Err(ServiceError::McpError(_))) => None,
            Ok(Err(_)) => Some("it does not answer at its address any more".to_owned()),
        }
    }

    async fn listed(&self, peer: &Peer<RoleClient>) -> Result<Slice, String> {
        let all = async {
            let capabilities = peer.peer_info().map(|info| info.capabilities.clone()).unwrap_or_default();
            let tools = if capabilities.tools.is_some() { tools(peer).await? } else { Vec::new() };
            let prompts = if capabilities.prompts.is_some() { prompts(peer).await? } else { Vec::new() };
            Ok::<_, ServiceError>(offers::slice(&self.entry, tools, prompts))
        };
        let listed = timeout(self.timing.answer, all).await.map_err(|_| self.too_slow())?;
        listed.map_err(|error| error.to_string())
    }
}

/// Why a greeting came to nothing.
enum Greeting {
    Slow,
    Failed(String),
}

async fn ended(process: Option<&Process>) {
    match process {
        Some(process) => process.ended().await,
        None => std::future::pending().await,
    }
}

async fn tools(peer: &Peer<RoleClient>) -> Result<Vec<Tool>, ServiceError> {
    let (mut all, mut cursor) = (Vec::new(), None);
    for _ in 0..PAGES_MAX {
        let page = peer.list_tools(Some(PaginatedRequestParams::default().with_cursor(cursor))).await?;
        all.extend(page.tools);
        cursor = page.next_cursor;
        if cursor.is_none() || all.len() > offers::OFFERS_MAX {
            break;
        }
    }
    Ok(all)
}

async fn prompts(peer: &Peer<RoleClient>) -> Result<Vec<Prompt>, ServiceError> {
    let (mut all, mut cursor) = (Vec::new(), None);
    for _ in 0..PAGES_MAX {
        let page = peer.list_prompts(Some(PaginatedRequestParams::default().with_cursor(cursor))).await?;
        all.extend(page.prompts);
        cursor = page.next_cursor;
        if cursor.is_none() || all.len() > offers::OFFERS_MAX {
            break;
        }
    }
    Ok(all)
}

/// What of the daemon's environment a server gets, and what its file sets on top.
fn child_environment(own: &[(String, String)], set: Vec<(String, String)>) -> Vec<(String, String)> {
    // A server is shared by the sessions of its project: it is in none of them.
    let passed = own.iter().filter(|(name, _)| is_passed(name) && name != "SHELLKEEP_SESSION" && name != RUN_DEPTH);
    let mut all: Vec<_> = passed.cloned().collect();
    all.extend(set);
    all.extend([(RUN_DEPTH, "1"), (MCP_CHILD, "1")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    all
}

fn not_greeted(error: &str) -> String {
    let error: String = names::shown(error).chars().take(ERROR_CHARS_MAX).collect();
    format!("it does not answer as such a server does: {error}")
}

fn not_started(argv: &[String], error: &std::io::Error) -> String {
    let program = argv.first().map(String::as_str).unwrap_or_default();
    if error.kind() == std::io::ErrorKind::NotFound {
        return format!("\"{program}\" is not installed, or not in the daemon's PATH");
    }
    format!("cannot start {program}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_gets_what_commands_get_and_what_its_file_sets_and_no_session() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let own = [pair("PATH", "/bin"), pair("SECRET", "x"), pair("SHELLKEEP_SESSION", "s"), pair(RUN_DEPTH, "7")];
        let all = child_environment(&own, vec![pair("KEY", "k"), pair(MCP_CHILD, "0")]);
        let seen = |name: &str| all.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(
            [seen("PATH"), seen("KEY"), seen(RUN_DEPTH), seen(MCP_CHILD)],
            [Some("/bin"), Some("k"), Some("1"), Some("1")]
        );
        assert_eq!([seen("SECRET"), seen("SHELLKEEP_SESSION")], [None, None]);
    }
}
