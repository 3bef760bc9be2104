//! What the spool promises to the recorder, to the shipper, and to a terminal that comes back.

// Helpers outside of `#[test]` functions panic like the tests that they belong to.
#![allow(clippy::expect_used, clippy::panic)]

mod world;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shellkeep::keeper::core::{Extent, SpoolView as _};
use shellkeep::keeper::disk::Plan;
use shellkeep::keeper::output::{CATCH_UP_BYTES_MAX, Output, QUEUE_BYTES_MAX, Terms};
use shellkeep::keeper::ring::RING_BYTES_MAX;
use shellkeep::keeper::sink::Sink;
use shellkeep::keeper::spool::{Spool, encode_attrs};
use shellkeep_journal::storage::RealStorage;
use shellkeep_journal::{Identity, RecordIter, RecordKind, Seq, scan_read_only};
use shellkeep_protocol::attach::WhenFull;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::resume::Retained as _;
use shellkeep_protocol::session::{Attrs, GapReason, SpoolAttrs};
use world::{Tty, is_so_within, pty};

/// One record of the tests: a 40th of a segment.
const RECORD_BYTES: usize = 100 << 10;

fn plan(spools: &Path, bytes_max: u64) -> Plan {
    let session = SessionId::new();
    let identity = Identity {
        session: *session.as_bytes(),
        store: [0; 16],
        writer: [7; 16],
        epoch: 0,
        attrs: encode_attrs(session, &Attrs::default()),
    };
    Plan { spools: spools.to_owned(), identity, bytes_max }
}

fn payload(number: u64) -> Vec<u8> {
    let byte = u8::try_from(number % 251).expect("a byte");
    vec![byte; RECORD_BYTES]
}

/// Takes everything as the shipper does; returns the numbers of the records and the holes.
fn ship(spool: &Spool) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut at, mut chain) = (spool.first().next_seq, spool.first().chain);
    let (mut numbers, mut holes) = (Vec::new(), Vec::new());
    while at < spool.end().next_seq {
        match spool.extent(at, 256 << 10) {
            Extent::Records { to, bytes } => {
                let records = spool.records(at, to.next_seq).expect("what was offered is there");
                assert_eq!(records.len(), bytes as usize);
                for record in RecordIter::from_first(&records).expect("records") {
                    let record = record.expect("whole and in order");
                    assert_eq!(record.header.prev, chain);
                    assert_eq!(record.payload, payload(record.header.seq.get()));
                    chain = record.after.chain;
                    numbers.push(record.header.seq.get());
                }
                at = to.next_seq;
            }
            Extent::Unreadable => panic!("everything can be read here"),
            Extent::Hole { to, reason } => {
                assert_eq!(reason, GapReason::SpoolFull);
                holes.push((at.get(), to.next_seq.get()));
                (at, chain) = (to.next_seq, to.chain);
            }
        }
    }
    assert_eq!(chain, spool.end().chain);
    (numbers, holes)
}

fn fill(spool: &Spool, records: std::ops::RangeInclusive<u64>) {
    for number in records {
        spool.append(RecordKind::Output, &payload(number));
    }
}

#[test]
fn what_the_recorder_appends_the_shipper_gets_from_disk_as_from_memory() {
    let temp = tempfile::tempdir().expect("a directory");
    let on_disk = Spool::new(Some(plan(temp.path(), 1 << 30)), WhenFull::Gap);
    let in_memory = Spool::new(None, WhenFull::Gap);
    for spool in [&on_disk, &in_memory] {
        fill(spool, 1..=70);
        assert_eq!(ship(spool), ((1..=70).collect(), Vec::new()));
        spool.trim(Seq::new(60));
        assert!(spool.first().next_seq > Seq::FIRST && spool.first().next_seq <= Seq::new(60));
        assert_eq!(ship(spool).0.last(), Some(&70));
    }
    assert!(in_memory.complaint().is_some() && on_disk.complaint().is_none());
}

#[test]
fn over_its_bound_the_oldest_whole_segments_go_and_the_rest_is_whole() {
    let temp = tempfile::tempdir().expect("a directory");
    let spool = Spool::new(Some(plan(temp.path(), 12 << 20)), WhenFull::Gap);
    fill(&spool, 1..=400);
    let (numbers, holes) = ship(&spool);
    assert!(holes.is_empty() && numbers.last() == Some(&400));
    assert!(numbers.len() >= 40 && numbers.len() < 125, "{}", numbers.len());
    assert!(spool.complaint().is_some_and(|told| told.contains("oldest are lost")));
    let mut bytes = 0;
    for session in std::fs::read_dir(temp.path()).expect("spools").flatten() {
        for file in std::fs::read_dir(session.path()).expect("files").flatten() {
            bytes += file.metadata().expect("metadata").len();
        }
    }
    assert!(bytes <= 12 << 20, "{bytes}");
}

#[test]
fn a_full_spool_that_blocks_loses_nothing_and_goes_on_when_trimmed() {
    let temp = tempfile::tempdir().expect("a directory");
    let spool = Arc::new(Spool::new(Some(plan(temp.path(), 12 << 20)), WhenFull::Block));
    let filling = Arc::clone(&spool);
    let filler = std::thread::spawn(move || fill(&filling, 1..=200));
    let mut end = Seq::FIRST;
    let stands = || {
        let now = spool.end().next_seq;
        std::thread::sleep(Duration::from_millis(20)); // between two looks at what must stand still
        std::mem::replace(&mut end, now) == now && now > Seq::FIRST
    };
    assert!(is_so_within(Duration::from_secs(10), stands));
    assert!(spool.end().next_seq < Seq::new(200), "it did not wait");
    assert_eq!(ship(&spool).0.first(), Some(&1), "nothing was dropped");
    while !filler.is_finished() {
        spool.trim(spool.end().next_seq);
        std::thread::sleep(Duration::from_millis(1)); // between two trims
    }
    filler.join().expect("everything was appended");
    assert_eq!(spool.end().next_seq, Seq::new(201));
    assert!(spool.complaint().is_none());
}

#[test]
fn what_fell_out_of_memory_is_a_hole_and_never_silence() {
    let spool = Spool::new(None, WhenFull::Gap);
    let records = RING_BYTES_MAX as u64 / RECORD_BYTES as u64 * 2;
    fill(&spool, 1..=records);
    let first = spool.first().next_seq.get();
    assert!(first > 1);
    assert_eq!(ship(&spool), ((first..=records).collect(), Vec::new()));
    assert_eq!(spool.chain_before(Seq::new(first - 1)), None);
}

#[test]
fn the_shipper_is_woken_only_when_it_sleeps() {
    let spool = Spool::new(None, WhenFull::Gap);
    let woken = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&woken);
    spool.wake_with(Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    fill(&spool, 1..=3);
    assert_eq!(woken.load(Ordering::SeqCst), 0);
    assert!(!spool.may_sleep(Seq::new(2)), "there is something that it has not seen");
    fill(&spool, 4..=4);
    assert_eq!(woken.load(Ordering::SeqCst), 0);
    assert!(spool.may_sleep(Seq::new(5)));
    fill(&spool, 5..=7);
    assert_eq!(woken.load(Ordering::SeqCst), 1);
}

#[test]
fn a_forked_spool_says_whose_it_is_now_to_whoever_adopts_it() {
    let temp = tempfile::tempdir().expect("a directory");
    let spool = Spool::new(Some(plan(temp.path(), 1 << 30)), WhenFull::Gap);
    fill(&spool, 1..=3);
    let session = SessionId::new();
    spool.fork(session, &Attrs { name: Some("child".to_owned()), ..Attrs::default() });
    fill(&spool, 4..=50);
    let directory = std::fs::read_dir(temp.path()).expect("spools").flatten().next().expect("one").path();
    let recovery = scan_read_only(&RealStorage, &directory).expect("readable");
    let attrs = recovery.identity.expect("an identity").attrs;
    let said: SpoolAttrs = shellkeep_transport::decode(&attrs).expect("what a spool says");
    assert_eq!((said.session, said.attrs.name.as_deref()), (session, Some("child")));
    assert_eq!(ship(&spool).0, (1..=50).collect::<Vec<_>>());
}

/// A terminal that nobody reads yet, and how often its screen was drawn again.
fn stuck(spool: &Arc<Spool>, patience: Duration) -> (Tty, Arc<Output>, Arc<AtomicU32>) {
    let (tty, output, redrawn) = attached(spool, patience);
    output.resume();
    (tty, output, redrawn)
}

/// The same before its terminal has set its modes.
fn attached(spool: &Arc<Spool>, patience: Duration) -> (Tty, Arc<Output>, Arc<AtomicU32>) {
    attached_with(spool, patience, None)
}

/// The same, for a terminal that is told when it has missed too much.
fn attached_with(
    spool: &Arc<Spool>,
    patience: Duration,
    behind: Option<Arc<dyn Fn() + Send + Sync>>,
) -> (Tty, Arc<Output>, Arc<AtomicU32>) {
    let (master, slave): (_, OwnedFd) = pty(80, 24);
    let mut modes = rustix::termios::tcgetattr(&slave).expect("modes");
    modes.make_raw();
    rustix::termios::tcsetattr(&slave, rustix::termios::OptionalActions::Now, &modes).expect("raw");
    let redrawn = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&redrawn);
    let terms = Terms {
        behind,
        patience: Some(patience),
        history: Arc::clone(spool) as Arc<dyn shellkeep::keeper::output::History>,
        redraw: Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        }),
    };
    let output = Output::new(Sink::tty(slave).expect("a tty"), 0, terms);
    (Tty::of_master(master), output, redrawn)
}

/// Records and shows `total` bytes, as the keeper does.
fn show(spool: &Spool, output: &Arc<Output>, total: usize) {
    let mut shown = 0;
    while shown < total {
        let line = format!("{shown:07}\n").repeat(500);
        let offset = spool.append(RecordKind::Output, line.as_bytes()).output_offset;
        output.show(offset, line.as_bytes(), true);
        shown += line.len();
    }
}

#[test]
fn a_stuck_first_terminal_is_left_behind_after_its_patience_and_gets_all_when_it_is_back() {
    let temp = tempfile::tempdir().expect("a directory");
    let spool = Arc::new(Spool::new(Some(plan(temp.path(), 1 << 30)), WhenFull::Gap));
    let patience = Duration::from_millis(150);
    let (mut tty, output, redrawn) = stuck(&spool, patience);
    let begun = Instant::now();
    show(&spool, &output, 600_000);
    let held_up = begun.elapsed();
    assert!(held_up >= patience && held_up < patience * 10, "{held_up:?}");
    let mut recorded = Vec::new();
    let total = spool.end().output_offset;
    while (recorded.len() as u64) < total {
        let from = recorded.len() as u64;
        let there = shellkeep::keeper::output::History::output_from(&*spool, from, 1 << 20, &mut recorded);
        assert!(there);
    }
    while tty.seen.len() < recorded.len() {
        assert!(tty.read_until(Instant::now() + Duration::from_secs(10)), "{} of {total}", tty.seen.len());
    }
    assert_eq!(tty.seen, recorded);
    assert_eq!(redrawn.load(Ordering::SeqCst), 0);
    show(&spool, &output, 4000);
    tty.expect("0000000\n");
    output.close();
}

#[test]
fn a_first_terminal_that_is_about_to_begin_misses_nothing_however_much_comes() {
    let temp = tempfile::tempdir().expect("a directory");
    let spool = Arc::new(Spool::new(Some(plan(temp.path(), 1 << 30)), WhenFull::Gap));
    let (mut tty, output, redrawn) = attached(&spool, Duration::from_secs(10));
    let (showing, shown_by) = (Arc::clone(&spool), Arc::clone(&output));
    let bytes = usize::try_from(CATCH_UP_BYTES_MAX).expect("a size") * 3;
    let shower = std::thread::spawn(move || show(&showing, &shown_by, bytes));
    let mut recorded = 0;
    let stands = || {
        let now = spool.end().output_offset;
        std::thread::sleep(Duration::from_millis(20)); // between two looks at what must stand still
        std::mem::replace(&mut recorded, now) == now && now > 0
    };
    assert!(is_so_within(Duration::from_secs(5), stands), "the session does not wait");
    output.resume();
    while tty.seen.len() < bytes {
        assert!(tty.read_until(Instant::now() + Duration::from_secs(10)), "{} of {bytes}", tty.seen.len());
    }
    shower.join().expect("all was shown");
    assert!(tty.seen.starts_with(b"0000000\n") && !tty.seen.contains(&0x18));
    assert_eq!(redrawn.load(Ordering::SeqCst), 0);
    output.close();
}

#[test]
fn a_first_terminal_that_is_back_is_waited_for_until_it_has_what_it_missed() {
    let temp = tempfile::tempdir().expect("a directory");
    let spool = Arc::new(Spool::new(Some(plan(temp.path(), 1 << 30)), WhenFull::Gap));
    let (mut tty, output, redrawn) = stuck(&spool, Duration::from_secs(1));
    show(&spool, &output, 900_000);
    let missed = usize::try_from(spool.end().output_offset).expect("a size");
    let reading = std::thread::spawn(move || {
        while tty.seen.windows(3).next_back() != Some(b"END") {
            assert!(tty.read_until(Instant::now() + Duration::from_secs(10)), "{} bytes", tty.seen.len());
        }
        std::mem::take(&mut tty.seen)
    });
    // Much more comes while it catches up: it would never get there if it were not waited for.
    assert!(is_so_within(Duration::from_secs(5), || output.accepted_within(Duration::from_millis(50))));
    show(&spool, &output, 5 << 20);
    let offset = spool.append(RecordKind::Output, b"END").output_offset;
    output.show(offset, b"END", true);
    let seen = reading.join().expect("everything came");
    assert!(seen.len() > missed + (5 << 20) && !seen.contains(&0x18));
    assert_eq!(redrawn.load(Ordering::SeqCst), 0);
    output.close();
}

#[test]
fn a_terminal_that_missed_too_much_gets_a_redraw_and_goes_on_with_what_comes() {
    let spool = Arc::new(Spool::new(None, WhenFull::Gap));
    let (mut tty, output, redrawn) = stuck(&spool, Duration::from_millis(20));
    show(&spool, &output, usize::try_from(CATCH_UP_BYTES_MAX).expect("a size") * 3);
    while redrawn.load(Ordering::SeqCst) == 0 {
        assert!(tty.read_until(Instant::now() + Duration::from_secs(10)), "no redraw");
    }
    let live = b"and on it goes";
    let offset = spool.append(RecordKind::Output, live).output_offset;
    output.show(offset, live, true);
    let seen = tty.expect(live);
    assert!(seen.contains(&0x18), "a sequence that was cut is cancelled");
    assert!(seen.len() < usize::try_from(CATCH_UP_BYTES_MAX).expect("a size"));
    output.close();
}

/// Shows one piece and returns where it begins.
fn show_one(spool: &Spool, output: &Arc<Output>, piece: &[u8], leads: bool) -> u64 {
    let offset = spool.append(RecordKind::Output, piece).output_offset;
    output.show(offset, piece, leads);
    offset
}

#[test]
fn a_terminal_goes_on_behind_the_screen_that_it_brings_wherever_that_ends() {
    // What waits for it when it begins: all of it is in the screen, a part, none; more than its queue takes.
    for (covered, more) in [(30, 0), (15, 0), (0, 0), (15, 3 * QUEUE_BYTES_MAX), (29, QUEUE_BYTES_MAX)] {
        let temp = tempfile::tempdir().expect("a directory");
        let spool = Arc::new(Spool::new(Some(plan(temp.path(), 1 << 30)), WhenFull::Gap));
        let (mut tty, output, redrawn) = attached(&spool, Duration::from_secs(10));
        for piece in [b"0123456789", b"abcdefghij", b"ABCDEFGHIJ"] {
            show_one(&spool, &output, piece, false);
        }
        for _ in 0..more / 1024 {
            show_one(&spool, &output, &[b'.'; 1024], false);
        }
        assert!(output.resume_at(covered, b"<screen>"));
        show_one(&spool, &output, b"END", false);
        let all = [&b"0123456789abcdefghijABCDEFGHIJ"[..], &vec![b'.'; more], b"END"].concat();
        let wanted = [&b"<screen>"[..], &all[usize::try_from(covered).expect("small")..]].concat();
        while tty.seen.len() < wanted.len() {
            assert!(
                tty.read_until(Instant::now() + Duration::from_secs(10)),
                "{covered}, {more}: {} bytes",
                tty.seen.len()
            );
        }
        assert_eq!(String::from_utf8_lossy(&tty.seen), String::from_utf8_lossy(&wanted), "{covered}, {more}");
        assert_eq!(redrawn.load(Ordering::SeqCst), 0);
        output.close();
    }
}

#[test]
fn a_screen_may_be_newer_than_what_was_shown_to_anybody() {
    let spool = Arc::new(Spool::new(None, WhenFull::Gap));
    let (mut tty, output, _) = attached(&spool, Duration::from_secs(10));
    assert!(output.resume_at(4, b"<screen>"));
    show_one(&spool, &output, b"0123456789", true);
    assert_eq!(tty.expect("6789"), b"<screen>456789");
    output.close();
}

#[test]
fn a_terminal_that_missed_too_much_is_told_and_goes_on_with_the_screen_that_it_brings() {
    let spool = Arc::new(Spool::new(None, WhenFull::Gap));
    let told = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&told);
    let behind: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let (mut tty, output, redrawn) = attached_with(&spool, Duration::from_millis(20), Some(behind));
    output.resume();
    show(&spool, &output, usize::try_from(CATCH_UP_BYTES_MAX).expect("a size") * 3);
    // It is told behind the last byte that it gets: none comes that would end a wait for bytes.
    let is_told = || {
        tty.read_until(Instant::now() + Duration::from_millis(10));
        told.load(Ordering::SeqCst) > 0
    };
    assert!(is_so_within(Duration::from_secs(10), is_told), "it is not told");
    show_one(&spool, &output, b"shown by nobody", true);
    assert!(output.resume_at(spool.end().output_offset - 6, b"<screen>"));
    let seen = tty.expect("nobody");
    assert!(seen.ends_with(b"\x18<screen>nobody"), "{:?}", &seen[seen.len() - 40..]);
    assert_eq!((told.load(Ordering::SeqCst), redrawn.load(Ordering::SeqCst)), (1, 0));
    output.close();
}
