//! Connecting without ever blocking, to a peer that is who it should be.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::address::Place;
use super::credentials::peer_credentials;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nothing is at the path: the server is not up, or not yet.
    #[error("nothing is at the socket's path")]
    NotFound,
    /// A socket is there and nobody listens: its server died.
    #[error("nobody listens at the socket")]
    Refused,
    /// The server accepts nothing (it is stopped or swamped) and its queue is full. Blocking would mean to wait for it.
    #[error("the server's queue of connections is full")]
    Busy,
    /// The server belongs to another user: nothing was said to it.
    #[error("the server runs as user {found}, not {expected}")]
    WrongUser {
        /// Who listens.
        found: u32,
        /// Who should.
        expected: u32,
    },
    /// The path cannot be used as a socket's address, or another failure of the system.
    #[error("failed to connect: {0}")]
    Io(#[from] io::Error),
}

/// Connects to the server at `path`, which must run as `uid`. The stream is non-blocking and close-on-exec.
///
/// # Errors
/// See [`ConnectError`]; it is returned at once, however busy or stopped the server is.
pub fn connect(path: &Path, uid: u32) -> Result<UnixStream, ConnectError> {
    let place = Place::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ConnectError::NotFound,
        _ => ConnectError::Io(error),
    })?;
    let stream = connect_to(&place.address(&place.name)?)?;
    let found = peer_credentials(&stream)?.uid;
    if found != uid {
        let expected = uid;
        return Err(ConnectError::WrongUser { found, expected });
    }
    Ok(stream)
}

pub(crate) fn connect_to(address: &SocketAddrUnix) -> Result<UnixStream, ConnectError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(io::Error::from)?;
    // A Unix socket connects at once or not at all; there is no "in progress".
    match rustix::net::connect(&socket, address) {
        Ok(()) => Ok(socket.into()),
        Err(Errno::NOENT) => Err(ConnectError::NotFound),
        Err(Errno::CONNREFUSED) => Err(ConnectError::Refused),
        Err(Errno::AGAIN) => Err(ConnectError::Busy),
        Err(error) => Err(ConnectError::Io(error.into())),
    }
}
