//! What a call promises while its connection is well.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::raw::{Raw, scripted};
use common::*;
use futures::future::join_all;
use shellkeep_transport::*;

#[tokio::test]
async fn a_call_is_answered_with_its_own_answer() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    for n in 0..100 {
        assert_eq!(number(patient("the answer", client.call(Ask::Echo(n))).await), n);
    }
    let many = (0..2000).map(|n| {
        let client = client.clone();
        async move { assert_eq!(number(client.call(Ask::Echo(n)).await), n) }
    });
    patient("all answers", join_all(many)).await;
    patient("the close", client.close()).await;
    assert_eq!(server.stop().await, 0);
}

/// Two spawns per frame once let 1,483 of 100,000 messages overtake an earlier one.
#[tokio::test]
async fn handlers_start_in_the_order_of_start_call() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let mut expected = Vec::new();
    for round in 0..25 {
        // Started, never polled until all are out; some wait, so that the set of waiting handlers is in use as well.
        let calls: Vec<_> = (0..1000)
            .map(|n| {
                let n = round * 1000 + n;
                if n % 10 == 0 {
                    client.start_call(&Ask::Push(1))
                } else {
                    expected.push(n);
                    client.start_call(&Ask::Echo(n))
                }
            })
            .collect();
        for call in calls {
            patient("an answer", call).await.unwrap();
        }
    }
    assert_eq!(*server.seen.echoes.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_started_call_is_sent_without_being_polled() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let call = client.start_call(&Ask::Echo(7));
    assert_eq!(call.generation(), Some(1));
    let seen = |seen: &Seen| !seen.echoes.lock().unwrap().is_empty();
    server.seen.until("the request", seen).await;
    let answer = patient("the answer", call).await.unwrap();
    assert_eq!((answer.generation, answer.response), (1, Told::Number(7)));
}

#[tokio::test]
async fn a_slow_request_does_not_hold_up_those_behind_it() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let slow = client.start_call(&Ask::Gate(1));
    assert_eq!(number(patient("the answer behind", client.call(Ask::Echo(2))).await), 2);
    server.seen.open_gate(1);
    assert_eq!(number(patient("the slow answer", slow).await), 1);
}

/// Without a reply for a panic, the caller would wait for ever.
#[tokio::test]
async fn a_handler_that_panics_answers_its_call_and_no_other() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let waiting = client.start_call(&Ask::Gate(1));
    let failed = patient("the failure", client.call(Ask::Panic)).await.unwrap_err();
    assert_eq!(failed, CallError::HandlerFailed);
    assert_eq!(failed.executed(), Executed::Unknown);
    server.seen.open_gate(1);
    assert_eq!(number(patient("the other answer", waiting).await), 1);
    assert_eq!(server.seen.connected(), 1);
}

#[tokio::test]
async fn a_handler_that_never_answers_is_bounded_by_the_deadline() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let wait = Duration::from_millis(60);
    let begun = std::time::Instant::now();
    let late = patient("the deadline", client.call_with_deadline(Ask::Hang, wait)).await;
    assert_eq!(late.unwrap_err(), CallError::Deadline { maybe_executed: true });
    assert!(begun.elapsed() >= wait);
    assert!(begun.elapsed() < wait + Duration::from_millis(500), "{:?}", begun.elapsed());
    server.seen.until("the handler's end", |seen| seen.running() == 0).await;
    assert_eq!(number(patient("the next answer", client.call(Ask::Echo(1))).await), 1);
}

/// The client keeps the deadline by itself, too: this server says nothing at all.
#[tokio::test]
async fn the_client_ends_a_call_at_its_deadline_and_tells_the_server() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| {
        let mut raw = Raw::accepted(&listener);
        let id = raw.request();
        let cancel = raw.frame().unwrap();
        assert_eq!(Envelope::parse(&cancel).unwrap(), Envelope::Cancel { id });
        raw.answer(id, &Told::Number(666)); // too late for anybody
        let id = raw.request();
        raw.answer(id, &Told::Number(2));
        raw.rest();
    });
    let client = connect(&home.socket()).await;
    let wait = Duration::from_millis(60);
    let begun = std::time::Instant::now();
    let late = patient("the deadline", client.call_with_deadline(Ask::Hang, wait)).await.unwrap_err();
    assert_eq!(late, CallError::Deadline { maybe_executed: true });
    let took = begun.elapsed();
    assert!(took >= wait && took < wait + Duration::from_millis(200), "{took:?}");
    assert_eq!(number(patient("the next answer", client.call(Ask::Echo(2))).await), 2);
    drop(client);
    tokio::task::spawn_blocking(|| script.join().unwrap()).await.unwrap();
}

/// The server keeps the deadline by itself: this client never cancels.
#[tokio::test]
async fn the_server_drops_a_handler_at_its_deadline() {
    let home = Home::new();
    let options = ServerOptions { handler_wait: Duration::from_millis(30), ..ServerOptions::default() };
    let server = Server::start_with(&home.socket(), options);
    let path = home.socket();
    let raw = std::thread::spawn(move || {
        let mut raw = Raw::greeted(&path);
        raw.ask(5, &Ask::Hang);
        raw.frame().unwrap()
    });
    server.seen.until("the handler's start", |seen| seen.connected() == 1).await;
    let body = patient("the answer", tokio::task::spawn_blocking(|| raw.join().unwrap())).await.unwrap();
    let code = ErrorCode::DeadlineExceeded;
    assert_eq!(Envelope::parse(&body).unwrap(), Envelope::Error { id: 5, code });
    assert_eq!(server.seen.running(), 0);
}

/// Slots of cancelled calls once stayed until a reply came; with a silent server, for ever.
#[tokio::test]
async fn a_dropped_call_frees_its_slot_and_its_handler() {
    let home = Home::new();
    let options = ServerOptions { in_flight_max: 2, ..ServerOptions::default() };
    let server = Server::start_with(&home.socket(), options);
    let client = connect(&home.socket()).await;
    for _ in 0..50 {
        let hang = client.start_call(&Ask::Hang);
        let other = client.start_call(&Ask::Hang);
        let one_more = client.start_call(&Ask::Echo(1)).await.unwrap_err();
        assert_eq!(one_more, CallError::Overloaded);
        assert_eq!(one_more.executed(), Executed::No);
        drop((hang, other));
        assert_eq!(number(patient("an answer", client.call(Ask::Echo(1))).await), 1);
    }
    server.seen.until("all handlers' end", |seen| seen.running() == 0).await;
}

#[tokio::test]
async fn the_answer_of_a_dropped_call_is_nobodys() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| {
        let mut raw = Raw::accepted(&listener);
        let dropped = raw.request();
        let cancel = raw.frame().unwrap();
        assert_eq!(Envelope::parse(&cancel).unwrap(), Envelope::Cancel { id: dropped });
        let next = raw.request();
        assert_ne!(dropped, next);
        assert_eq!(dropped & u64::from(u32::MAX), next & u64::from(u32::MAX), "the slot is used again");
        raw.answer(dropped, &Told::Number(666));
        raw.answer(next, &Told::Number(2));
        raw.answer(next, &Told::Number(667)); // twice: only the first counts
        let last = raw.request();
        raw.answer(last, &Told::Number(3));
        raw.rest();
    });
    let client = connect(&home.socket()).await;
    drop(client.start_call(&Ask::Hang));
    assert_eq!(number(patient("the answer", client.call(Ask::Echo(2))).await), 2);
    assert_eq!(number(patient("the answer", client.call(Ask::Echo(3))).await), 3);
    drop(client);
    tokio::task::spawn_blocking(|| script.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_request_over_the_frame_limit_is_refused_unsent() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let limit = frame::FRAME_BYTES_MAX as usize;
    let refused = client.call(Ask::Send(vec![0; limit])).await.unwrap_err();
    assert!(matches!(refused, CallError::TooLarge { .. }));
    assert_eq!(refused.executed(), Executed::No);
    let fits = limit - 64;
    assert_eq!(number(patient("the answer", client.call(Ask::Send(vec![0; fits]))).await), fits as u64);
    assert_eq!(server.seen.connected(), 1);
}

#[tokio::test]
async fn a_response_over_the_frame_limit_fails_its_call_only() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let limit = frame::FRAME_BYTES_MAX as usize;
    let failed = patient("the failure", client.call(Ask::Bytes(limit))).await.unwrap_err();
    assert_eq!(failed, CallError::ResponseUnsendable);
    let fits = patient("the answer", client.call(Ask::Bytes(limit - 64))).await.unwrap();
    assert_eq!(fits.response, Told::Bytes(vec![7; limit - 64]));
    assert_eq!(server.seen.connected(), 1);
}

/// A reply that does not parse was once logged and skipped; its caller waited for ever.
#[tokio::test]
async fn an_unparsable_reply_fails_its_call_at_once_and_no_other() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| {
        let mut raw = Raw::accepted(&listener);
        let id = raw.request();
        let payload = b"no such variant";
        raw.say(&Envelope::Response { id, payload });
        let id = raw.request();
        raw.answer(id, &Told::Number(2));
        raw.rest();
    });
    let client = connect(&home.socket()).await;
    let failed = patient("the failure", client.call(Ask::Echo(1))).await.unwrap_err();
    assert_eq!(failed, CallError::Decode);
    assert_eq!(number(patient("the next answer", client.call(Ask::Echo(2))).await), 2);
    drop(client);
    tokio::task::spawn_blocking(|| script.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn an_unparsable_request_is_answered_with_an_error() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let path = home.socket();
    let raw = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::greeted(&path);
        let (id, deadline_ms, payload) = (9, 0, &[0xff; 4]);
        raw.say(&Envelope::Request { id, deadline_ms, payload });
        let code = ErrorCode::Undecodable;
        let body = raw.frame().unwrap();
        assert_eq!(Envelope::parse(&body).unwrap(), Envelope::Error { id, code });
        raw.ask(10, &Ask::Echo(1));
        raw.frame().unwrap()
    });
    let body = patient("the answers", raw).await.unwrap();
    assert!(matches!(Envelope::parse(&body).unwrap(), Envelope::Response { id: 10, .. }));
    assert_eq!(server.seen.connected(), 1);
}

#[tokio::test]
async fn close_waits_for_the_calls_that_are_out() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let out = client.start_call(&Ask::Gate(1));
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    server.seen.until("the request", |seen| seen.running() == 1).await;
    let late = client.call(Ask::Echo(1)).await.unwrap_err();
    assert_eq!(late.executed(), Executed::No);
    server.seen.open_gate(1);
    assert_eq!(number(patient("the answer", out).await), 1);
    patient("the close", closing).await.unwrap();
    assert_eq!(server.seen.disconnected(), 1, "the server has seen the end before close returns");
    assert!(matches!(*client.state().borrow(), State::Closed));
    let closed = client.call(Ask::Echo(1)).await.unwrap_err();
    assert!(matches!(closed, CallError::Closed { maybe_executed: false }));
}

#[tokio::test]
async fn close_gives_up_on_calls_that_never_end() {
    let home = Home::new();
    let _server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let out = client.start_call_with_deadline(&Ask::Hang, Duration::from_mins(1));
    patient("the close", client.close()).await;
    let ended = patient("the call's end", out).await.unwrap_err();
    assert_eq!(ended, CallError::Closed { maybe_executed: true });
}

/// Callers and pushers on other threads than the drivers: the same promises, with real races.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_from_many_threads_are_all_answered() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let tasks = (0..64_u64).map(|task| {
        let client = client.clone();
        tokio::spawn(async move {
            for n in 0..200 {
                let n = task * 1000 + n;
                assert_eq!(number(client.call(Ask::Echo(n)).await), n);
                drop(client.start_call(&Ask::Hang));
            }
            number(client.call(Ask::PushAside(3)).await)
        })
    });
    for taken in patient("all tasks", join_all(tasks)).await {
        assert_eq!(taken.unwrap(), 3);
    }
    patient("the close", client.close()).await;
    assert_eq!(server.stop().await, 0);
}
