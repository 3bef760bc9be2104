//! The session's records until a log has made them durable: on disk, and in memory while the disk takes none.
//!
//! Two sides share it by `Arc`. The recorder appends: [`Spool::append`] numbers a record and stores it before it
//! returns. The shipper reads, through [`SpoolView`] (`first`, `end`, `chain_before`, `extent`) and
//! [`Spool::records`], gives away with [`Spool::trim`], and sleeps with [`Spool::may_sleep`]: an append calls the
//! hook of [`Spool::wake_with`] only then, so that a busy session costs no wakeups and an idle one none at all.
//!
//! Promises that a record is in the spool before its bytes are shown (R1), that nothing but what is durable or over
//! the bound is dropped (R2), and that it lives whatever the disk does. Knows no sockets and no PTY.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};
use shellkeep_journal::{Chain, Position, RecordKind, Seq, encode_record};
use shellkeep_protocol::attach::WhenFull;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::resume::Retained;
use shellkeep_protocol::session::Attrs;

use super::core::{Extent, SpoolView};
use super::output::History;
use super::ring::Ring;

/// The records of one session.
pub struct Spool {
    state: Mutex<State>,
    /// Next number, readable without the lock.
    next_seq: AtomicU64,
    shipper_sleeps: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Something was trimmed: an append that waits may go on.
    trimmed: Condvar,
}

struct State {
    end: Position,
    time_us: u64,
    ring: Ring,
    /// Reused for encoding.
    encoded: Vec<u8>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("end", &self.end()).finish_non_exhaustive()
    }
}

impl Spool {
    /// A spool in memory alone.
    pub fn in_memory(_when_full: WhenFull) -> Self {
        let state = State { end: Position::START, time_us: 0, ring: Ring::default(), encoded: Vec::new() };
        Self {
            state: Mutex::new(state),
            next_seq: AtomicU64::new(Seq::FIRST.get()),
            shipper_sleeps: AtomicBool::new(false),
            wake: OnceLock::new(),
            trimmed: Condvar::new(),
        }
    }

    /// Numbers and stores one record; returns the place before it.
    pub fn append(&self, kind: RecordKind, payload: &[u8]) -> Position {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.time_us = state.time_us.max(now_us());
        let before = state.end;
        state.encoded.clear();
        let Ok(after) = encode_record(&mut state.encoded, before, kind, state.time_us, payload) else {
            return before; // beyond 2^62 records or bytes, or a payload that no caller makes
        };
        state.ring.push(before, after, &state.encoded);
        state.end = after;
        drop(guard);
        self.next_seq.store(after.next_seq.get(), Ordering::SeqCst);
        if self.shipper_sleeps.load(Ordering::SeqCst) && self.shipper_sleeps.swap(false, Ordering::SeqCst) {
            if let Some(wake) = self.wake.get() {
                wake();
            }
        }
        before
    }

    /// Sets what wakes the shipper; once.
    pub fn wake_with(&self, wake: Box<dyn Fn() + Send + Sync>) {
        let _only_once = self.wake.set(wake);
    }

    /// Whether the shipper, which has seen everything below `seen`, may sleep until the hook is called.
    pub fn may_sleep(&self, seen: Seq) -> bool {
        self.shipper_sleeps.store(true, Ordering::SeqCst);
        let nothing_new = self.next_seq.load(Ordering::SeqCst) <= seen.get();
        if !nothing_new {
            self.shipper_sleeps.store(false, Ordering::SeqCst);
        }
        nothing_new
    }

    /// The encoded records from `from` up to, not including, `to`; `None` if they are not all there.
    pub fn records(&self, from: Seq, to: Seq) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let mut bytes = Vec::new();
        let mut next = from;
        for held in state.ring.from(from).take_while(|held| held.before.next_seq < to) {
            if held.before.next_seq != next {
                return None;
            }
            bytes.extend_from_slice(&held.bytes);
            next = held.after.next_seq;
        }
        (next == to).then_some(bytes)
    }

    /// The records belong to `session` from now on.
    pub fn fork(&self, _session: SessionId, _attrs: &Attrs) {
        // In memory alone there is no header that others would adopt it by.
    }

    /// Forgets records below `below`: they are durable elsewhere.
    pub fn trim(&self, below: Seq) {
        self.state.lock().ring.trim(below);
        self.trimmed.notify_all();
    }
}

impl Retained for Spool {
    fn first(&self) -> Position {
        let state = self.state.lock();
        state.ring.front().map_or(state.end, |held| held.before)
    }

    fn end(&self) -> Position {
        self.state.lock().end
    }

    fn chain_before(&self, seq: Seq) -> Option<Chain> {
        let state = self.state.lock();
        if seq == state.end.next_seq {
            return Some(state.end.chain);
        }
        let held = state.ring.from(seq).next()?;
        (held.before.next_seq == seq).then_some(held.before.chain)
    }
}

impl SpoolView for Spool {
    fn extent(&self, from: Seq, bytes_max: u32) -> Extent {
        let state = self.state.lock();
        let mut to = state.end;
        let mut bytes = 0;
        for held in state.ring.from(from) {
            let length = u32::try_from(held.bytes.len()).unwrap_or(u32::MAX);
            if bytes == 0 && held.before.next_seq != from {
                return Extent::Hole { to: held.before };
            }
            if bytes > 0 && length > bytes_max.saturating_sub(bytes) {
                break;
            }
            bytes += length;
            to = held.after;
        }
        if bytes == 0 { Extent::Hole { to: state.end } } else { Extent::Records { to, bytes } }
    }
}

impl History for Spool {
    fn output_from(&self, offset: u64, bytes_max: usize, out: &mut Vec<u8>) -> bool {
        let state = self.state.lock();
        let mut next = offset;
        for held in state.ring.from_offset(offset) {
            if held.before.output_offset > next || out.len() >= bytes_max {
                break;
            }
            let skipped = usize::try_from(next - held.before.output_offset).unwrap_or(usize::MAX);
            let payload = &held.bytes[shellkeep_journal::RECORD_HEADER_BYTES..];
            if held.after.output_offset > held.before.output_offset {
                out.extend_from_slice(payload.get(skipped..).unwrap_or(&[]));
                next = held.after.output_offset;
            }
        }
        next > offset
    }
}

/// Microseconds since the Unix epoch.
pub fn now_us() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
