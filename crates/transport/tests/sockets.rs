//! What binding and connecting promise about the files behind sockets.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use common::*;
use shellkeep_transport::socket::{
    BindError, BoundSocket, ConnectError, DEAD_FOR_MIN, ForeignKind, bind, connect, create_private_dir, own_uid,
    peer_credentials, remove_dead,
};
use shellkeep_transport::{ConnectOptions, RpcClient, ServerOptions};

fn reaches(path: &Path, socket: &BoundSocket) {
    let client = connect(path, own_uid()).unwrap();
    socket.listener().set_nonblocking(false).unwrap();
    let (stream, _) = socket.listener().accept().unwrap();
    assert_eq!(peer_credentials(&stream).unwrap().pid, Some(std::process::id()));
    drop(client);
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Bound first and chmodded after, a socket once had a moment with the umask's mode.
#[test]
fn a_socket_is_its_owners_only_whatever_the_umask() {
    if !child::in_child("a_socket_is_its_owners_only_whatever_the_umask") {
        return; // the umask is the process's
    }
    let home = Home::new();
    rustix::process::umask(rustix::fs::Mode::empty());
    let socket = bind(&home.socket()).unwrap();
    let found = std::fs::symlink_metadata(home.socket()).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    reaches(&home.socket(), &socket);
    let made = home.dir().join("made");
    create_private_dir(&made).unwrap();
    assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_bound_socket_knows_and_removes_only_its_own_file() {
    let home = Home::new();
    let socket = bind(&home.socket()).unwrap();
    assert_eq!(names(&home.run()), ["echo.sock"], "nothing is left aside");
    assert!(socket.still_bound());
    assert_eq!(socket.file().unwrap().inode(), std::fs::symlink_metadata(home.socket()).unwrap().ino());
    drop(socket);
    assert!(names(&home.run()).is_empty());

    let removed = bind(&home.socket()).unwrap();
    std::fs::remove_file(home.socket()).unwrap();
    assert!(!removed.still_bound());
    let other = bind(&home.socket()).unwrap();
    assert!(!removed.still_bound());
    drop(removed);
    assert!(other.still_bound(), "another one's file is not removed");
    reaches(&home.socket(), &other);

    std::fs::remove_dir_all(home.run()).unwrap();
    assert!(!other.still_bound());
    drop(other);
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let home = Home::new();
    drop(UnixListener::bind(home.socket()).unwrap()); // leaves its file, like a killed server
    assert!(matches!(connect(&home.socket(), own_uid()), Err(ConnectError::Refused)));
    let socket = bind(&home.socket()).unwrap();
    reaches(&home.socket(), &socket);
    assert!(matches!(bind(&home.socket()), Err(BindError::InUse { .. })));
    assert!(socket.still_bound());
    reaches(&home.socket(), &socket);
    assert_eq!(names(&home.run()), ["echo.sock"]);
}

/// A server that is stopped, its queue full, is as alive as any.
#[test]
fn a_full_queue_is_live_and_never_blocks() {
    let home = Home::new();
    let socket = bind(&home.socket()).unwrap();
    rustix::net::listen(socket.listener(), 0).unwrap(); // the least queue: one
    let mut waiting = Vec::new();
    let busy = loop {
        match connect(&home.socket(), own_uid()) {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
        assert!(waiting.len() < 10);
    };
    assert!(matches!(busy, ConnectError::Busy), "{busy:?}");
    assert!(matches!(bind(&home.socket()), Err(BindError::InUse { .. })));
    assert!(socket.still_bound());
}

#[test]
fn a_foreign_object_is_never_replaced() {
    type Make = fn(&Path) -> Option<UnixDatagram>;
    let cases: [(Make, ForeignKind); 5] = [
        (|path| std::fs::write(path, b"kept").map(|()| None).unwrap(), ForeignKind::File),
        (|path| std::fs::create_dir(path).map(|()| None).unwrap(), ForeignKind::Directory),
        (|path| symlink("nowhere", path).map(|()| None).unwrap(), ForeignKind::Symlink),
        (
            |path| {
                use rustix::fs::{CWD, FileType, Mode, mknodat};
                mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).map(|()| None).unwrap()
            },
            ForeignKind::Fifo,
        ),
        (|path| Some(UnixDatagram::bind(path).unwrap()), ForeignKind::Socket),
    ];
    for (make, expected) in cases {
        let home = Home::new();
        let _open = make(&home.socket());
        let before = std::fs::symlink_metadata(home.socket()).unwrap();
        match bind(&home.socket()) {
            Err(BindError::Foreign { kind, .. }) => assert_eq!(kind, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
        let after = std::fs::symlink_metadata(home.socket()).unwrap();
        assert_eq!((before.ino(), before.file_type()), (after.ino(), after.file_type()));
        assert_eq!(names(&home.run()), ["echo.sock"]);
    }
}

#[test]
fn a_link_to_a_dead_socket_is_not_followed() {
    let home = Home::new();
    let real = home.run().join("real.sock");
    drop(UnixListener::bind(&real).unwrap());
    symlink(&real, home.socket()).unwrap();
    let refused = bind(&home.socket());
    assert!(matches!(refused, Err(BindError::Foreign { kind: ForeignKind::Symlink, .. })), "{refused:?}");
    assert!(std::fs::symlink_metadata(&real).unwrap().file_type().is_socket());
}

#[test]
fn another_users_dead_socket_is_foreign() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can make one
    }
    let home = Home::new();
    drop(UnixListener::bind(home.socket()).unwrap());
    std::os::unix::fs::chown(home.socket(), Some(65534), None).unwrap();
    let refused = bind(&home.socket());
    assert!(matches!(refused, Err(BindError::Foreign { kind: ForeignKind::Socket, .. })), "{refused:?}");
    assert!(home.socket().exists());
}

#[test]
fn a_directory_that_others_can_enter_is_refused() {
    let home = Home::new();
    for mode in [0o755, 0o770, 0o701] {
        std::fs::set_permissions(home.run(), std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(bind(&home.socket()), Err(BindError::NotPrivate { mode: found, .. }) if found == mode));
        assert!(matches!(create_private_dir(&home.run()), Err(BindError::NotPrivate { .. })));
    }
    std::fs::set_permissions(home.run(), std::fs::Permissions::from_mode(0o700)).unwrap();
    create_private_dir(&home.run()).unwrap();
    let link = home.dir().join("link");
    symlink(home.run(), &link).unwrap();
    assert!(matches!(create_private_dir(&link), Err(BindError::Io { .. })), "a link is no directory");
}

/// An address holds 108 bytes; homes are longer than that.
#[tokio::test]
async fn a_path_of_three_hundred_characters_is_bound_watched_and_connected() {
    let home = Home::new();
    let mut dir = home.run();
    while dir.as_os_str().len() < 300 {
        dir = dir.join("a-rather-long-directory-name");
        create_private_dir(&dir).unwrap();
    }
    let path = dir.join("echo.sock");
    let client = shellkeep_transport::connect_unix_lazy(&path, patient_policy(), nothing);
    for _ in 0..2 {
        let server = Server::start_with(&path, ServerOptions::default());
        connected(&client).await;
        assert_eq!(number(patient("an answer", client.call(Ask::Echo(1))).await), 1);
        assert!(matches!(bind(&path), Err(BindError::InUse { .. })));
        assert_eq!(server.stop().await, 0);
        disconnected(&client).await;
        assert!(!path.exists());
    }
}

#[test]
fn a_name_that_fits_no_address_is_an_error_of_its_own() {
    let home = Home::new();
    let path = home.run().join("n".repeat(120));
    assert!(matches!(bind(&path), Err(BindError::NameTooLong { .. })));
    assert!(matches!(connect(&path, own_uid()), Err(ConnectError::Io(_))));
}

#[tokio::test]
async fn an_inherited_listener_is_served_and_its_file_left_alone() {
    let home = Home::new();
    let listener = UnixListener::bind(home.socket()).unwrap();
    let theirs = listener.try_clone().unwrap();
    let socket = BoundSocket::inherited(listener);
    assert!(socket.still_bound() && socket.file().is_none());
    let server = Server::on(socket, ServerOptions::default());
    let client: RpcClient<Echo> = common::connect(&home.socket()).await;
    assert_eq!(number(patient("an answer", client.call(Ask::Echo(1))).await), 1);
    assert_eq!(server.stop().await, 0);
    assert!(home.socket().exists());
    // The restart is invisible: whoever connects now is served by the next one.
    let waiting = UnixStream::connect(home.socket()).unwrap();
    let _server = Server::on(BoundSocket::inherited(theirs), ServerOptions::default());
    let options = ConnectOptions::default();
    let client: RpcClient<Echo> = shellkeep_transport::connect_unix(home.socket(), options).await.unwrap();
    assert_eq!(number(patient("an answer", client.call(Ask::Echo(2))).await), 2);
    drop(waiting);
}

/// Eight processes at once: one serves at the path in the end, and no file is left over.
#[test]
fn of_many_that_bind_at_once_one_is_found_at_the_path() {
    let home = Home::new();
    for _ in 0..20 {
        drop(UnixListener::bind(home.socket()).ok()); // stale, the harder case
        let bound: Vec<_> = std::thread::scope(|scope| {
            let binding: Vec<_> = (0..8).map(|_| scope.spawn(|| bind(&home.socket()))).collect();
            binding.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let at_path: Vec<_> = bound.iter().flatten().filter(|socket| socket.still_bound()).collect();
        assert_eq!(at_path.len(), 1);
        reaches(&home.socket(), at_path[0]);
        drop(bound);
        assert!(names(&home.run()).is_empty(), "{:?}", names(&home.run()));
    }
}

/// Somebody is killed while binding, or for good: what is left goes, and nothing else.
#[test]
fn only_dead_sockets_of_ours_that_are_old_are_removed() {
    let age = |path: &Path| {
        let then = std::time::SystemTime::now() - DEAD_FOR_MIN - std::time::Duration::from_secs(1);
        let since = then.duration_since(std::time::UNIX_EPOCH).unwrap();
        let time = rustix::fs::Timespec { tv_sec: since.as_secs().cast_signed(), tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    };
    let home = Home::new();
    let path = |name: &str| home.run().join(name);
    let _live = UnixListener::bind(path("live")).unwrap();
    drop(UnixListener::bind(path("young")).unwrap());
    drop(UnixListener::bind(path(".dead.sock.77-0")).unwrap());
    std::fs::write(path("file"), "mine").unwrap();
    symlink(path(".dead.sock.77-0"), path("link")).unwrap();
    for name in ["live", ".dead.sock.77-0", "file", "link"] {
        age(&path(name));
    }
    let mut left = names(&home.run());
    left.retain(|name| !remove_dead(&path(name)));
    left.sort();
    assert_eq!(left, ["file", "link", "live", "young"]);
    assert!(!path(".dead.sock.77-0").exists());
}
