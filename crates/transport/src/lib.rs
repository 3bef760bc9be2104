//! RPC over a Unix socket that reconnects by itself and answers every call exactly once.
mod backoff;
mod call;
mod client;
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
mod reconnect;
mod server;
pub mod socket;
mod watch;

pub use backoff::{RETRY_DELAY_MAX, RETRY_DELAY_MIN, Schedule};
pub use call::{Answer, Call, CallError, Executed};
pub use client::{
    CALL_WAIT, CLOSE_WAIT_MAX, ConnectOptions, Connection, EVENTS_MAX, HELLO_WAIT, ON_RECONNECT_WAIT, OnReconnectError,
    ReconnectPolicy, RpcClient, State, connect_unix, connect_unix_lazy, connect_unix_with_reconnect,
};
pub use codec::{DecodeError, EncodeError, decode, encode_into};
pub use dial::DialError;
pub use driver::{PING_AFTER, PONG_WAIT_MAX};
pub use envelope::{Envelope, EnvelopeError, ErrorCode, GoodbyeReason};
pub use events::{EVENT_BYTES_MAX, Event, Events};
pub use handshake::{Hello, HelloError, MAGIC, REFUSAL_TEXT_BYTES_MAX, Refusal, RefusalKind, Reply, Terms};
pub use link::{DownReason, OUT_BYTES_MAX};
pub use protocol::Protocol;
pub use server::{
    CONNECTIONS_MAX, Context, DRAIN_WAIT_MAX, HANDLER_WAIT_MAX, HELLO_DEADLINE, Handler, IN_FLIGHT_MAX, PUSH_BYTES_MAX,
    PushError, Pusher, RpcServer, ServerOptions, UNAUTHENTICATED_MAX, WRITE_WAIT_MAX,
};
pub use tokio_util::sync::CancellationToken;
pub use watch::SocketWatch;
