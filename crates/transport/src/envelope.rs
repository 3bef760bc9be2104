//! What the body of a frame begins with after the Hello: its kind, and the fixed fields of that kind.
//!
//! Promises one meaning per byte string: unknown kinds and wrong lengths are errors, never skipped, because a skipped
//! frame may be one that somebody waits for. Knows nothing of the payload. Source: docs/wire.md.

use crate::frame::{FrameError, append_frame};

/// Bytes of a request's body before its payload: kind, id, deadline.
pub(crate) const REQUEST_HEAD_BYTES: usize = 1 + 8 + 4;
/// Bytes of an answer's body before its payload: kind, id.
pub(crate) const RESPONSE_HEAD_BYTES: usize = 1 + 8;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const ERROR: u8 = 3;
const CANCEL: u8 = 4;
const PUSH: u8 = 5;
const PING: u8 = 6;
const PONG: u8 = 7;
const GOODBYE: u8 = 8;

/// One frame after the Hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope<'a> {
    /// Client to server: a call.
    Request {
        /// Chosen by the client; comes back in the answer. May be used again once the call has ended.
        id: u64,
        /// How long the answer is of use, in ms from its arrival; 0: as long as the server likes.
        deadline_ms: u32,
        /// The message.
        payload: &'a [u8],
    },
    /// Server to client: the answer to a call.
    Response {
        /// Of the request.
        id: u64,
        /// The message.
        payload: &'a [u8],
    },
    /// Server to client: there is no answer, and why.
    Error {
        /// Of the request.
        id: u64,
        /// Why.
        code: ErrorCode,
    },
    /// Client to server: nobody waits for this answer any more. Of an unknown id it says nothing.
    Cancel {
        /// Of the request.
        id: u64,
    },
    /// Server to client, unasked.
    Push {
        /// The message.
        payload: &'a [u8],
    },
    /// Either way: say that you live.
    Ping,
    /// The answer to a ping.
    Pong,
    /// The sender ends the connection after this frame.
    Goodbye {
        /// Why.
        reason: GoodbyeReason,
        /// How many requests the sender has read on this connection; later ones were not executed.
        requests_read: u64,
    },
}

/// Why a request got no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The handler panicked; it may have done a part of its work.
    HandlerFailed,
    /// The request's deadline passed first; the handler was dropped where it stood.
    DeadlineExceeded,
    /// The payload is not a request of this conversation; nothing was executed.
    Undecodable,
    /// The handler answered with a message over the frame limit, or one that cannot be written.
    ResponseUnsendable,
    /// More requests wait on this connection than the server allows; this one was not executed.
    Overloaded,
    /// The server is ending; this one was not executed.
    ShuttingDown,
    /// A code of a newer peer.
    Other(u16),
}

impl ErrorCode {
    fn to_wire(self) -> u16 {
        match self {
            Self::HandlerFailed => 1,
            Self::DeadlineExceeded => 2,
            Self::Undecodable => 3,
            Self::ResponseUnsendable => 4,
            Self::Overloaded => 5,
            Self::ShuttingDown => 6,
            Self::Other(code) => code,
        }
    }

    fn from_wire(code: u16) -> Self {
        match code {
            1 => Self::HandlerFailed,
            2 => Self::DeadlineExceeded,
            3 => Self::Undecodable,
            4 => Self::ResponseUnsendable,
            5 => Self::Overloaded,
            6 => Self::ShuttingDown,
            code => Self::Other(code),
        }
    }
}

/// Why an end of a connection says goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoodbyeReason {
    /// The client is done.
    Closing,
    /// The server ends; another one may take its place.
    ShuttingDown,
    /// A newer connection has taken over what this one held.
    Superseded,
    /// The client sent what is no frame, or one that means nothing.
    Malformed,
    /// A reason of the application, or of a newer peer. Codes below 256 belong to this crate.
    Other(u16),
}

impl GoodbyeReason {
    fn to_wire(self) -> u16 {
        match self {
            Self::Closing => 1,
            Self::ShuttingDown => 2,
            Self::Superseded => 3,
            Self::Malformed => 4,
            Self::Other(code) => code,
        }
    }

    fn from_wire(code: u16) -> Self {
        match code {
            1 => Self::Closing,
            2 => Self::ShuttingDown,
            3 => Self::Superseded,
            4 => Self::Malformed,
            code => Self::Other(code),
        }
    }
}

/// Why a frame's body is no envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// A kind that this version does not know. New kinds are sent only to peers whose Hello announced them.
    #[error("a frame of unknown kind {kind}")]
    UnknownKind {
        /// The first byte of the body.
        kind: u8,
    },
    /// A kind with the wrong number of bytes.
    #[error("a frame of kind {kind} with {bytes} bytes")]
    Length {
        /// The first byte of the body.
        kind: u8,
        /// Length of the body.
        bytes: usize,
    },
    /// A kind that only the other side may send.
    #[error("a frame of kind {kind} from the wrong side")]
    WrongSide {
        /// The first byte of the body.
        kind: u8,
    },
}

impl<'a> Envelope<'a> {
    /// Reads the body of a frame.
    ///
    /// # Errors
    /// See [`EnvelopeError`]; never [`EnvelopeError::WrongSide`], which is for the driver to say.
    pub fn parse(body: &'a [u8]) -> Result<Self, EnvelopeError> {
        let Some((&kind, rest)) = body.split_first() else {
            return Err(EnvelopeError::Length { kind: 0, bytes: 0 });
        };
        let mut fields = Fields { rest };
        let envelope = match kind {
            REQUEST => {
                (|| Some(Self::Request { id: fields.u64()?, deadline_ms: fields.u32()?, payload: fields.payload() }))()
            }
            RESPONSE => (|| Some(Self::Response { id: fields.u64()?, payload: fields.payload() }))(),
            ERROR => (|| Some(Self::Error { id: fields.u64()?, code: ErrorCode::from_wire(fields.u16()?) }))(),
            CANCEL => fields.u64().map(|id| Self::Cancel { id }),
            PUSH => Some(Self::Push { payload: fields.payload() }),
            PING => Some(Self::Ping),
            PONG => Some(Self::Pong),
            GOODBYE => (|| {
                Some(Self::Goodbye { reason: GoodbyeReason::from_wire(fields.u16()?), requests_read: fields.u64()? })
            })(),
            kind => return Err(EnvelopeError::UnknownKind { kind }),
        };
        let bytes = body.len();
        envelope.filter(|_| fields.rest.is_empty()).ok_or(EnvelopeError::Length { kind, bytes })
    }

    /// The first byte of the body.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Request { .. } => REQUEST,
            Self::Response { .. } => RESPONSE,
            Self::Error { .. } => ERROR,
            Self::Cancel { .. } => CANCEL,
            Self::Push { .. } => PUSH,
            Self::Ping => PING,
            Self::Pong => PONG,
            Self::Goodbye { .. } => GOODBYE,
        }
    }

    /// Writes the body.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Request { id, deadline_ms, payload } => {
                out.extend_from_slice(&request_head(id, deadline_ms));
                out.extend_from_slice(payload);
            }
            Self::Response { id, payload } => {
                out.extend_from_slice(&response_head(id));
                out.extend_from_slice(payload);
            }
            Self::Error { id, code } => {
                out.push(ERROR);
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&code.to_wire().to_le_bytes());
            }
            Self::Cancel { id } => {
                out.push(CANCEL);
                out.extend_from_slice(&id.to_le_bytes());
            }
            Self::Push { payload } => {
                out.push(PUSH);
                out.extend_from_slice(payload);
            }
            Self::Ping => out.push(PING),
            Self::Pong => out.push(PONG),
            Self::Goodbye { reason, requests_read } => {
                out.push(GOODBYE);
                out.extend_from_slice(&reason.to_wire().to_le_bytes());
                out.extend_from_slice(&requests_read.to_le_bytes());
            }
        }
    }

    /// Appends this envelope as a whole frame.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] if its payload does not fit into a frame of `bytes_max`.
    pub fn append_to(&self, out: &mut Vec<u8>, bytes_max: u32) -> Result<(), FrameError> {
        append_frame(out, bytes_max, |out| {
            self.write(out);
            Ok(())
        })
    }
}

/// What the body of a request begins with; its payload follows. Of itself, because in one piece it takes a third of
/// the instructions, and each call has one.
pub(crate) fn request_head(id: u64, deadline_ms: u32) -> [u8; REQUEST_HEAD_BYTES] {
    let mut head = [REQUEST; REQUEST_HEAD_BYTES];
    head[1..9].copy_from_slice(&id.to_le_bytes());
    head[9..].copy_from_slice(&deadline_ms.to_le_bytes());
    head
}

/// The same of a response.
pub(crate) fn response_head(id: u64) -> [u8; RESPONSE_HEAD_BYTES] {
    let mut head = [RESPONSE; RESPONSE_HEAD_BYTES];
    head[1..].copy_from_slice(&id.to_le_bytes());
    head
}

/// The same of a push.
pub(crate) fn push_head() -> [u8; 1] {
    [PUSH]
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*field)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn payload(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}
