//! What a client promises about coming back.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::raw::{Raw, accept, accepting, encoded, scripted};
use common::*;
use shellkeep_transport::socket::{bind, create_private_dir};
use shellkeep_transport::*;

/// The four promises of the founding plan, in one life.
#[tokio::test]
async fn it_reconnects_fails_calls_meanwhile_and_runs_on_reconnect_once_per_connection() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let runs = Arc::new(Mutex::new(Vec::new()));
    let client = connect_unix_with_reconnect(home.socket(), ReconnectPolicy::default(), {
        let runs = Arc::clone(&runs);
        move |connection: Connection<Echo>| {
            runs.lock().unwrap().push(connection.generation());
            async move {
                // The replay of a registration goes over the new connection before anybody else can.
                let told = connection.call(Ask::Echo(connection.generation())).await?;
                assert_eq!(told.response, Told::Number(connection.generation()));
                Ok(())
            }
        }
    });
    let client = patient("the first connection", client).await.unwrap();
    assert_eq!(*runs.lock().unwrap(), [1]);
    for generation in 1..=5 {
        assert_eq!(connected(&client).await, generation);
        let answer = patient("an answer", client.call(Ask::Echo(100))).await.unwrap();
        assert_eq!((answer.generation, answer.response), (generation, Told::Number(100)));
        if generation == 5 {
            break;
        }
        let contexts = server.seen.contexts.lock().unwrap().clone();
        contexts.last().unwrap().close(GoodbyeReason::Superseded);
        let next = client
            .state()
            .wait_for(move |state| match state {
                State::Connected { generation: now, .. } => *now > generation,
                _ => false,
            })
            .await
            .map(|_| ());
        next.unwrap();
    }
    assert_eq!(*runs.lock().unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(server.seen.connected(), 5);
    // And with no server at all:
    assert_eq!(server.stop().await, 0);
    disconnected(&client).await;
    let begun = Instant::now();
    assert_eq!(client.call(Ask::Echo(1)).await.unwrap_err(), CallError::Disconnected);
    assert!(begun.elapsed() < Duration::from_millis(50));
    let server = Server::start(&home.socket());
    assert_eq!(connected(&client).await, 6, "tries that found nobody spend no number");
    assert_eq!(number(patient("an answer", client.call(Ask::Echo(2))).await), 2);
    assert_eq!(runs.lock().unwrap().len(), 6);
    assert_eq!(server.seen.connected(), 1);
}

#[tokio::test]
async fn a_server_that_had_to_listen_elsewhere_is_found_there_and_at_its_usual_path_again() {
    let (home, other) = (Home::new(), Home::new());
    let server = Server::start(&other.socket());
    let policy = ReconnectPolicy { alternatives: vec![other.socket()], ..ReconnectPolicy::default() };
    let client = connect_unix_lazy(home.socket(), policy, |_: Connection<Echo>| async { Ok(()) });
    assert_eq!(connected(&client).await, 1);
    assert_eq!(number(patient("an answer", client.call(Ask::Echo(1))).await), 1);
    // Both are up: the usual path wins.
    let usual = Server::start(&home.socket());
    server.stop().await;
    disconnected(&client).await;
    assert_eq!(connected(&client).await, 2);
    assert_eq!(usual.seen.connected(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_up_is_an_error_at_first_and_none_for_a_lazy_client() {
    let home = Home::new();
    let failed = connect_unix_with_reconnect(home.socket(), ReconnectPolicy::default(), nothing).await;
    assert!(matches!(failed, Err(DialError::Connect(socket::ConnectError::NotFound))));
    let client = connect_unix_lazy(home.socket(), ReconnectPolicy::default(), nothing);
    assert_eq!(client.call(Ask::Echo(1)).await.unwrap_err(), CallError::Disconnected);
    let _server = Server::start(&home.socket());
    connected(&client).await;
    assert_eq!(number(patient("an answer", client.call(Ask::Echo(1))).await), 1);
}

/// An `on_reconnect` that waits for ever on a hung listener once ended reconnection for good.
#[tokio::test]
async fn a_healthy_server_takes_over_from_one_that_accepts_and_never_answers() {
    let home = Home::new();
    let policy = ReconnectPolicy {
        connect: ConnectOptions { hello_wait: Duration::from_millis(50), ..ConnectOptions::default() },
        ..ReconnectPolicy::default()
    };
    let (hung, reached) = std::sync::mpsc::channel();
    let (file, listener) = bind(&home.socket()).unwrap().into_parts();
    let client = connect_unix_lazy(home.socket(), policy, nothing);
    std::thread::spawn(move || {
        let streams = [accept(&listener), accept(&listener)]; // held open, silent
        let _ = hung.send((streams, listener));
    });
    let hung = tokio::task::spawn_blocking(move || reached.recv().unwrap());
    let _hung = patient("two tries at the hung server", hung).await.unwrap();
    assert!(!client.state().borrow().is_connected());
    drop(file);
    let _server = Server::start(&home.socket());
    connected(&client).await;
    assert_eq!(number(patient("an answer", client.call(Ask::Echo(1))).await), 1);
}

/// The same one step later: the Hello is answered, the replay never is.
#[tokio::test]
async fn on_reconnect_has_a_time_limit() {
    let home = Home::new();
    let policy = ReconnectPolicy { on_reconnect_wait: Duration::from_millis(50), ..ReconnectPolicy::default() };
    let server = Server::start(&home.socket());
    let tries = Arc::new(AtomicUsize::new(0));
    let client = connect_unix_lazy(home.socket(), policy, {
        let tries = Arc::clone(&tries);
        move |connection: Connection<Echo>| {
            let ask = match tries.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => Ask::Hang,
                _ => Ask::Echo(1),
            };
            async move {
                connection.call_with_deadline(ask, Duration::from_mins(1)).await?;
                Ok(())
            }
        }
    });
    assert_eq!(connected(&client).await, 3);
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    let ended = |seen: &Seen| seen.disconnected() == 2 && seen.running() == 0;
    server.seen.until("the end of the two that hung", ended).await;
}

#[tokio::test]
async fn on_reconnect_may_fail_or_panic_and_is_tried_again() {
    let home = Home::new();
    let _server = Server::start(&home.socket());
    let tries = Arc::new(AtomicUsize::new(0));
    let client = connect_unix_lazy(home.socket(), ReconnectPolicy::default(), {
        let tries = Arc::clone(&tries);
        move |_: Connection<Echo>| {
            let attempt = tries.fetch_add(1, Ordering::SeqCst);
            assert_ne!(attempt, 0, "a panic before the future");
            async move {
                assert_ne!(attempt, 1, "a panic inside of it");
                if attempt == 2 { Err("busy".into()) } else { Ok(()) }
            }
        }
    });
    let mut events = client.events();
    assert_eq!(connected(&client).await, 4);
    assert!(matches!(next(&mut events).await, Event::Up { generation: 4 }), "failed tries are no events");
}

/// A connection that was lost between the callback's success and the swap once was put into use: calls hung in it.
#[tokio::test]
async fn a_connection_that_dies_between_on_reconnect_and_the_swap_is_never_used() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let tries = Arc::new(AtomicUsize::new(0));
    let client = connect_unix_lazy(home.socket(), ReconnectPolicy::default(), {
        let tries = Arc::clone(&tries);
        move |connection: Connection<Echo>| {
            let attempt = tries.fetch_add(1, Ordering::SeqCst);
            async move {
                if attempt == 0 {
                    let lost = connection.call(Ask::CloseMe).await.unwrap_err();
                    assert!(matches!(lost, CallError::ConnectionLost { .. }));
                }
                Ok(()) // although it is dead by now
            }
        }
    });
    let mut events = client.events();
    assert!(matches!(next(&mut events).await, Event::Up { generation: 2 }));
    assert_eq!(connected(&client).await, 2);
    assert_eq!(number(patient("an answer", client.call(Ask::Echo(1))).await), 1);
    assert_eq!(server.seen.connected(), 2);
}

/// `Arc::try_unwrap(..).expect("sole owner")` once ended reconnection for a callback that kept a clone.
#[tokio::test]
async fn a_clone_kept_by_on_reconnect_is_harmless() {
    let home = Home::new();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let server = Server::start(&home.socket());
    let client = connect_unix_lazy(home.socket(), ReconnectPolicy::default(), {
        let kept = Arc::clone(&kept);
        move |connection: Connection<Echo>| {
            kept.lock().unwrap().push(connection);
            async { Ok(()) }
        }
    });
    connected(&client).await;
    let first = kept.lock().unwrap()[0].clone();
    assert_eq!(number(patient("an answer", first.call(Ask::Echo(1))).await), 1);
    assert_eq!(server.stop().await, 0);
    disconnected(&client).await;
    assert_eq!(first.call(Ask::Echo(1)).await.unwrap_err(), CallError::Disconnected);
    let server = Server::start(&home.socket());
    connected(&client).await;
    assert_eq!(number(patient("an answer", client.call(Ask::Echo(2))).await), 2);
    assert_eq!(first.call(Ask::Echo(1)).await.unwrap_err(), CallError::Disconnected);
    drop(client);
    server.seen.until("the end", |seen| seen.disconnected() == 1).await;
    let second = kept.lock().unwrap()[1].clone();
    assert!(matches!(second.call(Ask::Echo(1)).await.unwrap_err(), CallError::Closed { .. }));
}

/// Giving up one connection is not closing the client: nothing may take it for that.
#[tokio::test]
async fn a_connection_that_is_given_up_is_replaced() {
    let home = Home::new();
    let _server = Server::start(&home.socket());
    let kept = Arc::new(Mutex::new(Vec::new()));
    let client = connect_unix_lazy(home.socket(), ReconnectPolicy::default(), {
        let kept = Arc::clone(&kept);
        move |connection: Connection<Echo>| {
            kept.lock().unwrap().push(connection);
            async { Ok(()) }
        }
    });
    let mut events = client.events();
    assert!(matches!(next(&mut events).await, Event::Up { generation: 1 }));
    let waiting = client.start_call(&Ask::Hang);
    kept.lock().unwrap()[0].end();
    let late = client.call(Ask::Echo(1)).await.unwrap_err();
    assert_eq!(late, CallError::Disconnected);
    let lost = patient("the call's end", waiting).await.unwrap_err();
    assert!(matches!(lost, CallError::ConnectionLost { .. }), "{lost:?}");
    assert!(matches!(next(&mut events).await, Event::Down { generation: 1, reason: DownReason::GivenUp }));
    assert!(matches!(next(&mut events).await, Event::Up { generation: 2 }));
}

#[tokio::test]
async fn an_answer_on_a_new_connection_never_reaches_a_call_of_the_old_one() {
    let home = Home::new();
    let script = scripted(&home.socket(), |listener| {
        let mut raw = Raw::accepted(&listener);
        let old = raw.request();
        drop(raw);
        let mut raw = Raw::new(accept(&listener));
        raw.frame().unwrap();
        // Late, on the wrong connection, and in one write with the reply: read before anybody can ask anything.
        let mut bytes = accepting();
        let payload = &encoded(&Told::Number(666));
        Envelope::Response { id: old, payload }.append_to(&mut bytes, frame::FRAME_BYTES_MAX).unwrap();
        raw.stream.write_all(&bytes).unwrap();
        let new = raw.request();
        assert_eq!(old, new, "ids begin anew on each connection, which is what makes this a test");
        raw.answer(new, &Told::Number(2));
        raw.rest();
    });
    let client = connect_unix_lazy(home.socket(), ReconnectPolicy::default(), nothing);
    connected(&client).await;
    let old = client.start_call(&Ask::Echo(1));
    assert_eq!(patient("the loss", old).await.unwrap_err(), CallError::ConnectionLost { maybe_executed: true });
    let mut state = client.state();
    let second = |state: &State| matches!(state, State::Connected { generation: 2, .. });
    patient("the second connection", state.wait_for(second)).await.map(|_| ()).unwrap();
    let answer = patient("the answer", client.call(Ask::Echo(2))).await.unwrap();
    assert_eq!((answer.generation, answer.response), (2, Told::Number(2)));
    drop(client);
    tokio::task::spawn_blocking(|| script.join().unwrap()).await.unwrap();
}

/// 100 clients made and dropped once left 100 descriptors and 300 tasks, which went on to register dead sessions.
#[tokio::test]
async fn a_thousand_dropped_clients_leave_nothing() {
    if !child::in_child("a_thousand_dropped_clients_leave_nothing") {
        return; // only alone in its process can descriptors be counted
    }
    let home = Home::new();
    let server = Server::start(&home.socket());
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    drop(connect(&home.socket()).await);
    server.seen.until("a first end", |seen| seen.disconnected() == 1).await;
    eventually("the first client's tasks", || tasks() == 2).await; // the server's accept, and the test's waiting
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let (sockets_before, tasks_before, threads_before) = (open_sockets(), tasks(), threads());
    for n in 0..1000 {
        let path = home.socket();
        match n % 4 {
            0 => drop(connect(&path).await),
            1 => drop(connect_unix_with_reconnect(&path, ReconnectPolicy::default(), nothing).await.unwrap()),
            2 => {
                let client = connect_unix_lazy(&path, ReconnectPolicy::default(), nothing);
                connected(&client).await;
            }
            // One that never finds its server, dropped with a watch and an hour's delay under way.
            _ => {
                let client = connect_unix_lazy(home.run().join("none"), patient_policy(), nothing);
                tried(&client).await;
            }
        }
    }
    eventually("the end of all tasks", || tasks() == tasks_before).await;
    eventually("the end of all sockets and of the watch", || open_sockets() == sockets_before).await;
    eventually("the end of all threads", || threads() == threads_before).await;
    assert_eq!(server.seen.connected(), server.seen.disconnected());
}

#[tokio::test]
async fn the_last_handle_ends_a_client_that_is_disconnected() {
    let home = Home::new();
    let client = connect_unix_lazy(home.socket(), patient_policy(), nothing);
    let mut events = client.events();
    tokio::task::yield_now().await;
    let clone = client.clone();
    drop(client);
    let mut state = clone.state();
    drop(clone);
    assert!(patient("the end of the events", events.next()).await.is_none());
    patient("the end", state.wait_for(|state| matches!(state, State::Closed))).await.unwrap();
}

#[tokio::test]
async fn close_ends_a_client_in_the_middle_of_a_try() {
    let home = Home::new();
    let _server = Server::start(&home.socket());
    let (inside, mut reached) = tokio::sync::mpsc::channel(1);
    let client = connect_unix_lazy(home.socket(), ReconnectPolicy::default(), move |_: Connection<Echo>| {
        let inside = inside.clone();
        async move {
            let _ = inside.send(()).await;
            std::future::pending().await
        }
    });
    patient("on_reconnect", reached.recv()).await.unwrap();
    let begun = Instant::now();
    patient("the close", client.close()).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_socket_that_appears_wakes_the_client_before_its_delay() {
    let home = Home::new();
    let client = connect_unix_lazy(home.socket(), patient_policy(), nothing);
    tried(&client).await;
    let server = Server::start(&home.socket());
    let begun = Instant::now();
    connected(&client).await;
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(server.stop().await, 0);
    disconnected(&client).await;
    let _server = Server::start(&home.socket());
    connected(&client).await;
}

#[tokio::test]
async fn a_socket_that_is_bound_in_place_wakes_the_client_too() {
    let home = Home::new();
    let client = connect_unix_lazy(home.socket(), patient_policy(), nothing);
    tried(&client).await;
    let listener = std::os::unix::net::UnixListener::bind(home.socket()).unwrap();
    let _server = Server::on(socket::BoundSocket::inherited(listener), ServerOptions::default());
    connected(&client).await;
}

#[tokio::test]
async fn reconnect_now_wakes_the_client_before_its_delay() {
    let home = Home::new();
    let policy = ReconnectPolicy { watch_directory: false, ..patient_policy() };
    let client = connect_unix_lazy(home.socket(), policy, nothing);
    tried(&client).await;
    let _server = Server::start(&home.socket());
    client.reconnect_now();
    connected(&client).await;
}

#[tokio::test]
async fn the_watch_survives_the_disappearance_of_its_directory() {
    let home = Home::new();
    let policy = ReconnectPolicy {
        delay_min: Duration::from_millis(20),
        delay_max: Duration::from_millis(20),
        ..ReconnectPolicy::default()
    };
    let server = Server::start(&home.socket());
    let client = connect_unix_lazy(home.socket(), policy, nothing);
    connected(&client).await;
    assert_eq!(server.stop().await, 0);
    disconnected(&client).await;
    std::fs::remove_dir_all(home.run()).unwrap();
    tried(&client).await;
    create_private_dir(&home.run()).unwrap();
    let _server = Server::start(&home.socket());
    connected(&client).await;
    assert_eq!(number(patient("an answer", client.call(Ask::Echo(1))).await), 1);
}

#[tokio::test]
async fn a_watch_tells_of_its_socket_and_of_nothing_else() {
    let home = Home::new();
    let mut watch = SocketWatch::new(&home.socket());
    std::fs::write(home.run().join("other"), b"").unwrap();
    tokio::select! {
        biased;
        () = watch.changed() => panic!("another file is none of its business"),
        () = tokio::time::sleep(Duration::from_millis(20)) => {} // bounds the wait for what must not come
    }
    std::fs::write(home.socket(), b"").unwrap();
    patient("the appearance", watch.changed()).await;
    std::fs::remove_file(home.socket()).unwrap();
    patient("the disappearance", watch.changed()).await;
}

/// Reset on connect, a server that takes connections and drops them would be dialled in a tight loop.
#[tokio::test]
async fn a_server_that_accepts_and_dies_is_not_dialled_in_a_tight_loop() {
    let home = Home::new();
    let delay = Duration::from_millis(20);
    let policy = ReconnectPolicy { delay_min: delay, delay_max: delay, ..ReconnectPolicy::default() };
    let times = 10_u32;
    let script = scripted(&home.socket(), move |listener| {
        let begun = Instant::now();
        for _ in 0..times {
            drop(Raw::accepted(&listener));
        }
        begun.elapsed()
    });
    let client = connect_unix_lazy(home.socket(), policy, nothing);
    let took = tokio::task::spawn_blocking(|| script.join().unwrap()).await.unwrap();
    assert!(took >= delay * (times - 1), "{times} connections in {took:?}");
    drop(client);
}
