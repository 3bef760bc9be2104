//! Takes over what a dead keeper left in its spool, by the same rules as a living one would send it.
//!
//! Promise: repeated after any crash it adds nothing twice; the spool may be removed only after `Done` and a sync.
//! Knows neither files nor bytes.

use std::time::Instant;

use shellkeep_journal::{Chain, Seq};
use shellkeep_protocol::resume::{Resume, Retained, resume};
use shellkeep_protocol::session::{Append, Busy, BusyReason, Gap, GapReason, Position, SessionResponse, SessionStart};

use super::core::{Arrived, ConnectionId};
use super::session::{BUSY_RETRY_MS, Log, Session};

/// What lies at a place of an abandoned spool.
#[derive(Debug)]
pub enum Batch<'a, R: ?Sized> {
    /// Whole records, checked.
    Records {
        /// Their numbers and checksums; not empty.
        arrived: Vec<Arrived>,
        /// Chain before the first.
        prev_chain: Chain,
        /// The records.
        records: &'a R,
        /// Behind the last.
        next: Seq,
    },
    /// Damage; records go on at this place.
    Hole(Position),
    /// It cannot be told now, for want of descriptors or memory.
    Unreadable,
}

/// An abandoned spool, readable and held against everybody else.
pub trait AbandonedSpool<R: ?Sized>: Retained {
    /// What lies at `from`, which is before the end.
    fn batch(&mut self, from: Seq) -> Batch<'_, R>;
}

/// How an adoption ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adoption {
    /// The log has everything; when it is durable the spool may go.
    Done,
    /// The log holds other records: adopt into a new session.
    Conflict,
    /// The log takes nothing now; this is why. Try again later.
    Later(SessionResponse),
}

/// Brings everything from `spool` into the log of `session`. `time_us` is the time to put on gaps.
pub fn adopt<L: Log>(
    session: &mut Session<L>,
    spool: &mut impl AbandonedSpool<L::Records>,
    connection: ConnectionId,
    start: &SessionStart,
    gap_reason: GapReason,
    (now, time_us): (Instant, u64),
) -> Adoption {
    let mut at = match session.register(connection, start, now).response {
        SessionResponse::Welcome(welcome) => welcome.end,
        SessionResponse::Refused(_) | SessionResponse::Conflict => return Adoption::Conflict,
        other => return Adoption::Later(other),
    };
    let epoch = session.core().epoch();
    let state_gap = |from: Seq, to_before: Position, reason| Gap {
        session: start.session,
        epoch,
        from,
        to: to_before.next_seq.prev(),
        output_offset_after: to_before.output_offset,
        time_us,
        reason,
        chain_after: to_before.chain,
    };
    let mut response = match resume(spool, at) {
        Resume::Conflict => return Adoption::Conflict,
        Resume::Gap { from, to_before } => session.gap(&state_gap(from, to_before, gap_reason), now),
        Resume::From(next_seq) => SessionResponse::Written { next_seq },
    };
    let end = spool.end();
    loop {
        match response {
            SessionResponse::Written { next_seq } => at.next_seq = next_seq,
            SessionResponse::Conflict => return Adoption::Conflict,
            other => return Adoption::Later(other),
        }
        if at.next_seq >= end.next_seq {
            return Adoption::Done;
        }
        response = match spool.batch(at.next_seq) {
            Batch::Unreadable => {
                let busy = Busy { reason: BusyReason::Overloaded, retry_ms: BUSY_RETRY_MS };
                return Adoption::Later(SessionResponse::Busy(busy));
            }
            Batch::Hole(to) => session.gap(&state_gap(at.next_seq, to, GapReason::SpoolDamaged), now),
            Batch::Records { arrived, prev_chain, records, .. } => {
                let first_seq = at.next_seq;
                let request = Append { session: start.session, epoch, first_seq, prev_chain, records: Vec::new() };
                session.append(&request, &arrived, records, now)
            }
        };
    }
}
