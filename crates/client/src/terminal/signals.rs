//! Signals of the terminal process as something to wait for.
//!
//! Promises that none is lost between two looks, though several of one kind may count once. What they mean is the
//! terminal's business.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// What is caught. `SIGTTIN` and `SIGTTOU` stay as they are: they stop a background process as they should.
const CAUGHT: [i32; 7] = [SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH];

/// The signals that came.
#[derive(Debug)]
pub struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// Catches the signals that a terminal deals with, from now on. One that the caller ignores stays ignored: under
    /// `nohup` a hangup means nothing.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn catch() -> io::Result<Self> {
        let (reading, writing) = UnixStream::pair()?;
        reading.set_nonblocking(true)?;
        let ignored = ignored_by_caller();
        let caught = CAUGHT.iter().filter(|signal| ignored >> (**signal - 1) & 1 == 0);
        Ok(Self(SignalDelivery::with_pipe(reading, writing, SignalOnly, caught)?))
    }

    /// The signals that came since the last look.
    pub fn pending(&mut self) -> Vec<Signal> {
        let mut drained = [0; 64];
        let mut from = self.0.get_read();
        while io::Read::read(&mut from, &mut drained).is_ok_and(|count| count == drained.len()) {}
        self.0.pending().filter_map(Signal::from_named_raw).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// Signals that were ignored when this program was started, as a bit set from signal 1 up. Source: proc(5).
fn ignored_by_caller() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
