//! The sending half of a connection: one queue of bytes that everybody appends whole frames to, under the connection's lock.
//!
//! Promises that frames leave in the order in which they were appended, that whoever appends while nobody writes can
//! write in place, and that otherwise the driver is woken once, however many append. Bounds are the callers' to check
//! by `pending`; knows nothing of what it sends.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

use crate::stream::Stream;

/// A buffer up to this size is kept when the connection goes idle.
const KEEP_BYTES: usize = 2 << 10;

/// A long queue is in pieces, so that what waits is not moved when what was before it is written: with 16 times 64 KiB in
/// flight that was more than half a copy of each. A piece that holds so much takes no more frames; a Unix socket takes about
/// as much at a time.
const PIECE_BYTES: usize = 192 << 10;
/// What a piece that follows another begins with: that, and a frame of 64 KiB.
const PIECE_ROOM_BYTES: usize = 256 << 10;
/// Written pieces that are kept for the next ones; more of them are given back at once.
const SPARES_MAX: usize = 8;

pub(crate) struct Outbound {
    /// Full pieces, to be written before `bytes`.
    full: VecDeque<Vec<u8>>,
    /// Bytes in `full`.
    full_bytes: usize,
    bytes: Vec<u8>,
    /// Written pieces, to be used again.
    spares: Vec<Vec<u8>>,
    /// What of the first piece is already written.
    start: usize,
    /// Bytes written since the connection began.
    written: u64,
    /// Gone when the connection has ended, so that no forgotten handle keeps the socket open.
    stream: Option<Arc<Stream>>,
    driver: Option<Waker>,
    /// The driver runs, or was woken and will: it flushes at its end, nobody else needs to.
    attended: bool,
    /// Since when the peer takes nothing.
    pub(crate) blocked_since: Option<Instant>,
}

impl Outbound {
    pub(crate) fn new(stream: Arc<Stream>) -> Self {
        Self {
            full: VecDeque::new(),
            full_bytes: 0,
            bytes: Vec::new(),
            spares: Vec::new(),
            start: 0,
            written: 0,
            stream: Some(stream),
            driver: None,
            attended: true, // until its first poll the driver is on its way
            blocked_since: None,
        }
    }

    /// Bytes that wait to be written.
    pub(crate) fn pending(&self) -> usize {
        self.full_bytes + self.bytes.len() - self.start
    }

    /// Bytes written since the connection began: a frame that ends here or before is with the kernel.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Where the next frame will begin, in bytes since the connection began.
    pub(crate) fn end(&self) -> u64 {
        self.written + self.pending() as u64
    }

    /// The socket, until the connection has ended.
    pub(crate) fn stream(&self) -> Option<Arc<Stream>> {
        self.stream.clone()
    }

    /// The buffer, to append whole frames to and nothing else. What is in it may have changed since it was last had.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        if self.bytes.len() >= PIECE_BYTES {
            let next = self.spares.pop().unwrap_or_else(|| Vec::with_capacity(PIECE_ROOM_BYTES));
            self.full_bytes += self.bytes.len();
            self.full.push_back(std::mem::replace(&mut self.bytes, next));
        }
        &mut self.bytes
    }

    /// To be called after appending. With `in_place`, writes here and now if nobody else does or will. Whoever comes
    /// back is to be woken once the lock is released.
    #[must_use]
    pub(crate) fn send(&mut self, in_place: bool) -> Option<Waker> {
        if self.attended {
            return None;
        }
        // An error is left for the driver, which meets it again and ends the connection in one place.
        if in_place && matches!(self.write(), Ok(true)) {
            return None;
        }
        self.wake_driver()
    }

    /// Whether the driver runs, or will without anybody's doing.
    pub(crate) fn is_attended(&self) -> bool {
        self.attended
    }

    /// The driver's waker, if it is not on its way already. To be woken once the lock is released.
    #[must_use]
    pub(crate) fn wake_driver(&mut self) -> Option<Waker> {
        if std::mem::replace(&mut self.attended, true) {
            return None;
        }
        self.driver.clone()
    }

    /// The driver's waker even if it runs just now: it will run once more.
    pub(crate) fn driver_waker(&mut self) -> Option<Waker> {
        self.attended = true;
        self.driver.clone()
    }

    /// The driver begins a round: until `driver_rests`, appending is enough.
    pub(crate) fn driver_begins(&mut self, cx: &Context<'_>) {
        self.attended = true;
        match &mut self.driver {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Writes what the socket takes; arranges that the driver is woken when it takes more.
    ///
    /// # Errors
    /// Of the socket; the connection has ended.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.write()? {
            let Some(stream) = &self.stream else {
                break;
            };
            match stream.poll_write_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// The driver goes to sleep: from here on somebody must write or wake it.
    pub(crate) fn driver_rests(&mut self) {
        self.attended = false;
    }

    /// Whether `shrink` would give the memory of a busy time back.
    pub(crate) fn is_idle_memory(&self) -> bool {
        self.pending() == 0 && (self.bytes.capacity() > KEEP_BYTES || !self.spares.is_empty())
    }

    pub(crate) fn shrink(&mut self) {
        if self.pending() == 0 {
            self.forget();
        }
    }

    fn forget(&mut self) {
        (self.full, self.full_bytes) = (VecDeque::new(), 0);
        (self.bytes, self.spares, self.start) = (Vec::new(), Vec::new(), 0);
    }

    /// Lets go of the socket and of what was not written. The driver is to be woken to do the same.
    pub(crate) fn end_now(&mut self) -> Option<Waker> {
        if let Some(stream) = self.stream.take() {
            // The peer learns now, and not only when the driver's thread comes round to dropping its half.
            stream.shutdown();
        }
        self.forget();
        self.driver.take()
    }

    /// Whether everything is written. The lock is held over these system calls: they never block, and a second writer
    /// would have to wait for the first in any case to keep the order.
    fn write(&mut self) -> io::Result<bool> {
        loop {
            let Some(stream) = &self.stream else {
                return Ok(true);
            };
            let piece = self.full.front().unwrap_or(&self.bytes);
            if self.start == piece.len() {
                if self.next_piece() {
                    continue;
                }
                return Ok(true);
            }
            match stream.try_write(&piece[self.start..]) {
                Ok(count) => {
                    self.start += count;
                    self.written += count as u64;
                    self.blocked_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The first piece is written: goes on with the one behind it, if there is one.
    fn next_piece(&mut self) -> bool {
        self.start = 0;
        let Some(mut written) = self.full.pop_front() else {
            self.bytes.clear();
            return false;
        };
        self.full_bytes -= written.len();
        written.clear();
        if self.spares.len() < SPARES_MAX {
            self.spares.push(written);
        }
        true
    }
}
