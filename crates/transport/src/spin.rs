//! Looking for the peer's next bytes for a moment before sleeping: what makes question and answer in quick succession
//! faster than two wake-ups of a sleeping process.
//!
//! Promises that a look is bounded, gives its core away between two tries (the peer may need this very one), and comes
//! only where one exchange has just followed another: an idle or a slow conversation never pays for it. Reads nothing
//! itself.

use std::time::Duration;

use tokio::time::Instant;

/// Longest look. Waking a sleeping process takes longer than this on most machines, so more would buy little.
pub const SPIN_WAIT_MAX: Duration = Duration::from_micros(20);
/// A conversation has a rhythm worth looking for while its exchanges begin no further apart than this.
pub(crate) const SPIN_RHYTHM_MAX: Duration = Duration::from_millis(1);
/// Looks in a row; then the runtime has its turn, in which other tasks and sockets get theirs.
pub(crate) const SPIN_STREAK_MAX: u32 = 16;

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
