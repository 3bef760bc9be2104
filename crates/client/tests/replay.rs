//! What `replay` promises on a real terminal and into a pipe. Its timing is shown with a clock of its own, beside the code.
#![allow(clippy::expect_used, clippy::panic)] // a test fails by panicking

mod world;

use rustix::process::Signal;
use world::{Tty, World};

/// A recorded session that printed, asked the terminal something, and printed again.
fn recorded(world: &World) {
    world.detached("told", "printf 'first\\n\\033[6n\\033]52;c;aGk=\\007\\033[?1000hsecond\\n'; sleep 0.3; echo third");
    world::wait_until("it has ended", || {
        String::from_utf8_lossy(&world.run(["output", "told"]).stdout).contains("third")
            && String::from_utf8_lossy(&world.run(["ls", "--all"]).stdout).contains("ended")
    });
}

fn replay(world: &World, speed: &str) -> Tty {
    world.terminal_sized(["replay", "told", "--speed", speed], 80, 30)
}

#[test]
fn a_recording_is_played_and_the_terminal_is_given_back() {
    let world = World::with_daemon();
    recorded(&world);
    let mut tty = replay(&world, "1");
    let mut shown = tty.expect("third");
    assert_eq!(tty.wait().code(), Some(0));
    shown.append(&mut tty.seen);
    for asked in [b"\x1b[6n".as_slice(), b"\x1b]52", b"\x1b[?1000h"] {
        assert!(!shown.windows(asked.len()).any(|window| window == asked), "{:?}", String::from_utf8_lossy(&shown));
    }
    assert!(tty.is_cooked());
}

#[test]
fn keys_and_signals_end_it_and_the_terminal_is_given_back() {
    let world = World::with_daemon();
    recorded(&world);
    for (key, signal, status) in
        [("q", None, 0), ("\x03", None, 0), ("", Some(Signal::TERM), 143), ("", Some(Signal::HUP), 129)]
    {
        let mut tty = replay(&world, "0.01");
        tty.expect("playing");
        assert!(!tty.is_cooked());
        tty.keys(key);
        if let Some(signal) = signal {
            tty.signal(signal);
        }
        assert_eq!(tty.wait().code(), Some(status), "{key:?} {signal:?}");
        assert!(tty.is_cooked());
        assert!(tty.seen.ends_with(b"\r\n"), "{:?}", String::from_utf8_lossy(&tty.seen));
    }
}

#[test]
fn into_a_pipe_goes_the_recording_alone() {
    let world = World::with_daemon();
    recorded(&world);
    let output = world.run(["replay", "told", "--speed", "10"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "first\r\nsecond\r\nthird\r\n");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
    let wrong = world.run(["replay", "told", "--speed", "0"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_window_that_is_too_small_is_told_once() {
    let world = World::with_daemon();
    recorded(&world);
    let mut tty = world.terminal_sized(["replay", "told"], 40, 10);
    tty.wait();
    let shown = String::from_utf8_lossy(&tty.seen).into_owned();
    assert_eq!(shown.matches("full-screen programs will not look right").count(), 1, "{shown:?}");
}

/// As a log: the end of what was printed, from the beginning of a line, and nothing that a full-screen program drew.
#[test]
fn tail_on_a_terminal_is_a_log() {
    let world = World::with_daemon();
    let script = "seq 100000 103000; printf '\\033[?1049h\\033[5;5Hdrawn\\033[?1049l\\033[6n\\033[31mlast'";
    world.detached("told", script);
    world::wait_until("it has ended", || String::from_utf8_lossy(&world.run(["ls", "--all"]).stdout).contains("ended"));
    let mut tty = world.terminal(["tail", "told"]);
    assert_eq!(tty.wait().code(), Some(0));
    let shown = String::from_utf8_lossy(&tty.seen).replace("\r\r\n", "\r\n"); // the terminal adds its own
    let first = shown.lines().next().expect("a line");
    assert!(first.len() == 6 && first.starts_with("10"), "{first:?}");
    assert!(shown.ends_with("103000\r\n\x1b[31mlast\x1b[m\r\n"), "{:?}", &shown[shown.len().saturating_sub(60)..]);
    let piped = world.run(["tail", "told"]).stdout;
    let raw = world.run(["output", "told"]).stdout;
    assert!(raw.ends_with(&piped) && piped.len() > 16_000, "into a pipe, byte for byte");
}
