//! A command's line to the daemon: starts one if none runs, and asks it one thing after the other.
//!
//! Promise: no wait here is without a bound, and what cannot be had is one clear error with status 3. Knows no records.

use std::time::{Duration, Instant};

use shellkeep_daemon::lock::Lock;
use shellkeep_protocol::daemon::{DaemonProtocol, Request, Response};
use shellkeep_protocol::query::{QUERY_VERSION, Query, Reply};
use shellkeep_protocol::registry::{Ask, REGISTRY_VERSION, RegistryError, Told};
use shellkeep_transport::{ConnectOptions, ReconnectPolicy, RpcClient, connect_unix, connect_unix_lazy};

use crate::config::Settings;
use crate::launch;
use crate::places::{Places, prepare};
use crate::report::{Exit, Failure};

/// How long a daemon may take from its start to its first answer.
const START_WAIT_MAX: Duration = Duration::from_secs(5);

/// How often a starting daemon is looked at, in case it has ended.
const CHILD_LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long the daemon may take to answer `status`: one that takes longer counts as hung.
pub const STATUS_WAIT_MAX: Duration = Duration::from_secs(3);

/// How long the daemon may take to answer anything else.
const QUERY_WAIT_MAX: Duration = Duration::from_mins(2);

/// Longest encoded query.
const QUERY_BYTES_MAX: usize = 64 << 10;

/// Longest encoded question about commands: one with a standard input.
const ASK_BYTES_MAX: usize = 2 << 20;

/// Asks the daemon. Blocking.
pub struct DaemonLink {
    runtime: tokio::runtime::Runtime,
    client: RpcClient<DaemonProtocol>,
}

impl DaemonLink {
    /// Connects to the daemon; starts one first if none runs, also after `daemon stop`.
    ///
    /// # Errors
    /// Status 3 and why.
    pub fn reach(places: &Places) -> Result<Self, Failure> {
        if let Some(link) = Self::running(places)? {
            return Ok(link);
        }
        if places.foreign_socket.is_some() {
            let socket = places.daemon_socket();
            return Err(no_daemon(format!("no daemon answers at {} (SHELLKEEP_SOCKET)", socket.display())));
        }
        prepare(&places.state)?;
        prepare(&places.run)?;
        match std::fs::remove_file(places.stopped()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let path = places.stopped();
                return Err(no_daemon(format!("cannot remove {}: {error}", path.display())));
            }
            _ => {}
        }
        Self::start(places)
    }

    /// Connects to the daemon if one answers now.
    ///
    /// # Errors
    /// If this process cannot even try.
    pub fn running(places: &Places) -> Result<Option<Self>, Failure> {
        let runtime = runtime()?;
        for socket in places.daemon_sockets() {
            let options = ConnectOptions { call_wait: QUERY_WAIT_MAX, ..ConnectOptions::default() };
            if let Ok(client) = runtime.block_on(async { connect_unix(&socket, options).await }) {
                return Ok(Some(Self { runtime, client }));
            }
        }
        Ok(None)
    }

    /// Asks one thing of a daemon that runs; `None` if there is no answer within `wait`, whatever the reason. Starts none.
    pub fn ask_running(places: &Places, query: &Query, wait: Duration) -> Option<Reply> {
        let mut body = Vec::new();
        shellkeep_transport::encode_into(query, &mut body, QUERY_BYTES_MAX).ok()?;
        match call_running(places, &Request::Query { version: QUERY_VERSION, body }, wait)? {
            Response::Reply { body } => shellkeep_transport::decode(&body).ok(),
            _ => None,
        }
    }

    /// The same for a question about commands.
    pub fn ask_commands_running(places: &Places, ask: &Ask, wait: Duration) -> Option<Result<Told, RegistryError>> {
        let request = about_commands(ask).ok()?;
        told(call_running(places, &request, wait)?).ok()
    }

    fn start(places: &Places) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let other_sockets = places.daemon_sockets().split_off(1);
        let mut policy = ReconnectPolicy { alternatives: other_sockets, ..ReconnectPolicy::default() };
        policy.connect.call_wait = QUERY_WAIT_MAX;
        let socket = places.daemon_socket();
        let client = runtime.block_on(async { connect_unix_lazy(&socket, policy, |_| async { Ok(()) }) });
        let mut child =
            launch::daemon(places).map_err(|error| no_daemon(format!("cannot start the daemon: {error}")))?;
        let until = Instant::now() + START_WAIT_MAX;
        let connected = runtime.block_on(async {
            let mut state = client.state();
            loop {
                if state.borrow_and_update().is_connected() {
                    return true;
                }
                let ended = child.try_wait().ok().flatten();
                // Status 75: another one was faster, and will answer. Anything else is the end of it.
                if ended.is_some_and(|status| status.code() != Some(75)) || Instant::now() >= until {
                    return false;
                }
                // Or another one was still dying, in the middle of a sync: then nobody has the lock now.
                if ended.is_some() && Lock::holder(&places.lock()).is_ok_and(|holder| holder.is_none()) {
                    match launch::daemon(places) {
                        Ok(again) => child = again,
                        Err(_) => return false,
                    }
                }
                let _ = tokio::time::timeout(CHILD_LOOK_EVERY, state.changed()).await;
            }
        });
        if connected {
            return Ok(Self { runtime, client });
        }
        if let Some(failure) = in_the_way(places) {
            return Err(failure);
        }
        if let Ok(Some(pid)) = Lock::holder(&places.lock()) {
            return Err(no_daemon(format!("the daemon (process {pid}) does not answer"))
                .with_hint("\"shellkeep daemon restart\" replaces it; sessions go on meanwhile"));
        }
        if let Err(refused) = Settings::load(places) {
            let failure =
                no_daemon(format!("no daemon runs, and none starts with these settings: {}", refused.message));
            return Err(Failure { hint: refused.hint, ..failure });
        }
        Err(no_daemon(format!("the daemon did not come up at {}", socket.display())).with_hint(format_args!(
            "\"shellkeep daemon run\" shows why; diagnostics are in {}",
            places.diagnostics().display()
        )))
    }

    /// Asks one thing.
    ///
    /// # Errors
    /// Status 3 if there is no answer, 1 if the answer is a refusal.
    pub fn ask(&self, query: &Query) -> Result<Reply, Failure> {
        self.ask_within(query, QUERY_WAIT_MAX)
    }

    /// Asks one thing that must be answered within `wait`.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_within(&self, query: &Query, wait: Duration) -> Result<Reply, Failure> {
        let mut body = Vec::new();
        shellkeep_transport::encode_into(query, &mut body, QUERY_BYTES_MAX).map_err(|error| Failure::bug(&error))?;
        let request = Request::Query { version: QUERY_VERSION, body };
        let answer = self.runtime.block_on(self.client.call_with_deadline(request, wait));
        match answer.map_err(|error| no_daemon(format!("the daemon gave no answer: {error}")))?.response {
            Response::Reply { body } => match shellkeep_transport::decode::<Reply>(&body) {
                Ok(Reply::Failed(failure)) => Err(Failure::refused(failure)),
                Ok(reply) => Ok(reply),
                Err(error) => Err(Failure::bug(&error)),
            },
            Response::QueryVersion { program, .. } => Err(other_version(&program)),
            Response::Session(_) | Response::Registry { .. } => {
                Err(Failure::bug(&"the daemon answered another question"))
            }
        }
    }

    /// Asks one thing about commands. What the daemon refuses is for the caller to judge.
    ///
    /// # Errors
    /// Status 3 if there is no answer.
    pub fn ask_commands(&self, ask: &Ask) -> Result<Result<Told, RegistryError>, Failure> {
        let never = std::future::pending::<()>();
        self.ask_commands_unless(ask, never)?.ok_or_else(|| Failure::bug(&"what never happens has happened"))
    }

    /// The same; `None` if `other` happens before there is an answer, which nobody waits for then.
    ///
    /// # Errors
    /// As [`Self::ask_commands`].
    pub fn ask_commands_unless(
        &self,
        ask: &Ask,
        other: impl Future<Output = ()>,
    ) -> Result<Option<Result<Told, RegistryError>>, Failure> {
        let asked = async {
            tokio::select! {
                biased;
                () = other => None,
                answer = commands_of(&self.client, ask, QUERY_WAIT_MAX) => Some(answer),
            }
        };
        self.runtime.block_on(asked).transpose()
    }
}

/// Asks one thing about commands on a connection of the caller's.
///
/// # Errors
/// Status 3 if there is no answer within `wait`.
pub async fn commands_of(
    client: &RpcClient<DaemonProtocol>,
    ask: &Ask,
    wait: Duration,
) -> Result<Result<Told, RegistryError>, Failure> {
    let answer = client.call_with_deadline(about_commands(ask)?, wait).await;
    told(answer.map_err(|error| no_daemon(format!("the daemon gave no answer: {error}")))?.response)
}

fn about_commands(ask: &Ask) -> Result<Request, Failure> {
    let mut body = Vec::new();
    shellkeep_transport::encode_into(ask, &mut body, ASK_BYTES_MAX).map_err(|error| Failure::bug(&error))?;
    Ok(Request::Registry { version: REGISTRY_VERSION, body })
}

fn told(response: Response) -> Result<Result<Told, RegistryError>, Failure> {
    match response {
        Response::Registry { body } => match shellkeep_transport::decode::<Told>(&body) {
            Ok(Told::Failed(error)) => Ok(Err(crate::tools::marked_refusal(error))),
            Ok(told) => Ok(Ok(crate::tools::marked(told))),
            Err(error) => Err(Failure::bug(&error)),
        },
        Response::QueryVersion { program, .. } => Err(other_version(&program)),
        Response::Session(_) | Response::Reply { .. } => Err(Failure::bug(&"the daemon answered another question")),
    }
}

/// Asks a daemon that runs; `None` if there is no answer within `wait`, whatever the reason.
fn call_running(places: &Places, request: &Request, wait: Duration) -> Option<Response> {
    let asked = async {
        for socket in places.daemon_sockets() {
            if let Ok(client) = connect_unix::<DaemonProtocol>(&socket, ConnectOptions::default()).await {
                return Some(client.call_with_deadline(request.clone(), wait).await.ok()?.response);
            }
        }
        None
    };
    let runtime = runtime().ok()?;
    runtime.block_on(async { tokio::time::timeout(wait, asked).await.ok().flatten() })
}

fn other_version(program: &str) -> Failure {
    let own = env!("CARGO_PKG_VERSION");
    no_daemon(format!("the daemon is of another version ({program}, this is {own})"))
        .with_hint("\"shellkeep daemon restart\"; sessions go on meanwhile")
}

/// What lies where the daemon's socket belongs and is none: nobody of ours ever removes it.
pub fn in_the_way(places: &Places) -> Option<Failure> {
    let socket = places.daemon_socket();
    let found = std::fs::symlink_metadata(&socket).ok()?.file_type();
    if std::os::unix::fs::FileTypeExt::is_socket(&found) {
        return None;
    }
    let what = if found.is_dir() { "a directory" } else { "something else" };
    let failure = no_daemon(format_args!("{} is {what}, where the daemon's socket belongs", socket.display()));
    Some(failure.with_hint(format_args!("remove it or move it away, then \"shellkeep daemon start\"")))
}

/// The daemon is needed and cannot be had.
pub fn no_daemon(message: impl std::fmt::Display) -> Failure {
    Failure { message: message.to_string(), hint: None, exit: Exit::NoDaemon }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| no_daemon(format!("no runtime: {error}")))
}
