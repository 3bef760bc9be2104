//! Bytes to frames and back: a `u32` little-endian length, then so many bytes of body.
//!
//! Promises that an announced length is checked before anything is allocated for it, that memory grows with bytes
//! received and not with bytes announced, and that a frame read in any number of pieces is the same frame. Does no I/O
//! but the two blocking helpers at the end, and knows neither serde nor what a body means.

use std::io::{self, Read, Write};

/// Largest frame body that either end may announce. A longer prefix ends the connection before a byte is allocated.
pub const FRAME_BYTES_MAX: u32 = 4 << 20;
/// Largest frame body before the Hello is accepted: strangers get no more memory than this.
pub const HELLO_FRAME_BYTES_MAX: u32 = 4 << 10;
/// Bytes of the length in front of each body.
pub const PREFIX_BYTES: usize = 4;

/// First size of a read buffer: what an idle connection costs.
const READ_BYTES_MIN: usize = 2 << 10;
/// A read buffer grows to this while reads fill it; beyond it only a single larger frame makes it grow.
const READ_BYTES_MAX: usize = 256 << 10;

const _: () = assert!(HELLO_FRAME_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(READ_BYTES_MIN > PREFIX_BYTES && READ_BYTES_MIN < READ_BYTES_MAX);

/// Why bytes are not frames. The connection cannot be used any further: the place of the next frame is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A body longer than the limit, announced by the peer or asked for by the caller.
    #[error("a frame of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// Length of the body in bytes; saturated at `u32::MAX`.
        bytes: u32,
        /// The limit in force.
        bytes_max: u32,
    },
    /// A body of no bytes. No message encodes to nothing, so this is another protocol or damage.
    #[error("an empty frame")]
    Empty,
}

/// The read buffer of one connection. It stays while reads come and go, so no cancelled read can lose bytes.
///
/// Read into [`spare`](Self::spare), say how much with [`filled`](Self::filled), then take every frame with
/// [`next_frame`](Self::next_frame) before reading again.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read left no room: more is waiting, so the next one gets a larger buffer.
    filled_up: bool,
    bytes_max: u32,
}

impl FrameBuffer {
    /// An empty buffer that allocates nothing yet and accepts bodies of up to `bytes_max` bytes.
    pub const fn new(bytes_max: u32) -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, filled_up: false, bytes_max }
    }

    /// Changes the limit for every frame that was not taken yet.
    pub fn set_limit(&mut self, bytes_max: u32) {
        self.bytes_max = bytes_max;
    }

    /// Whether a whole frame is waiting.
    ///
    /// # Errors
    /// [`FrameError`] as soon as the prefix shows it, however little of the body is there.
    pub fn has_frame(&self) -> Result<bool, FrameError> {
        let waiting = self.end - self.start;
        Ok(announced(&self.bytes[self.start..self.end], self.bytes_max)?
            .is_some_and(|body| waiting - PREFIX_BYTES >= body))
    }

    /// Takes the next whole frame's body, or `None` until more bytes were read.
    ///
    /// # Errors
    /// [`FrameError`]; the buffer stays as it was.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let waiting = &self.bytes[self.start..self.end];
        let Some(body) = announced(waiting, self.bytes_max)? else {
            return Ok(None);
        };
        if waiting.len() - PREFIX_BYTES < body {
            return Ok(None);
        }
        let from = self.start + PREFIX_BYTES;
        self.start = from + body;
        Ok(Some(&self.bytes[from..self.start]))
    }

    /// Room to read into, never empty while no whole frame is waiting.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.bytes.len() || self.filled_up {
            self.make_room();
        } else if self.bytes.len() - self.end < self.start.min(self.bytes.len() / 2) {
            self.move_to_front();
        }
        &mut self.bytes[self.end..]
    }

    /// Says that the first `count` bytes of the last [`spare`](Self::spare) now hold what was read.
    pub fn filled(&mut self, count: usize) {
        debug_assert!(count <= self.bytes.len() - self.end);
        self.end = (self.end + count).min(self.bytes.len());
        self.filled_up = self.end == self.bytes.len();
    }

    /// Whether nothing is waiting, not even a part of a frame.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether [`shrink`](Self::shrink) would give the memory of a busy time back.
    pub fn is_idle_memory(&self) -> bool {
        self.is_empty() && self.bytes.len() > READ_BYTES_MIN
    }

    /// Gives the memory of a busy time back, if nothing is waiting.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::new(self.bytes_max);
        }
    }

    /// Moves what waits (a part of one frame) to the front and doubles the buffer where that is allowed.
    fn make_room(&mut self) {
        self.filled_up = false;
        self.move_to_front();
        // A prefix over the limit was refused before anybody reads again, hence no error can be lost here.
        let frame = match announced(&self.bytes[..self.end], self.bytes_max) {
            Ok(Some(body)) => PREFIX_BYTES + body,
            Ok(None) | Err(_) => PREFIX_BYTES,
        };
        let cap = READ_BYTES_MAX.max(frame);
        if self.bytes.len() < cap {
            // Doubling what has arrived, never the announced length at once: 12 hostile bytes must not cost 4 MiB.
            let grown = (self.bytes.len() * 2).clamp(READ_BYTES_MIN, cap);
            self.bytes.resize(grown, 0);
        }
    }

    /// Early, while little waits: the next read then takes more at a time, and what waits does not grow before it is
    /// moved after all.
    fn move_to_front(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}

/// Length of the body that `bytes` begin with, once the prefix is whole.
fn announced(bytes: &[u8], bytes_max: u32) -> Result<Option<usize>, FrameError> {
    let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let bytes = u32::from_le_bytes(*prefix);
    if bytes == 0 {
        return Err(FrameError::Empty);
    }
    if bytes > bytes_max {
        return Err(FrameError::TooLarge { bytes, bytes_max });
    }
    Ok(Some(bytes as usize))
}

/// Appends one frame to `out`, its body written by `fill`. If `fill` fails or panics, `out` is as it was before: half
/// a frame among whole ones would shift every later one.
///
/// # Errors
/// What `fill` returned, or [`FrameError`] if the body is empty or over `bytes_max`.
pub fn append_frame<E: From<FrameError>>(
    out: &mut Vec<u8>,
    bytes_max: u32,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut draft = Draft { start: out.len(), out, whole: false };
    draft.out.extend_from_slice(&[0; PREFIX_BYTES]);
    let body = draft.start + PREFIX_BYTES;
    fill(draft.out)?;
    let bytes = u32::try_from(draft.out.len() - body).unwrap_or(u32::MAX);
    if bytes == 0 {
        return Err(FrameError::Empty.into());
    }
    if bytes > bytes_max {
        return Err(FrameError::TooLarge { bytes, bytes_max }.into());
    }
    draft.out[draft.start..body].copy_from_slice(&bytes.to_le_bytes());
    draft.whole = true;
    Ok(())
}

/// Takes an unfinished frame back on every way out.
struct Draft<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    whole: bool,
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.whole {
            self.out.truncate(self.start);
        }
    }
}

/// Why [`read_frame`] has no frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes are not frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer closed in the middle of a frame.
    #[error("the connection ended inside a frame")]
    Truncated,
    /// The reader failed. After `WouldBlock` or a time-out nothing is lost: call again with the same buffer.
    #[error("failed to read: {0}")]
    Io(#[from] io::Error),
}

/// Blocks until `buffer` holds a whole frame and takes its body; `None` at a clean end between two frames.
///
/// # Errors
/// See [`ReadError`].
pub fn read_frame<'b>(reader: &mut impl Read, buffer: &'b mut FrameBuffer) -> Result<Option<&'b [u8]>, ReadError> {
    while !buffer.has_frame()? {
        match reader.read(buffer.spare()) {
            Ok(0) if buffer.is_empty() => return Ok(None),
            Ok(0) => return Err(ReadError::Truncated),
            Ok(count) => buffer.filled(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(buffer.next_frame()?)
}

/// Why [`write_frame`] wrote no whole frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Nothing was written: the body is empty or too large.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The writer failed, perhaps in the middle of the frame: the connection cannot be used any further.
    #[error("failed to write: {0}")]
    Io(#[from] io::Error),
}

/// Blocks until the frame with this body is written, in one system call if the writer takes it whole.
///
/// # Errors
/// See [`WriteError`].
pub fn write_frame(writer: &mut impl Write, body: &[u8], bytes_max: u32) -> Result<(), WriteError> {
    let mut frame = Vec::with_capacity(PREFIX_BYTES + body.len());
    append_frame(&mut frame, bytes_max, |out| {
        out.extend_from_slice(body);
        Ok::<(), FrameError>(())
    })?;
    Ok(writer.write_all(&frame)?)
}
