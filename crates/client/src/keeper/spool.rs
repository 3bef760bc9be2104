//! The session's records until a log has made them durable: on disk, and in memory while the disk takes none.
//!
//! Two sides share it by `Arc`. The recorder appends: [`Spool::append`] numbers a record and stores it before it
//! returns. The shipper reads, through [`SpoolView`] (`first`, `end`, `chain_before`, `extent`) and
//! [`Spool::records`], gives away with [`Spool::trim`], forks, and sleeps with [`Spool::may_sleep`]: an append calls the
//! hook of [`Spool::wake_with`] only then, so that a busy session costs no wakeups and an idle one none at all.
//!
//! Promises that a record is in the spool before its bytes are shown (R1), that nothing but what is durable or over
//! the bound is dropped (R2), and that it lives whatever the disk does. Knows no sockets and no PTY.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};
use shellkeep_journal::{Chain, JournalError, Position, RecordKind, Seq, encode_record};
use shellkeep_protocol::attach::WhenFull;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::resume::Retained;
use shellkeep_protocol::session::{ATTRS_BYTES_MAX, Attrs, GapReason, SpoolAttrs};

use super::core::{Extent, SpoolView};
use super::disk::{Disk, Plan};
use super::output::History;
use super::ring::{RING_BYTES_MAX, Ring};
use super::spool_reader::{Run, SpoolReader};

/// Pause between two tries to get records from memory onto the disk.
const DISK_RETRY: Duration = Duration::from_secs(1);
/// Bytes moved from memory to the disk at once.
const FLUSH_BYTES: usize = 1 << 20;

/// The records of one session.
pub struct Spool {
    state: Mutex<State>,
    /// Reads the disk without the recorder's lock. Locked before `state`, never after.
    reader: Mutex<SpoolReader>,
    /// Next number, readable without a lock.
    next_seq: AtomicU64,
    shipper_sleeps: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Something was trimmed: an append that waits may go on.
    trimmed: Condvar,
}

struct State {
    end: Position,
    time_us: u64,
    /// How to make the part on disk; `None` if there is nowhere to.
    plan: Option<Plan>,
    disk: Option<Disk>,
    /// What comes behind the end of the disk's part, perhaps after a hole.
    ring: Ring,
    when_full: WhenFull,
    retry_at: Option<Instant>,
    /// Something was lost, or may be: told to the user once.
    complaint: Option<String>,
    /// Reused for encoding.
    encoded: Vec<u8>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("end", &self.end()).finish_non_exhaustive()
    }
}

impl Spool {
    /// An empty spool, on disk if that can be had by `plan`, else in memory until it can.
    pub fn new(plan: Option<Plan>, when_full: WhenFull) -> Self {
        let mut state = State {
            end: Position::START,
            time_us: 0,
            plan,
            disk: None,
            ring: Ring::default(),
            when_full,
            retry_at: None,
            complaint: None,
            encoded: Vec::new(),
        };
        state.make_disk();
        Self {
            state: Mutex::new(state),
            reader: Mutex::default(),
            next_seq: AtomicU64::new(Seq::FIRST.get()),
            shipper_sleeps: AtomicBool::new(false),
            wake: OnceLock::new(),
            trimmed: Condvar::new(),
        }
    }

    /// Numbers and stores one record, and wakes the shipper if it sleeps; returns the place before it. Waits only if
    /// the spool is full and told to block.
    pub fn append(&self, kind: RecordKind, payload: &[u8]) -> Position {
        let before = self.append_quietly(kind, payload);
        self.wake();
        before
    }

    /// The same for a caller in a hurry, who calls [`Self::wake`] when it has time.
    pub fn append_quietly(&self, kind: RecordKind, payload: &[u8]) -> Position {
        let mut state = self.state.lock();
        while state.when_full == WhenFull::Block && state.is_full() {
            self.trimmed.wait_for(&mut state, DISK_RETRY);
            state.flush();
        }
        let before = state.end;
        state.append(kind, payload);
        let next_seq = state.end.next_seq;
        drop(state);
        self.next_seq.store(next_seq.get(), Ordering::SeqCst);
        before
    }

    /// Wakes the shipper if it sleeps.
    pub fn wake(&self) {
        if self.shipper_sleeps.load(Ordering::SeqCst)
            && self.shipper_sleeps.swap(false, Ordering::SeqCst)
            && let Some(wake) = self.wake.get()
        {
            wake();
        }
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
        let mut reader = self.reader.lock();
        self.run(&mut reader, from, usize::MAX, Some(to));
        reader.take(from, to)
    }

    /// Forgets records below `below`: they are durable elsewhere.
    pub fn trim(&self, below: Seq) {
        let mut state = self.state.lock();
        if let Some(disk) = &mut state.disk {
            disk.trim(below);
        }
        state.ring.trim(below);
        drop(state);
        self.trimmed.notify_all();
    }

    /// The session goes on as another one, which is `attrs`.
    pub fn fork(&self, session: SessionId, attrs: &Attrs) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let encoded = encode_attrs(session, attrs);
        if let Some(plan) = &mut state.plan {
            plan.identity.attrs.clone_from(&encoded);
        }
        if let Some(disk) = &mut state.disk
            && let Err(error) = disk.fork(encoded)
        {
            // Adoption finds then that it belongs to somebody else, and forks it once more: nothing is lost.
            state.complain(&format!("the spool does not say that this is session {session} now: {error}"));
        }
    }

    /// Whether records exist in this process alone, because the disk takes none.
    pub fn is_in_memory(&self) -> bool {
        !self.state.lock().ring.is_empty()
    }

    /// What the user should know about this record, once.
    pub fn complaint(&self) -> Option<String> {
        self.state.lock().complaint.take()
    }

    /// Removes everything: it is durable elsewhere.
    pub fn remove(&self) {
        self.reader.lock().forget();
        if let Some(disk) = self.state.lock().disk.take() {
            disk.remove();
        }
    }

    /// Reads what lies at `from` into the reader's chunk.
    fn run(&self, reader: &mut SpoolReader, from: Seq, bytes_max: usize, to: Option<Seq>) -> Run {
        if reader.holds(from, to) {
            return reader.run();
        }
        let state = self.state.lock();
        let end = to.map_or(state.end.next_seq, |to| to.min(state.end.next_seq));
        match state.disk.as_ref().filter(|disk| from < disk.end().next_seq) {
            Some(disk) => {
                let (dir, disk_end) = (disk.dir(), disk.end());
                drop(state);
                let run = reader.read_disk(&dir, from, end.min(disk_end.next_seq), disk_end, bytes_max);
                if matches!(run, Run::Hole { .. }) && !dir.exists() {
                    self.state.lock().disk_is_gone();
                }
                run
            }
            None => reader.read_ring(&state.ring, from, end, bytes_max, state.end),
        }
    }
}

impl State {
    fn append(&mut self, kind: RecordKind, payload: &[u8]) {
        self.time_us = self.time_us.max(now_us());
        if self.ring.is_empty()
            && let Some(disk) = &mut self.disk
        {
            match append_behind(disk, self.end, kind, self.time_us, payload) {
                Ok(dropped) => {
                    self.end = disk.end();
                    if dropped {
                        self.complain("the spool is full while no daemon takes records; the oldest are lost");
                    }
                    return;
                }
                Err(error) => self.troubled(&error),
            }
        }
        self.append_to_memory(kind, payload);
    }

    fn append_to_memory(&mut self, kind: RecordKind, payload: &[u8]) {
        let before = self.end;
        self.encoded.clear();
        let Ok(after) = encode_record(&mut self.encoded, before, kind, self.time_us, payload) else {
            return; // beyond 2^62 records or bytes, or a payload that no caller makes
        };
        self.end = after;
        if self.ring.push(before, after, &self.encoded) {
            self.complain("the disk takes no records and memory is full; the oldest are lost");
        }
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.flush();
        }
    }

    /// Whether the next record would push an older one out.
    fn is_full(&self) -> bool {
        let memory = self.ring.bytes() + FLUSH_BYTES > RING_BYTES_MAX;
        self.disk.as_ref().map_or(memory, |disk| memory || disk.is_full())
    }

    fn make_disk(&mut self) {
        let Some(plan) = &self.plan else {
            self.complain("there is no spool on disk; only the newest records are kept until a daemon takes them");
            return;
        };
        let _again = crate::places::prepare(&plan.spools); // it may have been removed since
        match Disk::create(plan) {
            Ok(disk) => self.disk = Some(disk),
            Err(error) => self.troubled(&error),
        }
    }

    /// Somebody has removed the spool: what was only there is lost, what comes goes into a new one.
    fn disk_is_gone(&mut self) {
        if self.disk.take_if(|disk| !disk.dir().exists()).is_some() {
            self.complain("the spool was removed; what only it had is lost, a new one is made");
            self.retry_at = Some(Instant::now());
        }
    }

    fn troubled(&mut self, error: &JournalError) {
        self.retry_at = Some(Instant::now() + DISK_RETRY);
        self.complain(&format!("the spool is kept in memory for now: {error}"));
    }

    fn complain(&mut self, complaint: &str) {
        if self.complaint.is_none() {
            self.complaint = Some(complaint.to_owned());
        }
    }

    /// Moves what is in memory to the disk, with a gap before it if something was lost meanwhile.
    fn flush(&mut self) {
        self.retry_at = None;
        if self.disk.is_none() {
            self.make_disk();
        }
        if let Some(disk) = &mut self.disk
            && let Err(error) = flush_into(disk, &mut self.ring, self.time_us)
        {
            self.troubled(&error);
        }
        if self.disk.is_none() && self.plan.is_some() {
            self.retry_at = Some(Instant::now() + DISK_RETRY);
        }
    }
}

/// Appends to the disk what comes at `end`. Where records have gone from memory to the log and never to the disk, it says
/// so first: the disk's own next number is one that they had.
fn append_behind(
    disk: &mut Disk,
    end: Position,
    kind: RecordKind,
    time_us: u64,
    payload: &[u8],
) -> Result<bool, JournalError> {
    if disk.end() != end {
        disk.append_gap(time_us, end, GapReason::StoreLost)?; // lost only if the log loses them
    }
    disk.append(kind, time_us, payload)
}

fn flush_into(disk: &mut Disk, ring: &mut Ring, time_us: u64) -> Result<(), JournalError> {
    let mut batch = Vec::new();
    while let Some(front) = ring.front() {
        if front.before != disk.end() {
            disk.append_gap(time_us, front.before, GapReason::SpoolFull)?;
        }
        batch.clear();
        let mut behind = front.before.next_seq;
        for held in ring.from(front.before.next_seq) {
            if !batch.is_empty() && batch.len() + held.bytes.len() > FLUSH_BYTES {
                break;
            }
            batch.extend_from_slice(&held.bytes);
            behind = held.after.next_seq;
        }
        disk.append_encoded(&batch)?;
        ring.trim(behind);
    }
    Ok(())
}

impl Retained for Spool {
    fn first(&self) -> Position {
        let state = self.state.lock();
        let on_disk = state.disk.as_ref().filter(|disk| disk.first() != disk.end()).map(Disk::first);
        let in_memory = || state.ring.front().map(|held| held.before);
        on_disk.or_else(in_memory).unwrap_or(state.end)
    }

    fn end(&self) -> Position {
        self.state.lock().end
    }

    fn chain_before(&self, seq: Seq) -> Option<Chain> {
        let state = self.state.lock();
        if seq == state.end.next_seq {
            return Some(state.end.chain);
        }
        let held = state.ring.from(seq).next().filter(|held| held.before.next_seq == seq);
        let in_memory = held.map(|held| held.before.chain);
        in_memory.or_else(|| state.disk.as_ref()?.chain_before(seq))
    }
}

impl SpoolView for Spool {
    fn extent(&self, from: Seq, bytes_max: u32) -> Extent {
        let mut reader = self.reader.lock();
        match self.run(&mut reader, from, bytes_max as usize, None) {
            Run::Records { after, bytes } => {
                Extent::Records { to: after, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
            }
            Run::Hole { after, reason } => Extent::Hole { to: after, reason },
            Run::Unreadable => Extent::Unreadable,
        }
    }
}

impl History for Spool {
    fn output_from(&self, offset: u64, bytes_max: usize, out: &mut Vec<u8>) -> bool {
        let state = self.state.lock();
        match state.disk.as_ref().filter(|disk| offset < disk.end().output_offset) {
            Some(disk) => {
                let (dir, end) = (disk.dir(), disk.end().next_seq);
                drop(state);
                super::spool_reader::output_on_disk(&dir, end, offset, bytes_max, out)
            }
            None => super::spool_reader::output_in_ring(&state.ring, offset, bytes_max, out),
        }
    }
}

/// What a spool says of itself. Only an absurdly long command line does not fit, and is then left out.
pub fn encode_attrs(session: SessionId, attrs: &Attrs) -> Vec<u8> {
    let mut said = SpoolAttrs { session, attrs: attrs.clone() };
    let mut bytes = Vec::new();
    if shellkeep_transport::encode_into(&said, &mut bytes, ATTRS_BYTES_MAX).is_err() {
        said.attrs.command.truncate(1);
        bytes.clear();
        // Fails again only if the program's name alone is too long, and no system executes such a one.
        let _fits = shellkeep_transport::encode_into(&said, &mut bytes, ATTRS_BYTES_MAX);
    }
    bytes
}

/// Microseconds since the Unix epoch.
pub fn now_us() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
