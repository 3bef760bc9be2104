//! What a connection costs while nothing happens on it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::*;
use shellkeep_transport::*;

/// Not a single wakeup: a keeper lives for weeks on somebody's battery.
#[test]
fn an_idle_connection_never_wakes_either_end() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let home = Home::new();
    let path = home.socket();
    let (server, clients) = runtime.block_on(async move {
        let server = Server::start(&path);
        let mut clients = Vec::new();
        for spin in [false, true] {
            let connect = ConnectOptions { spin, ..ConnectOptions::default() };
            let policy = ReconnectPolicy { connect, ..ReconnectPolicy::default() };
            let client = connect_unix_lazy(&path, policy, nothing);
            connected(&client).await;
            // A burst that makes every buffer grow, so that giving the memory back is a part of the test.
            for _ in 0..10 {
                client.call(Ask::Send(vec![1; 1 << 20])).await.unwrap();
                client.call(Ask::Bytes(1 << 20)).await.unwrap();
            }
            // And a quick exchange, after which one that looks for answers has been looking.
            for n in 0..100 {
                client.call(Ask::Echo(n)).await.unwrap();
            }
            drop(client.start_call(&Ask::Hang));
            clients.push(client);
        }
        (server, clients)
    });
    let metrics = runtime.metrics();
    let parks = || metrics.worker_park_count(0);
    // Timers that were set for the burst run out; each fires once and none is set again.
    std::thread::sleep(Duration::from_millis(2700));
    let before = parks();
    std::thread::sleep(Duration::from_millis(1500)); // the time over which wakeups are counted
    assert_eq!(parks() - before, 0, "wakeups while idle");
    runtime.block_on(async {
        for client in clients {
            assert_eq!(number(patient("an answer", client.call(Ask::Echo(1))).await), 1);
            client.close().await;
        }
        assert_eq!(server.stop().await, 0);
    });
}
