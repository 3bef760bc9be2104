//! One call: the future that waits for its answer, and what can become of it.
//!
//! Promises that a call ends exactly once, that dropping it frees its slot and tells the server, and that every error
//! says whether the request may have been executed. The waiting itself is the link's.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::envelope::ErrorCode;
use crate::link::Link;
use crate::protocol::Protocol;

/// What the server answered, and on which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<T> {
    /// The connection that the call went over; see [`Event::Up`](crate::Event::Up).
    pub generation: u64,
    /// The message.
    pub response: T,
}

/// Whether a request that has no answer was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executed {
    /// It was not, and will not be: it can be sent again.
    No,
    /// Its handler ran to its end; only the answer is missing.
    Yes,
    /// Nobody can tell: it must be safe to send again, or be asked about.
    Unknown,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// There is no connection now; nothing was sent. A reconnecting client is at work on one.
    #[error("not connected")]
    Disconnected,
    /// The connection ended while the call waited.
    #[error("the connection was lost")]
    ConnectionLost {
        /// False: the server has not read the request, and never will.
        maybe_executed: bool,
    },
    /// The deadline passed. The connection is still in use.
    #[error("no answer before the deadline")]
    Deadline {
        /// False: the request had not left this process, and its connection took nothing.
        maybe_executed: bool,
    },
    /// The client was closed, or its last handle dropped.
    #[error("the client is closed")]
    Closed {
        /// False: the server has not read the request, and never will.
        maybe_executed: bool,
    },
    /// The request is over the frame limit; nothing was sent.
    #[error("a request over the limit of {bytes_max} bytes")]
    TooLarge {
        /// The limit for the message, in bytes.
        bytes_max: usize,
    },
    /// The request cannot be written as bytes (its `Serialize` failed); nothing was sent.
    #[error("a request that cannot be written: {0}")]
    Unwritable(Arc<str>),
    /// Too many calls or bytes wait already, here or at the server; the request was not executed.
    #[error("too many calls are waiting")]
    Overloaded,
    /// An answer came that is no response of this conversation.
    #[error("an answer that cannot be read")]
    Decode,
    /// The server could not read the request; it was not executed.
    #[error("the server cannot read the request")]
    Rejected,
    /// The handler panicked; it may have done a part of its work.
    #[error("the handler failed")]
    HandlerFailed,
    /// The handler's answer was over the frame limit, or could not be written as bytes.
    #[error("the server cannot send its answer")]
    ResponseUnsendable,
    /// The server is ending; the request was not executed.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// A reason of a newer server.
    #[error("the server refused with code {0}")]
    Other(u16),
}

impl CallError {
    /// Whether the request was executed, as far as can be known here.
    pub fn executed(&self) -> Executed {
        match self {
            Self::ConnectionLost { maybe_executed }
            | Self::Deadline { maybe_executed }
            | Self::Closed { maybe_executed } => {
                if *maybe_executed {
                    Executed::Unknown
                } else {
                    Executed::No
                }
            }
            Self::Disconnected
            | Self::TooLarge { .. }
            | Self::Unwritable(_)
            | Self::Overloaded
            | Self::Rejected
            | Self::ShuttingDown => Executed::No,
            Self::Decode | Self::ResponseUnsendable => Executed::Yes,
            Self::HandlerFailed | Self::Other(_) => Executed::Unknown,
        }
    }
}

impl From<ErrorCode> for CallError {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::HandlerFailed => Self::HandlerFailed,
            ErrorCode::DeadlineExceeded => Self::Deadline { maybe_executed: true },
            ErrorCode::Undecodable => Self::Rejected,
            ErrorCode::ResponseUnsendable => Self::ResponseUnsendable,
            ErrorCode::Overloaded => Self::Overloaded,
            ErrorCode::ShuttingDown => Self::ShuttingDown,
            ErrorCode::Other(code) => Self::Other(code),
        }
    }
}

/// A call on its way: a future of its [`Answer`]. The request was enqueued when this was made, not when it is polled.
///
/// It does not keep the client alive: when the last handle is dropped, the call ends with [`CallError::Closed`].
///
/// # Cancel safety
/// Dropping it cancels the call: its slot is free at once, its answer is nobody's, and the server drops the handler.
/// The request may have been executed all the same.
#[must_use = "dropping a call cancels it"]
pub struct Call<P: Protocol> {
    state: State<P>,
}

enum State<P: Protocol> {
    Waiting { link: Arc<Link<P>>, id: u64, may_look: bool },
    Failed(CallError),
    Over,
}

impl<P: Protocol> Call<P> {
    pub(crate) fn waiting(link: Arc<Link<P>>, id: u64, may_look: bool) -> Self {
        Self { state: State::Waiting { link, id, may_look } }
    }

    pub(crate) fn failed(error: CallError) -> Self {
        Self { state: State::Failed(error) }
    }

    /// The connection that the request was enqueued on; `None` if it was not, or if the call is over.
    pub fn generation(&self) -> Option<u64> {
        match &self.state {
            State::Waiting { link, .. } => Some(link.generation()),
            State::Failed(_) | State::Over => None,
        }
    }
}

impl<P: Protocol> Future for Call<P> {
    type Output = Result<Answer<P::Response>, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let outcome = match &mut this.state {
            State::Waiting { link, id, may_look } => {
                if *may_look {
                    *may_look = link.look(*id, cx); // before the slot has a waker, or the task is woken for nothing
                }
                match link.poll_call(*id, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(outcome) => outcome.map(|response| Answer { generation: link.generation(), response }),
                }
            }
            State::Failed(error) => Err(error.clone()),
            // Polled after its end, which only a broken executor does; it must neither hang nor panic.
            State::Over => Err(CallError::Closed { maybe_executed: true }),
        };
        this.state = State::Over;
        Poll::Ready(outcome)
    }
}

/// Nothing in a call is pinned: an answer is moved out whole.
impl<P: Protocol> Unpin for Call<P> {}

impl<P: Protocol> Drop for Call<P> {
    fn drop(&mut self) {
        if let State::Waiting { link, id, .. } = &self.state {
            link.cancel(*id);
        }
    }
}
