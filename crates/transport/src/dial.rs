//! Connect and say Hello, once. Promises a live driver or an error, within the caller's time limits; tries nothing again.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::client::ConnectOptions;
use crate::driver::{Driver, PING_AFTER};
use crate::frame::{FRAME_BYTES_MAX, FrameBuffer, FrameError, HELLO_FRAME_BYTES_MAX};
use crate::handshake::{ABILITY_SPIN, Hello, HelloError, Refusal, Reply, Terms};
use crate::link::{DownReason, Link};
use crate::protocol::Protocol;
use crate::socket::{self, ConnectError};
use crate::stream::Stream;

/// Why a connection was not made, or is not there any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// There is no server, or none that may be talked to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server speaks something else.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The server's first frame is no frame, or too large for a Hello.
    #[error("the server sent {0}")]
    Frame(#[from] FrameError),
    /// The server accepted and said nothing in time: it is stopped, or stuck.
    #[error("the server did not answer the Hello within {0:?}")]
    HelloTimeout(Duration),
    /// The connection broke during the Hello.
    #[error("the connection broke during the Hello: {0}")]
    Io(#[from] io::Error),
    /// `on_reconnect` returned an error.
    #[error("on_reconnect failed: {0}")]
    OnReconnect(Box<dyn std::error::Error + Send + Sync>),
    /// `on_reconnect` panicked.
    #[error("on_reconnect panicked")]
    OnReconnectPanicked,
    /// `on_reconnect` did not end in time.
    #[error("on_reconnect did not end within {0:?}")]
    OnReconnectTimeout(Duration),
    /// The connection was lost: after it had come into use, or before that, during `on_reconnect`.
    #[error("the connection was lost: {0}")]
    Lost(#[from] DownReason),
}

/// A connection that has ended its Hello and runs. Ends with this value unless `keep` is called.
pub(crate) struct Dialed<P: Protocol> {
    pub(crate) link: Arc<Link<P>>,
    pub(crate) ended: oneshot::Receiver<DownReason>,
    kept: bool,
}

impl<P: Protocol> Dialed<P> {
    /// From here on the connection lives by itself.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }
}

impl<P: Protocol> Drop for Dialed<P> {
    fn drop(&mut self) {
        if !self.kept {
            self.link.end(DownReason::NotProved);
        }
    }
}

/// Connects to the server at `path`, and starts the driver on `tasks`.
///
/// # Cancel safety
/// Dropping the future closes the socket.
pub(crate) async fn dial<P: Protocol>(
    path: &Path,
    options: &ConnectOptions,
    generation: u64,
    tasks: &TaskTracker,
) -> Result<Dialed<P>, DialError> {
    let stream = Stream::new(UnixStream::from_std(socket::connect(path, options.server_uid)?)?);
    let hello_wait = options.hello_wait;
    let mut buffer = FrameBuffer::new(HELLO_FRAME_BYTES_MAX);
    let terms = tokio::time::timeout(hello_wait, greet::<P>(&stream, &mut buffer, options.spin))
        .await
        .map_err(|_| DialError::HelloTimeout(hello_wait))??;
    buffer.set_limit(FRAME_BYTES_MAX);
    let stream = Arc::new(stream);
    let (link, ended) = Link::new(generation, terms, FRAME_BYTES_MAX, Arc::clone(&stream), buffer, options.spin);
    tasks.spawn(Driver::new(Arc::clone(&link), stream));
    let kept = false;
    Ok(Dialed { link, ended, kept })
}

async fn greet<P: Protocol>(stream: &Stream, buffer: &mut FrameBuffer, spin: bool) -> Result<Terms, DialError> {
    let hello = Hello {
        name: P::NAME,
        versions: P::VERSIONS,
        frame_bytes_max: FRAME_BYTES_MAX,
        heartbeat_ms: u32::try_from(PING_AFTER.as_millis()).unwrap_or(u32::MAX),
        abilities: if spin { ABILITY_SPIN } else { 0 },
    };
    let mut bytes = Vec::new();
    hello.append_to(&mut bytes)?;
    // A server that refuses unheard (it is full) may have closed already: its reply counts, not our failure to write.
    let written = write_all(stream, &bytes).await;
    let body = match read_frame(stream, buffer).await {
        Ok(body) => body,
        Err(FirstFrameError::Frame(error)) => return Err(error.into()),
        Err(FirstFrameError::Io(error)) => return Err(written.err().unwrap_or(error).into()),
    };
    match Reply::parse(body, &hello)? {
        Reply::Accepted(terms) => Ok(terms),
        Reply::Refused(refusal) => Err(refusal.into()),
    }
}

pub(crate) enum FirstFrameError {
    Frame(FrameError),
    Io(io::Error),
}

/// Waits for one whole frame; what comes after it stays in `buffer`.
pub(crate) async fn read_frame<'b>(stream: &Stream, buffer: &'b mut FrameBuffer) -> Result<&'b [u8], FirstFrameError> {
    while !buffer.has_frame().map_err(FirstFrameError::Frame)? {
        stream.readable().await.map_err(FirstFrameError::Io)?;
        if stream.read(buffer).map_err(FirstFrameError::Io)? == Some(0) {
            return Err(FirstFrameError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    match buffer.next_frame() {
        Ok(Some(body)) => Ok(body),
        Ok(None) => Err(FirstFrameError::Io(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(FirstFrameError::Frame(error)),
    }
}

pub(crate) async fn write_all(stream: &Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
