//! What all clones of a client share: the connection in use, to be swapped whole, and the state that people watch.
//!
//! Promises that a connection which has ended is never put into use, that "closed" is never taken back, and that dropping
//! the last handle closes. Dials nothing: that is `reconnect`'s, which holds this weakly.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::call::{Call, CallError};
use crate::dial::DialError;
use crate::events::EventQueue;
use crate::link::{DownReason, Link};
use crate::protocol::Protocol;
use crate::sync::ShortMutex;

/// Whether calls have a connection to go to.
#[derive(Debug, Clone)]
pub enum State {
    /// No. Calls fail at once; a reconnecting client is at work.
    Disconnected {
        /// What the last try, or the last connection, ended with; `None` before the first.
        last_error: Option<Arc<DialError>>,
    },
    /// Yes.
    Connected {
        /// Which one; see [`Event::Up`](crate::Event::Up).
        generation: u64,
        /// The version that is spoken on it.
        version: u16,
    },
    /// Never again: the client was closed, or was made without reconnecting and has lost its connection.
    Closed,
}

impl State {
    /// Whether calls have a connection to go to.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// What all clones of a client share; its tasks hold it weakly.
pub(crate) struct Shared<P: Protocol> {
    inner: ShortMutex<Inner<P>>,
    pub(crate) call_wait: Duration,
    pub(crate) events: Arc<EventQueue<P>>,
    pub(crate) state: watch::Sender<State>,
    pub(crate) poke: Arc<Notify>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// The connection in use, to be swapped whole.
struct Inner<P: Protocol> {
    sender: Option<Arc<Link<P>>>,
    closed: bool,
}

impl<P: Protocol> Shared<P> {
    pub(crate) fn new(call_wait: Duration, events_max: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: ShortMutex::new(Inner { sender: None, closed: false }),
            call_wait,
            events: EventQueue::new(events_max),
            state: watch::Sender::new(State::Disconnected { last_error: None }),
            poke: Arc::new(Notify::new()),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Puts a proven connection into use. One that has ended meanwhile never is: the link itself judges, under its
    /// lock, in the same moment in which its events are let through.
    pub(crate) fn swap_in(&self, link: &Arc<Link<P>>) -> Result<(), DownReason> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(DownReason::Closed);
        }
        link.attach(&self.events)?;
        inner.sender = Some(Arc::clone(link));
        let (generation, version) = (link.generation(), link.terms().version);
        self.state.send_replace(State::Connected { generation, version });
        Ok(())
    }

    /// Says that there is no connection; never takes back that the client is closed.
    pub(crate) fn set_down(&self, state: State) {
        let mut inner = self.inner.lock();
        inner.sender = None;
        inner.closed |= matches!(state, State::Closed);
        self.state.send_if_modified(|current| {
            let open = !matches!(current, State::Closed);
            if open {
                *current = state;
            }
            open
        });
    }

    /// Enqueues on the connection in use, or fails at once.
    pub(crate) fn start_call(&self, request: &P::Request, wait: Duration) -> Call<P> {
        let sender = {
            let inner = self.inner.lock();
            match &inner.sender {
                Some(sender) => Arc::clone(sender),
                None if inner.closed => {
                    return Call::failed(CallError::Closed { maybe_executed: false });
                }
                None => return Call::failed(CallError::Disconnected),
            }
        };
        sender.start_call(request, wait)
    }

    /// Lets no call in any more and returns the connection that was in use.
    pub(crate) fn begin_close(&self) -> Option<Arc<Link<P>>> {
        let mut inner = self.inner.lock();
        inner.closed = true;
        self.stop.cancel();
        self.tasks.close();
        inner.sender.clone()
    }

    /// Ends what is left, and says so.
    pub(crate) fn end_close(&self) {
        if let Some(link) = self.inner.lock().sender.take() {
            link.end(DownReason::Closed);
        }
        self.events.close();
        self.state.send_replace(State::Closed);
    }
}

impl<P: Protocol> Drop for Shared<P> {
    fn drop(&mut self) {
        self.begin_close();
        self.end_close();
    }
}
