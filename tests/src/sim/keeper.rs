//! A keeper in the simulation: what it produced, what its spool holds, and the core that sends it.

use std::collections::VecDeque;

use shellkeep::keeper::core::{Extent, KeeperCore, SpoolView};
use shellkeep_daemon::sessions::adopt::{AbandonedSpool, Batch};
use shellkeep_journal::{Chain, Seq};
use shellkeep_protocol::ids::{SessionId, WriterId};
use shellkeep_protocol::resume::Retained;
use shellkeep_protocol::session::{GapReason, Position};

use super::disk::{Rec, arrived};

/// Records per spool segment: trimming and dropping take whole ones.
const SEGMENT_RECORDS: u64 = 4;

/// Records that a spool holds at the most.
pub(super) const SPOOL_RECORDS_MAX: usize = 40;

/// Records as a spool holds them.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    pub(super) first: Position,
    pub(super) records: VecDeque<Rec>,
    /// Records that can no longer be read.
    pub(super) damaged: Vec<Seq>,
}

impl Spool {
    pub(super) fn new() -> Self {
        Self { first: Position::START, records: VecDeque::new(), damaged: Vec::new() }
    }

    fn index(&self, seq: Seq) -> usize {
        usize::try_from(seq.get() - self.first.next_seq.get()).unwrap_or(usize::MAX)
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Rec> {
        (seq >= self.first.next_seq && !self.damaged.contains(&seq)).then(|| self.records.get(self.index(seq)))?
    }

    /// Drops whole segments below `seq`; returns what went.
    pub(super) fn drop_below(&mut self, seq: Seq) -> Vec<Rec> {
        let below = 1 + (seq.get() - 1) / SEGMENT_RECORDS * SEGMENT_RECORDS;
        let mut gone = Vec::new();
        while let Some(rec) = self.records.pop_front_if(|rec| rec.seq.get() < below) {
            self.first = rec.after();
            gone.push(rec);
        }
        gone
    }

    /// Records from `from` up to `to`, less what cannot be read.
    pub(super) fn read(&self, from: Seq, to: Seq) -> Vec<Rec> {
        self.records.iter().filter(|rec| rec.seq >= from && rec.seq < to).copied().collect()
    }
}

impl Retained for Spool {
    fn first(&self) -> Position {
        self.first
    }

    fn end(&self) -> Position {
        self.records.back().map_or(self.first, Rec::after)
    }

    fn chain_before(&self, seq: Seq) -> Option<Chain> {
        if seq == self.first.next_seq {
            return Some(self.first.chain);
        }
        if seq < self.first.next_seq || seq > self.end().next_seq {
            return None;
        }
        self.get(seq).map(|rec| rec.prev).or_else(|| self.get(seq.prev()).map(|rec| rec.check))
    }
}

impl SpoolView for Spool {
    fn extent(&self, from: Seq, bytes_max: u32) -> Extent {
        let mut records = self.records.iter().skip(self.index(from)).peekable();
        if self.damaged.contains(&from) {
            let to = records.take_while(|rec| self.damaged.contains(&rec.seq)).last().map_or(self.end(), Rec::after);
            return Extent::Hole { to, reason: GapReason::SpoolDamaged };
        }
        let mut to = self.first;
        let mut bytes = 0;
        while let Some(rec) = records.next_if(|rec| !self.damaged.contains(&rec.seq)) {
            if bytes > 0 && bytes + rec.len > bytes_max {
                break;
            }
            bytes += rec.len;
            to = rec.after();
        }
        Extent::Records { to, bytes }
    }
}

/// A spool whose keeper is dead, as the daemon reads it.
pub(super) struct Abandoned<'a> {
    pub(super) spool: &'a Spool,
    pub(super) batch: Vec<Rec>,
}

impl Retained for Abandoned<'_> {
    fn first(&self) -> Position {
        self.spool.first()
    }

    fn end(&self) -> Position {
        self.spool.end()
    }

    fn chain_before(&self, seq: Seq) -> Option<Chain> {
        self.spool.chain_before(seq)
    }
}

impl AbandonedSpool<[Rec]> for Abandoned<'_> {
    fn batch(&mut self, from: Seq) -> Batch<'_, [Rec]> {
        match self.spool.extent(from, 64) {
            Extent::Hole { to, .. } => Batch::Hole(to),
            Extent::Unreadable => Batch::Unreadable,
            Extent::Records { to, .. } => {
                self.batch = self.spool.read(from, to.next_seq);
                let prev_chain = self.batch.first().map_or(Chain::START, |rec| rec.prev);
                let arrived = arrived(&self.batch);
                Batch::Records { arrived, prev_chain, records: &self.batch, next: to.next_seq }
            }
        }
    }
}

/// One keeper, alive or dead.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // facts of the world that are independent of each other
pub(super) struct Keeper {
    pub(super) core: KeeperCore,
    pub(super) writer: WriterId,
    /// The session as the spool's header names it: a fork of a living keeper renames the spool.
    pub(super) spool: Spool,
    /// Everything it ever numbered.
    pub(super) history: Vec<Rec>,
    /// Per record: somebody was allowed to lose it.
    pub(super) excused: Vec<bool>,
    /// Per record: the keeper heard that it is durable.
    pub(super) claimed: Vec<bool>,
    pub(super) parents: Vec<SessionId>,
    pub(super) alive: bool,
    /// The spool is gone with the keeper's machine, or was adopted.
    pub(super) spool_gone: bool,
    pub(super) forked: bool,
    /// It and its spool were gone when records were lost: nobody can tell of them.
    pub(super) mute: bool,
    /// There are two of it: what one dropped and stated as a gap the other may still hold.
    pub(super) twin: bool,
}

impl Keeper {
    pub(super) fn new(session: SessionId, writer: WriterId) -> Self {
        Self {
            core: KeeperCore::new(session, writer),
            writer,
            spool: Spool::new(),
            history: Vec::new(),
            excused: Vec::new(),
            claimed: Vec::new(),
            parents: Vec::new(),
            alive: true,
            spool_gone: false,
            forked: false,
            mute: false,
            twin: false,
        }
    }

    /// Numbers and spools one record; drops the oldest ones when the spool is full.
    pub(super) fn produce(&mut self, salt: u32, len: u32) {
        let at = self.spool.end();
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&salt.to_le_bytes());
        bytes[4..].copy_from_slice(&at.next_seq.get().to_le_bytes());
        let check = Chain::new(crc32c::crc32c_append(at.chain.get(), &bytes));
        let rec = Rec { seq: at.next_seq, prev: at.chain, check, len, offset: at.output_offset };
        self.history.push(rec);
        self.excused.push(false);
        self.claimed.push(false);
        self.spool.records.push_back(rec);
        if self.spool.records.len() > SPOOL_RECORDS_MAX {
            let below = Seq::new(self.spool.first.next_seq.get() + SEGMENT_RECORDS);
            for gone in self.spool.drop_below(below) {
                self.excuse(gone.seq);
            }
        }
    }

    pub(super) fn excuse(&mut self, seq: Seq) {
        if let Some(excused) = usize::try_from(seq.get() - 1).ok().and_then(|index| self.excused.get_mut(index)) {
            *excused = true;
        }
    }

    /// The keeper heard that everything below `seq` is durable.
    pub(super) fn claim_below(&mut self, seq: Seq) {
        let count = usize::try_from(seq.get() - 1).unwrap_or(0);
        self.claimed.iter_mut().take(count).for_each(|claimed| *claimed = true);
    }
}
