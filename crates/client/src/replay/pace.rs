//! When the next moment of a recording is due. Pure: it is told the time.
//!
//! Promises the recording's own distances, shortened by the idle limit and divided by the speed, without drift, and that
//! pauses and changes of speed lose nothing of a distance that was waited already.

use std::time::{Duration, Instant};

/// Speeds that keys choose among.
pub const SPEEDS: [f64; 11] = [0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// Later than this, what was missed is not made up for: the terminal is slower than the recording.
const LAG_MAX: Duration = Duration::from_millis(500);

/// The clock of a recording.
#[derive(Debug, Clone)]
pub struct Pace {
    speed: f64,
    idle_limit: Option<Duration>,
    /// Time of the moment that was reached last, in microseconds of the recording.
    at_us: u64,
    /// So much of the distance to the next one had been waited at `since`.
    waited: Duration,
    /// `None` while paused.
    since: Option<Instant>,
}

impl Pace {
    /// At the moment `at_us` of a recording, running from `now` on.
    pub fn new(speed: f64, idle_limit: Option<Duration>, at_us: u64, now: Instant) -> Self {
        Self { speed, idle_limit, at_us, waited: Duration::ZERO, since: Some(now) }
    }

    /// When the moment at `time_us` is due; `None` while paused.
    pub fn due(&self, time_us: u64) -> Option<Instant> {
        let left = self.distance(time_us).saturating_sub(self.waited);
        Some(self.since? + left.div_f64(self.speed))
    }

    /// The moment at `time_us` is shown.
    pub fn reached(&mut self, time_us: u64, now: Instant) {
        let due = self.due(time_us);
        self.at_us = self.at_us.max(time_us);
        self.waited = Duration::ZERO;
        // From when it was due, not from when it was shown: delays must not add up.
        self.since = due.map(|due| if now.saturating_duration_since(due) > LAG_MAX { now } else { due.min(now) });
    }

    /// The recording goes on from another place.
    pub fn jumped(&mut self, time_us: u64, now: Instant) {
        self.at_us = time_us;
        self.waited = Duration::ZERO;
        self.since = self.since.map(|_| now);
    }

    /// Stands still, or goes on.
    pub fn toggle_pause(&mut self, now: Instant) {
        match self.since {
            Some(_) => {
                self.hold(now);
                self.since = None;
            }
            None => self.since = Some(now),
        }
    }

    /// Whether it stands still.
    pub fn is_paused(&self) -> bool {
        self.since.is_none()
    }

    /// The next higher or lower of [`SPEEDS`].
    pub fn change_speed(&mut self, faster: bool, now: Instant) {
        self.hold(now);
        let next = if faster {
            SPEEDS.iter().find(|speed| **speed > self.speed)
        } else {
            SPEEDS.iter().rev().find(|speed| **speed < self.speed)
        };
        self.speed = next.copied().unwrap_or(self.speed);
    }

    /// How many times faster than it was.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// Where the recording is, in its own microseconds, on the way to the moment at `next_us`.
    pub fn position_us(&self, next_us: u64, now: Instant) -> u64 {
        let waited = self.waited(now).min(self.distance(next_us));
        self.at_us + u64::try_from(waited.as_micros()).unwrap_or(0)
    }

    /// What was waited counts at the speed that it was waited at.
    fn hold(&mut self, now: Instant) {
        self.waited = self.waited(now);
        self.since = self.since.map(|_| now);
    }

    fn waited(&self, now: Instant) -> Duration {
        let more = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.waited + more.mul_f64(self.speed)
    }

    fn distance(&self, time_us: u64) -> Duration {
        let distance = Duration::from_micros(time_us.saturating_sub(self.at_us));
        self.idle_limit.map_or(distance, |limit| distance.min(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(speed: f64, limit: Option<Duration>) -> (Pace, Instant) {
        let now = Instant::now();
        (Pace::new(speed, limit, 10_000_000, now), now)
    }

    #[test]
    fn distances_are_the_recordings_own_divided_by_the_speed() {
        let (mut pace, start) = pace(2.0, None);
        assert_eq!(pace.due(14_000_000), Some(start + 2 * SECOND));
        pace.reached(14_000_000, start + 2 * SECOND + SECOND / 10); // late, but that does not add up
        assert_eq!(pace.due(18_000_000), Some(start + 4 * SECOND));
    }

    #[test]
    fn what_is_far_behind_is_not_made_up_for() {
        let (mut pace, start) = pace(1.0, None);
        pace.reached(11_000_000, start + 10 * SECOND);
        assert_eq!(pace.due(12_000_000), Some(start + 11 * SECOND));
    }

    #[test]
    fn the_idle_limit_is_in_seconds_of_the_recording() {
        let (pace, start) = pace(2.0, Some(3 * SECOND));
        assert_eq!(pace.due(100_000_000), Some(start + 3 * SECOND / 2));
        assert_eq!(pace.due(12_000_000), Some(start + SECOND));
    }

    #[test]
    fn pauses_and_speeds_lose_nothing_that_was_waited() {
        let (mut pace, start) = pace(1.0, None);
        pace.toggle_pause(start + SECOND);
        assert_eq!((pace.due(14_000_000), pace.is_paused()), (None, true));
        pace.toggle_pause(start + 100 * SECOND);
        assert_eq!(pace.due(14_000_000), Some(start + 103 * SECOND));
        pace.change_speed(true, start + 101 * SECOND); // 2 of 4 s are left, at 1.5
        assert_eq!(pace.due(13_500_000), Some(start + 102 * SECOND));
        assert_eq!(pace.position_us(14_000_000, start + 101 * SECOND), 12_000_000);
        pace.change_speed(false, start + 101 * SECOND);
        assert_eq!(pace.speed().to_bits(), 1.0f64.to_bits());
    }

    #[test]
    fn a_jump_keeps_a_pause() {
        let (mut pace, start) = pace(1.0, None);
        pace.toggle_pause(start);
        pace.jumped(50_000_000, start + SECOND);
        assert!(pace.is_paused());
        pace.toggle_pause(start + SECOND);
        assert_eq!(pace.due(51_000_000), Some(start + 2 * SECOND));
    }
}
