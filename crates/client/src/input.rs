//! Typed bytes on their way into the PTY, from whichever process holds its master.
//!
//! Promises order, that nothing accepted is lost while the PTY lives, and that the caller waits only when
//! `QUEUE_BYTES_MAX` are queued because the program reads nothing: so the detach key works then too. A keystroke is
//! written in place, without a thread. The master's description is shared with its reader and stays blocking.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec};

/// Bytes that may wait for a program that does not read. At the limit [`Input::accepts`] says no.
pub const QUEUE_BYTES_MAX: usize = 256 << 10;
/// Longest write in place. The kernel promises room for one byte when it says there is room; it has 64 KiB in fact, and
/// a short write blocks only if all but this is full.
const IN_PLACE_BYTES_MAX: usize = 256;
/// Stack of the writing thread, which does nothing deep.
const STACK_BYTES: usize = 64 << 10;

/// The way into a PTY.
#[derive(Debug, Clone)]
pub struct Input {
    master: Arc<File>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: Vec<u8>,
    /// A thread exists that writes the queue.
    writer: bool,
    /// The writer holds bytes that it has not written yet.
    busy: bool,
    closed: bool,
}

impl Input {
    /// A way into the PTY behind `master`.
    pub fn new(master: Arc<File>) -> Self {
        Self { master, shared: Arc::default() }
    }

    /// Whether more may be sent without waiting.
    pub fn accepts(&self) -> bool {
        self.shared.state.lock().queue.len() < QUEUE_BYTES_MAX
    }

    /// Sends `bytes`, in place if the PTY has room and nothing is queued.
    pub fn send(&self, bytes: &[u8]) {
        let mut state = self.shared.state.lock();
        while state.queue.len() >= QUEUE_BYTES_MAX && !state.closed {
            self.shared.room.wait(&mut state);
        }
        if state.closed {
            return;
        }
        if state.queue.is_empty() && !state.busy && bytes.len() <= IN_PLACE_BYTES_MAX && self.has_room() {
            match (&*self.master).write(bytes) {
                Ok(count) if count == bytes.len() => return,
                Ok(count) => state.queue.extend_from_slice(&bytes[count..]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    state.queue.extend_from_slice(bytes);
                }
                Err(_) => return, // the PTY has ended: nobody is left to read
            }
        } else {
            state.queue.extend_from_slice(bytes);
        }
        if state.writer {
            self.shared.work.notify_one();
        } else {
            state.writer = self.spawn_writer();
            state.closed = !state.writer;
        }
    }

    fn has_room(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.master.as_fd(), PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready == 1)
            && polled[0].revents().contains(PollFlags::OUT)
    }

    fn spawn_writer(&self) -> bool {
        let (master, shared) = (Arc::clone(&self.master), Arc::clone(&self.shared));
        thread::Builder::new()
            .name("input".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || write_queue(&master, &shared))
            .is_ok()
    }
}

/// Writes what is queued until the PTY ends. May block in a write for as long as the program does not read.
fn write_queue(master: &File, shared: &Shared) {
    let mut batch = Vec::new();
    loop {
        {
            let mut state = shared.state.lock();
            state.busy = false;
            while state.queue.is_empty() {
                shared.work.wait(&mut state);
            }
            std::mem::swap(&mut batch, &mut state.queue);
            state.busy = true;
        }
        shared.room.notify_all();
        let mut out = master;
        if out.write_all(&batch).is_err() {
            let mut state = shared.state.lock();
            state.closed = true;
            shared.room.notify_all();
            return;
        }
        batch.clear();
    }
}
