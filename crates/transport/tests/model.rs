//! The shipped synchronisation under loom: every interleaving of a few threads, up to a bound of pre-emptions.
//!
//! What is checked is the crate's own source, not a copy: the files of `src/` that share state between threads are
//! compiled here once more, over another lock (`sync`), another socket (`stream`), a timer that never fires and a look of
//! two tries. A lost wake-up shows as a deadlock, a broken promise as a failed assertion.
//!
//! `cargo nextest run -p shellkeep-transport --test model`; `LOOM_MAX_PREEMPTIONS=3` looks deeper and takes longer.
#![allow(missing_docs, dead_code, unreachable_pub, unused_imports)] // only a part of the crate is used
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::unused_self, clippy::unnecessary_wraps)] // what stands in for the real has its signatures

#[path = "../src"]
mod shipped {
    pub(crate) mod call;
    pub(crate) mod clock;
    pub(crate) mod codec;
    pub(crate) mod driver;
    pub(crate) mod envelope;
    pub(crate) mod events;
    pub(crate) mod frame;
    pub(crate) mod handshake;
    pub(crate) mod in_flight;
    pub(crate) mod link;
    pub(crate) mod outbound;
    pub(crate) mod protocol;
    pub(crate) mod reader;
    pub(crate) mod shared;
    #[path = "server/wire.rs"]
    pub(crate) mod wire;
}
pub(crate) use shipped::{
    call, clock, codec, driver, envelope, events, frame, handshake, in_flight, link, outbound, protocol, reader,
    shared, wire,
};

#[path = "model/stream.rs"]
pub(crate) mod stream;

/// loom's lock in the clothes of `parking_lot`'s.
pub(crate) mod sync {
    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use {Mutex as ShortMutex, MutexGuard as ShortGuard};

    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }
}

/// Time stands still.
pub(crate) mod timer {
    use std::task::Context;
    use tokio::time::Instant;

    pub(crate) struct Timer;

    impl Timer {
        pub(crate) const fn new() -> Self {
            Self
        }

        pub(crate) fn set(&mut self, _: Instant) {}

        pub(crate) fn fired(&mut self, _: &mut Context<'_>) -> Option<Instant> {
            None
        }
    }
}

/// A look of two tries, and everything has a rhythm: no clock decides which way a run takes.
pub(crate) mod spin {
    use std::task::Context;
    use std::time::Duration;

    pub(crate) const SPIN_RHYTHM_MAX: Duration = Duration::from_hours(1);
    pub(crate) const SPIN_STREAK_MAX: u32 = 16;
    pub(crate) const SPIN_BYTES_MAX: u64 = 16 << 10;

    pub(crate) fn look_until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
        look().or_else(look)
    }

    pub(crate) fn give_a_turn(cx: &mut Context<'_>) {
        cx.waker().wake_by_ref();
    }
}

pub(crate) mod dial {
    /// Why there is no connection, of which nothing is of interest here.
    #[derive(Debug)]
    pub(crate) struct DialError;
}

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use call::CallError;
use driver::Driver;
use envelope::{Envelope, GoodbyeReason};
use events::{Event, EventQueue};
use frame::{FRAME_BYTES_MAX, FrameBuffer};
use handshake::Terms;
use link::{DownReason, Link};
use loom::future::block_on;
use loom::thread;
use protocol::Protocol;
use shared::{Shared, State};
use stream::Stream;
use tokio::sync::oneshot;

enum Doubling {}

impl Protocol for Doubling {
    type Request = u64;
    type Response = u64;
    type Push = u64;
    const NAME: [u8; 4] = *b"dbl1";
    const VERSIONS: std::ops::RangeInclusive<u16> = 1..=1;
}

const WAIT: Duration = Duration::from_secs(5);
/// Pre-emptions per history: of threads that run on, not of those that sleep. Two take seconds, three take minutes.
const PREEMPTIONS: usize = 2;
/// Pre-emptions where the histories are long.
const PREEMPTIONS_OF_MANY: usize = 1;

fn check(preemptions: usize, history: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 100_000;
    builder.check(history);
}

/// A connection whose server doubles numbers and takes `room` bytes before it must be given more room.
struct Connection {
    link: Arc<Link<Doubling>>,
    stream: Arc<Stream>,
    ended: oneshot::Receiver<DownReason>,
}

fn connection(room: usize, spin: bool) -> Connection {
    let terms = Terms { version: 1, frame_bytes_max: FRAME_BYTES_MAX, in_flight_max: 8, connection: 1 };
    let stream = Arc::new(Stream::new(room));
    let buffer = FrameBuffer::new(FRAME_BYTES_MAX);
    let (link, ended) = Link::new(1, terms, FRAME_BYTES_MAX, Arc::clone(&stream), buffer, spin);
    Connection { link, stream, ended }
}

/// Runs the connection's driver on a thread of its own, to its end.
fn drive(connection: &Connection) -> thread::JoinHandle<()> {
    let driver = Driver::new(Arc::clone(&connection.link), Arc::clone(&connection.stream));
    thread::spawn(move || block_on(driver))
}

fn double(link: &Arc<Link<Doubling>>, number: u64) -> Result<u64, CallError> {
    block_on(Arc::clone(link).start_call(&number, WAIT)).map(|answer| answer.response)
}

/// Two write in place or through the driver, whoever comes first: neither frame is forgotten, neither answer mixed up.
#[test]
fn every_call_is_sent_and_answered() {
    check(PREEMPTIONS, || {
        let connection = connection(usize::MAX, false);
        let driver = drive(&connection);
        let link = Arc::clone(&connection.link);
        let other = thread::spawn(move || assert_eq!(double(&link, 3), Ok(6)));
        assert_eq!(double(&connection.link, 2), Ok(4));
        other.join().unwrap();
        connection.link.end(DownReason::GivenUp);
        driver.join().unwrap();
        assert_eq!(connection.stream.requests(), 2);
    });
}

/// What the socket did not take leaves as soon as it does, whoever notices.
#[test]
fn what_does_not_fit_is_sent_later() {
    check(PREEMPTIONS, || {
        let connection = connection(10, false); // less than one request
        let driver = drive(&connection);
        let stream = Arc::clone(&connection.stream);
        let peer = thread::spawn(move || {
            stream.make_room(20);
            stream.make_room(usize::MAX / 2);
        });
        assert_eq!(double(&connection.link, 2), Ok(4));
        peer.join().unwrap();
        connection.link.end(DownReason::GivenUp);
        driver.join().unwrap();
    });
}

/// A caller that looks for its answer reads in the driver's place: what it finds for others reaches them.
#[test]
fn a_caller_that_looks_takes_nothing_away() {
    check(PREEMPTIONS_OF_MANY, || {
        let connection = connection(usize::MAX, true);
        let driver = drive(&connection);
        let link = Arc::clone(&connection.link);
        let other = thread::spawn(move || assert_eq!(double(&link, 10), Ok(20)));
        block_on(async {
            for number in 1..3 {
                let answer = Arc::clone(&connection.link).start_call(&number, WAIT).await;
                assert_eq!(answer.unwrap().response, 2 * number); // from the second on it looks
            }
        });
        other.join().unwrap();
        connection.link.end(DownReason::GivenUp);
        driver.join().unwrap();
    });
}

/// A caller whose answer is always there when it looks would otherwise never return to its runtime.
#[test]
fn a_caller_that_always_finds_its_answer_gives_turns() {
    const CALLS: u64 = 100;
    check(PREEMPTIONS, || {
        let connection = connection(usize::MAX, true);
        let mut driver = pin!(Driver::new(Arc::clone(&connection.link), Arc::clone(&connection.stream)));
        let mut calls = pin!(async {
            for number in 0..CALLS {
                let answer = Arc::clone(&connection.link).start_call(&number, WAIT).await;
                assert_eq!(answer.unwrap().response, 2 * number);
            }
        });
        let mut turns = 0;
        block_on(poll_fn(|cx| {
            let _ = driver.as_mut().poll(cx);
            turns += 1;
            calls.as_mut().poll(cx)
        }));
        assert!((CALLS / 17..CALLS / 3).contains(&turns), "{turns} turns");
    });
}

/// The end is seen by whoever looks, and ends the connection for all.
#[test]
fn a_call_beside_the_end_ends_once_and_rightly() {
    for spin in [false, true] {
        check(PREEMPTIONS, move || {
            let connection = connection(usize::MAX, spin);
            let driver = drive(&connection);
            let stream = Arc::clone(&connection.stream);
            let peer = thread::spawn(move || stream.end());
            let link = &connection.link;
            block_on(async {
                for number in 1..3 {
                    match Arc::clone(link).start_call(&number, WAIT).await {
                        Ok(answer) => assert_eq!(answer.response, 2 * number),
                        Err(CallError::ConnectionLost { .. } | CallError::Disconnected) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            peer.join().unwrap();
            driver.join().unwrap();
            assert_eq!(double(link, 9), Err(CallError::Disconnected), "nothing gets in after the end");
            assert_eq!(link.lock().calls.waiting(), 0);
        });
    }
}

/// The slot of a dropped call is used again; the answer that was on its way is not the next caller's.
#[test]
fn a_dropped_call_gives_its_answer_to_nobody() {
    check(PREEMPTIONS_OF_MANY, || {
        let connection = connection(usize::MAX, false);
        let driver = drive(&connection);
        let link = Arc::clone(&connection.link);
        let other = thread::spawn(move || assert_eq!(double(&link, 5), Ok(10)));
        drop(Arc::clone(&connection.link).start_call(&1, WAIT));
        assert_eq!(double(&connection.link, 7), Ok(14));
        other.join().unwrap();
        connection.link.end(DownReason::GivenUp);
        driver.join().unwrap();
        assert_eq!(connection.link.lock().calls.used(), 0);
    });
}

/// The swap, the end of the new connection and a call come in any order: no call enters a dead connection for good, and
/// the events are Up and Down, or nothing.
#[test]
fn a_connection_that_dies_around_the_swap_is_told_or_never_seen() {
    check(PREEMPTIONS, || {
        let Connection { link, stream: _stream, ended } = connection(usize::MAX, false);
        let shared = Shared::<Doubling>::new(WAIT, 16);
        let mut events = shared.events.consume();
        let dying = Arc::clone(&link);
        let end = thread::spawn(move || dying.end(DownReason::Unresponsive));
        let client = Arc::clone(&shared);
        let caller = thread::spawn(move || {
            let outcome = block_on(client.start_call(&1, WAIT));
            let lost = matches!(outcome, Err(CallError::Disconnected | CallError::ConnectionLost { .. }));
            assert!(lost, "{outcome:?}");
        });
        let swapped = shared.swap_in(&link);
        if swapped.is_ok() {
            let _ = block_on(ended);
        }
        shared.set_down(State::Disconnected { last_error: None });
        end.join().unwrap();
        caller.join().unwrap();
        assert!(!shared.state.borrow().is_connected());
        assert_eq!(block_on(shared.start_call(&1, WAIT)), Err(CallError::Disconnected));
        shared.events.close();
        let told = block_on(async {
            let mut told = Vec::new();
            while let Some(event) = events.next().await {
                told.push(matches!(event, Event::Up { generation: 1 }));
            }
            told
        });
        let expected: &[bool] = if swapped.is_ok() { &[true, false] } else { &[] };
        assert_eq!(told, expected);
    });
}

/// A client that is closed while a connection is put into use and a call is made: whatever got in ends, nothing stays.
#[test]
fn a_client_closed_around_the_swap_is_closed() {
    check(PREEMPTIONS, || {
        let Connection { link, stream: _stream, ended: _ended } = connection(usize::MAX, false);
        let shared = Shared::<Doubling>::new(WAIT, 16);
        let client = Arc::clone(&shared);
        let caller = thread::spawn(move || {
            let outcome = block_on(client.start_call(&1, WAIT));
            assert!(matches!(outcome, Err(CallError::Disconnected | CallError::Closed { .. })), "{outcome:?}");
        });
        let (reconnect, new) = (Arc::clone(&shared), Arc::clone(&link));
        let swap = thread::spawn(move || {
            if reconnect.swap_in(&new).is_err() {
                new.end(DownReason::NotProved); // as the dialled connection does when it is not kept
            }
        });
        drop(shared.begin_close());
        shared.end_close();
        swap.join().unwrap();
        caller.join().unwrap();
        assert!(matches!(*shared.state.borrow(), State::Closed));
        assert_eq!(double(&link, 1).map_err(|error| error.executed()), Err(call::Executed::No));
    });
}

/// `close` lets what is out be answered, says goodbye, and the driver ends by itself.
#[test]
fn a_graceful_close_answers_what_is_out() {
    check(PREEMPTIONS, || {
        let connection = connection(usize::MAX, false);
        let driver = drive(&connection);
        let link = Arc::clone(&connection.link);
        let closer = thread::spawn(move || link.close_gracefully());
        match double(&connection.link, 2) {
            Ok(number) => assert_eq!(number, 4),
            Err(error) => assert_eq!(error, CallError::Closed { maybe_executed: false }),
        }
        closer.join().unwrap();
        driver.join().unwrap();
        assert_eq!(block_on(connection.ended), Ok(DownReason::Closed));
    });
}

/// A consumer that waits is woken by what comes, by the end, and by a stream that takes over.
#[test]
fn a_consumer_of_events_is_always_woken() {
    check(PREEMPTIONS, || {
        let queue = EventQueue::<Doubling>::new(4);
        let mut events = queue.consume();
        let telling = Arc::clone(&queue);
        let teller = thread::spawn(move || {
            telling.up(1);
            telling.push(1, 7, 8).unwrap();
            telling.down(1, DownReason::PeerClosed);
            telling.close();
        });
        block_on(async {
            assert!(matches!(events.next().await, Some(Event::Up { generation: 1 })));
            assert!(matches!(events.next().await, Some(Event::Push { generation: 1, message: 7 })));
            assert!(matches!(events.next().await, Some(Event::Down { generation: 1, .. })));
            assert!(events.next().await.is_none());
        });
        teller.join().unwrap();
    });
}

/// A server's connection: two push while a third closes it. What was accepted leaves before the goodbye, and the driver
/// hears of the close even if it was about to sleep.
#[test]
fn what_a_server_has_accepted_to_push_leaves_before_its_goodbye() {
    check(PREEMPTIONS, || {
        let stream = Arc::new(Stream::new(usize::MAX));
        let wire = wire::Wire::<Doubling>::new(Arc::clone(&stream), FRAME_BYTES_MAX);
        let weak = Arc::downgrade(&wire);
        let pusher = thread::spawn(move || {
            let pusher = wire::Pusher::new(weak);
            (0..2).filter(|number| pusher.push(number).is_ok()).count()
        });
        let closing = Arc::clone(&wire);
        let closer = thread::spawn(move || closing.close(GoodbyeReason::Superseded, wire::Manner::Drained));
        block_on(poll_fn(|cx| {
            let state = &mut *wire.lock();
            state.out.driver_begins(cx);
            let reason = state.close.map(|(reason, _)| reason);
            if let Some(reason) = reason {
                state.say_goodbye(reason, 0);
            }
            state.out.flush(cx).unwrap();
            state.out.driver_rests();
            if reason.is_some() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        }));
        let accepted = pusher.join().unwrap();
        closer.join().unwrap();
        wire.end();
        let mut sent = stream.sent();
        assert!(matches!(sent.pop(), Some(8)), "the goodbye is the last frame");
        assert_eq!(sent, vec![5; accepted], "every push that was accepted");
    });
}
