//! Whole segments: begin, drop.

use std::io;

use crate::chain::{Position, Seq};
use crate::error::JournalError;
use crate::segment::FileKind;
use crate::storage::uninterrupted;

use super::{Durability, Journal};

impl Journal {
    /// Goes on in a new segment, if the last one has records. Sealing and dropping work on whole segments.
    ///
    /// # Errors
    /// `NoSpace` and `Io`: nothing has changed. `Distrusted`: only `new_segment_from` goes on.
    pub fn rotate(&mut self) -> Result<(), JournalError> {
        self.syncs.refuse_distrusted()?;
        if self.active.as_ref().is_none_or(|active| active.has_records) {
            self.syncs.make_room(&*self.storage, &self.dir)?;
            self.begin_segment(self.end, self.last_time_us)?;
        }
        Ok(())
    }

    /// Goes on in a new segment with record `seq`; whatever was held from there on is void. The files of a failed sync are
    /// never used again, and tickets made before acknowledge nothing.
    ///
    /// After a failed sync `seq` is at most one beyond [`Self::durable`]; what else its writer knows to be durable, `assume_durable` says. Returns the place where the journal ends now.
    ///
    /// # Errors
    /// `NoSuchPlace` if no record here begins or ends there; `NotDurable`; `NoSpace` and `Io`: nothing has changed.
    pub fn new_segment_from(&mut self, seq: Seq) -> Result<Position, JournalError> {
        let (place, time) = self.place_and_time_before(seq)?.ok_or(JournalError::NoSuchPlace { seq })?;
        self.syncs.may_restart_at(seq)?;
        self.begin_segment(place, time)?;
        let gone = self.syncs.restart_at(seq, self.last_ordinal, &*self.storage, &self.dir);
        self.segments.retain(|segment| !gone.contains(&segment.ordinal));
        (self.end, self.last_time_us) = (place, time);
        Ok(place)
    }

    /// The first number that segments behind the one at `n` hold.
    pub(super) fn limit_of(&self, n: usize) -> Option<Seq> {
        self.segments[n + 1..].iter().map(|segment| segment.first.next_seq).min()
    }

    /// The last record of the oldest segments that hold at least `bytes` together, for [`Self::drop_front`]; of all but the
    /// last segment if they hold less.
    pub fn front_holding(&self, bytes: u64) -> Seq {
        let mut held = 0;
        let mut up_to = self.first_retained().prev();
        for n in 0..self.segments.len().saturating_sub(1) {
            if held >= bytes {
                break;
            }
            held += self.segments[n].len;
            up_to = self.limit_of(n).map_or(up_to, Seq::prev);
        }
        up_to
    }

    /// Drops the oldest segments as long as all their records are at most `up_to`; never the last, and none before a
    /// segment that was never synced (unless nothing ever is). Returns the bytes freed.
    ///
    /// # Errors
    /// `Io`: what was dropped before stays dropped.
    pub fn drop_front(&mut self, up_to: Seq) -> Result<u64, JournalError> {
        let mut freed = 0;
        loop {
            // The segment that goes on behind the oldest; those between the two are void.
            let next = self.segments.iter().skip(1).rev().min_by_key(|segment| segment.first.next_seq);
            let Some(next) = next.filter(|next| next.first.next_seq <= up_to.next()) else { break };
            // What begins the journal then must survive a power loss: else what is lost with it would pass for pruned.
            if !self.syncs.was_synced(next.ordinal) {
                break;
            }
            if self.dropped_unsynced && self.options.durability == Durability::Synced {
                // Otherwise a power loss could bring back the one before and not this one: a hole that was none.
                uninterrupted(|| self.storage.sync_dir(&self.dir))
                    .map_err(|e| JournalError::of(&self.dir, "sync", e))?;
            }
            let segment = &self.segments[0];
            self.syncs.forget(segment.ordinal);
            // A sealed segment may still have its original beside it.
            for kind in [FileKind::Plain, FileKind::Sealed] {
                let path = self.dir.join(kind.name(segment.ordinal));
                match uninterrupted(|| self.storage.remove(&path)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(JournalError::of(&path, "remove", error));
                    }
                    _ => {}
                }
            }
            freed += segment.len;
            self.dropped_unsynced = true;
            self.segments.remove(0);
        }
        Ok(freed)
    }
}
