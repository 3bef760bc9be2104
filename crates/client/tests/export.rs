//! What `export` promises: each form is what its format says, and has what the record has.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)] // a test fails by panicking, and says what it passes over

mod world;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use shellkeep_journal::storage::RealStorage;
use shellkeep_journal::{Chain, GapInfo, Identity, Journal, NewRecord, Options, RecordKind};
use world::{Tty, World};

const BASHRC: &str = "PS1='READY>'\n";

/// A bash session that ran these lines and has ended; what `output` has of it.
fn recorded(world: &World, lines: &[&str]) -> Vec<u8> {
    std::fs::write(world.path().join(".bashrc"), BASHRC).expect("written");
    let mut tty = world.terminal(["start", "-n", "told", "--", "bash"]);
    tty.expect("READY>");
    for line in lines {
        type_line(&mut tty, line);
    }
    tty.keys("exit 7\r");
    assert_eq!(tty.wait().code(), Some(7));
    let raw = world.run(["output", "told"]);
    assert!(raw.status.success(), "{raw:?}");
    raw.stdout
}

fn type_line(tty: &mut Tty, line: &str) {
    tty.keys(format!("{line}\r"));
    tty.expect("READY>");
}

fn export(world: &World, arguments: &[&str]) -> String {
    let mut all = vec!["export", "told", "--format"];
    all.extend_from_slice(arguments);
    let output = world.run(all);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A cast as its format says: the header, then code, time since the beginning and data of each event.
fn cast(text: &str) -> (Value, Vec<(String, f64, String)>) {
    let mut lines = text.lines();
    let header: Value = serde_json::from_str(lines.next().expect("a header")).expect("JSON");
    let version = header["version"].as_u64().expect("a version");
    let term = if version == 3 { &header["term"] } else { &header };
    let (cols, rows) = if version == 3 { ("cols", "rows") } else { ("width", "height") };
    assert!(term[cols].as_u64() > Some(0) && term[rows].as_u64() > Some(0), "{header}");
    assert!(header["timestamp"].is_u64() && header["env"].is_object() && header["title"].is_string(), "{header}");
    let (mut events, mut before) = (Vec::new(), 0.0);
    for line in lines {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let [time, code, data] = event.as_array().expect("an array").as_slice() else { panic!("not three: {line}") };
        let (time, code, data) = (time.as_f64(), code.as_str(), data.as_str());
        let (time, code, data) = (time.expect("a time"), code.expect("a code"), data.expect("text"));
        let legal = if version == 3 { "oimrx" } else { "oimr" };
        assert!(code.len() == 1 && legal.contains(code), "{line}");
        let time = if version == 3 { before + time } else { time };
        assert!(time >= before, "times go back: {line}");
        before = time;
        if code == "r" {
            assert!(data.split_once('x').is_some_and(|(c, r)| c.parse::<u16>().is_ok() && r.parse::<u16>().is_ok()));
        }
        events.push((code.to_owned(), time, data.to_owned()));
    }
    (header, events)
}

fn data(events: &[(String, f64, String)], code: &str) -> Vec<String> {
    events.iter().filter(|event| event.0 == code).map(|event| event.2.clone()).collect()
}

/// asciinema, where it is; a test says when it goes without.
fn asciinema(variable: &str, usual: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map_or_else(|| PathBuf::from(usual), PathBuf::from);
    let found = Command::new(&path).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return Some(path);
    }
    eprintln!("passed over: no {} here; {variable} names one", path.display());
    None
}

/// What asciinema shows of a cast on a terminal.
fn played(world: &World, asciinema: &Path, file: &Path) -> Vec<u8> {
    let words = [asciinema.into(), "play".into(), "-i".into(), "0.1".into(), file.into()];
    let mut tty = world.any_on_terminal(&words, 80, 24);
    let status = tty.wait();
    assert!(status.success(), "{:?}", String::from_utf8_lossy(&tty.seen));
    std::mem::take(&mut tty.seen)
}

const LINES: [&str; 5] = [
    "printf 'caf\\303'; sleep 0.05; printf '\\251 \\342\\230\\203\\n'",
    "printf '\\033[1;31mred\\033[m\\n'; false",
    "for i in 10 50 100; do printf \"\\r$i%%\"; done; echo",
    "echo '<script>alert(1)</script>'; printf '\\033]0;title\\007\\377\\n'",
    "cd /usr/lib",
];

/// A session with colours, cut characters and bytes that are none, in both versions, is what was recorded.
#[test]
fn a_cast_is_valid_and_plays_what_was_recorded() {
    let world = World::with_daemon();
    let raw = String::from_utf8_lossy(&recorded(&world, &LINES)).into_owned();
    for (form, version, variable, usual) in
        [("cast", 3, "ASCIINEMA3", "asciinema"), ("cast2", 2, "ASCIINEMA2", "asciinema2")]
    {
        let text = export(&world, &[form]);
        let (header, events) = cast(&text);
        assert_eq!(header["version"], version);
        assert_eq!(data(&events, "o").concat(), raw, "the output, in order, whole");
        let markers = data(&events, "m");
        assert!(LINES.iter().all(|line| markers.contains(&(*line).to_owned())), "{markers:?}");
        assert_eq!(data(&events, "x"), if version == 3 { vec!["7"] } else { vec![] });
        assert!(data(&events, "i").is_empty(), "nothing that was typed is in it unless it was recorded");
        let file = world.path().join(form);
        assert_eq!(export(&world, &[form, "-o", file.to_str().expect("a path")]), "");
        assert_eq!(std::fs::read_to_string(&file).expect("written"), text);
        if let Some(asciinema) = asciinema(variable, usual) {
            let played = String::from_utf8_lossy(&played(&world, &asciinema, &file)).into_owned();
            assert!(played.contains(&raw), "{}: {played:?} is not {raw:?}", asciinema.display());
        }
    }
    let (_, events) = cast(&export(&world, &["cast", "--command", "2"]));
    assert_eq!(data(&events, "o").concat(), "\x1b[1;31mred\x1b[m\r\n");
    assert_eq!(data(&events, "m"), [LINES[1]]);
}

#[test]
fn recorded_input_and_sizes_are_in_a_cast() {
    let world = World::with_daemon();
    let mut tty =
        world.terminal(["start", "-n", "told", "--record-input", "--", "sh", "-c", "read a; echo got $a; read b"]);
    tty.is_lent();
    tty.keys("word\r");
    tty.expect("got word");
    tty.resize(100, 30);
    tty.signal(rustix::process::Signal::WINCH);
    world::wait_until("the new size is recorded", || {
        data(&cast(&export(&world, &["cast"])).1, "r").contains(&"100x30".to_owned())
    });
    tty.keys("\r");
    tty.wait();
    let (_, events) = cast(&export(&world, &["cast"]));
    assert_eq!(data(&events, "i").concat(), "word\r\r");
    assert_eq!(data(&events, "x"), ["0"]);
}

#[test]
fn text_has_a_line_for_each_command_and_what_was_last_seen() {
    let world = World::with_daemon();
    recorded(&world, &LINES);
    let text = export(&world, &["txt"]);
    let mut blocks = text.split("\n\n").map(str::to_owned);
    assert!(blocks.next().expect("a head").starts_with("# told ("), "{text}");
    let blocks: Vec<String> = blocks.collect();
    assert!(blocks[0].starts_with(&format!("$ {}   [exit 0, ", LINES[0])), "{text}");
    assert!(blocks[0].ends_with("\ncaf\u{e9} \u{2603}"), "{text}");
    assert!(blocks[1].contains("[exit 1, ") && blocks[1].ends_with("\nred"), "{text}");
    assert!(blocks[2].ends_with("\n100%"), "{text}");
    assert!(blocks[3].ends_with("\n<script>alert(1)</script>\n\u{fffd}"), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
    let part = export(&world, &["txt", "--command", "2"]);
    assert!(part.ends_with("\nred\n") && !part.contains("100%"), "{part}");
    let missing = world.run(["export", "told", "--format", "txt", "--command", "99"]);
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
}

#[test]
fn json_is_one_document_with_the_same_text() {
    let world = World::with_daemon();
    recorded(&world, &LINES);
    let document: Value = serde_json::from_str(&export(&world, &["json"])).expect("JSON");
    assert_eq!(document["session"]["name"], "told");
    assert_eq!(document["session"]["exit_code"], 7);
    assert_eq!(document["text"], Value::Null);
    let commands = document["commands"].as_array().expect("commands");
    let of = |name: &str| commands.iter().map(|command| command[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("command")[..5], LINES.map(Value::from));
    assert_eq!(of("exit_code")[..3], [0, 1, 0].map(Value::from));
    assert_eq!(of("text")[..3], ["caf\u{e9} \u{2603}\n", "red\n", "100%\n"].map(Value::from));
    let listed: Value = serde_json::from_slice(&world.run(["history", "told", "--json"]).stdout).expect("JSON");
    let numbers = |list: &Value| list.as_array().map(|all| all.iter().map(|one| one["id"].clone()).collect::<Vec<_>>());
    assert_eq!(numbers(&document["commands"]), numbers(&listed));
}

#[test]
fn secrets_are_in_no_form_and_the_record_keeps_what_was_printed() {
    let world = World::with_daemon();
    let token = format!("{}_{}", "ghp", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let raw = recorded(&world, &[&format!("echo {token}"), "printf 'pass%s=%s\\n' word hunter2-long-enough"]);
    let raw = String::from_utf8_lossy(&raw);
    assert!(raw.contains(&token) && raw.contains("password=hunter2-long-enough"), "{raw}");
    for form in ["cast", "cast2", "txt", "json", "html"] {
        let exported = export(&world, &[form]);
        assert!(!exported.contains(&token[8..]) && !exported.contains("password=hunter2"), "{form}: {exported}");
        assert!(exported.contains("[redacted]"), "{form}: {exported}");
    }
    std::fs::create_dir_all(world.path().join("config")).expect("made");
    std::fs::write(world.path().join("config/config.toml"), "[privacy]\nredact = false\n").expect("written");
    assert!(export(&world, &["txt"]).contains(&token), "switched off it is off");
}

#[test]
fn a_session_without_marks_is_all_of_its_text() {
    let world = World::with_daemon();
    let id = world.detached("told", "echo one; echo; echo two; echo; echo");
    world::wait_until("it has ended", || export(&world, &["cast"]).contains("\"x\""));
    let text = export(&world, &["txt"]);
    assert!(text.contains(&id) && text.ends_with("\n\none\n\ntwo\n"), "{text}");
    let document: Value = serde_json::from_str(&export(&world, &["json"])).expect("JSON");
    assert_eq!(document["text"], "one\n\ntwo\n");
    assert_eq!(document["commands"], Value::Array(Vec::new()));
}

/// JSON can say any character by its number, and text for people shows what orders it anew as other commands do.
#[test]
fn no_form_has_characters_that_a_terminal_acts_on() {
    let world = World::with_daemon();
    let raw = recorded(&world, &["printf 'a\\302\\233b\\302\\205c\\177d\\342\\200\\256e\\342\\201\\246f\\n'"]);
    let raw = String::from_utf8_lossy(&raw).into_owned();
    assert!(raw.contains("a\u{9b}b\u{85}c\u{7f}d\u{202e}e\u{2066}f\r\n"), "{raw:?}");
    for form in ["cast", "cast2", "json", "txt", "html"] {
        let text = export(&world, &[form]);
        let acts =
            |c: &char| (c.is_control() && *c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert_eq!(text.chars().find(acts), None, "{form}: {text:?}");
        if form.starts_with("cast") {
            assert_eq!(data(&cast(&text).1, "o").concat(), raw, "and yet the recording is the same");
        }
    }
    assert!(export(&world, &["txt"]).contains(r"d\u{202e}e\u{2066}f"));
    let document: Value = serde_json::from_str(&export(&world, &["json"])).expect("JSON");
    assert!(document["commands"][0]["text"].as_str().expect("text").contains("d\u{202e}e\u{2066}f"), "{document}");
}

#[test]
fn a_file_is_replaced_once_the_new_one_is_whole_and_else_left_alone() {
    let world = World::with_daemon();
    recorded(&world, &["echo one"]);
    let (file, link) = (world.path().join("out.txt"), world.path().join("link"));
    std::fs::write(&file, "before").expect("written");
    std::os::unix::fs::symlink(&file, &link).expect("linked");
    let to = link.to_str().expect("a path");
    let refused = world.run(["export", "told", "--format", "txt", "--command", "99", "-o", to]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&file).expect("there"), "before");
    export(&world, &["txt", "-o", to]);
    assert!(std::fs::read_to_string(&file).expect("there").contains("$ echo one"));
    assert!(link.is_symlink(), "what a link means is replaced, not the link");
    assert_eq!(export(&world, &["txt", "-o", "/dev/null"]), "");
    assert_eq!(export(&world, &["txt", "-o", "-"]), std::fs::read_to_string(&file).expect("there"));
    let nowhere = world.run(["export", "told", "--format", "txt", "-o", "/nowhere/x"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("cannot write /nowhere/x"), "{nowhere:?}");
    let left = std::fs::read_dir(world.path()).expect("a home").flatten();
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".shellkeep")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Microseconds since the Unix epoch: what is old is removed.
fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    u64::try_from(since.as_micros()).expect("before the year 500,000")
}

/// The log of a session that is over, written as the daemon would; the daemon is not told.
fn written(world: &World, write: impl FnOnce(&mut Journal)) -> String {
    let session = shellkeep_protocol::ids::SessionId::new();
    let logs = world.path().join("state/log");
    std::fs::DirBuilder::new().mode(0o700).create(&logs).expect("made");
    let identity =
        Identity { session: *session.as_bytes(), store: [1; 16], writer: [2; 16], epoch: 1, attrs: Vec::new() };
    let name = session.to_string();
    let made = Journal::create(Arc::new(RealStorage), &logs, &name, identity, Options::default());
    write(&mut made.expect("a journal"));
    name
}

#[test]
fn what_is_missing_is_said_in_every_form() {
    let (world, now) = (World::with_daemon(), now_us());
    let id = written(&world, |journal| {
        journal.append(RecordKind::Output, now + 1_000_000, b"before caf\xc3").expect("written");
        let chain_after = Chain::new(7);
        let to = shellkeep_journal::Seq::new(5);
        journal
            .append_gap(now + 2_000_000, &GapInfo { to, output_bytes: 40, reason: 1, chain_after })
            .expect("written");
        journal.append(RecordKind::Output, now + 3_000_000, b"\xa9 after\r\n").expect("written");
        journal.append(RecordKind::Mark, now + 4_000_000, &[1]).expect("written");
        journal.append(RecordKind::Mark, now + 5_000_000, &[2]).expect("written");
        journal.append(RecordKind::Output, now + 6_000_000, b"end\r\n").expect("written");
    });
    let export = |form: &str| {
        let output = world.run(["export", &id, "--format", form]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let gap = "gap: records 2 to 5 (40 B) are lost: the spool was full while no daemon took records";
    let (paused, resumed) = ("recording was paused here, as asked for", "recording goes on here");
    for form in ["cast", "cast2"] {
        let (_, events) = cast(&export(form));
        assert!(events[0].1 < 0.1, "without a header, it begins with its first record: {events:?}");
        assert_eq!(data(&events, "m"), [gap, paused, resumed]);
        assert_eq!(data(&events, "o"), ["before caf", "\u{fffd}", "\u{fffd} after\r\n", "end\r\n"]);
    }
    let text = export("txt");
    let places = ["before caf", gap, "after", paused, resumed, "end"].map(|part| text.find(part));
    assert!(places.is_sorted() && places[0].is_some(), "{text}");
    let document: Value = serde_json::from_str(&export("json")).expect("JSON");
    let kinds: Vec<&str> =
        document["notes"].as_array().into_iter().flatten().filter_map(|note| note["kind"].as_str()).collect();
    assert_eq!(kinds, ["gap", "recording", "recording"]);
    let page = export("html");
    let places = ["before caf", gap, "after", paused, resumed, "end\n"].map(|part| page.rfind(part));
    assert!(places.is_sorted() && places[0].is_some(), "{page}");
    let replayed = world.run(["replay", &id, "--speed", "100"]);
    assert!(String::from_utf8_lossy(&replayed.stderr).contains(gap), "{replayed:?}");
}

/// Each keystroke's echo is a record of its own: a page of them must still be short enough to be sent.
#[test]
fn a_session_of_very_many_short_records_can_be_read() {
    const RECORDS: u64 = 200_000;
    let (world, now) = (World::with_daemon(), now_us());
    let id = written(&world, |journal| {
        for batch in 0..RECORDS / 1000 {
            let record = |at| NewRecord { kind: RecordKind::Output, time_us: now + batch * 1000 + at, payload: b"x" };
            journal.append_all((0..1000).map(record)).expect("written");
        }
    });
    let output = world.run(["output", &id]);
    assert_eq!((output.status.code(), output.stdout.len() as u64), (Some(0), RECORDS), "{:?}", output.stderr);
    let (_, events) = cast(&String::from_utf8(world.run(["export", &id, "--format", "cast"]).stdout).expect("UTF-8"));
    assert_eq!(data(&events, "o").len() as u64, RECORDS);
}
