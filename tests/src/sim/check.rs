//! The promises, checked against everything that was ever produced.

use std::collections::BTreeSet;

use shellkeep_journal::{Chain, Seq};
use shellkeep_protocol::session::Position;

use super::disk::Entry;
use super::keeper::Keeper;
use super::world::World;

/// Rounds of undisturbed work in which everything must have drained.
const DRAIN_ROUNDS: u32 = 400;

impl World {
    /// Every record that nobody was allowed to lose exists in a spool or in a log.
    pub(super) fn check_copies(&mut self, when: &str) {
        let present = self.present();
        let gapped = self.gapped();
        for (k, keeper) in self.keepers.iter().enumerate() {
            for (index, rec) in keeper.history.iter().enumerate() {
                let spooled = !keeper.spool_gone && keeper.spool.get(rec.seq).is_some();
                let there = spooled || present.contains(&(rec.seq, rec.check.get()));
                let stated = keeper.twin && gapped.contains(&rec.seq);
                if !(keeper.excused[index] || there || stated) {
                    let claim = if keeper.claimed[index] { "called durable" } else { "never called durable" };
                    self.violations
                        .push(format!("after {when}: record {} of keeper {k}, {claim}, is nowhere", rec.seq));
                    return;
                }
            }
        }
    }

    fn gapped(&self) -> BTreeSet<Seq> {
        let disk = self.disk.borrow();
        let entries = disk.logs.values().flat_map(super::disk::StoredLog::view);
        let gaps = entries.filter_map(|entry| match entry {
            Entry::Gap { from, after, .. } => Some(from.get()..after.next_seq.get()),
            _ => None,
        });
        gaps.flatten().map(Seq::new).collect()
    }

    fn present(&self) -> BTreeSet<(Seq, u32)> {
        let disk = self.disk.borrow();
        let entries = disk.logs.values().flat_map(super::disk::StoredLog::view);
        entries
            .filter_map(|entry| match entry {
                Entry::Record(rec) => Some((rec.seq, rec.check.get())),
                _ => None,
            })
            .collect()
    }

    /// Faults stop, everybody works on; then everything must be in its place.
    pub(super) fn settle(&mut self) {
        {
            let mut disk = self.disk.borrow_mut();
            disk.full = false;
            disk.failing_syncs = 0;
        }
        self.daemon_up = true;
        for _ in 0..DRAIN_ROUNDS {
            self.now += std::time::Duration::from_millis(50);
            self.connect();
            for _ in 0..40 {
                self.deliver_request();
                self.deliver_answer();
            }
            self.begin_syncs(true);
            while !self.syncs.is_empty() {
                self.end_sync();
            }
            self.adopt_one();
            if self.is_drained() {
                break;
            }
        }
        self.check_copies("the end");
        self.check_drained();
        self.check_logs();
        self.check_silence();
    }

    fn is_drained(&self) -> bool {
        let quiet = self.links.iter().all(|link| link.requests.is_empty() && link.answers.is_empty());
        quiet && self.keepers.iter().all(drained)
    }

    fn check_drained(&mut self) {
        for k in 0..self.keepers.len() {
            if !drained(&self.keepers[k]) {
                self.violations.push(format!("keeper {k} has not drained though nothing disturbs it"));
            }
        }
    }

    /// In order, nothing doubled, nothing foreign: each log is one unbroken chain of one writer's records and gaps.
    fn check_logs(&mut self) {
        let disk = self.disk.borrow();
        for (id, log) in &disk.logs {
            let mut at = Position::START;
            for entry in log.view() {
                match entry {
                    Entry::Record(rec) if rec.seq != at.next_seq => {
                        let what = format!("log {id} has record {} where {} belongs", rec.seq, at.next_seq);
                        self.violations.push(what);
                        return;
                    }
                    Entry::Record(rec) if rec.prev != at.chain => {
                        self.violations.push(format!("log {id} has a foreign record {}", rec.seq));
                        return;
                    }
                    Entry::Gap { from, .. } if from != at.next_seq => {
                        self.violations.push(format!("log {id} has a gap from {from} where {} belongs", at.next_seq));
                        return;
                    }
                    _ => at = entry.after().unwrap_or(at),
                }
            }
        }
    }

    /// No silent loss: below the end of its log, each record of a keeper is there, or a gap says that it is not.
    fn check_silence(&mut self) {
        let disk = self.disk.borrow();
        for (k, keeper) in self.keepers.iter().enumerate().filter(|(_, keeper)| !keeper.mute) {
            let ids = keeper.parents.iter().copied().chain([keeper.core.session()]);
            let logs: Vec<_> = ids.filter_map(|id| disk.logs.get(&id)).collect();
            let end = logs.iter().map(|log| log.end().next_seq).max().unwrap_or(Seq::FIRST);
            let mut told = BTreeSet::new();
            for entry in logs.iter().flat_map(|log| log.view()) {
                match entry {
                    Entry::Record(rec) => drop(told.insert((rec.seq, rec.check.get()))),
                    Entry::Gap { from, after, .. } => {
                        for seq in from.get()..after.next_seq.get() {
                            let seq = Seq::new(seq);
                            told.insert((seq, keeper.check_of(seq).get()));
                        }
                    }
                    Entry::Grant { .. } | Entry::Skip { .. } => {}
                }
            }
            // What one of two twins wrote stands for both once a wiped log has taken away the proof.
            let twin = |seq: Seq| keeper.twin && told.range((seq, 0)..).next().is_some_and(|t| t.0 == seq);
            let is_told = |seq, check: Chain| told.contains(&(seq, check.get())) || twin(seq);
            let lost = keeper.history.iter().find(|rec| rec.seq < end && !is_told(rec.seq, rec.check));
            if let Some(rec) = lost {
                self.violations.push(format!("record {} of keeper {k} is lost and no log says so", rec.seq));
                return;
            }
        }
    }
}

impl Keeper {
    fn check_of(&self, seq: Seq) -> Chain {
        let index = usize::try_from(seq.get() - 1).unwrap_or(usize::MAX);
        self.history.get(index).map_or(Chain::START, |rec| rec.check)
    }
}

/// Everything that the keeper made is durable in a log.
fn drained(keeper: &Keeper) -> bool {
    if !keeper.alive {
        return keeper.spool_gone;
    }
    let end = keeper.history.len() as u64 + 1;
    keeper.core.is_written(Seq::new(end)) && keeper.core.is_durable(Seq::new(end))
}
