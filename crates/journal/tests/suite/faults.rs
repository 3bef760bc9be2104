//! A journal on a disk that fails: what was acknowledged durable is never lost, and work goes on when the fault is over.

use std::io;

use shellkeep_journal::storage::{Fault, FaultyStorage, Storage};
use shellkeep_journal::{Journal, JournalError, RecordKind, Seq, SyncError};

use crate::kit::{create, dir, fill, identity, kind, names, open, payload, read_all, small, storage, sync};

/// What a daemon does with a journal: creates or opens it, appends, syncs, rotates, seals, drops; starts again at errors.
struct Owner {
    disk: FaultyStorage,
    journal: Option<Journal>,
    /// The last record that was acknowledged as durable.
    durable: u64,
    /// The first that retention left.
    first: u64,
    errors: u32,
}

impl Owner {
    fn new(disk: &FaultyStorage) -> Self {
        Self { disk: disk.clone(), journal: None, durable: 0, first: 1, errors: 0 }
    }

    /// Tries until it works: one fault at a time must never need more than a few attempts.
    fn insist<T>(&mut self, mut work: impl FnMut(&mut Journal) -> Result<T, JournalError>) -> T {
        for _ in 0..10 {
            self.ensure_open();
            let Some(journal) = &mut self.journal else { continue };
            let before = journal.end();
            match work(journal) {
                Ok(done) => return done,
                Err(error) => {
                    self.errors += 1;
                    if matches!(error, JournalError::Distrusted) {
                        let from = journal.durable().next();
                        let _ = journal.new_segment_from(from); // may meet the fault as well; then again
                    } else {
                        assert_eq!(journal.end(), before, "a failed call changed the journal: {error}");
                    }
                }
            }
        }
        panic!("the journal does not recover");
    }

    fn ensure_open(&mut self) {
        if self.journal.is_some() {
            return;
        }
        let opened = match Journal::open(storage(&self.disk), &dir(), small()) {
            Err(JournalError::NotFound { .. }) => {
                Journal::create(storage(&self.disk), std::path::Path::new(""), crate::kit::NAME, identity(), small())
            }
            opened => opened.map(|(journal, recovery)| {
                assert!(recovery.first_hole_from(Seq::FIRST).is_none(), "{recovery:?}");
                let mut journal = journal;
                journal.assume_durable(Seq::new(self.durable)); // a keeper no longer has these
                journal
            }),
        };
        match opened {
            Ok(journal) => self.journal = Some(journal),
            Err(_) => self.errors += 1,
        }
    }

    /// Appends until the next record is `end`, from wherever the journal is: what a keeper does after an `Expect`.
    fn fill(&mut self, end: u64) {
        while self.insist(|journal| Ok(journal.next_seq().get())) < end {
            self.insist(|journal| {
                let n = journal.next_seq().get();
                if n < end { journal.append(kind(n), 1_000 + n, &payload(n)).map(|_| ()) } else { Ok(()) }
            });
        }
    }

    fn sync(&mut self) {
        let end = self.insist(|journal| Ok(journal.next_seq().get()));
        for _ in 0..10 {
            self.fill(end);
            let Some(journal) = &mut self.journal else { continue };
            let Some(ticket) = journal.sync_ticket() else { return };
            if let Ok(synced) = ticket.sync() {
                if let Some(durable) = journal.note_synced(&synced) {
                    self.durable = durable.get();
                    return;
                }
            } else {
                self.errors += 1;
                let from = journal.durable().next();
                let _ = journal.new_segment_from(from);
            }
        }
        panic!("never durable");
    }

    /// Everything that a journal can be asked, over several segments.
    fn long_scenario(&mut self) {
        for round in 1..=5 {
            self.fill(round * 9);
            if round != 3 {
                self.sync();
            }
            self.insist(Journal::rotate);
            self.insist(|journal| {
                journal.append_grant(shellkeep_journal::Grant {
                    store: [2; 16],
                    writer: [3; 16],
                    epoch: round as u32,
                    attrs: Vec::new(),
                })
            });
            let durable = Seq::new(self.durable);
            self.insist(|journal| journal.seal_oldest_full(durable).map(|_| ()));
            if round == 4 {
                self.insist(|journal| journal.drop_front(Seq::new(12)).map(|_| ()));
                self.first = self.insist(|journal| Ok(journal.first_retained().get()));
                self.journal = None; // started again
            }
        }
        self.fill(70);
        self.sync();
    }

    fn check(&mut self) {
        self.disk.heal();
        self.journal = None;
        self.fill(80);
        let back = read_all(&self.disk);
        assert_eq!((back.damage.len(), back.seqs), (0, (self.first..80).collect::<Vec<_>>()));
        let bad = names(&self.disk).into_iter().filter(|name| name.contains(".tmp")).count();
        assert_eq!(bad, 0, "unfinished files stay");
    }
}

fn calls_of_the_scenario() -> u64 {
    let disk = FaultyStorage::new();
    let mut owner = Owner::new(&disk);
    owner.long_scenario();
    let calls = disk.calls();
    owner.check();
    assert_eq!(owner.errors, 0);
    calls
}

#[test]
fn any_one_failing_call_loses_nothing_that_was_acknowledged() {
    let calls = calls_of_the_scenario();
    assert!(calls > 200, "{calls} calls are no long scenario");
    for fault in [Fault::NoSpace, Fault::Io, Fault::Interrupted, Fault::Short(3), Fault::ShortThenNoSpace(7)] {
        for k in 0..calls {
            let disk = FaultyStorage::new();
            disk.fail_call(k, fault);
            let mut owner = Owner::new(&disk);
            owner.long_scenario();
            if matches!(fault, Fault::Interrupted | Fault::Short(_)) {
                assert_eq!(owner.errors, 0, "{fault:?} at call {k} is retried, not reported");
            }
            // And as if the machine had died right then.
            if k % 5 == 0 {
                check_power_loss(&disk, &owner, k);
            }
            owner.check();
        }
    }
}

/// After a power loss everything acknowledged as durable is there, in order, and the journal goes on.
fn check_power_loss(disk: &FaultyStorage, owner: &Owner, seed: u64) {
    let after = disk.snapshot().power_loss(seed);
    let opened = Journal::open(storage(&after), &dir(), small());
    if owner.durable == 0 && opened.is_err() {
        return; // not even the journal itself was acknowledged
    }
    let (mut journal, recovery) = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let hole = recovery.first_hole_from(Seq::FIRST);
    assert!(hole.is_none_or(|hole| hole.get() > owner.durable), "seed {seed}: {hole:?} below {}", owner.durable);
    let back = read_all(&after);
    for seq in owner.first..=owner.durable {
        assert!(back.seqs.contains(&seq), "seed {seed}: {seq} of {} is lost, {recovery:?}", owner.durable);
    }
    // Its writer sends again what is missing, from the first hole on.
    if let Some(hole) = hole {
        journal.new_segment_from(hole).unwrap();
    }
    let end = journal.next_seq().get() + 10;
    fill(&mut journal, end);
    sync(&mut journal);
    let back = read_all(&after);
    let first = back.seqs[0];
    assert!(first <= owner.first, "seed {seed}");
    assert_eq!((back.lost(), back.seqs), (vec![], (first..end).collect::<Vec<_>>()), "seed {seed}");
}

#[test]
fn power_loss_at_any_time_keeps_what_was_acknowledged() {
    for seed in 0..400_u64 {
        let disk = FaultyStorage::new();
        let mut owner = Owner::new(&disk);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut end = 1;
        for _ in 0..random.u8(1..12) {
            match random.u8(0..12) {
                0..4 => {
                    end += random.u64(1..40);
                    owner.fill(end);
                }
                4..6 => owner.sync(),
                6 => owner.insist(Journal::rotate),
                7 => {
                    let durable = Seq::new(owner.durable);
                    owner.insist(|journal| journal.seal_oldest_full(durable).map(|_| ()));
                }
                8 => {
                    let up_to = Seq::new(random.u64(0..=owner.durable));
                    owner.insist(|journal| journal.drop_front(up_to).map(|_| ()));
                    owner.first = owner.insist(|journal| Ok(journal.first_retained().get()));
                }
                9 => {
                    let number = disk.syncs() + random.u64(0..4);
                    disk.fail_sync(number, if random.bool() { Fault::Io } else { Fault::NoSpace });
                    owner.sync();
                }
                10 => {
                    let epoch = random.u32(..);
                    let grant = shellkeep_journal::Grant { store: [2; 16], writer: [3; 16], epoch, attrs: vec![1; 50] };
                    owner.insist(|journal| journal.append_grant(grant.clone()));
                }
                _ => owner.journal = None,
            }
        }
        check_power_loss(&disk, &owner, seed);
    }
}

#[test]
fn power_loss_between_any_two_calls_of_sealing_and_dropping_keeps_everything() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 60);
    sync(&mut journal);
    let begin = disk.snapshot();
    let before = disk.calls();
    journal.seal_oldest_full(Seq::new(59)).unwrap().unwrap();
    let calls = disk.calls() - before;
    for k in 0..=calls {
        // From call k on everything fails, as if the process had been killed there.
        let disk = begin.snapshot();
        let (mut journal, _) = open(&disk);
        sync(&mut journal);
        let now = disk.calls();
        (now + k..now + calls + 50).for_each(|call| disk.fail_call(call, Fault::Io));
        let sealed = journal.seal_oldest_full(Seq::new(59));
        assert_eq!(sealed.is_ok(), k + 1 >= calls, "call {k} of {calls}"); // the last one removes the original
        disk.heal();
        let killed = disk.snapshot();
        assert_eq!(read_all(&killed).seqs, (1..60).collect::<Vec<_>>(), "killed at call {k}");
        let (_, recovery) = open(&killed);
        assert_eq!(recovery.findings, vec![], "killed at call {k}");
        assert!(!names(&killed).iter().any(|name| name.contains(".tmp")));
        let both = names(&killed).iter().filter(|name| name.starts_with("00000001.")).count();
        assert_eq!(both, 1, "one of the two stays: killed at call {k}");
        for seed in 0..20 {
            let lost_power = disk.snapshot().power_loss(seed);
            assert_eq!(read_all(&lost_power).seqs, (1..60).collect::<Vec<_>>(), "call {k}, seed {seed}");
            assert!(open(&lost_power).1.findings.is_empty());
        }
    }
}

#[test]
fn dropping_the_front_leaves_no_hole_over_power_loss() {
    for seed in 0..200 {
        let disk = FaultyStorage::new();
        let mut journal = create(&disk);
        fill(&mut journal, 150);
        sync(&mut journal);
        for up_to in [30, 60, 90, 100] {
            journal.drop_front(Seq::new(up_to)).unwrap();
        }
        let after = disk.power_loss(seed);
        let (_, recovery) = open(&after);
        assert!(recovery.findings.is_empty(), "seed {seed}: {:?}", recovery.findings);
    }
}

#[test]
fn a_full_disk_refuses_the_append_and_takes_it_when_there_is_room() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 30);
    sync(&mut journal);
    for free in 0..400 {
        disk.set_capacity(Some(disk.used() + free));
        let end = journal.end();
        let n = end.next_seq.get();
        match journal.append(kind(n), 1_000 + n, &payload(n)) {
            Ok(_) => {}
            Err(JournalError::NoSpace { .. }) => {
                assert_eq!(journal.end(), end);
                // A restart works with a full disk, and changes nothing.
                let full = disk.snapshot();
                full.set_capacity(Some(full.used()));
                let (reopened, recovery) = open(&full);
                assert_eq!((reopened.end(), recovery.findings.len()), (end, 0));
                disk.set_capacity(None);
                journal.append(kind(n), 1_000 + n, &payload(n)).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(read_all(&disk).seqs.len() as u64, journal.next_seq().get() - 1);
}

#[test]
fn a_torn_tail_on_a_full_disk_stays_and_the_journal_goes_on_behind_it() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 5);
    let name = names(&disk)[0].clone();
    let mut content = disk.content(&dir().join(&name)).unwrap();
    content.extend_from_slice(&[0x4b; 50]);
    disk.set_content(&dir().join(&name), &content);
    disk.set_capacity(Some(disk.used()));
    let (mut journal, recovery) = open(&disk);
    let [shellkeep_journal::Finding::TornTail { fate: shellkeep_journal::TailFate::Left, .. }] = recovery.findings[..]
    else {
        panic!("{recovery:?}")
    };
    let refused = journal.append(kind(5), 1005, &payload(5));
    assert!(matches!(refused, Err(JournalError::NoSpace { .. })), "{refused:?}");
    disk.heal();
    fill(&mut journal, 20);
    assert_eq!(read_all(&disk).seqs, (1..20).collect::<Vec<_>>());
}

#[test]
fn what_a_failed_write_left_behind_never_becomes_a_record() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 5);
    // Two whole records of three are written, and what is left cannot be cut off.
    let batch = [b"one", b"two", b"xxx"].map(|payload| shellkeep_journal::NewRecord {
        kind: RecordKind::Output,
        time_us: 1,
        payload,
    });
    // After the look at the file comes the write, then the rest of it, then the cut.
    disk.fail_call(disk.calls() + 1, Fault::ShortThenNoSpace(43 * 2 + 5));
    disk.fail_call(disk.calls() + 3, Fault::Io);
    assert!(journal.append_all(batch).is_err());
    // What comes instead is as long as the first of them: without the cut the second would stand right behind it.
    journal.append(RecordKind::Output, 2, b"new").unwrap();
    let recovery = open(&disk.snapshot()).1;
    assert_eq!((recovery.end, recovery.findings), (journal.end(), vec![]));
}

#[test]
fn a_writer_that_is_never_synced_waits_for_the_disk_at_the_bound() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 20);
    let syncs = disk.syncs();
    while disk.used() < 25 * 4096 {
        let next = journal.next_seq().get() + 1;
        fill(&mut journal, next);
    }
    assert!(disk.syncs() - syncs >= 25 - 17, "the oldest files were synced one by one");
    for _ in 0..20 {
        journal.rotate().unwrap();
        let next = journal.next_seq().get() + 1;
        fill(&mut journal, next);
    }
    assert!(disk.syncs() - syncs >= 25 - 17 + 20);
    let end = journal.end();
    disk.fail_sync(disk.syncs(), Fault::Io);
    assert!(journal.rotate().is_err());
    assert!(matches!(journal.rotate(), Err(JournalError::Distrusted)), "the kernel would say that all is well");
    assert_eq!((journal.end(), journal.is_distrusted()), (end, true));
    assert!(journal.sync_ticket().unwrap().sync().is_err());
}

#[test]
fn after_a_failed_sync_only_a_new_segment_goes_on_and_nothing_old_is_acknowledged() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 10);
    sync(&mut journal);
    fill(&mut journal, 15);
    let early = journal.sync_ticket().unwrap();
    disk.fail_sync(disk.syncs(), Fault::Io);
    assert!(matches!(journal.sync_ticket().unwrap().sync(), Err(SyncError::Io { .. })));
    assert!(journal.is_distrusted());
    let refused = journal.append(kind(15), 1015, &payload(15));
    assert!(matches!(refused, Err(JournalError::Distrusted)), "{refused:?}");
    // The kernel would say that all is well: the ticket must not ask it.
    assert!(matches!(early.sync(), Err(SyncError::Distrusted { .. })));
    let refused = journal.new_segment_from(Seq::new(12));
    assert!(matches!(refused, Err(JournalError::NotDurable { .. })), "{refused:?}");
    assert_eq!(journal.new_segment_from(Seq::new(10)).unwrap().next_seq, Seq::new(10));
    fill(&mut journal, 20);
    assert_eq!(sync(&mut journal), Seq::new(19));
    let back = read_all(&disk.power_loss(1));
    assert_eq!((back.lost(), back.seqs), (vec![], (1..20).collect()));
}

#[test]
fn a_sync_that_began_before_a_new_segment_acknowledges_nothing() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 20);
    let ticket = journal.sync_ticket().unwrap();
    journal.new_segment_from(Seq::new(10)).unwrap();
    let synced = ticket.sync().unwrap();
    assert_eq!((journal.note_synced(&synced), journal.durable()), (None, Seq::NONE));
    fill(&mut journal, 12);
    assert_eq!(sync(&mut journal), Seq::new(11));
}

#[test]
fn a_ticket_says_only_what_was_written_when_it_was_made() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 20);
    let ticket = journal.sync_ticket().unwrap();
    fill(&mut journal, 90); // over several segments
    let ticket = std::thread::spawn(move || ticket.sync()).join().unwrap().unwrap();
    assert_eq!(journal.note_synced(&ticket), Some(Seq::new(19)));
    assert!(journal.sync_ticket().is_some());
    assert_eq!(sync(&mut journal), Seq::new(89));
    assert!(journal.sync_ticket().is_none());
}

#[test]
fn a_file_that_was_cut_or_deleted_under_us_is_found_by_the_next_sync() {
    for delete in [false, true] {
        let disk = FaultyStorage::new();
        let mut journal = create(&disk);
        fill(&mut journal, 10);
        sync(&mut journal);
        fill(&mut journal, 12);
        let path = dir().join(&names(&disk)[0]);
        if delete {
            disk.remove(&path).unwrap();
        } else {
            assert!(disk.set_content(&path, b"short"));
        }
        match journal.sync_ticket().unwrap().sync() {
            Err(SyncError::Deleted { .. }) => assert!(delete),
            Err(SyncError::Cut { len: 5, .. }) => assert!(!delete),
            other => panic!("{other:?}"),
        }
        assert!(journal.is_distrusted());
    }
}

#[test]
fn a_distrusted_directory_acknowledges_nothing() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 80);
    let ticket = journal.sync_ticket().unwrap();
    let files = names(&disk).len() as u64;
    disk.fail_sync(disk.syncs() + files, Fault::Io); // all files, then their names
    assert!(matches!(ticket.sync(), Err(SyncError::Io { .. })));
    assert_eq!(journal.new_segment_from(Seq::FIRST).unwrap().next_seq, Seq::FIRST);
    fill(&mut journal, 80);
    assert_eq!(sync(&mut journal), Seq::new(79));
    assert_eq!(read_all(&disk.power_loss(3)).seqs, (1..80).collect::<Vec<_>>());
}

#[test]
fn a_journal_is_durable_when_it_was_created() {
    for seed in 0..50 {
        let disk = FaultyStorage::new();
        drop(create(&disk));
        assert_eq!(open(&disk.power_loss(seed)).1.identity, Some(identity()), "seed {seed}");
    }
}

/// Else a power loss would take the new front, and what was in it would pass for pruned.
#[test]
fn nothing_is_dropped_before_a_segment_that_was_never_synced() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 10);
    sync(&mut journal);
    journal.rotate().unwrap();
    fill(&mut journal, 20);
    assert_eq!(journal.drop_front(Seq::new(9)).unwrap(), 0);
    sync(&mut journal);
    assert!(journal.drop_front(Seq::new(9)).unwrap() > 0);
}

#[test]
fn a_void_segment_in_front_is_not_where_the_journal_begins() {
    let disk = FaultyStorage::new();
    let mut journal = create(&disk);
    fill(&mut journal, 10);
    journal.rotate().unwrap();
    fill(&mut journal, 20);
    journal.new_segment_from(Seq::new(5)).unwrap();
    fill(&mut journal, 30);
    sync(&mut journal);
    disk.fail_sync(disk.syncs(), Fault::Io); // between the first segment and the void one
    assert!(journal.drop_front(Seq::new(4)).is_err());
    assert_eq!(journal.first_retained(), Seq::new(5));
    let (reopened, recovery) = open(&disk);
    assert_eq!((reopened.first(), recovery.findings), (journal.first(), vec![]));
    assert_eq!(read_all(&disk).seqs, (5..30).collect::<Vec<_>>());
}

/// Its maker died, or failed, between the name and the sync of the name.
#[test]
fn a_journal_that_was_found_is_durable_with_its_name_after_the_first_sync() {
    for seed in 0..50 {
        let disk = FaultyStorage::new();
        drop(create(&disk));
        let all = disk.syncs(); // the parent's is the last
        let disk = FaultyStorage::new();
        disk.fail_sync(all - 1, Fault::Io);
        let made = Journal::create(storage(&disk), std::path::Path::new(""), crate::kit::NAME, identity(), small());
        assert!(matches!(made, Err(JournalError::Io { .. })));
        let (mut journal, _) = open(&disk);
        fill(&mut journal, 5);
        sync(&mut journal);
        assert_eq!(read_all(&disk.power_loss(seed)).seqs, [1, 2, 3, 4], "seed {seed}");
    }
}

#[test]
fn errors_keep_what_the_system_said() {
    let disk = FaultyStorage::new();
    disk.fail_call(2, Fault::Io);
    let made = Journal::create(storage(&disk), std::path::Path::new(""), crate::kit::NAME, identity(), small());
    let Err(JournalError::Io { source, .. }) = made else { panic!("{made:?}") };
    assert_eq!(source.raw_os_error(), io::Error::from_raw_os_error(5).raw_os_error());
}
