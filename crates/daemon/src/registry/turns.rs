//! Work that many ask for at once and that is done for all of them together.
//!
//! Promise: whoever asks gets the outcome of a turn that began after they asked; at any time one turn is under way, and one more is waited
//! for, however many ask. Blocking; knows nothing of the work.

use parking_lot::{Condvar, Mutex};

/// Turns at one piece of work.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Default)]
struct State {
    begun: u64,
    /// The last one that is over, and what it said.
    ended: u64,
    outcome: bool,
    is_under_way: bool,
    waiting: usize,
}

/// Ends a turn also if the work panics.
struct Turn<'a> {
    turns: &'a Turns,
    number: u64,
    outcome: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock();
        (state.ended, state.outcome, state.is_under_way) = (self.number, self.outcome, false);
        self.turns.over.notify_all();
    }
}

impl Turns {
    /// Does the work, or waits for who does it.
    pub(super) fn take(&self, work: impl FnOnce() -> bool) -> bool {
        let mut state = self.state.lock();
        let wanted = state.begun + 1;
        loop {
            if state.ended >= wanted {
                return state.outcome;
            }
            if !state.is_under_way {
                state.begun += 1;
                state.is_under_way = true;
                let mut turn = Turn { turns: self, number: state.begun, outcome: false };
                drop(state);
                turn.outcome = work();
                return turn.outcome;
            }
            state.waiting += 1;
            self.over.wait(&mut state);
            state.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn those_who_ask_during_a_turn_share_the_next_one() {
        let (turns, count) = (Turns::default(), AtomicUsize::new(0));
        let work = || {
            count.fetch_add(1, Ordering::Relaxed);
            true
        };
        std::thread::scope(|scope| {
            let ((begun, is_begun), (go, may_go)) = (channel(), channel::<()>());
            scope.spawn(|| {
                turns.take(move || {
                    begun.send(()).unwrap();
                    may_go.recv().unwrap();
                    true
                })
            });
            is_begun.recv().unwrap();
            let others: Vec<_> = (0..50).map(|_| scope.spawn(|| turns.take(work))).collect();
            while turns.state.lock().waiting < 50 {
                std::thread::yield_now();
            }
            assert_eq!(count.load(Ordering::Relaxed), 0);
            go.send(()).unwrap();
            assert!(others.into_iter().all(|other| other.join().unwrap()));
        });
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_turn_that_panics_is_over() {
        let turns = Turns::default();
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| turns.take(|| panic!("as planned"))));
        assert!(panics.is_err());
        assert!(turns.take(|| true));
    }
}
