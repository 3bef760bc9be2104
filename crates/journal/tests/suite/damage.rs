//! A journal on a disk that rots: every cut and every flipped bit is found, and what is behind it stays readable.

use std::collections::BTreeSet;

use proptest::prelude::*;

use shellkeep_journal::storage::FaultyStorage;
use shellkeep_journal::{
    Chain, Finding, GapInfo, Grant, Journal, Position, RawRun, Reader, RecordKind, Seq, Start, encode_record,
    scan_read_only,
};

use crate::kit::{
    assert_is_record, create, dir, fill, identity, kind, names, open, payload, read_all, small, storage, sync,
};

const END: u64 = 43;

/// A journal with several segments, a grant in the middle of each of them, and the content of its last one.
fn sample() -> (FaultyStorage, String, Vec<u8>) {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    for end in (5..END).step_by(5).chain([END]) {
        fill(&mut journal, end);
        let grant = Grant { store: [2; 16], writer: [3; 16], epoch: end as u32, attrs: vec![7; 9] };
        journal.append_grant(grant).unwrap();
    }
    let last = names(&disk).pop().unwrap();
    let content = disk.content(&dir().join(&last)).unwrap();
    (disk, last, content)
}

#[test]
fn every_prefix_of_a_log_recovers_to_its_last_whole_record() {
    let (disk, last, content) = sample();
    let mut ends = BTreeSet::new();
    for cut in 0..=content.len() {
        let cut_disk = disk.snapshot();
        cut_disk.set_content(&dir().join(&last), &content[..cut]);
        let (mut journal, recovery) = open(&cut_disk);
        assert!(recovery.first_hole_from(Seq::FIRST).is_none(), "{cut}: {:?}", recovery.findings);
        let next = journal.next_seq().get();
        ends.insert(next);
        assert_eq!(read_all(&cut_disk).seqs, (1..next).collect::<Vec<_>>(), "cut at {cut}");
        fill(&mut journal, END + 3);
        let back = read_all(&cut_disk);
        assert_eq!((back.seqs.len() as u64, back.damage.len()), (END + 2, 0), "cut at {cut}");
        assert!(open(&cut_disk).1.findings.is_empty(), "what was repaired is whole: cut at {cut}");
    }
    let first = *ends.first().unwrap();
    assert_eq!(ends, (first..=END).collect(), "each record is kept as soon as it is whole");
}

/// Flips one bit; everything that is not where the bit is must still be there, and the loss must be named.
fn check_flip(disk: &FaultyStorage, file: &str, content: &[u8], bit: usize, lost_max: usize) {
    let mut content = content.to_vec();
    content[bit / 8] ^= 1 << (bit % 8);
    disk.set_content(&dir().join(file), &content);
    let place = format!("bit {} of byte {} of {file}", bit % 8, bit / 8);
    let back = read_all(disk);
    let all: BTreeSet<u64> = back.seqs.iter().copied().chain(back.lost()).collect();
    let missing: Vec<u64> = (1..END).filter(|seq| !all.contains(seq)).collect();
    // Only the very last record can be missing without a trace for a reader: nothing says that there was one. Recovery does.
    assert!(missing.is_empty() || missing == [END - 1], "{place}: {missing:?} vanished, {:?}", back.damage);
    assert!(back.lost().len() + missing.len() <= lost_max, "{place}: lost {:?}, missing {missing:?}", back.lost());
    let recovery = scan_read_only(disk, &dir()).unwrap();
    let seen = !recovery.findings.is_empty() || !back.damage.is_empty();
    assert!(seen, "{place} went unseen");
}

#[test]
fn every_flipped_bit_of_the_last_segment_costs_at_most_its_record() {
    let (disk, last, content) = sample();
    for bit in 0..content.len() * 8 {
        check_flip(&disk, &last, &content, bit, 1);
    }
}

#[test]
fn every_flipped_bit_of_a_middle_segment_costs_at_most_its_record() {
    let (disk, _, _) = sample();
    let file = names(&disk)[1].clone();
    let content = disk.content(&dir().join(&file)).unwrap();
    for bit in (0..content.len() * 8).step_by(13) {
        check_flip(&disk, &file, &content, bit, 1);
    }
}

#[test]
fn a_flipped_bit_in_a_gap_costs_at_most_what_the_gap_said() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 10);
    let gap = GapInfo { to: Seq::new(19), output_bytes: 500, reason: 1, chain_after: Chain::new(0x1234_5678) };
    journal.append_gap(1009, &gap).unwrap();
    fill(&mut journal, 30);
    let file = names(&disk)[0].clone();
    let content = disk.content(&dir().join(&file)).unwrap();
    let magic = content.windows(4).position(|bytes| bytes == [0x4b, 0xf5, 6, 0]).unwrap();
    for bit in magic * 8..(magic + 64) * 8 {
        let mut content = content.clone();
        content[bit / 8] ^= 1 << (bit % 8);
        disk.set_content(&dir().join(&file), &content);
        let recovery = scan_read_only(&disk, &dir()).unwrap();
        assert_eq!(recovery.end, journal.end(), "bit {} of byte {}", bit % 8, bit / 8 - magic);
        assert_eq!(recovery.first_hole_from(Seq::FIRST), Some(Seq::new(10)));
    }
}

#[test]
fn the_newest_grant_survives_damage_around_it() {
    let (disk, last, content) = sample();
    // The last record is damaged, and the grant behind it is the end of the file.
    let grant_at = content.len() - (48 + 9);
    let mut flipped = content.clone();
    flipped[grant_at - 1] ^= 1;
    disk.set_content(&dir().join(&last), &flipped);
    let (mut journal, recovery) = open(&disk);
    assert_eq!(recovery.identity.unwrap().epoch, END as u32);
    assert_eq!(journal.next_seq(), Seq::new(END - 1), "the damaged record comes again");
    fill(&mut journal, END + 5);
    assert_eq!(open(&disk).0.identity().epoch, END as u32);
    assert_eq!(read_all(&disk).seqs, (1..END + 5).collect::<Vec<_>>());
}

#[test]
fn behind_damage_appending_goes_on_in_a_new_segment() {
    let (disk, last, mut content) = sample();
    let middle = content.len() / 2;
    content[middle] ^= 4;
    disk.set_content(&dir().join(&last), &content);
    let (mut journal, recovery) = open(&disk);
    let [Finding::Damage { file, lost: Some(gone), .. }] = &recovery.findings[..] else { panic!("{recovery:?}") };
    assert_eq!((file, gone.from), (&last, gone.to));
    assert_eq!(recovery.first_hole_from(Seq::FIRST), Some(gone.from));
    fill(&mut journal, END + 10);
    assert_eq!(disk.content(&dir().join(&last)).unwrap(), content, "the damaged file is not touched");
    let back = read_all(&disk);
    assert_eq!(back.lost(), [gone.from.get()]);
    assert_eq!(back.seqs.len() as u64, END + 8);
    assert_eq!(journal.check_at(gone.from).unwrap(), journal.place_before(gone.from.next()).unwrap().map(|p| p.chain));
}

#[test]
fn a_writer_that_still_has_a_lost_record_fills_the_hole() {
    let (disk, last, mut content) = sample();
    let middle = content.len() / 2;
    content[middle] ^= 4;
    disk.set_content(&dir().join(&last), &content);
    let (mut journal, recovery) = open(&disk);
    let hole = recovery.first_hole_from(Seq::FIRST).unwrap();
    assert_eq!(journal.new_segment_from(hole).unwrap().next_seq, hole);
    fill(&mut journal, END);
    let back = read_all(&disk);
    assert_eq!((back.lost(), back.seqs), (vec![], (1..END).collect()));
    assert!(open(&disk).1.first_hole_from(Seq::FIRST).is_none());
}

#[test]
fn bit_rot_in_a_spool_is_a_stated_loss_and_not_a_refused_append() {
    let (disk, last, mut content) = sample();
    let middle = content.len() / 2;
    content[middle] ^= 4;
    disk.set_content(&dir().join(&last), &content);
    let mut log = create(&FaultyStorage::new());
    let mut reader = Reader::open(storage(&disk), &dir(), Start::Oldest).unwrap();
    let (mut bytes, mut lost_total) = (Vec::new(), 0);
    loop {
        bytes.clear();
        match reader.read_raw(64 << 10, &mut bytes).unwrap() {
            RawRun::Records { .. } => drop(log.append_encoded(&bytes).unwrap()),
            RawRun::Lost { lost, after } => {
                assert_eq!(lost.from, log.next_seq());
                let output_bytes = after.output_offset - log.output_offset();
                let gap = GapInfo { to: lost.to, output_bytes, reason: 2, chain_after: after.chain };
                assert_eq!(log.append_gap(0, &gap).unwrap(), after);
                lost_total += 1;
            }
            RawRun::End => break,
        }
    }
    assert_eq!((log.next_seq(), lost_total), (Seq::new(END), 1));
}

#[test]
fn a_missing_segment_is_a_hole_and_a_missing_front_is_pruned() {
    let (disk, _, _) = sample();
    let all = names(&disk);
    let in_third = read_all(&disk).seqs.len();
    shellkeep_journal::storage::Storage::remove(&disk, &dir().join(&all[1])).unwrap();
    let recovery = scan_read_only(&disk, &dir()).unwrap();
    let [Finding::Hole { lost }] = recovery.findings[..] else { panic!("{recovery:?}") };
    let back = read_all(&disk);
    assert_eq!(back.lost(), (lost.from.get()..=lost.to.get()).collect::<Vec<_>>());
    assert_eq!(back.seqs.len() + back.lost().len(), in_third);
    assert_eq!(recovery.end.next_seq, Seq::new(END));
    shellkeep_journal::storage::Storage::remove(&disk, &dir().join(&all[0])).unwrap();
    let recovery = scan_read_only(&disk, &dir()).unwrap();
    assert_eq!((recovery.findings.len(), recovery.first.next_seq), (0, lost.to.next()));
}

#[test]
fn zeroed_sectors_cost_only_the_records_that_they_touch() {
    let (disk, last, content) = sample();
    for at in (512..content.len()).step_by(64) {
        let mut zeroed = content.clone();
        let end = (at + 512).min(content.len());
        zeroed[at..end].fill(0);
        disk.set_content(&dir().join(&last), &zeroed);
        let back = read_all(&disk);
        let recovery = scan_read_only(&disk, &dir()).unwrap();
        let missing = END - 1 - back.seqs.len() as u64;
        assert!(missing <= 15, "{missing} records of at least 40 bytes are more than 512 bytes touch");
        assert!(!recovery.findings.is_empty());
        if recovery.end.next_seq == Seq::new(END) {
            assert_eq!(back.lost().len() as u64, missing, "zeros at {at}");
        }
    }
}

/// Records of a session that never was, as hostile output may contain them.
fn forged(from: u64, count: u64, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = Position { next_seq: Seq::new(from), chain: Chain::START, output_offset: offset };
    for _ in 0..count {
        at = encode_record(&mut bytes, at, RecordKind::Output, 1, b"forged").unwrap();
    }
    bytes
}

/// A journal whose 4th record's payload is `hostile`; returns the place of that record in the file.
fn with_hostile(hostile: &[u8], end: u64) -> (FaultyStorage, String, Vec<u8>, usize) {
    let disk = FaultyStorage::new();
    let options = shellkeep_journal::Options { segment_bytes_max: 8 << 20, ..small() };
    let mut journal =
        Journal::create(storage(&disk), std::path::Path::new(""), crate::kit::NAME, identity(), options).unwrap();
    fill(&mut journal, 4);
    let at = journal.active_bytes() as usize;
    journal.append(RecordKind::Output, 1003, hostile).unwrap();
    fill(&mut journal, end);
    let name = names(&disk)[0].clone();
    let content = disk.content(&dir().join(&name)).unwrap();
    (disk, name, content, at)
}

fn seqs(disk: &FaultyStorage) -> Vec<u64> {
    let mut reader = Reader::open(storage(disk), &dir(), Start::Oldest).unwrap();
    let mut seqs = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        if let shellkeep_journal::Item::Record(record) = item {
            if record.header.seq.get() != 4 {
                assert_is_record(&record);
            }
            seqs.push(record.header.seq.get());
        }
    }
    seqs
}

#[test]
fn look_alikes_inside_a_record_are_never_taken_for_records() {
    let mut hostile = b"some text".to_vec();
    for from in [4, 5, 100] {
        hostile.extend(forged(from, 3, 300));
        hostile.extend(forged(from, 1, 1 << 40));
    }
    let (disk, name, content, at) = with_hostile(&hostile, 12);
    for bit in at * 8..(at + 40 + hostile.len()) * 8 {
        let mut flipped = content.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        disk.set_content(&dir().join(&name), &flipped);
        assert_eq!(seqs(&disk), [1, 2, 3, 5, 6, 7, 8, 9, 10, 11], "bit {} of byte {}", bit % 8, bit / 8 - at);
    }
    // The whole header is gone, and some of the payload.
    for len in [40, 45, 60] {
        let mut zeroed = content.clone();
        zeroed[at..at + len].fill(0);
        disk.set_content(&dir().join(&name), &zeroed);
        assert_eq!(seqs(&disk), [1, 2, 3, 5, 6, 7, 8, 9, 10, 11], "{len} zeros");
    }
}

#[test]
fn look_alikes_in_a_torn_record_are_never_taken_for_records() {
    let hostile = [forged(5, 15, 1_000), forged(4, 15, 1_000)].concat();
    let (disk, name, content, at) = with_hostile(&hostile, 5);
    for cut in at..content.len() {
        disk.set_content(&dir().join(&name), &content[..cut]);
        assert_eq!(seqs(&disk), [1, 2, 3], "cut at byte {} of the record", cut - at);
        assert_eq!(scan_read_only(&disk, &dir()).unwrap().end.next_seq, Seq::new(4));
    }
}

#[test]
fn look_alikes_in_the_first_record_are_never_taken_for_records() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    let at = journal.active_bytes() as usize;
    let hostile = [b"x".to_vec(), forged(1, 3, 0), forged(2, 3, 0)].concat();
    journal.append(RecordKind::Output, 1, &hostile).unwrap();
    for n in 2..6 {
        journal.append(kind(n), 1000 + n, &payload(n)).unwrap();
    }
    let name = names(&disk)[0].clone();
    let content = disk.content(&dir().join(&name)).unwrap();
    for bit in at * 8..(at + 40 + hostile.len()) * 8 {
        let mut flipped = content.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        disk.set_content(&dir().join(&name), &flipped);
        assert_eq!(seqs(&disk), [2, 3, 4, 5], "bit {} of byte {}", bit % 8, bit / 8 - at);
    }
}

/// A damaged grant is proved by the record behind it, even when another damage is full of look-alikes that reach the end.
#[test]
fn behind_a_damaged_grant_nothing_is_lost() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 4);
    let at = journal.active_bytes() as usize;
    journal.append_grant(Grant { store: [2; 16], writer: [3; 16], epoch: 2, attrs: Vec::new() }).unwrap();
    fill(&mut journal, 6);
    let last = journal.active_bytes() as usize;
    journal.append(RecordKind::Output, 2_000, &forged(100, 10, 1_000)).unwrap();
    let name = names(&disk)[0].clone();
    let mut content = disk.content(&dir().join(&name)).unwrap();
    content[at + 20] ^= 1;
    content[last..last + 40].fill(0);
    disk.set_content(&dir().join(&name), &content);
    let mut reader = Reader::open(storage(&disk), &dir(), Start::Oldest).unwrap();
    let mut seqs = Vec::new();
    while seqs.len() < 5 {
        if let shellkeep_journal::Item::Record(record) = reader.next().unwrap().unwrap() {
            seqs.push(record.header.seq.get());
        }
    }
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
}

#[test]
fn a_grant_behind_a_damaged_record_counts() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 4);
    let at = journal.active_bytes() as usize;
    fill(&mut journal, 5);
    let end = journal.active_bytes() as usize;
    journal.append_grant(Grant { store: [2; 16], writer: [3; 16], epoch: 2, attrs: vec![1; 20] }).unwrap();
    fill(&mut journal, 9);
    let name = names(&disk)[0].clone();
    let content = disk.content(&dir().join(&name)).unwrap();
    let length = (at + 4) * 8..(at + 8) * 8; // where the record ends is not known then, nor that it was no part of it
    for bit in (at * 8..end * 8).filter(|bit| !length.contains(bit)) {
        let mut flipped = content.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        disk.set_content(&dir().join(&name), &flipped);
        let recovery = scan_read_only(&disk, &dir()).unwrap();
        assert_eq!(recovery.identity.unwrap().epoch, 2, "bit {} of byte {}", bit % 8, bit / 8 - at);
        assert_eq!(recovery.end, journal.end());
    }
}

#[test]
fn a_sound_record_that_does_not_follow_is_reported() {
    let (one, other) = (FaultyStorage::new(), FaultyStorage::new());
    let mut journals = [create(&one), create(&other)];
    journals[1].append(RecordKind::Output, 1, b"other").unwrap();
    fill(&mut journals[0], 3);
    fill(&mut journals[1], 3);
    let ends = journals.each_ref().map(|journal| journal.active_bytes() as usize);
    fill(&mut journals[1], 5);
    let path = dir().join(&names(&one)[0]);
    let spliced = [&one.content(&path).unwrap()[..], &other.content(&path).unwrap()[ends[1]..]].concat();
    one.set_content(&path, &spliced);
    let recovery = scan_read_only(&one, &dir()).unwrap();
    assert!(matches!(recovery.findings[..], [Finding::Damage { .. }]), "{recovery:?}");
    let (mut bytes, mut reader) = (Vec::new(), Reader::open(storage(&one), &dir(), Start::Oldest).unwrap());
    reader.read_raw(1 << 20, &mut bytes).unwrap();
    assert_eq!(bytes.len(), ends[0] - 113, "what does not follow is not in one run with what is before");
}

/// Megabytes of look-alikes, each of which claims a large payload that begins inside the others.
#[test]
fn hostile_bytes_cost_no_more_time_than_others() {
    let mut payloads = Vec::new();
    for _ in 0..3 {
        let mut hostile = vec![0; 1 << 20];
        for at in (0..hostile.len() - 40).step_by(40).rev() {
            let len = (hostile.len() - at - 40).min(900_000);
            let mut head = Vec::new();
            let place = Position { next_seq: Seq::new(9), chain: Chain::new(at as u32), output_offset: 0 };
            encode_record(&mut head, place, RecordKind::Mark, 0, b"").unwrap();
            head[4..8].copy_from_slice(&(len as u32).to_le_bytes());
            hostile[at..at + 40].copy_from_slice(&head);
        }
        payloads.push(hostile);
    }
    let disk = FaultyStorage::new();
    let options = shellkeep_journal::Options { segment_bytes_max: 8 << 20, ..small() };
    let mut journal =
        Journal::create(storage(&disk), std::path::Path::new(""), crate::kit::NAME, identity(), options).unwrap();
    for hostile in &payloads {
        journal.append(RecordKind::Output, 1, hostile).unwrap();
    }
    sync(&mut journal);
    let name = names(&disk)[0].clone();
    let mut content = disk.content(&dir().join(&name)).unwrap();
    let header = content.len() - 3 * (40 + (1 << 20));
    content[header..header + 40].fill(0);
    disk.set_content(&dir().join(&name), &content);
    // Checked naively this would hash 78,000 times 900,000 bytes: minutes.
    let begin = std::time::Instant::now();
    let recovery = scan_read_only(&disk, &dir()).unwrap();
    assert_eq!(recovery.end, journal.end());
    assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{:?}", begin.elapsed());
}

/// One thing that can happen to the bytes of a file.
#[derive(Debug, Clone)]
enum Harm {
    Overwrite(Vec<u8>),
    Zero(u16),
    Cut,
    Insert(Vec<u8>),
    Repeat(u16),
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..20).prop_map(Harm::Overwrite),
        (1u16..700).prop_map(Harm::Zero),
        Just(Harm::Cut),
        prop::collection::vec(any::<u8>(), 1..60).prop_map(Harm::Insert),
        (1u16..900).prop_map(Harm::Repeat),
    ]
}

fn apply(harm: &Harm, at: usize, content: &mut Vec<u8>) {
    let end = |len: usize| (at + len).min(content.len());
    match harm {
        Harm::Overwrite(bytes) => {
            let end = end(bytes.len());
            content[at..end].copy_from_slice(&bytes[..end - at]);
        }
        Harm::Zero(len) => {
            let end = end(usize::from(*len));
            content[at..end].fill(0);
        }
        Harm::Cut => content.truncate(at),
        Harm::Insert(bytes) => drop(content.splice(at..at, bytes.iter().copied())),
        Harm::Repeat(len) => {
            let end = end(usize::from(*len));
            let part = content[at..end].to_vec();
            drop(content.splice(at..at, part));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to the files: what is read was written, in order; a writer goes on; nothing panics or hangs.
    #[test]
    fn whatever_happens_to_the_files_what_is_read_was_written(
        harms in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), harm()), 1..6),
        sealed in any::<bool>(),
    ) {
        let (disk, _, _) = sample();
        if sealed {
            let (mut journal, _) = open(&disk);
            sync(&mut journal);
            journal.seal_oldest_full(Seq::new(END - 1)).unwrap();
        }
        for (file, at, harm) in &harms {
            let path = dir().join(file.get(&names(&disk)));
            let mut content = disk.content(&path).unwrap();
            apply(harm, at.index(content.len() + 1), &mut content);
            disk.set_content(&path, &content);
        }
        let back = read_all_or_nothing(&disk);
        let Ok((mut journal, recovery)) = Journal::open(storage(&disk), &dir(), small()) else { return Ok(()) };
        prop_assert!(back.last().is_none_or(|last| *last < recovery.end.next_seq.get()));
        let end = journal.next_seq().get();
        fill(&mut journal, end + 20);
        let after = read_all_or_nothing(&disk);
        prop_assert!(after.ends_with(&(end..end + 20).collect::<Vec<_>>()), "{after:?}");
        prop_assert!(back.iter().all(|seq| after.contains(seq)), "{back:?} {after:?}");
    }
}

/// What a reader gives, if there is a segment to read; each record is checked.
fn read_all_or_nothing(disk: &FaultyStorage) -> Vec<u64> {
    match Reader::open(storage(disk), &dir(), Start::Oldest) {
        Ok(_) => read_all(disk).seqs,
        Err(_) => Vec::new(),
    }
}
