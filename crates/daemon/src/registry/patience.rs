//! Work that may never come back: reading a disk that does not answer, a network's or another process's.
//!
//! Promise: whoever has it done waits no longer than they say; what comes later is handed over all the same; and once
//! [`STUCK_MAX`] threads are held up, nothing more is begun. A system call that hangs cannot be called off, only be left alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, TryRecvError, channel};
use std::time::Duration;

use parking_lot::Mutex;

/// Threads that are waited for no more. With so many nothing else is begun until one of them comes back.
pub(super) const STUCK_MAX: usize = 32;

/// Does work on threads that may be left behind. Its clones share one bound.
#[derive(Debug, Clone, Default)]
pub(super) struct Patience {
    stuck: Arc<AtomicUsize>,
}

/// Where an answer goes.
enum Awaited<L> {
    InTime,
    Late(L),
}

impl Patience {
    /// What `work` gives within `wait`; what it gives afterwards goes to `late`, on its own thread. `None` also if the system has no thread
    /// for it, or if too many are stuck already: then it is not begun.
    pub(super) fn within<T: Send + 'static, L: FnOnce(T) + Send + 'static>(
        &self,
        wait: Duration,
        work: impl FnOnce() -> T + Send + 'static,
        late: L,
    ) -> Option<T> {
        if self.stuck.load(Ordering::Relaxed) >= STUCK_MAX {
            return None;
        }
        let (tell, told) = channel();
        let awaited = Arc::new(Mutex::new(Awaited::<L>::InTime));
        let (seen, stuck) = (Arc::clone(&awaited), Arc::clone(&self.stuck));
        let thread = move || {
            let outcome = catch_unwind(AssertUnwindSafe(work)).ok();
            let mut awaited = seen.lock();
            match std::mem::replace(&mut *awaited, Awaited::InTime) {
                // Under the lock, so that it is either in time or late.
                Awaited::InTime => outcome.into_iter().for_each(|outcome| drop(tell.send(outcome))),
                Awaited::Late(late) => {
                    drop(awaited);
                    if let Some(outcome) = outcome {
                        late(outcome); // which may be held up too
                    }
                    stuck.fetch_sub(1, Ordering::Relaxed);
                }
            }
        };
        std::thread::Builder::new().name("disk".into()).spawn(thread).ok()?;
        match told.recv_timeout(wait) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Disconnected) => None, // it panicked
            Err(RecvTimeoutError::Timeout) => {
                let mut awaited = awaited.lock();
                match told.try_recv() {
                    Ok(outcome) => Some(outcome), // just now
                    Err(TryRecvError::Disconnected) => None,
                    Err(TryRecvError::Empty) => {
                        *awaited = Awaited::Late(late);
                        self.stuck.fetch_add(1, Ordering::Relaxed);
                        None
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn what_comes_in_time_is_an_answer_and_what_comes_later_is_handed_over() {
        let patience = Patience::default();
        assert_eq!(patience.within(LONG, || 1, |_| panic!("it was in time")), Some(1));
        let ((go, may_go), (tell, told)) = (channel::<()>(), channel());
        let work = move || may_go.recv().map(|()| 2);
        assert_eq!(patience.within(SHORT, work, move |outcome| tell.send(outcome).unwrap()), None);
        go.send(()).unwrap();
        assert_eq!(told.recv(), Ok(Ok(2)));
    }

    #[test]
    fn no_more_than_so_many_are_ever_stuck_and_one_that_comes_back_makes_room() {
        let patience = Patience::default();
        let (back, came_back) = channel();
        let gates: Vec<_> = (0..STUCK_MAX)
            .map(|_| {
                let ((go, may_go), back) = (channel::<()>(), back.clone());
                let is_open = move || may_go.recv().is_ok();
                assert_eq!(patience.within(SHORT, is_open, move |_| back.send(()).unwrap()), None);
                go
            })
            .collect();
        assert_eq!(patience.within(LONG, || panic!("this is never begun"), |()| {}), None::<()>);
        gates[0].send(()).unwrap();
        came_back.recv().unwrap();
        while patience.stuck.load(Ordering::Relaxed) == STUCK_MAX {
            std::thread::yield_now();
        }
        assert_eq!(patience.within(LONG, || 3, |_| {}), Some(3));
    }

    #[test]
    fn work_that_panics_is_no_answer_and_holds_up_nobody() {
        let patience = Patience::default();
        for _ in 0..=STUCK_MAX {
            assert_eq!(patience.within(LONG, || panic!("as planned"), |()| {}), None::<()>);
        }
        assert_eq!(patience.within(LONG, || 4, |_| {}), Some(4));
    }
}
