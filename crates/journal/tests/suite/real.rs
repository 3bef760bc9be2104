//! A journal on the real disk: private files, nothing planted is touched, and readers in other threads miss nothing.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shellkeep_journal::storage::{RealStorage, Storage};
use shellkeep_journal::{
    Durability, Finding, Item, Journal, NewJournal, Options, Reader, Seq, Start, SyncError, scan_read_only,
};

use crate::kit::{NAME, assert_is_record, fill, identity, small, sync};

fn disk() -> Arc<dyn Storage> {
    Arc::new(RealStorage)
}

fn create(home: &Path) -> Journal {
    Journal::create(disk(), home, NAME, identity(), small()).unwrap()
}

#[test]
fn files_and_directories_are_private_from_their_first_moment() {
    let home = tempfile::tempdir().unwrap();
    let new = NewJournal::prepare(disk(), home.path(), NAME, identity(), small()).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(new.dir()), 0o700);
    assert!(!home.path().join(NAME).exists(), "not visible before it is published");
    let mut journal = new.publish().unwrap();
    fill(&mut journal, 60);
    sync(&mut journal);
    journal.seal_oldest_full(Seq::new(59)).unwrap().unwrap();
    assert_eq!(mode(journal.dir()), 0o700);
    for entry in std::fs::read_dir(journal.dir()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    let inherited = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok).filter(|entry| {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", entry.file_name().to_str().unwrap()));
        let flags = flags.unwrap_or_default();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).map_or("0", str::trim).to_owned();
        target.starts_with(home.path()) && u32::from_str_radix(&flags, 8).unwrap() & 0o200_0000 == 0
    });
    assert_eq!(inherited.count(), 0, "no descriptor goes to a child");
}

#[test]
fn what_is_planted_at_a_segments_name_is_named_and_never_touched() {
    type Plant = fn(&Path, &Path);
    let plants: [(&str, Plant); 4] = [
        ("link", |path, secret| symlink(secret, path).unwrap()),
        ("dangling link", |path, _| symlink("/nonexistent/target", path).unwrap()),
        ("pipe", |path, _| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        }),
        ("directory", |path, _| std::fs::create_dir(path).unwrap()),
    ];
    for (what, plant) in plants {
        for name in ["00000000.seg", "00000009.seg", "00000009.zseg"] {
            let home = tempfile::tempdir().unwrap();
            let secret = home.path().join("secret");
            std::fs::write(&secret, "untouched").unwrap();
            fill(&mut create(home.path()), 60);
            let dir = home.path().join(NAME);
            plant(&dir.join(name), &secret);
            let (mut journal, recovery) = Journal::open(disk(), &dir, small()).unwrap();
            let foreign = Finding::Foreign { file: name.to_owned() };
            assert!(recovery.findings.contains(&foreign), "{what} at {name}: {:?}", recovery.findings);
            fill(&mut journal, 120);
            sync(&mut journal);
            journal.seal_oldest_full(Seq::new(119)).unwrap().unwrap();
            assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched");
            let mut reader = Reader::open(disk(), &dir, Start::Oldest).unwrap();
            let mut count = 0;
            while let Some(item) = reader.next().unwrap() {
                assert!(matches!(item, Item::Record(_)), "{what} at {name}: {item:?}");
                count += 1;
            }
            assert_eq!(count, 119, "{what} at {name}");
            let planted = std::fs::symlink_metadata(dir.join(name)).unwrap().file_type();
            assert!(planted.is_symlink() || planted.is_fifo() || planted.is_dir(), "it stays");
        }
    }
}

#[test]
fn a_link_planted_where_the_next_segment_is_made_is_not_followed() {
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("secret");
    std::fs::write(&secret, "untouched").unwrap();
    let mut journal = create(home.path());
    for name in ["00000002.tmp", "00000002.seg", "00000001.tmp", "00000001.zseg"] {
        symlink(&secret, journal.dir().join(name)).unwrap();
    }
    fill(&mut journal, 60);
    sync(&mut journal);
    journal.seal_oldest_full(Seq::new(59)).unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched");
}

#[test]
fn a_file_with_a_second_name_is_read_and_never_written() {
    let home = tempfile::tempdir().unwrap();
    fill(&mut create(home.path()), 10);
    let dir = home.path().join(NAME);
    let other = home.path().join("other");
    std::fs::hard_link(dir.join("00000001.seg"), &other).unwrap();
    let before = std::fs::read(&other).unwrap();
    let (mut journal, recovery) = Journal::open(disk(), &dir, small()).unwrap();
    assert_eq!(recovery.end.next_seq, Seq::new(10));
    fill(&mut journal, 20);
    assert_eq!(std::fs::read(&other).unwrap(), before);
    assert_eq!(scan_read_only(&RealStorage, &dir).unwrap().end.next_seq, Seq::new(20));
}

#[test]
fn a_segment_that_is_deleted_under_us_is_found_by_the_next_sync() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = create(home.path());
    fill(&mut journal, 10);
    assert_eq!(sync(&mut journal), Seq::new(9));
    fill(&mut journal, 12);
    std::fs::remove_file(journal.dir().join("00000001.seg")).unwrap();
    assert!(matches!(journal.sync_ticket().unwrap().sync(), Err(SyncError::Deleted { .. })));
}

#[test]
fn a_reader_beside_a_busy_writer_gets_every_record_once() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = create(home.path());
    let dir = journal.dir().to_owned();
    let end = 1_500_u64;
    let written = AtomicU64::new(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while journal.next_seq().get() < end {
                let next = (journal.next_seq().get() + 7).min(end);
                fill(&mut journal, next);
                written.store(next, Ordering::Release);
                if next.is_multiple_of(5) {
                    sync(&mut journal);
                    while journal.seal_oldest_full(journal.durable()).unwrap().is_some() {}
                }
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reader = Reader::open(disk(), &dir, Start::Oldest).unwrap();
                let mut next = 1;
                while next < end {
                    reader.set_end(Seq::new(written.load(Ordering::Acquire)));
                    match reader.next().unwrap() {
                        Some(Item::Record(record)) => {
                            assert_eq!(record.header.seq.get(), next);
                            assert_is_record(&record);
                            next += 1;
                        }
                        Some(other) => panic!("{other:?} before {next}"),
                        None => std::thread::yield_now(),
                    }
                }
            });
        }
    });
}

#[test]
fn a_slow_reader_behind_retention_is_told_what_was_pruned() {
    let home = tempfile::tempdir().unwrap();
    let mut journal = create(home.path());
    let dir = journal.dir().to_owned();
    fill(&mut journal, 5);
    let mut reader = Reader::open(disk(), &dir, Start::Oldest).unwrap();
    let (mut next, mut pruned) = (1, 0);
    for round in 1..60 {
        fill(&mut journal, round * 40);
        sync(&mut journal);
        journal.drop_front(Seq::new(round * 40 - 10)).unwrap();
        for _ in 0..25 {
            match reader.next().unwrap() {
                Some(Item::Record(record)) => {
                    assert_eq!(record.header.seq.get(), next, "round {round}");
                    assert_is_record(&record);
                    next += 1;
                }
                Some(Item::Pruned { lost, after }) => {
                    assert_eq!((lost.from.get(), lost.to.next()), (next, after.next_seq), "round {round}");
                    next = after.next_seq.get();
                    pruned += 1;
                }
                Some(Item::Damage(damage)) => panic!("round {round}: {damage:?}"),
                None => break,
            }
        }
    }
    assert!(pruned > 3, "retention overtook it {pruned} times");
}

#[test]
fn a_spool_is_never_synced_and_survives_its_writer() {
    let home = tempfile::tempdir().unwrap();
    let options = Options { durability: Durability::Unsynced, ..small() };
    let mut journal = Journal::create(disk(), home.path(), NAME, identity(), options).unwrap();
    fill(&mut journal, 100);
    assert!(journal.sync_ticket().is_none());
    let dir = journal.dir().to_owned();
    std::mem::forget(journal); // as SIGKILL would leave it
    let (journal, recovery) = Journal::open(disk(), &dir, options).unwrap();
    assert_eq!((journal.next_seq(), recovery.findings.len()), (Seq::new(100), 0));
    let inode = std::fs::metadata(dir.join("00000001.seg")).unwrap().ino();
    assert!(inode > 0 && journal.sync_ticket().is_none());
    journal.remove().unwrap();
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
