//! Where sending goes on: the one rule (R3) by which the holder of a spool meets the end of a log.
//!
//! Used by a living keeper and by the daemon when it adopts the spool of a dead one, so that both resume alike.
//! Pure: knows positions and proofs, never bytes.

use shellkeep_journal::{Chain, Seq};

use crate::session::Position;

/// What a spool still holds: records from `first` up to, not including, `end`.
pub trait Retained {
    /// Place of the oldest record held; equal to `end` if none is.
    fn first(&self) -> Position;
    /// Place behind the newest record.
    fn end(&self) -> Position;
    /// Chain before `seq`, for `first ≤ seq ≤ end`: what the record before ends with, or what the record itself says
    /// came before it. `None` outside, and where both are damaged.
    fn chain_before(&self, seq: Seq) -> Option<Chain>;
}

/// How the holder of a spool goes on from the end of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Send records from here.
    From(Seq),
    /// The log ends before the oldest record held: state the gap `from..=to`, then send from behind it.
    Gap {
        /// The log's next number.
        from: Seq,
        /// Place of the oldest record held.
        to_before: Position,
    },
    /// The log holds something else than this writer wrote: go on in a new session.
    Conflict,
}

/// Decides how to go on from a log that ends at `log`.
pub fn resume(held: &impl Retained, log: Position) -> Resume {
    let (first, end) = (held.first(), held.end());
    if log.next_seq > end.next_seq {
        return Resume::Conflict; // the log knows records that this writer never made
    }
    if log.next_seq < first.next_seq {
        return Resume::Gap { from: log.next_seq, to_before: first };
    }
    match held.chain_before(log.next_seq) {
        Some(chain) if chain == log.chain => Resume::From(log.next_seq),
        // Without proof, because the spool is damaged just there, nothing says that the log is ours: a new session
        // loses nothing, mixing two histories would.
        Some(_) | None => Resume::Conflict,
    }
}
