//! What a call promises when its connection ends under it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::net::Shutdown;
use std::time::{Duration, Instant};

use common::raw::{Raw, scripted};
use common::*;
use futures::future::join_all;
use shellkeep_transport::*;

async fn down(events: &mut Events<Echo>) -> DownReason {
    loop {
        match patient("a Down", events.next()).await {
            Some(Event::Down { reason, .. }) => return reason,
            Some(_) => {}
            None => panic!("the stream ended without a Down"),
        }
    }
}

/// In the founding plan nothing ended the pending calls: they hung for ever.
#[tokio::test]
async fn calls_in_flight_end_at_once_and_exactly_once_when_the_server_goes() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| {
        let mut raw = Raw::accepted(&listener);
        for n in 0..1000 {
            let id = raw.request();
            if n < 10 {
                raw.answer(id, &Told::Number(n));
            }
        }
        Instant::now() // and closes
    });
    let client = connect(&home.socket()).await;
    let calls: Vec<_> = (0..1000).map(|n| client.start_call(&Ask::Echo(n))).collect();
    let outcomes = patient("every call's end", join_all(calls)).await;
    let ended = Instant::now();
    let closed = script.join().unwrap();
    assert!(ended - closed < Duration::from_millis(250), "{:?}", ended - closed);
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(answer) if n < 10 => assert_eq!(answer.response, Told::Number(n as u64)),
            Err(CallError::ConnectionLost { maybe_executed: true }) if n >= 10 => {}
            other => panic!("call {n} ended with {other:?}"),
        }
    }
}

/// What the kernel never took was never executed, and the caller is told so.
#[tokio::test]
async fn a_request_that_never_left_is_known_not_to_be_executed() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| {
        let mut raw = Raw::accepted(&listener);
        raw.request() // one of 64 MiB is read, then it closes
    });
    let client = connect(&home.socket()).await;
    let calls: Vec<_> = (0..8).map(|_| client.start_call(&Ask::Send(vec![1; 1 << 20]))).collect();
    let outcomes = patient("every call's end", join_all(calls)).await;
    script.join().unwrap();
    let first = outcomes.first().unwrap().clone().unwrap_err();
    assert_eq!(first, CallError::ConnectionLost { maybe_executed: true });
    let last = outcomes.last().unwrap().clone().unwrap_err();
    assert_eq!(last, CallError::ConnectionLost { maybe_executed: false });
    assert_eq!(last.executed(), Executed::No);
}

/// A call once held a lock while it waited for room: one slow write blocked every caller, and the swap. And a deadline
/// that began with the wait for the answer did not cover the queue.
#[tokio::test]
async fn a_server_that_takes_nothing_blocks_no_caller() {
    const MIB: usize = 1 << 20;
    let home = Home::new();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let script = scripted(&home.socket(), move |listener| {
        let _raw = Raw::accepted(&listener);
        let _ = wait.recv(); // and reads nothing
    });
    let client = connect(&home.socket()).await;
    let ask = Ask::Send(vec![1; MIB]);
    let started = Instant::now();
    let wait = Duration::from_millis(50);
    let calls: Vec<_> = (0..2 * OUT_BYTES_MAX / MIB).map(|_| client.start_call_with_deadline(&ask, wait)).collect();
    assert!(started.elapsed() < Duration::from_secs(1), "starting a call waits for nothing: {:?}", started.elapsed());
    let outcomes = patient("every call's end", join_all(calls)).await;
    let first = outcomes.first().unwrap().clone().unwrap_err();
    assert_eq!(first, CallError::Deadline { maybe_executed: false }, "it had not left whole");
    let kept = outcomes.iter().filter(|outcome| matches!(outcome, Err(CallError::Deadline { .. }))).count();
    assert!((8..=10).contains(&kept), "{kept} were taken");
    assert_eq!(outcomes.last().unwrap().clone().unwrap_err(), CallError::Overloaded);
    drop((done, client));
    script.join().unwrap();
}

/// A server that goes says how far it has read: what it was sent beyond that can be sent again.
#[tokio::test]
async fn a_goodbye_tells_which_requests_were_not_executed() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| {
        let mut raw = Raw::accepted(&listener);
        raw.request();
        raw.request(); // both have left the client; this server claims to have looked at one
        raw.say(&Envelope::Goodbye { reason: GoodbyeReason::ShuttingDown, requests_read: 1 });
        raw.rest();
    });
    let client = connect(&home.socket()).await;
    let (read, unread) = (client.start_call(&Ask::Echo(1)), client.start_call(&Ask::Echo(2)));
    let read = patient("the first call's end", read).await.unwrap_err();
    assert_eq!(read, CallError::ConnectionLost { maybe_executed: true });
    let unread = patient("the second call's end", unread).await.unwrap_err();
    assert_eq!(unread, CallError::ConnectionLost { maybe_executed: false });
    tokio::task::spawn_blocking(|| script.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_half_closed_connection_is_down() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| {
        let raw = Raw::accepted(&listener);
        raw.stream.shutdown(Shutdown::Write).unwrap();
        raw.rest() // it still reads; that is of no use
    });
    let client = connect(&home.socket()).await;
    let mut events = client.events();
    assert_eq!(down(&mut events).await, DownReason::PeerClosed);
    assert!(client.call(Ask::Echo(1)).await.is_err());
    drop(client);
    script.join().unwrap();
}

/// Only the reader once reported a loss: a failed write marked the client disconnected and started nothing.
#[tokio::test]
async fn a_write_failure_is_down() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| {
        let raw = Raw::accepted(&listener);
        raw.stream.shutdown(Shutdown::Read).unwrap();
        raw
    });
    let client = connect(&home.socket()).await;
    let mut events = client.events();
    let _raw = script.join().unwrap(); // held open: nothing but the write can show it
    let lost = patient("the call's end", client.call(Ask::Echo(1))).await.unwrap_err();
    assert!(matches!(lost, CallError::ConnectionLost { .. } | CallError::Disconnected), "{lost:?}");
    assert_eq!(down(&mut events).await, DownReason::PeerClosed);
}

/// Answers that had arrived count, even if a failing write is what shows that the server has died.
#[tokio::test]
async fn the_last_words_of_a_server_are_heard() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| {
        let mut raw = Raw::accepted(&listener);
        for n in 0..2 {
            let id = raw.request();
            raw.answer(id, &Told::Number(n));
        }
        let reason = GoodbyeReason::Superseded;
        let requests_read = 2;
        raw.say(&Envelope::Goodbye { reason, requests_read });
    });
    let client = connect(&home.socket()).await;
    let mut events = client.events();
    patient("an answer", client.call(Ask::Echo(0))).await.unwrap();
    let answered = client.start_call(&Ask::Echo(1));
    // Blocks this runtime on purpose: the answer, the goodbye and the end are all there before the driver runs.
    script.join().unwrap();
    let unread = client.start_call(&Ask::Echo(2));
    assert_eq!(number(patient("the answer", answered).await), 1);
    let unread = patient("the other call's end", unread).await.unwrap_err();
    assert_eq!(unread.executed(), Executed::No, "{unread:?}");
    assert_eq!(down(&mut events).await, DownReason::Goodbye(GoodbyeReason::Superseded));
}

/// A stopped server keeps its socket open and takes bytes: only silence tells.
#[tokio::test]
async fn a_silent_server_is_found_within_three_seconds() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| Raw::accepted(&listener));
    let client = connect(&home.socket()).await;
    let mut events = client.events();
    let raw = tokio::task::spawn_blocking(|| script.join().unwrap()).await.unwrap();
    let begun = Instant::now();
    let call = client.start_call_with_deadline(&Ask::Hang, Duration::from_mins(1));
    let lost = patient("the call's end", call).await.unwrap_err();
    assert_eq!(lost, CallError::ConnectionLost { maybe_executed: true });
    assert!(begun.elapsed() <= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(down(&mut events).await, DownReason::Unresponsive);
    drop(raw);
}

/// A server that works for long is alive: it answers pings.
#[tokio::test]
async fn a_slow_answer_of_a_living_server_is_waited_for() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let call = client.start_call(&Ask::Gate(1));
    tokio::time::sleep(PING_AFTER + PONG_WAIT_MAX + Duration::from_millis(250)).await; // longer than any heartbeat: silence must stay silence
    server.seen.open_gate(1);
    assert_eq!(number(patient("the answer", call).await), 1);
    assert_eq!(server.seen.connected(), 1);
}

#[tokio::test]
async fn a_malformed_frame_ends_the_connection_with_its_reason() {
    use frame::FrameError;
    let huge = FrameError::TooLarge { bytes: u32::MAX, bytes_max: frame::FRAME_BYTES_MAX };
    let ping_with_a_tail = EnvelopeError::Length { kind: 6, bytes: 2 };
    for (bytes, reason) in [
        (vec![0xff, 0xff, 0xff, 0xff], DownReason::Frame(huge)),
        (vec![0, 0, 0, 0], DownReason::Frame(FrameError::Empty)),
        (vec![1, 0, 0, 0, 99], DownReason::Envelope(EnvelopeError::UnknownKind { kind: 99 })),
        (vec![2, 0, 0, 0, 6, 0], DownReason::Envelope(ping_with_a_tail)),
        (vec![9, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0], DownReason::Envelope(EnvelopeError::WrongSide { kind: 4 })),
        (vec![2, 0, 0, 0, 5, 0], DownReason::PushUndecodable),
    ] {
        let home = Home::new();
        let script = scripted(&home.socket(), move |listener| {
            let mut raw = Raw::accepted(&listener);
            let id = raw.request();
            raw.answer(id, &Told::Number(1)); // what came before the bad frame counts
            raw.request();
            raw.send(|out| out.extend(bytes));
            raw.rest();
        });
        let client = connect(&home.socket()).await;
        let mut events = client.events();
        assert_eq!(number(patient("the answer", client.call(Ask::Echo(1))).await), 1);
        let lost = patient("the call's end", client.call(Ask::Echo(2))).await.unwrap_err();
        assert_eq!(lost, CallError::ConnectionLost { maybe_executed: true });
        assert_eq!(down(&mut events).await, reason);
        script.join().unwrap();
    }
}

#[tokio::test]
async fn a_call_after_the_loss_fails_at_once() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| drop(Raw::accepted(&listener)));
    let client = connect(&home.socket()).await;
    disconnected(&client).await;
    script.join().unwrap();
    let begun = Instant::now();
    let failed = client.call(Ask::Echo(1)).await.unwrap_err();
    assert_eq!(failed.executed(), Executed::No);
    assert!(begun.elapsed() < Duration::from_millis(100));
}

#[tokio::test]
async fn a_call_outlived_by_the_last_handle_ends() {
    let home = Home::new();
    let _server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let call = client.start_call(&Ask::Hang);
    drop(client);
    let ended = patient("the call's end", call).await.unwrap_err();
    assert!(matches!(ended, CallError::Closed { .. }), "{ended:?}");
}

/// A runtime may end before its clients do; whoever waits on another one must not wait for ever.
#[test]
fn calls_end_when_the_drivers_runtime_does() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let home = Home::new();
    let (servers, clients, ours) = (runtime(), runtime(), runtime());
    let server = servers.block_on(async { Server::start(&home.socket()) });
    let serving = std::thread::spawn(move || {
        servers.block_on(server.seen.until("the request", |seen| seen.running() == 1));
        (servers, server)
    });
    let client = clients.block_on(connect(&home.socket()));
    let call = client.start_call(&Ask::Hang);
    clients.block_on(tokio::task::yield_now());
    let _serving = serving.join().unwrap();
    drop(clients);
    let ended = ours.block_on(patient("the call's end", call)).unwrap_err();
    assert!(matches!(ended, CallError::Closed { .. }), "{ended:?}");
}
