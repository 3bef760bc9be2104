//! A reader and a writer that meet at the worst moment: the writer works just before the reader looks.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use shellkeep_journal::storage::{DirEntry, FaultyStorage, FileStat, OpenMode, Storage, StorageFile};
use shellkeep_journal::{Chain, Hint, Item, Journal, JournalError, Options, Reader, Seq, Start};

use crate::kit::{NAME, assert_is_record, create, dir, fill, identity, small, storage, sync};

type Work = Box<dyn FnMut() + Send>;

/// A disk on which something happens right before each look at a directory, or each opening of a file.
struct Meeting {
    disk: FaultyStorage,
    before_list: Mutex<Option<Work>>,
    before_open: Mutex<Option<Work>>,
}

impl std::fmt::Debug for Meeting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meeting")
    }
}

impl Storage for Meeting {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        if let Some(work) = &mut *self.before_open.lock().unwrap() {
            work();
        }
        self.disk.open(path, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        if let Some(work) = &mut *self.before_list.lock().unwrap() {
            work();
        }
        self.disk.list(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
}

fn meeting(disk: &FaultyStorage, before_list: Option<Work>, before_open: Option<Work>) -> Arc<Meeting> {
    let (before_list, before_open) = (Mutex::new(before_list), Mutex::new(before_open));
    Arc::new(Meeting { disk: disk.clone(), before_list, before_open })
}

/// Reads up to the end; every record once, none missing but what is said to be pruned.
fn read_on(reader: &mut Reader, next: &mut u64) -> Result<(), JournalError> {
    while let Some(item) = reader.next()? {
        match item {
            Item::Record(record) => {
                assert_is_record(&record);
                assert_eq!(record.header.seq.get(), *next);
                *next += 1;
            }
            Item::Pruned { lost, after } => {
                assert_eq!(lost.from.get(), *next);
                *next = after.next_seq.get();
            }
            Item::Damage(damage) => panic!("{damage:?}"),
        }
    }
    Ok(())
}

/// The reader is at the end; right before it looks, the old segment gets three more records and a new one some.
#[test]
fn what_is_written_between_the_last_record_and_the_next_segment_is_not_missed() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 10);
    let armed = Arc::new(AtomicBool::new(false));
    let is_armed = Arc::clone(&armed);
    let work = move || {
        if is_armed.swap(false, Ordering::Relaxed) {
            let next = journal.next_seq().get() + 3;
            fill(&mut journal, next);
            journal.rotate().unwrap();
            fill(&mut journal, next + 2);
        }
    };
    let mut reader = Reader::open(meeting(&disk, Some(Box::new(work)), None), &dir(), Start::Oldest).unwrap();
    let mut next = 1;
    read_on(&mut reader, &mut next).unwrap();
    for round in 1..20 {
        armed.store(true, Ordering::Relaxed);
        read_on(&mut reader, &mut next).unwrap();
        assert_eq!(next, 10 + round * 5);
    }
}

/// The first half of a record that was never finished, and then another record at the same place.
#[test]
fn a_half_written_record_is_never_mixed_with_what_replaces_it() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 5);
    let path = dir().join("00000001.seg");
    let before = disk.content(&path).unwrap();
    fill(&mut journal, 6);
    let after = disk.content(&path).unwrap();
    let mut half = after[..after.len() - 20].to_vec();
    half[before.len() + 50..].fill(0xaa);
    disk.set_content(&path, &half);
    let mut reader = Reader::open(journal.storage(), &dir(), Start::Oldest).unwrap();
    let mut next = 1;
    read_on(&mut reader, &mut next).unwrap();
    assert_eq!(next, 5);
    disk.set_content(&path, &after);
    read_on(&mut reader, &mut next).unwrap();
    assert_eq!(next, 6);
}

/// Each opening finds that the oldest segments are sealed, or gone, since the look.
#[test]
fn a_segment_that_is_sealed_or_dropped_before_it_is_opened_is_found_or_named() {
    for drop_front in [false, true] {
        let disk = FaultyStorage::new();
        let mut journal: Journal = create(&disk);
        fill(&mut journal, 200);
        sync(&mut journal);
        let mut turn = 0;
        let work = move || {
            turn += 1;
            if drop_front && turn % 3 == 0 {
                let up_to = journal.first_retained().get() + 30;
                journal.drop_front(Seq::new(up_to.min(150))).unwrap();
            } else {
                journal.seal_oldest_full(Seq::new(199)).unwrap();
            }
        };
        let mut reader =
            Reader::open(meeting(&disk, None, Some(Box::new(work))), &dir(), Start::Seq(Seq::FIRST)).unwrap();
        let mut next = 1;
        read_on(&mut reader, &mut next).unwrap();
        assert_eq!(next, 200);
    }
}

#[test]
fn a_removed_journal_ends_its_readers_with_an_error() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 100);
    let mut reader = Reader::open(journal.storage(), &dir(), Start::Oldest).unwrap();
    assert!(reader.next().unwrap().is_some());
    journal.remove().unwrap();
    let mut next = 2;
    let ended = read_on(&mut reader, &mut next);
    assert!(matches!(ended, Err(JournalError::NotFound { .. })), "{ended:?}");
}

#[test]
fn a_reader_goes_no_further_than_it_may() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 100);
    let mut reader = Reader::open(journal.storage(), &dir(), Start::Oldest).unwrap();
    let mut next = 1;
    for end in [1, 2, 30, 31, 99, 200] {
        reader.set_end(Seq::new(end));
        read_on(&mut reader, &mut next).unwrap();
        assert_eq!(next, end.min(100));
    }
}

/// What lies beyond a reader's end may be replaced; it then gets the new records and never the old.
#[test]
fn what_was_taken_back_beyond_a_readers_end_is_never_given() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 20);
    let mut reader = Reader::open(journal.storage(), &dir(), Start::Oldest).unwrap();
    reader.set_end(Seq::new(10));
    let mut next = 1;
    read_on(&mut reader, &mut next).unwrap();
    journal.new_segment_from(Seq::new(10)).unwrap();
    let replaced = journal.append(shellkeep_journal::RecordKind::Annotation, 5_000, b"instead").unwrap();
    reader.set_end(journal.next_seq());
    let Some(Item::Record(record)) = reader.next().unwrap() else { panic!("nothing") };
    assert_eq!((record.header.seq, record.after.chain, record.payload), (replaced.0, replaced.1, &b"instead"[..]));
    assert_eq!(reader.next().unwrap(), None);
}

/// A disk whose file seems to grow between one look at it and another, as if its writer were at work.
#[derive(Debug)]
struct Growing {
    disk: FaultyStorage,
    writer: Arc<Writer>,
}

#[derive(Debug)]
struct GrowingFile {
    file: Box<dyn StorageFile>,
    writer: Arc<Writer>,
}

/// How far the writer has come, and its dice.
#[derive(Debug)]
struct Writer {
    seen: AtomicU64,
    dice: AtomicU64,
}

impl Writer {
    /// How much of the file is there at this look: as before, or some bytes more.
    fn look(&self) -> u64 {
        let dice = self.dice.load(Ordering::SeqCst).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.dice.store(dice, Ordering::SeqCst);
        let more = if dice >> 62 == 0 { (dice >> 40) % 700 } else { 0 };
        self.seen.fetch_add(more, Ordering::SeqCst) + more
    }
}

impl StorageFile for GrowingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let there = usize::try_from(self.writer.look().saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = buf.len().min(there);
        self.file.read_at(&mut buf[..len], offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn stat(&self) -> io::Result<FileStat> {
        let stat = self.file.stat()?;
        Ok(FileStat { len: stat.len.min(self.writer.look()), ..stat })
    }
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.file.is_at(path)
    }
    fn doubt(&self, doubtful: bool) -> io::Result<()> {
        self.file.doubt(doubtful)
    }
}

impl Storage for Growing {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(GrowingFile { file: self.disk.open(path, mode)?, writer: Arc::clone(&self.writer) }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
}

#[test]
fn a_record_that_is_being_written_is_waited_for_and_never_damage() {
    const END: u64 = 60;
    const HEADER_BYTES: u64 = 1024; // more than any segment's: a reader opens what has been made
    let disk = FaultyStorage::default();
    let one_segment = Options { segment_bytes_max: 1 << 20, ..small() };
    let mut journal = Journal::create(storage(&disk), Path::new(""), NAME, identity(), one_segment).unwrap();
    fill(&mut journal, END);
    for seed in 1..2_000 {
        let writer = Writer { seen: AtomicU64::new(HEADER_BYTES), dice: AtomicU64::new(seed) };
        let storage = Growing { disk: disk.clone(), writer: Arc::new(writer) };
        let mut reader = Reader::open(Arc::new(storage), &dir(), Start::Oldest).unwrap();
        let mut looks = 0;
        while reader.next_seq().get() < END {
            match reader.next().unwrap() {
                Some(Item::Record(record)) => assert_is_record(&record),
                Some(other) => panic!("seed {seed}: {other:?}"),
                None => looks += 1,
            }
            assert!(looks < 100_000, "seed {seed}: stuck before {}", reader.next_seq());
        }
    }
}

/// Whatever a hint says, right or wrong, the same records come; the right one is the one that was asked for.
#[test]
fn a_hint_changes_nothing_of_what_is_read() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 60);
    let mut hints = Vec::new();
    let mut reader = Reader::open(journal.storage(), &dir(), Start::Oldest).unwrap();
    while let Some(item) = reader.next().unwrap() {
        let Item::Record(record) = item else { panic!("{item:?}") };
        let seq = record.header.seq;
        assert_eq!(reader.hint(Seq::new(seq.get() + 1)), None);
        hints.push((seq, reader.hint(seq).expect("it is in a plain segment")));
    }
    let last = hints.last().map(|(seq, hint)| (*seq, *hint)).expect("records");
    assert_eq!(reader.hint(last.0), Some(last.1), "it is known at the end too");
    for (seq, hint) in hints {
        let wrong = [
            Hint { at: hint.at + 1, ..hint },
            Hint { at: 0, ..hint },
            Hint { at: u64::MAX / 2, ..hint },
            Hint { at: last.1.at, ..hint },
            Hint { chain: Chain::new(!hint.chain.get()), ..hint },
            Hint { segment: hint.segment + 1, ..hint },
        ];
        for hint in [hint].into_iter().chain(wrong) {
            let start = Start::Hinted(seq, Some(hint));
            let mut reader = Reader::open(journal.storage(), &dir(), start).unwrap();
            let mut next = seq.get();
            read_on(&mut reader, &mut next).unwrap();
            assert_eq!(next, 60, "{seq} by {hint:?}");
        }
    }
}
