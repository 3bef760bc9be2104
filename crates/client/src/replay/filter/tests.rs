use super::*;

fn passed(text: &str) -> String {
    Filter::default().pass(text)
}

#[test]
fn text_and_what_draws_it_gets_through() {
    for text in [
        "plain \u{e9}\u{1f600}\t\r\n\u{8}\u{7}",
        "\x1b[1;38;2;1;2;3mred\x1b[m\x1b[4:3m\x1b[38:5:9m",
        "\x1b[2J\x1b[H\x1b[5;10H\x1b[K\x1b[3A\x1b[2;5r\x1b[4h\x1b[3b\x1b[2T\x1b[1 q",
        "\x1b[?1049h\x1b[?25l\x1b[?2026h\x1b[?1049l",
        "\x1b7\x1b8\x1b[s\x1b[u\x1bM\x1b(0q\x1b(B\x1b#8",
        "\x1b]8;;https://example.org/a?b\x1b\\link\x1b]8;;\x1b\\",
    ] {
        assert_eq!(passed(text), text, "{text:?}");
    }
}

/// Each of them makes some terminal answer, or outlasts the replay.
#[rustfmt::skip] // as many as fit on a line
const ASKS_OR_OUTLASTS: &[&str] = &[
    "\x1b[6n", "\x1b[?6n", "\x1b[5n", "\x1b[c", "\x1b[>c", "\x1b[=c", "\x1b[0c", "\x1bZ", "\x05", "\x1b[18t",
    "\x1b[21t", "\x1b[8;5;5t", "\x1b[22;0t", "\x1b[x", "\x1b[>q", "\x1b[>0q", "\x1b[?2004$p", "\x1b[4$p", "\x1b[1$w",
    "\x1b[?u", "\x1b[>1u", "\x1b[<u", "\x1b[=1;1u", "\x1b[>4;2m", "\x1b[1;1;1;1;1;1*y", "\x1b[?4m", "\x1b[?1000h",
    "\x1b[?1003;1006h", "\x1b[?1004h", "\x1b[?2004h", "\x1b[?2031h", "\x1b[?2048h", "\x1b[?1h", "\x1b=", "\x1b[3J",
    "\x1b[?3J", "\x1b[?3h", "\x1b[i", "\x1b[?5i", "\x1b[1;2;3;4;5T", "\x1b[99999999b", "\x1b[2;3s",
    "\x1b]0;title\x07", "\x1b]2;t\x1b\\", "\x1b]52;c;aGk=\x07", "\x1b]52;c;?\x07", "\x1b]4;1;?\x07",
    "\x1b]10;?\x1b\\", "\x1b]11;#fff\x07", "\x1b]104\x07", "\x1b]7;file://h/p\x07", "\x1b]133;C;sk=1\x07",
    "\x1b]1337;ReportCellSize\x07", "\x1bP$qm\x1b\\", "\x1bP+q544e\x1b\\", "\x1b_Gi=1,a=q;\x1b\\", "\x1b^x\x1b\\",
    "\x1bXx\x1b\\", "\x1bktitle\x1b\\", "\u{9b}6n", "\u{9b}c", "\u{9d}52;c;aGk=\u{9c}", "\u{90}$qm\u{9c}", "\u{9a}",
    "\x1b%G", "\x1b F", "\x1bl", "\x1b]8;;javascript:alert(1)\x07", "\x1b]8;;file:///etc/passwd\x07",
    "\x1b[\x07;\u{18}",
];

#[test]
fn what_asks_or_outlasts_is_left_out() {
    for text in ASKS_OR_OUTLASTS {
        let shown = passed(text).replace('\u{7}', "");
        assert_eq!(shown, "", "{text:?}");
        assert_eq!(passed(&format!("a{text}b")).replace('\u{7}', ""), "ab", "{text:?} swallows what follows");
    }
}

/// As terminals do: an escape in a string that it does not end begins something else.
#[test]
fn a_string_without_an_end_swallows_nothing_behind_it() {
    for begun in ["\x1b]0;title", "\x1bPq", "\x1b_G", "\x1b]8;;http://h", "\u{9d}52;c;", "\x1b[1;2"] {
        assert_eq!(passed(&format!("a{begun}\x1b[31mred\x1b[6n")), "a\x1b[31mred", "{begun:?}");
        assert_eq!(passed(&format!("a{begun}\x18b")), "ab", "{begun:?}");
    }
}

/// Records cut anywhere, also in the middle of a question.
#[test]
fn it_is_the_same_wherever_output_is_cut() {
    let text =
        "a\x1b[31mb\x1b[6nc\x1b]52;c;x\x1b\\d\x1b]8;;http://h\x07e\u{9b}1md\x1bP$qm\x1b\\f\x1bc\x1b[?1049;1000hg";
    let whole = passed(text);
    for (cut, _) in text.char_indices() {
        let mut filter = Filter::default();
        assert_eq!(filter.pass(&text[..cut]) + &filter.pass(&text[cut..]), whole, "cut at {cut}");
    }
}

#[test]
fn a_string_without_an_end_is_not_kept() {
    let mut filter = Filter::default();
    assert_eq!(filter.pass("a\x1b]0;"), "a");
    for _ in 0..1024 {
        assert_eq!(filter.pass(&"x".repeat(10 << 10)), "");
    }
    assert!(filter.held.capacity() < 1 << 16);
    assert_eq!(filter.pass("\x07b\x1b[31"), "b");
    assert_eq!(filter.pass(&"1".repeat(10 << 20)), "");
    assert!(filter.held.capacity() < 1 << 16);
    assert_eq!(filter.pass("mc"), "c");
}

#[test]
fn nothing_reaches_below_the_recordings_rows() {
    let mut filter = Filter::default();
    filter.limit_rows(Some(24));
    assert_eq!(filter.pass("\x1b[r\x1b[5;99r\x1b[2;10r"), "\x1b[1;24r\x1b[5;24r\x1b[2;10r");
    assert_eq!(filter.pass("\x1b[999;999H\x1b[99d\x1b[24;3H\x1b[H"), "\x1b[24;999H\x1b[24d\x1b[24;3H\x1b[H");
    assert_eq!(filter.pass("\x1b[?1049l"), "\x1b[1;24r\x1b[?1049l");
    assert!(filter.pass("\x1bc").contains("\x1b[1;24r"));
}

#[test]
fn what_a_line_of_ours_disturbs_is_known() {
    let mut filter = Filter::default();
    filter.pass("\x1b[1m\x1b[31m\x1b[?6h\x1b[4h\x1b7\x1b]8;;http://h\x07\x1b[?1049h");
    let style = filter.style.clone();
    assert_eq!((style.sgr.as_str(), style.link.as_str()), ("\x1b[1m\x1b[31m", "http://h"));
    assert!(style.origin && style.insert && style.holds_cursor && style.alternate);
    filter.pass("\x1b[m\x1b[?6l\x1b[4l\x1b8\x1b]8;;\x07\x1b[?1049l");
    assert_eq!(filter.style, Style::default());
}

#[test]
fn a_log_has_nothing_of_a_full_screen_program() {
    let text = "a\x1b[?1049;25hdrawn\x1b[?25l\x1b[5;5Hmore\x1b[?1049lb\x1b[31mc";
    for (cut, _) in text.char_indices() {
        let mut filter = Filter::main_screen();
        assert_eq!(filter.pass(&text[..cut]) + &filter.pass(&text[cut..]), "ab\x1b[31mc", "cut at {cut}");
    }
}
