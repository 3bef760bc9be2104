//! What the tests of journals share: a disk, a scenario, and the one question whether everything is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shellkeep_journal::storage::{FaultyStorage, Storage};
use shellkeep_journal::{
    Damage, Durability, Identity, Item, Journal, Options, Position, Reader, Record, RecordKind, Recovery, Seq, Start,
};

pub(crate) const NAME: &str = "log";

pub(crate) fn dir() -> PathBuf {
    PathBuf::from(NAME)
}

pub(crate) fn identity() -> Identity {
    Identity { session: [1; 16], store: [2; 16], writer: [3; 16], epoch: 1, attrs: b"attrs".to_vec() }
}

pub(crate) fn small() -> Options {
    Options { segment_bytes_max: 4096, durability: Durability::Synced }
}

pub(crate) fn storage(disk: &FaultyStorage) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

pub(crate) fn create(disk: &FaultyStorage) -> Journal {
    Journal::create(storage(disk), Path::new(""), NAME, identity(), small()).unwrap()
}

pub(crate) fn open(disk: &FaultyStorage) -> (Journal, Recovery) {
    Journal::open(storage(disk), &dir(), small()).unwrap()
}

/// Payload of the n-th record of every scenario: lengths from 0 to some hundred bytes, every byte depends on n.
pub(crate) fn payload(n: u64) -> Vec<u8> {
    let len = n * 37 % 301;
    (0..len).map(|at| (at.wrapping_mul(n + 7) >> 2) as u8).collect()
}

pub(crate) fn kind(n: u64) -> RecordKind {
    match n % 11 {
        5 => RecordKind::Resize,
        7 => RecordKind::Other(200),
        8 => RecordKind::Input,
        _ => RecordKind::Output,
    }
}

/// Appends records until the next one is number `end`.
pub(crate) fn fill(journal: &mut Journal, end: u64) {
    while journal.next_seq().get() < end {
        let n = journal.next_seq().get();
        journal.append(kind(n), 1_000 + n, &payload(n)).unwrap();
    }
}

pub(crate) fn sync(journal: &mut Journal) -> Seq {
    if let Some(ticket) = journal.sync_ticket() {
        journal.note_synced(&ticket.sync().unwrap()).unwrap()
    } else {
        journal.durable()
    }
}

pub(crate) fn assert_is_record(record: &Record<'_>) {
    let n = record.header.seq.get();
    assert_eq!(record.payload, payload(n), "record {n} has another payload");
    assert_eq!((record.header.kind, record.header.time_us), (kind(n), 1_000 + n), "record {n}");
}

/// What a reader gives from `start` to the end.
#[derive(Debug, Default)]
pub(crate) struct ReadBack {
    pub(crate) seqs: Vec<u64>,
    pub(crate) damage: Vec<Damage>,
    pub(crate) pruned: Vec<(u64, u64)>,
    pub(crate) end: Option<Position>,
}

impl ReadBack {
    /// Numbers that the reader named as lost.
    pub(crate) fn lost(&self) -> Vec<u64> {
        let lost = self.damage.iter().filter_map(|damage| damage.lost);
        lost.flat_map(|lost| lost.from.get()..=lost.to.get()).collect()
    }
}

/// Reads everything from `start`; each record must be the scenario's, in order, each once.
pub(crate) fn read(storage: Arc<dyn Storage>, start: Start) -> ReadBack {
    let mut reader = Reader::open(storage, &dir(), start).unwrap();
    let mut back = ReadBack::default();
    while let Some(item) = reader.next().unwrap() {
        match item {
            Item::Record(record) => {
                assert_is_record(&record);
                assert!(back.seqs.last().is_none_or(|last| *last < record.header.seq.get()), "order");
                back.seqs.push(record.header.seq.get());
                back.end = Some(record.after);
            }
            Item::Damage(damage) => back.damage.push(damage),
            Item::Pruned { lost, .. } => back.pruned.push((lost.from.get(), lost.to.get())),
        }
    }
    back
}

pub(crate) fn read_all(disk: &FaultyStorage) -> ReadBack {
    read(storage(disk), Start::Oldest)
}

/// The names in the journal's directory, sorted.
pub(crate) fn names(disk: &FaultyStorage) -> Vec<String> {
    let mut names: Vec<_> = disk.list(&dir()).unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    names
}
