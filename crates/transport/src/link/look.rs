//! Reading in the driver's place for a moment, instead of sleeping until it is woken: see `spin`.
//!
//! Promises that whatever is read reaches the link as if the driver had read it, an end of the connection included.

use std::task::{Context, Poll};

use super::{Link, State};
use crate::protocol::Protocol;
use crate::spin::{SPIN_BYTES_MAX, SPIN_RHYTHM_MAX, SPIN_STREAK_MAX, give_a_turn, look_until};
use crate::stream::Stream;

impl<P: Protocol> Link<P> {
    /// Looks for the answer of a call that was just written, in the place of the driver, which sleeps. Whether to come
    /// back for another look, for which the task will be woken. Only for the task that called before as well: of
    /// several that looked in turn each would keep the others from calling, and what could leave in one write would
    /// leave in many.
    pub(crate) fn look(&self, id: u64, cx: &mut Context<'_>) -> bool {
        let stream = {
            let state = &mut *self.lock();
            let caller = (cx.waker().data().addr(), std::ptr::from_ref(cx.waker().vtable()).addr());
            if std::mem::replace(&mut state.last_caller, caller) != caller {
                return false;
            }
            state.streak += 1;
            if state.streak > SPIN_STREAK_MAX {
                state.streak = 0;
                give_a_turn(cx);
                return true;
            }
            state.out.stream()
        };
        let Some(stream) = stream else { return false };
        let Poll::Ready(coop) = tokio::task::coop::poll_proceed(cx) else {
            return true;
        };
        if self.look_at(&stream, |state| state.calls.is_done(id)) {
            coop.made_progress();
        }
        false
    }

    /// The driver's look, after it has sent what several callers had to say. Whether the batch of answers has come.
    pub(crate) fn look_for_answers(&self, stream: &Stream) -> bool {
        let waiting = {
            if !self.spin {
                return false;
            }
            let state = &mut *self.lock();
            let written = state.out.written();
            let sent = written - std::mem::replace(&mut state.written_at_look, written);
            let small = (1..=SPIN_BYTES_MAX).contains(&sent) && state.out.pending() == 0;
            if small && state.busy_since.elapsed() <= SPIN_RHYTHM_MAX { state.calls.waiting() } else { 0 }
        };
        waiting > 1 && self.look_at(stream, |state| state.calls.waiting() < waiting)
    }

    fn look_at(&self, stream: &Stream, mut has_come: impl FnMut(&mut State<P>) -> bool) -> bool {
        let found = look_until(|| {
            let Some(mut reader) = self.reader.try_lock() else {
                return Some(false); // somebody else reads, and will hand out the answer
            };
            match reader.read_now(self, stream) {
                Ok(None) => None,
                Ok(Some(_)) => has_come(&mut self.lock()).then_some(true),
                Err(reason) => {
                    drop(reader);
                    self.end(reason);
                    Some(true)
                }
            }
        });
        found == Some(true)
    }
}
