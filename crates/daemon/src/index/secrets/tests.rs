use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;

use super::{REDACTED, Secrets};

/// A line, and what must not be left of it.
const EXAMPLES: [(&str, &str); 22] = [
    ("key AKIAIOSFODNN7EXAMPLE here", "AKIAIOSFODNN7EXAMPLE"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ("remote: ghp_0123456789abcdefghijABCDEFGHIJ012345 ok", "ghp_0123456789abcdefghijABCDEFGHIJ012345"),
    ("github_pat_11ABCDEFG0123456789abc_defghij", "github_pat_11ABCDEFG0123456789abc_defghij"),
    ("glpat-0123456789abcdefghij", "glpat-0123456789abcdefghij"),
    ("slack xoxb-123456789012-abcdefABCDEF", "xoxb-123456789012-abcdefABCDEF"),
    ("npm_0123456789abcdefghijABCDEFGHIJ012345", "npm_0123456789abcdefghijABCDEFGHIJ012345"),
    ("sk_live_0123456789abcdefgh", "sk_live_0123456789abcdefgh"),
    ("AIzaSyA0123456789abcdefghijklmnopqrstuvw", "AIzaSyA0123456789abcdefghijklmnopqrstuvw"),
    (
        "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN",
    ),
    ("git clone https://me:hunter2@example.org/x.git", "hunter2"),
    ("postgres://app:p%40ss!word@db:5432/app", "p%40ss!word"),
    ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
    ("curl -H 'authorization: Basic dXNlcjpwYXNz' x", "dXNlcjpwYXNz"),
    ("PASSWORD=hunter2 ./run", "hunter2"),
    ("mysql --password=hunter2", "hunter2"),
    ("{\"password\": \"correct horse\"}", "correct horse"),
    ("{\"api_key\":\"0123abcd\",\"n\":1}", "0123abcd"),
    ("password: hunter2", "hunter2"),
    ("export API_TOKEN='a b c'", "a b c"),
    ("token: abcd1234efgh", "abcd1234efgh"),
    ("GET /x?access_token=zyx987", "zyx987"),
];

/// Lines of ordinary work, in which nothing is a secret.
const ORDINARY: [&str; 12] = [
    "error: unexpected token: `}` at line 3",
    "let token = lexer.next();",
    "    password: String,",
    "    pub(crate) secret: &'static str,",
    "password: null,",
    "Enter passphrase for key '/root/.ssh/id_ed25519':",
    "https://example.org:8080/path?x=1",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "the key: it is under the mat",
    "-----BEGIN CERTIFICATE-----",
    "tokens: 12, secrets: none",
    "Get:1 http://deb.debian.org/debian bookworm/main amd64 secret-tool amd64 0.20 [9 kB]",
];

const KEY: &str = "before\n-----BEGIN OPENSSH PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nb3BlbnNzaC1rZXktdjEAAAAA\n\
    bm9uZQAAAAAAAAABAAAAMwAAAAtz\nq83vEjRW\n-----END OPENSSH PRIVATE KEY-----\nafter the key";

fn shipped() -> Arc<Secrets> {
    Secrets::new(&[]).unwrap()
}

/// What a stream makes of pieces; each comes back, in order.
fn streamed(secrets: &Arc<Secrets>, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut all: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut stream = secrets.stream(80);
    for (index, piece) in pieces.iter().enumerate() {
        stream.feed(index, piece, |of, bytes| all.push((of, bytes)));
    }
    stream.finish(|of, bytes| all.push((of, bytes)));
    assert!(all.iter().enumerate().all(|(index, (of, _))| index == *of), "{all:?}");
    assert_eq!(all.len(), pieces.len());
    all.into_iter().map(|(_, bytes)| bytes).collect()
}

fn as_text(pieces: &[Vec<u8>]) -> String {
    String::from_utf8_lossy(&pieces.concat()).into_owned()
}

#[test]
fn secrets_are_left_out_of_lines_and_the_rest_stays() {
    let secrets = shipped();
    for (line, secret) in EXAMPLES {
        let shown = secrets.text(line);
        assert_eq!(shown, line.replace(secret, REDACTED), "{line}");
    }
    for line in ORDINARY {
        assert_eq!(secrets.text(line), line);
    }
}

#[test]
fn of_a_private_key_nothing_is_left_but_where_it_was() {
    let shown = shipped().text(KEY).into_owned();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "before");
    assert!(lines[1].contains("BEGIN") && lines[7].contains("END"), "{shown}");
    assert!(lines[2..7].iter().all(|line| *line == REDACTED), "{shown}");
    assert_eq!(lines[8], "after the key");
    let in_json = KEY.replace('\n', "\\n");
    assert!(!shipped().text(&in_json).contains("b3BlbnNz"), "{}", shipped().text(&in_json));
    // Indented, numbered, as a diff shows it; and one that never ends.
    for mark in ["    ", "+", "  12\t", "> ", "| "] {
        let marked: String = KEY.lines().flat_map(|line| [mark, line, "\n"]).collect();
        assert!(!shipped().text(&marked).contains("bm9uZQ"), "{mark:?}");
    }
    let endless = KEY.replace("-----END OPENSSH PRIVATE KEY-----\n", "");
    assert!(shipped().text(&endless).ends_with("after the key"));
}

#[test]
fn a_stream_finds_each_secret_wherever_it_is_cut() {
    let secrets = shipped();
    for (line, secret) in EXAMPLES.into_iter().chain([(KEY, "bm9uZQAAAAAAAAABAAAAMwAAAAtz")]) {
        let raw = format!("$ {}\r\nnext", line.replace('\n', "\r\n"));
        let whole = as_text(&streamed(&secrets, &[raw.as_bytes()]));
        assert!(!whole.contains(secret), "{whole}");
        assert_eq!(whole.len(), raw.len(), "columns stay: {whole}");
        assert!(whole.starts_with("$ ") && whole.ends_with("\r\nnext"), "{whole}");
        for cut in 0..=raw.len() {
            let (one, other) = raw.as_bytes().split_at(cut);
            let pieces = streamed(&secrets, &[one, other]);
            assert_eq!(as_text(&pieces), whole, "cut at {cut}");
            assert_eq!(pieces[0].len(), cut, "each byte keeps its time");
        }
        let single: Vec<&[u8]> = raw.as_bytes().chunks(1).collect();
        assert_eq!(as_text(&streamed(&secrets, &single)), whole);
    }
}

#[test]
fn colours_in_a_secret_hide_nothing_and_stay() {
    let secrets = shipped();
    for (line, secret) in EXAMPLES {
        let mut raw = String::new();
        for character in line.chars() {
            write!(raw, "\x1b[3{}m{character}", u32::from(character) % 8).unwrap();
        }
        let shown = as_text(&streamed(&secrets, &[raw.as_bytes()]));
        assert_eq!(shown.matches("\x1b[3").count(), line.chars().count(), "{shown:?}");
        let text: String = shown.split("\x1b[3").map(|part| part.get(2..).unwrap_or_default()).collect();
        assert!(!text.contains(secret) && text.len() == line.len(), "{text}");
    }
}

#[test]
fn what_a_shell_redraws_while_a_secret_is_typed_is_hidden_too() {
    let secret = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
    // As fish and highlighting plug-ins do: back to where the word begins, and all of it again.
    let mut raw = "\rme@host:/a/long/directory/of/mine/that/leaves/little/room $ ".to_owned();
    let begins = raw.len() - 1;
    for end in 1..=secret.len() {
        let up = if begins + end > 80 && end > 1 { "\x1b[A" } else { "" };
        write!(raw, "{up}\r\x1b[{begins}C\x1b[31m{}\x1b[0m\x1b[K", &secret[..end]).unwrap();
    }
    let shown = as_text(&streamed(&shipped(), &[raw.as_bytes(), b"\r\n"]));
    assert!(!shown.contains("ghp_0"), "{shown:?}");
    // As readline wraps a line, as zsh echoes, and what was overwritten at once.
    let wrapped = format!("{}{} \r{}\r\n", "x ".repeat(30), &secret[..20], &secret[20..]);
    let shown = as_text(&streamed(&shipped(), &[wrapped.as_bytes()]));
    assert!(!shown.contains(&secret[..20]) && !shown.contains(&secret[20..]), "{shown:?}");
    let overwritten = format!("{secret}\rdone\x1b[K\r\n");
    let shown = as_text(&streamed(&shipped(), &[overwritten.as_bytes()]));
    assert!(!shown.contains(&secret[10..]) && shown.ends_with("\rdone\x1b[K\r\n"), "{shown:?}");
}

#[test]
fn titles_and_marks_hold_no_secret_either() {
    for (raw, secret) in [
        ("\x1b]0;mysql --password=hunter2\x07$ ", "hunter2"),
        ("\x1b]133;C;sk=n;cmdline_url=export%20TOKEN%3Dhun%74er2\x1b\\x", "hun%74er2"),
    ] {
        let whole = as_text(&streamed(&shipped(), &[raw.as_bytes()]));
        assert!(!whole.contains(secret) && whole.contains("*******"), "{whole:?}");
        for cut in 0..raw.len() {
            let (one, other) = raw.as_bytes().split_at(cut);
            assert_eq!(as_text(&streamed(&shipped(), &[one, other])), whole, "cut at {cut}");
        }
    }
}

#[test]
fn a_line_without_end_is_held_back_up_to_a_bound_and_a_secret_in_it_is_found() {
    let secret = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
    for before in [8_000, 8_170, 8_191, 40_000, 65_530, 200_000] {
        let raw = format!("{} {secret} {}", "x".repeat(before), "y".repeat(100_000));
        let mut stream = shipped().stream(80);
        let (mut given, mut sent) = (Vec::new(), 0);
        for piece in raw.as_bytes().chunks(777) {
            stream.feed((), piece, |(), bytes| given.extend(bytes));
            sent += piece.len();
            assert!(sent - given.len() <= super::stream::HELD_BYTES_MAX, "{}", sent - given.len());
        }
        stream.finish(|(), bytes| given.extend(bytes));
        let shown = String::from_utf8(given).unwrap();
        assert!(!shown.contains("ghp_0") && shown.len() == raw.len(), "{before}");
    }
    // A token longer than what is kept is hidden to its end.
    let long = format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.{}END rest", "Ab0".repeat(20_000));
    let shown = as_text(&streamed(&shipped(), &[long.as_bytes()]));
    assert!(!shown.contains("Ab0Ab0") && !shown.contains("END") && shown.ends_with(" rest"), "{}", &shown[..200]);
}

#[test]
fn own_patterns_count_and_bad_ones_are_refused() {
    let secrets = Secrets::new(&["staff-([0-9]{6})".to_owned(), "größe ?[a-zß]+".to_owned()]).unwrap();
    assert_eq!(secrets.text("id staff-123456 x"), "id staff-[redacted] x");
    assert_eq!(secrets.text("die größe groß ist"), "die [redacted] ist");
    assert_eq!(as_text(&streamed(&secrets, &["ä größe groß\n".as_bytes()])), "ä [redacted]\n");
    let refused = |pattern: &str| Secrets::new(&[pattern.to_owned()]).unwrap_err().to_string();
    assert!(refused("a(b").contains("\"a(b\"") && refused("a(b").contains("unclosed group"), "{}", refused("a(b"));
    assert!(refused("x*").contains("matches everywhere"));
    assert!(refused("\\w{1000}{1000}").contains("no regular expression"));
    assert!(Secrets::new(&vec!["x".to_owned(); 65]).is_err());
    assert_eq!(Secrets::none().text("password=x"), "password=x");
    assert_eq!(as_text(&streamed(&Secrets::none(), &[b"password=x"])), "password=x");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn output_without_secrets_passes_unchanged(
        parts in proptest::collection::vec(prop_oneof![
            "[ -~]{0,12}",
            Just("\r".to_owned()), Just("\r\n".to_owned()), Just("\x08".to_owned()), Just("é\u{1f600}".to_owned()),
            Just("\x1b[K".to_owned()), Just("\x1b[5P\x1b[2@".to_owned()), Just("\x1b[A\x1b[3C".to_owned()),
            Just("\x1b[12;1H".to_owned()), Just("\x1b]0;title".to_owned()), Just("\x07".to_owned()),
            Just("\x1b(B\x1b7\x1b8".to_owned()), Just("\x1b[".to_owned()), Just("\x1b".to_owned()),
        ], 0..40),
        cut in 1_usize..20,
        columns in 0_u16..100,
    ) {
        // Patterns that nothing has: whatever the machine does, nothing may change.
        let secrets = Secrets::new(&["\u{e000}nowhere".to_owned()]).unwrap();
        let raw = parts.concat();
        prop_assume!(!secrets.may_be_in(raw.as_bytes()) && !secrets.may_be_in(raw.replace('\x1b', "").as_bytes()));
        let mut given = Vec::new();
        let mut stream = secrets.stream(columns);
        for piece in raw.as_bytes().chunks(cut) {
            stream.feed((), piece, |(), bytes| given.extend(bytes));
        }
        stream.finish(|(), bytes| given.extend(bytes));
        prop_assert_eq!(given, raw.into_bytes());
    }

    #[test]
    fn no_output_makes_it_fail_and_none_is_lost(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 1_usize..50) {
        let secrets = Secrets::new(&["[0-9a-zA-Z]{2}".to_owned()]).unwrap();
        let mut pieces = 0;
        let mut stream = secrets.stream(20);
        for piece in bytes.chunks(cut) {
            stream.feed((), piece, |(), _| pieces += 1);
        }
        stream.finish(|(), _| pieces += 1);
        prop_assert_eq!(pieces, bytes.len().div_ceil(cut));
    }
}
