//! The socket of one connection, as both drivers use it: reads into a frame buffer and writes, none of which waits.
//!
//! Owns what is particular about tokio's readiness. Knows no frames beyond the buffer that it fills; that the rest of the
//! crate names no other kind of stream lets `tests/model.rs` run the same code over one in memory.

use std::io;
use std::task::{Context, Poll};

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::frame::FrameBuffer;

#[derive(Debug)]
pub(crate) struct Stream {
    socket: UnixStream,
}

impl Stream {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket }
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(cx)
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Writes what the socket takes now.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.try_write(bytes)
    }

    /// One read into the buffer; `None` if there was nothing after all.
    ///
    /// A read that leaves room has emptied the socket, and says so to the runtime by a `WouldBlock` that no call
    /// returned: that saves the second read which would only find nothing (epoll is edge-triggered; the next byte is a
    /// new edge).
    pub(crate) fn read(&self, buffer: &mut FrameBuffer) -> io::Result<Option<usize>> {
        let mut count = None;
        let outcome = self.socket.try_io(Interest::READABLE, || {
            let spare = buffer.spare();
            let room = spare.len();
            match rustix::io::read(&self.socket, spare) {
                Ok(read) => {
                    count = Some(read);
                    if read == room || read == 0 {
                        return Ok(());
                    }
                    Err(io::ErrorKind::WouldBlock.into())
                }
                Err(Errno::INTR) => Ok(()),
                Err(error) => Err(error.into()),
            }
        });
        if let Some(read) = count {
            buffer.filled(read);
            return Ok(Some(read));
        }
        match outcome {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(None),
        }
    }

    /// One read past the runtime's readiness, which may not have heard yet; the socket never blocks. `None` if there is
    /// nothing, or no more: an end is there for [`read`](Self::read) as well.
    pub(crate) fn read_now(&self, buffer: &mut FrameBuffer) -> Option<usize> {
        let count = rustix::io::read(&self.socket, buffer.spare()).ok().filter(|count| *count > 0)?;
        buffer.filled(count);
        Some(count)
    }

    /// Ends both directions now, whoever else holds the socket.
    pub(crate) fn shutdown(&self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both); // a peer that is gone needs no telling
    }
}
