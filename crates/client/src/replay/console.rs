//! Where recordings are played: the user's terminal with its keys, or whatever standard output is.
//!
//! Promises that the terminal's modes are as before on every way out, and that a key or a signal is heard at once.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use rustix::stdio::stdin;

use super::keys::Keys;
use super::{Console, Heard};
use crate::report;
use crate::terminal::modes::{Raw, restore_on_panic};
use crate::terminal::signals::Signals;
use crate::terminal::{size, wait_for_foreground};

/// Bytes of keys read at once.
const KEYS_BYTES: usize = 256;

/// Notes kept until the terminal is the user's again; later ones are counted.
const NOTES_MAX: usize = 20;

/// The user's terminal.
pub struct Tty {
    raw: Option<Raw>,
    signals: Signals,
    keys: Keys,
    notes: Vec<String>,
    notes_left_out: u64,
}

impl Tty {
    /// Takes the terminal.
    ///
    /// # Errors
    /// If its modes or signals cannot be had; nothing has changed then.
    pub fn enter() -> io::Result<Self> {
        restore_on_panic();
        let signals = Signals::catch()?;
        let raw = Some(Raw::enter()?);
        Ok(Self { raw, signals, keys: Keys::default(), notes: Vec::new(), notes_left_out: 0 })
    }

    /// Gives it back, and tells what was noted meanwhile.
    pub fn leave(mut self) {
        drop(self.raw.take());
        for note in &self.notes {
            report::notice(note);
        }
        if self.notes_left_out > 0 {
            report::notice(format_args!("{} more of these; \"shellkeep verify\" lists them", self.notes_left_out));
        }
    }

    fn signalled(&mut self) -> Vec<Heard> {
        let heard = self.signals.pending().into_iter().filter_map(|signal| match signal {
            Signal::WINCH => Some(Heard::Resized),
            Signal::TSTP => Some(Heard::Suspended),
            Signal::CONT => None,
            signal => Some(Heard::Signal(u8::try_from(signal.as_raw()).unwrap_or(0))),
        });
        heard.collect()
    }
}

impl Console for Tty {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wait(&mut self, until: Option<Instant>) -> Vec<Heard> {
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() }
        });
        let mut polled = [
            PollFd::from_borrowed_fd(stdin(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
        ];
        let _interrupted = rustix::event::poll(&mut polled, timeout.as_ref());
        let (typed, signalled) = (!polled[0].revents().is_empty(), !polled[1].revents().is_empty());
        let mut heard = if signalled { self.signalled() } else { Vec::new() };
        if typed {
            let mut bytes = [0; KEYS_BYTES];
            match rustix::io::read(stdin(), &mut bytes) {
                Ok(count) if count > 0 => heard.extend(self.keys.read(&bytes[..count]).into_iter().map(Heard::Key)),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                _ => heard.push(Heard::Signal(u8::try_from(Signal::HUP.as_raw()).unwrap_or(1))), // it has hung up
            }
        }
        heard
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn window(&self) -> Option<(u16, u16)> {
        let window = size()?;
        (window.cols > 0 && window.rows > 0).then_some((window.cols, window.rows))
    }

    fn suspend(&mut self, leave: &str) -> io::Result<()> {
        self.show(leave)?;
        drop(self.raw.take());
        let _stopped = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
        if !wait_for_foreground() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.raw = Some(Raw::enter()?);
        Ok(())
    }

    fn note(&mut self, text: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(text);
        } else {
            self.notes_left_out += 1;
        }
    }
}

/// A pipe or a file: timing, and nothing else.
#[derive(Debug)]
pub struct Stream;

impl Console for Stream {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wait(&mut self, until: Option<Instant>) -> Vec<Heard> {
        if let Some(until) = until {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
        Vec::new()
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn window(&self) -> Option<(u16, u16)> {
        None
    }

    fn suspend(&mut self, _leave: &str) -> io::Result<()> {
        Ok(())
    }

    fn note(&mut self, text: String) {
        report::notice(text);
    }
}
