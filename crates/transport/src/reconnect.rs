//! Comes back: dials until a connection has passed `on_reconnect`, puts it into use, waits for its end, and so on.
//!
//! Promises that `on_reconnect` runs once on each connection before anybody else may call over it, that each step has a
//! time limit and may fail or panic, and that the loop ends with the last handle (it holds the client only weakly).

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Schedule;
use crate::client::{ConnectOptions, Connection, OnReconnectError, ReconnectPolicy, RpcClient};
use crate::dial::{DialError, Dialed, dial};
use crate::link::{DownReason, Link};
use crate::protocol::Protocol;
use crate::shared::{Shared, State};
use crate::socket::ConnectError;
use crate::watch::SocketWatch;

/// Tries in quick succession after the directory has changed: a server that binds before it listens shows its socket a
/// moment too early.
const QUICK_TRIES: u32 = 3;
const QUICK_DELAY: Duration = Duration::from_millis(1);
/// Tries after these that keep to the schedule from its beginning, for a server that takes longer; the last of them comes
/// about half a second after the change. Then the watch is relied on again.
const EAGER_TRIES: u32 = 6;
/// Delays are drawn from below this, at the least, after a server's queue was full: thousands are in it, and a server
/// takes about so long to let them in.
const BUSY_DELAY: Duration = Duration::from_millis(500);

type OnReconnect<P> =
    Box<dyn Fn(Connection<P>) -> Pin<Box<dyn Future<Output = Result<(), OnReconnectError>> + Send>> + Send + Sync>;

pub(crate) async fn once<P: Protocol>(path: &Path, options: ConnectOptions) -> Result<RpcClient<P>, DialError> {
    let shared = Shared::new(options.call_wait, options.events_max);
    let mut dialed = dial(path, &options, 1, &shared.tasks).await?;
    shared.swap_in(&dialed.link)?;
    dialed.keep();
    let (weak, stop) = (Arc::downgrade(&shared), shared.stop.clone());
    let ended = take_end(&mut dialed.ended);
    shared.tasks.spawn(async move {
        // Stopped, it is `close` that ends the connection, after the calls that are out.
        let lost = until(&stop, ended).await;
        if let Some(shared) = lost.and_then(|_| weak.upgrade()) {
            shared.set_down(State::Closed);
            shared.events.close();
        }
    });
    Ok(RpcClient::new(shared))
}

pub(crate) async fn connected<P, F, Fut>(
    path: &Path,
    policy: ReconnectPolicy,
    on_reconnect: F,
) -> Result<RpcClient<P>, DialError>
where
    P: Protocol,
    F: Fn(Connection<P>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), OnReconnectError>> + Send + 'static,
{
    let shared = Shared::new(policy.connect.call_wait, policy.connect.events_max);
    let mut redial = Redial::new(path, policy, on_reconnect, &shared);
    let mut dialed = redial.try_once().await?;
    shared.swap_in(&dialed.link)?;
    redial.schedule.next_delay(); // spent: a first connection that proves nothing is not retried without a delay
    let current = Current::new(&mut dialed);
    shared.tasks.spawn(redial.run(Some(current)));
    Ok(RpcClient::new(shared))
}

pub(crate) fn lazy<P, F, Fut>(path: &Path, policy: ReconnectPolicy, on_reconnect: F) -> RpcClient<P>
where
    P: Protocol,
    F: Fn(Connection<P>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), OnReconnectError>> + Send + 'static,
{
    let shared = Shared::new(policy.connect.call_wait, policy.connect.events_max);
    let redial = Redial::new(path, policy, on_reconnect, &shared);
    shared.tasks.spawn(redial.run(None));
    RpcClient::new(shared)
}

/// The connection in use, as the loop sees it.
struct Current<P: Protocol> {
    link: Arc<Link<P>>,
    ended: oneshot::Receiver<DownReason>,
}

impl<P: Protocol> Current<P> {
    fn new(dialed: &mut Dialed<P>) -> Self {
        dialed.keep();
        Self { link: Arc::clone(&dialed.link), ended: take_end(&mut dialed.ended) }
    }
}

/// Everything that a new try needs; owned by the loop's task.
struct Redial<P: Protocol> {
    path: PathBuf,
    policy: ReconnectPolicy,
    on_reconnect: OnReconnect<P>,
    shared: Weak<Shared<P>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    poke: Arc<Notify>,
    schedule: Schedule,
    generation: u64,
    /// Tries left of those that a change in the directory gives reason for: quick ones, then eager ones.
    hopeful_tries: u32,
}

impl<P: Protocol> Redial<P> {
    fn new<F, Fut>(path: &Path, policy: ReconnectPolicy, on_reconnect: F, shared: &Arc<Shared<P>>) -> Self
    where
        F: Fn(Connection<P>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), OnReconnectError>> + Send + 'static,
    {
        Self {
            path: path.to_owned(),
            schedule: Schedule::new(policy.delay_min, policy.delay_max),
            policy,
            on_reconnect: Box::new(move |connection| Box::pin(on_reconnect(connection))),
            shared: Arc::downgrade(shared),
            tasks: shared.tasks.clone(),
            stop: shared.stop.clone(),
            poke: Arc::clone(&shared.poke),
            generation: 0,
            hopeful_tries: 0,
        }
    }

    /// For ever, or until `stop`.
    async fn run(mut self, mut current: Option<Current<P>>) {
        let stop = self.stop.clone();
        loop {
            if let Some(connection) = current.take() {
                let Some(reason) = until(&stop, connection.ended).await else {
                    return;
                };
                if connection.link.is_proved() {
                    self.schedule.reset();
                }
                let reason = reason.unwrap_or(DownReason::Closed);
                tracing::debug!(path = %self.path.display(), %reason, "connection lost");
                self.went_down(reason.into());
            }
            // In a box: the loop's task is small while a connection is in use, which is nearly always.
            let Some(connection) = until(&stop, Box::pin(self.come_back())).await.flatten() else {
                return;
            };
            current = Some(connection);
        }
    }

    /// Tries until a connection is in use; `None` if the client is gone.
    async fn come_back(&mut self) -> Option<Current<P>> {
        let mut watch = self.policy.watch_directory.then(|| SocketWatch::for_arrivals(&self.path));
        let mut nobody_there = false;
        self.hopeful_tries = 0; // what gave hope then says nothing of now
        loop {
            if nobody_there && self.hopeful_tries == 0 && self.will_be_told(watch.as_ref()) {
                self.schedule.skip_to(self.policy.delay_max);
            }
            self.wait(watch.as_mut()).await;
            if let Some(watch) = &mut watch {
                watch.rearm();
            }
            let outcome = self.try_once().await;
            let shared = self.shared.upgrade()?;
            let outcome = outcome.and_then(|dialed| match shared.swap_in(&dialed.link) {
                Ok(()) => Ok(dialed),
                Err(reason) => Err(reason.into()),
            });
            match outcome {
                Ok(mut dialed) => return Some(Current::new(&mut dialed)),
                Err(error) => {
                    nobody_there = matches!(error, DialError::Connect(ConnectError::NotFound | ConnectError::Refused));
                    if matches!(error, DialError::Connect(ConnectError::Busy)) {
                        self.hopeful_tries = 0;
                        self.schedule.skip_to(BUSY_DELAY);
                    }
                    tracing::debug!(path = %self.path.display(), %error, "not connected");
                    self.went_down(error);
                }
            }
        }
    }

    /// Whether a server that comes is told of, wherever it listens: looking again and again meanwhile helps nobody.
    fn will_be_told(&self, watch: Option<&SocketWatch>) -> bool {
        self.policy.alternatives.is_empty() && watch.is_some_and(SocketWatch::is_armed)
    }

    /// The delay before the next try, or less if there is reason to hope.
    async fn wait(&mut self, watch: Option<&mut SocketWatch>) {
        let quick = self.hopeful_tries > EAGER_TRIES;
        self.hopeful_tries = self.hopeful_tries.saturating_sub(1);
        let delay = if quick { QUICK_DELAY } else { self.schedule.next_delay() };
        if delay.is_zero() {
            return;
        }
        let changed = async {
            match watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.poke.notified() => {}
            () = changed => {
                self.hopeful_tries = QUICK_TRIES + EAGER_TRIES;
                self.schedule.reset();
                self.schedule.next_delay(); // this very try
            }
        }
    }

    /// Connect, Hello, `on_reconnect`: once, each within its time.
    async fn try_once(&mut self) -> Result<Dialed<P>, DialError> {
        let generation = self.generation + 1;
        let options = &self.policy.connect;
        let mut dialed = self.dial_one(generation).await?;
        self.generation = generation; // a number is spent on a connection, not on a try
        let connection = Connection::new(Arc::clone(&dialed.link), options.call_wait);
        let callback = AssertUnwindSafe(async { (self.on_reconnect)(connection).await }).catch_unwind();
        let limit = self.policy.on_reconnect_wait;
        tokio::select! {
            biased;
            outcome = tokio::time::timeout(limit, callback) => match outcome {
                Ok(Ok(Ok(()))) => Ok(dialed),
                Ok(Ok(Err(error))) => Err(DialError::OnReconnect(error)),
                Ok(Err(_)) => Err(DialError::OnReconnectPanicked),
                Err(_) => Err(DialError::OnReconnectTimeout(limit)),
            },
            reason = &mut dialed.ended => Err(reason.unwrap_or(DownReason::Closed).into()),
        }
    }

    /// The first path at which a server answers; if none does, what was wrong with the usual one.
    async fn dial_one(&self, generation: u64) -> Result<Dialed<P>, DialError> {
        let options = &self.policy.connect;
        let usual = match dial(&self.path, options, generation, &self.tasks).await {
            Err(error) => error,
            connected => return connected,
        };
        for path in &self.policy.alternatives {
            if let Ok(dialed) = dial(path, options, generation, &self.tasks).await {
                return Ok(dialed);
            }
        }
        Err(usual)
    }

    fn went_down(&self, error: DialError) {
        if let Some(shared) = self.shared.upgrade() {
            let last_error = Some(Arc::new(error));
            shared.set_down(State::Disconnected { last_error });
        }
    }
}

/// The future's output, or `None` once the client is closed.
async fn until<F: Future>(stop: &CancellationToken, future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        output = future => Some(output),
    }
}

fn take_end(ended: &mut oneshot::Receiver<DownReason>) -> oneshot::Receiver<DownReason> {
    let (_, closed) = oneshot::channel();
    std::mem::replace(ended, closed)
}
