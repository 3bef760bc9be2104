//! Which records to send next, what may be forgotten, and when to go back: a pure machine over numbers and checksums.
//!
//! Promise: nothing is trimmed that the daemon did not call durable on this connection, in this log, under this
//! grant; what cannot be sent any more becomes a gap, never silence. Knows no bytes, files or sockets: the simulation
//! and the keeper's shipper drive the same code. Source of the rules: docs/wire.md, "Session conversation".

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use shellkeep_journal::{Chain, Seq};
use shellkeep_protocol::ids::{SessionId, StoreId, WriterId};
use shellkeep_protocol::resume::{Resume, Retained, resume};
use shellkeep_protocol::session::{
    APPEND_BYTES_MAX, Attrs, Durable, GapReason, Position, SessionPush, SessionResponse, SessionStart, Welcome,
};

/// Shortest and longest pause after `Busy`, whatever the daemon asks for.
const BUSY_PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(2);

/// Places that are remembered of what was sent. A log that ends at an older one, where the spool has a hole by now, is not
/// known as ours: then the session goes on in a new one, which says so.
const SENT_ENDS_MAX: usize = 1_024;

/// Pause before what could not be read is looked at again.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(1);

/// What lies at a place of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Whole records from the place to `to`, `bytes` long as encoded.
    Records {
        /// Behind the last of them.
        to: Position,
        /// Encoded length.
        bytes: u32,
    },
    /// Nothing from the place to `to`; records go on there.
    Hole {
        /// Where records go on.
        to: Position,
        /// Why.
        reason: GapReason,
    },
    /// It cannot be told now, for want of descriptors or memory.
    Unreadable,
}

/// The spool as the machine sees it.
pub trait SpoolView: Retained {
    /// What lies at `from`, which is at least `first` and before `end`: at most `bytes_max` of records, but at least
    /// one record.
    fn extent(&self, from: Seq, bytes_max: u32) -> Extent;
}

/// What the shipper must do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send the records from `from` up to, not including, `to`.
    Append {
        /// First record.
        from: Seq,
        /// Chain before it.
        prev_chain: Chain,
        /// Behind the last record.
        to: Seq,
    },
    /// Say that records are lost.
    Gap {
        /// First lost record.
        from: Seq,
        /// Where records go on.
        to_before: Position,
        /// Why.
        reason: GapReason,
    },
    /// Forget records below this; whole segments only.
    Trim(Seq),
    /// Nothing more can be learned on this connection: dial again.
    Reconnect,
    /// The log has other records: go on in a new session that names this one as its parent.
    Fork,
}

/// The sending side of one session.
#[derive(Debug, Clone)]
pub struct KeeperCore {
    session: SessionId,
    writer: WriterId,
    epoch_known: u32,
    forked: bool,
    /// Everything below was called durable by some log of this session.
    given_away: Seq,
    /// Places where something that was sent has ended, the newest last: proof of a log's end that the spool has lost.
    sent_ends: VecDeque<(Seq, Chain)>,
    live: Option<Live>,
}

/// One accepted start on one connection.
#[derive(Debug, Clone)]
struct Live {
    generation: u64,
    epoch: u32,
    store: StoreId,
    window_bytes: u32,
    /// Next record to send.
    sent: Seq,
    /// Chain before `sent`.
    sent_chain: Chain,
    /// The log's end as last answered.
    written: Seq,
    outstanding: VecDeque<u32>,
    outstanding_bytes: u32,
    hold: Hold,
}

/// Why nothing is sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    No,
    /// Until all outstanding requests are answered; then from `resume`, not before `not_before`.
    Draining {
        resume: Option<Position>,
        not_before: Option<Instant>,
    },
    /// Drained; waiting for this moment.
    Until {
        resume: Option<Position>,
        at: Instant,
    },
}

impl KeeperCore {
    /// A session that no daemon has heard of yet.
    #[must_use]
    pub fn new(session: SessionId, writer: WriterId) -> Self {
        Self {
            session,
            writer,
            epoch_known: 0,
            forked: false,
            given_away: Seq::FIRST,
            sent_ends: VecDeque::new(),
            live: None,
        }
    }

    /// The session that is recorded now; another one after [`Self::fork`].
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The grant in force, for requests.
    pub fn epoch(&self) -> u32 {
        self.live.as_ref().map_or(self.epoch_known, |live| live.epoch)
    }

    /// Whether a daemon takes records now.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The full state, first on every connection.
    pub fn start(&self, spool: &impl SpoolView, attrs: Attrs) -> SessionStart {
        let (first, end) = (spool.first(), spool.end());
        SessionStart {
            session: self.session,
            writer: self.writer,
            epoch_known: self.epoch_known,
            first_retained: first.next_seq,
            chain_before_first: first.chain,
            next_seq: end.next_seq,
            chain_at_end: end.chain,
            attrs,
        }
    }

    /// A start was accepted on connection `generation`.
    pub fn welcomed(
        &mut self,
        generation: u64,
        welcome: &Welcome,
        spool: &impl SpoolView,
        now: Instant,
    ) -> Vec<Output> {
        self.epoch_known = self.epoch_known.max(welcome.epoch);
        self.live = Some(Live {
            generation,
            epoch: welcome.epoch,
            store: welcome.store,
            window_bytes: welcome.window_bytes,
            sent: welcome.end.next_seq,
            sent_chain: welcome.end.chain,
            written: welcome.end.next_seq,
            outstanding: VecDeque::new(),
            outstanding_bytes: 0,
            hold: Hold::No,
        });
        let mut outputs = Vec::new();
        if self.go_on(welcome.end, spool, &mut outputs) {
            self.durable(welcome.durable_seq, spool, &mut outputs);
            self.send(spool, now, &mut outputs);
        }
        outputs
    }

    /// The session's owner, or its records, are others: from now on this is a new session.
    pub fn fork(&mut self, session: SessionId) {
        self.session = session;
        self.epoch_known = 0;
        self.forked = true;
        self.sent_ends.clear();
        self.live = None;
    }

    /// There are new records in the spool.
    pub fn recorded(&mut self, spool: &impl SpoolView, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.send(spool, now, &mut outputs);
        outputs
    }

    /// The oldest outstanding request of connection `generation` was answered.
    pub fn answered(
        &mut self,
        generation: u64,
        response: &SessionResponse,
        spool: &impl SpoolView,
        now: Instant,
    ) -> Vec<Output> {
        let mut outputs = Vec::new();
        let Some(live) = self.live.as_mut().filter(|live| live.generation == generation) else {
            return outputs; // a late answer of a connection that is over
        };
        if let Some(bytes) = live.outstanding.pop_front() {
            live.outstanding_bytes -= bytes;
        }
        match response {
            SessionResponse::Written { next_seq } => live.written = live.written.max(*next_seq),
            SessionResponse::Expect(end) => live.hold = Hold::draining(live.hold, Some(*end), None),
            SessionResponse::Busy(busy) => {
                let pause = Duration::from_millis(busy.retry_ms.into()).clamp(*BUSY_PAUSE.start(), *BUSY_PAUSE.end());
                live.hold = Hold::draining(live.hold, None, Some(now + pause));
            }
            SessionResponse::Conflict => {
                self.live = None;
                outputs.push(Output::Fork);
                return outputs;
            }
            SessionResponse::Refused(_) | SessionResponse::Welcome(_) | SessionResponse::Invalid { .. } => {
                self.live = None;
                outputs.push(Output::Reconnect);
                return outputs;
            }
        }
        self.progress(spool, now, &mut outputs);
        outputs
    }

    /// Requests that the machine asked for could not be handed to the connection: nothing from `from` on was sent.
    pub fn unsent(&mut self, from: Seq, prev_chain: Chain) {
        if let Some(live) = self.live.as_mut().filter(|live| live.sent > from) {
            live.sent = from;
            live.sent_chain = prev_chain;
            if let Some(bytes) = live.outstanding.pop_back() {
                live.outstanding_bytes -= bytes;
            }
        }
    }

    /// The connection is over; everything that was not called durable is sent again on the next one.
    pub fn lost(&mut self, generation: u64) {
        if self.live.as_ref().is_some_and(|live| live.generation == generation) {
            self.live = None;
        }
    }

    /// The daemon said something unasked on connection `generation`.
    pub fn pushed(&mut self, generation: u64, push: &SessionPush, spool: &impl SpoolView, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        let session = self.session;
        let Some(live) = self.live.as_mut().filter(|live| live.generation == generation) else {
            return outputs;
        };
        match push {
            SessionPush::Durable(Durable { session: of, store, epoch, durable_seq })
                if *of == session && *store == live.store && *epoch == live.epoch =>
            {
                let durable_seq = *durable_seq;
                self.durable(durable_seq, spool, &mut outputs);
            }
            SessionPush::Expect { session: of, epoch, end } if *of == session && *epoch == live.epoch => {
                live.hold = Hold::draining(live.hold, Some(*end), None);
                live.written = end.next_seq;
                self.progress(spool, now, &mut outputs);
            }
            _ => {} // of another log, grant or session: says nothing about this one
        }
        outputs
    }

    /// When [`Self::tick`] must be called.
    pub fn wake_at(&self) -> Option<Instant> {
        match self.live.as_ref()?.hold {
            Hold::Until { at, .. } => Some(at),
            _ => None,
        }
    }

    /// The moment of [`Self::wake_at`] has come.
    pub fn tick(&mut self, spool: &impl SpoolView, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.progress(spool, now, &mut outputs);
        outputs
    }

    /// Whether the log has written everything up to `end`.
    pub fn is_written(&self, end: Seq) -> bool {
        self.live.as_ref().is_some_and(|live| live.written >= end && live.hold == Hold::No)
    }

    /// Whether a log called everything below `end` durable.
    pub fn is_durable(&self, end: Seq) -> bool {
        self.given_away >= end
    }

    /// Ends a hold that is over, then sends.
    fn progress(&mut self, spool: &impl SpoolView, now: Instant, outputs: &mut Vec<Output>) {
        let Some(live) = self.live.as_mut() else { return };
        if let Hold::Draining { resume, not_before } = live.hold
            && live.outstanding.is_empty()
        {
            live.hold = Hold::Until { resume, at: not_before.unwrap_or(now) };
        }
        if let Hold::Until { resume, at } = live.hold {
            if at > now {
                return;
            }
            live.hold = Hold::No;
            match resume {
                Some(end) if !self.go_on(end, spool, outputs) => return,
                Some(_) => {}
                None => self.repeat(spool),
            }
        }
        self.send(spool, now, outputs);
    }

    /// Sends from the log's end on; false when that cannot be.
    fn go_on(&mut self, end: Position, spool: &impl SpoolView, outputs: &mut Vec<Output>) -> bool {
        if resume(spool, end) == Resume::Conflict && !self.ends_in_a_hole(spool, end) {
            self.live = None;
            outputs.push(Output::Fork);
            return false;
        }
        if let Some(live) = self.live.as_mut() {
            live.sent = end.next_seq;
            live.sent_chain = end.chain;
            live.written = end.next_seq;
        }
        true
    }

    /// Whether a log ends where something that was sent has ended, and the spool has lost what stood there since: then it is
    /// ours, and a gap comes next.
    fn ends_in_a_hole(&self, spool: &impl SpoolView, end: Position) -> bool {
        self.sent_ends.contains(&(end.next_seq, end.chain))
            && matches!(spool.extent(end.next_seq, 1), Extent::Hole { .. })
    }

    /// Goes back to what was last answered as written: all requests are answered, so the log ends there.
    fn repeat(&mut self, spool: &impl SpoolView) {
        if let Some(live) = self.live.as_mut() {
            live.sent = live.written;
            // Where the spool cannot say, a gap comes next, which needs no proof of what lies before.
            live.sent_chain = spool.chain_before(live.written).unwrap_or(Chain::START);
        }
    }

    /// Asks for as many requests as the window allows.
    fn send(&mut self, spool: &impl SpoolView, now: Instant, outputs: &mut Vec<Output>) {
        let (first, end) = (spool.first(), spool.end());
        let (forked, given_away) = (self.forked, self.given_away);
        let Some(live) = self.live.as_mut().filter(|live| live.hold == Hold::No) else { return };
        if live.sent < first.next_seq {
            let reason = match (forked, live.sent < given_away) {
                (true, _) => GapReason::Forked,
                (false, true) => GapReason::StoreLost,
                (false, false) => GapReason::SpoolFull,
            };
            live.gap(first, reason, outputs);
            note(&mut self.sent_ends, first);
        }
        while live.sent < end.next_seq && live.outstanding_bytes < live.window_bytes {
            let room = (live.window_bytes - live.outstanding_bytes).min(APPEND_BYTES_MAX);
            match spool.extent(live.sent, room) {
                Extent::Records { to, bytes } => {
                    outputs.push(Output::Append { from: live.sent, prev_chain: live.sent_chain, to: to.next_seq });
                    live.sent = to.next_seq;
                    live.sent_chain = to.chain;
                    live.outstanding.push_back(bytes);
                    live.outstanding_bytes += bytes;
                    note(&mut self.sent_ends, to);
                }
                Extent::Hole { to, reason } => {
                    live.gap(to, reason, outputs);
                    note(&mut self.sent_ends, to);
                }
                Extent::Unreadable => {
                    let at = now + UNREADABLE_PAUSE;
                    live.hold = if live.outstanding.is_empty() {
                        Hold::Until { resume: None, at }
                    } else {
                        Hold::draining(live.hold, None, Some(at))
                    };
                    return;
                }
            }
        }
    }

    /// The log called everything up to `durable_seq` durable.
    fn durable(&mut self, durable_seq: u64, spool: &impl SpoolView, outputs: &mut Vec<Output>) {
        let below = Seq::new(durable_seq.saturating_add(1)).min(spool.end().next_seq);
        if below > spool.first().next_seq {
            outputs.push(Output::Trim(below));
        }
        self.given_away = self.given_away.max(below);
    }
}

/// Remembers a place where something that is sent ends.
fn note(sent_ends: &mut VecDeque<(Seq, Chain)>, end: Position) {
    if sent_ends.len() == SENT_ENDS_MAX {
        sent_ends.pop_front();
    }
    sent_ends.push_back((end.next_seq, end.chain));
}

impl Live {
    fn gap(&mut self, to_before: Position, reason: GapReason, outputs: &mut Vec<Output>) {
        outputs.push(Output::Gap { from: self.sent, to_before, reason });
        self.sent = to_before.next_seq;
        self.sent_chain = to_before.chain;
        self.outstanding.push_back(0);
    }
}

impl Hold {
    /// Joins a reason to pause to the one in force: the newest word on the log's end and the latest moment count.
    fn draining(self, end: Option<Position>, until: Option<Instant>) -> Self {
        let (resume, not_before) = match self {
            Self::No => (None, None),
            Self::Draining { resume, not_before } => (resume, not_before),
            Self::Until { resume, at } => (resume, Some(at)),
        };
        Self::Draining { resume: end.or(resume), not_before: until.max(not_before) }
    }
}
