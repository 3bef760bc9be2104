//! Reading, writing and removing, on a real journal and a real file.

use std::path::Path;
use std::sync::Arc;

use rusqlite::types::Value;
use shellkeep_journal::storage::RealStorage;
use shellkeep_journal::{Durability, Identity, Journal, Options, Reader, RecordKind, Start};
use shellkeep_protocol::ids::{MarksNonce, SessionId, StoreId};
use shellkeep_protocol::query::{Ended, Found, Search};
use shellkeep_protocol::session::Attrs;

use super::reading::{More, Reading, Saved, Tools};
use super::search;
use super::secrets::Secrets;
use super::store::Store;

const NONCE: MarksNonce = MarksNonce::from_bytes([7; 16]);

fn secrets() -> Arc<Secrets> {
    Secrets::new(&[]).unwrap()
}

fn shapes() -> u32 {
    secrets().digest()
}

fn search(directory: &Path, search: &Search) -> Result<Found, super::store::StoreError> {
    search::search(directory, shapes(), search)
}

fn attrs() -> Attrs {
    Attrs { cwd: "/start".to_owned(), size: (60, 5), marks: Some(NONCE), ..Attrs::default() }
}

/// A log of these records, a second apart.
fn log(directory: &Path, id: SessionId, records: &[(RecordKind, Vec<u8>)]) {
    let identity = Identity { session: *id.as_bytes(), store: [2; 16], writer: [3; 16], epoch: 1, attrs: Vec::new() };
    let options = Options { durability: Durability::Unsynced, ..Options::default() };
    let mut log = Journal::create(Arc::new(RealStorage), directory, &id.to_string(), identity, options).unwrap();
    for (second, (kind, payload)) in (1u64..).zip(records) {
        log.append(*kind, second * 1_000_000, payload).unwrap();
    }
}

/// A shell's session: commands with output of several kinds, cut anywhere.
fn session(seed: u64, commands: usize) -> Vec<(RecordKind, Vec<u8>)> {
    let mut output = Vec::new();
    for n in 0..commands {
        let cwd = if n % 2 == 0 { "even" } else { "odd" };
        let marks = format!(
            "\x1b]7;file://h/work/{cwd}\x07\x1b]133;A;sk={NONCE}\x07$ \x1b]133;B;sk={NONCE}\x07make part-{n}\r\n\x1b]133;C;sk={NONCE};cmdline_url=make part-{n}\x07"
        );
        output.extend_from_slice(marks.as_bytes());
        for line in 0..200 {
            let text =
                format!("\x1b[32mseed {seed} part {n} line {line}\x1b[0m word{}\r\n", (seed * 31 + line * 7) % 100);
            output.extend_from_slice(text.as_bytes());
        }
        output.extend_from_slice(
            "\r 10%\r 99%\rdone é 字\r\n\x1b[?1049hhidden\x1b[?1049l\x1b[2A\x1b[Kback\r\n\r\n".as_bytes(),
        );
        output.extend_from_slice(format!("\x1b]133;D;{};sk={NONCE}\x07", n % 3).as_bytes());
    }
    let pieces = output.chunks(usize::try_from(777 + seed).unwrap());
    let mut records: Vec<_> = pieces.map(|piece| (RecordKind::Output, piece.to_vec())).collect();
    records.push((RecordKind::Exit, vec![0; 8]));
    records
}

/// Reads a log into the index, so many bytes at a time, each time as if for the first time.
fn index(store: &Store, logs: &Path, id: SessionId, step: usize) {
    let open = |start: Start| Reader::open(Arc::new(RealStorage), &logs.join(id.to_string()), start);
    let mut tools = Tools::new().unwrap();
    loop {
        let known = store.session(id).unwrap();
        let mut reading = match known {
            None => Reading::begin(id, (StoreId::from_bytes([2; 16]), attrs()), secrets(), open).unwrap(),
            Some((row, state)) => {
                let saved = Saved::decode(&state).unwrap();
                Reading::go_on(id, (row, state), saved, secrets(), (store, open)).unwrap().unwrap()
            }
        };
        let more = reading.read(step).unwrap();
        store.begin().unwrap();
        reading.write(store, &mut tools).unwrap();
        while store.merge().unwrap() {}
        store.commit().unwrap();
        if more == More::No {
            return;
        }
    }
}

/// Everything that the index says, without its own numbers of things.
fn dump(store: &Store) -> Vec<Vec<Value>> {
    let all = [
        "SELECT s.id, s.over, s.running, s.state FROM sessions s ORDER BY s.id",
        "SELECT s.id, c.number, c.line, c.cwd, c.started, c.ended, c.exit, c.first_seq, c.output_from, c.output_to
         FROM commands c JOIN sessions s ON s.key = c.session ORDER BY s.id, c.number",
        "SELECT s.id, b.first_line, b.lines, b.first_us, b.last_us, b.last_seq, b.bytes, b.closed, t.places, t.text
         FROM blocks b JOIN sessions s ON s.key = b.session JOIN texts t ON t.block = b.id ORDER BY s.id, b.first_line",
    ];
    let mut rows = Vec::new();
    for query in all {
        let mut query = store.db().prepare(query).unwrap();
        let columns = query.column_count();
        let found = query.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
        rows.extend(found.map(Result::unwrap));
    }
    rows
}

fn found(directory: &Path, text: &str) -> Found {
    search(directory, &Search { text: text.to_owned(), limit: 1000, ..Search::default() }).unwrap()
}

fn lines(found: &Found) -> Vec<&str> {
    found.hits.iter().map(|hit| hit.line.as_str()).collect()
}

#[test]
fn the_same_log_gives_the_same_index_however_often_reading_stopped() {
    let home = tempfile::tempdir().unwrap();
    let ids = [SessionId::new(), SessionId::new()];
    for (seed, id) in (1u64..).zip(ids) {
        log(home.path(), id, &session(seed, 20));
    }
    let dumps: Vec<_> = [usize::MAX, 50_000, 5_000]
        .into_iter()
        .map(|step| {
            let directory = home.path().join(format!("index-{step}"));
            let store = Store::open(&directory, shapes()).unwrap().0;
            for id in ids {
                index(&store, home.path(), id, step);
            }
            let found = found(&directory, "part 17 line 3 ");
            (dump(&store), found.hits.len(), lines(&found)[0].to_owned())
        })
        .collect();
    assert!(dumps[0].0.len() > 42, "{}", dumps[0].0.len());
    assert_eq!((dumps[0].1, dumps[0].2.as_str()), (2, "seed 2 part 17 line 3 word83"));
    assert!(dumps[0] == dumps[1], "in steps of 50,000 bytes");
    assert!(dumps[0] == dumps[2], "in steps of 5,000 bytes");
}

/// Reads a log as the follower does: it rests now and then, and every third time nothing of it is remembered.
struct Follows<'a> {
    store: &'a Store,
    logs: &'a Path,
    id: SessionId,
    reading: Option<Reading>,
    reads: usize,
}

impl Follows<'_> {
    fn open(&self, start: Start) -> Result<Reader, shellkeep_journal::JournalError> {
        Reader::open(Arc::new(RealStorage), &self.logs.join(self.id.to_string()), start)
    }

    fn awake(&mut self) -> Reading {
        let rested = self.reading.take();
        let open = |start| self.open(start);
        match rested {
            Some(reading) if reading.is_awake() => reading,
            Some(rested) => rested.wake(self.store, open).unwrap().unwrap(),
            None => match self.store.session(self.id).unwrap() {
                None => Reading::begin(self.id, (StoreId::from_bytes([2; 16]), attrs()), secrets(), open).unwrap(),
                Some((row, state)) => {
                    let saved = Saved::decode(&state).unwrap();
                    Reading::go_on(self.id, (row, state), saved, secrets(), (self.store, open)).unwrap().unwrap()
                }
            },
        }
    }

    /// Reads so many bytes beyond what was read before; true if there is more.
    fn step(&mut self, bytes: usize, tools: &mut Tools) -> bool {
        let before = self.reading.as_ref().map(|reading| reading.next);
        self.reads += 1;
        if self.reads.is_multiple_of(3) {
            self.reading = None;
        } else if let Some(reading) = &mut self.reading {
            reading.rest();
        }
        loop {
            let mut reading = self.awake();
            let more = reading.read(bytes).unwrap();
            self.store.begin().unwrap();
            reading.write(self.store, tools).unwrap();
            while self.store.merge().unwrap() {}
            self.store.commit().unwrap();
            let is_further = before.is_none_or(|before| reading.next > before);
            self.reading = Some(reading);
            if more == More::No || is_further {
                return more == More::Yes;
            }
        }
    }
}

/// Words of which no part may be in the file.
const SECRETS: [&str; 5] =
    ["a1B2c3D4e5F6g7H8i9", "hunter2-long-enough", "bm9uZQAAAAAAAAABAAAAMw", "aws0secret1typed", "in-the-editor-7"];

/// Secrets printed, typed, wrapped, coloured, drawn on the other screen, left on the screen for long.
fn leaky_session() -> Vec<u8> {
    let token = format!("{}_{}j0K1l2M3n4O5p6Q7r8", "ghp", SECRETS[0]);
    let key = format!("{}tz\r\n", SECRETS[2]).repeat(60);
    let command = |line: &str, output: &str| {
        let encoded = line.replace('%', "%25").replace('=', "%3D");
        format!(
            "\x1b]133;A;sk={NONCE}\x07$ \x1b]133;B;sk={NONCE}\x07{line}\r\n\
             \x1b]133;C;sk={NONCE};cmdline_url={encoded}\x07{output}\x1b]133;D;0;sk={NONCE}\x07"
        )
    };
    let filler = |n: usize| "an ordinary line with key value\r\n".repeat(n);
    let red: String =
        token.chars().flat_map(|c| ["\x1b[31m".to_owned(), c.to_string(), "\x1b[0m".to_owned()]).collect();
    let mut all = command("first", &filler(400));
    all +=
        &command(&format!("export AWS_SECRET={}", SECRETS[3]), &format!("{}{token}\r\nred {red}\r\n", "x".repeat(41)));
    all += &command("cat key", &format!("-----BEGIN RSA PRIVATE KEY-----\r\n{key}-----END RSA PRIVATE KEY-----\r\n"));
    all += &command("short", "ok\r\n");
    let tty = format!("password: {}\r\n\x1b[?1049h\x1b[2;3Hpassword={}\x1b[3;1Hmore", SECRETS[1], SECRETS[4]);
    all += &command("vi", &format!("{tty}{}\x1b[?1049lback\r\n", "\x1b[4;1Hdrawn again".repeat(200)));
    all += &command("redraw", &format!("pwd={}\r\n\x1b[A\x1b[Bbelow\r\n", SECRETS[1]));
    all += &command("last", &filler(300));
    all.into_bytes()
}

fn has_no_secret(directory: &Path) {
    for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        let file = std::fs::read(path).unwrap();
        for secret in SECRETS {
            assert!(memchr::memmem::find(&file, secret.as_bytes()).is_none(), "{secret} in the file");
        }
    }
    for secret in SECRETS {
        assert_eq!(lines(&found(directory, secret)), [""; 0]);
    }
}

/// The whole index of a leaky session whose output came in these pieces, read so many bytes at a time.
fn leaky_index(pieces: &[&[u8]], bytes: usize, is_looked_at_each_time: bool) -> Vec<Vec<Value>> {
    let home = tempfile::tempdir().unwrap();
    let id = SessionId::from_bytes([1; 16]);
    let mut records: Vec<_> = pieces.iter().map(|piece| (RecordKind::Output, piece.to_vec())).collect();
    records.push((RecordKind::Exit, vec![0; 8]));
    log(home.path(), id, &records);
    let directory = home.path().join("index");
    let store = Store::open(&directory, shapes()).unwrap().0;
    let mut tools = Tools::new().unwrap();
    let mut follows = Follows { store: &store, logs: home.path(), id, reading: None, reads: 0 };
    while follows.step(bytes, &mut tools) {
        store.tidy().unwrap();
        if is_looked_at_each_time {
            has_no_secret(&directory);
        }
    }
    store.tidy().unwrap();
    has_no_secret(&directory);
    assert_eq!(lines(&found(&directory, "AWS_SECRET")), ["export AWS_SECRET=[redacted]"]);
    let hidden = found(&directory, "[redacted]");
    assert_eq!(hidden.hits.len(), 60 + 5, "{:?}", lines(&hidden));
    dump(&store)
}

/// A secret of which only a part was printed yet cannot be told: where pieces end within one, the file has none at the end.
#[test]
fn no_secret_is_in_the_file_at_any_time_and_it_is_the_same_however_often_reading_stopped() {
    let session = leaky_session();
    let whole: Vec<&[u8]> = session.split_inclusive(|byte| *byte == b'\n').collect();
    let cut: Vec<&[u8]> = session.chunks(97).collect();
    for (pieces, is_whole) in [(whole, true), (cut, false)] {
        let dumps = [usize::MAX, 5_000, 400].map(|bytes| leaky_index(&pieces, bytes, is_whole));
        assert!(dumps[0] == dumps[1], "in steps of 5,000 bytes");
        assert!(dumps[0] == dumps[2], "in steps of 400 bytes");
    }
}

#[test]
fn a_file_made_with_other_patterns_is_not_read_and_made_anew() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("index");
    let store = Store::open(&directory, shapes()).unwrap().0;
    store.put_session(SessionId::new(), false, None, b"x").unwrap();
    drop(store);
    assert!(!Store::open(&directory, shapes()).unwrap().1, "the same patterns: the same file");
    for other in [Secrets::none(), Secrets::new(&["staff-[0-9]+".to_owned()]).unwrap()] {
        assert!(Store::read(&directory, other.digest()).unwrap().is_none());
    }
    let own = |pattern: &str| Secrets::new(&[pattern.to_owned()]).unwrap().digest();
    assert!(own("ab") != own("abc") && own("ab") == own("ab"));
    let (store, is_new) = Store::open(&directory, own("ab")).unwrap();
    assert!(is_new && store.sessions().unwrap().is_empty());
}

#[test]
fn hits_have_their_commands_and_filters_hold_and_pages_follow_each_other() {
    let home = tempfile::tempdir().unwrap();
    let id = SessionId::new();
    log(home.path(), id, &session(1, 40));
    let directory = home.path().join("index");
    index(&Store::open(&directory, shapes()).unwrap().0, home.path(), id, 50_000);

    let one = found(&directory, "PART-17"); // an upper-case letter: as it is
    assert_eq!(lines(&one), [""; 0]);
    let one = found(&directory, "part-17"); // the prompt that it was typed at is not found besides
    assert_eq!((lines(&one), one.hits[0].is_command), (vec!["make part-17"], true));
    let command = one.hits[0].command.clone().unwrap();
    assert_eq!((command.id, command.cwd.as_str(), command.exit), (18, "/work/odd", Some(2)));

    let all = found(&directory, "word5");
    assert!(all.hits.len() > 40 && all.next.is_none());
    assert!(all.hits.is_sorted_by(|one, next| one.at > next.at), "newest first, each once");
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = Search { text: "word5".to_owned(), limit: 7, after, ..Search::default() };
        let page = search(&directory, &page).unwrap();
        assert!(page.hits.len() <= 7);
        pages.extend(page.hits);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(pages == all.hits, "{} {}", pages.len(), all.hits.len());

    let with =
        |wanted: Search| search(&directory, &Search { text: "line 9 ".to_owned(), limit: 1000, ..wanted }).unwrap();
    assert_eq!(with(Search::default()).hits.len(), 40);
    let failed = with(Search { ended: Some(Ended::Failed), ..Search::default() });
    assert_eq!(
        (failed.hits.len(), with(Search { ended: Some(Ended::With(0)), ..Search::default() }).hits.len()),
        (26, 14)
    );
    assert_eq!(with(Search { directory: Some("/work/odd".to_owned()), ..Search::default() }).hits.len(), 20);
    assert_eq!(with(Search { directory: Some("/work/o".to_owned()), ..Search::default() }).hits.len(), 0);
    assert_eq!(with(Search { session: Some(SessionId::new()), ..Search::default() }).hits.len(), 0);
    let middle = all.hits[all.hits.len() / 2].at.time_us;
    let (since, until) = (
        Search { since_us: Some(middle), ..Search::default() },
        Search { until_us: Some(middle), ..Search::default() },
    );
    assert_eq!(with(since).hits.len() + with(until).hits.len(), 40);
    let near = with(Search { context: 2, ..Search::default() });
    assert_eq!((near.hits[0].before.len(), near.hits[0].behind.len()), (2, 2));
    assert!(near.hits[0].behind[0].contains("line 10 "), "{:?}", near.hits[0]);

    assert_eq!(found(&directory, "hidden").hits.len(), 0, "the alternate screen is left out");
    assert_eq!(found(&directory, "10%").hits.len(), 0, "what was overwritten is gone");
    assert_eq!(found(&directory, "back").hits.len(), 40);
    let word = |text: &str| {
        search(&directory, &Search { text: text.to_owned(), word: true, limit: 9, ..Search::default() }).unwrap()
    };
    assert_eq!((word("word1").hits.len(), word("ord1").hits.len()), (9, 0));
    assert_eq!(found(&directory, "7 word").next, None);
    assert!(!found(&directory, "li").hits.is_empty(), "two characters");
}

/// A command as a shell shows it, with a prompt that has a word of its own.
fn shown(line: &str, output: &str, exit: u8) -> Vec<(RecordKind, Vec<u8>)> {
    let prompt = format!("\x1b]133;A;sk={NONCE}\x07prompt $ \x1b]133;B;sk={NONCE}\x07{line}\r\n");
    let begin = format!("\x1b]133;C;sk={NONCE};cmdline_url={}\x07", line.replace('\n', "%0A"));
    let end = format!("\x1b]133;D;{exit};sk={NONCE}\x07");
    [prompt, begin, output.to_owned(), end].map(|text| (RecordKind::Output, text.into_bytes())).to_vec()
}

#[test]
fn a_hit_is_its_own_commands_and_so_are_the_lines_around_it() {
    let home = tempfile::tempdir().unwrap();
    let id = SessionId::new();
    let count = |from: u32, to: u32| (from..to).map(|n| format!("{n}\r\n")).collect::<Vec<_>>().concat();
    let pager = format!("\x1b[?1049h\x1b[2J{}\x1b[?1049l", count(0, 500));
    let many: String = (0..3000).map(|n| format!("many {n} \r\n")).collect::<Vec<_>>().concat();
    let mut records = vec![(RecordKind::Output, b"hello\r\n".to_vec())];
    for (line, output, exit) in [
        ("sh", "needle\r\n", 4),
        ("less", pager.as_str(), 0),
        ("seq 100 105", &count(100, 106), 0),
        ("echo AAA\nBBB", "AAA\r\nBBB\r\n", 0),
        ("printf", "no-end", 0),
        ("make", &many, 0),
        ("seq 105 109", &count(105, 110), 0),
    ] {
        records.extend(shown(line, output, exit));
    }
    records.extend(shown("exit 9", "bye\r\n", 0));
    records.pop();
    records.push((RecordKind::Exit, vec![0, 9]));
    log(home.path(), id, &records);
    let directory = home.path().join("index");
    index(&Store::open(&directory, shapes()).unwrap().0, home.path(), id, 20_000);
    let near = |text: &str, context| {
        let wanted = Search { text: text.to_owned(), limit: 5000, context, ..Search::default() };
        search(&directory, &wanted).unwrap().hits
    };
    let credits = |text: &str| {
        let command = near(text, 0).pop().unwrap().command.unwrap();
        (command.id, command.exit)
    };
    assert_eq!((credits("needle"), credits("no-end"), credits("bye")), ((1, Some(4)), (5, Some(0)), (8, Some(9))));
    assert_eq!(near("no-end", 3)[0].line, "no-end");
    assert!(near("prompt", 0).is_empty() && near("hello", 1)[0].behind.is_empty());
    let around = near("102", 4);
    let one = around.iter().find(|hit| hit.line == "102").unwrap();
    assert_eq!(
        (one.before.as_slice(), one.behind.as_slice()),
        (&["100", "101"].map(String::from)[..], &["103", "104", "105"].map(String::from)[..])
    );
    let typed = near("seq 10", 2);
    assert_eq!(typed.iter().map(|hit| hit.behind.join(" ")).collect::<Vec<_>>(), ["105 106", "100 101"]);
    assert_eq!(near("make", 2)[0].behind, ["many 0", "many 1"]);
    for hit in near("many", 2).iter().filter(|hit| !hit.is_command) {
        let number: u32 = hit.line[5..].parse().unwrap();
        let expected = |numbers: std::ops::Range<u32>| numbers.map(|n| format!("many {n}")).collect::<Vec<_>>();
        assert_eq!(hit.before, expected(number.saturating_sub(2)..number));
        assert_eq!(hit.behind, expected(number + 1..(number + 3).min(3000)));
    }
}

#[test]
fn what_is_removed_is_gone_from_every_table_and_every_byte_of_the_file() {
    let home = tempfile::tempdir().unwrap();
    let ids = [SessionId::new(), SessionId::new()];
    for (seed, id) in (1u64..).zip(ids) {
        let mut records = session(seed, 60);
        records.insert(5, (RecordKind::Output, format!("\r\nsecret-of-{seed}-zebra\r\n").into_bytes()));
        log(home.path(), id, &records);
    }
    let directory = home.path().join("index");
    let store = Store::open(&directory, shapes()).unwrap().0;
    for id in ids {
        index(&store, home.path(), id, 100_000);
    }
    let other = found(&directory, "secret-of-2");
    assert_eq!((found(&directory, "secret-of-1").hits.len(), other.hits.len()), (1, 1));
    let levels: i64 = store.db().query_row("SELECT count(DISTINCT level) FROM runs", [], |row| row.get(0)).unwrap();
    assert_eq!(levels, 3, "enough for all levels");
    store.tidy().unwrap();
    let before = std::fs::metadata(super::store::file_in(&directory)).unwrap().len();
    store.begin().unwrap();
    store.forget(ids[0]).unwrap();
    store.commit().unwrap();
    store.tidy().unwrap();
    assert!(found(&directory, "secret-of-1").hits.is_empty() && found(&directory, "seed 1 ").hits.is_empty());
    assert_eq!(found(&directory, "secret-of-2"), other);
    let after = std::fs::metadata(super::store::file_in(&directory)).unwrap().len();
    assert!(after < before, "{before} {after}");
    store.begin().unwrap();
    store.forget(ids[1]).unwrap();
    store.commit().unwrap();
    store.tidy().unwrap();
    for table in ["sessions", "commands", "blocks", "texts", "fresh", "runs", "postings"] {
        let left: i64 = store.db().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{table}");
    }
    let bytes = std::fs::read(super::store::file_in(&directory)).unwrap();
    for trace in [b"make part-17".as_slice(), b"/work/odd", ids[0].as_bytes(), ids[1].as_bytes()] {
        assert!(memchr::memmem::find(&bytes, trace).is_none(), "{trace:?}");
    }
    assert_eq!(std::fs::metadata(directory.join("index.db-wal")).map_or(0, |wal| wal.len()), 0);
}

#[test]
fn a_file_that_is_damaged_or_of_another_version_is_made_anew() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("index");
    let count =
        |store: &Store| store.db().query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0)).unwrap();
    let store = Store::open(&directory, shapes()).unwrap().0;
    store.put_session(SessionId::new(), false, None, b"x").unwrap();
    store.db().pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    assert!(Store::read(&directory, shapes()).unwrap().is_none());
    assert_eq!(count(&Store::open(&directory, shapes()).unwrap().0), 0);
    std::fs::write(super::store::file_in(&directory), vec![b'x'; 20_000]).unwrap();
    assert_eq!(count(&Store::open(&directory, shapes()).unwrap().0), 0);
}
