//! Output on its way to one terminal: a bounded queue that must never hold up the session for long.
//!
//! Promises every byte in order while the terminal takes them. Only the terminal that leads may hold the session up,
//! and only for its patience; then it is left behind, and on its return gets what it missed from the record, or a
//! redraw if that is too much. Small chunks are written in place, without a thread. Knows neither the PTY nor records,
//! only the offsets of output bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use shellkeep_protocol::attach::{ATTACH_CHUNK_BYTES_MAX, FromKeeper};

use super::sink::Sink;
use crate::link;

/// Bytes that may wait for one terminal. At the limit the session waits for the terminal that leads, and any other is
/// left behind.
pub const QUEUE_BYTES_MAX: usize = 128 << 10;
/// Longest chunk that is written in place. A longer one is bulk, which is faster through the queue: a PTY master gives
/// at most 4095 bytes a read.
const IN_PLACE_BYTES_MAX: usize = 2 << 10;
/// Most bytes that a terminal gets from the record when it returns. What is more scrolls by unread.
pub const CATCH_UP_BYTES_MAX: u64 = 1 << 20;
/// Bytes read from the record at a time.
const CATCH_UP_STEP_BYTES: usize = 256 << 10;
/// Longest wait for a write in progress to end when a terminal pauses.
const PAUSE_WAIT_MAX: Duration = Duration::from_secs(1);
/// Stack of a writing thread, which does nothing deep but read the record.
const STACK_BYTES: usize = 128 << 10;
/// Ends an escape sequence of which only a part was shown. Source: ECMA-48, CAN.
const CANCEL: u8 = 0x18;

const _: () = assert!(IN_PLACE_BYTES_MAX < QUEUE_BYTES_MAX);

/// The output that was recorded.
pub trait History: Send + Sync {
    /// Appends output from byte `offset` of the session on to `out`, at the most `bytes_max` bytes; false if it is not
    /// there any more.
    fn output_from(&self, offset: u64, bytes_max: usize, out: &mut Vec<u8>) -> bool;
}

/// How the session treats one terminal.
pub struct Terms {
    /// How long the terminal may accept nothing before it is left behind; for ever if `None`.
    pub patience: Option<Duration>,
    /// Where missing bytes come from.
    pub history: Arc<dyn History>,
    /// Makes the programs draw their screen again.
    pub redraw: Arc<dyn Fn() + Send + Sync>,
    /// Tells a terminal that understands it that it missed too much; it is paused until [`Output::resume_at`].
    pub behind: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// Output on its way to one terminal.
pub struct Output {
    state: Mutex<State>,
    /// There is something to write.
    work: Condvar,
    /// There is room, or the writer has stopped or finished.
    moved: Condvar,
    /// Milliseconds since `born` at which the terminal last took a byte.
    accepted_ms: AtomicU64,
    born: Instant,
    terms: Terms,
}

#[allow(clippy::struct_excessive_bools)] // independent facts; their combinations are all legal
struct State {
    /// `None` once the terminal has gone.
    sink: Option<Arc<Sink>>,
    queue: Vec<u8>,
    /// Offset in the session behind the last byte queued.
    offset: u64,
    /// Offset in the session behind the last byte recorded, as far as told.
    live: u64,
    paused: bool,
    /// It was resumed once: before that it only needs a moment, and nothing may be missing from its first screen.
    begun: bool,
    /// Bytes between `offset` and `live` are missing from the queue.
    behind: bool,
    /// The command has ended: what is still to come is bounded, so nobody waits any more.
    ended: bool,
    /// A thread exists that writes the queue.
    writer: bool,
    /// The writer holds bytes that it has not written yet.
    in_hand: bool,
    /// The writer is in a system call.
    writing: bool,
}

impl Output {
    /// Output to `sink` from byte `offset` of the session on, paused.
    pub fn new(sink: Sink, offset: u64, terms: Terms) -> Arc<Self> {
        let state = State {
            sink: Some(Arc::new(sink)),
            queue: Vec::new(),
            offset,
            live: offset,
            paused: true,
            begun: false,
            behind: false,
            ended: false,
            writer: false,
            in_hand: false,
            writing: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            moved: Condvar::new(),
            accepted_ms: AtomicU64::new(0),
            born: Instant::now(),
            terms,
        })
    }

    /// Shows a chunk that begins at byte `offset` of the session and was recorded. `leads`: may hold the caller up.
    pub fn show(self: &Arc<Self>, offset: u64, chunk: &[u8], leads: bool) {
        let mut state = self.state.lock();
        state.live = offset + chunk.len() as u64;
        if (state.behind && !self.wait_until_caught_up(&mut state, leads)) || state.sink.is_none() {
            return;
        }
        // A terminal attached just now may have begun after this chunk was recorded, or before one that it never saw.
        let Some(chunk) = state.offset.checked_sub(offset).map(|known| chunk.get(cut(known)..).unwrap_or(&[])) else {
            self.leave_behind(&mut state);
            return;
        };
        if chunk.is_empty() {
            return;
        }
        let shown = if chunk.len() <= IN_PLACE_BYTES_MAX { state.write_in_place(chunk) } else { 0 };
        let rest = &chunk[shown..];
        if !rest.is_empty() && self.wait_for_room(&mut state, rest.len(), leads) {
            state.push(rest);
            self.wake_writer(&mut state);
        }
    }

    /// Says something to the terminal behind all output before; only for a relay.
    pub fn say(self: &Arc<Self>, message: &FromKeeper<'_>) {
        let mut state = self.state.lock();
        if state.sink.is_some() && link::frame(message, &mut state.queue).is_ok() {
            self.wake_writer(&mut state);
        }
    }

    /// Shows nothing more until [`Self::resume`]. When it returns no write is in progress.
    pub fn pause(&self) {
        let mut state = self.state.lock();
        state.paused = true;
        if let Some(sink) = &state.sink {
            sink.kick();
        }
        let deadline = Instant::now() + PAUSE_WAIT_MAX;
        while state.writing && !self.moved.wait_until(&mut state, deadline).timed_out() {}
    }

    /// Goes on showing, from where it stopped.
    pub fn resume(self: &Arc<Self>) {
        let mut state = self.state.lock();
        (state.paused, state.begun) = (false, true);
        self.accepts();
        if state.behind || state.in_hand || !state.queue.is_empty() {
            self.wake_writer(&mut state);
        }
    }

    /// Goes on showing, with a screen first and then from byte `offset` of the session on, which is what comes next on
    /// that screen. False, and nothing has changed, if those bytes cannot be had.
    pub fn resume_at(self: &Arc<Self>, offset: u64, screen: &[u8]) -> bool {
        let mut state = self.state.lock();
        let State { queue, offset: queued_to, live, .. } = &mut *state;
        // What waits begins here, if everything in the queue is output.
        let tail = usize::try_from(queued_to.saturating_sub(offset)).ok().filter(|tail| *tail <= queue.len());
        let from_record = tail.is_none() || *queued_to < offset;
        if from_record && live.saturating_sub(offset) > CATCH_UP_BYTES_MAX {
            return false;
        }
        let rest = queue.split_off(queue.len() - tail.filter(|_| !from_record).unwrap_or(0));
        queue.clear();
        queue.reserve_exact(1 + screen.len() + rest.len());
        if state.begun {
            state.queue.push(CANCEL);
        }
        let State { queue, offset: queued_to, live, .. } = &mut *state;
        queue.extend_from_slice(screen);
        queue.extend_from_slice(&rest);
        if from_record {
            *queued_to = offset;
            // What the daemon has already may not have been shown to anybody yet.
            *live = offset.max(*live);
            state.behind = state.live > offset;
        }
        (state.paused, state.begun) = (false, true);
        self.accepts();
        self.wake_writer(&mut state);
        true
    }

    /// The command has ended: from now on nobody waits for this terminal.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.moved.notify_all();
    }

    /// Waits until everything was written, as long as the terminal accepts something within `stall`; for ever if
    /// `None`. True if it was.
    pub fn drain(&self, stall: Option<Duration>) -> bool {
        let begun = self.now_ms();
        let mut state = self.state.lock();
        while state.sink.is_some() && (state.behind || state.in_hand || !state.queue.is_empty()) {
            let left = stall.map(|stall| stall.saturating_sub(self.stuck_since(begun)));
            match left {
                Some(left) if left.is_zero() => return false,
                Some(left) => drop(self.moved.wait_for(&mut state, left)),
                None => self.moved.wait(&mut state),
            }
        }
        true
    }

    /// Whether the terminal took something, or came back, within `wait`.
    pub fn accepted_within(&self, wait: Duration) -> bool {
        self.stuck_since(0) < wait
    }

    /// Lets the terminal go: its tty is closed at once, or as soon as a write in progress returns.
    pub fn close(&self) -> Option<Arc<Sink>> {
        let mut state = self.state.lock();
        let sink = state.sink.take();
        if let Some(sink) = &sink {
            sink.kick();
        }
        state.queue = Vec::new();
        self.work.notify_all();
        self.moved.notify_all();
        sink
    }

    /// Waits until `bytes` fit into the queue; false if they must not be queued.
    fn wait_for_room(self: &Arc<Self>, state: &mut MutexGuard<'_, State>, bytes: usize, leads: bool) -> bool {
        let begun = self.now_ms();
        while state.queue.len() + bytes > QUEUE_BYTES_MAX && !state.ended {
            if !leads || (state.paused && state.begun) {
                self.leave_behind(state);
                return false;
            }
            let Some(patience) = self.terms.patience else {
                self.moved.wait(state);
                if state.sink.is_none() {
                    return false;
                }
                continue;
            };
            let left = patience.saturating_sub(self.stuck_since(begun));
            if left.is_zero() {
                self.leave_behind(state);
                return false;
            }
            self.moved.wait_for(state, left);
            if state.sink.is_none() || state.behind {
                return false;
            }
        }
        true
    }

    /// Waits while a terminal that leads is given what it missed, and takes it; false if it is still behind.
    fn wait_until_caught_up(&self, state: &mut MutexGuard<'_, State>, leads: bool) -> bool {
        while state.behind && state.sink.is_some() {
            let left = self.terms.patience.map(|patience| patience.saturating_sub(self.stuck_since(0)));
            if !leads || state.paused || state.ended || left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            match left {
                Some(left) => drop(self.moved.wait_for(state, left)),
                None => self.moved.wait(state),
            }
        }
        true
    }

    fn leave_behind(self: &Arc<Self>, state: &mut MutexGuard<'_, State>) {
        state.behind = true;
        self.wake_writer(state);
    }

    fn wake_writer(self: &Arc<Self>, state: &mut MutexGuard<'_, State>) {
        if state.writer {
            self.work.notify_one();
            return;
        }
        let this = Arc::clone(self);
        let spawned =
            thread::Builder::new().name("output".to_owned()).stack_size(STACK_BYTES).spawn(move || this.write_queue());
        state.writer = spawned.is_ok();
        if spawned.is_err() {
            state.sink = None; // without a thread a stuck terminal would stop the session
        }
    }

    /// Notes that the terminal is alive.
    fn accepts(&self) {
        self.accepted_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// How long the terminal has accepted nothing, at the longest since `begun_ms`.
    fn stuck_since(&self, begun_ms: u64) -> Duration {
        let last = self.accepted_ms.load(Ordering::Relaxed).max(begun_ms);
        Duration::from_millis(self.now_ms().saturating_sub(last))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl State {
    /// Bytes written in place; the rest must be queued.
    fn write_in_place(&mut self, chunk: &[u8]) -> usize {
        let Some(sink) = &self.sink else { return chunk.len() };
        let idle = self.queue.is_empty() && !self.in_hand && !self.paused;
        if !idle || !sink.never_blocks() || sink.is_relay() {
            return 0;
        }
        match sink.write(chunk) {
            Ok(count) => {
                self.offset += count as u64;
                count
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.sink = None; // hung up; its connection will end too
                chunk.len()
            }
        }
    }

    /// Queues output in the form that the terminal expects.
    fn push(&mut self, bytes: &[u8]) {
        if self.sink.as_ref().is_some_and(|sink| sink.is_relay()) {
            frame_output(bytes, &mut self.queue);
        } else {
            self.queue.extend_from_slice(bytes);
        }
        self.offset += bytes.len() as u64;
    }
}

/// Appends output as messages.
fn frame_output(bytes: &[u8], out: &mut Vec<u8>) {
    for part in bytes.chunks(ATTACH_CHUNK_BYTES_MAX) {
        // Fails only above the frame limit, which a chunk cannot reach.
        let _fits = link::frame(&FromKeeper::Output(part), out);
    }
}

fn cut(known: u64) -> usize {
    usize::try_from(known).unwrap_or(usize::MAX)
}

/// What the writing thread does next.
enum Next {
    Write(Arc<Sink>),
    CatchUp(Arc<Sink>),
    End,
}

impl Output {
    /// The writing thread.
    fn write_queue(&self) {
        let mut batch = Vec::new();
        loop {
            match self.next(&mut batch) {
                Next::Write(sink) => self.write_all(&sink, &batch),
                Next::CatchUp(sink) => self.catch_up(&sink, &mut batch),
                Next::End => return,
            }
            batch.clear();
        }
    }

    fn next(&self, batch: &mut Vec<u8>) -> Next {
        let mut state = self.state.lock();
        state.in_hand = false;
        loop {
            self.moved.notify_all();
            let Some(sink) = state.sink.clone() else { return Next::End };
            if !state.paused && !state.queue.is_empty() {
                std::mem::swap(batch, &mut state.queue);
                state.in_hand = true;
                self.moved.notify_all();
                return Next::Write(sink);
            }
            if !state.paused && state.behind {
                return Next::CatchUp(sink);
            }
            self.work.wait(&mut state);
        }
    }

    /// Writes all of `bytes`, as the terminal takes them; gives up when it has gone.
    fn write_all(&self, sink: &Sink, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            {
                let mut state = self.state.lock();
                while state.paused && state.sink.is_some() {
                    self.work.wait(&mut state);
                }
                if state.sink.is_none() {
                    return;
                }
                state.writing = true;
            }
            let written = sink.write(bytes);
            {
                let mut state = self.state.lock();
                state.writing = false;
                if state.paused {
                    self.moved.notify_all();
                }
            }
            match written {
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.accepts();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => sink.wait(),
                Err(_) => {
                    self.state.lock().sink = None;
                    self.moved.notify_all();
                    return;
                }
            }
        }
    }

    /// Writes a piece of what the terminal missed, or gives it up for a redraw.
    fn catch_up(&self, sink: &Sink, batch: &mut Vec<u8>) {
        let offset = {
            let mut state = self.state.lock();
            if state.offset >= state.live {
                state.behind = false;
                self.moved.notify_all();
                return;
            }
            if !sink.is_relay() && state.live - state.offset > CATCH_UP_BYTES_MAX {
                self.give_up(state);
                return;
            }
            state.offset
        };
        if !self.terms.history.output_from(offset, CATCH_UP_STEP_BYTES, batch) || batch.is_empty() {
            self.give_up(self.state.lock());
            return;
        }
        let bytes = batch.len() as u64;
        if sink.is_relay() {
            let mut framed = Vec::with_capacity(batch.len() + 1024);
            frame_output(batch, &mut framed);
            self.write_all(sink, &framed);
        } else {
            self.write_all(sink, batch);
        }
        let mut state = self.state.lock();
        state.offset += bytes;
        if state.offset >= state.live {
            state.behind = false;
            self.moved.notify_all();
        }
    }

    /// Goes on with what comes next, on a screen drawn anew.
    fn give_up(&self, mut state: MutexGuard<'_, State>) {
        state.offset = state.live;
        state.behind = false;
        self.moved.notify_all();
        let told = self.terms.behind.as_ref().filter(|_| state.sink.as_ref().is_some_and(|sink| !sink.is_relay()));
        state.paused |= told.is_some();
        if told.is_none() && state.sink.as_ref().is_some_and(|sink| !sink.is_relay()) {
            state.queue.push(CANCEL);
        }
        drop(state);
        told.unwrap_or(&self.terms.redraw)();
    }
}
