//! What the watch on a socket's directory promises: shared by all clients of a process, and gone with the last of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::*;
use rustix::fs::inotify;
use shellkeep_transport::socket::create_private_dir;
use shellkeep_transport::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The process's inotify instances, and the threads that read them.
fn watching() -> (usize, usize) {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    (open_descriptors("inotify"), names.filter(|name| name.trim() == "socket-watch").count())
}

/// With an instance each, the 129th client of a user slept its whole delay.
#[test]
fn clients_that_wait_share_one_watch_and_all_come_back() {
    const CLIENTS: usize = 200;
    if !child::in_child("clients_that_wait_share_one_watch_and_all_come_back") {
        return; // only alone in its process can descriptors and threads be counted
    }
    let home = Home::new();
    let (first, second) = (runtime(), runtime());
    let clients = |runtime: &tokio::runtime::Runtime| {
        runtime.block_on(async {
            let client = || connect_unix_lazy(home.socket(), patient_policy(), nothing);
            let clients: Vec<_> = std::iter::repeat_with(client).take(CLIENTS / 2).collect();
            for client in &clients {
                tried(client).await;
            }
            clients
        })
    };
    let (ended, woken) = (clients(&first), clients(&second));
    assert_eq!(watching(), (1, 1));
    // The runtime that began the watch ends; the watch is not its own.
    drop((first, ended));
    second.block_on(async {
        let server = Server::start(&home.socket());
        for client in &woken {
            connected(client).await;
        }
        eventually("the end of the watch", || watching() == (0, 0)).await;
        assert_eq!(server.stop().await, 0);
        for client in &woken {
            disconnected(client).await;
        }
        eventually("a new watch", || watching() == (1, 1)).await;
        let _server = Server::start(&home.socket());
        for client in &woken {
            connected(client).await;
        }
        eventually("the end of that, too", || watching() == (0, 0)).await;
    });
}

#[tokio::test]
async fn all_watches_of_a_directory_survive_that_it_goes_and_returns() {
    let home = Home::new();
    let other = home.run().join("other.sock");
    let link = home.dir().join("link");
    std::os::unix::fs::symlink(home.run(), &link).unwrap();
    let paths = [home.socket(), home.socket(), other, link.join("echo.sock")];
    let mut watches = paths.map(|path| SocketWatch::new(&path));
    for moved in [false, true] {
        if moved {
            std::fs::rename(home.run(), home.dir().join("elsewhere")).unwrap();
        } else {
            std::fs::remove_dir_all(home.run()).unwrap();
        }
        for watch in &mut watches {
            patient("the disappearance", watch.changed()).await;
            watch.rearm(); // in vain
        }
        create_private_dir(&home.run()).unwrap();
        for watch in &mut watches {
            watch.rearm();
        }
        std::fs::write(home.socket(), b"").unwrap();
        for watch in [0, 1, 3] {
            patient("the appearance", watches[watch].changed()).await;
        }
        tokio::select! {
            biased;
            () = watches[2].changed() => panic!("another name is none of its business"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {} // bounds the wait for what must not come
        }
    }
    // One that leaves takes the others' watch not with it.
    let [_, mut last, ..] = watches;
    std::fs::remove_file(home.socket()).unwrap();
    patient("the disappearance", last.changed()).await;
}

#[test]
fn without_an_inotify_instance_the_delays_remain() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can become a user whose instances nobody else needs
    }
    if !child::in_child("without_an_inotify_instance_the_delays_remain") {
        return;
    }
    child::become_nobody();
    let home = Home::new();
    let instance = || inotify::init(inotify::CreateFlags::CLOEXEC).ok();
    let taken: Vec<_> = std::iter::from_fn(instance).take(1 << 16).collect();
    assert!(instance().is_none(), "{} are not all", taken.len());
    let options = ConnectOptions { server_uid: rustix::process::geteuid().as_raw(), ..ConnectOptions::default() };
    let policy = ReconnectPolicy { connect: options, ..ReconnectPolicy::default() };
    runtime().block_on(async {
        let client = connect_unix_lazy(home.socket(), policy, nothing);
        tried(&client).await;
        let options = ServerOptions { client_uid: rustix::process::geteuid().as_raw(), ..ServerOptions::default() };
        let _server = Server::start_with(&home.socket(), options);
        connected(&client).await;
        drop(taken);
        let mut watch = SocketWatch::new(&home.socket());
        std::fs::remove_file(home.socket()).unwrap();
        patient("a watch that works again", watch.changed()).await;
    });
}

/// Tries that cannot succeed cost a battery, and in a restart of thousands everybody's time.
#[tokio::test]
async fn a_client_whose_watch_works_leaves_the_short_delays_out() {
    let home = Home::new();
    let policy = |watch_directory| ReconnectPolicy {
        watch_directory,
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_hours(1),
        ..ReconnectPolicy::default()
    };
    // Counts the time in tries of one that has only its delays.
    let many_tries = async || {
        let hurried = connect_unix_lazy(home.dir().join("none"), policy(false), nothing);
        let mut state = hurried.state();
        for _ in 0..8 {
            patient("a try", state.changed()).await.unwrap();
        }
    };
    std::fs::write(home.socket(), b"").unwrap(); // refuses, like a dead server's socket
    let client = connect_unix_lazy(home.socket(), policy(true), nothing);
    let mut state = client.state();
    tried(&client).await;
    state.mark_unchanged();
    std::fs::remove_file(home.socket()).unwrap(); // nor is it worth a try that the socket goes
    many_tries().await;
    assert!(!state.has_changed().unwrap(), "it has tried again for no reason");
    // What gave hope in one outage gives none in the next.
    let server = Server::start(&home.socket());
    connected(&client).await;
    assert_eq!(server.stop().await, 0);
    let nobody = |state: &State| {
        let State::Disconnected { last_error: Some(error) } = state else { return false };
        matches!(**error, DialError::Connect(_))
    };
    patient("a try", state.wait_for(nobody)).await.map(|_| ()).unwrap();
    state.mark_unchanged();
    many_tries().await;
    assert!(!state.has_changed().unwrap(), "it has tried again for no reason");
}
