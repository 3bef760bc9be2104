//! RPC over a Unix socket that comes back by itself and answers every call exactly once.
//!
//! One connection carries typed calls in one direction and typed pushes in the other. When it is lost, every waiting
//! call ends at once and says whether it may have been executed; the client dials again, lets the program replay its
//! state on the new connection (`on_reconnect`), and only then lets calls onto it.
//!
//! ```
//! use std::ops::RangeInclusive;
//! use shellkeep_transport::{
//!     CancellationToken, Connection, Context, Handler, Protocol, ReconnectPolicy, RpcServer, ServerOptions,
//!     connect_unix_with_reconnect, socket,
//! };
//!
//! enum Doubling {}
//!
//! impl Protocol for Doubling {
//!     type Request = u64;
//!     type Response = u64;
//!     type Push = ();
//!     const NAME: [u8; 4] = *b"dbl1";
//!     const VERSIONS: RangeInclusive<u16> = 1..=1;
//! }
//!
//! struct Doubler;
//!
//! impl Handler<Doubling> for Doubler {
//!     type Connection = ();
//!     fn on_connect(&self, _: &Context<Doubling>) {}
//!     async fn call(&self, _: &Context<Doubling>, (): &(), number: u64) -> u64 {
//!         number * 2
//!     }
//!     fn on_disconnect(&self, _: &Context<Doubling>, (): ()) {}
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("run");
//! socket::create_private_dir(&dir)?;
//! let path = dir.join("doubler.sock");
//! let stop = CancellationToken::new();
//! let listener = socket::bind(&path)?;
//! let server = tokio::spawn(RpcServer::serve([listener], Doubler, ServerOptions::default(), stop.clone()));
//!
//! let policy = ReconnectPolicy::default();
//! let client = connect_unix_with_reconnect(&path, policy, |connection: Connection<Doubling>| async move {
//!     connection.call(0).await?; // what the server must know of us again after each reconnection
//!     Ok(())
//! });
//! let client = client.await?;
//! assert_eq!(client.call(21).await?.response, 42);
//! client.close().await;
//! stop.cancel();
//! assert_eq!(server.await??, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! | promise | how it is kept |
//! |---|---|
//! | a call ends exactly once, at the latest at its deadline | one slot per call, in one state; the end of a connection empties all slots under the lock that lets calls in |
//! | an error says whether the request was executed, was not, or may have been | bytes taken by the kernel are counted, a goodbye says how many requests were read ([`CallError::executed`]) |
//! | order of [`RpcClient::start_call`] = order on the wire = order in which handlers start | one buffer, appended to under the lock; handlers are polled once on the spot |
//! | `on_reconnect` runs once on each connection, before anybody else may call on it | the swap judges, under the connection's lock, whether it still lives |
//! | nothing of a connection follows its [`Event::Down`] | events pass through the lock under which the connection ends |
//! | an idle connection never wakes its process | timers exist only while something is due |
//! | dropping the last handle ends all tasks and closes the socket | the reconnecting task holds the client weakly |
//! | no byte that was read is ever lost | one buffer per connection that outlives every read; no read in a `select!` |
//! | a hostile length allocates nothing | lengths are checked first, memory grows with bytes received, decoding is limited to the frame |
//! | both ends talk only to their own user | `SO_PEERCRED` before the first byte |
//!
//! # What happens when
//!
//! | fault | what its caller sees | what else |
//! |---|---|---|
//! | the server is killed, or crashes | [`CallError::ConnectionLost`] at once for every waiting call | `Down`; dialled again at once, then between 10 ms and 2 s, and as soon as its socket appears |
//! | the server is not up | [`CallError::Disconnected`] at once: never sent, never kept for later | as above; a lazy client starts like this |
//! | the server is stopped or stuck (`SIGSTOP`) | the call's deadline, at the latest [`CallError::ConnectionLost`] | found within 3 s while something is waited for ([`DownReason::Unresponsive`]); nothing is killed for it |
//! | the server is upgraded | running handlers end and answer ([`DRAIN_WAIT_MAX`]); what it had not read is known not to be executed | its goodbye counts the requests that it has read |
//! | a listener accepts and says nothing | as if it were not up | left after [`HELLO_WAIT`]; whoever takes over its path is found |
//! | `on_reconnect` fails, panics or hangs | the same | tried again on a new connection, with the delays of a failure |
//! | the server accepts and dies, again and again | the same | the delays grow until a call was answered |
//! | a handler panics, or its request cannot be read | [`CallError::HandlerFailed`], [`CallError::Rejected`] | no other call is touched |
//! | a handler never answers | [`CallError::Deadline`] | it is dropped at its deadline |
//! | an answer cannot be read, or is too large | [`CallError::Decode`], [`CallError::ResponseUnsendable`] | no other call is touched |
//! | the peer sends what is no frame | [`CallError::ConnectionLost`] | the connection ends with the reason; nothing is skipped |
//! | the server reads nothing | the deadline, or [`CallError::Overloaded`] from 8 MiB on; no caller ever blocks | found as unresponsive |
//! | events are not taken | nothing | the connection ends with [`DownReason::EventsFull`] after what was kept; no call waits for it |
//! | the client dies, or hangs up | – | its handlers are dropped, `on_disconnect` comes exactly once |
//! | the client reads nothing | – | from 1 MiB on its requests are not read or continued; after 5 s it is dropped |
//! | the server has no descriptors left | connections end at once instead of hanging | it goes on accepting after a pause |
//! | the call's future is dropped | – | its slot is free, its handler is dropped, its answer is nobody's |
//!
//! Each row is held by tests; `tests/README.md` has them by name, `tests/model.rs` walks through the interleavings.
//!
//! # What it is not
//!
//! No queue: a call that finds no connection fails at once, and what must survive an outage is the caller's to number,
//! keep and send again (`examples/session.rs`). No exactly-once *execution*: that needs such numbers; here is what they
//! can be built on. No TCP, no TLS, no streams, no other languages, no Windows, and no knowledge of what the messages
//! mean.
//!
//! # Runtimes
//!
//! Needs tokio with I/O and time enabled. A current-thread runtime on each end is fastest; every future is `Send`.
//! [`frame`], [`encode_into`]/[`decode`], [`Envelope`] and [`socket`] work without any runtime.

mod backoff;
mod call;
mod client;
mod clock;
mod codec;
mod dial;
mod driver;
mod envelope;
mod events;
pub mod frame;
mod handshake;
mod in_flight;
mod link;
mod outbound;
mod protocol;
mod reader;
mod reconnect;
mod server;
mod shared;
mod short_lock;
pub mod socket;
mod spin;
mod stream;
mod sync;
mod timer;
mod watch;

pub use backoff::{RETRY_DELAY_MAX, RETRY_DELAY_MIN, Schedule};
pub use call::{Answer, Call, CallError, Executed};
pub use client::{
    CALL_WAIT, CLOSE_WAIT_MAX, ConnectOptions, Connection, EVENTS_MAX, HELLO_WAIT, ON_RECONNECT_WAIT, OnReconnectError,
    ReconnectPolicy, RpcClient, connect_unix, connect_unix_lazy, connect_unix_with_reconnect,
};
pub use codec::{DecodeError, EncodeError, decode, encode_into};
pub use dial::DialError;
pub use driver::{PING_AFTER, PONG_WAIT_MAX};
pub use envelope::{Envelope, EnvelopeError, ErrorCode, GoodbyeReason};
pub use events::{EVENT_BYTES_MAX, Event, Events};
pub use handshake::{
    ABILITY_SPIN, Hello, HelloError, MAGIC, REFUSAL_TEXT_BYTES_MAX, Refusal, RefusalKind, Reply, Terms,
};
pub use link::{DownReason, OUT_BYTES_MAX};
pub use protocol::Protocol;
pub use server::{
    CONNECTIONS_MAX, Context, DRAIN_WAIT_MAX, HANDLER_WAIT_MAX, HELLO_DEADLINE, Handler, IN_FLIGHT_MAX, PUSH_BYTES_MAX,
    PushError, Pusher, RpcServer, ServerOptions, UNAUTHENTICATED_MAX, WRITE_WAIT_MAX,
};
pub use shared::State;
pub use spin::SPIN_WAIT_MAX;
pub use tokio_util::sync::CancellationToken;
pub use watch::SocketWatch;
