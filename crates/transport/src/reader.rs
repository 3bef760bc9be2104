//! The reading half of a client's connection: bytes to answers and pushes, handed to the link in batches.
//!
//! Promises that nothing read is ever lost, whoever reads: the buffer stays, and one reader at a time has it under its
//! lock (the driver, or a caller that looks for its own answer). Neither waits nor knows of time-outs.

use std::io;
use std::task::Waker;

use tokio::time::Instant;

use crate::call::CallError;
use crate::codec::decode;
use crate::envelope::{Envelope, EnvelopeError};
use crate::frame::FrameBuffer;
use crate::link::{DownReason, Link, Received};
use crate::protocol::Protocol;
use crate::stream::Stream;

pub(crate) struct Reader<P: Protocol> {
    buffer: FrameBuffer,
    batch: Vec<Received<P>>,
    wakers: Vec<Waker>,
    /// When the last byte came.
    heard: Instant,
}

impl<P: Protocol> Reader<P> {
    /// `buffer` holds what came with the Hello already.
    pub(crate) fn new(buffer: FrameBuffer) -> Self {
        Self { buffer, batch: Vec::new(), wakers: Vec::new(), heard: Instant::now() }
    }

    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    pub(crate) fn buffer(&mut self) -> &mut FrameBuffer {
        &mut self.buffer
    }

    /// Reads once, if the runtime says that there is something; `None` if there was nothing after all.
    ///
    /// # Errors
    /// The connection has ended, or must.
    pub(crate) fn read(&mut self, link: &Link<P>, stream: &Stream) -> Result<Option<usize>, DownReason> {
        let count = stream.read(&mut self.buffer).map_err(|error| down_reason(&error))?;
        self.took(link, count)
    }

    /// Reads once past the runtime's readiness, which may not have heard yet. `None` if there is nothing.
    ///
    /// # Errors
    /// The connection must end. Its mere end is reported as `None`: it is there for the next read as well.
    pub(crate) fn read_now(&mut self, link: &Link<P>, stream: &Stream) -> Result<Option<usize>, DownReason> {
        match stream.read_now(&mut self.buffer) {
            Some(count) => self.took(link, Some(count)),
            None => Ok(None),
        }
    }

    fn took(&mut self, link: &Link<P>, count: Option<usize>) -> Result<Option<usize>, DownReason> {
        match count {
            None => {}
            Some(0) => return Err(DownReason::PeerClosed),
            Some(_) => {
                self.heard = Instant::now();
                self.take_frames(link)?;
            }
        }
        Ok(count)
    }

    /// Hands out every whole frame that is there. What came before a bad one counts.
    pub(crate) fn take_frames(&mut self, link: &Link<P>) -> Result<(), DownReason> {
        let parsed = loop {
            match self.buffer.next_frame() {
                Ok(None) => break Ok(()),
                Ok(Some(body)) => match receive(body) {
                    Ok(Some(received)) => self.batch.push(received),
                    Ok(None) => {}
                    Err(reason) => break Err(reason),
                },
                Err(error) => break Err(error.into()),
            }
        };
        let delivered = if self.batch.is_empty() { Ok(()) } else { link.deliver(&mut self.batch, &mut self.wakers) };
        self.wakers.drain(..).for_each(Waker::wake);
        delivered.and(parsed)
    }
}

fn down_reason(error: &io::Error) -> DownReason {
    match error.kind() {
        io::ErrorKind::ConnectionReset => DownReason::PeerClosed,
        kind => DownReason::Read(kind),
    }
}

/// What a frame means for a client; a pong means nothing more than that it came.
fn receive<P: Protocol>(body: &[u8]) -> Result<Option<Received<P>>, DownReason> {
    let envelope = Envelope::parse(body)?;
    Ok(Some(match envelope {
        Envelope::Response { id, payload } => {
            let answer = decode(payload).map_err(|error| {
                tracing::warn!(%error, "an answer cannot be read");
                CallError::Decode
            });
            Received::Answer(id, answer)
        }
        Envelope::Error { id, code } => Received::Answer(id, Err(code.into())),
        Envelope::Push { payload } => match decode(payload) {
            Ok(message) => Received::Push(message, body.len()),
            Err(_) => return Err(DownReason::PushUndecodable),
        },
        Envelope::Ping => Received::Ping,
        Envelope::Pong => return Ok(None),
        Envelope::Goodbye { reason, requests_read } => Received::Goodbye(reason, requests_read),
        Envelope::Request { .. } | Envelope::Cancel { .. } => {
            let kind = envelope.kind();
            return Err(EnvelopeError::WrongSide { kind }.into());
        }
    }))
}
