//! Messages to bytes and back. The only file that names bincode (unmaintained, but complete and the fastest measured),
//! so that it can be replaced here.
//!
//! Promises fixed-width integers, no trailing bytes, and that neither direction handles more bytes than its limit: a
//! hostile length inside a message allocates nothing. (A `Vec` of a type that encodes to no bytes, like `Vec<()>`, is
//! not bounded by that; do not put one into a message.)

use std::io::{self, Write};

use bincode::Options;
use serde::{Deserialize, Serialize};

/// Why a message has no bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// It would be longer than the limit.
    #[error("a message over the limit of {bytes_max} bytes")]
    TooLarge {
        /// The limit in force.
        bytes_max: usize,
    },
    /// Its `Serialize` failed, or asked for what bincode cannot write (a sequence of unknown length, `flatten`).
    #[error("a message that cannot be written: {0}")]
    Unwritable(Box<dyn std::error::Error + Send + Sync>),
}

/// The bytes are not this message.
#[derive(Debug, thiserror::Error)]
#[error("bytes that are not the message expected: {0}")]
pub struct DecodeError(Box<dyn std::error::Error + Send + Sync>);

/// Appends `message` to `out`, at the most `bytes_max` bytes. On failure `out` holds a part of it: truncate.
///
/// # Errors
/// See [`EncodeError`].
pub fn encode_into<T: Serialize + ?Sized>(message: &T, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), EncodeError> {
    let mut bounded = Bounded { end: out.len().saturating_add(bytes_max), out, over: false };
    // The bound sits in the writer because bincode's own limit computes the size first, a second walk of the message.
    match options().serialize_into(&mut bounded, message) {
        Ok(()) => Ok(()),
        Err(_) if bounded.over => Err(EncodeError::TooLarge { bytes_max }),
        Err(error) => Err(EncodeError::Unwritable(error)),
    }
}

/// Reads a message that fills `bytes` exactly. Borrows from `bytes` where its type does.
///
/// # Errors
/// [`DecodeError`] if the bytes end early, are left over, or mean nothing.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    // No message holds more bytes than it was sent in: the exact limit, and the least that an attacker can use.
    options().with_limit(bytes.len() as u64).deserialize(bytes).map_err(|error| DecodeError(error))
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding()
}

struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    end: usize,
    over: bool,
}

impl Bounded<'_> {
    #[cold]
    fn overflow(&mut self) -> io::Error {
        self.over = true;
        io::ErrorKind::FileTooLarge.into()
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.end - self.out.len() {
            return Err(self.overflow());
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
