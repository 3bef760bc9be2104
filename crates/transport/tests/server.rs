//! What a server promises, also to clients that do not keep to anything.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use common::raw::{Raw, encoded, framed, request};
use common::*;
use shellkeep_transport::*;

/// A `select!` over a read that is not cancel-safe once lost the bytes of a half-read frame at every push: of twelve
/// frames the handler saw one, and the stream was garbage for ever.
#[tokio::test]
async fn a_push_during_a_half_read_frame_loses_nothing() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let bytes = request(1, &Ask::Echo(1));
    // Cut at every byte: in the prefix, in the head, in the message.
    for cut in 1..bytes.len() {
        let seen = server.seen.clone();
        let mut raw = beside(&home.socket(), Raw::greeted).await;
        seen.until("the connection", |seen| seen.connected() == cut).await;
        let pusher = seen.contexts.lock().unwrap().last().unwrap().pusher();
        raw.stream.write_all(&bytes[..cut]).unwrap();
        tokio::task::yield_now().await; // lets the server read the half
        pusher.push(&7).unwrap();
        let rest = bytes[cut..].to_vec();
        beside(&home.socket(), move |_| {
            let body = raw.frame().unwrap();
            assert!(matches!(Envelope::parse(&body).unwrap(), Envelope::Push { .. }));
            raw.stream.write_all(&rest).unwrap();
            for id in 2..12 {
                raw.ask(id, &Ask::Echo(id));
            }
            for expected in 1..12 {
                let body = raw.frame().unwrap();
                match Envelope::parse(&body).unwrap() {
                    Envelope::Response { id, payload } => {
                        assert_eq!((id, payload), (expected, &*encoded(&Told::Number(expected))));
                    }
                    other => panic!("not an answer: {other:?}"),
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn the_answers_of_one_batch_leave_together() {
    let home = Home::new();
    let _server = Server::start(&home.socket());
    beside(&home.socket(), |path| {
        let mut raw = Raw::greeted(path);
        let batch: Vec<u8> = (0..50).flat_map(|id| request(id, &Ask::Echo(id))).collect();
        raw.stream.write_all(&batch).unwrap();
        let mut room = vec![0; 64 << 10];
        let one = request(0, &Ask::Echo(0)).len();
        assert!(one < 64);
        let read = std::io::Read::read(&mut raw.stream, &mut room).unwrap();
        let answer = framed(&[&[2][..], &0_u64.to_le_bytes(), &encoded(&Told::Number(0))].concat());
        assert_eq!(read, 50 * answer.len(), "one read finds all that one write sent");
    })
    .await;
}

#[tokio::test]
async fn handlers_are_dropped_when_their_client_goes() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let long = Duration::from_hours(1); // no deadline is to do the work
    let calls: Vec<_> = (0..100).map(|_| client.start_call_with_deadline(&Ask::Hang, long)).collect();
    server.seen.until("the handlers", |seen| seen.running() == 100).await;
    drop(client);
    server.seen.until("their end", |seen| seen.disconnected() == 1).await;
    assert_eq!(server.seen.running(), 0, "none is left when on_disconnect is called");
    drop(calls);
}

#[tokio::test]
async fn an_older_connection_can_be_closed_by_the_handler() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let older = connect(&home.socket()).await;
    let waiting = older.start_call(&Ask::Gate(1));
    server.seen.until("the handler", |seen| seen.running() == 1).await;
    let context = server.seen.contexts.lock().unwrap()[0].clone();
    let newer = connect(&home.socket()).await;
    context.close(GoodbyeReason::Superseded);
    // Late bytes of the old one, sent before it can know: they must have no effect.
    let late = older.start_call(&Ask::Echo(666));
    let lost = patient("the end of its call", waiting).await.unwrap_err();
    assert_eq!(lost, CallError::ConnectionLost { maybe_executed: true });
    let late = patient("the late call's end", late).await.unwrap_err();
    assert_eq!(late, CallError::ConnectionLost { maybe_executed: false }, "the goodbye says what was read");
    assert_eq!(number(patient("an answer", newer.call(Ask::Echo(1))).await), 1);
    assert_eq!(*server.seen.echoes.lock().unwrap(), [1]);
    assert_eq!((server.seen.running(), server.seen.disconnected()), (0, 1));
    context.close(GoodbyeReason::Superseded); // again: nothing happens
}

#[tokio::test]
async fn a_handler_may_close_its_own_connection() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let lost = patient("the end", client.call(Ask::CloseMe)).await.unwrap_err();
    assert!(matches!(lost, CallError::ConnectionLost { .. }));
    assert_eq!(server.seen.disconnected(), 1, "seen closed means on_disconnect is over");
}

#[tokio::test]
async fn at_the_end_handlers_finish_and_new_requests_are_refused() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let seen = server.seen.clone();
    let client = connect(&home.socket()).await;
    let mut events = client.events();
    let running = client.start_call(&Ask::Gate(1));
    seen.until("the handler", |seen| seen.running() == 1).await;
    let stopping = tokio::spawn(server.stop());
    eventually("the socket's end", || !home.socket().exists()).await;
    let refused = patient("the refusal", client.call(Ask::Echo(1))).await.unwrap_err();
    assert_eq!(refused, CallError::ShuttingDown);
    assert_eq!(refused.executed(), Executed::No);
    // What its handlers still have to say counts as well: an acknowledgement may be among it.
    seen.contexts.lock().unwrap()[0].pusher().push(&7).unwrap();
    seen.open_gate(1);
    assert_eq!(number(patient("the running call's answer", running).await), 1);
    assert_eq!(stopping.await.unwrap(), 0);
    assert!(matches!(next(&mut events).await, Event::Up { .. }));
    assert!(matches!(next(&mut events).await, Event::Push { message: 7, .. }));
    let event = next(&mut events).await;
    let reason = DownReason::Goodbye(GoodbyeReason::ShuttingDown);
    assert!(matches!(event, Event::Down { reason: why, .. } if why == reason), "{event:?}");
    assert_eq!(*seen.echoes.lock().unwrap(), []);
}

#[tokio::test]
async fn at_the_end_handlers_that_hang_are_dropped() {
    let home = Home::new();
    let options = ServerOptions { drain_wait: Duration::from_millis(50), ..ServerOptions::default() };
    let server = Server::start_with(&home.socket(), options);
    let seen = server.seen.clone();
    let client = connect(&home.socket()).await;
    let call = client.start_call(&Ask::Hang);
    seen.until("the handler", |seen| seen.running() == 1).await;
    assert_eq!(server.stop().await, 0);
    assert_eq!((seen.running(), seen.disconnected()), (0, 1));
    let lost = patient("the call's end", call).await.unwrap_err();
    assert!(matches!(lost, CallError::ConnectionLost { maybe_executed: true }));
}

#[tokio::test]
async fn a_listener_can_be_added_and_ended_alone() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let second = home.run().join("second.sock");
    let ending = server.rpc.listen(socket::bind(&second).unwrap()).unwrap();
    let client = connect(&second).await;
    ending.cancel();
    eventually("the file's end", || !second.exists()).await;
    assert_eq!(number(patient("an answer", client.call(Ask::Echo(1))).await), 1);
    connect(&home.socket()).await;
}

/// 4 GiB were once allocated as announced, before any authentication.
#[tokio::test]
async fn an_announced_length_over_the_limit_ends_the_connection_unallocated() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    for announced in [frame::FRAME_BYTES_MAX + 1, u32::MAX] {
        let mut goodbye = Vec::new();
        let (reason, requests_read) = (GoodbyeReason::Malformed, 0);
        let envelope = Envelope::Goodbye { reason, requests_read };
        envelope.append_to(&mut goodbye, 64).unwrap();
        let before = resident_bytes();
        beside(&home.socket(), move |path| {
            let mut raw = Raw::greeted(path);
            raw.stream.write_all(&announced.to_le_bytes()).unwrap();
            assert_eq!(raw.rest(), goodbye);
        })
        .await;
        assert!(resident_bytes() < before + (64 << 20));
    }
    server.seen.until("both ends", |seen| seen.disconnected() == 2).await;
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn a_client_that_sends_nonsense_is_told_and_left() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    for nonsense in [vec![99], vec![2, 0], vec![5, 1], vec![1, 2, 3]] {
        beside(&home.socket(), move |path| {
            let mut raw = Raw::greeted(path);
            raw.ask(1, &Ask::Echo(1));
            raw.send(|out| out.extend(framed(&nonsense)));
            assert!(raw.frame().is_some(), "what came before is answered");
            let body = raw.frame().unwrap();
            let (reason, requests_read) = (GoodbyeReason::Malformed, 1);
            let expected = Envelope::Goodbye { reason, requests_read };
            assert_eq!(Envelope::parse(&body).unwrap(), expected);
            assert!(raw.frame().is_none());
        })
        .await;
    }
    server.seen.until("all ends", |seen| seen.disconnected() == 4).await;
}

#[tokio::test]
async fn a_client_beyond_its_limit_of_requests_is_answered_so() {
    let home = Home::new();
    let options = ServerOptions { in_flight_max: 3, ..ServerOptions::default() };
    let server = Server::start_with(&home.socket(), options);
    beside(&home.socket(), |path| {
        let mut raw = Raw::greeted(path);
        for id in 1..=4 {
            raw.ask(id, &Ask::Hang);
        }
        let body = raw.frame().unwrap();
        let code = ErrorCode::Overloaded;
        assert_eq!(Envelope::parse(&body).unwrap(), Envelope::Error { id: 4, code });
        raw.say(&Envelope::Cancel { id: 2 });
        raw.ask(5, &Ask::Hang);
        raw.ask(6, &Ask::Echo(1)); // done at once, but not let in: three wait
        let body = raw.frame().unwrap();
        assert_eq!(Envelope::parse(&body).unwrap(), Envelope::Error { id: 6, code });
    })
    .await;
    server.seen.until("the end", |seen| seen.disconnected() == 1).await;
    assert_eq!(server.seen.running(), 0);
}

/// A client that asks and never reads must cost bounded memory, and in the end its connection.
#[tokio::test]
async fn a_client_that_does_not_read_is_bounded_and_dropped() {
    let home = Home::new();
    let options = ServerOptions { write_wait: Duration::from_millis(200), ..ServerOptions::default() };
    let server = Server::start_with(&home.socket(), options);
    let path = home.socket();
    let (sender, _held) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut raw = Raw::greeted(&path);
        let ask = request(1, &Ask::Bytes(64 << 10));
        while raw.stream.write_all(&ask).is_ok() {}
        let _ = sender.send(raw);
    });
    let begun = Instant::now();
    let before = resident_bytes();
    server.seen.until("the first request", |seen| seen.connected() == 1).await;
    let pusher = server.seen.contexts.lock().unwrap()[0].pusher();
    let mut full = false;
    while server.seen.disconnected() == 0 {
        full |= matches!(pusher.push(&1), Err(PushError::Full));
        tokio::time::sleep(Duration::from_millis(5)).await; // between two looks at what ends without an event here
        assert!(begun.elapsed() < PATIENCE);
        assert!(resident_bytes() < before + (32 << 20), "the memory of one client is bounded");
    }
    assert!(full, "a push is refused while too much waits");
    assert!(matches!(pusher.push(&1), Err(PushError::Closed)));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

/// One answer is enough: nothing else happens on the connection that could remind the server of it.
#[tokio::test]
async fn a_client_that_never_reads_its_only_answer_is_dropped() {
    let home = Home::new();
    let options = ServerOptions { write_wait: Duration::from_millis(100), ..ServerOptions::default() };
    let server = Server::start_with(&home.socket(), options);
    let raw = beside(&home.socket(), |path| {
        let mut raw = Raw::greeted(path);
        raw.ask(1, &Ask::Bytes(2 << 20));
        raw
    })
    .await;
    server.seen.until("its end", |seen| seen.disconnected() == 1).await;
    drop(raw);
}

/// And one that reads slowly gets everything, in order.
#[tokio::test]
async fn a_client_that_reads_late_gets_everything() {
    let home = Home::new();
    let _server = Server::start(&home.socket());
    beside(&home.socket(), |path| {
        let mut raw = Raw::greeted(path);
        let mut writing = Raw::new(raw.stream.try_clone().unwrap());
        let asking = std::thread::spawn(move || {
            for id in 0..200 {
                writing.ask(id, &Ask::Bytes(64 << 10));
            }
        });
        std::thread::sleep(Duration::from_millis(50)); // all buffers are full by now; it need not be so to pass
        for expected in 0..200 {
            let body = raw.frame().unwrap();
            assert!(matches!(Envelope::parse(&body).unwrap(), Envelope::Response { id, .. } if id == expected));
        }
        asking.join().unwrap();
    })
    .await;
}
