//! What a running command has done and nobody has taken yet.
//!
//! Promise: bounded; who adds to it looks for room first, and nothing that was added is lost until it was taken. Events are numbered from 0
//! without holes, so that who lost its connection goes on where it was.

use std::collections::VecDeque;

use parking_lot::Mutex;
use shellkeep_protocol::registry::{EVENTS_BYTES_MAX, ExecutionEvent};
use tokio::sync::Notify;

/// Bytes of output that wait to be taken; then the command waits too.
pub(super) const OUTPUT_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
struct State {
    events: VecDeque<ExecutionEvent>,
    /// Number of the first of them.
    first: u64,
    bytes: usize,
    has_ended: bool,
}

/// Events between a command and who follows it.
#[derive(Debug, Default)]
pub(super) struct Stream {
    state: Mutex<State>,
    added: Notify,
}

/// What was taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) events: Vec<ExecutionEvent>,
    pub(super) next: u64,
    pub(super) is_last: bool,
    /// There was no room, and there is some now.
    pub(super) made_room: bool,
}

impl Stream {
    /// Adds what happened. Nothing is added behind the end.
    pub(super) fn add(&self, event: ExecutionEvent) {
        let mut state = self.state.lock();
        if state.has_ended {
            return;
        }
        state.has_ended = matches!(event, ExecutionEvent::Exit { .. } | ExecutionEvent::Error(_));
        state.bytes += bytes(&event);
        state.events.push_back(event);
        drop(state);
        self.added.notify_waiters();
    }

    pub(super) fn has_room(&self) -> bool {
        self.state.lock().bytes < OUTPUT_BYTES_MAX
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().has_ended
    }

    /// Forgets the events before `from` and gives those behind, some of them.
    pub(super) fn take(&self, from: u64) -> Taken {
        let state = &mut *self.state.lock();
        let had_room = state.bytes < OUTPUT_BYTES_MAX;
        while state.first < from {
            let Some(event) = state.events.pop_front() else { break };
            state.bytes -= bytes(&event);
            state.first += 1;
        }
        let mut size = 0;
        let fits = |event: &&ExecutionEvent| {
            let is_first = size == 0;
            size += bytes(event);
            is_first || size <= EVENTS_BYTES_MAX
        };
        let events: Vec<_> = state.events.iter().take_while(fits).cloned().collect();
        Taken {
            next: state.first + events.len() as u64,
            is_last: state.has_ended && events.len() == state.events.len(),
            made_room: !had_room && state.bytes < OUTPUT_BYTES_MAX,
            events,
        }
    }

    /// Resolves at the next addition after this was made.
    pub(super) fn added(&self) -> tokio::sync::futures::Notified<'_> {
        self.added.notified()
    }
}

/// What an event counts as: no less than it takes.
fn bytes(event: &ExecutionEvent) -> usize {
    64 + match event {
        ExecutionEvent::Stdout(bytes) | ExecutionEvent::Stderr(bytes) => bytes.len(),
        ExecutionEvent::Prompt { text } => text.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_given_until_they_are_known_to_be_had() {
        let stream = Stream::default();
        for n in 0..3 {
            stream.add(ExecutionEvent::Stdout(vec![n]));
        }
        let taken = stream.take(0);
        assert_eq!((taken.events.len(), taken.next, taken.is_last), (3, 3, false));
        assert_eq!(stream.take(1).events, [ExecutionEvent::Stdout(vec![1]), ExecutionEvent::Stdout(vec![2])]);
        stream.add(ExecutionEvent::Exit { code: 0 });
        stream.add(ExecutionEvent::Stdout(vec![9]));
        let taken = stream.take(3);
        assert_eq!((taken.events, taken.next, taken.is_last), (vec![ExecutionEvent::Exit { code: 0 }], 4, true));
    }

    #[test]
    fn what_waits_is_bounded_by_who_looks_for_room_first() {
        let stream = Stream::default();
        while stream.has_room() {
            stream.add(ExecutionEvent::Stdout(vec![0; 32 << 10]));
        }
        let (mut next, mut total) = (0, 0);
        loop {
            let taken = stream.take(next);
            total += taken.events.len();
            next = taken.next;
            if taken.events.is_empty() {
                break;
            }
        }
        assert_eq!((total, stream.has_room()), (32, true));
    }
}
