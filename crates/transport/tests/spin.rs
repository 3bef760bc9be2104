//! What a client that looks for its answers before it sleeps promises besides being quick.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::raw::{Raw, framed, scripted};
use common::*;
use futures::future::join_all;
use shellkeep_transport::*;

fn spinning() -> ConnectOptions {
    ConnectOptions { spin: true, ..ConnectOptions::default() }
}

/// A server in a thread of its own, as it is found in life: the answer comes while the client looks for it.
fn elsewhere(home: &Home) -> (std::thread::JoinHandle<()>, CancellationToken) {
    let listener = socket::bind(&home.socket()).unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let handler = EchoHandler(Arc::default());
            let left = RpcServer::serve([listener], handler, ServerOptions::default(), stopped).await;
            assert_eq!(left.unwrap(), 0);
        });
    });
    (thread, stop)
}

/// A caller that always finds its answer never sleeps; the rest of its runtime must have its turns all the same.
#[tokio::test]
async fn a_caller_that_never_sleeps_starves_nobody() {
    let home = Home::new();
    let (server, stop) = elsewhere(&home);
    let client = connect_unix::<Echo>(home.socket(), spinning()).await.unwrap();
    let timer = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn({
        let timer = Arc::clone(&timer);
        async move {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await; // the event is the timer itself
            timer.store(true, Ordering::Relaxed);
        }
    });
    let mut calls = 0;
    while !timer.load(Ordering::Relaxed) {
        assert!(calls < 1_000_000, "the other task never had a turn");
        assert_eq!(number(client.call(Ask::Echo(calls)).await), calls);
        calls += 1;
    }
    other.await.unwrap();
    client.close().await;
    stop.cancel();
    server.join().unwrap();
}

/// Pushes and the answers of other calls that a looking caller reads are everybody's.
#[tokio::test]
async fn what_a_looking_caller_reads_reaches_whom_it_is_for() {
    let home = Home::new();
    let (server, stop) = elsewhere(&home);
    let client = connect_unix::<Echo>(home.socket(), spinning()).await.unwrap();
    let mut events = client.events();
    assert!(matches!(next(&mut events).await, Event::Up { .. }));
    for round in 0..200 {
        assert_eq!(number(client.call(Ask::Push(2)).await), 2);
        assert_eq!(number(client.call(Ask::Echo(round)).await), round);
        let together = join_all((0..8).map(|n| client.call(Ask::Echo(n))));
        for (n, answer) in patient("all answers", together).await.into_iter().enumerate() {
            assert_eq!(number(answer), n as u64);
        }
        for n in 0..2 {
            assert!(matches!(next(&mut events).await, Event::Push { message, .. } if message == n));
        }
    }
    client.close().await;
    stop.cancel();
    server.join().unwrap();
}

/// The caller that looks may be the one who reads the end: it must be everybody's as well.
#[tokio::test]
async fn an_end_that_a_looking_caller_reads_is_down() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| {
        let mut raw = Raw::accepted(&listener);
        for n in 0..50 {
            let id = raw.request();
            raw.answer(id, &Told::Number(n));
        }
        raw.request();
        raw.send(|out| out.extend(framed(&[99]))); // a frame that means nothing, and is taken out of the buffer
        raw.rest()
    });
    let client = connect_unix::<Echo>(home.socket(), spinning()).await.unwrap();
    let mut events = client.events();
    for n in 0..50 {
        assert_eq!(number(client.call(Ask::Echo(n)).await), n);
    }
    let lost = patient("the call's end", client.call(Ask::Echo(50))).await.unwrap_err();
    assert_eq!(lost, CallError::ConnectionLost { maybe_executed: true });
    assert!(matches!(next(&mut events).await, Event::Up { .. }));
    let event = next(&mut events).await;
    let unknown = DownReason::Envelope(EnvelopeError::UnknownKind { kind: 99 });
    assert!(matches!(event, Event::Down { reason, .. } if reason == unknown), "{event:?}");
    assert_eq!(client.call(Ask::Echo(51)).await.unwrap_err().executed(), Executed::No);
    script.join().unwrap();
}
