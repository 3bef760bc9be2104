//! Standard output, as results are written to it: whole, or not at all.
//!
//! Promises that a result that nobody can get is an error, and that a reader who has gone is none. Knows no results.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::report::Failure;

static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Runs before `main`. The language's own start opens /dev/null in place of what is closed, and a result that went there
/// would pass for one that somebody has.
extern "C" fn look() {
    let is_closed = rustix::io::fcntl_getfd(rustix::stdio::stdout()) == Err(rustix::io::Errno::BADF);
    WAS_CLOSED.store(is_closed, Ordering::Relaxed);
}

// SAFETY: the C library calls each function of this section once, before `main`, in the only thread; any arguments that it
// passes are left alone by the C convention. The function makes one system call and stores to an atomic: it needs nothing
// that is set up later, and cannot unwind.
#[allow(unsafe_code)]
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Whether this process was started without one (`>&-`).
pub fn is_closed() -> bool {
    WAS_CLOSED.load(Ordering::Relaxed)
}

/// It, to write a result to.
///
/// # Errors
/// If there is none.
pub fn open() -> io::Result<io::Stdout> {
    if is_closed() { Err(rustix::io::Errno::BADF.into()) } else { Ok(io::stdout()) }
}

/// Writes a part of a result, at once. False if its reader has gone, which is the reader's choice.
///
/// # Errors
/// A [`Failure`] if it cannot be written.
pub fn write(bytes: &[u8]) -> Result<bool, Failure> {
    if bytes.is_empty() {
        return Ok(true);
    }
    let mut out = open().map_err(|error| failure(&error))?.lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(failure(&error)),
    }
}

/// Why a result was not written.
pub fn failure(error: &io::Error) -> Failure {
    Failure::refused(format_args!("cannot write the result: {error}"))
}
