//! The client: a cheap handle on whatever connection there is now.
//!
//! Promises that calls go to the connection in use or fail at once, that dropping the last handle ends everything that
//! was started for it, and that `close` waits for the calls that are out, within a bound. How connections are made is
//! `dial`'s and `reconnect`'s.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::backoff::{RETRY_DELAY_MAX, RETRY_DELAY_MIN};
use crate::call::{Answer, Call, CallError};
use crate::dial::DialError;
use crate::events::Events;
use crate::link::{DownReason, Link};
use crate::protocol::Protocol;
use crate::reconnect;
use crate::shared::{Shared, State};
use crate::socket::own_uid;

/// How long a call waits if nothing else is said.
pub const CALL_WAIT: Duration = Duration::from_secs(5);
/// How long a server may take to answer the Hello: one that accepts and says nothing is left after it.
pub const HELLO_WAIT: Duration = Duration::from_secs(1);
/// How long `on_reconnect` may take.
pub const ON_RECONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long `close` waits for the calls that are out.
pub const CLOSE_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long `close` waits after that for its tasks, which have nothing left to wait for.
const CLOSE_FORCED_WAIT_MAX: Duration = Duration::from_millis(500);
/// Events that wait for their consumer; one more push closes the connection.
pub const EVENTS_MAX: usize = 1024;

/// What a client keeps to on each connection.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The deadline of [`RpcClient::call`] and [`RpcClient::start_call`].
    pub call_wait: Duration,
    /// How long the server may take to answer the Hello.
    pub hello_wait: Duration,
    /// The user that the server must run as.
    pub server_uid: u32,
    /// How many events may wait for their consumer.
    pub events_max: usize,
    /// Look for an answer for up to [`SPIN_WAIT_MAX`](crate::SPIN_WAIT_MAX) before sleeping, and ask the server to look
    /// for the next request likewise. For a client whose one task calls again and again with a person waiting: its
    /// calls take about as long as over blocking sockets, and less where both ends have a core of their own. A client
    /// that is idle, slow, or calls from several tasks sleeps as always.
    pub spin: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            call_wait: CALL_WAIT,
            hello_wait: HELLO_WAIT,
            server_uid: own_uid(),
            events_max: EVENTS_MAX,
            spin: false,
        }
    }
}

/// How a client comes back after a loss.
#[derive(Debug, Clone)]
pub struct ReconnectPolicy {
    /// What each connection keeps to.
    pub connect: ConnectOptions,
    /// Least delay between two tries; the first after a loss comes at once.
    pub delay_min: Duration,
    /// Greatest delay between two tries.
    pub delay_max: Duration,
    /// How long `on_reconnect` may take before the connection is given up.
    pub on_reconnect_wait: Duration,
    /// Watch the socket's directory while disconnected and try as soon as something appears. All clients of a process
    /// share one inotify instance for that time, and one thread. While the watch works, nobody is there and there are no
    /// `alternatives`, the short ones among the delays are left out.
    pub watch_directory: bool,
    /// Other paths at which the same server may listen, tried in this order when the usual one does not answer. They are
    /// not watched.
    pub alternatives: Vec<PathBuf>,
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self {
            connect: ConnectOptions::default(),
            delay_min: RETRY_DELAY_MIN,
            delay_max: RETRY_DELAY_MAX,
            on_reconnect_wait: ON_RECONNECT_WAIT,
            watch_directory: true,
            alternatives: Vec::new(),
        }
    }
}

/// A client of one server: cheap to clone, to be used from any task or thread.
///
/// When the last clone is dropped, its tasks end and its socket is closed.
pub struct RpcClient<P: Protocol> {
    shared: Arc<Shared<P>>,
}

impl<P: Protocol> Clone for RpcClient<P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<P: Protocol> std::fmt::Debug for RpcClient<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.shared.state.borrow();
        f.debug_struct("RpcClient").field("state", &*state).finish()
    }
}

impl<P: Protocol> RpcClient<P> {
    pub(crate) fn new(shared: Arc<Shared<P>>) -> Self {
        Self { shared }
    }

    /// Asks and waits for the answer, at the most [`ConnectOptions::call_wait`]. Enqueued when first polled.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::executed`] says whether the request may have been executed.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call; the request may have been executed.
    pub async fn call(&self, request: P::Request) -> Result<Answer<P::Response>, CallError> {
        self.start_call(&request).await
    }

    /// Like [`call`](Self::call), and waits at the most `wait`: for the queue, the way, the server and the way back.
    ///
    /// # Errors
    /// See [`CallError`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call; the request may have been executed.
    pub async fn call_with_deadline(
        &self,
        request: P::Request,
        wait: Duration,
    ) -> Result<Answer<P::Response>, CallError> {
        self.start_call_with_deadline(&request, wait).await
    }

    /// Enqueues the request now, on the connection in use, and returns what waits for the answer. The order of these
    /// calls is the order on the wire and the order in which their handlers start.
    pub fn start_call(&self, request: &P::Request) -> Call<P> {
        self.shared.start_call(request, self.shared.call_wait)
    }

    /// Like [`start_call`](Self::start_call), with a deadline of its own. Deadlines are kept to about a
    /// millisecond; of a second and more, in a burst of calls, to a tick of the kernel's coarse clock (1 to 10 ms).
    pub fn start_call_with_deadline(&self, request: &P::Request, wait: Duration) -> Call<P> {
        self.shared.start_call(request, wait)
    }

    /// Whether there is a connection, now and from now on.
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// What happens to this client, in order. There is one stream: a later one takes over what is left of this.
    ///
    /// A consumer that lets [`ConnectOptions::events_max`] events pile up stalls nobody: the connection is closed with
    /// [`DownReason::EventsFull`], and that `Down` is what it finds after the events that were kept.
    pub fn events(&self) -> Events<P> {
        self.shared.events.consume()
    }

    /// Tries to connect now instead of after the current delay. Without effect on a connected client.
    pub fn reconnect_now(&self) {
        if !self.shared.state.borrow().is_connected() {
            self.shared.poke.notify_one();
        }
    }

    /// Ends the client, for all its clones: lets no call in, waits for those that are out (at the most
    /// [`CLOSE_WAIT_MAX`]), says goodbye, and returns when all its tasks have ended.
    ///
    /// # Cancel safety
    /// Dropped half-way, no call gets in any more and the rest ends with the last handle.
    pub async fn close(&self) {
        let link = self.shared.begin_close();
        if let Some(link) = &link {
            link.close_gracefully();
        }
        let in_time = tokio::time::timeout(CLOSE_WAIT_MAX, self.shared.tasks.wait()).await;
        if let Some(link) = link {
            link.end(DownReason::Closed);
        }
        self.shared.end_close();
        if in_time.is_err() {
            let forced = tokio::time::timeout(CLOSE_FORCED_WAIT_MAX, self.shared.tasks.wait()).await;
            if forced.is_err() {
                tracing::warn!(tasks = self.shared.tasks.len(), "closed with tasks left");
            }
        }
    }
}

/// One connection, before or while it is in use: what `on_reconnect` talks over.
///
/// A clone that is kept beyond `on_reconnect` is harmless: it keeps no socket open and no client alive, and its calls
/// go over this very connection or fail.
pub struct Connection<P: Protocol> {
    link: Arc<Link<P>>,
    call_wait: Duration,
}

impl<P: Protocol> Clone for Connection<P> {
    fn clone(&self) -> Self {
        Self { link: Arc::clone(&self.link), call_wait: self.call_wait }
    }
}

impl<P: Protocol> Connection<P> {
    pub(crate) fn new(link: Arc<Link<P>>, call_wait: Duration) -> Self {
        Self { link, call_wait }
    }

    /// Its number; see [`Event::Up`](crate::Event::Up).
    pub fn generation(&self) -> u64 {
        self.link.generation()
    }

    /// The version that is spoken on it.
    pub fn version(&self) -> u16 {
        self.link.terms().version
    }

    /// Asks over this connection; see [`RpcClient::call`].
    ///
    /// # Errors
    /// See [`CallError`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call; the request may have been executed.
    pub async fn call(&self, request: P::Request) -> Result<Answer<P::Response>, CallError> {
        self.start_call(&request).await
    }

    /// Asks over this connection with a deadline; see [`RpcClient::call_with_deadline`].
    ///
    /// # Errors
    /// See [`CallError`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call; the request may have been executed.
    pub async fn call_with_deadline(
        &self,
        request: P::Request,
        wait: Duration,
    ) -> Result<Answer<P::Response>, CallError> {
        Arc::clone(&self.link).start_call(&request, wait).await
    }

    /// Gives this connection up, and no more than it: its calls end with [`CallError::ConnectionLost`], and a
    /// reconnecting client dials again, at once if a call was answered on it since it came into use.
    pub fn end(&self) {
        self.link.end(DownReason::GivenUp);
    }

    /// Enqueues a request on this connection now; see [`RpcClient::start_call`].
    pub fn start_call(&self, request: &P::Request) -> Call<P> {
        Arc::clone(&self.link).start_call(request, self.call_wait)
    }
}

/// What `on_reconnect` may fail with.
pub type OnReconnectError = Box<dyn std::error::Error + Send + Sync>;

/// Connects once. When the connection is lost, the client is closed.
///
/// # Errors
/// See [`DialError`].
pub async fn connect_unix<P: Protocol>(
    path: impl AsRef<Path>,
    options: ConnectOptions,
) -> Result<RpcClient<P>, DialError> {
    reconnect::once(path.as_ref(), options).await
}

/// Connects, and again after each loss. On each new connection, the first included, `on_reconnect` runs once before
/// any other call; only if it succeeds the connection comes into use, else the next one is tried.
///
/// # Errors
/// If the first try fails, whatever the step; see [`connect_unix_lazy`] for a client to which that is no error.
pub async fn connect_unix_with_reconnect<P, F, Fut>(
    path: impl AsRef<Path>,
    policy: ReconnectPolicy,
    on_reconnect: F,
) -> Result<RpcClient<P>, DialError>
where
    P: Protocol,
    F: Fn(Connection<P>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), OnReconnectError>> + Send + 'static,
{
    reconnect::connected(path.as_ref(), policy, on_reconnect).await
}

/// A client that starts disconnected and connects as soon as it can; a server that is not up yet is no error.
/// Otherwise like [`connect_unix_with_reconnect`].
///
/// # Panics
/// Outside of a tokio runtime: its task runs on the current one.
pub fn connect_unix_lazy<P, F, Fut>(path: impl AsRef<Path>, policy: ReconnectPolicy, on_reconnect: F) -> RpcClient<P>
where
    P: Protocol,
    F: Fn(Connection<P>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), OnReconnectError>> + Send + 'static,
{
    reconnect::lazy(path.as_ref(), policy, on_reconnect)
}
