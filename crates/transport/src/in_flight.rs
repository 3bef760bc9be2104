//! Calls that wait for their answer: a slab of slots, each used again with a new generation.
//!
//! Promises one answer for each call: a slot goes from waiting to done once, whoever comes first (the answer, the
//! deadline, the end of the connection); an answer that comes later has an id that is nobody's. Allocates nothing per
//! call once grown. Knows neither bytes nor locks.

use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

/// The calls of one connection.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    slots: Vec<Slot<T>>,
    free: Option<u32>,
    /// Slots that hold a call, answered or not. Bounds the slab: an answer nobody collects is memory, too.
    used: usize,
    waiting: usize,
    /// No deadline is earlier: exact after a sweep, a lower bound while calls come and go.
    earliest: Option<Instant>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Free { next: Option<u32> },
    Waiting(Waiting),
    Done(T),
}

/// What is known of a call that has no answer yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    waker: Option<Waker>,
    pub(crate) deadline: Instant,
    /// Its place among the requests of this connection, from 1.
    pub(crate) sequence: u64,
    /// Where its frame ends in the connection's output, in bytes since the start.
    pub(crate) sent_at: u64,
}

impl Waiting {
    pub(crate) fn new(deadline: Instant, sequence: u64, sent_at: u64) -> Self {
        Self { waker: None, deadline, sequence, sent_at }
    }
}

impl<T> InFlight<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), free: None, used: 0, waiting: 0, earliest: None }
    }

    /// No waiting call's deadline is earlier than this.
    pub(crate) fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The id that the next [`insert`](Self::insert) will give, so that it can be written before.
    pub(crate) fn next_id(&self) -> u64 {
        match self.free {
            Some(index) => id_of(self.slots[index as usize].generation, index),
            None => id_of(0, index_of(self.slots.len() as u64)),
        }
    }

    pub(crate) fn insert(&mut self, call: Waiting) -> u64 {
        let id = self.next_id();
        self.earliest = Some(self.earliest.map_or(call.deadline, |least| least.min(call.deadline)));
        if let Some(index) = self.free {
            let slot = &mut self.slots[index as usize];
            if let State::Free { next } = slot.state {
                self.free = next;
            }
            slot.state = State::Waiting(call);
        } else {
            self.slots.push(Slot { generation: 0, state: State::Waiting(call) });
        }
        self.used += 1;
        self.waiting += 1;
        id
    }

    /// Ends a call. Of an id that does not wait (any more), nothing happens: nobody can be answered twice.
    pub(crate) fn complete(&mut self, id: u64, answer: T, wakers: &mut Vec<Waker>) {
        let Some(slot) = self.slot(id) else { return };
        if let State::Waiting(call) = &mut slot.state {
            wakers.extend(call.waker.take());
            slot.state = State::Done(answer);
            self.waiting -= 1;
        }
    }

    /// Takes the answer of a call, freeing its slot, or keeps the waker until there is one. `None`: no such call.
    pub(crate) fn poll(&mut self, id: u64, cx: &Context<'_>) -> Poll<Option<T>> {
        let next = self.free;
        let Some(slot) = self.slot(id) else {
            return Poll::Ready(None);
        };
        match &mut slot.state {
            State::Waiting(call) => {
                match &mut call.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            State::Free { .. } => Poll::Ready(None),
            State::Done(_) => Poll::Ready(match slot.vacate(next) {
                State::Done(answer) => {
                    self.is_free(id);
                    Some(answer)
                }
                _ => None,
            }),
        }
    }

    /// Whether a call has its answer.
    pub(crate) fn is_done(&mut self, id: u64) -> bool {
        self.slot(id).is_some_and(|slot| matches!(slot.state, State::Done(_)))
    }

    /// Forgets a call. Whether it was still waiting, so that the peer should be told.
    pub(crate) fn remove(&mut self, id: u64) -> bool {
        matches!(self.free(id), Some(State::Waiting(_)))
    }

    /// Ends every call whose deadline has come. Walks the slab only if one may have.
    pub(crate) fn expire(&mut self, now: Instant, wakers: &mut Vec<Waker>, mut answer: impl FnMut(u64, &Waiting) -> T) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        let mut earliest = None::<Instant>;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let State::Waiting(call) = &mut slot.state else {
                continue;
            };
            if call.deadline <= now {
                wakers.extend(call.waker.take());
                let id = id_of(slot.generation, index_of(index as u64));
                slot.state = State::Done(answer(id, call));
                self.waiting -= 1;
            } else {
                earliest = Some(earliest.map_or(call.deadline, |least| least.min(call.deadline)));
            }
        }
        self.earliest = earliest;
    }

    /// Ends every call.
    pub(crate) fn end_all(&mut self, wakers: &mut Vec<Waker>, mut answer: impl FnMut(&Waiting) -> T) {
        for slot in &mut self.slots {
            if let State::Waiting(call) = &mut slot.state {
                wakers.extend(call.waker.take());
                slot.state = State::Done(answer(call));
            }
        }
        self.waiting = 0;
    }

    fn slot(&mut self, id: u64) -> Option<&mut Slot<T>> {
        self.slots
            .get_mut(usize::try_from(id & u64::from(u32::MAX)).ok()?)
            .filter(|slot| u64::from(slot.generation) == id >> 32)
    }

    fn free(&mut self, id: u64) -> Option<State<T>> {
        let next = self.free;
        let slot = self.slot(id)?;
        if matches!(slot.state, State::Free { .. }) {
            return None;
        }
        let state = slot.vacate(next);
        self.is_free(id);
        if matches!(state, State::Waiting(_)) {
            self.waiting -= 1;
        }
        Some(state)
    }

    fn is_free(&mut self, id: u64) {
        self.free = Some(index_of(id & u64::from(u32::MAX)));
        self.used -= 1;
    }
}

impl<T> Slot<T> {
    /// Makes it the first of the free ones, of which `next` was the first, and gives out what it held.
    fn vacate(&mut self, next: Option<u32>) -> State<T> {
        // A generation comes back after 2^32 uses of one slot: an answer that late belongs to no living connection.
        self.generation = self.generation.wrapping_add(1);
        std::mem::replace(&mut self.state, State::Free { next })
    }
}

fn id_of(generation: u32, index: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

/// Slots are bounded by `in_flight_max`, a `u32`, so an index always fits.
fn index_of(index: u64) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
