//! The daemon's disk in the simulation: segments whose entries are live, durable or doomed.
//!
//! What the journal does with bytes, this does with numbers: a newer segment voids what older ones hold from its first
//! place on, a failed sync dooms what it covered, power loss leaves what is durable and any prefix of the rest.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use shellkeep_daemon::sessions::core::{Arrived, Grant, Known, SessionCore};
use shellkeep_daemon::sessions::session::{Log, WriteFailure};
use shellkeep_journal::{Chain, Seq};
use shellkeep_protocol::ids::{SessionId, StoreId, WriterId};
use shellkeep_protocol::session::{Attrs, Gap, GapReason, Position};

/// One record as the simulation knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rec {
    pub(super) seq: Seq,
    pub(super) prev: Chain,
    pub(super) check: Chain,
    pub(super) len: u32,
    /// Output bytes before this record.
    pub(super) offset: u64,
}

impl Rec {
    /// Place behind this record.
    pub(super) fn after(&self) -> Position {
        Position { next_seq: self.seq.next(), chain: self.check, output_offset: self.offset + u64::from(self.len) }
    }
}

/// What a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Record(Rec),
    Gap {
        from: Seq,
        after: Position,
        reason: GapReason,
    },
    Grant {
        epoch: u32,
        writer: WriterId,
    },
    /// Only with a planted bug: the number jumps and no reader can see why.
    Skip {
        after: Position,
    },
}

impl Entry {
    /// Place behind it; `None` for what has no number.
    pub(super) fn after(&self) -> Option<Position> {
        match self {
            Self::Record(rec) => Some(rec.after()),
            Self::Gap { after, .. } | Self::Skip { after } => Some(*after),
            Self::Grant { .. } => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    entry: Entry,
    /// Place before the entry.
    at: Position,
    durable: bool,
    doomed: bool,
}

#[derive(Debug, Clone)]
struct Segment {
    first: Position,
    header: (u32, WriterId),
    header_durable: bool,
    /// A sync of this segment failed.
    spent: bool,
    /// The daemon that saw it fail has left its mark, and has not settled it since.
    doubtful: bool,
    entries: Vec<Stored>,
}

/// The log of one session as it lies on the disk.
#[derive(Debug, Clone)]
pub(super) struct StoredLog {
    pub(super) store: StoreId,
    segments: Vec<Segment>,
}

impl StoredLog {
    fn new(store: StoreId, writer: WriterId) -> Self {
        let first = Position::START;
        // A log is made aside, synced and renamed: it exists durably or not at all.
        let segment = Segment {
            first,
            header: (0, writer),
            header_durable: true,
            spent: false,
            doubtful: false,
            entries: Vec::new(),
        };
        Self { store, segments: vec![segment] }
    }

    /// What is read from the medium is on it, and the kernel has no old errors to tell.
    pub(super) fn reread(&mut self) {
        for segment in &mut self.segments {
            (segment.spent, segment.doubtful) = (false, false);
            segment.header_durable = true;
            for stored in &mut segment.entries {
                stored.durable = true;
                stored.doomed = false;
            }
        }
    }

    /// The segments in a line, for the trace.
    pub(super) fn outline(&self) -> String {
        let segments = self.segments.iter().map(|segment| {
            let durable = segment.entries.iter().filter(|stored| stored.durable).count();
            format!(
                "[{}.. {} entries, {durable} durable{}{}]",
                segment.first.next_seq,
                segment.entries.len(),
                if segment.spent { ", spent" } else { "" },
                if segment.header_durable { "" } else { ", header not durable" },
            )
        });
        segments.collect()
    }

    fn stored(&self) -> impl DoubleEndedIterator<Item = &Stored> {
        self.segments.iter().enumerate().flat_map(|(index, segment)| {
            let void_from = self.segments[index + 1..].iter().map(|later| later.first.next_seq).min();
            segment.entries.iter().filter(move |stored| void_from.is_none_or(|seq| stored.at.next_seq < seq))
        })
    }

    /// What a reader sees, in order.
    pub(super) fn view(&self) -> Vec<Entry> {
        self.stored().map(|stored| stored.entry).collect()
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> Position {
        let end = self.stored().filter_map(|stored| stored.entry.after()).next_back();
        let first = self.segments.last().map_or(Position::START, |segment| segment.first);
        end.filter(|end| end.next_seq > first.next_seq).unwrap_or(first)
    }

    /// The newest grant: epoch and owner.
    fn grant(&self) -> (u32, WriterId) {
        let entries = self.segments.iter().flat_map(|segment| &segment.entries);
        let grants = entries.filter_map(|stored| match stored.entry {
            Entry::Grant { epoch, writer } => Some((epoch, writer)),
            _ => None,
        });
        let headers = self.segments.iter().map(|segment| segment.header);
        headers.chain(grants).max_by_key(|(epoch, _)| *epoch).unwrap_or((0, WriterId::from_bytes([0; 16])))
    }

    /// A planted bug: the log's own word on its owner is replaced by what a second file says.
    pub(super) fn forget_owner(&mut self, second_file: WriterId) {
        for segment in &mut self.segments {
            segment.header.1 = second_file;
            for stored in &mut segment.entries {
                if let Entry::Grant { writer, .. } = &mut stored.entry {
                    *writer = second_file;
                }
            }
        }
    }

    /// Scans as the daemon does at its start.
    pub(super) fn recover(&self, now: Instant) -> SessionCore {
        let (epoch, owner) = self.grant();
        let mut proved = Position::START;
        let mut granted = None;
        for stored in self.stored() {
            match stored.entry {
                Entry::Grant { .. } => granted = Some(stored.at),
                _ => proved = granted.unwrap_or(proved),
            }
        }
        let mut core = SessionCore::recovered((self.store, owner, epoch), proved, self.end(), now);
        if self.segments.iter().any(|segment| segment.doubtful) {
            core.distrust();
        }
        core
    }
}

/// Everything a power cut, an administrator or a full disk can do to the logs.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) logs: BTreeMap<SessionId, StoredLog>,
    pub(super) full: bool,
    /// So many of the next syncs fail.
    pub(super) failing_syncs: u32,
    /// Failed syncs leave a mark on the disk; only with a planted bug they do not.
    pub(super) marks: bool,
}

/// What a sync that is running covers: entries per segment at its start.
#[derive(Debug, Clone)]
pub(super) struct Covered(Vec<usize>);

impl Default for Disk {
    fn default() -> Self {
        Self { logs: BTreeMap::new(), full: false, failing_syncs: 0, marks: true }
    }
}

impl Disk {
    /// Makes the log of a session that has none.
    pub(super) fn create(&mut self, session: SessionId, store: StoreId, writer: WriterId) -> Result<(), WriteFailure> {
        if self.full {
            return Err(WriteFailure::NoSpace);
        }
        self.logs.insert(session, StoredLog::new(store, writer));
        Ok(())
    }

    /// A sync begins.
    pub(super) fn covered(&self, session: SessionId) -> Covered {
        Covered(
            self.logs
                .get(&session)
                .map_or_else(Vec::new, |log| log.segments.iter().map(|segment| segment.entries.len()).collect()),
        )
    }

    /// A sync ends; true if the kernel says that it succeeded.
    pub(super) fn sync(&mut self, session: SessionId, covered: &Covered) -> bool {
        let ok = self.failing_syncs == 0;
        self.failing_syncs = self.failing_syncs.saturating_sub(1);
        let Some(log) = self.logs.get_mut(&session) else { return ok };
        for (segment, count) in log.segments.iter_mut().zip(&covered.0) {
            if segment.spent {
                continue; // the kernel has forgotten that these pages were dirty: success means nothing here
            }
            segment.header_durable |= ok;
            segment.spent |= !ok;
            segment.doubtful |= !ok && self.marks;
            for stored in segment.entries.iter_mut().take(*count).filter(|stored| !stored.durable) {
                stored.durable = ok;
                stored.doomed = !ok;
            }
        }
        ok
    }

    /// The machine of the daemon loses power: durable entries stay, and of the others a prefix.
    pub(super) fn power_loss(&mut self, rng: &mut fastrand::Rng) {
        for log in self.logs.values_mut() {
            log.segments.retain(|segment| segment.header_durable);
            for segment in &mut log.segments {
                let durable = segment.entries.iter().rposition(|stored| stored.durable).map_or(0, |last| last + 1);
                let doomed = segment.entries[durable..].iter().position(|stored| stored.doomed || segment.spent);
                let most = doomed.unwrap_or(segment.entries.len() - durable);
                segment.entries.truncate(durable + rng.usize(0..=most));
            }
            log.reread();
        }
    }
}

/// A session's log on the shared disk.
#[derive(Debug, Clone)]
pub(super) struct SimLog {
    pub(super) disk: Rc<RefCell<Disk>>,
    pub(super) session: SessionId,
    /// A planted bug.
    pub(super) silent_gaps: bool,
}

impl SimLog {
    fn with<T>(&self, act: impl FnOnce(&mut StoredLog) -> T) -> Result<T, WriteFailure> {
        let mut disk = self.disk.borrow_mut();
        if disk.full {
            return Err(WriteFailure::NoSpace);
        }
        disk.logs.get_mut(&self.session).map(act).ok_or(WriteFailure::Storage)
    }

    /// Writes without asking anybody: what a careless daemon would do.
    pub(super) fn push(&self, entries: &[Entry]) -> Result<(Position, u64), WriteFailure> {
        self.with(|log| {
            for entry in entries {
                let at = log.end();
                if let Some(segment) = log.segments.last_mut() {
                    segment.entries.push(Stored { entry: *entry, at, durable: false, doomed: false });
                }
            }
            (log.end(), entries.len() as u64)
        })
    }
}

impl Known for SimLog {
    fn chain_before(&self, seq: Seq) -> Option<Chain> {
        if seq == Seq::FIRST {
            return Some(Chain::START);
        }
        let disk = self.disk.borrow();
        let log = disk.logs.get(&self.session)?;
        let mut places = log.stored().filter_map(|stored| stored.entry.after());
        places.find(|after| after.next_seq == seq).map(|after| after.chain)
    }
}

impl Log for SimLog {
    type Records = [Rec];

    fn append(&mut self, records: &[Rec], skip: usize) -> Result<(Position, u64), WriteFailure> {
        let entries: Vec<Entry> = records[skip..].iter().copied().map(Entry::Record).collect();
        self.push(&entries)
    }

    fn append_gap(&mut self, gap: &Gap) -> Result<(Position, u64), WriteFailure> {
        let output_offset = gap.output_offset_after;
        let after = Position { next_seq: gap.to.next(), chain: gap.chain_after, output_offset };
        if self.silent_gaps {
            return self.push(&[Entry::Skip { after }]);
        }
        self.push(&[Entry::Gap { from: gap.from, after, reason: gap.reason }])
    }

    fn append_grant(&mut self, grant: Grant, _attrs: &Attrs) -> Result<bool, WriteFailure> {
        self.push(&[Entry::Grant { epoch: grant.epoch, writer: grant.writer }])?;
        let mut disk = self.disk.borrow_mut();
        let covered = disk.covered(self.session);
        Ok(disk.sync(self.session, &covered))
    }

    fn new_segment(&mut self, at: Position) -> Result<Position, WriteFailure> {
        self.with(|log| {
            // Grants stay behind: in the copy they would prove records durable that are not yet.
            let carried =
                log.stored().filter(|stored| stored.at.next_seq >= at.next_seq && stored.entry.after().is_some());
            let entries = carried.map(|stored| Stored { durable: false, doomed: false, ..*stored }).collect();
            let header = log.grant();
            log.segments.iter_mut().for_each(|segment| segment.doubtful = false);
            let (header_durable, spent, doubtful) = (false, false, false);
            log.segments.push(Segment { first: at, header, header_durable, spent, doubtful, entries });
            log.end()
        })
    }
}

/// Records as the core wants to see them.
pub(super) fn arrived(records: &[Rec]) -> Vec<Arrived> {
    records.iter().map(|rec| Arrived { seq: rec.seq, check: rec.check }).collect()
}
