//! The one task of a client's connection: reads, writes, hands out answers and pushes, watches deadlines and the peer.
//!
//! Promises that nothing read is ever lost (the buffer stays, each round takes what is there and awaits nothing in
//! between), that an idle connection never wakes, and that its end, whatever the cause, is the link's end. Knows no
//! reconnecting.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::call::CallError;
use crate::envelope::{Envelope, GoodbyeReason};
use crate::link::{DownReason, Link, Phase, State};
use crate::protocol::Protocol;
use crate::stream::Stream;
use crate::timer::Timer;

/// After so much silence while a call or unsent bytes wait, the peer is asked for a sign of life.
pub const PING_AFTER: Duration = Duration::from_secs(1);
/// So long it may take to give one. Any byte counts. With the above: a stopped peer is found within 3 s.
pub const PONG_WAIT_MAX: Duration = Duration::from_millis(1250);
/// So long a buffer that has grown is kept for the next burst.
pub(crate) const SHRINK_AFTER: Duration = Duration::from_secs(1);
/// Reads of one round, so that a flood from the peer starves neither the other tasks nor our own writing.
pub(crate) const READS_PER_ROUND: usize = 8;

// The timer may have been set for a former ping just before a call came: silence is noticed one PONG_WAIT_MAX late.
const _: () = assert!(PONG_WAIT_MAX.as_millis() * 2 <= 2500 && PING_AFTER.as_millis() <= PONG_WAIT_MAX.as_millis());

pub(crate) struct Driver<P: Protocol> {
    link: Arc<Link<P>>,
    stream: Arc<Stream>,
    wakers: Vec<Waker>,
    timer: Timer,
    life: Life,
    said_goodbye: bool,
}

/// What is known of the peer's life, judged only while something is expected of it.
struct Life {
    pinged: Option<Instant>,
    is_over: bool,
}

impl<P: Protocol> Driver<P> {
    pub(crate) fn new(link: Arc<Link<P>>, stream: Arc<Stream>) -> Self {
        Self {
            link,
            stream,
            wakers: Vec::new(),
            timer: Timer::new(),
            life: Life { pinged: None, is_over: false },
            said_goodbye: false,
        }
    }

    fn round(&mut self, cx: &mut Context<'_>) -> Result<(), DownReason> {
        self.begin(cx)?;
        let more = self.read(cx)?;
        self.keep_time(cx);
        if self.life.is_over {
            return Err(DownReason::Unresponsive);
        }
        if let Err(reason) = self.rest(cx) {
            return Err(self.last_words(reason));
        }
        if more {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    fn begin(&mut self, cx: &Context<'_>) -> Result<(), DownReason> {
        let mut state = self.link.lock();
        state.out.driver_begins(cx);
        match state.phase {
            Phase::Ended(reason) => Err(reason),
            Phase::Open | Phase::Closing => Ok(()),
        }
    }

    /// Whether there may be more to read at once.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, DownReason> {
        let mut reader = self.link.reader();
        reader.take_frames(&self.link)?; // what came with the Hello
        for _ in 0..READS_PER_ROUND {
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(error)) => return Err(DownReason::Read(error.kind())),
                Poll::Ready(Ok(())) => {}
            }
            reader.read(&self.link, &self.stream)?;
        }
        Ok(true)
    }

    fn keep_time(&mut self, cx: &mut Context<'_>) {
        loop {
            let fired = self.timer.fired(cx);
            let mut reader = self.link.reader();
            let heard = reader.heard();
            let state = &mut *self.link.lock();
            if let Some(now) = fired {
                state.timer = None;
                self.life.on_time(now, heard, state, &mut self.wakers);
                if now >= heard + SHRINK_AFTER {
                    reader.buffer().shrink();
                    state.out.shrink();
                }
            }
            let idle_memory = reader.buffer().is_idle_memory() || state.out.is_idle_memory();
            let shrink = idle_memory.then(|| heard + SHRINK_AFTER);
            let next = [self.life.next_time(heard, state), shrink].into_iter().flatten().min();
            let Some(next) = next.filter(|at| state.timer.is_none_or(|fires| *at < fires)) else {
                return;
            };
            state.timer = Some(next);
            self.timer.set(next);
        }
    }

    fn rest(&mut self, cx: &mut Context<'_>) -> Result<(), DownReason> {
        let state = &mut *self.link.lock();
        if state.phase == Phase::Closing && state.calls.waiting() == 0 && !self.said_goodbye {
            self.said_goodbye = true;
            let requests_read = 0; // a client reads no requests
            state.append(&Envelope::Goodbye { reason: GoodbyeReason::Closing, requests_read });
        }
        let flushed = state.out.flush(cx);
        state.out.driver_rests();
        state.clock.forget();
        flushed.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => DownReason::PeerClosed,
            kind => DownReason::Write(kind),
        })
    }

    /// The peer takes nothing any more. What it said before counts: answers that are here already, and its goodbye.
    fn last_words(&mut self, reason: DownReason) -> DownReason {
        let mut reader = self.link.reader();
        for _ in 0..READS_PER_ROUND {
            match reader.read_now(&self.link, &self.stream) {
                Ok(Some(_)) => {}
                Ok(None) => return reason,
                Err(told) => return told,
            }
        }
        reason
    }
}

impl Life {
    /// Ends calls whose deadline has passed, asks for a sign of life, or gives up.
    fn on_time<P: Protocol>(&mut self, now: Instant, heard: Instant, state: &mut State<P>, wakers: &mut Vec<Waker>) {
        let written = state.out.written();
        let mut expired = Vec::new();
        state.calls.expire(now, wakers, |id, call| {
            expired.push(id);
            Err(CallError::Deadline { maybe_executed: call.sent_at <= written })
        });
        for id in expired {
            state.append(&Envelope::Cancel { id });
        }
        if !state.expects() {
            self.pinged = None;
            return;
        }
        match self.unanswered(heard) {
            Some(pinged) => self.is_over = now >= pinged + PONG_WAIT_MAX,
            None if now >= heard.max(state.busy_since) + PING_AFTER => {
                state.append(&Envelope::Ping);
                self.pinged = Some(now);
            }
            None => {}
        }
    }

    /// When something is due that no byte from the peer will tell of.
    fn next_time<P: Protocol>(&self, heard: Instant, state: &State<P>) -> Option<Instant> {
        if self.is_over || !state.expects() {
            return None;
        }
        let life = match self.unanswered(heard) {
            Some(pinged) => pinged + PONG_WAIT_MAX,
            None => heard.max(state.busy_since) + PING_AFTER,
        };
        let deadline = state.calls.earliest_deadline().filter(|_| state.calls.waiting() > 0);
        Some(deadline.map_or(life, |deadline| deadline.min(life)))
    }

    /// When the peer was pinged, if it has said nothing since. Whoever reads may hear it, hence the comparison.
    fn unanswered(&self, heard: Instant) -> Option<Instant> {
        self.pinged.filter(|pinged| heard <= *pinged)
    }
}

impl<P: Protocol> Future for Driver<P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut round = this.round(cx);
        if round.is_ok() && this.link.look_for_answers(&this.stream) {
            round = this.round(cx); // what came may have been the end
        }
        this.wakers.drain(..).for_each(Waker::wake);
        match round {
            Ok(()) => Poll::Pending,
            Err(reason) => {
                // After our own goodbye the peer's end is what was asked for.
                let asked = this.said_goodbye && reason == DownReason::PeerClosed;
                this.link.end(if asked { DownReason::Closed } else { reason });
                Poll::Ready(())
            }
        }
    }
}

/// No field is pinned in place: the timer is boxed.
impl<P: Protocol> Unpin for Driver<P> {}

impl<P: Protocol> Drop for Driver<P> {
    /// The runtime may drop the task at any await; whoever waits on another runtime must learn of it.
    fn drop(&mut self) {
        self.link.end(DownReason::Closed);
    }
}
