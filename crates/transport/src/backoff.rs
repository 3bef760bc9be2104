//! How long to wait before the next try. The only file that names the backoff crate (asked for, unmaintained): only its
//! arithmetic is used, behind a type of ours whose bounds a test holds.
//!
//! Promises: the first try after a reset comes at once, then full jitter under a doubling ceiling, never below the
//! least delay, never above the greatest, and never "give up". Sleeps nowhere and knows no sockets.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

/// Shortest wait between two tries, the first apart: what a peer that refuses at once may cost.
pub const RETRY_DELAY_MIN: Duration = Duration::from_millis(10);
/// Longest wait between two tries, hence how late a recovered peer is seen where no event tells of it.
pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);
const _: () = assert!(RETRY_DELAY_MIN.as_nanos() < RETRY_DELAY_MAX.as_nanos());

/// The delays between tries, one after the other.
#[derive(Debug)]
pub struct Schedule {
    inner: ExponentialBackoff,
    min: Duration,
    max: Duration,
    fresh: bool,
}

impl Schedule {
    /// A schedule between `min` and `max`; its first delay is zero.
    pub fn new(min: Duration, max: Duration) -> Self {
        // The crate draws from interval × (1 ± factor). With factor 1 that is [0, 2 × interval]: full jitter under a
        // ceiling of twice the interval, hence the halves here.
        let mut inner = ExponentialBackoffBuilder::new()
            .with_initial_interval(min)
            .with_max_interval((max / 2).max(min))
            .with_multiplier(2.0)
            .with_randomization_factor(1.0)
            .with_max_elapsed_time(None) // the default gives up for good after 15 minutes
            .build();
        inner.reset();
        Self { inner, min, max, fresh: true }
    }

    /// How long to wait before the next try.
    pub fn next_delay(&mut self) -> Duration {
        if std::mem::take(&mut self.fresh) {
            return Duration::ZERO;
        }
        self.inner.next_backoff().unwrap_or(self.max).clamp(self.min, self.max.max(self.min))
    }

    /// Leaves the shorter delays out: the next one is drawn from below `ceiling`, or more if the schedule is further on.
    pub fn skip_to(&mut self, ceiling: Duration) {
        self.fresh = false;
        self.inner.current_interval = self.inner.current_interval.max(ceiling / 2).min(self.inner.max_interval);
    }

    /// Starts over: the next try comes at once.
    pub fn reset(&mut self) {
        self.inner.reset();
        self.fresh = true;
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::new(RETRY_DELAY_MIN, RETRY_DELAY_MAX)
    }
}
