//! What the stream of events promises.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use common::raw::{Raw, encoded, scripted};
use common::*;
use shellkeep_transport::*;

#[tokio::test]
async fn events_come_in_order_and_nothing_follows_a_down() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect_unix_lazy(home.socket(), ReconnectPolicy::default(), nothing);
    let mut events = client.events();
    for generation in 1..=3 {
        assert!(matches!(next(&mut events).await, Event::Up { generation: up } if up == generation));
        assert_eq!(number(patient("an answer", client.call(Ask::Push(3))).await), 3);
        for n in 0..3 {
            let event = next(&mut events).await;
            let expected = matches!(event, Event::Push { generation: of, message } if (of, message) == (generation, n));
            assert!(expected, "{event:?}");
        }
        let contexts = server.seen.contexts.lock().unwrap().clone();
        contexts.last().unwrap().close(GoodbyeReason::Superseded);
        let event = next(&mut events).await;
        let reason = DownReason::Goodbye(GoodbyeReason::Superseded);
        assert!(matches!(event, Event::Down { generation: of, reason: why } if (of, why) == (generation, reason)));
        let late = contexts.last().unwrap().pusher().push(&9);
        assert!(matches!(late, Err(PushError::Closed)));
    }
}

/// What a server pushes in answer to the replay comes before the swap, and must neither be lost nor come before `Up`.
#[tokio::test]
async fn pushes_that_come_during_on_reconnect_follow_its_up() {
    let home = Home::new();
    let _server = Server::start(&home.socket());
    let client = connect_unix_with_reconnect(
        home.socket(),
        ReconnectPolicy::default(),
        |connection: Connection<Echo>| async move {
            connection.call(Ask::Push(2)).await?;
            Ok(())
        },
    );
    let client = patient("the connection", client).await.unwrap();
    let mut events = client.events();
    assert!(matches!(next(&mut events).await, Event::Up { generation: 1 }));
    assert!(matches!(next(&mut events).await, Event::Push { generation: 1, message: 0 }));
    assert!(matches!(next(&mut events).await, Event::Push { generation: 1, message: 1 }));
}

/// A read loop that waits for room in a push channel once stopped all replies.
#[tokio::test]
async fn a_consumer_that_does_not_drain_stalls_nobody() {
    let home = Home::new();
    let options = ConnectOptions { events_max: 16, ..ConnectOptions::default() };
    let policy = ReconnectPolicy { connect: options, ..ReconnectPolicy::default() };
    let server = Server::start(&home.socket());
    let client = connect_unix_lazy(home.socket(), policy, nothing);
    let mut events = client.events();
    connected(&client).await;
    for _ in 0..20 {
        // Ends with its answer or with the connection, at once in either case.
        let outcome = patient("the call's end", client.call(Ask::Push(100))).await;
        assert!(
            matches!(outcome, Ok(_) | Err(CallError::ConnectionLost { .. } | CallError::Disconnected)),
            "{outcome:?}"
        );
        connected(&client).await;
        assert_eq!(number(patient("another call", client.call(Ask::Echo(1))).await), 1);
    }
    // What was kept is whole and in order, then comes the loss with its reason, and what is there now.
    assert!(matches!(next(&mut events).await, Event::Up { generation: 1 }));
    for n in 0..15 {
        assert!(matches!(next(&mut events).await, Event::Push { generation: 1, message } if message == n));
    }
    let event = next(&mut events).await;
    assert!(matches!(event, Event::Down { generation: 1, reason: DownReason::EventsFull }), "{event:?}");
    let event = next(&mut events).await;
    assert!(matches!(event, Event::Up { generation } if generation > 10), "{event:?}");
    assert!(server.seen.connected() > 10);
}

#[tokio::test]
async fn a_client_without_a_consumer_keeps_its_connection() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    for _ in 0..3 {
        let many = EVENTS_MAX as u64;
        assert_eq!(number(patient("the answer", client.call(Ask::Push(many))).await), many);
    }
    let mut events = client.events();
    assert!(matches!(next(&mut events).await, Event::Up { generation: 1 }));
    let mut last = None;
    client.close().await;
    while let Some(event) = patient("the end", events.next()).await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::Down { generation: 1, reason: DownReason::Closed })), "{last:?}");
    assert_eq!(server.seen.connected(), 1);
}

#[tokio::test]
async fn a_later_stream_takes_over() {
    let home = Home::new();
    let _server = Server::start(&home.socket());
    let client = connect(&home.socket()).await;
    let mut first = client.events();
    let waiting = tokio::spawn(async move {
        assert!(matches!(next(&mut first).await, Event::Up { .. }));
        first.next().await.is_none()
    });
    tokio::task::yield_now().await;
    let mut second = client.events();
    assert!(patient("the end of the first", waiting).await.unwrap());
    patient("an answer", client.call(Ask::Push(1))).await.unwrap();
    assert!(matches!(next(&mut second).await, Event::Push { message: 0, .. }));
}

/// Whatever is pushed to a connection that is not in use yet, its memory is bounded.
#[tokio::test]
async fn a_flood_before_the_swap_ends_the_connection() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| {
        use std::io::Write;
        let mut raw = Raw::accepted(&listener);
        let mut bytes = Vec::new();
        let payload = &encoded(&1_u64);
        for _ in 0..5000 {
            Envelope::Push { payload }.append_to(&mut bytes, frame::FRAME_BYTES_MAX).unwrap();
        }
        let _ = raw.stream.write_all(&bytes); // fails as soon as the client has had enough
        raw.rest();
    });
    let failed = connect_unix_with_reconnect(home.socket(), ReconnectPolicy::default(), |_: Connection<Echo>| async {
        std::future::pending().await
    });
    let failed = patient("the failure", failed).await.unwrap_err();
    assert!(matches!(failed, DialError::Lost(DownReason::EventsFull)), "{failed:?}");
    script.join().unwrap();
}
