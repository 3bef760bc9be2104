//! When a server looks for a client's next request before it sleeps; see `spin`. Knows time and counts, reads nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context as TaskContext;

use tokio::time::Instant;

use crate::spin::{SPIN_BYTES_MAX, SPIN_RHYTHM_MAX, SPIN_STREAK_MAX, give_a_turn};

/// Whether the client's next request is worth a look before sleeping: it has asked for that, comes back soon, and is
/// the only one that does.
pub(crate) struct PingPong<'a> {
    spins: bool,
    connection: u64,
    /// Of the whole server.
    last_asked: &'a AtomicU64,
    /// When its last request came.
    asked: Option<Instant>,
    streak: u32,
    /// Interrupted for a turn of the runtime, to be gone on with after it.
    interrupted: bool,
}

impl<'a> PingPong<'a> {
    pub(crate) fn new(spins: bool, connection: u64, last_asked: &'a AtomicU64) -> Self {
        Self { spins, connection, last_asked, asked: None, streak: 0, interrupted: false }
    }

    /// The runtime had its turn. Whether to look now even if nothing has come.
    pub(crate) fn begin(&mut self) -> bool {
        self.streak = 0;
        std::mem::take(&mut self.interrupted)
    }

    /// To be asked after each round with requests, which came at `now` in so many bytes.
    pub(crate) fn is_worth_a_look(&mut self, now: Instant, bytes: u64, cx: &mut TaskContext<'_>) -> bool {
        // With two that ask in turn, a look for one would only make the other wait.
        let only_one = self.last_asked.swap(self.connection, Ordering::Relaxed) == self.connection;
        if !self.spins {
            return false;
        }
        let before = self.asked.replace(now);
        let in_rhythm = before.is_some_and(|before| now.duration_since(before) <= SPIN_RHYTHM_MAX);
        if !in_rhythm || !only_one || bytes > SPIN_BYTES_MAX {
            return false;
        }
        self.streak += 1;
        self.interrupted = self.streak >= SPIN_STREAK_MAX;
        if self.interrupted {
            give_a_turn(cx);
        }
        !self.interrupted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(ping_pong: &mut PingPong<'_>, now: Instant, bytes: u64) -> bool {
        ping_pong.is_worth_a_look(now, bytes, &mut TaskContext::from_waker(std::task::Waker::noop()))
    }

    /// Each of the rules alone is enough to let the server sleep.
    #[test]
    fn a_server_looks_only_for_the_one_client_that_asked_and_comes_back_soon() {
        let last_asked = AtomicU64::new(0);
        let (start, soon) = (Instant::now(), SPIN_RHYTHM_MAX / 2);
        let mut mine = PingPong::new(true, 1, &last_asked);
        assert!(!looks(&mut mine, start, 80), "a first request has no rhythm");
        assert!(looks(&mut mine, start + soon, 80));
        assert!(!looks(&mut mine, start + soon * 4, 80), "too late");
        assert!(looks(&mut mine, start + soon * 5, 80));
        assert!(!looks(&mut mine, start + soon * 5, SPIN_BYTES_MAX + 1), "too much");
        let mut silent = PingPong::new(false, 2, &last_asked);
        assert!(!looks(&mut silent, start + soon * 5, 80));
        assert!(!looks(&mut silent, start + soon * 6, 80), "it has not asked for it");
        assert!(!looks(&mut mine, start + soon * 6, 80), "another one has asked for something meanwhile");
        assert!(looks(&mut mine, start + soon * 7, 80));
    }

    #[test]
    fn after_a_streak_the_runtime_has_a_turn_and_the_look_goes_on() {
        let last_asked = AtomicU64::new(1);
        let now = Instant::now();
        let mut mine = PingPong::new(true, 1, &last_asked);
        assert!(!looks(&mut mine, now, 80));
        for _ in 1..SPIN_STREAK_MAX {
            assert!(looks(&mut mine, now, 80));
        }
        assert!(!looks(&mut mine, now, 80));
        assert!(mine.begin(), "interrupted, not ended");
        assert!(looks(&mut mine, now, 80));
        assert!(!mine.begin());
    }
}
