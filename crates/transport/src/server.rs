//! The server: accepts, checks, serves each connection in a task of its own, and drains when it ends.
//!
//! Promises bounds on connections, on strangers and on each connection's memory, and that the end of the server leaves
//! no task. What a connection does is `connection`'s, how sockets are accepted `accept`'s.

mod accept;
mod connection;
mod greet;
mod handlers;
mod ping_pong;
mod wire;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::envelope::GoodbyeReason;
use crate::frame::FRAME_BYTES_MAX;
use crate::protocol::Protocol;
use crate::socket::{BoundSocket, PeerCredentials, own_uid};
use crate::sync::Mutex;

use wire::Wire;
pub use wire::{PUSH_BYTES_MAX, PushError, Pusher, WRITE_WAIT_MAX};

/// Connections that a server holds; one more is refused in words.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Connections whose Hello is not accepted yet; while so many wait, none is accepted from the backlog.
pub const UNAUTHENTICATED_MAX: usize = 256;
/// How long a client may take to say Hello.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(2);
/// Requests of one connection that wait for their handler's answer; one more is answered with "overloaded".
pub const IN_FLIGHT_MAX: u32 = 4096;
/// Longest that any handler may take, whatever deadline its request names.
pub const HANDLER_WAIT_MAX: Duration = Duration::from_hours(1);
/// How long handlers may still work once the server ends.
pub const DRAIN_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long the server waits after that for its tasks, which have nothing left to wait for.
const DRAIN_FORCED_WAIT_MAX: Duration = Duration::from_millis(500);

/// The limits of a server. Each default is the constant of that name.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Connections at a time.
    pub connections_max: usize,
    /// Connections at a time that have not said Hello.
    pub unauthenticated_max: usize,
    /// How long a client may take to say Hello.
    pub hello_deadline: Duration,
    /// Requests of one connection that wait at a time; told to the client, which keeps to it.
    pub in_flight_max: u32,
    /// Longest that a handler may take.
    pub handler_wait: Duration,
    /// How long a client may take none of the bytes that wait for it.
    pub write_wait: Duration,
    /// How long handlers may still work once the server ends.
    pub drain_wait: Duration,
    /// Longest frame body of a connection until its first request was read; a longer one ends it. For servers whose first
    /// request is small: who only pretends to be a client gets no more memory than this.
    pub first_frame_bytes_max: u32,
    /// The user that clients must run as.
    pub client_uid: u32,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            unauthenticated_max: UNAUTHENTICATED_MAX,
            hello_deadline: HELLO_DEADLINE,
            in_flight_max: IN_FLIGHT_MAX,
            handler_wait: HANDLER_WAIT_MAX,
            write_wait: WRITE_WAIT_MAX,
            drain_wait: DRAIN_WAIT_MAX,
            first_frame_bytes_max: FRAME_BYTES_MAX,
            client_uid: own_uid(),
        }
    }
}

/// What a server does with requests.
///
/// One handler serves all connections; what belongs to one of them is its [`Connection`](Handler::Connection).
pub trait Handler<P: Protocol>: Send + Sync + 'static {
    /// What is kept for each connection; `()` if nothing.
    type Connection: Send + Sync + 'static;

    /// A client has said Hello. Comes before its first request.
    fn on_connect(&self, context: &Context<P>) -> Self::Connection;

    /// Answers one request.
    ///
    /// The handlers of a connection are started in the order in which its requests came, each polled once before the
    /// next is started: what happens before the first `await` happens in that order. Then they run side by side, all in
    /// the connection's one task, so none may block. A handler that panics gives its caller
    /// [`CallError::HandlerFailed`](crate::CallError::HandlerFailed) and harms no other. It is dropped where it stands
    /// when its deadline passes, its caller cancels, or its client goes: hand work that must not stop there to a task
    /// or thread of your own, and await its result here.
    fn call(
        &self,
        context: &Context<P>,
        connection: &Self::Connection,
        request: P::Request,
    ) -> impl Future<Output = P::Response> + Send;

    /// The connection has ended; all its handlers are dropped. Comes exactly once after each `on_connect`.
    fn on_disconnect(&self, context: &Context<P>, connection: Self::Connection);
}

/// What a handler knows of its connection. A clone may be kept for long: it keeps nothing else alive.
pub struct Context<P: Protocol> {
    peer: PeerCredentials,
    version: u16,
    connection: u64,
    wire: Weak<Wire<P>>,
}

impl<P: Protocol> Clone for Context<P> {
    fn clone(&self) -> Self {
        Self { peer: self.peer, version: self.version, connection: self.connection, wire: Weak::clone(&self.wire) }
    }
}

impl<P: Protocol> Context<P> {
    /// Who connected.
    pub fn peer(&self) -> PeerCredentials {
        self.peer
    }

    /// The version that is spoken.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// The server's number for this connection, from 1, upwards: of two, the newer has the higher.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// What sends to this client unasked.
    pub fn pusher(&self) -> Pusher<P> {
        Pusher::new(Weak::clone(&self.wire))
    }

    /// Ends this connection: no further handler of it is started, those that run are dropped, the client is told why
    /// if it takes a few more bytes. Does nothing to one that has ended.
    pub fn close(&self, reason: GoodbyeReason) {
        if let Some(wire) = self.wire.upgrade() {
            wire.close(reason, wire::Manner::AtOnce);
        }
    }
}

/// A running server. Cheap to clone; dropping the handles ends nothing, the stop token does.
pub struct RpcServer<P: Protocol, H: Handler<P>> {
    shared: Arc<Shared<P, H>>,
}

impl<P: Protocol, H: Handler<P>> Clone for RpcServer<P, H> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

pub(crate) struct Shared<P: Protocol, H> {
    handler: H,
    options: ServerOptions,
    stop: CancellationToken,
    tasks: TaskTracker,
    permits: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    connections: Mutex<Connections<P>>,
    next_connection: AtomicU64,
    /// The connection that had a request last: only its own may be worth a look before sleeping.
    last_asked: AtomicU64,
}

struct Connections<P: Protocol> {
    wires: HashMap<u64, Weak<Wire<P>>>,
    stopping: bool,
}

impl<P: Protocol, H: Handler<P>> RpcServer<P, H> {
    /// A server without a listener; see [`listen`](Self::listen). When `stop` is cancelled no connection is accepted any
    /// more; those that are open end by [`stopped`](Self::stopped), which somebody must await.
    pub fn new(handler: H, options: ServerOptions, stop: CancellationToken) -> Self {
        let permits = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
        let strangers = Arc::new(Semaphore::new(options.unauthenticated_max.clamp(1, Semaphore::MAX_PERMITS)));
        let connections = Mutex::new(Connections { wires: HashMap::new(), stopping: false });
        Self {
            shared: Arc::new(Shared {
                handler,
                options,
                stop,
                tasks: TaskTracker::new(),
                permits,
                strangers,
                connections,
                next_connection: AtomicU64::new(1),
                last_asked: AtomicU64::new(0),
            }),
        }
    }

    /// Serves on `listeners` until `stop` is cancelled, then drains; see [`stopped`](Self::stopped).
    ///
    /// # Errors
    /// If the runtime cannot take a listener.
    pub async fn serve(
        listeners: impl IntoIterator<Item = BoundSocket>,
        handler: H,
        options: ServerOptions,
        stop: CancellationToken,
    ) -> io::Result<usize> {
        let server = Self::new(handler, options, stop);
        for listener in listeners {
            server.listen(listener)?;
        }
        Ok(server.stopped().await)
    }

    /// Accepts from one more listener, in a task of its own. Returns the means to stop just that: cancelled, the
    /// socket's file is removed and its connections go on.
    ///
    /// # Errors
    /// If the runtime cannot take the listener.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn listen(&self, socket: BoundSocket) -> io::Result<CancellationToken> {
        let stop = self.shared.stop.child_token();
        let accept = accept::Accept::new(Arc::clone(&self.shared), socket, stop.clone())?;
        self.shared.tasks.spawn(accept.run());
        Ok(stop)
    }

    /// The handler, for what the program asks of it outside of any request.
    pub fn handler(&self) -> &H {
        &self.shared.handler
    }

    /// How many connections have said Hello and not ended.
    pub fn connections(&self) -> usize {
        self.shared.connections.lock().wires.len()
    }

    /// Waits for `stop`, then lets handlers that run end ([`ServerOptions::drain_wait`]) while new requests are
    /// refused, says goodbye to each client, and returns how many tasks were still at work when time was up: 0 unless
    /// a handler blocks its thread.
    pub async fn stopped(&self) -> usize {
        let shared = &self.shared;
        shared.stop.cancelled().await;
        shared.tasks.close();
        let reason = GoodbyeReason::ShuttingDown;
        shared.close_all(reason, wire::Manner::Drained);
        if tokio::time::timeout(shared.options.drain_wait, shared.tasks.wait()).await.is_err() {
            shared.close_all(reason, wire::Manner::AtOnce);
            let _ = tokio::time::timeout(DRAIN_FORCED_WAIT_MAX, shared.tasks.wait()).await;
        }
        shared.tasks.len()
    }
}

impl<P: Protocol, H> Shared<P, H> {
    fn close_all(&self, reason: GoodbyeReason, manner: wire::Manner) {
        let wires: Vec<_> = {
            let mut connections = self.connections.lock();
            connections.stopping = true;
            connections.wires.values().filter_map(Weak::upgrade).collect()
        };
        for wire in wires {
            wire.close(reason, manner);
        }
    }

    fn next_number(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a connection known, so that the server's end reaches it; false if that has begun already.
    fn register(&self, number: u64, wire: &Arc<Wire<P>>) -> bool {
        let mut connections = self.connections.lock();
        if !connections.stopping {
            connections.wires.insert(number, Arc::downgrade(wire));
        }
        !connections.stopping
    }

    fn unregister(&self, number: u64) {
        self.connections.lock().wires.remove(&number);
    }
}
