//! What a writer may believe of its files: after a failed sync, over its own death, and when somebody else was at them.

use std::path::Path;

use shellkeep_journal::storage::{Fault, FaultyStorage, OpenMode, Storage as _};
use shellkeep_journal::{Journal, JournalError, Seq, SyncError};

use crate::kit::{create, dir, fill, kind, names, open, payload, read_all, storage, sync};

/// A log with 9 durable records and 5 more whose sync has failed, as the death of its writer leaves it.
fn killed_after_a_failed_sync() -> FaultyStorage {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 10);
    sync(&mut journal);
    fill(&mut journal, 15);
    disk.fail_sync(disk.syncs(), Fault::Io);
    assert!(matches!(journal.sync_ticket().unwrap().sync(), Err(SyncError::Io { .. })));
    disk.snapshot()
}

/// The system calls the next sync of that file a success, whoever asks.
#[test]
fn a_failed_sync_is_remembered_over_the_death_of_its_writer() {
    let disk = killed_after_a_failed_sync();
    let (mut journal, _) = open(&disk);
    assert!(journal.is_doubtful() && journal.is_distrusted());
    let refused = journal.append(kind(15), 1015, &payload(15));
    assert!(matches!(refused, Err(JournalError::Distrusted)), "{refused:?}");
    let unproved = journal.sync_ticket().unwrap().sync();
    assert!(matches!(unproved, Err(SyncError::Distrusted { .. })), "{unproved:?}");

    let beyond = journal.new_segment_from(Seq::new(12));
    assert!(matches!(beyond, Err(JournalError::NotDurable { .. })), "{beyond:?}");
    let at = journal.durable().next();
    assert_eq!(journal.new_segment_from(at).unwrap().next_seq, Seq::FIRST, "nothing of a doubtful file is proved");
    assert!(!journal.is_doubtful());
    fill(&mut journal, 20);
    assert_eq!(sync(&mut journal), Seq::new(19));
    for seed in 0..50 {
        assert_eq!(read_all(&disk.snapshot().power_loss(seed)).seqs, (1..20).collect::<Vec<_>>());
    }
}

#[test]
fn a_doubt_that_is_settled_is_not_remembered() {
    let disk = killed_after_a_failed_sync();
    let (mut journal, _) = open(&disk);
    journal.new_segment_from(journal.durable().next()).unwrap();
    fill(&mut journal, 20);
    drop(journal);
    let (mut journal, _) = open(&disk.snapshot());
    assert!(!journal.is_doubtful());
    assert_eq!(sync(&mut journal), Seq::new(19));
}

#[test]
fn what_was_sealed_is_beyond_doubt() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 120); // over several segments
    sync(&mut journal);
    while journal.seal_oldest_full(journal.durable()).unwrap().is_some() {}
    let sealed_to =
        names(&disk).iter().filter(|name| Path::new(name).extension().is_some_and(|end| end == "zseg")).count();
    assert!(sealed_to > 1, "{:?}", names(&disk));
    fill(&mut journal, 125);
    disk.fail_sync(disk.syncs(), Fault::Io);
    assert!(journal.sync_ticket().unwrap().sync().is_err());
    let (mut journal, _) = open(&disk.snapshot());
    assert!(journal.is_doubtful());
    let durable = journal.durable();
    assert!(durable > Seq::new(50), "only the last segment is in doubt: {durable}");
    journal.new_segment_from(durable.next()).unwrap();
}

/// Behind a write at its old end a file that was cut has its old length again, and zeros where records were.
#[test]
fn a_file_that_was_cut_deleted_or_replaced_under_us_is_found_by_the_next_append() {
    for what in ["cut", "deleted", "replaced"] {
        let disk = FaultyStorage::new();
        let mut journal = create(&disk);
        fill(&mut journal, 12);
        sync(&mut journal);
        let path = dir().join(&names(&disk)[0]);
        if what == "cut" {
            disk.open(&path, OpenMode::Write).unwrap().set_len(300).unwrap();
        } else {
            disk.remove(&path).unwrap();
        }
        if what == "replaced" {
            assert!(disk.set_content(&path, b"something else"));
        }
        let refused = journal.append(kind(12), 1012, &payload(12)).unwrap_err();
        assert!(matches!(refused, JournalError::Vanished { .. }) && refused.is_gone(), "{what}: {refused:?}");
        assert!(journal.is_distrusted());
    }
}

#[test]
fn a_log_that_was_moved_away_under_us_is_found_by_the_next_sync() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 12);
    sync(&mut journal);
    disk.rename(&dir(), Path::new("elsewhere")).unwrap();
    fill(&mut journal, 14);
    let error = journal.sync_ticket().unwrap().sync().unwrap_err();
    assert!(matches!(error, SyncError::Deleted { .. }) && error.is_gone(), "{error}");
}

#[test]
fn after_a_cut_the_journal_is_opened_again_with_what_is_left() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 12);
    sync(&mut journal);
    let path = dir().join(&names(&disk)[0]);
    disk.open(&path, OpenMode::Write).unwrap().set_len(600).unwrap();
    assert!(journal.append(kind(12), 1012, &payload(12)).is_err());
    drop(journal);
    let (journal, _) = Journal::open(storage(&disk), &dir(), crate::kit::small()).unwrap();
    assert!(journal.next_seq() > Seq::FIRST && journal.next_seq() < Seq::new(12), "{}", journal.next_seq());
}

/// Each restart copies what is not durable: without an end to that the disk would be full of copies.
#[test]
fn a_disk_that_fails_every_sync_is_not_filled_with_copies() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 10);
    sync(&mut journal);
    fill(&mut journal, 15);
    for _ in 0..20 {
        disk.fail_sync(disk.syncs(), Fault::Io);
        assert!(journal.sync_ticket().unwrap().sync().is_err());
        journal.new_segment_from(Seq::new(10)).unwrap();
        fill(&mut journal, 15);
    }
    assert_eq!(names(&disk).len(), 2, "{:?}", names(&disk));
    assert_eq!(read_all(&disk).seqs, (1..15).collect::<Vec<_>>());
    sync(&mut journal);
    assert_eq!(read_all(&disk.power_loss(7)).seqs, (1..15).collect::<Vec<_>>());
}

#[test]
fn another_content_in_the_same_file_is_found_by_the_next_sync() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 12);
    sync(&mut journal);
    assert!(disk.set_content(&dir().join(&names(&disk)[0]), &vec![0; 100_000]));
    fill(&mut journal, 14);
    assert!(journal.sync_ticket().unwrap().sync().unwrap_err().is_gone());
}

#[test]
fn damage_in_what_a_later_segment_has_is_none_of_the_journal() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 30);
    let path = dir().join(&names(&disk)[0]);
    let mut content = disk.content(&path).unwrap();
    let middle = content.len() / 2;
    content[middle..middle + 50].fill(0);
    assert!(disk.set_content(&path, &content));
    let (mut journal, recovery) = open(&disk);
    let hole = recovery.first_hole_from(Seq::FIRST).unwrap();
    journal.new_segment_from(hole).unwrap();
    fill(&mut journal, 30);
    let back = read_all(&disk);
    assert_eq!((back.lost(), back.seqs), (vec![], (1..30).collect()));
    assert!(back.damage.is_empty(), "{:?}", back.damage);
}
