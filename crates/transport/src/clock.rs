//! The time, for many that ask for it at once.
//!
//! Promises a time that is at the most one tick of the kernel's coarse clock (1 to 10 ms) behind, and never one from
//! before the burst began. Knows no deadlines.

use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::time::Instant;

/// What a burst of callers takes for now. An exact reading takes several times as long as one of the coarse clock, and about
/// a tenth of a call with 1,024 in flight.
#[derive(Debug)]
pub(crate) struct BurstClock {
    /// The last exact reading, and the tick in which it was taken.
    known: Option<(Timespec, Instant)>,
}

impl BurstClock {
    pub(crate) const fn new() -> Self {
        Self { known: None }
    }

    /// Now, or up to one tick before.
    pub(crate) fn now(&mut self) -> Instant {
        let tick = clock_gettime(ClockId::MonotonicCoarse);
        match self.known {
            Some((known, now)) if known == tick => now,
            _ => self.known.insert((tick, Instant::now())).1,
        }
    }

    /// The burst is over. The runtime's clock may be another than the kernel's (paused, in somebody's test), and may
    /// leap from here on.
    pub(crate) fn forget(&mut self) {
        self.known = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Generous: 10 ms is the longest tick of any kernel.
    const TICK_MAX: Duration = Duration::from_millis(11);

    #[test]
    fn the_time_of_a_burst_is_never_ahead_and_at_the_most_a_tick_behind() {
        let mut clock = BurstClock::new();
        let (start, mut last) = (Instant::now(), Instant::now());
        while start.elapsed() < TICK_MAX * 3 {
            let before = Instant::now();
            let told = clock.now();
            assert!(told <= Instant::now() && told >= last && told + TICK_MAX >= before);
            last = told;
        }
        assert!(last > start, "it goes on");
    }

    #[test]
    fn a_new_burst_has_an_exact_time() {
        let mut clock = BurstClock::new();
        clock.now();
        clock.forget();
        let before = Instant::now();
        assert!(clock.now() >= before);
    }
}
