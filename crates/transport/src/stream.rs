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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;
    use crate::outbound::Outbound;

    async fn read(stream: &UnixStream, bytes_max: usize, received: &mut Vec<u8>) {
        let mut bytes = vec![0; bytes_max];
        stream.readable().await.unwrap();
        if let Ok(count) = stream.try_read(&mut bytes) {
            received.extend_from_slice(&bytes[..count]);
        }
    }

    /// Of `outbound`, but over this stream and not over the model's. More than a socket takes, in frames of all sizes, so that pieces begin, are cut by the kernel and used again.
    #[tokio::test]
    async fn a_long_queue_leaves_in_order_and_is_counted_rightly() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut out = Outbound::new(Arc::new(Stream::new(ours)));
        let mut cx = Context::from_waker(Waker::noop());
        let (mut expected, mut received) = (Vec::new(), Vec::new());
        for round in 0..40_usize {
            for frame in 0..round % 7 {
                let byte = u8::try_from((round * 7 + frame) % 251).unwrap();
                let bytes = vec![byte; (round * 31_337 + frame * 777) % 90_000];
                out.bytes().extend_from_slice(&bytes);
                expected.extend_from_slice(&bytes);
            }
            out.flush(&mut cx).unwrap();
            assert_eq!(out.end(), expected.len() as u64);
            assert_eq!(out.pending() as u64, out.end() - out.written());
            if out.written() > received.len() as u64 {
                read(&theirs, 60_000, &mut received).await;
            }
        }
        assert!(out.pending() > 1 << 20, "it was a long queue");
        while received.len() < expected.len() {
            read(&theirs, 100_000, &mut received).await;
            tokio::task::yield_now().await; // the runtime learns that the socket takes more
            out.flush(&mut cx).unwrap();
        }
        assert!(received == expected && out.pending() == 0 && out.is_idle_memory());
        out.shrink();
        assert!(!out.is_idle_memory());
    }
}
