//! The terminal: a foreground process that lends the user's tty to a keeper.
//!
//! Promises that the tty is as before on every way out, that nothing typed is lost or changed but the detach key, and
//! that a keeper that hangs cannot hold it. Knows the attach conversation, and nothing of records or daemons.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use rustix::stdio::{stdin, stdout};
use shellkeep_journal::hook::{self, Point};
use shellkeep_protocol::attach::{
    ATTACH_SCREEN_BYTES_MAX, CommandSignal, FromKeeper, FromTerminal, ResumeAt, Screen as Brought, Size,
};
use shellkeep_protocol::query::Screen;
use shellkeep_protocol::session::ExitStatus;

use self::detach_key::{DetachKey, Keys};
use self::modes::{LEAVE_SCREEN, Raw};
use self::signals::Signals;
use crate::input::Input;
use crate::link::{LinkError, Receiver, Sender};

pub mod detach_key;
pub mod modes;
pub mod pressed;
pub mod signals;
mod tty;

pub use self::tty::{has_tty, size, wait_for_foreground};

/// How long a keeper may take to let go. Then the terminal goes without its word.
const RELEASE_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often the way in is looked at again while it takes nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Bytes of typed input read at once.
const INPUT_BYTES: usize = 4096;
/// Bytes written to a pipe at once: so many fit when there is room at all. Source: pipe(7), `PIPE_BUF`.
const PIPE_WRITE_BYTES: usize = 4096;
/// Lines that a keeper may leave for after the session. Later ones are dropped.
const NOTICES_MAX: usize = 8;

/// How a terminal came to its end.
#[derive(Debug)]
pub enum End {
    /// The command has ended.
    Exited(ExitStatus),
    /// The session goes on without this terminal.
    Detached,
    /// A signal ended this terminal; the session goes on.
    Signalled(u8),
    /// Nobody reads the output any more; the command was hung up if it was started here.
    OutputClosed,
    /// The command could not be started.
    NotStarted {
        /// The status that a shell would return.
        status: u8,
        /// Why.
        reason: String,
    },
    /// The keeper cannot start the command for want of something that is no fault of the command's.
    NotKept(String),
    /// The keeper has gone without a word, and the command with it.
    Lost(LinkError),
}

/// What a terminal works with.
pub struct Terminal {
    /// To the keeper.
    pub sender: Sender,
    /// From the keeper.
    pub receiver: Receiver,
    /// The PTY's master, if typed bytes may go straight to it.
    pub master: Option<File>,
    /// The tty was handed over; else output comes as messages and goes to standard output.
    pub has_tty: bool,
    /// Keys that detach.
    pub keys: Keys,
    /// The session was started by this process: without a tty the end of input, a closed output and signals are the
    /// command's, as they would be for any program in a pipe.
    pub is_starter: bool,
    /// Where the session's screen is asked for; `None` if the keeper is too old to take one.
    pub screens: Option<Screens>,
    /// The right to the session's name, given up once others can see that it is taken.
    pub name_right: Option<OwnedFd>,
}

/// Gives the session's screen with at least so many bytes of its recorded output, for such a window; `None` if it cannot
/// be had within a moment.
pub type Screens = Box<dyn Fn(u64, Size) -> Option<Screen>>;

/// The state of one attachment.
#[allow(clippy::struct_excessive_bools)] // independent facts; their combinations are all legal
struct Loop {
    sender: Sender,
    receiver: Receiver,
    input: Option<Input>,
    has_tty: bool,
    is_starter: bool,
    name_right: Option<OwnedFd>,
    screens: Option<Screens>,
    /// The keeper was asked how far the output is, and has not answered.
    is_asking: bool,
    /// Its last answer.
    at: Option<u64>,
    key: DetachKey,
    held_until: Option<Instant>,
    /// Set once the keeper was asked to let go.
    released_by: Option<Instant>,
    ended_by: Option<u8>,
    input_open: bool,
    /// The keeper shows nothing until it is told to go on.
    is_paused: bool,
    output: VecDeque<u8>,
    notices: Vec<String>,
    signals: Signals,
    raw: Option<Raw>,
}

impl Terminal {
    /// Shows the session until it, or this terminal's part in it, is over.
    ///
    /// # Errors
    /// When signals or the tty's modes cannot be had; nothing was shown then.
    pub fn run(self) -> io::Result<End> {
        modes::restore_on_panic();
        let signals = Signals::catch()?;
        let raw = if self.has_tty { Some(Raw::enter()?) } else { None };
        hook::pause(Point::TerminalHanded);
        let mut this = Loop {
            sender: self.sender,
            receiver: self.receiver,
            input: self.master.map(|master| Input::new(Arc::new(master))),
            has_tty: self.has_tty,
            is_starter: self.is_starter,
            name_right: self.name_right,
            screens: self.screens,
            is_asking: false,
            at: None,
            key: DetachKey::new(if self.has_tty { self.keys } else { "none".parse().unwrap_or(self.keys) }),
            held_until: None,
            released_by: None,
            ended_by: None,
            input_open: true,
            is_paused: true,
            output: VecDeque::new(),
            notices: Vec::new(),
            signals,
            raw,
        };
        let end = this.live();
        let left = matches!(end, End::Detached | End::Signalled(_));
        if left && this.has_tty {
            let _hung_up = rustix::io::write(stdout(), LEAVE_SCREEN);
        }
        drop(this.raw.take());
        for notice in this.notices {
            crate::report::notice(notice);
        }
        Ok(end)
    }
}

impl Loop {
    fn live(&mut self) -> End {
        // Waits are for the poll below; a keeper that sends half a message and stops is no keeper.
        let prepared = self.receiver.set_wait(Some(RELEASE_WAIT_MAX));
        let resumed = prepared.and_then(|()| {
            // Of a session that begins here nothing can be missing.
            if self.is_starter {
                self.say(&FromTerminal::Resume(size().unwrap_or_default())).map(|()| None)
            } else {
                self.resume()
            }
        });
        match resumed {
            Ok(None) => {}
            Ok(Some(end)) => return end,
            Err(error) => return End::Lost(error),
        }
        loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => return self.lost(error),
            }
        }
    }

    /// Goes on on the session's screen if that can be had, else on one that programs draw anew.
    fn resume(&mut self) -> Result<Option<End>, LinkError> {
        let size = size().unwrap_or_default();
        if self.screens.is_none() || !self.has_tty {
            self.say(&FromTerminal::Resume(size))?;
            return Ok(None);
        }
        (self.is_asking, self.at) = (true, None);
        self.say(&FromTerminal::Where)?;
        while self.is_asking {
            match self.hear() {
                Ok(None) => {}
                Ok(Some(end)) => return Ok(Some(end)),
                Err(LinkError::TimedOut) => self.is_asking = false, // it is stopped; whoever continues it has a screen
                Err(error) => return Err(error),
            }
        }
        let screens = self.screens.as_ref().zip(self.at);
        let found = screens.and_then(|(screens, at)| screens(at, size));
        let found = found.as_ref().filter(|found| found.bytes.len() <= ATTACH_SCREEN_BYTES_MAX);
        let screen = found.map(|found| Brought { offset: found.offset, is_exact: found.is_exact, bytes: &found.bytes });
        self.say(&FromTerminal::ResumeAt(ResumeAt { size, screen }))?;
        Ok(None)
    }

    /// The connection has ended: as asked for, or without a word.
    fn lost(&self, error: LinkError) -> End {
        match (self.ended_by, self.released_by) {
            (Some(signal), _) => End::Signalled(signal),
            (None, Some(_)) => End::Detached,
            (None, None) => End::Lost(error),
        }
    }

    /// Waits for something and does it.
    fn turn(&mut self) -> Result<Option<End>, LinkError> {
        if self.output.is_empty() && self.receiver.has_message()? {
            return self.hear();
        }
        let takes_input = self.takes_input();
        let (typed, heard, signalled, writable) = self.wait(takes_input);
        if signalled && let Some(end) = self.signalled()? {
            return Ok(Some(end));
        }
        if self.held_until.is_some_and(|until| until <= Instant::now()) {
            self.release_key()?;
        }
        if self.released_by.is_some_and(|by| by <= Instant::now()) {
            return Err(LinkError::TimedOut);
        }
        if typed {
            self.read_input()?;
        }
        if writable && let Some(end) = self.write_output()? {
            return Ok(Some(end));
        }
        if heard {
            self.receiver.fill()?;
        }
        Ok(None)
    }

    /// Whether typed bytes have somewhere to go now.
    fn takes_input(&self) -> bool {
        if !self.input_open || self.released_by.is_some() {
            return false;
        }
        if let Some(input) = &self.input {
            input.accepts()
        } else {
            let mut polled = [PollFd::new(self.sender.socket(), PollFlags::OUT)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
        }
    }

    /// Waits until one of these can be done: read input, read messages, read signals, write output.
    fn wait(&self, takes_input: bool) -> (bool, bool, bool, bool) {
        let look_again = (self.input_open && !takes_input).then(|| Instant::now() + LOOK_AGAIN);
        let until = [self.held_until, self.released_by, look_again].into_iter().flatten().min();
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let none = PollFlags::empty();
        let listens = if self.output.is_empty() { PollFlags::IN } else { none };
        let (input, output) = (stdin(), stdout());
        let mut polled = vec![
            PollFd::new(self.receiver.socket(), listens),
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
        ];
        let at_input = takes_input.then(|| {
            polled.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
            polled.len() - 1
        });
        let at_output = (!self.output.is_empty()).then(|| {
            polled.push(PollFd::from_borrowed_fd(output, PollFlags::OUT));
            polled.len() - 1
        });
        let _interrupted = rustix::event::poll(&mut polled, timeout.as_ref());
        let is_ready = |at: usize| !polled[at].revents().is_empty();
        let heard = is_ready(0) && self.output.is_empty();
        (at_input.is_some_and(is_ready), heard, is_ready(1), at_output.is_some_and(is_ready))
    }

    fn say(&self, message: &FromTerminal<'_>) -> Result<(), LinkError> {
        match self.sender.to_keeper(message, &[]) {
            Err(LinkError::Closed) => Ok(()), // what it said before it went is still to be heard, its end last
            result => result,
        }
    }

    /// Reads what was typed and passes it on.
    fn read_input(&mut self) -> Result<(), LinkError> {
        let mut typed = [0; INPUT_BYTES];
        match rustix::io::read(stdin(), &mut typed) {
            Ok(0) => self.input_ended(),
            Ok(count) => {
                let mut passed = Vec::with_capacity(count + 1);
                let detach = self.key.pass(&typed[..count], &mut passed);
                self.held_until = self.key.hold().map(|hold| Instant::now() + hold);
                self.type_in(&passed)?;
                if detach { self.detach() } else { Ok(()) }
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(()),
            Err(_) => self.input_ended(),
        }
    }

    /// A tty has hung up: the session goes on without it. A pipe has ended: so has what a command started from here
    /// reads; a session that was there before may have other people at its keyboard.
    fn input_ended(&mut self) -> Result<(), LinkError> {
        self.input_open = false;
        if self.has_tty {
            self.ended_by = Some(as_status(Signal::HUP));
            return self.detach();
        }
        if self.is_starter { self.say(&FromTerminal::EndOfInput) } else { Ok(()) }
    }

    fn release_key(&mut self) -> Result<(), LinkError> {
        let mut passed = Vec::new();
        self.key.release(&mut passed);
        self.held_until = None;
        self.type_in(&passed)
    }

    fn type_in(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        match &self.input {
            _ if bytes.is_empty() => Ok(()),
            Some(input) => {
                input.send(bytes);
                Ok(())
            }
            None => self.say(&FromTerminal::Input(bytes)),
        }
    }

    fn detach(&mut self) -> Result<(), LinkError> {
        if self.released_by.is_none() {
            self.released_by = Some(Instant::now() + RELEASE_WAIT_MAX);
            self.say(&FromTerminal::Detach)?;
        }
        Ok(())
    }

    /// Does what the keeper says.
    fn hear(&mut self) -> Result<Option<End>, LinkError> {
        let end = match self.receiver.from_keeper()? {
            FromKeeper::Output(bytes) => {
                self.output.extend(bytes);
                None
            }
            FromKeeper::Ended(exit) => Some(End::Exited(exit)),
            FromKeeper::Released => Some(match self.ended_by {
                Some(signal) => End::Signalled(signal),
                None => End::Detached,
            }),
            FromKeeper::StartFailed { status, reason } => Some(End::NotStarted { status, reason }),
            FromKeeper::Refused { reason } => Some(End::NotKept(reason)),
            FromKeeper::Notice(notice) => {
                if self.notices.len() < NOTICES_MAX {
                    self.notices.push(notice);
                }
                None
            }
            FromKeeper::Started => {
                self.name_right = None;
                None
            }
            FromKeeper::At { offset } => {
                (self.is_asking, self.at) = (false, offset);
                None
            }
            FromKeeper::Behind => self.resume()?,
            FromKeeper::Paused => {
                self.is_paused = true;
                None
            }
            _ => None, // answers that nobody waits for
        };
        Ok(end)
    }

    /// Writes output to a pipe or a file, as it takes it.
    fn write_output(&mut self) -> Result<Option<End>, LinkError> {
        let (first, _) = self.output.as_slices();
        let piece = &first[..first.len().min(PIPE_WRITE_BYTES)];
        match rustix::io::write(stdout(), piece) {
            Ok(count) => {
                self.output.drain(..count);
                Ok(None)
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(None),
            Err(_) => {
                if self.is_starter {
                    self.say(&FromTerminal::Signal(CommandSignal::HangUp))?;
                }
                self.say(&FromTerminal::Detach)?;
                Ok(Some(End::OutputClosed))
            }
        }
    }

    fn signalled(&mut self) -> Result<Option<End>, LinkError> {
        for signal in self.signals.pending() {
            match signal {
                Signal::WINCH => {
                    if let Some(size) = size().filter(|_| self.has_tty) {
                        self.say(&FromTerminal::Resize(size))?;
                    }
                }
                Signal::TSTP => {
                    if let Some(end) = self.suspend()? {
                        return Ok(Some(end));
                    }
                }
                Signal::INT if self.stands_for_command() => {
                    self.say(&FromTerminal::Signal(CommandSignal::Interrupt))?;
                }
                Signal::TERM if self.stands_for_command() => {
                    self.say(&FromTerminal::Signal(CommandSignal::Terminate))?;
                }
                Signal::CONT => {}
                signal => {
                    self.ended_by = Some(as_status(signal));
                    self.detach()?;
                }
            }
        }
        Ok(None)
    }

    /// In a pipeline this process is the command that it started, to whoever signals it.
    fn stands_for_command(&self) -> bool {
        self.is_starter && !self.has_tty
    }

    /// Stops as the user's shell wants it, with the tty given back for as long as that lasts.
    fn suspend(&mut self) -> Result<Option<End>, LinkError> {
        if self.has_tty {
            self.say(&FromTerminal::Pause)?;
            self.is_paused = false;
            while !self.is_paused {
                if let Some(end) = self.hear()? {
                    return Ok(Some(end)); // the session was faster than the user
                }
            }
        }
        drop(self.raw.take());
        let _stopped = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
        if self.has_tty {
            if !wait_for_foreground() {
                return Err(LinkError::Closed);
            }
            self.raw = Some(Raw::enter()?);
            self.say(&FromTerminal::Resume(size().unwrap_or_default()))?;
        }
        Ok(None)
    }
}

fn as_status(signal: Signal) -> u8 {
    u8::try_from(signal.as_raw()).unwrap_or(0)
}
