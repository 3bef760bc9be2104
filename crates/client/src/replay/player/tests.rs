use std::collections::VecDeque;

use avt::Terminal;
use shellkeep_protocol::attach::Recording as Recorded;
use shellkeep_protocol::query::Item;

use super::*;
use crate::recording::tests::{output, pages, recording};

/// A terminal that is an emulator, with a clock that only waiting moves.
struct Desk {
    now: Instant,
    start: Instant,
    window: Option<(u16, u16)>,
    terminal: Terminal,
    /// What is pressed, and when.
    keys: VecDeque<(Duration, Heard)>,
    /// What was shown, and when.
    shown: Vec<(Duration, String)>,
    notes: Vec<String>,
}

impl Desk {
    fn new(window: Option<(u16, u16)>, keys: &[(u64, Key)]) -> Self {
        let (cols, rows) = window.unwrap_or((80, 24));
        let now = Instant::now();
        Self {
            now,
            start: now,
            window,
            terminal: Terminal::new(cols.into(), rows.into()).unwrap(),
            keys: keys.iter().map(|(ms, key)| (Duration::from_millis(*ms), Heard::Key(*key))).collect(),
            shown: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn rows(&self) -> Vec<String> {
        self.terminal.screen().visible_lines().map(|line| line.text().trim_end().to_owned()).collect()
    }

    /// When each piece of plain text was first shown, in milliseconds.
    fn times(&self, texts: &[&str]) -> Vec<Option<u128>> {
        let first =
            |text: &&str| self.shown.iter().find(|(_, shown)| shown.contains(text)).map(|(at, _)| at.as_millis());
        texts.iter().map(first).collect()
    }
}

impl Console for Desk {
    fn now(&self) -> Instant {
        self.now
    }

    fn wait(&mut self, until: Option<Instant>) -> Vec<Heard> {
        let key = self.keys.front().map(|(at, _)| self.start + *at);
        let until = [until, key].into_iter().flatten().min().expect("something ends the wait");
        self.now = self.now.max(until);
        let pressed = self.keys.pop_front_if(|(at, _)| self.start + *at <= self.now);
        pressed.map(|(_, heard)| heard).into_iter().collect()
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        self.terminal.feed(text);
        self.shown.push((self.now - self.start, text.to_owned()));
        Ok(())
    }

    fn window(&self) -> Option<(u16, u16)> {
        self.window
    }

    fn suspend(&mut self, leave: &str) -> io::Result<()> {
        self.show(leave)
    }

    fn note(&mut self, text: String) {
        self.notes.push(text);
    }
}

const S: u64 = 1_000_000;

/// Three commands of a session of 80 × 24 that began at second 100.
fn three() -> (Recording, Vec<Item>) {
    let pieces =
        [(101, "$ "), (102, "one\r\n"), (110, "\x1b[1;31mtwo\r\n"), (130, "\x1b[mthree\x1b[6n\r\n"), (131, "end")];
    let mut offset = 0;
    let mut items = Vec::new();
    let mut places = Vec::new();
    for (second, text) in pieces {
        items.push(output(second * S, offset, text));
        places.push(offset);
        offset += text.len() as u64;
    }
    let commands = [
        (places[1], places[2], 102 * S, Some(103 * S)),
        (places[2], places[3], 110 * S, Some(111 * S)),
        (places[3], offset, 130 * S, None),
    ];
    (recording(&commands, offset), items)
}

fn played(desk: &mut Desk, speed: f64, limit: Option<u64>, from: Option<usize>) -> End {
    let (recording, items) = three();
    let limit = limit.map(Duration::from_secs);
    Player::new(desk, &recording, pages(items, 2), 131 * S, speed, limit).play(from).unwrap()
}

#[test]
fn everything_is_shown_when_it_was() {
    let mut desk = Desk::new(None, &[]);
    assert_eq!(played(&mut desk, 1.0, None, None), End::Over);
    assert_eq!(desk.times(&["$ ", "one", "two", "three", "end"]), [1000, 2000, 10_000, 30_000, 31_000].map(Some));
    assert!(desk.shown.iter().all(|(_, text)| !text.contains("[6n")), "no question reaches a terminal");
    let mut desk = Desk::new(None, &[]);
    played(&mut desk, 2.0, Some(4), None);
    assert_eq!(desk.times(&["$ ", "one", "two", "three", "end"]), [500, 1000, 3000, 5000, 5500].map(Some));
}

#[test]
fn keys_pause_step_and_change_the_speed() {
    let keys = [
        (1500, Key::Pause),
        (60_000, Key::Step),
        (61_000, Key::Step),
        (70_000, Key::Pause),
        (72_000, Key::Faster),
        (73_000, Key::Quit),
    ];
    let mut desk = Desk::new(Some((80, 24)), &keys);
    assert_eq!(played(&mut desk, 1.0, None, None), End::Over);
    assert_eq!(desk.times(&["$ ", "one", "two", "three"]), [Some(1000), Some(60_000), Some(61_000), None]);
}

#[test]
fn a_jump_shows_what_playing_would_have_shown() {
    let mut straight = Desk::new(Some((80, 24)), &[(30_500, Key::Quit)]);
    played(&mut straight, 1.0, None, None);
    for keys in [
        vec![(100, Key::Next), (200, Key::Next), (300, Key::Next), (800, Key::Quit)],
        vec![
            (12_500, Key::Next),
            (12_600, Key::Back),
            (12_700, Key::Back),
            (12_800, Key::Next),
            (12_900, Key::Next),
            (13_400, Key::Quit),
        ],
    ] {
        let mut desk = Desk::new(Some((80, 24)), &keys);
        played(&mut desk, 1.0, None, None);
        assert_eq!(desk.rows(), straight.rows(), "{keys:?}");
        assert_eq!(desk.rows()[..3], ["$ one", "two", "three"]);
    }
    let mut desk = Desk::new(Some((80, 24)), &[(500, Key::Quit)]);
    played(&mut desk, 1.0, None, Some(2));
    assert_eq!(desk.rows(), straight.rows());
}

#[test]
fn back_is_this_command_again_or_the_one_before() {
    let mut desk = Desk::new(
        Some((80, 24)),
        &[(15_000, Key::Back), (15_100, Key::Pause), (15_200, Key::Back), (15_300, Key::Quit)],
    );
    played(&mut desk, 1.0, None, None);
    let times: Vec<u128> =
        desk.shown.iter().filter(|(_, text)| text.starts_with("\x1b[?1049l")).map(|(at, _)| at.as_millis()).collect();
    assert_eq!(times[..2], [15_000, 15_200]);
}

/// The line of status is below the recording, moves nothing in it, and is gone at the end.
#[test]
fn the_line_of_status_disturbs_nothing() {
    let text =
        "\x1b[31m\x1b[5;7Hred\x1b[?6h\x1b[2;9r\x1b[4h\x1b7".to_owned() + &"line\r\n".repeat(40) + "\x1b8\x1b[999;999Hx";
    let pieces: Vec<Item> = text
        .as_bytes()
        .chunks(9)
        .enumerate()
        .map(|(at, piece)| output((101 + at as u64) * S, at as u64 * 9, std::str::from_utf8(piece).unwrap()))
        .collect();
    let recording = recording(&[], text.len() as u64);
    let mut alone = Terminal::new(80, 24).unwrap();
    alone.feed(text.as_str());
    let mut desk = Desk::new(Some((80, 30)), &[]);
    desk.keys.push_back((Duration::from_millis((pieces.len() as u64 + 1) * 1000 - 10), Heard::Key(Key::Pause)));
    let mut player = Player::new(&mut desk, &recording, pages(pieces, 3), 200 * S, 1.0, None);
    player.play(None).unwrap();
    let last = desk.shown.iter().rev().find(|(_, shown)| shown.contains("playing")).unwrap();
    assert!(last.1.contains("\x1b[30;1H"), "in the last row: {last:?}");
    let want: Vec<String> = alone.screen().visible_lines().map(|line| line.text().trim_end().to_owned()).collect();
    assert_eq!(desk.rows()[..23], want[..23]);
    assert_eq!(desk.rows()[29], "");
}

#[test]
fn without_room_the_line_covers_a_row_only_while_paused() {
    let text = (1..24).map(|row| format!("row {row}\r\n")).collect::<Vec<_>>().concat() + "row 24";
    let recording = recording(&[], text.len() as u64 + 1);
    let items = vec![output(101 * S, 0, &text), output(110 * S, text.len() as u64, "!")];
    let keys = [(2000, Key::Pause), (3000, Key::Pause), (4000, Key::Help), (5000, Key::Redraw), (5500, Key::Quit)];
    let mut desk = Desk::new(Some((80, 24)), &keys);
    let mut player = Player::new(&mut desk, &recording, pages(items, 3), 110 * S, 1.0, None);
    player.play(None).unwrap();
    let covering: Vec<u128> = desk
        .shown
        .iter()
        .filter(|(_, text)| text.contains("\x1b[24;1H\x1b[?7l"))
        .map(|(at, _)| at.as_millis())
        .collect();
    assert_eq!(covering.first(), Some(&2000));
    assert!(covering.iter().all(|at| (2000..3000).contains(at) || *at >= 4000), "{covering:?}");
    let mut at_five = Terminal::new(80, 24).unwrap();
    for (at, text) in &desk.shown {
        if at.as_millis() < 4000 {
            at_five.feed(text.as_str());
        }
    }
    assert_eq!(at_five.screen().line(23).unwrap().text().trim_end(), "row 24", "uncovered");
}

#[test]
fn what_is_not_in_the_record_is_told() {
    let recording = recording(&[], 2);
    let paused = Item::Recording { time_us: 102 * S, recording: Recorded::Paused };
    let items = vec![output(101 * S, 0, "a"), paused, output(103 * S, 1, "b")];
    let mut desk = Desk::new(Some((100, 30)), &[]);
    Player::new(&mut desk, &recording, pages(items, 9), 103 * S, 1.0, None).play(None).unwrap();
    assert_eq!(desk.notes, ["recording was paused here, as asked for"]);
    assert!(desk.shown.iter().any(|(at, text)| at.as_millis() >= 2000 && text.contains("recording was paused here")));
}

/// Left in the middle of anything, the terminal is plain.
#[test]
fn every_way_out_leaves_a_plain_terminal() {
    let text = "\x1b[?1049h\x1b[31m\x1b[?25l\x1b[?7l\x1b[3;5r\x1b[?6h\x1b[4h\x1b(0";
    let recording = recording(&[], text.len() as u64 + 1);
    for end in [Heard::Key(Key::Quit), Heard::Signal(15)] {
        let items = vec![output(101 * S, 0, text), output(110 * S, text.len() as u64, "!")];
        let mut desk = Desk::new(Some((80, 24)), &[]);
        desk.keys.push_back((Duration::from_secs(3), end));
        Player::new(&mut desk, &recording, pages(items, 9), 110 * S, 1.0, None).play(None).unwrap();
        let last = &desk.shown.last().unwrap().1;
        for part in
            ["\x1b[?1049l", "\x1b[r", "\x1b[?6l", "\x1b[4l", "\x1b[?7h", "\x1b[?25h", "\x1b(B", "\x1b[m", "\x1b[23;2t"]
        {
            assert!(last.contains(part), "{part:?} is not in {last:?}");
        }
        desk.terminal.feed("plain q\r\n");
        assert!(desk.rows().contains(&"plain q".to_owned()), "{:?}", desk.rows());
    }
}
