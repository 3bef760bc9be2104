//! Whom a server lets in, in which version, and what happens to everybody else.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::raw::{Raw, framed, hello, request};
use common::*;
use shellkeep_transport::*;

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

/// A handshake inside the accept loop once let one silent client block all others.
#[tokio::test]
async fn a_silent_stranger_holds_up_nobody() {
    let home = Home::new();
    let options = ServerOptions { hello_deadline: Duration::from_hours(1), ..ServerOptions::default() };
    let server = Server::start_with(&home.socket(), options);
    let silent: Vec<_> = (0..8).map(|_| Raw::dial(&home.socket())).collect();
    let client = patient("a connection", connect_unix::<Echo>(home.socket(), ConnectOptions::default()));
    assert_eq!(number(patient("an answer", client.await.unwrap().call(Ask::Echo(1))).await), 1);
    drop(silent);
    assert_eq!(server.stop().await, 0);
}

/// Asking a client that had gone for its credentials once ended the accept loop, and the daemon with it.
#[tokio::test]
async fn clients_that_vanish_before_they_are_accepted_harm_nobody() {
    let home = Home::new();
    let server = Server::start(&home.socket());
    for said in [0, 5, 36] {
        for _ in 0..64 {
            let mut raw = Raw::dial(&home.socket()); // the server has no turn before the next await
            let mut bytes = Vec::new();
            hello().append_to(&mut bytes).unwrap();
            raw.stream.write_all(&bytes[..said]).unwrap();
        }
        let client = patient("a connection", connect_unix::<Echo>(home.socket(), ConnectOptions::default()));
        assert_eq!(number(patient("an answer", client.await.unwrap().call(Ask::Echo(1))).await), 1);
    }
    assert_eq!(server.stop().await, 0);
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

#[tokio::test]
async fn until_its_first_request_a_client_is_held_to_less_memory_where_the_server_says_so() {
    let home = Home::new();
    let options = ServerOptions { first_frame_bytes_max: 1 << 10, ..ServerOptions::default() };
    let _server = Server::start_with(&home.socket(), options);
    beside(&home.socket(), |path| {
        let mut raw = Raw::dial(path);
        let mut bytes = Vec::new();
        hello().append_to(&mut bytes).unwrap();
        bytes.extend_from_slice(&((1_u32 << 10) + 1).to_le_bytes());
        raw.stream.write_all(&bytes).unwrap();
        raw.rest(); // ends: nothing is waited for behind a length like that
    })
    .await;
    let client = connect(&home.socket()).await;
    assert_eq!(number(patient("an answer", client.call(Ask::Echo(1))).await), 1);
    let answer = patient("an answer", client.call(Ask::Send(vec![7; 100 << 10]))).await;
    assert!(answer.is_ok(), "after its first request it may send more: {answer:?}");
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
