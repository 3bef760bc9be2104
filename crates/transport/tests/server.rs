//! What a server promises, also to clients that do not keep to anything.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::raw::{Raw, encoded, framed, hello, request};
use common::*;
use shellkeep_transport::*;

/// Runs a blocking client beside the server of this test.
async fn beside<T: Send + 'static>(path: &Path, script: impl FnOnce(&Path) -> T + Send + 'static) -> T {
    let path = path.to_owned();
    let script = tokio::task::spawn_blocking(move || script(&path));
    patient("the raw client's end", script).await.unwrap()
}

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
    let calls: Vec<_> = (0..100).map(|_| client.start_call(&Ask::Hang)).collect();
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
    seen.open_gate(1);
    assert_eq!(number(patient("the running call's answer", running).await), 1);
    assert_eq!(stopping.await.unwrap(), 0);
    assert!(matches!(next(&mut events).await, Event::Up { .. }));
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

#[tokio::test]
async fn a_full_server_refuses_in_words_and_takes_the_next_when_one_leaves() {
    let home = Home::new();
    let options = ServerOptions { connections_max: 1, ..ServerOptions::default() };
    let server = Server::start_with(&home.socket(), options);
    let first = connect(&home.socket()).await;
    let refused = connect_unix::<Echo>(home.socket(), ConnectOptions::default()).await.unwrap_err();
    match refused {
        DialError::Refused(refusal) => assert_eq!(refusal.kind, RefusalKind::Full),
        other => panic!("not a refusal: {other:?}"),
    }
    patient("the close", first.close()).await;
    let second = connect(&home.socket()).await;
    assert_eq!(number(patient("an answer", second.call(Ask::Echo(1))).await), 1);
    assert_eq!(server.rpc.connections(), 1);
}

enum Older {}

impl Protocol for Older {
    type Request = Ask;
    type Response = Told;
    type Push = u64;
    const NAME: [u8; 4] = Echo::NAME;
    const VERSIONS: std::ops::RangeInclusive<u16> = 0..=2;
}

enum TooNew {}

impl Protocol for TooNew {
    type Request = Ask;
    type Response = Told;
    type Push = u64;
    const NAME: [u8; 4] = Echo::NAME;
    const VERSIONS: std::ops::RangeInclusive<u16> = 4..=9;
}

enum Foreign {}

impl Protocol for Foreign {
    type Request = Ask;
    type Response = Told;
    type Push = u64;
    const NAME: [u8; 4] = *b"else";
    const VERSIONS: std::ops::RangeInclusive<u16> = 1..=3;
}

/// A failed version check once answered "no" and then served all messages anyway.
#[tokio::test]
async fn the_highest_common_version_is_spoken_and_without_one_nothing_is() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    let older = connect_unix::<Older>(home.socket(), ConnectOptions::default()).await.unwrap();
    assert!(matches!(*older.state().borrow(), State::Connected { version: 2, .. }));
    let kind = |error| match error {
        DialError::Refused(refusal) => (refusal.kind, refusal.versions),
        other => panic!("not a refusal: {other:?}"),
    };
    let newer = connect_unix::<TooNew>(home.socket(), ConnectOptions::default()).await.unwrap_err();
    assert_eq!(kind(newer), (RefusalKind::Version, 1..=3));
    let foreign = connect_unix::<Foreign>(home.socket(), ConnectOptions::default()).await.unwrap_err();
    assert_eq!(kind(foreign), (RefusalKind::Conversation, 1..=3));
    beside(&home.socket(), |path| {
        let mut raw = Raw::dial(path);
        let hello = Hello { versions: 7..=8, ..hello() };
        raw.send(|out| hello.append_to(out).unwrap());
        let _ = raw.stream.write_all(&request(1, &Ask::Echo(666)));
        assert!(raw.frame().is_some(), "the refusal");
        assert!(raw.frame().is_none(), "and nothing after it");
    })
    .await;
    assert_eq!(*server.seen.versions.lock().unwrap(), [2]);
    assert_eq!(*server.seen.echoes.lock().unwrap(), []);
}

#[tokio::test]
async fn strangers_are_held_to_a_deadline_and_to_little_memory() {
    let home = Home::new();
    let hello_deadline = Duration::from_millis(300);
    let options = ServerOptions { hello_deadline, unauthenticated_max: 2, ..ServerOptions::default() };
    let server = Server::start_with(&home.socket(), options);
    let too_long = (frame::HELLO_FRAME_BYTES_MAX + 1).to_le_bytes().to_vec();
    for bytes in [
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        too_long,
        framed(b"\x93KEPT\r\n\x01 too short"),
        request(1, &Ask::Echo(666)),
    ] {
        beside(&home.socket(), move |path| {
            let mut raw = Raw::dial(path);
            raw.stream.write_all(&bytes).unwrap();
            let begun = Instant::now();
            assert_eq!(raw.rest(), [], "a stranger is told nothing");
            assert_eq!(begun.elapsed() >= hello_deadline / 2, bytes.is_empty(), "only silence is waited for");
        })
        .await;
    }
    assert_eq!(server.seen.connected(), 0);
    // Two silent ones take all places; who comes next waits for the deadline to clear them, and is served then.
    let silent = beside(&home.socket(), |path| [Raw::dial(path), Raw::dial(path)]).await;
    assert_eq!(number(patient("an answer", connect(&home.socket()).await.call(Ask::Echo(1))).await), 1);
    drop(silent);
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
        tokio::time::sleep(Duration::from_millis(5)).await;
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

/// Any error of accept once ended the whole server.
#[tokio::test]
async fn a_server_without_descriptors_left_survives() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if !child::in_child("a_server_without_descriptors_left_survives") {
        return;
    }
    let home = Home::new();
    let server = Server::start(&home.socket());
    let before = connect(&home.socket()).await;
    let old = getrlimit(Resource::Nofile);
    // Sockets made beforehand, connected when no descriptor is left: each takes one of the server's.
    let mut clients: Vec<_> = (0..20).map(|_| unconnected()).collect();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(open), maximum: old.maximum }).unwrap();
    let address = rustix::net::SocketAddrUnix::new(home.socket()).unwrap();
    for client in &clients {
        rustix::net::connect(client, &address).unwrap();
    }
    // Turned away by the descriptor held in reserve, long before the first ones lose their place for silence.
    let begun = Instant::now();
    let mut turned_away = Raw::new(clients.pop().unwrap().into());
    let end = tokio::task::spawn_blocking(move || turned_away.frame());
    assert!(patient("an end", end).await.unwrap().is_none());
    assert!(begun.elapsed() < HELLO_DEADLINE / 2, "{:?}", begun.elapsed());
    assert_eq!(number(patient("an older client's answer", before.call(Ask::Echo(1))).await), 1);
    drop(clients);
    let after = loop {
        // The server may be pausing with its last descriptor; it serves again when there are some.
        match connect_unix::<Echo>(home.socket(), ConnectOptions::default()).await {
            Ok(client) => break client,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    };
    assert_eq!(number(patient("a new client's answer", after.call(Ask::Echo(2))).await), 2);
    setrlimit(Resource::Nofile, old).unwrap();
    assert_eq!(server.seen.connected(), 2);
}

fn unconnected() -> std::os::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

/// S4: with the directory forced open, another user is turned away before a byte of his is parsed.
#[test]
fn another_user_is_refused_on_both_ends() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can become another user
    }
    if !child::in_child("another_user_is_refused_on_both_ends") {
        return;
    }
    let home = Home::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ours, theirs) = (runtime(), runtime());
    let server = ours.block_on(async { Server::start(&home.socket()) });
    for (path, mode) in [(home.dir().to_owned(), 0o777), (home.run(), 0o777), (home.socket(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let (path, planted) = (home.socket(), home.dir().join("planted.sock"));
    let stranger = std::thread::spawn({
        let planted = planted.clone();
        move || {
            child::become_nobody(); // this thread only
            let as_root = ConnectOptions { server_uid: 0, ..ConnectOptions::default() };
            let refused = theirs.block_on(connect_unix::<Echo>(&path, as_root)).unwrap_err();
            let careful = theirs.block_on(connect_unix::<Echo>(&path, ConnectOptions::default()));
            let listener = std::os::unix::net::UnixListener::bind(&planted).unwrap();
            (refused.to_string(), careful.unwrap_err().to_string(), listener)
        }
    });
    ours.block_on(eventually("the stranger's end", || stranger.is_finished()));
    let (refused, careful, listener) = stranger.join().unwrap();
    assert!(refused.contains("connection broke"), "{refused}");
    assert!(careful.contains("runs as user 0, not 65534"), "{careful}");
    // And the other way round: a server planted by him is not spoken to.
    let fooled = ours.block_on(connect_unix::<Echo>(&planted, ConnectOptions::default())).unwrap_err();
    assert!(fooled.to_string().contains("runs as user 65534, not 0"), "{fooled}");
    assert!(listener.accept().is_ok_and(|(stream, _)| Raw::new(stream).rest().is_empty()));
    assert_eq!(server.seen.connected(), 0);
    assert_eq!(ours.block_on(server.stop()), 0);
}
