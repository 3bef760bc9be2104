//! A command that is no process: another part of the daemon does it, and tells what happens.
//!
//! Promise: it ends as a process does, in time, when it is cancelled, and when nobody follows it; whoever does it is told then, and is not
//! waited for.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shellkeep_protocol::registry::{ExecutionEvent, RegistryError};

use super::{Invocation, Stop};

/// Takes what happens, from any thread; the last is an end. Behind the end nothing is taken.
pub type Tell = Arc<dyn Fn(ExecutionEvent) + Send + Sync>;

/// What another part of the daemon does.
pub trait Elsewhere: std::fmt::Debug + Send {
    /// Begins, and returns at once.
    fn begin(&self, tell: Tell);
    /// Shall end soon. It may have ended already.
    fn cancel(&self);
}

/// Follows it to its end. Blocking.
pub(super) fn run(invocation: &Arc<Invocation>, call: &dyn Elsewhere, time_max: Duration) {
    let until = Instant::now() + time_max;
    let teller = Arc::clone(invocation);
    call.begin(Arc::new(move |event| {
        let is_end = matches!(event, ExecutionEvent::Exit { .. } | ExecutionEvent::Error(_));
        // What comes on the way is left out when nobody takes it; what it has to say at its end is bounded by who does it.
        if is_end || matches!(event, ExecutionEvent::Stdout(_)) || teller.stream.has_room() {
            teller.stream.add(event);
        }
        if is_end {
            teller.wake();
        }
    }));
    while !invocation.stream.has_ended() {
        let now = Instant::now();
        let over = (now >= until).then_some(Stop::TimeOver);
        let alone = invocation.orphan_due().filter(|due| now >= *due).map(|_| Stop::Cancelled);
        if let Some(stop) = invocation.stop_wanted().or(over).or(alone) {
            let after_ms = u64::try_from(time_max.as_millis()).unwrap_or(u64::MAX);
            let is_late = stop == Stop::TimeOver;
            let error = if is_late { RegistryError::Timeout { after_ms } } else { stop.error() };
            // Before whoever does it is told: what it says to that is not the reason.
            invocation.stream.add(ExecutionEvent::Error(error));
            return call.cancel();
        }
        let due = invocation.orphan_due().map_or(until, |due| until.min(due));
        let wait = due.saturating_duration_since(now) + Duration::from_millis(1);
        let timeout = Timespec::try_from(wait).ok();
        let mut fds = [PollFd::from_borrowed_fd(invocation.wake.as_fd(), PollFlags::IN)];
        if matches!(poll(&mut fds, timeout.as_ref()), Ok(1..)) {
            let _was_woken = rustix::io::read(&invocation.wake, &mut [0; 8]);
        }
    }
}
