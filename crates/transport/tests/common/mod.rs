//! What the tests share: a small conversation, a server that answers it, and a private directory for its socket.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test binary uses its own part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod child;
pub mod raw;

use std::collections::HashMap;
use std::future::Future;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shellkeep_transport::socket::{BoundSocket, bind, create_private_dir};
use shellkeep_transport::*;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// No event of a test may take longer. Only a broken promise ever waits so long.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub enum Echo {}

impl Protocol for Echo {
    type Request = Ask;
    type Response = Told;
    type Push = u64;
    const NAME: [u8; 4] = *b"echo";
    const VERSIONS: RangeInclusive<u16> = 1..=3;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Ask {
    /// Answered at once with the same number.
    Echo(u64),
    /// Answered once the gate of this number is opened.
    Gate(u64),
    /// Never answered.
    Hang,
    Panic,
    /// Answered with so many bytes.
    Bytes(usize),
    Send(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Pushes so many numbers, from 0, then answers with how many were taken.
    Push(u64),
    /// Closes the connection that the request came on.
    CloseMe,
    /// Executed like an echo, and instead of the answer comes the connection's end.
    EchoAndClose(u64),
    /// Pushes from another thread, then answers.
    PushAside(u64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Told {
    Number(u64),
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// What the server saw, across all its connections.
#[derive(Default)]
pub struct Seen {
    pub echoes: Mutex<Vec<u64>>,
    pub connected: AtomicUsize,
    pub disconnected: AtomicUsize,
    pub versions: Mutex<Vec<u16>>,
    /// Handlers that were started and have neither answered nor been dropped.
    pub running: AtomicUsize,
    pub changed: Notify,
    gates: Mutex<HashMap<u64, Vec<oneshot::Sender<()>>>>,
    pub contexts: Mutex<Vec<Context<Echo>>>,
}

impl Seen {
    /// Waits until `done` says so; looks again after each thing that happens at the server.
    pub async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if done(self) {
                    return;
                }
                changed.await;
            }
        };
        patient(what, wait).await;
    }

    pub fn open_gate(&self, number: u64) {
        for gate in self.gates.lock().unwrap().remove(&number).unwrap_or_default() {
            let _ = gate.send(());
        }
    }

    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }

    pub fn disconnected(&self) -> usize {
        self.disconnected.load(Ordering::SeqCst)
    }

    fn happened(&self) {
        self.changed.notify_waiters();
    }
}

#[derive(Clone)]
pub struct EchoHandler(pub Arc<Seen>);

struct Running<'a>(&'a Seen);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.happened();
    }
}

impl Handler<Echo> for EchoHandler {
    type Connection = AtomicU64;

    fn on_connect(&self, context: &Context<Echo>) -> AtomicU64 {
        self.0.connected.fetch_add(1, Ordering::SeqCst);
        self.0.versions.lock().unwrap().push(context.version());
        self.0.contexts.lock().unwrap().push(context.clone());
        self.0.happened();
        AtomicU64::new(0)
    }

    async fn call(&self, context: &Context<Echo>, count: &AtomicU64, ask: Ask) -> Told {
        count.fetch_add(1, Ordering::SeqCst);
        self.0.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(&self.0);
        self.0.happened();
        match ask {
            Ask::Echo(number) => {
                self.0.echoes.lock().unwrap().push(number);
                Told::Number(number)
            }
            Ask::Gate(number) => {
                let (open, opened) = oneshot::channel();
                self.0.gates.lock().unwrap().entry(number).or_default().push(open);
                self.0.happened();
                let _ = opened.await;
                Told::Number(number)
            }
            Ask::Hang => std::future::pending().await,
            Ask::Panic => panic!("asked to"),
            Ask::Bytes(count) => Told::Bytes(vec![7; count]),
            Ask::Send(bytes) => Told::Number(bytes.len() as u64),
            Ask::Push(count) => {
                let pusher = context.pusher();
                Told::Number((0..count).filter(|number| pusher.push(number).is_ok()).count() as u64)
            }
            Ask::CloseMe => {
                context.close(GoodbyeReason::Superseded);
                std::future::pending().await
            }
            Ask::EchoAndClose(number) => {
                self.0.echoes.lock().unwrap().push(number);
                context.close(GoodbyeReason::Superseded);
                std::future::pending().await
            }
            Ask::PushAside(count) => {
                let pusher = context.pusher();
                let (done, finished) = oneshot::channel();
                std::thread::spawn(move || {
                    let taken = (0..count).filter(|number| pusher.push(number).is_ok()).count();
                    let _ = done.send(taken as u64);
                });
                Told::Number(finished.await.unwrap_or(0))
            }
        }
    }

    fn on_disconnect(&self, _: &Context<Echo>, _: AtomicU64) {
        self.0.disconnected.fetch_add(1, Ordering::SeqCst);
        self.0.happened();
    }
}

/// A server on this runtime.
pub struct Server {
    pub seen: Arc<Seen>,
    pub rpc: RpcServer<Echo, EchoHandler>,
    stop: CancellationToken,
    stopped: JoinHandle<usize>,
}

impl Server {
    pub fn start(path: &Path) -> Self {
        Self::start_with(path, ServerOptions::default())
    }

    pub fn start_with(path: &Path, options: ServerOptions) -> Self {
        Self::on(bind(path).unwrap(), options)
    }

    pub fn on(socket: BoundSocket, options: ServerOptions) -> Self {
        let seen = Arc::new(Seen::default());
        let stop = CancellationToken::new();
        let server = RpcServer::new(EchoHandler(Arc::clone(&seen)), options, stop.clone());
        server.listen(socket).unwrap();
        let stopped = tokio::spawn({
            let server = server.clone();
            async move { server.stopped().await }
        });
        Self { seen, rpc: server, stop, stopped }
    }

    /// Stops gracefully; returns the tasks that were left.
    pub async fn stop(self) -> usize {
        self.stop.cancel();
        patient("the server's end", self.stopped).await.unwrap()
    }
}

/// A private directory, and a path for a socket in it.
pub struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        create_private_dir(&dir.path().join("run")).unwrap();
        Self { dir }
    }

    /// The private directory.
    pub fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.run().join("echo.sock")
    }
}

/// Fails the test, naming what never came, instead of hanging it.
pub async fn patient<T>(what: &str, future: impl Future<Output = T>) -> T {
    let in_time = tokio::time::timeout(PATIENCE, future).await;
    in_time.unwrap_or_else(|_| panic!("never came: {what}"))
}

pub async fn connect(path: &Path) -> RpcClient<Echo> {
    connect_unix(path, ConnectOptions::default()).await.unwrap()
}

pub fn number(answer: Result<Answer<Told>, CallError>) -> u64 {
    match answer.unwrap().response {
        Told::Number(number) => number,
        other @ Told::Bytes(_) => panic!("not a number: {other:?}"),
    }
}

/// A policy whose delays a test does not live to see: only events make it try again.
pub fn patient_policy() -> ReconnectPolicy {
    ReconnectPolicy {
        delay_min: Duration::from_hours(1),
        delay_max: Duration::from_hours(1),
        ..ReconnectPolicy::default()
    }
}

/// An `on_reconnect` that has nothing to do.
pub fn nothing(_: Connection<Echo>) -> std::future::Ready<Result<(), OnReconnectError>> {
    std::future::ready(Ok(()))
}

pub async fn connected(client: &RpcClient<Echo>) -> u64 {
    let mut state = client.state();
    let state = patient("a connection", state.wait_for(State::is_connected)).await;
    match *state.unwrap() {
        State::Connected { generation, .. } => generation,
        _ => unreachable!(),
    }
}

pub async fn disconnected(client: &RpcClient<Echo>) {
    let mut state = client.state();
    let down = state.wait_for(|state| !state.is_connected());
    patient("the loss", down).await.unwrap();
}

/// The next thing that happened to a client.
pub async fn next(events: &mut Events<Echo>) -> Event<Echo> {
    patient("an event", events.next()).await.expect("the stream has ended")
}

/// Descriptors of this process that are open on something of this kind, as `/proc` names it.
pub fn open_descriptors(kind: &str) -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| target.to_string_lossy().contains(kind)).count()
}

/// Sockets, inotify instances and event counters that this process has open.
pub fn open_sockets() -> usize {
    ["socket:", "inotify", "eventfd"].map(open_descriptors).iter().sum()
}

/// Waits until the client has looked for its server and found none.
pub async fn tried(client: &RpcClient<Echo>) {
    let mut state = client.state();
    let tried = |state: &State| matches!(state, State::Disconnected { last_error: Some(_) });
    patient("a try", state.wait_for(tried)).await.map(|_| ()).unwrap();
}

/// Waits for what no event tells of, looking again after everything else has run.
pub async fn eventually(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await; // between two looks at a state that sends no event
        }
    };
    patient(what, wait).await;
}

/// Runs a blocking client beside the server of this test.
pub async fn beside<T: Send + 'static>(path: &Path, script: impl FnOnce(&Path) -> T + Send + 'static) -> T {
    let path = path.to_owned();
    let script = tokio::task::spawn_blocking(move || script(&path));
    patient("the raw client's end", script).await.unwrap()
}
