//! What an attached terminal promises to the user's tty and to the program behind it.

// Helpers outside of `#[test]` functions panic like the tests that they belong to.
#![allow(clippy::expect_used, clippy::panic)]

mod world;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use world::{Tty, World, is_alive, is_so_within, signal, wait_until};

/// Sequences that terminals between a program and the user's are known to eat or change.
const SEQUENCES: [&[u8]; 20] = [
    b"\x1b]52;c;aGVsbG8=\x07",                               // clipboard
    b"\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\",  // hyperlink
    b"\x1b]133;A\x1b\\$ \x1b]133;B\x1b\\",                   // prompt marks
    b"\x1b]7;file://host/tmp\x1b\\",                         // directory
    b"\x1b]9;done\x07",                                      // notification
    b"\x1b]777;notify;a;b\x1b\\",                            // another one
    b"\x1bP+q544e\x1b\\",                                    // XTGETTCAP
    b"\x1bPq#0;2;0;0;0#0~~@@vv\x1b\\",                       // sixel
    b"\x1b_Gf=24,s=1,v=1;AAAA\x1b\\",                        // kitty graphics
    b"\x1b]1337;File=inline=1:AAAA\x07",                     // iTerm2 image
    b"\x1b[?2026h\x1b[?2026l",                               // synchronised output
    b"\x1b[38:2::1:2:3mtrue\x1b[0m",                         // colour with colons
    b"\x1b[4:3m\x1b[58:5:1mcurly\x1b[0m",                    // underline styles
    b"\x1b[>1u\x1b[<u",                                      // kitty keyboard
    b"\x1b[?1004h\x1b[?1004l",                               // focus
    b"\x1b[?1049h\x1b[?1049l",                               // alternate screen
    b"\x1b[14t\x1b[c\x1b[>q",                                // reports
    b"\x1b]10;?\x07\x1b]11;?\x1b\\",                         // colour queries
    b"\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb\xff\xfe", // joined emoji, then bytes that are no UTF-8
    b"\x0e\x0f\x07\x08\x0b\x0c\x00\x7f\x9b31m\x85",          // controls, 8-bit ones too
];

#[test]
fn twenty_output_sequences_pass_unchanged() {
    let world = World::new();
    let file = world.path().join("sequences");
    std::fs::write(&file, SEQUENCES.concat()).expect("written");
    let script = format!("stty -opost; cat {}; printf END", file.display());
    let mut tty = world.terminal(["start", "--", "sh", "-c", &script]);
    let shown = tty.expect("END");
    assert_eq!(shown, [&SEQUENCES.concat(), &b"END"[..]].concat());
    assert_eq!(tty.wait().code(), Some(0));
}

/// A program that reads `count` raw bytes and prints their checksum.
fn reader(world: &World, count: usize, options: &[&str]) -> Tty {
    let script = format!("stty raw -echo; printf READY; head -c {count} | cksum; printf END");
    let mut words = vec!["start"];
    words.extend(options);
    words.extend(["--", "sh", "-c", &script]);
    let mut tty = world.terminal(words);
    tty.expect("READY");
    tty
}

fn checksum(bytes: &[u8]) -> String {
    use std::io::Write as _;
    let mut child = std::process::Command::new("cksum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("cksum");
    child.stdin.take().expect("pipe").write_all(bytes).expect("written");
    String::from_utf8(child.wait_with_output().expect("ends").stdout).expect("text").trim().to_owned()
}

#[test]
fn all_256_input_bytes_pass_unchanged() {
    let world = World::new();
    let all: Vec<u8> = (0..=255).collect();
    for options in [&[][..], &["--record-input"]] {
        let mut tty = reader(&world, 256, options);
        tty.keys(&all);
        let shown = tty.expect("END");
        assert!(String::from_utf8_lossy(&shown).contains(&checksum(&all)), "{options:?}");
        assert_eq!(tty.wait().code(), Some(0));
    }
}

#[test]
fn a_paste_of_64_kib_passes_whole() {
    let world = World::new();
    let paste: Vec<u8> = (0..65536u32).map(|n| u8::try_from(n % 251).expect("a byte")).collect();
    let mut tty = reader(&world, paste.len(), &[]);
    for part in paste.chunks(1024) {
        tty.keys(part);
    }
    let shown = tty.expect("END");
    assert!(String::from_utf8_lossy(&shown).contains(&checksum(&paste)));
}

#[test]
fn a_lone_first_detach_key_reaches_the_program_within_the_hold() {
    let world = World::new();
    let mut tty = world.terminal(["start", "--", "sh", "-c", "stty raw -echo; printf READY; head -c 1 | od -An -c"]);
    tty.expect("READY");
    let typed = Instant::now();
    tty.keys([0]);
    tty.expect("\\0");
    let held = typed.elapsed();
    assert!(held >= Duration::from_millis(290) && held < Duration::from_secs(2), "{held:?}");
}

#[test]
fn the_detach_key_leaves_the_session_running_and_the_terminal_as_before() {
    let world = World::new();
    let mut tty = world.terminal(["start", "-n", "kept", "--", "sh", "-c", "printf READY; cat"]);
    tty.expect("READY");
    tty.keys(b"\0d");
    assert_eq!(tty.wait().code(), Some(0));
    assert!(tty.is_cooked());
    let said = String::from_utf8_lossy(&tty.seen).into_owned();
    assert_eq!(said.matches("detached from").count(), 1, "{said:?}");
    wait_until("the terminal is let go", || world.info().attached == 0);
    let mut again = world.terminal(["attach", "kept"]);
    again.is_lent();
    again.keys("hello\n");
    again.expect("hello\r\nhello");
    again.keys(b"\x04");
    assert_eq!(again.wait().code(), Some(0));
    world.no_session_is_left();
}

#[test]
fn detach_keys_can_be_others_or_none() {
    let world = World::new();
    let mut tty =
        world.terminal(["start", "--detach-key", "ctrl-a x", "--", "sh", "-c", "stty -echo; printf READY; cat"]);
    tty.expect("READY");
    tty.keys(b"\x01x");
    assert_eq!(tty.wait().code(), Some(0));
    let mut tty = world.terminal(["attach", "--detach-key", "none", "last"]);
    tty.is_lent();
    tty.keys(b"\0d\n");
    tty.expect("\0d\r\n");
}

#[test]
fn the_terminal_is_as_before_on_every_way_out() {
    let world = World::new();
    for sent in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT, Signal::KILL] {
        let mut tty = world.terminal(["start", "-n", "kept", "--", "sleep", "600"]);
        tty.is_lent();
        wait_until("it runs", || world.socket_list().len() == 1);
        tty.signal(sent);
        tty.wait();
        wait_until("the modes are back", || tty.is_cooked());
        wait_until("the terminal is let go", || world.info().attached == 0);
        assert!(is_alive(world.info().pid), "the session goes on after {sent:?}");
        assert!(world.run(["kill", "kept"]).status.success());
        world.no_session_is_left();
    }
}

#[test]
fn a_killed_keeper_gives_the_terminal_back_and_says_so() {
    let world = World::new();
    let mut tty = world.terminal(["start", "--", "sleep", "600"]);
    tty.is_lent();
    wait_until("it runs", || world.socket_list().len() == 1);
    signal(world.info().keeper_pid, Signal::KILL);
    assert_eq!(tty.wait().code(), Some(129));
    assert!(tty.is_cooked());
    assert!(String::from_utf8_lossy(&tty.seen).contains("is lost: "));
    std::fs::remove_file(&world.socket_list()[0]).expect("the dead socket");
}

#[test]
fn a_keeper_that_hangs_cannot_hold_the_terminal() {
    let world = World::new();
    let mut tty = world.terminal(["start", "--", "sleep", "600"]);
    tty.is_lent();
    wait_until("it runs", || world.socket_list().len() == 1);
    let keeper = world.info().keeper_pid;
    signal(keeper, Signal::STOP);
    tty.keys(b"\0d");
    let status = tty.wait();
    let cooked = tty.is_cooked();
    signal(keeper, Signal::CONT);
    assert_eq!(status.code(), Some(0));
    assert!(cooked);
}

#[test]
fn closing_the_window_detaches() {
    let world = World::new();
    let tty = world.terminal(["start", "--", "sleep", "600"]);
    tty.is_lent();
    wait_until("it runs", || world.socket_list().len() == 1);
    drop(tty);
    wait_until("the terminal is let go", || world.info().attached == 0);
    assert!(is_alive(world.info().pid));
}

#[test]
fn the_window_size_follows_the_terminal() {
    let world = World::new();
    let script = "trap 'stty size' WINCH; printf READY; while :; do sleep 0.01; done";
    let mut tty = world.terminal_sized(["start", "--", "sh", "-c", script], 90, 30);
    tty.expect("READY");
    tty.is_lent();
    tty.resize(101, 33);
    tty.expect("33 101");
    let size = world.info().size;
    assert_eq!((size.cols, size.rows), (101, 33));
}

#[test]
fn a_stop_gives_the_terminal_back_and_going_on_shows_what_was_missed() {
    let world = World::new();
    let go = world.path().join("go");
    let script =
        format!("printf READY; while ! test -e {}; do sleep 0.01; done; printf MISSED; sleep 600", go.display());
    let mut tty = world.terminal(["start", "--", "sh", "-c", &script]);
    tty.expect("READY");
    tty.is_lent();
    tty.signal(Signal::TSTP);
    wait_until("it has stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", tty.pid())).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    });
    assert!(tty.is_cooked());
    std::fs::write(&go, "").expect("written");
    let shown = is_so_within(Duration::from_millis(100), || tty.read_until(Instant::now()));
    assert!(!shown, "shown while stopped: {:?}", String::from_utf8_lossy(&tty.seen));
    tty.signal(Signal::CONT);
    tty.expect("MISSED");
    tty.is_lent();
}

#[test]
fn text_typed_before_the_session_was_there_is_not_lost() {
    let world = World::new();
    let script = format!("sleep 0.1; exec '{}' start -- sh -c 'read line; echo got:$line'", world::PROGRAM);
    let mut tty = world.any_on_terminal(&["sh", "-c", &script].map(Into::into), 80, 24);
    tty.keys("ahead\n");
    tty.expect("got:ahead");
}

#[test]
fn a_terminal_in_the_background_stops_instead_of_taking_the_tty() {
    let world = World::new();
    // An interactive shell makes jobs; the one in the background must not touch the modes.
    let shell = ["bash", "--norc", "--noediting", "-i"].map(Into::into);
    let mut tty = world.any_on_terminal(&shell, 80, 24);
    tty.keys(format!("PS1=; '{}' start -- sh -c 'echo in''side; cat' &\n", world::PROGRAM));
    tty.keys("while ! jobs -s | grep -q .; do sleep 0.02; done; echo stop''ped\n");
    tty.expect("stopped");
    assert!(tty.is_cooked());
    tty.keys("fg\n");
    tty.expect("inside");
    tty.is_lent();
    tty.keys(b"\x04");
    tty.keys("exit\n");
}
