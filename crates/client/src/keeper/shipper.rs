//! Hands the spool's records to the daemon, for as long as the session lives, whatever becomes of daemons.
//!
//! One thread with a runtime of its own: the PTY's path never waits for it. What to send is [`KeeperCore`]'s to say;
//! this does it over an [`RpcClient`] that comes back by itself. Wakes at the most
//! 10 ms under load and not at all when nothing happens.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use parking_lot::Mutex;
use shellkeep_journal::hook::{self, Point};
use shellkeep_protocol::daemon::{DaemonProtocol, Push, Request, Response};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::resume::Retained as _;
use shellkeep_protocol::session::{Append, Attrs, End, ExitStatus, Gap, Refused, SessionRequest, SessionResponse};
use shellkeep_transport::{
    Answer, Call, CallError, Connection, Event, OnReconnectError, ReconnectPolicy, RpcClient, connect_unix_lazy,
};
use tokio::sync::{mpsc, oneshot};

use super::core::{KeeperCore, Output};
use super::spool::{Spool, now_us};

/// Pause after sending, so that a flood of output costs a hundred wakeups a second and not one per line.
const NAP: Duration = Duration::from_millis(10);

/// Stack of the shipper's thread.
const STACK_BYTES: usize = 256 << 10;

/// Deadline of each request: after it the outcome is unknown, and everything is kept.
const CALL_WAIT: Duration = Duration::from_secs(5);

/// Pauses between attempts to start a daemon that is gone; the last one repeats.
const START_PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(1)];

/// Starts a daemon if none runs and none was stopped on purpose; false when it was, so that it is not asked again before
/// a daemon has come and gone. Called on the shipper's thread; must not block long.
pub type StartDaemon = Box<dyn FnMut() -> bool + Send>;

/// What a shipper needs.
pub struct ShipperConfig {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Where it may listen instead, when the runtime directory was gone.
    pub other_sockets: Vec<PathBuf>,
    /// What is sent, and told of a fork by `Spool::fork`.
    pub spool: Arc<Spool>,
    /// Whose records these are.
    pub core: KeeperCore,
    /// What the session is. Read anew for each connection.
    pub attrs: Arc<Mutex<Attrs>>,
    /// Called while no daemon answers; `None` where another machine or container runs it.
    pub start_daemon: Option<StartDaemon>,
}

enum Command {
    Wake,
    Poke,
    Finish(Ending),
}

/// The running shipper.
pub struct Shipper {
    commands: mpsc::UnboundedSender<Command>,
    is_live: Arc<AtomicBool>,
}

impl Shipper {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(config: ShipperConfig) -> std::io::Result<Self> {
        // Bounded in effect: one `Wake` per time that the shipper sleeps, one `Poke` per daemon start, one `Finish`.
        let (commands, inbox) = mpsc::unbounded_channel();
        let wake = commands.clone();
        config.spool.wake_with(Box::new(move || drop(wake.send(Command::Wake))));
        let is_live = Arc::new(AtomicBool::new(false));
        let live = Arc::clone(&is_live);
        let run = move || run(config, inbox, live);
        std::thread::Builder::new().name("shipper".into()).stack_size(STACK_BYTES).spawn(run)?;
        Ok(Self { commands, is_live })
    }
}

impl super::session::Shipper for Shipper {
    fn poke(&self) {
        let _ = self.commands.send(Command::Poke);
    }

    fn is_connected(&self) -> bool {
        self.is_live.load(Ordering::Relaxed)
    }

    fn finish(&self, exit: ExitStatus, wait: Duration) -> bool {
        let (done, is_done) = oneshot::channel();
        let until = Instant::now() + wait;
        let _ = self.commands.send(Command::Finish(Ending { exit, done, until, end_sent: false }));
        is_done.blocking_recv().unwrap_or(false)
    }
}

fn run(config: ShipperConfig, inbox: mpsc::UnboundedReceiver<Command>, is_live: Arc<AtomicBool>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(ship(config, inbox, is_live)),
        Err(error) => tracing::error!(%error, "records stay in the spool: no runtime for the shipper"),
    }
}

/// What `on_reconnect` and the loop share; both run on the shipper's thread.
struct Shared {
    core: KeeperCore,
    connection: Option<Connection<DaemonProtocol>>,
    in_flight: FuturesOrdered<Call<DaemonProtocol>>,
    spool: Arc<Spool>,
    attrs: Arc<Mutex<Attrs>>,
}

struct Ship {
    shared: Arc<Mutex<Shared>>,
    client: RpcClient<DaemonProtocol>,
    start_daemon: Option<StartDaemon>,
    attempts: usize,
    next_attempt: Option<Instant>,
    ending: Option<Ending>,
}

struct Ending {
    exit: ExitStatus,
    done: oneshot::Sender<bool>,
    until: Instant,
    end_sent: bool,
}

async fn ship(config: ShipperConfig, mut inbox: mpsc::UnboundedReceiver<Command>, is_live: Arc<AtomicBool>) {
    let ShipperConfig { socket, other_sockets, spool, core, attrs, start_daemon } = config;
    let in_flight = FuturesOrdered::new();
    let shared = Shared { core, connection: None, in_flight, spool: Arc::clone(&spool), attrs };
    let shared = Arc::new(Mutex::new(shared));
    let mut policy = ReconnectPolicy { alternatives: other_sockets, ..ReconnectPolicy::default() };
    policy.connect.call_wait = CALL_WAIT;
    let registered = Arc::clone(&shared);
    let client = connect_unix_lazy(socket, policy, move |connection| register(Arc::clone(&registered), connection));
    let mut events = client.events();
    let next_attempt = start_daemon.is_some().then(Instant::now);
    let mut ship = Ship { shared, client, start_daemon, attempts: 0, next_attempt, ending: None };
    loop {
        let deadline = ship.next_deadline();
        tokio::select! {
            biased;
            // First: a session that never stops printing must not keep a daemon from being started.
            () = sleep_until(deadline) => ship.tick(),
            event = events.next() => match event {
                Some(event) => ship.event(&event),
                None => break,
            },
            answer = next_answer(&ship.shared) => ship.answered(answer),
            command = inbox.recv() => match command {
                Some(Command::Wake) => {
                    ship.recorded();
                    tokio::time::sleep(NAP).await; // not cancelled by anything: 10 ms is soon enough for all else
                }
                Some(Command::Poke) => ship.client.reconnect_now(),
                Some(Command::Finish(ending)) => ship.ending = Some(ending),
                None => break,
            },
        }
        let is_over = ship.settle();
        is_live.store(ship.shared.lock().core.is_live(), Ordering::Relaxed);
        if is_over {
            break;
        }
    }
    ship.client.close().await;
}

/// Resolves with the answer to the oldest request in flight; never while there is none.
async fn next_answer(shared: &Mutex<Shared>) -> Result<Answer<Response>, CallError> {
    std::future::poll_fn(|cx| match shared.lock().in_flight.poll_next_unpin(cx) {
        std::task::Poll::Ready(Some(answer)) => std::task::Poll::Ready(answer),
        _ => std::task::Poll::Pending,
    })
    .await
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Replays the session's start on a new connection, before anything else is said on it.
async fn register(shared: Arc<Mutex<Shared>>, connection: Connection<DaemonProtocol>) -> Result<(), OnReconnectError> {
    loop {
        let start = {
            let shared = shared.lock();
            let attrs = shared.attrs.lock().clone();
            shared.core.start(&*shared.spool, attrs)
        };
        let request = Request::Session(SessionRequest::Start(Box::new(start)));
        let Response::Session(response) = connection.call(request).await?.response else {
            return Err("the daemon answered a start with a query's reply".into());
        };
        let mut shared = shared.lock();
        match response {
            SessionResponse::Welcome(welcome) => {
                let spool = Arc::clone(&shared.spool);
                let outputs = shared.core.welcomed(connection.generation(), &welcome, &*spool, Instant::now());
                shared.connection = Some(connection);
                shared.in_flight = FuturesOrdered::new();
                return if shared.act(outputs) { Ok(()) } else { Err("the log has other records".into()) };
            }
            SessionResponse::Refused(Refused::Owner(_)) | SessionResponse::Conflict => shared.fork(),
            SessionResponse::Busy(busy) => return Err(format!("the daemon is busy: {:?}", busy.reason).into()),
            other => return Err(format!("the daemon refused the session: {other:?}").into()),
        }
    }
}

impl Shared {
    /// Does what the core asks for; false when this connection is of no more use.
    fn act(&mut self, outputs: Vec<Output>) -> bool {
        for output in outputs {
            let (session, epoch) = (self.core.session(), self.core.epoch());
            let request = match output {
                Output::Append { from, prev_chain, to } => {
                    if let Some(records) = self.spool.records(from, to) {
                        SessionRequest::Append(Append { session, epoch, first_seq: from, prev_chain, records })
                    } else {
                        // Dropped or damaged since the core looked: it will see a gap when it looks again.
                        self.core.unsent(from, prev_chain);
                        break;
                    }
                }
                Output::Gap { from, to_before, reason } => SessionRequest::Gap(Gap {
                    session,
                    epoch,
                    from,
                    to: to_before.next_seq.prev(),
                    output_offset_after: to_before.output_offset,
                    time_us: now_us(),
                    reason,
                    chain_after: to_before.chain,
                }),
                Output::Trim(below) => {
                    hook::pause(Point::KeeperToldDurable);
                    self.spool.trim(below);
                    continue;
                }
                Output::Reconnect => {
                    self.hang_up();
                    return false;
                }
                Output::Fork => {
                    self.fork();
                    self.hang_up();
                    return false;
                }
            };
            if let Some(connection) = &self.connection {
                self.in_flight.push_back(connection.start_call(&Request::Session(request)));
            }
        }
        true
    }

    /// Goes on as a new session whose parent is the old one.
    fn fork(&mut self) {
        let (parent, session) = (self.core.session(), SessionId::new());
        tracing::warn!(%parent, %session, "the log belongs to somebody else; recording goes on in a new session");
        self.core.fork(session);
        let mut attrs = self.attrs.lock();
        attrs.parent = Some(parent);
        self.spool.fork(session, &attrs);
    }

    fn hang_up(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.core.lost(connection.generation());
            connection.end();
        }
        self.in_flight = FuturesOrdered::new();
    }
}

impl Ship {
    fn event(&mut self, event: &Event<DaemonProtocol>) {
        let mut shared = self.shared.lock();
        match event {
            Event::Up { .. } => {
                self.attempts = 0;
                self.next_attempt = None;
            }
            Event::Push { generation, message: Push::Session(push) } => {
                let spool = Arc::clone(&shared.spool);
                let outputs = shared.core.pushed(*generation, push, &*spool, Instant::now());
                shared.act(outputs);
            }
            Event::Push { message: Push::Registry { .. }, .. } => {} // not subscribed to
            Event::Down { generation, reason } => {
                tracing::info!(%generation, ?reason, "the daemon is gone; records wait in the spool");
                shared.core.lost(*generation);
                if shared.connection.as_ref().is_some_and(|held| held.generation() == *generation) {
                    shared.connection = None;
                    shared.in_flight = FuturesOrdered::new();
                }
                self.next_attempt = self.start_daemon.is_some().then(Instant::now);
            }
        }
    }

    fn answered(&mut self, answer: Result<Answer<Response>, CallError>) {
        let mut shared = self.shared.lock();
        match answer {
            Ok(Answer { generation, response: Response::Session(response) }) => {
                let spool = Arc::clone(&shared.spool);
                let outputs = shared.core.answered(generation, &response, &*spool, Instant::now());
                shared.act(outputs);
            }
            // Outcome unknown: the next start on a new connection tells the truth.
            Ok(_) | Err(_) => shared.hang_up(),
        }
    }

    fn recorded(&mut self) {
        let mut shared = self.shared.lock();
        let spool = Arc::clone(&shared.spool);
        let outputs = shared.core.recorded(&*spool, Instant::now());
        shared.act(outputs);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let wake_at = self.shared.lock().core.wake_at();
        let ending = self.ending.as_ref().map(|ending| ending.until);
        [wake_at, self.next_attempt, ending].into_iter().flatten().min()
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.next_attempt.is_some_and(|at| at <= now) {
            let again = self.start_daemon.as_mut().is_some_and(|start_daemon| start_daemon());
            self.attempts += 1;
            self.next_attempt = again.then(|| now + START_PAUSES[self.attempts.min(START_PAUSES.len() - 1)]);
        }
        let mut shared = self.shared.lock();
        let spool = Arc::clone(&shared.spool);
        let outputs = shared.core.tick(&*spool, now);
        shared.act(outputs);
    }

    /// Arms the spool's wake-up, or ships what came meanwhile; true when the session is over and done.
    fn settle(&mut self) -> bool {
        let spool = Arc::clone(&self.shared.lock().spool);
        let end = loop {
            let end = spool.end();
            self.recorded();
            if spool.may_sleep(end.next_seq) {
                break end;
            }
        };
        let Some(ending) = &mut self.ending else { return false };
        let mut shared = self.shared.lock();
        let durable = shared.core.is_durable(end.next_seq);
        if durable || ending.until <= Instant::now() {
            drop(shared);
            if let Some(ending) = self.ending.take() {
                let _ = ending.done.send(durable);
            }
            return true;
        }
        if !ending.end_sent && shared.core.is_written(end.next_seq) {
            hook::pause(Point::KeeperEnding);
            ending.end_sent = true;
            let end = End {
                session: shared.core.session(),
                epoch: shared.core.epoch(),
                next_seq: end.next_seq,
                chain: end.chain,
                exit: ending.exit,
            };
            let call = shared.connection.as_ref().map(|to| to.start_call(&Request::Session(SessionRequest::End(end))));
            shared.in_flight.extend(call);
        }
        false
    }
}
