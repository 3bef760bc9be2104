//! A reader and a writer that meet at the worst moment: the writer works just before the reader looks.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use shellkeep_journal::storage::{DirEntry, FaultyStorage, OpenMode, Storage, StorageFile};
use shellkeep_journal::{Item, Journal, JournalError, Reader, Seq, Start};

use crate::kit::{assert_is_record, create, dir, fill, sync};

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
