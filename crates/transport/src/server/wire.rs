//! What a connection's driver shares with everyone who sends to its client or ends it.
//!
//! Promises that sending never blocks: what has no room is refused. Keeps no connection alive: others hold it weakly.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use crate::codec::{EncodeError, encode_into};
use crate::envelope::{Envelope, ErrorCode, GoodbyeReason, push_head, response_head};
use crate::frame::{FRAME_BYTES_MAX, FrameError, append_frame};
use crate::outbound::Outbound;
use crate::protocol::Protocol;
use crate::stream::Stream;
use crate::sync::{ShortGuard, ShortMutex};

/// Bytes that wait for a client; from here on none of its requests is read, started or continued until it has taken
/// some. The most that a connection ever holds is this and one frame.
pub(crate) const OUT_BYTES_HIGH: usize = 1 << 20;
/// Bytes that wait for a client from which on a push is refused.
pub const PUSH_BYTES_MAX: usize = 1 << 20;
/// How long a client may take none of the bytes that wait for it; then it is dropped.
pub const WRITE_WAIT_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(PUSH_BYTES_MAX <= OUT_BYTES_HIGH);

pub(crate) struct Wire<P> {
    state: ShortMutex<State>,
    /// Set before a connection is closed at once: read before each handler is started.
    closed: AtomicBool,
    frame_bytes_max: u32,
    /// Messages are made from `&P::Push`, none is kept.
    protocol: std::marker::PhantomData<fn(P)>,
}

pub(crate) struct State {
    pub(crate) out: Outbound,
    pub(crate) close: Option<(GoodbyeReason, Manner)>,
    /// Nothing may follow a goodbye. Until it is said, handlers that still run may push as well as answer.
    pub(crate) said_goodbye: bool,
    ended: bool,
}

/// How a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Handlers that run are dropped.
    AtOnce,
    /// Handlers that run may end first.
    Drained,
}

impl<P: Protocol> Wire<P> {
    pub(crate) fn new(stream: Arc<Stream>, client_frame_bytes_max: u32) -> Arc<Self> {
        Arc::new(Self {
            state: ShortMutex::new(State {
                out: Outbound::new(stream),
                close: None,
                said_goodbye: false,
                ended: false,
            }),
            closed: AtomicBool::new(false),
            frame_bytes_max: FRAME_BYTES_MAX.min(client_frame_bytes_max),
            protocol: std::marker::PhantomData,
        })
    }

    pub(crate) fn lock(&self) -> ShortGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self, reason: GoodbyeReason, manner: Manner) {
        if manner == Manner::AtOnce {
            self.closed.store(true, Ordering::Release);
        }
        let waker = {
            let mut state = self.lock();
            match &mut state.close {
                Some((_, now)) if manner == Manner::AtOnce => *now = manner,
                Some(_) => {}
                none => *none = Some((reason, manner)),
            }
            // Even if the driver runs just now: it looks for this only when it begins.
            state.out.driver_waker()
        };
        wake(waker);
    }

    /// Lets go of the socket.
    pub(crate) fn end(&self) {
        self.closed.store(true, Ordering::Release);
        let mut state = self.lock();
        state.ended = true;
        drop(state.out.end_now()); // it is the driver that ends: nobody is to be woken
    }

    /// Appends an answer; the driver, whose task this is, flushes at the end of its round. Whether the client is still
    /// to be worked for: asked under this lock and not under one more for each request.
    pub(crate) fn answer(&self, id: u64, outcome: Result<P::Response, ErrorCode>) -> bool {
        let mut state = self.lock();
        let out = state.out.bytes();
        let code = match outcome {
            Ok(response) => match append_message(out, self.frame_bytes_max, &response_head(id), &response) {
                Ok(()) => return state.is_open(),
                Err(error) => {
                    tracing::warn!(%error, "a response cannot be sent");
                    ErrorCode::ResponseUnsendable
                }
            },
            Err(code) => code,
        };
        state.append(&Envelope::Error { id, code });
        state.is_open()
    }

    fn push(&self, message: &P::Push) -> Result<(), PushError> {
        let waker = {
            let state = &mut *self.lock();
            if state.ended || state.said_goodbye || matches!(state.close, Some((_, Manner::AtOnce))) {
                return Err(PushError::Closed);
            }
            if state.out.pending() >= PUSH_BYTES_MAX {
                return Err(PushError::Full);
            }
            let in_place = state.out.pending() == 0;
            append_message(state.out.bytes(), self.frame_bytes_max, &push_head(), message)?;
            state.out.send(in_place)
        };
        wake(waker);
        Ok(())
    }
}

impl State {
    /// Whether the client has taken enough of its answers to be worked for, and was not taken leave of.
    pub(crate) fn is_open(&self) -> bool {
        self.out.pending() < OUT_BYTES_HIGH && !self.said_goodbye
    }

    /// Appends the last frame; a second time it does nothing.
    pub(crate) fn say_goodbye(&mut self, reason: GoodbyeReason, requests_read: u64) {
        if !std::mem::replace(&mut self.said_goodbye, true) {
            self.append(&Envelope::Goodbye { reason, requests_read });
        }
    }

    /// Appends a frame without a payload. Its room is bounded by what was read: one such frame answers one of theirs.
    pub(crate) fn append(&mut self, envelope: &Envelope<'_>) {
        let appended = envelope.append_to(self.out.bytes(), FRAME_BYTES_MAX);
        debug_assert!(appended.is_ok(), "frames without a payload always fit");
    }
}

fn append_message(
    out: &mut Vec<u8>,
    frame_bytes_max: u32,
    head: &[u8],
    message: &impl serde::Serialize,
) -> Result<(), EncodeError> {
    let bytes_max = (frame_bytes_max as usize).saturating_sub(head.len());
    append_frame(out, frame_bytes_max, |out| {
        out.extend_from_slice(head);
        encode_into(message, out, bytes_max)
    })
}

impl From<FrameError> for EncodeError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLarge { bytes_max, .. } => Self::TooLarge { bytes_max: bytes_max as usize },
            FrameError::Empty => Self::Unwritable(Box::new(error)),
        }
    }
}

/// Why a push was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The client is slow: too much waits for it already. Nothing was sent.
    #[error("too much waits for the client already")]
    Full,
    /// The connection has ended, or is about to.
    #[error("the connection is closed")]
    Closed,
    /// The message is over the frame limit, or cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Sends to one client unasked, from any task or thread. Holds its connection weakly.
pub struct Pusher<P: Protocol> {
    wire: Weak<Wire<P>>,
}

impl<P: Protocol> Clone for Pusher<P> {
    fn clone(&self) -> Self {
        Self { wire: Weak::clone(&self.wire) }
    }
}

impl<P: Protocol> Pusher<P> {
    pub(crate) fn new(wire: Weak<Wire<P>>) -> Self {
        Self { wire }
    }

    /// Enqueues a message; never blocks. Success means "enqueued": it is lost if the connection is.
    ///
    /// # Errors
    /// See [`PushError`]; nothing of the message was sent.
    pub fn push(&self, message: &P::Push) -> Result<(), PushError> {
        self.wire.upgrade().ok_or(PushError::Closed)?.push(message)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
