//! What a keeper promises: to the record, to several terminals, to strangers, and to an idle machine.

// Helpers outside of `#[test]` functions panic like the tests that they belong to.
#![allow(clippy::expect_used, clippy::panic)]

mod world;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shellkeep_journal::storage::RealStorage;
use shellkeep_journal::{Item, Reader, RecordKind, Start};
use shellkeep_protocol::attach::{Recording, Size, exit_from_payload};
use shellkeep_protocol::session::ExitStatus;
use world::{World, is_alive, is_so_within, signal, wait_until};

/// Records of the only spool: kind and payload.
fn records(world: &World) -> Vec<(RecordKind, Vec<u8>)> {
    let spools = world.path().join("state/spool");
    let mut names = std::fs::read_dir(&spools).expect("spools").flatten();
    let directory = names.next().expect("a spool").path();
    assert!(names.next().is_none());
    records_in(&directory)
}

fn records_in(directory: &Path) -> Vec<(RecordKind, Vec<u8>)> {
    let mut reader = Reader::open(Arc::new(RealStorage), directory, Start::Oldest).expect("a journal");
    let mut all = Vec::new();
    while let Some(item) = reader.next().expect("readable") {
        match item {
            Item::Record(record) => all.push((record.header.kind, record.payload.to_vec())),
            other => panic!("not whole: {other:?}"),
        }
    }
    all
}

fn output(records: &[(RecordKind, Vec<u8>)]) -> Vec<u8> {
    records.iter().filter(|(kind, _)| *kind == RecordKind::Output).flat_map(|(_, bytes)| bytes.clone()).collect()
}

#[test]
fn what_is_printed_during_a_pause_is_shown_and_not_recorded_and_the_pause_is_marked() {
    let world = World::new();
    let script = "stty -echo; echo zero; for word in one two three four; do read x; echo $word; done; exit 0";
    let mut tty = world.terminal(["start", "-n", "talk", "--record-input", "--", "sh", "-c", script]);
    tty.is_lent();
    let say = |tty: &mut world::Tty, word: &str| {
        tty.keys("secret\n");
        tty.expect(word);
    };
    tty.expect("zero\r\n"); // what is typed before would be echoed
    say(&mut tty, "one");
    assert!(world.run(["pause", "talk"]).status.success());
    assert_eq!(world.info().recording, Recording::Paused);
    say(&mut tty, "two");
    let list = world.run(["pause", "talk"]); // twice is once
    assert!(list.status.success());
    say(&mut tty, "three");
    assert!(world.run(["resume", "talk"]).status.success());
    say(&mut tty, "four");
    assert_eq!(tty.wait().code(), Some(0));
    let records = records(&world);
    assert_eq!(output(&records), b"zero\r\none\r\nfour\r\n");
    let course: Vec<Vec<u8>> = records
        .iter()
        .filter(|(kind, _)| matches!(kind, RecordKind::Mark | RecordKind::Output))
        .map(|(kind, payload)| if *kind == RecordKind::Mark { payload.clone() } else { b"output".to_vec() })
        .collect();
    let marks: Vec<usize> = course.iter().enumerate().filter(|(_, what)| what.len() == 1).map(|(at, _)| at).collect();
    let [paused, resumed] = marks[..] else { panic!("two marks: {course:?}") };
    assert_eq!((course[paused].as_slice(), course[resumed].as_slice()), (&b"\x01"[..], &b"\x02"[..]));
    assert!(paused > 0 && resumed == paused + 1 && resumed < course.len() - 1, "{course:?}");
    assert_eq!(Recording::from_payload(b"\x01"), Some(Recording::Paused));
}

#[test]
fn everything_printed_is_recorded_with_sizes_and_the_end() {
    let world = World::new();
    let mut tty = world.terminal(["start", "--", "sh", "-c", "printf READY; read x; seq 20000; exit 6"]);
    tty.expect("READY");
    tty.is_lent();
    tty.resize(100, 40);
    wait_until("the size arrived", || world.info().size.cols == 100);
    tty.keys("\n");
    assert_eq!(tty.wait().code(), Some(6));
    let records = records(&world);
    let mut shown = b"READY".to_vec();
    shown.extend_from_slice(&tty.seen);
    assert_eq!(output(&records).len(), shown.len());
    assert_eq!(output(&records), shown);
    let resized = records.iter().filter(|(kind, _)| *kind == RecordKind::Resize).map(|(_, bytes)| bytes);
    let size = resized.filter_map(|bytes| Size::from_payload(bytes)).next_back().expect("a resize record");
    assert_eq!((size.cols, size.rows), (100, 40));
    let (kind, payload) = records.last().expect("an end");
    assert_eq!((*kind, exit_from_payload(payload)), (RecordKind::Exit, Some(ExitStatus::Code(6))));
    assert!(records.iter().all(|(kind, _)| *kind != RecordKind::Input), "input is not recorded unless asked for");
}

#[test]
fn a_killed_keeper_leaves_a_free_spool_with_all_that_was_shown() {
    let world = World::new();
    for round in 0..5 {
        let world = if round == 0 { &world } else { &World::new() };
        let mut tty = world.terminal(["start", "--", "sh", "-c", "while :; do seq 1000; done"]);
        let mut shown = tty.expect("1000\r\n");
        wait_until("it can be found", || world.socket_list().len() == 1);
        for _ in 0..=round {
            shown.append(&mut tty.expect("500\r\n"));
        }
        signal(world.info().keeper_pid, Signal::KILL);
        tty.wait();
        // Behind the output, the terminal itself says that the session is lost.
        let end = tty.seen.windows(2).position(|window| window == b"\x1b[").expect("the terminal's own words");
        shown.extend_from_slice(&tty.seen[..end]);
        assert!(output(&records(world)).starts_with(&shown), "shown and not recorded");
        let spools = world.path().join("state/spool");
        let spool = std::fs::read_dir(spools).expect("spools").flatten().next().expect("a spool").path();
        let lock = std::fs::File::open(spool.join("lock")).expect("a lock");
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("free for adoption");
        std::fs::remove_file(&world.socket_list()[0]).expect("the dead socket");
    }
}

#[test]
fn the_spool_of_a_living_keeper_is_held() {
    let world = World::new();
    let id = world.detached("held", "sleep 600");
    let lock = std::fs::File::open(world.path().join("state/spool").join(id).join("lock")).expect("a lock");
    let taken = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    assert_eq!(taken, Err(rustix::io::Errno::WOULDBLOCK));
}

#[test]
fn typed_secrets_are_left_out_of_recorded_input() {
    let world = World::new();
    let script = "stty -echo; printf PASS:; read secret; stty echo; printf NAME:; read name; stty raw -echo; \
                  perl -e '$|=1; print \"RAW:\"; read STDIN, $x, 3'";
    let mut tty = world.terminal(["start", "--record-input", "--", "sh", "-c", script]);
    tty.expect("PASS:");
    tty.keys("canary-7431\n");
    tty.expect("NAME:");
    tty.keys("visible\n");
    tty.expect("RAW:");
    tty.keys("tui");
    assert_eq!(tty.wait().code(), Some(0));
    let records = records(&world);
    let input: Vec<u8> =
        records.iter().filter(|(kind, _)| *kind == RecordKind::Input).flat_map(|(_, bytes)| bytes.clone()).collect();
    let input = String::from_utf8_lossy(&input).into_owned();
    assert!(input.contains("visible") && input.contains("tui") && !input.contains("canary"), "{input:?}");
    let masked = records.iter().filter(|(kind, bytes)| *kind == RecordKind::Input && bytes.is_empty()).count();
    assert_eq!(masked, 1, "one record says that something was left out");
    let grep = std::process::Command::new("grep").args(["-r", "canary-7431"]).arg(world.path()).output().expect("grep");
    assert!(grep.stdout.is_empty(), "{grep:?}");
}

#[test]
fn the_session_can_be_found_again_within_a_second_after_its_socket_or_directory_went() {
    let world = World::new();
    world.detached("here", "sleep 600");
    let found_again = |what: &str| {
        assert!(
            is_so_within(Duration::from_secs(1), || {
                let sockets = world.socket_list();
                sockets.len() == 1 && shellkeep::keepers::info(&sockets[0]).is_ok()
            }),
            "not found again after {what}"
        );
    };
    std::fs::remove_file(&world.socket_list()[0]).expect("removed");
    found_again("the socket was removed");
    // The keeper may be faster than the removal of the directory's parent.
    let removed = |path: &Path| wait_until("it is removed", || std::fs::remove_dir_all(path).is_ok());
    removed(&world.sockets());
    found_again("its directory was removed");
    removed(&world.path().join("run"));
    found_again("the runtime directory was removed");
    std::fs::rename(world.path().join("run"), world.path().join("elsewhere")).expect("moved");
    // Only the directory's own removal is seen; a move of the one above is.
    found_again("the runtime directory was moved");
}

#[test]
fn a_foreign_object_at_the_socket_is_left_alone() {
    let world = World::new();
    world.detached("here", "sleep 600");
    let keeper = world.info().keeper_pid;
    let socket = world.socket_list().remove(0);
    std::fs::remove_file(&socket).expect("removed");
    symlink("/etc/passwd", &socket).ok();
    // Whoever was first has the path: a link planted there is never followed, replaced or removed.
    if std::fs::symlink_metadata(&socket).is_ok_and(|meta| meta.is_symlink()) {
        std::thread::sleep(Duration::from_millis(50)); // gives what must not happen its time
        assert!(std::fs::symlink_metadata(&socket).is_ok_and(|meta| meta.is_symlink()));
        std::fs::remove_file(&socket).expect("removed");
    }
    wait_until("it is found again", || world.socket_list().len() == 1);
    assert!(is_alive(keeper));
}

#[test]
fn several_terminals_see_the_same_and_detach_lets_all_go() {
    let world = World::new();
    let mut first = world.terminal(["start", "-n", "shared", "--", "sh", "-c", "stty -echo; printf READY; cat"]);
    first.expect("READY");
    let mut second = world.terminal(["attach", "shared"]);
    second.is_lent();
    wait_until("both are attached", || world.info().attached == 2);
    first.keys("one\n");
    first.expect("one\r\n");
    second.expect("one\r\n");
    second.keys("two\n");
    first.expect("two\r\n");
    second.expect("two\r\n");
    assert!(world.run(["detach", "shared"]).status.success());
    assert_eq!((first.wait().code(), second.wait().code()), (Some(0), Some(0)));
    assert!(first.is_cooked() && second.is_cooked());
    assert_eq!(world.run(["detach", "shared"]).status.code(), Some(1), "it is shown nowhere");
}

#[test]
fn a_second_terminal_that_is_stuck_holds_nobody_up_and_gets_what_it_missed() {
    let world = World::new();
    let go = world.path().join("go");
    let script = format!(
        "printf READY; while ! test -e {}; do sleep 0.01; done; seq 50000; printf DONE; sleep 600",
        go.display()
    );
    let mut first = world.terminal(["start", "-n", "shared", "--", "sh", "-c", &script]);
    first.expect("READY");
    let mut second = world.terminal(["attach", "shared"]);
    second.is_lent();
    wait_until("both are attached", || world.info().attached == 2);
    std::fs::write(&go, "").expect("written");
    // The second one reads nothing meanwhile: 290 KB are more than its PTY and its queue hold.
    let begun = Instant::now();
    first.expect("DONE");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "the first terminal waited for the second: {:?}",
        begun.elapsed()
    );
    let missed = second.expect("DONE");
    let mut expected = String::new();
    for number in 1..=50000 {
        expected = expected + &number.to_string() + "\r\n";
    }
    let missed = String::from_utf8_lossy(&missed).into_owned();
    assert!(missed.ends_with(&format!("{expected}DONE")), "{} of {} bytes", missed.len(), expected.len());
}

#[test]
fn a_stuck_first_terminal_bounds_memory() {
    let world = World::new();
    let tty = world.terminal(["start", "--", "yes", "0123456789012345678901234567890123456789"]);
    tty.is_lent();
    wait_until("it can be found", || world.socket_list().len() == 1);
    let keeper = world.info().keeper_pid;
    // Nobody reads the terminal: the command waits for it, and so does its output.
    let mut before = world.info().output_bytes;
    wait_until("the session waits for its terminal", || {
        std::thread::sleep(Duration::from_millis(20)); // gives what must not happen its time
        let now = world.info().output_bytes;
        std::mem::replace(&mut before, now) == now
    });
    assert!(before < 2 << 20, "{before} bytes were taken from the PTY");
    assert!(own_kib(keeper) < 4 << 10, "{} KiB", own_kib(keeper));
}

/// Memory of a process that is not its program's file.
fn own_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn an_idle_session_wakes_neither_keeper_nor_terminal() {
    let world = World::with_daemon();
    let tty = world.terminal(["start", "--", "sleep", "600"]);
    tty.is_lent();
    wait_until("it can be found", || world.socket_list().len() == 1);
    let pids = [world.info().keeper_pid, tty.pid()];
    let mut before = pids.map(switches);
    // The connection that asked is closed a moment later; then nothing may happen for a whole second.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        std::thread::sleep(Duration::from_secs(1)); // the time over which wakeups are counted
        let now = pids.map(switches);
        if now == before {
            break;
        }
        assert!(Instant::now() < deadline, "{before:?} then {now:?}");
        before = now;
    }
}

/// How often the threads of a process have gone to sleep.
fn switches(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .filter_map(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        })
        .sum()
}

#[test]
fn another_user_is_closed_before_a_byte_is_read() {
    if !rustix::process::getuid().is_root() {
        return; // only root can be another user for a moment
    }
    let world = World::new();
    world.detached("mine", "sleep 600");
    let socket = world.socket_list().remove(0);
    let mut path = socket.clone();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).expect("opened");
    while path.pop() && path.starts_with(world.path()) {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("opened");
    }
    let script = format!(
        "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.settimeout(5)\ns.connect({:?})\nsys.exit(0 if s.recv(64)==b'' else 1)",
        socket.display().to_string()
    );
    let status = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/env", "python3", "-c", &script])
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .status()
        .expect("setpriv");
    assert!(status.success(), "the stranger got an answer");
    assert_eq!(shellkeep::keepers::info(&socket).expect("its own user gets one").name.as_deref(), Some("mine"));
}

#[test]
fn the_agent_link_follows_the_terminal_attached_last() {
    let world = World::new();
    let mut command = world.command(["start", "--detached", "-n", "agent", "--", "sleep", "600"]);
    assert!(command.env("SSH_AUTH_SOCK", "/tmp/agent-one").status().expect("runs").success());
    let environ = std::fs::read(format!("/proc/{}/environ", world.info().pid)).expect("environment");
    let environ = String::from_utf8_lossy(&environ).into_owned();
    let link = environ.split('\0').find_map(|line| line.strip_prefix("SSH_AUTH_SOCK=")).expect("set").to_owned();
    assert_eq!(std::fs::read_link(&link).expect("a link").to_str(), Some("/tmp/agent-one"));
    let words = ["env", "SSH_AUTH_SOCK=/tmp/agent-two", world::PROGRAM, "attach", "agent"].map(Into::into);
    let tty = world.any_on_terminal(&words, 80, 24);
    tty.is_lent();
    assert_eq!(std::fs::read_link(&link).expect("a link").to_str(), Some("/tmp/agent-two"));
    assert!(world.run(["kill", "agent"]).status.success());
    wait_until("it goes with the session", || std::fs::symlink_metadata(&link).is_err());
}

#[test]
fn a_full_disk_under_the_spool_stops_neither_shell_nor_record() {
    let world = World::new();
    let state = world.path().join("state");
    let mount = |options: &str| {
        std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(&state)
            .status()
            .is_ok_and(|status| status.success())
    };
    if !rustix::process::getuid().is_root() || !mount("size=64k,mode=0700") {
        return; // only root has a disk that can be made full
    }
    world.settle();
    let again = world.path().join("again");
    let script = format!(
        "seq 100000; printf FULL; while ! test -e {}; do sleep 0.01; done; sleep 1.1; printf LAST; exit 5",
        again.display()
    );
    let mut tty = world.terminal(["start", "--", "sh", "-c", &script]);
    let mut shown = tty.expect("FULL");
    assert!(mount("remount,size=8m"));
    std::fs::write(&again, "").expect("written");
    assert_eq!(tty.wait().code(), Some(5));
    shown.extend_from_slice(&tty.seen);
    let recorded = output(&records(&world));
    world.no_session_is_left();
    let umount = || std::process::Command::new("umount").arg("-q").arg(&state).status();
    wait_until("the keeper has let go", || umount().is_ok_and(|status| status.success()));
    let end = recorded.windows(4).rposition(|window| window == b"LAST").expect("recorded to the end") + 4;
    assert_eq!(end, recorded.len());
    assert!(shown.starts_with(&recorded), "what was in memory was written when space came back");
    assert!(String::from_utf8_lossy(&shown).contains("in memory for now"), "and the user was told");
}

#[test]
fn a_removed_spool_is_made_anew_and_recording_goes_on() {
    let world = World::with_daemon();
    let go = world.path().join("go");
    let script = format!(
        "stty -opost; echo before; while [ ! -e {} ]; do sleep 0.01; done; echo lost; while [ ! -e {0}2 ]; do sleep 0.01; \
         done; for n in 1 2 3 4 5 6 7 8; do echo later $n; sleep 0.3; done; exit 9",
        go.display()
    );
    let id = world.detached("gone", &script);
    let recorded = || String::from_utf8_lossy(&world.run(["output", &id]).stdout).into_owned();
    wait_until("it is recorded", || recorded() == "before\n");
    std::fs::remove_dir_all(world.path().join("state/spool")).expect("removed");
    std::fs::write(&go, "").expect("written");
    wait_until("the loss is noticed", || world.run(["output", &id]).stderr.starts_with(b"shellkeep: gap"));
    std::fs::write(world.path().join("go2"), "").expect("written");
    wait_until("the end is recorded", || {
        String::from_utf8_lossy(&world.run(["ls", "--all", "--json"]).stdout).contains("\"exit_code\":9")
    });
    assert!(recorded().ends_with("later 7\nlater 8\n"), "{}", recorded());
}

#[test]
fn a_list_fits_its_terminal_and_the_ids_that_it_shows_are_enough() {
    let world = World::with_daemon();
    let id = world.detached("long", &format!("printf ready; sleep 600 # {}", "x".repeat(200)));
    let mut tty = world.terminal_sized(["ls"], 80, 24);
    assert!(tty.wait().success());
    let seen = String::from_utf8_lossy(&tty.seen).into_owned();
    let rows: Vec<&str> = seen.lines().collect();
    assert_eq!(rows.len(), 2, "{seen:?}");
    assert!(rows.iter().all(|row| row.chars().count() <= 80) && rows[1].ends_with('…'), "{seen:?}");
    let shown = rows[1].split(' ').next().expect("an id");
    assert!(shown.len() < id.len() && id.ends_with(shown), "{seen:?}");
    assert!(world.run(["kill", shown]).status.success());
    wait_until("its end is recorded", || world.run(["output", shown]).stdout == b"ready");
    // In a pipe nothing is cut.
    let piped = String::from_utf8(world.run(["ls", "--all"]).stdout).expect("UTF-8");
    assert!(piped.contains(&id) && piped.contains(&"x".repeat(200)), "{piped:?}");
}
