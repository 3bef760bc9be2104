//! A journal in good weather: what is appended is read back, sealed and dropped, by whatever path.

use crate::kit::{create, dir, fill, identity, names, open, payload, read, read_all, storage, sync};
use proptest::prelude::*;
use shellkeep_journal::storage::FaultyStorage;
use shellkeep_journal::{
    Chain, GapInfo, Grant, Identity, JournalError, NewRecord, Position, RawRun, Reader, RecordError, RecordKind, Seq,
    Start, TailFate, remove_journal, scan_read_only,
};

#[test]
fn everything_that_was_appended_is_read_back_from_every_place() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 120);
    assert!(names(&disk).len() > 3, "several segments");
    for start in 1..125 {
        let back = read(storage(&disk), Start::Seq(Seq::new(start)));
        assert_eq!(back.seqs, (start..120).collect::<Vec<_>>());
        assert!(back.damage.is_empty() && back.pruned.is_empty());
    }
    assert_eq!(read_all(&disk).end, Some(journal.end()));
}

#[test]
fn a_byte_of_output_is_found_by_its_offset() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 100);
    sync(&mut journal);
    for sealed in [false, true] {
        for offset in (0..journal.output_offset()).step_by(97) {
            let mut reader = Reader::open(storage(&disk), &dir(), Start::OutputOffset(offset)).unwrap();
            let Some(shellkeep_journal::Item::Record(record)) = reader.next().unwrap() else { panic!("no record") };
            let holds = record.header.offset..record.after.output_offset;
            assert!(holds.contains(&offset), "{offset} is not in {holds:?}, sealed: {sealed}");
        }
        let durable = journal.durable();
        while journal.seal_oldest_full(durable).unwrap().is_some() {}
    }
}

#[test]
fn an_opened_journal_goes_on_where_it_ended() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 50);
    let (end, bytes) = (journal.end(), journal.bytes_on_disk());
    drop(journal);
    let (mut journal, recovery) = open(&disk);
    assert_eq!((recovery.findings.len(), recovery.end, recovery.first), (0, end, Position::START));
    assert_eq!((journal.end(), journal.bytes_on_disk(), recovery.bytes_on_disk), (end, bytes, bytes));
    assert_eq!(journal.durable(), Seq::NONE, "what was scanned is not durable");
    assert_eq!(sync(&mut journal), Seq::new(49));
    fill(&mut journal, 100);
    assert_eq!(read_all(&disk).seqs, (1..100).collect::<Vec<_>>());
}

#[test]
fn encoded_records_are_taken_as_they_are_or_not_at_all() {
    let (spool, log) = (FaultyStorage::new(), FaultyStorage::new());
    let mut source = create(&spool);
    fill(&mut source, 80);
    let mut target = create(&log);
    let mut reader = Reader::open(storage(&spool), &dir(), Start::Oldest).unwrap();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match reader.read_raw(1500, &mut bytes).unwrap() {
            RawRun::Records { before, after } => {
                assert!(bytes.len() <= 1500);
                assert_eq!(before, target.end());
                let mut wrong = bytes.clone();
                *wrong.last_mut().unwrap() ^= 1;
                let refused = target.append_encoded(&wrong);
                assert!(matches!(refused, Err(JournalError::Record(RecordError::WrongCheck { .. }))), "{refused:?}");
                assert_eq!(target.end(), before);
                assert_eq!(target.append_encoded(&bytes).unwrap().end, after);
                let twice = target.append_encoded(&bytes);
                assert!(matches!(twice, Err(JournalError::Record(RecordError::NotNext { .. }))), "{twice:?}");
            }
            RawRun::Lost { lost, .. } => panic!("lost {lost:?}"),
            RawRun::End => break,
        }
    }
    assert_eq!(target.end(), source.end());
    assert_eq!(read_all(&log).seqs, (1..80).collect::<Vec<_>>());
}

#[test]
fn the_check_of_every_record_is_found_again() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    let mut chains = vec![Chain::START];
    for n in 1..150 {
        chains.push(journal.append(RecordKind::Output, n, &payload(n)).unwrap().1);
    }
    sync(&mut journal);
    let (reopened, _) = open(&disk.snapshot());
    journal.seal_oldest_full(journal.durable()).unwrap().unwrap();
    for n in 0..150_u64 {
        let want = Some(chains[n as usize]);
        assert_eq!(journal.check_at(Seq::new(n)).unwrap(), want, "{n}");
        assert_eq!(reopened.check_at(Seq::new(n)).unwrap(), want, "{n}");
    }
    assert_eq!(journal.check_at(Seq::new(150)).unwrap(), None);
}

#[test]
fn a_gap_takes_all_numbers_that_it_stands_for() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 4);
    let output = journal.output_offset();
    let gap = GapInfo { to: Seq::new(9), output_bytes: 1000, reason: 3, chain_after: Chain::new(77) };
    let after = journal.append_gap(5_000, &gap).unwrap();
    assert_eq!(after, Position { next_seq: Seq::new(10), chain: Chain::new(77), output_offset: output + 1000 });
    assert_eq!(journal.check_at(Seq::new(9)).unwrap(), Some(Chain::new(77)));
    assert_eq!(journal.check_at(Seq::new(6)).unwrap(), None, "inside");
    journal.append(RecordKind::Output, 6_000, b"behind").unwrap();
    let (reopened, recovery) = open(&disk);
    assert_eq!((reopened.end(), recovery.findings.len()), (journal.end(), 0));
    let mut reader = Reader::open(storage(&disk), &dir(), Start::Seq(Seq::new(7))).unwrap();
    let Some(shellkeep_journal::Item::Record(record)) = reader.next().unwrap() else { panic!("no record") };
    assert_eq!(record.gap(), Some(gap));
}

#[test]
fn the_newest_grant_counts_over_rotation_sealing_and_reopening() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 30);
    let grant = Grant { store: [2; 16], writer: [9; 16], epoch: 7, attrs: b"new attrs".to_vec() };
    journal.append_grant(grant).unwrap();
    let want = Identity { writer: [9; 16], epoch: 7, attrs: b"new attrs".to_vec(), ..identity() };
    assert_eq!(journal.identity(), &want);
    assert_eq!(open(&disk.snapshot()).1.identity.as_ref(), Some(&want), "in the same segment");
    fill(&mut journal, 200);
    sync(&mut journal);
    while journal.seal_oldest_full(Seq::new(199)).unwrap().is_some() {}
    assert_eq!(open(&disk.snapshot()).1.identity.as_ref(), Some(&want), "in a header");
    assert_eq!(read_all(&disk).seqs, (1..200).collect::<Vec<_>>());
}

#[test]
fn several_records_cost_one_write() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    let before = disk.calls();
    let records = (1..10).map(|_| NewRecord { kind: RecordKind::Output, time_us: 5, payload: b"chunk" });
    let appended = journal.append_all(records).unwrap();
    assert_eq!((appended.first_seq, appended.end.next_seq), (Seq::FIRST, Seq::new(10)));
    assert_eq!(disk.calls() - before, 2, "a look whether the file is still there, and the write");
}

#[test]
fn time_never_goes_back_whatever_the_clock_does() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    for time in [100, 50, 0, 101] {
        journal.append(RecordKind::Mark, time, b"").unwrap();
    }
    journal.rotate().unwrap();
    let (mut journal, _) = open(&disk);
    assert_eq!(journal.last_time_us(), 101);
    journal.append(RecordKind::Mark, 3, b"").unwrap();
    assert_eq!(journal.last_time_us(), 101);
}

#[test]
fn sealed_segments_are_smaller_and_read_the_same() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 150);
    assert_eq!(journal.seal_oldest_full(Seq::new(149)).unwrap(), None, "nothing is durable yet");
    sync(&mut journal);
    let bytes = journal.bytes_on_disk();
    let mut count = 0;
    while journal.seal_oldest_full(journal.durable()).unwrap().is_some() {
        count += 1;
    }
    assert!(count > 3 && journal.bytes_on_disk() < bytes);
    assert_eq!(names(&disk).iter().filter(|name| name.contains(".seg")).count(), 1, "only the active one is left");
    assert_eq!(read_all(&disk).seqs, (1..150).collect::<Vec<_>>());
    for start in 1..150 {
        assert_eq!(read(storage(&disk), Start::Seq(Seq::new(start))).seqs, (start..150).collect::<Vec<_>>());
    }
    fill(&mut journal, 160);
    let (reopened, recovery) = open(&disk);
    assert_eq!((reopened.end(), recovery.findings), (journal.end(), vec![]));
}

#[test]
fn what_is_dropped_in_front_is_pruned_and_no_damage() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 100);
    sync(&mut journal);
    let bytes = journal.bytes_on_disk();
    let freed = journal.drop_front(Seq::new(60)).unwrap();
    let first = journal.first_retained();
    assert!(freed > 0 && journal.bytes_on_disk() == bytes - freed);
    assert!(first > Seq::new(30) && first <= Seq::new(61), "whole segments only: {first}");
    let back = read(storage(&disk), Start::Seq(Seq::FIRST));
    assert_eq!((back.pruned, back.damage.len()), (vec![(1, first.get() - 1)], 0));
    assert_eq!(back.seqs, (first.get()..100).collect::<Vec<_>>());
    let (reopened, recovery) = open(&disk);
    assert_eq!((reopened.first(), recovery.first, recovery.findings.len()), (journal.first(), journal.first(), 0));
    assert_eq!(journal.drop_front(Seq::new(1 << 40)).map(|_| ()).map_err(|_| ()), Ok(()));
    assert!(journal.first_retained() <= journal.next_seq(), "the last segment stays");
    fill(&mut journal, 110);
    assert_eq!(read_all(&disk).seqs.last(), Some(&109));
}

#[test]
fn a_removed_journal_leaves_nothing_and_its_name_is_free() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 50);
    journal.remove().unwrap();
    assert_eq!(disk.used(), 0);
    assert!(matches!(scan_read_only(&disk, &dir()), Err(JournalError::NotFound { .. })));
    remove_journal(&disk, std::path::Path::new(""), crate::kit::NAME).unwrap(); // again is no error
    fill(&mut create(&disk), 10);
}

#[test]
fn a_name_is_given_once() {
    let disk = FaultyStorage::new();
    fill(&mut create(&disk), 10);
    let again = shellkeep_journal::Journal::create(
        storage(&disk),
        std::path::Path::new(""),
        crate::kit::NAME,
        identity(),
        crate::kit::small(),
    );
    assert!(matches!(again, Err(JournalError::Exists { .. })), "{again:?}");
    assert_eq!(read_all(&disk).seqs.len(), 9);
}

#[test]
fn a_torn_tail_is_set_aside_and_only_so_many_are_kept() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    for _ in 0..8 {
        let next = journal.next_seq().get();
        journal.rotate().unwrap();
        fill(&mut journal, next + 3);
        let name = names(&disk).into_iter().rfind(|name| name.contains(".seg")).unwrap();
        let mut content = disk.content(&dir().join(&name)).unwrap();
        content.extend_from_slice(b"half a record");
        disk.set_content(&dir().join(&name), &content);
        let (reopened, recovery) = open(&disk);
        let [shellkeep_journal::Finding::TornTail { file, bytes, fate }] = &recovery.findings[..] else {
            panic!("{:?}", recovery.findings)
        };
        assert_eq!((file, bytes.end - bytes.start, *fate), (&name, 13, TailFate::SetAside));
        assert_eq!(disk.content(&dir().join(name.replace(".seg", ".torn"))).unwrap(), b"half a record");
        journal = reopened;
    }
    assert_eq!(names(&disk).iter().filter(|name| name.contains(".torn")).count(), shellkeep_journal::TORN_FILES_MAX);
    assert_eq!(read_all(&disk).seqs, (1..journal.next_seq().get()).collect::<Vec<_>>());
}

#[test]
fn a_sealed_segment_can_be_voided_too() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 40);
    sync(&mut journal);
    journal.seal_oldest_full(Seq::new(39)).unwrap().unwrap();
    journal.new_segment_from(Seq::new(2)).unwrap();
    let (mut journal, recovery) = open(&disk);
    assert_eq!((recovery.findings.len(), recovery.end.next_seq, recovery.last_time_us), (0, Seq::new(2), 1001));
    fill(&mut journal, 50);
    assert_eq!(read_all(&disk).seqs, (1..50).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done in whatever order, what is read is what was appended and not dropped.
    #[test]
    fn any_order_of_work_keeps_every_record(steps in prop::collection::vec((0u8..8, 1u64..40), 1..30)) {
        let disk = FaultyStorage::new();
        let mut journal = create(&disk);
        let mut first = 1;
        for (step, n) in steps {
            match step {
                0 => journal.rotate().unwrap(),
                1 => drop(sync(&mut journal)),
                2 => drop(journal.seal_oldest_full(journal.durable()).unwrap()),
                3 => { journal.drop_front(Seq::new(n * 3)).unwrap(); }
                4 => journal = open(&disk).0,
                5 => {
                    let from = Seq::new(n.min(journal.next_seq().get()).max(journal.first_retained().get()));
                    journal.new_segment_from(from).unwrap();
                }
                _ => { let end = journal.next_seq().get() + n; fill(&mut journal, end); }
            }
            first = first.max(journal.first_retained().get());
            let (back, end) = (read_all(&disk), journal.next_seq().get());
            prop_assert!(back.damage.is_empty(), "{:?}", back.damage);
            prop_assert_eq!(back.seqs, (journal.first_retained().get()..end).collect::<Vec<_>>());
        }
    }
}
