//! The handlers of one connection: started in order, polled once on the spot, kept in a bounded set if not done.
//!
//! Promises that each started handler ends in exactly one outcome (its answer, a panic, its deadline, or that it was
//! cancelled), and that one which is done at once costs no allocation. Knows neither bytes nor sockets.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::Stream as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::envelope::ErrorCode;

/// What became of a handler; `None`: cancelled, nobody wants to know.
pub(crate) type Outcome<R> = Option<Result<R, ErrorCode>>;

pub(crate) struct Handlers<F: Future> {
    running: FuturesUnordered<Running<F>>,
    /// A box for the next handler. Most are done at their first poll and leave it for the one after.
    spare: Option<Pin<Box<Option<F>>>>,
    /// Handlers in the set that were not ended from outside.
    live: usize,
    live_max: usize,
    /// No deadline of a running handler is earlier.
    earliest: Option<Instant>,
}

impl<F: Future> Handlers<F> {
    pub(crate) fn new(live_max: u32) -> Self {
        Self { running: FuturesUnordered::new(), spare: None, live: 0, live_max: live_max as usize, earliest: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether one more may not be started. A cancelled one makes room at once, although the set forgets it only when
    /// it is polled next; the second condition bounds how many of those there are.
    pub(crate) fn is_full(&self) -> bool {
        self.live >= self.live_max || self.running.len() / 2 >= self.live_max
    }

    /// When the next deadline may pass.
    pub(crate) fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Starts a handler and polls it once; what it returns at once is the outcome, else it runs on.
    pub(crate) fn start(
        &mut self,
        id: u64,
        deadline: impl FnOnce() -> Instant,
        handler: impl FnOnce() -> F,
    ) -> Option<Result<F::Output, ErrorCode>> {
        let mut future = self.spare.take().unwrap_or_else(|| Box::pin(None));
        // Nobody is to be woken by this first poll: what is kept is polled again at once by the set, with its waker.
        let mut cx = Context::from_waker(Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.set(Some(handler()));
            poll_in(&mut future, &mut cx)
        }));
        match polled {
            Ok(Poll::Pending) => {
                let deadline = deadline();
                self.earliest = Some(self.earliest.map_or(deadline, |least| least.min(deadline)));
                self.live += 1;
                self.running.push(Running { id, deadline, future, ended: None, waker: None });
                None
            }
            Ok(Poll::Ready(output)) => {
                future.set(None);
                self.spare = Some(future);
                Some(Ok(output))
            }
            Err(_) => Some(Err(ErrorCode::HandlerFailed)),
        }
    }

    /// The next handler that has ended, with its request's id; pending while all run, or if there is none.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(u64, Outcome<F::Output>)> {
        match Pin::new(&mut self.running).poll_next(cx) {
            Poll::Ready(Some((id, Ending::ByItself(outcome)))) => {
                self.live -= 1;
                Poll::Ready((id, Some(outcome)))
            }
            Poll::Ready(Some((id, Ending::Expired))) => Poll::Ready((id, Some(Err(ErrorCode::DeadlineExceeded)))),
            Poll::Ready(Some((id, Ending::Cancelled))) => Poll::Ready((id, None)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Drops the handlers of these requests (sorted ids): one walk for a whole batch.
    pub(crate) fn cancel(&mut self, ids: &[u64]) {
        for running in &mut self.running {
            if ids.binary_search(&running.id).is_ok() && running.end(Ended::Cancelled) {
                self.live -= 1;
            }
        }
    }

    /// Drops the handlers whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        self.earliest = None;
        for running in &mut self.running {
            if running.ended.is_some() {
                continue;
            }
            if running.deadline <= now {
                running.end(Ended::DeadlinePassed);
                self.live -= 1;
            } else {
                let least = self.earliest.unwrap_or(running.deadline);
                self.earliest = Some(least.min(running.deadline));
            }
        }
    }
}

/// A handler that was not done at once.
struct Running<F> {
    id: u64,
    deadline: Instant,
    future: Pin<Box<Option<F>>>,
    ended: Option<Ended>,
    /// Of the set, to be told when the handler was ended from outside.
    waker: Option<Waker>,
}

#[derive(Clone, Copy)]
enum Ended {
    Cancelled,
    DeadlinePassed,
}

enum Ending<R> {
    ByItself(Result<R, ErrorCode>),
    Expired,
    Cancelled,
}

impl<F: Future> Running<F> {
    /// Ends it from outside; false if it was ended so before.
    fn end(&mut self, how: Ended) -> bool {
        if self.ended.is_some() {
            return false;
        }
        self.ended = Some(how);
        // A destructor that panics must not take the other handlers with it.
        let _ = catch_unwind(AssertUnwindSafe(|| self.future.set(None)));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        true
    }
}

impl<F: Future> Future for Running<F> {
    type Output = (u64, Ending<F::Output>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let ending = match this.ended {
            Some(Ended::Cancelled) => Ending::Cancelled,
            Some(Ended::DeadlinePassed) => Ending::Expired,
            None => match catch_unwind(AssertUnwindSafe(|| poll_in(&mut this.future, cx))) {
                Ok(Poll::Pending) => {
                    match &mut this.waker {
                        Some(waker) => waker.clone_from(cx.waker()),
                        none => *none = Some(cx.waker().clone()),
                    }
                    return Poll::Pending;
                }
                Ok(Poll::Ready(output)) => Ending::ByItself(Ok(output)),
                Err(_) => Ending::ByItself(Err(ErrorCode::HandlerFailed)),
            },
        };
        Poll::Ready((this.id, ending))
    }
}

fn poll_in<F: Future>(future: &mut Pin<Box<Option<F>>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    match future.as_mut().as_pin_mut() {
        Some(future) => future.poll(cx),
        None => Poll::Pending, // never: a box without a future is only ever spare
    }
}
