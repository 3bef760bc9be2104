//! Unix sockets as files: bound without a window, replaced only when dead, never unlinked when foreign.
//!
//! Promises that a bound socket has mode 0600 from its first moment and appears at its path only when it listens, that
//! nothing but a dead socket of our own is ever replaced, and that connecting never blocks. Works without tokio, for
//! blocking programs too. Does not lock: of two processes that want one path, the one with the lock should call.

mod address;
mod bind;
mod connect;
mod credentials;
mod dead;

pub(crate) use address::directory_of;
pub use bind::{BindError, BoundSocket, ForeignKind, SocketFile, bind, create_private_dir};
pub use connect::{ConnectError, connect};
pub use credentials::{PeerCredentials, own_uid, peer_credentials};
pub use dead::{DEAD_FOR_MIN, remove_dead};
