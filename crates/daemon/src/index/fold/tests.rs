use avt::Terminal;
use avt::observer::Transcript;
use proptest::prelude::*;

use super::*;

/// What the emulator itself says.
fn emulators(output: &[u8], size: (u16, u16)) -> Vec<String> {
    let (columns, rows) = clamped(size);
    let mut terminal = Terminal::new(columns, rows).unwrap();
    let mut transcript = Transcript::new();
    let text = String::from_utf8_lossy(output);
    let mut lines = terminal.feed_with(text.as_ref(), &mut transcript);
    lines.extend(transcript.finish(&terminal));
    lines.into_iter().map(|line| line.chars().filter(|c| !c.is_control()).collect()).collect()
}

/// Ours, kept and taken up again at each cut.
fn folded(pieces: &[&[u8]], size: (u16, u16)) -> (Vec<String>, bool) {
    let mut lines = Vec::new();
    let mut fold = Fold::new(size);
    let mut sink = |line: &[u8], _: At| lines.push(String::from_utf8(line.to_vec()).unwrap());
    for piece in pieces {
        fold.feed(piece, At::default(), &mut sink);
        if fold.emulated.is_none() {
            fold = Fold::restore(fold.save());
        }
    }
    let is_simple = fold.emulated.is_none();
    fold.finish(&mut sink);
    (lines, is_simple)
}

/// What stays in a row.
fn simple() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[ -~]{0,30}",
        1 => "[a-zé✓█字😀\u{301}\u{7f}]{1,12}",
        4 => Just("\r\n".to_owned()),
        1 => Just("\n".to_owned()),
        2 => Just("\r".to_owned()),
        1 => Just("\t".to_owned()),
        1 => Just("\x08".to_owned()),
        1 => Just("\x1b[31;1m".to_owned()),
        1 => Just("\x1b[K".to_owned()),
        1 => (0..3u8).prop_map(|n| format!("\x1b[{n}K")),
        1 => (0..25u8, "[CDGX]").prop_map(|(n, last)| format!("\x1b[{n}{last}")),
        1 => "\x1b\\](0|133;A|8;;http://x);[ -~é]{0,20}(\x07|\x1b\\\\)",
        1 => Just("\x1b[J\x1b[?2004h\x1b[?25l\x1b(B\x1b=\x1b[3 q\x1bP+q5\x1b\\".to_owned()),
    ]
}

/// What does not, too.
fn any_output() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => simple(),
        1 => (0..9u8, "[ABEFPSTLM@Ib]").prop_map(|(n, last)| format!("\x1b[{n}{last}")),
        1 => (0..9u8, 0..20u8).prop_map(|(row, column)| format!("\x1b[{row};{column}H")),
        1 => Just("\x1b[H\x1b[2J".to_owned()),
        1 => Just("\x1b[?1049hedit\x1b[5;5Hing\x1b[?1049l".to_owned()),
        1 => Just("\x1bM".to_owned()),
        1 => Just("\u{85}".to_owned()),
        1 => Just("\x1b[2;4r\x1b[4;1H\r\n\x1b[r".to_owned()),
    ]
}

fn size() -> impl Strategy<Value = (u16, u16)> {
    (2..24u16, 1..8u16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_stays_in_its_row_is_folded_as_by_the_emulator(parts in prop::collection::vec(simple(), 0..60), size in size()) {
        let output = parts.concat();
        let (lines, is_simple) = folded(&[output.as_bytes()], size);
        prop_assert_eq!(&lines, &emulators(output.as_bytes(), size));
        prop_assert!(is_simple);
    }

    #[test]
    fn what_moves_about_shows_the_same_text(parts in prop::collection::vec(any_output(), 0..60), size in size()) {
        let output = parts.concat();
        // Cleared rows that have a colour are lines to the emulator, and whether a row that went off the screen before it
        // was cleared is still joined with the next is its own matter: what was shown is the same, in the same order.
        let shown = |lines: Vec<String>| lines.concat().replace(' ', "");
        let (lines, _) = folded(&[output.as_bytes()], size);
        prop_assert_eq!(shown(lines), shown(emulators(output.as_bytes(), size)));
    }

    #[test]
    fn it_is_the_same_text_wherever_output_is_cut(
        parts in prop::collection::vec(any_output(), 0..30),
        noise in prop::collection::vec(any::<u8>(), 0..20),
        size in size(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut output = parts.concat().into_bytes();
        output.extend(noise);
        output.extend(b"\r\nend\r\n");
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(output.len())).collect();
        places.sort_unstable();
        let (mut pieces, mut from) = (Vec::new(), 0);
        for place in places {
            pieces.push(&output[from..place]);
            from = place;
        }
        pieces.push(&output[from..]);
        prop_assert_eq!(folded(&pieces, size), folded(&[&output], size));
    }
}

#[test]
fn each_line_knows_where_it_began() {
    let mut fold = Fold::new((20, 3));
    let at = |seq: u64| At { seq: shellkeep_journal::Seq::new(seq), time_us: seq * 10, command: seq / 3 };
    let mut lines = Vec::new();
    for (seq, text) in [(1, "one\r\ntw"), (2, "o\r\n\r"), (3, "\nthr"), (4, "ee\r\nfour")] {
        fold.feed(text.as_bytes(), at(seq), &mut |line, at| lines.push((owned(line), at.seq.get(), at.command)));
    }
    fold.visible(&mut |line, at| lines.push((owned(line), at.seq.get(), at.command)));
    let lines: Vec<_> = lines.iter().map(|(line, seq, command)| (line.as_str(), *seq, *command)).collect();
    assert_eq!(lines, [("one", 1, 0), ("two", 1, 0), ("", 3, 1), ("three", 3, 1), ("four", 4, 1)]);
}

fn owned(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

#[test]
fn an_endless_line_costs_bounded_memory() {
    let mut fold = Fold::new((80, 24));
    let (mut bytes, mut longest) = (0, 0);
    for _ in 0..4096 {
        fold.feed(&[b'x'; 4096], At::default(), &mut |line, _| {
            bytes += line.len();
            longest = longest.max(line.len());
        });
    }
    fold.finish(&mut |line, _| bytes += line.len());
    assert_eq!(bytes, 4096 * 4096);
    assert!(longest <= super::super::lines::LINE_BYTES_MAX + 80, "{longest}");
}

#[test]
fn a_program_that_moves_about_once_does_not_keep_the_emulator_for_ever() {
    let output = "a\r\nb\r\n\x1b[2A\x1b[Kc\r\n\x1b[Kd\r\nnext\r\n".as_bytes();
    assert_eq!(folded(&[output], (20, 5)), (vec!["c".to_owned(), "d".to_owned(), "next".to_owned()], true));
}

/// A pager, an editor, a program that draws over what it drew: what was there before keeps its places.
#[test]
fn lines_that_the_emulator_has_taken_over_know_where_they_began() {
    let pager: String = (0..40).map(|n| format!("page {n}\r\n")).collect::<Vec<_>>().concat();
    for cut in [usize::MAX, 5] {
        let mut fold = Fold::new((20, 6));
        let at = |seq: u64| At { seq: shellkeep_journal::Seq::new(seq), time_us: seq * 10, command: seq };
        let mut lines = Vec::new();
        let output = [
            "one\r\ntwo\r\n\r\na line of more than twenty characters\r\n".to_owned(),
            format!("\x1b[?1049h\x1b[22;0t{pager}\x1b[5;1H\x1b[K:\x1b[?1049l"),
            "three\r\nfour".to_owned(),
            "\x1b[2A\rX\x1b[2B\r\n".to_owned(),
            "five\r\nsix\r\nseven\r\neight\r\nnine\r\nten\r\n".to_owned(),
        ];
        for (seq, text) in (1u64..).zip(&output) {
            for piece in text.as_bytes().chunks(cut.min(text.len())) {
                fold.feed(piece, at(seq), &mut |line, at| lines.push((owned(line), at.seq.get())));
                fold = Fold::restore(fold.save());
            }
        }
        fold.visible(&mut |line, at| lines.push((owned(line), at.seq.get())));
        let long = "a line of more than Xwenty characters";
        let lines: Vec<_> = lines.iter().map(|(line, seq)| (line.as_str(), *seq)).collect();
        let expected = [("one", 1), ("two", 1), ("", 1), (long, 1), ("three", 3), ("four", 3), ("five", 5)];
        assert_eq!(lines[..7], expected, "cut {cut}");
        assert!(lines[7..].iter().all(|(_, seq)| *seq == 5), "{lines:?}");
    }
}

/// Of many records on one screen, none is forgotten that a row began in.
#[test]
fn a_screen_that_is_drawn_on_for_long_keeps_the_places_of_its_lines() {
    let mut fold = Fold::new((20, 6));
    let at = |seq: u64| At { seq: shellkeep_journal::Seq::new(seq), ..At::default() };
    let mut lines = Vec::new();
    let mut sink = |line: &[u8], at: At| lines.push((owned(line), at.seq.get()));
    fold.feed(b"first\r\n", at(1), &mut sink);
    fold.feed(b"second\r\n", at(2), &mut sink);
    for seq in 3..20_000 {
        fold.feed(format!("\x1b[3;1Htick {seq}\x1b[A\x1b[B").as_bytes(), at(seq), &mut sink);
    }
    fold.feed(b"\r\nlast", at(30_000), &mut sink);
    fold.finish(&mut sink);
    let lines: Vec<_> = lines.iter().map(|(line, seq)| (line.as_str(), *seq)).collect();
    assert_eq!(lines, [("first", 1), ("second", 2), ("tick 19999", 19_999), ("last", 30_000)]);
}

#[test]
fn a_text_that_ends_leaves_nothing_to_the_next() {
    for open in [&b"no end"[..], b"\x1b]0;no end", b"\x1b[5;5Hhere\x1b[?1049h", b"\x0elqk", b"\xc3"] {
        let (mut fold, mut lines) = (Fold::new((20, 6)), Vec::new());
        let mut sink = |line: &[u8], _: At| lines.push(owned(line));
        fold.feed(open, At::default(), &mut sink);
        fold.end(&mut sink);
        fold.feed(b"next", At::default(), &mut sink);
        fold.finish(&mut sink);
        assert_eq!(lines.pop().as_deref(), Some("next"), "{open:?}");
    }
}
