//! The one task of a server's connection: reads requests, runs their handlers, writes answers and pushes.
//!
//! Promises that handlers start in the order of their requests, that all answers of a round leave in one write, that a
//! client which does not read is read from no more and dropped after a while, and that `on_disconnect` comes exactly
//! once, whatever ends the task.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::greet::{Guest, greet};
use super::handlers::Handlers;
use super::ping_pong::PingPong;
use super::wire::{Manner, OUT_BYTES_HIGH, Wire};
use super::{Context, Handler, Shared};
use crate::codec::decode;
use crate::driver::{READS_PER_ROUND, SHRINK_AFTER};
use crate::envelope::{Envelope, EnvelopeError, ErrorCode, GoodbyeReason};
use crate::frame::{FRAME_BYTES_MAX, FrameBuffer, FrameError, HELLO_FRAME_BYTES_MAX};
use crate::protocol::Protocol;
use crate::socket::PeerCredentials;
use crate::spin::look_until;
use crate::stream::Stream;
use crate::timer::Timer;

/// Why a connection's task ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client has gone")]
    ClientGone,
    #[error("the client sent {0}")]
    Frame(#[from] FrameError),
    #[error("the client sent {0}")]
    Envelope(#[from] EnvelopeError),
    #[error("the client took no bytes for {0:?}")]
    NotReading(Duration),
    #[error("closed by the server: {0:?}")]
    Closed(GoodbyeReason),
    #[error("the socket failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Serves one accepted connection from its Hello to its end.
pub(crate) async fn serve<P: Protocol, H: Handler<P>>(
    shared: Arc<Shared<P, H>>,
    stream: UnixStream,
    peer: PeerCredentials,
    place: OwnedSemaphorePermit,
) {
    let stream = Stream::new(stream);
    let mut buffer = FrameBuffer::new(HELLO_FRAME_BYTES_MAX);
    // In a box: the task is as large as its largest await, and lives nearly always in the other one.
    let Some(guest) = Box::pin(greet(&shared, &stream, &mut buffer)).await else {
        return;
    };
    drop(place);
    buffer.set_limit(FRAME_BYTES_MAX.min(shared.options.first_frame_bytes_max));
    let stream = Arc::new(stream);
    let wire = Wire::<P>::new(Arc::clone(&stream), guest.frame_bytes_max);
    let spins = guest.spins;
    let session = Session::begin(&shared, guest, peer, &wire);
    let Some(connection) = &session.connection else {
        return;
    };
    let mut handlers = Handlers::new(shared.options.in_flight_max);
    let mut driver = Driver::new(stream, Arc::clone(&wire), buffer, &shared.options);
    let call = |request| shared.handler.call(&session.context, connection, request);
    let mut ping_pong = PingPong::new(spins, session.context.connection, &shared.last_asked);
    let end = poll_fn(|cx| {
        let mut may_look = ping_pong.begin();
        loop {
            let requests = driver.requests_read;
            if let Err(end) = driver.round(cx, &mut handlers, &call) {
                return Poll::Ready(end);
            }
            if driver.requests_read > requests {
                may_look = ping_pong.is_worth_a_look(driver.heard, std::mem::take(&mut driver.bytes_read), cx);
            }
            if !may_look || !driver.look(&handlers) {
                return Poll::Pending;
            }
        }
    })
    .await;
    tracing::debug!(connection = session.context.connection, reason = %end, "connection ended");
    if matches!(end, End::Frame(_) | End::Envelope(_)) {
        driver.say_goodbye(GoodbyeReason::Malformed);
    }
    drop(handlers); // before `on_disconnect`, which promises that none is left
}

/// What lasts from `on_connect` to `on_disconnect`; dropping it is the latter.
struct Session<'a, P: Protocol, H: Handler<P>> {
    shared: &'a Arc<Shared<P, H>>,
    wire: &'a Arc<Wire<P>>,
    context: Context<P>,
    /// `None`: the server ends, and the handler has not heard of this connection.
    connection: Option<H::Connection>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<'a, P: Protocol, H: Handler<P>> Session<'a, P, H> {
    fn begin(shared: &'a Arc<Shared<P, H>>, guest: Guest, peer: PeerCredentials, wire: &'a Arc<Wire<P>>) -> Self {
        let context = Context {
            peer,
            version: guest.terms.version,
            connection: guest.terms.connection,
            wire: Arc::downgrade(wire),
        };
        let registered = shared.register(context.connection, wire);
        let mut session = Self { shared, wire, context, connection: None, permit: Some(guest.permit) };
        if registered {
            session.connection = Some(shared.handler.on_connect(&session.context));
        }
        session
    }
}

impl<P: Protocol, H: Handler<P>> Drop for Session<'_, P, H> {
    fn drop(&mut self) {
        self.shared.unregister(self.context.connection);
        if let Some(connection) = self.connection.take() {
            self.shared.handler.on_disconnect(&self.context, connection);
        }
        // Last: who sees the socket closed may rely on `on_disconnect` being over, and on the place being free.
        self.permit = None;
        self.wire.end();
    }
}

/// What a driver did with the next frame.
enum Taken {
    /// There is no whole one.
    Nothing,
    /// A request, to its answer; whether to go on.
    Answered { open: bool },
    /// Anything else.
    Other,
}

struct Driver<P: Protocol> {
    stream: Arc<Stream>,
    wire: Arc<Wire<P>>,
    buffer: FrameBuffer,
    timer: Timer,
    timer_at: Option<Instant>,
    heard: Instant,
    requests_read: u64,
    /// Since requests were read last.
    bytes_read: u64,
    /// Ids of one batch whose callers have gone.
    cancelled: Vec<u64>,
    draining: Option<GoodbyeReason>,
    handler_wait: Duration,
    write_wait: Duration,
}

impl<P: Protocol> Driver<P> {
    fn new(stream: Arc<Stream>, wire: Arc<Wire<P>>, buffer: FrameBuffer, options: &super::ServerOptions) -> Self {
        Self {
            stream,
            wire,
            buffer,
            timer: Timer::new(),
            timer_at: None,
            heard: Instant::now(),
            requests_read: 0,
            bytes_read: 0,
            cancelled: Vec::new(),
            draining: None,
            handler_wait: options.handler_wait,
            write_wait: options.write_wait,
        }
    }

    /// Does everything that can be done now; an error ends the connection.
    fn round<F>(
        &mut self,
        cx: &mut TaskContext<'_>,
        handlers: &mut Handlers<F>,
        call: &impl Fn(P::Request) -> F,
    ) -> Result<(), End>
    where
        F: Future<Output = P::Response>,
    {
        self.begin(cx)?;
        let mut more = self.read(cx, handlers, call)?;
        self.run_handlers(cx, handlers);
        self.keep_time(cx, handlers)?;
        more |= self.rest(cx, handlers.is_empty())?;
        if more {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Looks for the next request once all are answered. Whether something came; an end is left for the next round.
    fn look<F: Future>(&mut self, handlers: &Handlers<F>) -> bool {
        if !handlers.is_empty() || self.wire.lock().out.pending() > 0 {
            return false;
        }
        let found = look_until(|| self.stream.read_now(&mut self.buffer));
        if let Some(count) = found {
            self.heard = Instant::now();
            self.bytes_read += count as u64;
        }
        found.is_some()
    }

    fn begin(&mut self, cx: &TaskContext<'_>) -> Result<(), End> {
        let mut state = self.wire.lock();
        state.out.driver_begins(cx);
        match state.close {
            Some((reason, Manner::AtOnce)) => {
                drop(state);
                Err(self.say_goodbye(reason))
            }
            Some((reason, Manner::Drained)) => {
                self.draining = Some(reason);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn is_open(&self) -> bool {
        self.wire.lock().is_open()
    }

    /// Whether there may be more to read at once.
    fn read<F>(
        &mut self,
        cx: &mut TaskContext<'_>,
        handlers: &mut Handlers<F>,
        call: &impl Fn(P::Request) -> F,
    ) -> Result<bool, End>
    where
        F: Future<Output = P::Response>,
    {
        for _ in 0..READS_PER_ROUND {
            if !self.take_frames(handlers, call)? {
                return Ok(false); // `rest` comes back once the client has taken something
            }
            match self.stream.poll_read_ready(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(ready) => ready?,
            }
            match self.stream.read(&mut self.buffer) {
                Ok(Some(0)) => return Err(End::ClientGone),
                Ok(Some(count)) => {
                    self.heard = Instant::now();
                    self.bytes_read += count as u64;
                }
                Ok(None) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Err(End::ClientGone);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Handles every whole frame that is there; false if some had to be left because the client reads too slowly.
    fn take_frames<F>(&mut self, handlers: &mut Handlers<F>, call: &impl Fn(P::Request) -> F) -> Result<bool, End>
    where
        F: Future<Output = P::Response>,
    {
        let mut is_open = self.is_open();
        let outcome = loop {
            if !is_open {
                break Ok(false);
            }
            match self.take_frame(handlers, call) {
                Ok(Taken::Answered { open }) => is_open = open,
                Ok(Taken::Other) => is_open = self.is_open(),
                Ok(Taken::Nothing) => break Ok(true),
                Err(end) => break Err(end),
            }
        };
        apply_cancels(&mut self.cancelled, handlers);
        outcome
    }

    /// Handles one frame.
    fn take_frame<F>(&mut self, handlers: &mut Handlers<F>, call: &impl Fn(P::Request) -> F) -> Result<Taken, End>
    where
        F: Future<Output = P::Response>,
    {
        let Some(body) = self.buffer.next_frame()? else {
            return Ok(Taken::Nothing);
        };
        let envelope = Envelope::parse(body)?;
        let mut taken = Taken::Other;
        match envelope {
            Envelope::Request { id, deadline_ms, payload } => {
                if self.wire.is_closed() {
                    return Ok(Taken::Nothing); // the next round says goodbye; this request was not read
                }
                self.requests_read += 1;
                if handlers.is_full() {
                    apply_cancels(&mut self.cancelled, handlers); // those that came before make room for this one
                }
                let outcome = if self.draining.is_some() {
                    Some(Err(ErrorCode::ShuttingDown))
                } else if handlers.is_full() {
                    Some(Err(ErrorCode::Overloaded))
                } else {
                    match decode(payload) {
                        Ok(request) => {
                            let wait = deadline_of(deadline_ms, self.handler_wait);
                            handlers.start(id, || Instant::now() + wait, || call(request))
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a request cannot be read");
                            Some(Err(ErrorCode::Undecodable))
                        }
                    }
                };
                if let Some(outcome) = outcome {
                    taken = Taken::Answered { open: self.wire.answer(id, outcome) };
                }
            }
            Envelope::Cancel { id } => self.cancelled.push(id),
            Envelope::Ping => self.wire.lock().append(&Envelope::Pong),
            Envelope::Pong => {}
            Envelope::Goodbye { .. } => return Err(End::ClientGone),
            Envelope::Response { .. } | Envelope::Error { .. } | Envelope::Push { .. } => {
                let kind = envelope.kind();
                return Err(EnvelopeError::WrongSide { kind }.into());
            }
        }
        if self.requests_read == 1 {
            self.buffer.set_limit(FRAME_BYTES_MAX);
        }
        Ok(taken)
    }

    /// Polls the handlers that were woken. Some are left if the client reads too slowly; `rest` comes back to them.
    fn run_handlers<F>(&mut self, cx: &mut TaskContext<'_>, handlers: &mut Handlers<F>)
    where
        F: Future<Output = P::Response>,
    {
        let mut is_open = self.is_open();
        while is_open {
            match handlers.poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready((id, Some(outcome))) => is_open = self.wire.answer(id, outcome),
                Poll::Ready((_, None)) => {}
            }
        }
    }

    fn keep_time<F>(&mut self, cx: &mut TaskContext<'_>, handlers: &mut Handlers<F>) -> Result<(), End>
    where
        F: Future<Output = P::Response>,
    {
        loop {
            if let Some(now) = self.timer.fired(cx) {
                self.timer_at = None;
                handlers.expire(now);
                self.run_handlers(cx, handlers);
                self.on_time(now)?;
            }
            let next = self.next_time(handlers.earliest_deadline().filter(|_| !handlers.is_empty()));
            let Some(next) = next.filter(|at| self.timer_at.is_none_or(|fires| *at < fires)) else {
                return Ok(());
            };
            self.timer_at = Some(next);
            self.timer.set(next);
        }
    }

    fn on_time(&mut self, now: Instant) -> Result<(), End> {
        let mut state = self.wire.lock();
        if state.out.blocked_since.is_some_and(|since| now >= since + self.write_wait) {
            return Err(End::NotReading(self.write_wait));
        }
        if now >= self.heard + SHRINK_AFTER {
            self.buffer.shrink();
            state.out.shrink();
        }
        Ok(())
    }

    /// When something is due that no event will tell of; `None` if the connection may sleep for ever.
    fn next_time(&self, deadline: Option<Instant>) -> Option<Instant> {
        let state = self.wire.lock();
        let blocked = state.out.blocked_since.map(|since| since + self.write_wait);
        let idle_memory = self.buffer.is_idle_memory() || state.out.is_idle_memory();
        let shrink = idle_memory.then(|| self.heard + SHRINK_AFTER);
        [deadline, blocked, shrink].into_iter().flatten().min()
    }

    /// Writes what the client takes. True if frames or handlers that had to wait for that can now go on.
    fn rest(&mut self, cx: &mut TaskContext<'_>, handlers_done: bool) -> Result<bool, End> {
        let state = &mut *self.wire.lock();
        let was_open = state.out.pending() < OUT_BYTES_HIGH;
        let was_blocked = state.out.blocked_since.is_some();
        let drained = self.draining.filter(|_| handlers_done && was_open);
        if let Some(reason) = drained {
            state.say_goodbye(reason, self.requests_read);
        }
        state.out.flush(cx)?;
        if let Some(reason) = drained.filter(|_| state.out.pending() == 0) {
            return Err(End::Closed(reason));
        }
        state.out.driver_rests();
        let opened = !was_open && state.out.pending() < OUT_BYTES_HIGH;
        // Blocked only now: the timer that bounds it must be set, which the next round does.
        let newly_blocked = !was_blocked && state.out.blocked_since.is_some();
        Ok(opened || newly_blocked)
    }

    /// Tells the client why, if that is possible without waiting.
    fn say_goodbye(&mut self, reason: GoodbyeReason) -> End {
        let state = &mut *self.wire.lock();
        state.say_goodbye(reason, self.requests_read);
        let mut nobody = TaskContext::from_waker(std::task::Waker::noop());
        match state.out.flush(&mut nobody) {
            Ok(()) => End::Closed(reason),
            Err(error) => error.into(),
        }
    }
}

/// Drops the handlers of callers that have gone: a whole batch in one walk.
fn apply_cancels<F: Future>(cancelled: &mut Vec<u64>, handlers: &mut Handlers<F>) {
    if !cancelled.is_empty() {
        cancelled.sort_unstable();
        handlers.cancel(cancelled);
        cancelled.clear();
    }
}

/// The client's deadline, or the server's where that is less or there is none.
fn deadline_of(deadline_ms: u32, handler_wait: Duration) -> Duration {
    match deadline_ms {
        0 => handler_wait,
        ms => Duration::from_millis(ms.into()).min(handler_wait),
    }
}
