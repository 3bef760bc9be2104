//! Where a terminal's output goes: its tty by a description of our own, the tty as it was handed over, or the socket.
//!
//! Promises that the user's own description of the tty is never changed: setting `O_NONBLOCK` on it would hit the
//! user's shell. Knows no order, queue or limit.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::termios::{OptionalActions, Termios};

/// Longest write to a tty whose description is not ours: a longer one could block for long with no way to take it back.
const BORROWED_WRITE_BYTES_MAX: usize = 512;

/// The way to one terminal.
#[derive(Debug)]
pub struct Sink {
    way: Way,
    /// Wakes whoever waits for room.
    kick: OwnedFd,
}

#[derive(Debug)]
enum Way {
    /// Non-blocking, and nobody else's.
    Own { tty: OwnedFd, before: Option<Termios> },
    /// Blocking: to be written by a thread that may wait.
    Borrowed { tty: OwnedFd, before: Option<Termios> },
    /// Frames; sent without waiting by a flag of each call.
    Socket(UnixStream),
}

impl Sink {
    /// The tty that a terminal handed over, opened once more for ourselves if the system lets us.
    ///
    /// # Errors
    /// `ENOTTY` if it is no terminal, or when descriptors run out.
    pub fn tty(tty: OwnedFd) -> io::Result<Self> {
        if !rustix::termios::isatty(&tty) {
            return Err(Errno::NOTTY.into());
        }
        let before = super::pty::modes(&tty);
        let way = match reopen(&tty) {
            Ok(own) => Way::Own { tty: own, before },
            Err(_) => Way::Borrowed { tty, before },
        };
        Ok(Self { way, kick: eventfd()? })
    }

    /// The attach socket itself.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn socket(socket: &UnixStream) -> io::Result<Self> {
        Ok(Self { way: Way::Socket(socket.try_clone()?), kick: eventfd()? })
    }

    /// Whether output travels as messages.
    pub fn is_relay(&self) -> bool {
        matches!(self.way, Way::Socket(_))
    }

    /// Whether a write returns at once, full or not.
    pub fn never_blocks(&self) -> bool {
        !matches!(self.way, Way::Borrowed { .. })
    }

    /// Modes of the tty before the terminal changed them.
    pub fn modes_before(&self) -> Option<&Termios> {
        match &self.way {
            Way::Own { before, .. } | Way::Borrowed { before, .. } => before.as_ref(),
            Way::Socket(_) => None,
        }
    }

    /// Gives the tty the modes back that it had when it was handed over: its terminal died without doing so.
    pub fn restore(&self) {
        if let Way::Own { tty, before: Some(before) } | Way::Borrowed { tty, before: Some(before) } = &self.way {
            let _gone = rustix::termios::tcsetattr(tty, OptionalActions::Now, before);
        }
    }

    /// Writes what the terminal takes now.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing, anything else if it has gone.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let written = match &self.way {
                Way::Own { tty, .. } => rustix::io::write(tty, bytes),
                Way::Borrowed { tty, .. } => {
                    rustix::io::write(tty, &bytes[..bytes.len().min(BORROWED_WRITE_BYTES_MAX)])
                }
                Way::Socket(socket) => rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            };
            match written {
                Err(Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Blocks until the terminal takes more, has gone, or somebody kicks.
    pub fn wait(&self) {
        let mut polled =
            [PollFd::from_borrowed_fd(self.descriptor(), PollFlags::OUT), PollFd::new(&self.kick, PollFlags::IN)];
        let _interrupted = rustix::event::poll(&mut polled, None);
        if polled[1].revents().contains(PollFlags::IN) {
            let mut count = [0; 8];
            let _taken = rustix::io::read(&self.kick, &mut count);
        }
    }

    /// Ends a [`Self::wait`], now or the next.
    pub fn kick(&self) {
        let _full_is_kicked = rustix::io::write(&self.kick, &1u64.to_ne_bytes());
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.way {
            Way::Own { tty, .. } | Way::Borrowed { tty, .. } => tty.as_fd(),
            Way::Socket(socket) => socket.as_fd(),
        }
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// A description of our own of the same tty. Fails where the tty is another user's, as after `su`.
fn reopen(tty: &OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}", tty.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
