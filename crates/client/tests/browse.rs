//! `browse`, on a real terminal: found by a few letters, opened, copied, attached, and left as the terminal was.
#![allow(clippy::expect_used, clippy::panic)] // a test fails by panicking

mod world;

use std::time::Instant;

use rustix::process::Signal;
use world::{Tty, World};

/// Chances that a key and a size meet.
const RESIZES: u16 = 400;

/// A shell that has run `lines`, kept under the name "work".
fn worked(world: &World, lines: &[&str]) -> Tty {
    std::fs::write(world.path().join(".bashrc"), "PS1='READY>'\n").expect("a file in the home");
    let mut tty = world.terminal(["start", "-n", "work", "--", "bash"]);
    tty.expect("READY>");
    for line in lines {
        tty.keys(format!("{line}\r"));
        tty.expect("READY>");
    }
    let listed = || String::from_utf8_lossy(&world.run(["history", "work"]).stdout).lines().count();
    world::wait_until("the commands are listed", || listed() >= lines.len());
    tty
}

/// What a person sees: `browse` draws only what has changed.
struct Screen {
    tty: Tty,
    terminal: avt::Terminal,
}

impl Screen {
    fn new(world: &World, cols: u16, rows: u16) -> Self {
        let terminal = avt::Terminal::new(cols.into(), rows.into()).expect("a screen");
        Self { tty: world.terminal_sized(["browse"], cols, rows), terminal }
    }

    fn text(&self) -> String {
        self.terminal.screen().text().join("\n")
    }

    /// Waits until the screen shows it.
    fn shows(&mut self, text: &str) {
        self.until(&format!("saw {text:?}"), |shown| shown.contains(text));
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + world::WAIT;
        while !is_so(&self.text()) {
            assert!(self.tty.read_until(deadline), "never {what} on:\n{}", self.drawn());
            // A read may end within a character: the rest of that comes with the next.
            let cut = std::str::from_utf8(&self.tty.seen).map_or_else(|error| error.valid_up_to(), str::len);
            let rest = self.tty.seen.split_off(cut);
            let seen = String::from_utf8(std::mem::replace(&mut self.tty.seen, rest)).expect("cut where it is valid");
            self.terminal.feed(&seen);
        }
    }

    /// The rows that have anything, for a person who reads why it failed.
    fn drawn(&self) -> String {
        let rows = self.terminal.screen().text();
        let full: Vec<_> = rows.iter().filter(|row| row.chars().any(char::is_alphanumeric)).cloned().collect();
        full.join("\n")
    }

    fn resize(&mut self, cols: u16, rows: u16) {
        self.terminal.resize(cols.into(), rows.into());
        self.tty.resize(cols, rows);
    }
}

#[test]
fn a_command_is_found_by_a_few_letters_opened_attached_and_the_terminal_is_as_before() {
    let world = World::with_daemon();
    let mut shell = worked(&world, &["seq 500", "echo wanted-$((40+2)) output", "false"]);
    let mut screen = Screen::new(&world, 120, 30);
    screen.shows("Commands 3");
    screen.tty.keys("/ecwan");
    screen.shows("1 match");
    screen.shows("wanted-42 output"); // beside the list
    screen.tty.keys("\r");
    screen.shows("lines 1 to 1 of 1");
    screen.tty.keys("q\x1b");
    screen.shows("Enter open");
    screen.tty.keys("a");
    screen.tty.is_lent();
    screen.shows("READY>");
    screen.tty.keys("\0d");
    screen.shows("Enter open");
    screen.resize(90, 20);
    screen.shows("──────────"); // too narrow for two columns
    screen.tty.keys("q");
    assert!(screen.tty.wait().success());
    assert!(screen.tty.is_cooked());
    let left = String::from_utf8_lossy(&screen.tty.seen).into_owned();
    assert!(left.contains("\x1b[?1049l"), "{left:?}");
    shell.keys("exit\r");
    shell.wait();
}

/// Both are read from the terminal at once, and nothing but the next key would bring a lost one back.
#[test]
fn a_key_that_comes_together_with_a_new_size_is_read() {
    let world = World::with_daemon();
    let mut screen = Screen::new(&world, 100, 20);
    screen.shows("no sessions are recorded yet");
    for round in 0..RESIZES {
        screen.resize(100, 19 + round % 2);
        screen.tty.keys("?");
        screen.shows("read everything again");
        screen.tty.keys("x");
        screen.until("lost sight of the help", |shown| !shown.contains("read everything again"));
    }
    screen.tty.keys("q");
    assert!(screen.tty.wait().success());
}

#[test]
fn output_is_copied_to_the_terminals_clipboard_as_text() {
    let world = World::with_daemon();
    let mut shell = worked(&world, &["printf '\\033[31mwanted-%s output\\033[0m\\n' 42"]);
    let mut tty = world.terminal_sized(["browse"], 120, 30);
    tty.expect("wanted-42");
    tty.keys("y");
    tty.expect("\x1b]52;c;d2FudGVkLTQyIG91dHB1dAo=\x07"); // "wanted-42 output" and the line's end
    tty.keys("q");
    assert!(tty.wait().success());
    shell.keys("exit\r");
    shell.wait();
}

#[test]
fn a_signal_ends_it_and_gives_the_terminal_back() {
    let world = World::with_daemon();
    for (signal, number) in [(Signal::TERM, 15), (Signal::HUP, 1), (Signal::INT, 2)] {
        let mut screen = Screen::new(&world, 100, 20);
        screen.shows("no sessions are recorded yet");
        screen.tty.signal(signal);
        assert_eq!(screen.tty.wait().code(), Some(128 + number));
        assert!(screen.tty.is_cooked());
        let left = String::from_utf8_lossy(&screen.tty.seen).into_owned();
        assert!(left.contains("\x1b[?1049l"), "{left:?}");
    }
}

#[test]
fn what_was_recorded_reaches_the_screen_only_as_visible_characters() {
    let world = World::with_daemon();
    let hostile = r"printf 'mark\033]52;c;aGVsbG8=\007\033]0;title\007\302\233c\342\200\256end\n'";
    let mut shell = worked(&world, &[hostile]);
    let mut tty = world.terminal_sized(["browse"], 160, 30);
    let mut seen = tty.expect("end");
    tty.keys("q");
    seen.extend(tty.expect("\x1b[?1049l"));
    tty.wait();
    for forbidden in ["\x1b]52", "\x1b]0", "\u{9b}", "\u{202e}"] {
        let has = seen.windows(forbidden.len()).any(|part| part == forbidden.as_bytes());
        assert!(!has, "{forbidden:?} in {}", String::from_utf8_lossy(&seen));
    }
    shell.keys("exit\r");
    shell.wait();
}

#[test]
fn without_a_terminal_it_is_refused_with_what_to_use_instead() {
    let world = World::with_daemon();
    let refused = world.run(["browse"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("history SESSION --json"), "{refused:?}");
}
