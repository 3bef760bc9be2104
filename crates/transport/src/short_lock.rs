//! A lock for what is held for less than waking a thread takes: see `sync` for where it is used.
//!
//! Promises exclusion, and that a waiter who finds it taken for long sleeps instead of burning its core. No fairness,
//! and nobody is woken: each waiter looks again by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::lock_api::RawMutex;

/// Looks with a pause between them, in which a holder on another core is most likely done.
const PAUSES_MAX: u32 = 64;
/// After those, looks that let others run first: the holder may be waiting for this very core.
const YIELDS_MAX: u32 = 32;
/// Between any further looks.
const SLEEP: Duration = Duration::from_micros(50);

/// A lock whose release is a plain store. One that wakes its waiters must ask at each release whether there are any, by
/// an atomic exchange; a call takes five locks in both processes together, and with those exchanges (`parking_lot`) 64 in
/// flight on one core took 1.10 times as long, 1,024 took 1.19 times.
pub(crate) struct ShortLock {
    taken: AtomicBool,
}

impl ShortLock {
    #[cold]
    fn lock_later(&self) {
        let mut looks = 0_u32;
        while self.is_locked() || self.try_lock().is_none() {
            match looks {
                0..PAUSES_MAX => std::hint::spin_loop(),
                PAUSES_MAX.. if looks < PAUSES_MAX + YIELDS_MAX => std::thread::yield_now(),
                _ => std::thread::sleep(SLEEP),
            }
            looks = looks.saturating_add(1);
        }
    }
}

// SAFETY: `taken` goes from false to true only in `try_lock`, atomically, so of several only one sees itself succeed, and
// back only in `unlock`, which its contract leaves to that one. Acquire there and Release here order what is guarded.
#[allow(unsafe_code)]
unsafe impl RawMutex for ShortLock {
    #[allow(clippy::declare_interior_mutable_const)] // lock_api asks for a constant; each use of it is a lock of its own
    const INIT: Self = Self { taken: AtomicBool::new(false) };
    type Guard = ();

    #[inline]
    fn lock(&self) {
        if self.try_lock().is_none() {
            self.lock_later();
        }
    }

    #[inline]
    fn try_lock(&self) -> Option<()> {
        self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok().then_some(())
    }

    #[inline]
    unsafe fn unlock(&self, (): ()) {
        self.taken.store(false, Ordering::Release);
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::ShortMutex;

    /// Held over yields and sleeps, so that the others come through every way of waiting.
    #[test]
    fn one_at_a_time_has_the_lock_however_long_it_is_held() {
        let (threads, rounds) = (4, 300);
        let counter = ShortMutex::new((0, false));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for round in 0..rounds {
                        let mut held = counter.lock();
                        assert!(!std::mem::replace(&mut held.1, true), "two at once");
                        match round % 100 {
                            0 => std::thread::sleep(SLEEP * 2),
                            1..10 => std::thread::yield_now(),
                            _ => {}
                        }
                        *held = (held.0 + 1, false);
                    }
                });
            }
        });
        assert_eq!(*counter.lock(), (threads * rounds, false));
        let held = counter.lock();
        assert!(counter.try_lock().is_none());
        drop(held);
        assert!(counter.try_lock().is_some());
    }
}
