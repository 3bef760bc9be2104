//! Looking for the peer's next bytes for a moment before sleeping: what makes question and answer in quick succession
//! faster than two wake-ups of a sleeping process.
//!
//! Promises that a look is bounded, gives its core away between two tries (the peer may need this very one), and comes
//! only where one exchange has just followed another: an idle or a slow conversation never pays for it. Reads nothing
//! itself.
//!
//! What it buys, in multiples of raw blocking sockets (of a batch in one write, where many are in flight): one call after
//! the other on one core 0.84 instead of 1.6, with a core each 0.15 to 0.18 instead of 1.1; 64 in flight 2.5 instead of
//! 3.1, and about 1.0 instead of 1.8. It uses less processor time than sleeping in all four.

use std::future::Future as _;
use std::pin::pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

/// Longest look. Waking a sleeping process takes longer than this on most machines, so more would buy little.
pub const SPIN_WAIT_MAX: Duration = Duration::from_micros(20);
/// A conversation has a rhythm worth looking for while its exchanges begin no further apart than this.
pub(crate) const SPIN_RHYTHM_MAX: Duration = Duration::from_millis(1);
/// Looks in a row; then the runtime has a turn, in which other tasks and sockets get theirs.
pub(crate) const SPIN_STREAK_MAX: u32 = 16;

/// Bytes that one exchange may have, there, to be worth a look: of more, throughput counts, and an end that looks early
/// only cuts the other's batches into smaller ones (64 KiB payloads on one core: 1.6 times the floor instead of 1.4).
pub(crate) const SPIN_BYTES_MAX: u64 = 16 << 10;

/// Tries until `look` has found something, or the time is up. Yields before each try: on one core the peer must run
/// first, and on two the bytes need about as long as the system call.
pub(crate) fn look_until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + SPIN_WAIT_MAX;
    loop {
        rustix::thread::sched_yield();
        let found = look();
        if found.is_some() || Instant::now() >= until {
            return found;
        }
    }
}

/// Lets the runtime run everything else and ask the kernel for events once, without sleeping, and then wakes this task
/// again. To be followed by `Pending`.
pub(crate) fn give_a_turn(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}
