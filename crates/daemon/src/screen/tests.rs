//! What a dump shows is what the session shows: against this emulator, and against another one as a judge.

use alacritty_terminal::Term;
use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::term::cell::Flags;
use alacritty_terminal::term::{Config, TermMode};
use alacritty_terminal::vte::ansi::{Color, NamedColor, Processor};
use proptest::prelude::*;

use super::*;

const WINDOW: Window = Window { cols: 20, rows: 6 };

fn shown(output: &[u8], window: Window) -> Screen {
    let mut screen = Screen::new(window);
    screen.feed_whole(output);
    screen
}

/// Scrolled lines for comparison: whether the last of them went on in the window is not kept.
fn lines(scrolled: &str) -> String {
    scrolled.replace("\x1b[K", "").trim_end().to_owned()
}

/// Everything that must be equal between a session's screen and a terminal that was shown its dump.
fn visible(screen: &Screen) -> String {
    let mut modes = Vec::new();
    screen.modes.set_main(&mut modes);
    screen.modes.set(&mut modes);
    let mut scrolled = String::new();
    screen.emulator.scrolled(&mut scrolled);
    let scrolled = lines(&screen.joined.expand(&scrolled));
    format!("{:#?}\n{:?}\n{scrolled:?}", screen.grid(), String::from_utf8_lossy(&modes))
}

/// What programs print.
#[rustfmt::skip] // one to a line would be three screens
const PIECES: &[&[u8]] = &[
    b"word ", b"\r\n", b"\r\n", b"\n", b"\r", b"\t", b"\x08", b"a line that is longer than the window", b"\x1b[m",
    b"\x1b[0m", b"\x1b[1;31m", b"\x1b[38;5;200m", b"\x1b[48;2;1;2;3m", b"\x1b[7m", b"\x1b[39;4m", b"\x1b[22m",
    b"\x1b[3;9m", b"\x1b[4:3;58:5:1m", b"\x1b[21m", b"\x1b[4:0m", b"\x1b[58;5;1m", b"\x1b[K", b"\x1b[1K", b"\x1b[2K", b"\x1b[J", b"\x1b[1J", b"\x1b[2J", b"\x1b[3J", b"\x1b[H",
    b"\x1b[3;5H", b"\x1b[6;20H", b"\x1b[A", b"\x1b[2B", b"\x1b[3C", b"\x1b[D", b"\x1b[10G", b"\x1b[2d", b"\x1b[L",
    b"\x1b[M", b"\x1b[@", b"\x1b[P", b"\x1b[2X", b"\x1b[S", b"\x1b[T", b"\x1bM", b"\x1bD", b"\x1bE", b"\x1b[2;4r",
    b"\x1b[r", b"\x1b7", b"\x1b8", b"\x1b[s", b"\x1b[u", b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25l", b"\x1b[?25h",
    b"\x1b[?1h", b"\x1b[?1l", b"\x1b=", b"\x1b>", b"\x1b[?2004h", b"\x1b[?2004l", b"\x1b[?1000h",
    b"\x1b[?1002h\x1b[?1006h", b"\x1b[?1006l\x1b[?1000l", b"\x1b[?1004h", b"\x1b[?2026h", b"\x1b[?2026l", b"\x1b(0",
    b"\x1b(B", b"\x0e", b"\x0f", b"\x1b)0", b"lqqk", b"\x1b[4h", b"\x1b[4l", b"\x1b[?7l", b"\x1b[?7h", b"\x1b[?6h",
    b"\x1b[?6l", b"\x1bH", b"\x1b[g", b"\x1b[3g", b"\x1b[4 q", b"\x1b[>1u", b"\x1b[<u", b"\x1b[=5;2u",
    b"\x1b]0;a title\x07", b"\x1b]2;another\x1b\\", b"\x1b[22;0t", b"\x1b[23;0t", b"\x1b]11;#102030\x07",
    b"\x1b]4;1;rgb:ff/00/00\x07", b"\x1b]104\x07", b"\x1b]111\x07", b"\x1b]7;file://h/tmp\x07", b"\x1b[!p", b"\x1bc",
    b"\x1b#8", b"\x1b[>4;1m", b"\x1b[>4m", b"\x1b[6n", b"\x1b[c", b"\x1b]52;c;QQ==\x07", b"\x1b]10;?\x07",
    b"e\xcc\x81", b"\xe4\xbd\xa0\xe5\xa5\xbd", b"\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb", b"\xff", b"\xc3",
    b"\x1b[20h", b"\x1b[20l", b"xxxxxxx\x1b[5b", b"\x1b[?1047h", b"\x1b[?1047l", b"\x1b[3", b"\x1b]0;cut",
];

/// Pieces that programs print, cut so that any order of them is a stream.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::sample::select(PIECES).prop_map(<[u8]>::to_vec),
        1 => "[ -~\u{e4}\u{4f60}]{0,30}".prop_map(String::into_bytes),
    ]
}

fn output() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..80).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_restored_screen_is_the_same_and_goes_on_the_same(before in output(), after in output()) {
        let mut screen = shown(&before, WINDOW);
        let mut restored = Screen::restore(&screen.state().unwrap()).unwrap();
        prop_assert_eq!(visible(&screen), visible(&restored));
        prop_assert_eq!(&screen.modes, &restored.modes);
        screen.joined.interrupted();
        restored.joined.interrupted();
        screen.feed_whole(&after);
        restored.feed_whole(&after);
        prop_assert_eq!(screen.grid(), restored.grid());
        prop_assert_eq!(&screen.modes, &restored.modes);
    }

    #[test]
    fn a_terminal_that_was_shown_the_screen_shows_the_same(before in output(), rest in "[a-z]{0,3}") {
        let screen = shown(&before, WINDOW);
        let mut terminal = shown(b"what was there before\r\n\x1b[31mmore", WINDOW);
        let dump = screen.show(WINDOW).unwrap();
        terminal.feed_whole(&dump);
        prop_assert_eq!(screen.grid(), terminal.grid(), "{:?}", String::from_utf8_lossy(&dump));
        // What was scrolled away ends with what was scrolled away in the session.
        let (mut kept, mut wanted) = (String::new(), String::new());
        terminal.emulator.scrolled(&mut kept);
        screen.emulator.scrolled(&mut wanted);
        prop_assert!(lines(&terminal.joined.expand(&kept)).ends_with(&lines(&screen.joined.expand(&wanted))), "{kept:?} {wanted:?}");
        let modes = |screen: &Screen| {
            let mut out = Vec::new();
            screen.modes.set(&mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        prop_assert_eq!(modes(&screen), modes(&terminal));
        let (mut screen, mut terminal) = (screen, terminal);
        for screen in [&mut screen, &mut terminal] {
            screen.joined.interrupted();
            screen.feed_whole(rest.as_bytes());
        }
        prop_assert_eq!(screen.grid(), terminal.grid());
    }

    #[test]
    fn nothing_in_a_dump_makes_a_terminal_answer(before in output()) {
        let dump = shown(&before, WINDOW).show(WINDOW).unwrap();
        let mut scanner = Scanner::default();
        let mut asked = Vec::new();
        scanner.scan(&dump, |token, _| match token {
            Token::Osc(text) => {
                let is_known = [&b"0;"[..], b"2;", b"4;", b"7;", b"10;", b"11;", b"12;"].iter().any(|kind| text.starts_with(kind));
                let asks = !matches!(text[0], b'0' | b'2' | b'7') && text.contains(&b'?');
                if !is_known || asks {
                    asked.push(format!("{:?}", String::from_utf8_lossy(text)));
                }
            }
            Token::Csi(bytes) if matches!(Csi::of(bytes).last, b'n' | b'c' | b't' | b'p' | b'x') => asked.push(format!("{token:?}")),
            _ => {}
        });
        prop_assert!(asked.is_empty(), "{asked:?}");
    }

    #[test]
    fn a_screen_is_the_same_however_its_output_was_cut(before in output(), cuts in prop::collection::vec(0usize..300, 0..5)) {
        let whole = shown(&before, WINDOW);
        let mut pieces = Screen::new(WINDOW);
        let mut from = 0;
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(before.len())).collect();
        cuts.sort_unstable();
        for cut in cuts.into_iter().chain([before.len()]) {
            pieces.feed_whole(&before[from..cut]);
            from = cut;
        }
        prop_assert_eq!(visible(&whole), visible(&pieces));
    }
}

/// Output of which much can be left out, with things among it that forbid that.
fn bulk() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        6 => "[a-z ]{0,50}".prop_map(|text| format!("{text}\r\n").into_bytes()),
        2 => "[a-z]{0,8}".prop_map(|text| format!("\x1b[32m{text}\x1b[0;1m{text}\x1b[m\x1b[K\r\n").into_bytes()),
        1 => piece(),
    ];
    let few = prop::collection::vec(piece(), 0..10).prop_map(|pieces| pieces.concat());
    let many = (prop::collection::vec(line, 1..12), 1usize..30).prop_map(|(lines, times)| lines.concat().repeat(times));
    prop::collection::vec((few, many), 1..4)
        .prop_map(|parts| parts.into_iter().flat_map(|(few, many)| [few, many].concat()).collect())
}

proptest! {
    #[test]
    fn what_scrolls_away_unseen_changes_nothing(before in output(), bulk in bulk()) {
        let window = Window { cols: 9, rows: 3 };
        let mut screens = [shown(&before, window), shown(&before, window)];
        screens[0].feed_whole(&bulk);
        // Also where there is too little for it to be worth while.
        screens[1].feed_elided(&bulk);
        prop_assert_eq!(visible(&screens[0]), visible(&screens[1]));
        // What stands in for joined characters depends on how many came by.
        let dumps = screens.each_ref().map(|screen| screen.joined.expand(&screen.emulator.dump()));
        prop_assert_eq!(&dumps[0], &dumps[1]);
        prop_assert_eq!(&screens[0].modes, &screens[1].modes);
    }
}

#[test]
fn most_of_a_coloured_log_is_left_out() {
    let log = b"\x1b[32mINFO\x1b[0m something happened at some place, and it was good\r\n".repeat(20_000);
    let mut plan = Plan::new(24, SCROLLED_LINES_MAX);
    Scanner::default().scan(&log, |token, behind| plan.note(token, behind));
    let (from, to) = plan.left_out().expect("something is left out");
    assert!(from == 0 && to > log.len() * 9 / 10, "{from} to {to} of {}", log.len());
}

struct Size(Window);

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        self.0.rows.into()
    }
    fn screen_lines(&self) -> usize {
        self.0.rows.into()
    }
    fn columns(&self) -> usize {
        self.0.cols.into()
    }
}

/// What another emulator shows of some output: rows with attributes, the cursor, the modes that it knows.
fn judged(output: &[u8], window: Window) -> (Vec<String>, String) {
    let config = Config { kitty_keyboard: true, ..Config::default() };
    let mut term = Term::new(config, &Size(window), VoidListener);
    Processor::<alacritty_terminal::vte::ansi::StdSyncHandler>::new().advance(&mut term, output);
    let known = Flags::BOLD | Flags::ITALIC | Flags::UNDERLINE | Flags::DIM | Flags::INVERSE | Flags::STRIKEOUT;
    let lined = Flags::UNDERLINE | Flags::INVERSE | Flags::STRIKEOUT;
    let mut rows = vec![String::new(); window.rows()];
    for cell in term.grid().display_iter() {
        use std::fmt::Write as _;
        let row = usize::try_from(cell.point.line.0).expect("a row of the window");
        if cell.flags.contains(Flags::WIDE_CHAR_SPACER) {
            continue;
        }
        let mut attributes = (cell.fg, cell.bg, cell.flags & known);
        if cell.c == ' ' && !attributes.2.intersects(lined) {
            // Nobody sees the colour of a blank, and emulators differ on what an erased one has.
            attributes = (Color::Named(NamedColor::Foreground), cell.bg, Flags::empty());
        }
        let marks: String = cell.zerowidth().unwrap_or_default().iter().collect();
        write!(rows[row], "{}{marks}{attributes:?}", cell.c).expect("a string takes all");
    }
    let modes = *term.mode() - TermMode::URGENCY_HINTS;
    (rows, format!("{:?} {modes:?} {:?}", term.grid().cursor.point, term.cursor_style().shape))
}

/// The last lines that another emulator has above the screen, oldest first, without blanks at their ends.
fn judged_above(output: &[u8], window: Window, count: usize) -> Vec<String> {
    let mut term = Term::new(Config::default(), &Size(window), VoidListener);
    Processor::<alacritty_terminal::vte::ansi::StdSyncHandler>::new().advance(&mut term, output);
    let lines = i32::try_from(term.history_size().min(count)).expect("few lines");
    let row = |line: i32| -> String {
        let row = &term.grid()[alacritty_terminal::index::Line(line)];
        // Nobody sees the colour of a blank.
        let cell = |c: char, fg: Color| if c == ' ' { " ".to_owned() } else { format!("{c}{fg:?}") };
        row.into_iter().map(|found| cell(found.c, found.fg)).collect::<String>().trim_end().to_owned()
    };
    (-lines..0).map(row).collect()
}

/// What is left out of much output was above the lines that are kept, and took nothing along that still counts.
#[test]
fn another_emulator_has_the_same_lines_above_a_screen_of_which_much_was_left_out() {
    let states: [&[u8]; 7] = [
        b"",
        b"\x1b[35m",
        b"\x1b[1;32mx\x1b[0;34m",
        b"\x1b[1;31mx\x1b[m",
        b"\x1b[?7l",
        b"\x1b(0",
        b"\x1b)0\x0elqk\x1b[?25l\x1b[?2004h",
    ];
    for state in states {
        let mut output = Vec::new();
        for line in 0..6000 {
            if line == 1000 {
                output.extend_from_slice(state);
            }
            output.extend_from_slice(format!("line {line} of \x1b[4mmany\x1b[24m\r\n").as_bytes());
        }
        assert!(output.len() > 2 * ELIDE_BYTES_MIN);
        let mut screen = Screen::new(WINDOW);
        screen.feed(&output);
        let dump = screen.show(WINDOW).expect("a dump");
        assert_eq!(judged(&output, WINDOW), judged(&dump, WINDOW), "{:?}", state.escape_ascii());
        let (wanted, found) =
            (judged_above(&output, WINDOW, SCROLLED_LINES_MAX), judged_above(&dump, WINDOW, SCROLLED_LINES_MAX));
        assert_eq!(wanted.len(), SCROLLED_LINES_MAX);
        for (wanted, found) in wanted.iter().zip(&found) {
            assert_eq!(wanted, found, "{:?}", state.escape_ascii());
        }
        assert_eq!(found.len(), SCROLLED_LINES_MAX);
    }
}

/// Compares what the judge shows of the output, and of the dump of a screen that was fed the output.
fn judge(name: &str, output: &[u8], window: Window) {
    let dump = shown(output, window).show(window).expect("a dump");
    let (rows, rest) = judged(output, window);
    let (dumped_rows, dumped_rest) = judged(&dump, window);
    for (row, (wanted, found)) in rows.iter().zip(&dumped_rows).enumerate() {
        assert_eq!(wanted, found, "{name}: row {row}");
    }
    assert_eq!(rest, dumped_rest, "{name}");
    if rest.contains("ALT_SCREEN") {
        let back = b"\x1b[?1049lback";
        assert_eq!(
            judged(&[output, back].concat(), window),
            judged(&[&dump, &back[..]].concat(), window),
            "{name}: back"
        );
    }
}

#[test]
fn another_emulator_shows_the_same_of_a_dump() {
    let screens: [(&str, &[u8]); 15] = [
        ("prompt", b"line\r\n\x1b[1;32muser@host\x1b[m:\x1b[34m~\x1b[m$ half ty\x1b[?2004h"),
        ("full line", b"\x1b[31m12345678901234567890"),
        ("wrapped", b"123456789012345678901234 and more of it, again and again and again"),
        ("scrolled", b"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\n9"),
        ("alternate", b"under\r\n$ vim\r\n\x1b[33m\x1b[?1049h\x1b[m\x1b[H\x1b[2J~\r\n~\x1b[6;1H-- INSERT --\x1b[2;3H"),
        ("pager", b"$ less\r\n\x1b[?1049h\x1b[?1h\x1b=\rtext\r\n\x1b[7m(END)\x1b[27m\x1b[K"),
        ("region", b"\x1b[2;4r\x1b[4;1Hx\r\ny\r\nz\x1b[3;3H"),
        ("drawing", b"\x1b(0lqqk\r\nx  x\r\nmqqj\x1b(B plain"),
        ("mouse", b"\x1b[?1000h\x1b[?1002h\x1b[?1006h\x1b[?1004h\x1b[?25l\x1b[5 q"),
        ("keyboard", b"\x1b[>1u\x1b[>5u\x1b[?1049h\x1b[>3u"),
        ("accents", b"e\xcc\x81te\xcc\x81 a\xcc\x8a\xcc\xa3 \xe4\xbd\xa0\xcc\x81x"),
        ("wide", b"\xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x92\xbb!\r\n1234567890123456789\xe4\xbd\xa0"),
        ("colours", b"\x1b[38;5;200;48;5;17mA\x1b[38;2;1;2;3mB\x1b[0;91;102mC\x1b[0m   \x1b[44m   \x1b[0m"),
        ("underlined", b"\x1b[1;4ma\x1b[24mb\x1b[58;5;1mc\x1b[4m\x1b[58:2::1:2:3md\x1b[4:0me"),
        ("insert", b"abc\x1b[4h\x1b[Hx\x1b[?7l"),
    ];
    for (name, output) in screens {
        judge(name, output, WINDOW);
    }
}

/// Real programs on 80 columns and 24 rows, as their terminal was given them.
const RECORDED: [(&str, &[u8]); 6] = [
    ("bash", include_bytes!("recorded/bash")),
    ("fish", include_bytes!("recorded/fish")),
    ("htop", include_bytes!("recorded/htop")),
    ("less", include_bytes!("recorded/less")),
    ("tmux", include_bytes!("recorded/tmux")),
    ("vim", include_bytes!("recorded/vim")),
];

#[test]
fn another_emulator_that_comes_in_anywhere_ends_where_one_does_that_saw_everything() {
    let window = Window { cols: 80, rows: 24 };
    for (name, output) in RECORDED {
        let whole = judged(output, window);
        // At every place, within a sequence or a character too.
        for cut in (0..=output.len()).step_by(if cfg!(debug_assertions) { 31 } else { 1 }) {
            let (before, after) = output.split_at(cut);
            let dump = shown(before, window).show(window).expect("a dump");
            let (rows, rest) = judged(&[&dump, after].concat(), window);
            for (row, (wanted, found)) in whole.0.iter().zip(&rows).enumerate() {
                assert_eq!(wanted, found, "{name}: row {row} after a cut at {cut}");
            }
            assert_eq!(whole.1, rest, "{name}: after a cut at {cut}");
        }
    }
}

/// The window changes while a full-screen program is there: whoever leaves it goes on where the shell's text ends.
#[test]
fn leaving_the_alternate_screen_goes_on_behind_the_text_whatever_became_of_the_window() {
    let (small, wide) = (Window { cols: 12, rows: 3 }, Window { cols: 30, rows: 9 });
    let texts: [&[u8]; 4] = [
        b"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n$ ",
        b"$ ",
        b"a line that is longer than the window\r\nand one more like it\r\n\x1b[31m$ ",
        b"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n12345678901234567890",
    ];
    for before in texts {
        for sizes in [&[small][..], &[wide], &[small, WINDOW], &[wide, WINDOW], &[small, wide, small]] {
            let text = String::from_utf8_lossy(before);
            let mut screen = shown(&[before, b"\x1b[?1049h\x1b[H\x1b[2Jfull\x1b[2;2H"].concat(), WINDOW);
            for size in sizes {
                screen.resize(*size);
            }
            let last = sizes[sizes.len() - 1];
            let mut terminal = shown(&screen.show(last).expect("a dump"), last);
            // A window that was given to a screen as it is shown.
            let mut other = shown(&screen.show(WINDOW).expect("a dump"), WINDOW);
            for screen in [&mut screen, &mut terminal, &mut other] {
                screen.feed_whole(b"\x1b[?1049l\x1b[mgoes on");
                let (rows, (_, row)) = screen.grid();
                let above = rows[..=row].concat();
                let end = text.trim_end().chars().last().expect("text");
                assert!(above.trim_end().ends_with("goes on"), "{text:?} {sizes:?} {rows:?}");
                let rest: String = above.trim_end().trim_end_matches("goes on").to_owned();
                let rest = rest.replace("\x1b[0m", "");
                assert!(rest.trim_end().ends_with(end) || end == '0', "{text:?} {sizes:?} {rows:?}");
                assert!(rows[row + 1..].iter().all(|row| row.trim_end().is_empty()), "{text:?} {sizes:?} {rows:?}");
            }
        }
    }
}

#[test]
fn hostile_output_is_bounded() {
    let mut screen = Screen::new(Window::of(65_535, 65_535));
    assert_eq!(screen.window(), Window { cols: COLS_MAX, rows: ROWS_MAX });
    screen.feed(b"\x1b]0;");
    for _ in 0..100 {
        screen.feed(&vec![b'A'; 100 << 10]);
    }
    screen.feed(b"\x07\x1b[999999999b\x1b[65535;65535H\x1b[99999S\x1b[99999L");
    for index in 0..100_000u32 {
        screen.feed(
            format!("\x1b[>{index}u\x1b[22t\x1b]4;{index};#fff\x07e{}", char::from_u32(0x300 + index % 100).unwrap())
                .as_bytes(),
        );
    }
    let state = screen.state().expect("a state");
    assert!(state.len() < STATE_BYTES_MAX, "{}", state.len());
    screen.feed(b"\x1b]2;bad\x9b6n\xc2\x9b5n\x1b]52;c;AAAA\x07");
    assert!(screen.show(screen.window()).is_some());
}
