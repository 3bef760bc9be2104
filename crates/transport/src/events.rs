//! What happened to a client, in order: up, pushes, down.
//!
//! Promises that nothing of a generation comes after its `Down`, and that a consumer which does not drain stalls nobody
//! and costs bounded memory: when its queue is full the connection is closed, which the consumer sees as the `Down`
//! after what it has missed. Knows neither sockets nor calls.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::link::DownReason;
use crate::protocol::Protocol;
use crate::sync::Mutex;

/// Pushes that wait for a consumer, in bytes as received; the next one closes the connection.
pub const EVENT_BYTES_MAX: usize = 8 << 20;

/// One thing that happened to a client.
pub enum Event<P: Protocol> {
    /// A connection is in use: `on_reconnect` has succeeded on it.
    Up {
        /// Numbers the connections of this client, from 1, upwards; those that never came up leave holes.
        generation: u64,
    },
    /// The server said something.
    Push {
        /// The connection it came on.
        generation: u64,
        /// What it said.
        message: P::Push,
    },
    /// The connection has ended; nothing of it follows.
    Down {
        /// The connection.
        generation: u64,
        /// Why.
        reason: DownReason,
    },
}

impl<P: Protocol> std::fmt::Debug for Event<P>
where
    P::Push: std::fmt::Debug,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Up { generation } => write!(f, "Up({generation})"),
            Self::Push { generation, message } => write!(f, "Push({generation}, {message:?})"),
            Self::Down { generation, reason } => write!(f, "Down({generation}, {reason:?})"),
        }
    }
}

/// The queue between a client's drivers and its one consumer.
pub(crate) struct EventQueue<P: Protocol> {
    queue: Mutex<Queue<P>>,
    events_max: usize,
}

struct Queue<P: Protocol> {
    events: VecDeque<(Event<P>, usize)>,
    bytes: usize,
    waker: Option<Waker>,
    /// Which stream may take events: the last one made.
    consumer: u64,
    /// Whether that stream exists.
    listening: bool,
    /// The connection that is up.
    up: Option<u64>,
    closed: bool,
}

/// The queue has no room: the connection must go.
#[derive(Debug)]
pub(crate) struct EventsFull;

impl<P: Protocol> EventQueue<P> {
    pub(crate) fn new(events_max: usize) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue {
                events: VecDeque::new(),
                bytes: 0,
                waker: None,
                consumer: 0,
                listening: false,
                up: None,
                closed: false,
            }),
            events_max,
        })
    }

    pub(crate) fn up(&self, generation: u64) {
        let waker = {
            let mut queue = self.queue.lock();
            queue.up = Some(generation);
            queue.add(Event::Up { generation }, 0)
        };
        wake(waker);
    }

    pub(crate) fn down(&self, generation: u64, reason: DownReason) {
        let waker = {
            let mut queue = self.queue.lock();
            queue.up = None;
            let unseen = matches!(queue.events.back(), Some((Event::Up { generation: up }, _)) if *up == generation);
            if unseen && queue.events.len() >= self.events_max {
                // Up and down again while nobody drains: left out, or a flapping server would grow the queue.
                queue.events.pop_back();
                None
            } else {
                queue.add(Event::Down { generation, reason }, 0)
            }
        };
        wake(waker);
    }

    /// `bytes` is what the message took on the wire.
    pub(crate) fn push(&self, generation: u64, message: P::Push, bytes: usize) -> Result<(), EventsFull> {
        let waker = {
            let mut queue = self.queue.lock();
            if queue.events.len() >= self.events_max || queue.bytes + bytes > EVENT_BYTES_MAX {
                if queue.listening {
                    return Err(EventsFull);
                }
                // Nobody listens: there is no consumer to be slow, and nothing to keep pushes for.
                queue.start_over();
                return Ok(());
            }
            queue.add(Event::Push { generation, message }, bytes)
        };
        wake(waker);
        Ok(())
    }

    pub(crate) fn close(&self) {
        let waker = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            queue.waker.take()
        };
        wake(waker);
    }

    pub(crate) fn consume(self: &Arc<Self>) -> Events<P> {
        let (consumer, waker) = {
            let mut queue = self.queue.lock();
            queue.consumer += 1;
            queue.listening = true;
            (queue.consumer, queue.waker.take())
        };
        wake(waker);
        Events { queue: Arc::clone(self), consumer }
    }
}

impl<P: Protocol> Queue<P> {
    /// Forgets everything but that a connection is up, which is what a stream made later must begin with.
    fn start_over(&mut self) {
        self.events.clear();
        self.bytes = 0;
        if let Some(generation) = self.up {
            self.events.push_back((Event::Up { generation }, 0));
        }
    }

    #[must_use]
    fn add(&mut self, event: Event<P>, bytes: usize) -> Option<Waker> {
        self.events.push_back((event, bytes));
        self.bytes += bytes;
        self.waker.take()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The events of one client, in order. A stream that is made later takes over, and this one ends.
///
/// While no stream exists, pushes are kept up to the queue's bound and then dropped, all but the fact that a connection
/// is up; no connection is closed for a consumer that does not exist.
pub struct Events<P: Protocol> {
    queue: Arc<EventQueue<P>>,
    consumer: u64,
}

impl<P: Protocol> Events<P> {
    /// Waits for the next event; `None` once the client is closed (or another stream was made) and all is taken.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event<P>> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<Event<P>>> {
        let mut queue = self.queue.queue.lock();
        if queue.consumer != self.consumer {
            return Poll::Ready(None);
        }
        if let Some((event, bytes)) = queue.events.pop_front() {
            queue.bytes -= bytes;
            return Poll::Ready(Some(event));
        }
        if queue.closed {
            return Poll::Ready(None);
        }
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<P: Protocol> Drop for Events<P> {
    fn drop(&mut self) {
        let mut queue = self.queue.queue.lock();
        if queue.consumer == self.consumer {
            queue.listening = false;
            queue.start_over();
        }
    }
}

impl<P: Protocol> futures::Stream for Events<P> {
    type Item = Event<P>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}
