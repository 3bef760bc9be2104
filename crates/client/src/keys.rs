//! What views that fill the screen wait for: keys, signals, and answers of a thread beside them.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossterm::event::{self, Event};
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};

use crate::report::Failure;

/// What a shell adds to a signal's number, for a status.
pub(crate) const STATUS_SIGNAL: u8 = 128;

/// How long it waits for more once nothing is left to read: with none at all, the library does not look.
const LOOK: Duration = Duration::from_millis(1);

/// What the user did next, if they did anything that is not handed out yet.
///
/// # Errors
/// If the terminal cannot be read.
pub(crate) fn pending() -> io::Result<Option<Event>> {
    if event::poll(LOOK)? { event::read().map(Some) } else { Ok(None) }
}

/// Sleeps until there is a key, or something to read from `wake`, which is emptied.
///
/// # Errors
/// If the terminal has gone.
pub(crate) fn wait(keyboard: BorrowedFd<'_>, wake: &mut File) -> Result<(), Failure> {
    let mut fds =
        [PollFd::from_borrowed_fd(keyboard, PollFlags::IN), PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN)];
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(terminal_failed(&error)),
    }
    if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        return Err(Failure::refused("the terminal has gone"));
    }
    let mut bytes = [0; 64];
    while wake.read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
    Ok(())
}

/// The terminal cannot be drawn on, or not be read.
pub(crate) fn terminal_failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::refused(format_args!("cannot use this terminal: {error}"))
}

/// Signals that end a full-screen view, and the one that says that the window has another size.
pub(crate) struct Signals {
    ended_by: Arc<AtomicUsize>,
    ids: Vec<signal_hook::SigId>,
}

impl Signals {
    /// From now on each of them writes a byte to `waker`.
    ///
    /// # Errors
    /// If the system gives no handler.
    pub(crate) fn new(waker: &OwnedFd) -> Result<Self, Failure> {
        let ended_by = Arc::new(AtomicUsize::new(0));
        let mut ids = Vec::new();
        let mut register = || -> std::io::Result<()> {
            for signal in [SIGTERM, SIGHUP, SIGINT] {
                let number = usize::try_from(signal).unwrap_or(0);
                ids.push(signal_hook::flag::register_usize(signal, Arc::clone(&ended_by), number)?);
            }
            for signal in [SIGTERM, SIGHUP, SIGINT, SIGWINCH] {
                ids.push(signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?);
            }
            Ok(())
        };
        register().map_err(|error| Failure::refused(format_args!("cannot handle signals: {error}")))?;
        Ok(Self { ended_by, ids })
    }

    /// The signal that asks for the end, if one has come.
    pub(crate) fn ended_by(&self) -> Option<u8> {
        u8::try_from(self.ended_by.load(Ordering::Relaxed)).ok().filter(|&signal| signal != 0)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
