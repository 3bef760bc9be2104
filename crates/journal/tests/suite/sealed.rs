//! Sealed segments: their bytes are fixed, and one damaged block loses only itself.

use std::collections::BTreeSet;

use shellkeep_journal::storage::{FaultyStorage, Storage};
use shellkeep_journal::{
    Grant, Identity, Journal, Options, Position, Reader, RecordKind, SealProgress, Seq, Start, scan_read_only,
};

use crate::kit::{create, dir, fill, identity, names, open, read_all, small, storage, sync};
use crate::record::hex;

#[test]
fn the_bytes_of_a_header_and_a_grant_never_change() {
    let disk = FaultyStorage::new();
    let identity = Identity { epoch: 0x0102_0304, attrs: b"attr".to_vec(), ..identity() };
    let mut journal =
        Journal::create(storage(&disk), std::path::Path::new(""), crate::kit::NAME, identity, small()).unwrap();
    let grant = Grant { store: [5; 16], writer: [6; 16], epoch: 0x0506_0708, attrs: b"new".to_vec() };
    journal.append_grant(grant).unwrap();
    let want = [
        "89534b4a5345470a",
        "0100",
        "0000",
        "70000000",
        "01000000",
        "04030201",
        "01010101010101010101010101010101",
        "02020202020202020202020202020202",
        "03030303030303030303030303030303",
        "0100000000000000",
        "0000000000000000",
        "0000000000000000",
        "00000000",
        "04000000",
        "61747472",
        "fb1e5139",
        "4bc7",
        "0000",
        "03000000",
        "08070605",
        "68c17fb5",
        "05050505050505050505050505050505",
        "06060606060606060606060606060606",
        "6e6577",
    ];
    assert_eq!(hex(&disk.content(&dir().join("00000001.seg")).unwrap()), want.concat());
}

#[test]
fn the_bytes_of_a_sealed_segment_never_change() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    journal.append(RecordKind::Output, 0x0102_0304_0506_0708, b"hello").unwrap();
    journal.append(RecordKind::Mark, 0x0102_0304_0506_0709, b"").unwrap();
    journal.rotate().unwrap();
    sync(&mut journal);
    journal.seal_oldest_full(Seq::new(2)).unwrap().unwrap();
    let bytes = disk.content(&dir().join("00000001.zseg")).unwrap();
    let header = 108 + 5;
    assert_eq!(hex(&bytes[8..12]), "01000100", "version 1, sealed");
    let block = &bytes[header..];
    let head = [
        "4b5a424b",
        "02000000",
        "21000000",
        "PACKEDLEN",
        "0100000000000000",
        "0300000000000000",
        "0000000000000000",
        "0500000000000000",
        "0807060504030201",
        "00000000",
    ];
    assert_eq!(hex(&block[..60]).replacen(&hex(&block[12..16]), "PACKEDLEN", 1), head.concat());
    let packed_len = u32::from_le_bytes(block[12..16].try_into().unwrap()) as usize;
    let packed = &block[72..72 + packed_len];
    let content = zstd::bulk::decompress(packed, 100).unwrap();
    let want = ["0104", "0000", "0500000000000000", "0000000000000000", "0100000000000000", "68656c6c6f"];
    assert_eq!(hex(&content), want.concat());
    assert_eq!(hex(&block[60..64]), hex(&journal.chain().get().to_le_bytes()));
    assert_eq!(hex(&block[64..68]), hex(&crc32c::crc32c(packed).to_le_bytes()));
    assert_eq!(hex(&block[68..72]), hex(&crc32c::crc32c(&block[..68]).to_le_bytes()));
    let index = &block[72 + packed_len..];
    let at = hex(&(header as u64).to_le_bytes());
    assert_eq!(hex(&index[..24]), [&at, "0100000000000000", "0000000000000000"].concat());
    let trailer = &index[24..];
    let index_at = hex(&((header + 72 + packed_len) as u64).to_le_bytes());
    let chain = hex(&journal.chain().get().to_le_bytes());
    let index_check = hex(&crc32c::crc32c(&index[..24]).to_le_bytes());
    let check = hex(&crc32c::crc32c(&trailer[..52]).to_le_bytes());
    let want = [
        &*index_at,
        "0300000000000000",
        "0500000000000000",
        "0907060504030201",
        "5500000000000000",
        &*chain,
        "01000000",
        &*index_check,
        &*check,
        "89534b4a454e440a",
    ];
    assert_eq!(hex(trailer), want.concat());
}

/// A journal of several blocks in its first, sealed segment.
fn blocks() -> (FaultyStorage, u64) {
    let disk = FaultyStorage::new();
    let options = Options { segment_bytes_max: 8 << 20, ..small() };
    let mut journal =
        Journal::create(storage(&disk), std::path::Path::new(""), crate::kit::NAME, identity(), options).unwrap();
    let mut noise = fastrand::Rng::with_seed(7);
    for n in 0..40 {
        let mut payload = vec![0; 60_000];
        noise.fill(&mut payload[..200]);
        journal.append(RecordKind::Output, n, &payload).unwrap();
    }
    journal.rotate().unwrap();
    journal.append(RecordKind::Output, 100, b"behind").unwrap();
    sync(&mut journal);
    journal.seal_oldest_full(Seq::new(40)).unwrap().unwrap();
    (disk, journal.next_seq().get())
}

fn seqs(disk: &FaultyStorage) -> (Vec<u64>, Vec<u64>) {
    let mut reader = Reader::open(storage(disk), &dir(), Start::Oldest).unwrap();
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    while let Some(item) = reader.next().unwrap() {
        match item {
            shellkeep_journal::Item::Record(record) => found.push(record.header.seq.get()),
            shellkeep_journal::Item::Damage(damage) => {
                lost.extend(damage.lost.iter().flat_map(|lost| lost.from.get()..=lost.to.get()));
            }
            shellkeep_journal::Item::Pruned { .. } => panic!("nothing was pruned"),
        }
    }
    (found, lost)
}

#[test]
fn a_damaged_block_loses_only_itself() {
    let (disk, end) = blocks();
    let path = dir().join("00000001.zseg");
    let content = disk.content(&path).unwrap();
    let mut losses = BTreeSet::new();
    for at in (0..content.len()).step_by(11) {
        let mut flipped = content.clone();
        flipped[at] ^= 1 << (at % 8);
        disk.set_content(&path, &flipped);
        let (found, lost) = seqs(&disk);
        let all: BTreeSet<u64> = found.iter().chain(&lost).copied().collect();
        assert_eq!(all, (1..end).collect(), "byte {at}");
        assert!(lost.len() <= 8, "byte {at}: a block has 8 records, lost are {lost:?}");
        losses.insert(lost);
        let recovery = scan_read_only(&disk, &dir()).unwrap();
        assert_eq!(recovery.end.next_seq.get(), end, "byte {at}");
    }
    assert_eq!(losses.len(), 6, "each block once, and damage that loses nothing");
}

#[test]
fn every_flipped_bit_of_a_small_sealed_segment_is_found_or_harmless() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 6);
    journal.rotate().unwrap();
    fill(&mut journal, 9);
    sync(&mut journal);
    journal.seal_oldest_full(Seq::new(8)).unwrap().unwrap();
    let path = dir().join("00000001.zseg");
    let content = disk.content(&path).unwrap();
    for bit in 0..content.len() * 8 {
        let mut flipped = content.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        disk.set_content(&path, &flipped);
        let back = read_all(&disk);
        let found = !scan_read_only(&disk, &dir()).unwrap().findings.is_empty();
        let place = format!("bit {} of byte {}", bit % 8, bit / 8);
        assert!(found || !back.damage.is_empty(), "{place} went unseen");
        let mut all = [back.lost(), back.seqs].concat();
        all.sort_unstable();
        // A header that is gone takes the beginning with it only if its block is gone too.
        assert_eq!(all, (1..9).collect::<Vec<_>>(), "{place}");
    }
}

#[test]
fn of_both_kinds_the_whole_one_counts() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 60);
    sync(&mut journal);
    let plain = disk.content(&dir().join("00000001.seg")).unwrap();
    journal.seal_oldest_full(Seq::new(59)).unwrap().unwrap();
    let sealed = disk.content(&dir().join("00000001.zseg")).unwrap();
    for cut in (0..=sealed.len()).step_by(7) {
        disk.set_content(&dir().join("00000001.seg"), &plain);
        disk.set_content(&dir().join("00000001.zseg"), &sealed[..cut]);
        assert_eq!(read_all(&disk).seqs, (1..60).collect::<Vec<_>>(), "cut at {cut}");
        let (_, recovery) = open(&disk);
        assert_eq!(recovery.findings, vec![], "cut at {cut}");
        assert_eq!(names(&disk).iter().filter(|name| name.starts_with("00000001")).count(), 1);
        assert_eq!(read_all(&disk).seqs, (1..60).collect::<Vec<_>>(), "cut at {cut}");
        for name in ["00000001.seg", "00000001.zseg"] {
            let _ = disk.remove(&dir().join(name)); // one of them is there
        }
    }
}

#[test]
fn reading_one_record_unpacks_one_block() {
    let (disk, _) = blocks();
    let calls = |from: u64, count: u64| {
        let before = disk.calls();
        let mut reader = Reader::open(storage(&disk), &dir(), Start::Seq(Seq::new(from))).unwrap();
        for seq in from..from + count {
            let item = reader.next().unwrap();
            assert!(matches!(item, Some(shellkeep_journal::Item::Record(record)) if record.header.seq.get() == seq));
        }
        disk.calls() - before
    };
    assert_eq!(calls(35, 1), calls(1, 1), "far behind costs no more than in front");
    assert_eq!(calls(1, 40), calls(1, 1) + 4, "five blocks of eight records");
}

#[test]
fn a_void_tail_is_not_sealed() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 12);
    journal.new_segment_from(Seq::new(8)).unwrap();
    fill(&mut journal, 30);
    sync(&mut journal);
    let end: Position = journal.end();
    while journal.seal_oldest_full(Seq::new(29)).unwrap().is_some() {}
    let alone = FaultyStorage::new();
    alone.create_dir(&dir()).unwrap();
    let sealed = dir().join("00000001.zseg");
    alone.set_content(&sealed, &disk.content(&sealed).unwrap());
    assert_eq!(read_all(&alone).seqs, (1..8).collect::<Vec<_>>());
    let back = read_all(&disk);
    assert_eq!((back.damage.len(), back.end), (0, Some(end)));
    assert_eq!(back.seqs, (1..30).collect::<Vec<_>>());
}

/// The steps that take their time are done elsewhere, and the journal goes on meanwhile.
#[test]
fn what_is_written_between_the_steps_of_sealing_is_kept() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 12);
    journal.rotate().unwrap();
    sync(&mut journal);
    let mut ticket = journal.seal_ticket(journal.durable()).unwrap();
    let mut to = 12;
    let sealed = loop {
        let step = ticket.run();
        to += 10;
        fill(&mut journal, to);
        match journal.seal_step(step).unwrap() {
            SealProgress::Goes(next) => ticket = next,
            SealProgress::Sealed(sealed) => break sealed,
            SealProgress::Nothing => panic!("it is there"),
        }
    };
    assert!(sealed.sealed_bytes > 0 && disk.content(&dir().join("00000001.seg")).is_none());
    assert_eq!(read_all(&disk).seqs, (1..to).collect::<Vec<_>>());
}

/// At each step: nothing of it comes back, nor is anything left beside.
#[test]
fn a_segment_that_is_dropped_while_it_is_sealed_stays_dropped() {
    for steps in 0..2 {
        let disk = FaultyStorage::new();
        let mut journal = create(&disk);
        fill(&mut journal, 12);
        journal.rotate().unwrap();
        fill(&mut journal, 20);
        sync(&mut journal);
        let mut step = journal.seal_ticket(journal.durable()).unwrap().run();
        for _ in 0..steps {
            let SealProgress::Goes(next) = journal.seal_step(step).unwrap() else { panic!("there is another") };
            step = next.run();
        }
        assert!(journal.drop_front(Seq::new(11)).unwrap() > 0);
        assert!(matches!(journal.seal_step(step).unwrap(), SealProgress::Nothing), "{steps}");
        let left = names(&disk);
        assert!(!left.iter().any(|name| name.starts_with("00000001")), "{steps}: {left:?}");
        assert_eq!(read_all(&disk).seqs, (12..20).collect::<Vec<_>>());
    }
}
