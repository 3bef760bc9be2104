//! One attach connection: messages of a terminal in, what they mean done.
//!
//! Promises that a stranger or a stuck terminal costs one thread and one small buffer, and nothing of the session.
//! Knows the attach conversation; who may connect is the server's business.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use shellkeep_journal::Seq;
use shellkeep_protocol::attach::{ATTACH_VERSIONS, Attach, FromKeeper, FromTerminal, Size};

use super::pty;
use super::session::Session;
use super::sink::Sink;
use super::terminal::Terminal;
use crate::link::{LinkError, Receiver, Sender};

/// How long a connection may take to say what it wants. Then it is closed.
pub const FIRST_WORD_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a peer that reads nothing may hold up an answer to it. Then its connection is closed.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);

/// One connection.
pub struct Connection {
    session: Arc<Session>,
    sender: Sender,
    receiver: Receiver,
    terminal: Option<Arc<Terminal>>,
    /// The session was running before this terminal came, so its screen must be drawn.
    needs_redraw: bool,
    /// Of the conversation.
    version: u16,
}

impl Connection {
    /// A connection to `session`, greeted already.
    pub fn new(session: Arc<Session>, sender: Sender, receiver: Receiver, version: u16) -> Self {
        Self { session, sender, receiver, terminal: None, needs_redraw: true, version }
    }

    /// The connection that the keeper was born with, attached before the command was started.
    pub fn born(session: Arc<Session>, sender: Sender, receiver: Receiver, terminal: Option<Arc<Terminal>>) -> Self {
        let version = *ATTACH_VERSIONS.end(); // its terminal is of the same program
        Self { session, sender, receiver, terminal, needs_redraw: false, version }
    }

    /// Serves the terminal that the session was started for, which may be silent for as long as it likes.
    pub fn serve_attached(self) {
        if self.receiver.set_wait(None).is_ok() {
            self.serve();
        }
    }

    /// Serves the connection until it ends.
    pub fn serve(mut self) {
        while let Ok(()) = self.next() {}
        if let Some(terminal) = self.terminal.take() {
            terminal.bury();
            self.session.remove(&terminal);
        }
    }

    fn next(&mut self) -> Result<(), LinkError> {
        let session = &self.session;
        match self.receiver.from_terminal()? {
            FromTerminal::Info => self.answer(&FromKeeper::Info(Box::new(session.info()))),
            FromTerminal::Attach(attach) => self.attach(&attach),
            FromTerminal::Launch(_) => Err(LinkError::Foreign("a second launch".to_owned())),
            FromTerminal::Resize(size) => {
                session.resize(size);
                Ok(())
            }
            FromTerminal::Input(bytes) => {
                session.type_in(bytes);
                Ok(())
            }
            FromTerminal::EndOfInput => {
                session.type_in(&[pty::end_of_file(&session.master)]);
                Ok(())
            }
            FromTerminal::Signal(signal) => {
                session.signal(signal);
                Ok(())
            }
            FromTerminal::Pause => {
                if let Some(terminal) = &self.terminal {
                    terminal.output.pause();
                }
                self.answer(&FromKeeper::Paused)
            }
            FromTerminal::Resume(size) => {
                self.resume(size);
                Ok(())
            }
            FromTerminal::Where => {
                let offset = session.recorder.recorded_end();
                self.answer(&FromKeeper::At { offset })
            }
            FromTerminal::ResumeAt(resume) => {
                self.needs_redraw = false;
                if let Some(terminal) = &self.terminal {
                    session.resume_at(terminal, &resume);
                }
                Ok(())
            }
            FromTerminal::Detach => self.detach(),
            FromTerminal::DetachAll => {
                let terminals = session.detach_all();
                self.answer(&FromKeeper::Detached { terminals })
            }
            FromTerminal::Kill => {
                let _witness = session.witness();
                session.notify("the session was ended by \"shellkeep kill\"");
                let exit = session.kill();
                self.answer(&FromKeeper::Killed(exit))
            }
            FromTerminal::Poke => {
                if let Some(shipper) = session.shipper.get() {
                    shipper.poke();
                }
                self.answer(&FromKeeper::Poked)
            }
            FromTerminal::Note(payload) => {
                let seq = session.recorder.note(payload).map(Seq::get);
                self.answer(&FromKeeper::Noted { seq })
            }
            FromTerminal::Record(recording) => {
                session.recorder.set_recording(recording);
                self.answer(&FromKeeper::Recording(session.recorder.recording()))
            }
        }
    }

    fn answer(&self, message: &FromKeeper<'_>) -> Result<(), LinkError> {
        match &self.terminal {
            Some(terminal) => {
                terminal.say(message);
                Ok(())
            }
            None => self.sender.to_terminal(message, &[]),
        }
    }

    fn attach(&mut self, attach: &Attach) -> Result<(), LinkError> {
        if self.session.exit().is_some() || self.terminal.is_some() {
            let reason = "the command has ended, or this terminal is attached already".to_owned();
            return self.answer(&FromKeeper::Refused { reason });
        }
        let sink = sink(attach, &mut self.receiver, &self.sender)?;
        self.session.point_agent_link(&attach.ssh_auth_sock);
        let patience = attach.patience_ms.map(|ms| Duration::from_millis(ms.into()));
        let direct = !self.session.recorder.records_input() && !sink.is_relay();
        let identity = &self.session.identity;
        welcome(&self.sender, identity.session, identity.name.clone(), direct.then_some(&self.session.master))?;
        self.terminal = Some(self.session.add(sink, &self.sender, patience, self.version));
        self.receiver.set_wait(None)
    }

    fn resume(&mut self, size: Size) {
        let unchanged = pty::size(&self.session.master) == size;
        self.session.resize(size);
        if let Some(terminal) = &self.terminal {
            terminal.output.resume();
        }
        if std::mem::take(&mut self.needs_redraw) && unchanged {
            self.session.redraw();
        }
    }

    fn detach(&mut self) -> Result<(), LinkError> {
        match self.terminal.take() {
            Some(terminal) => {
                terminal.release();
                self.session.remove(&terminal);
                self.needs_redraw = true;
                Ok(())
            }
            None => self.answer(&FromKeeper::Released),
        }
    }
}

/// The way to the terminal that asks: its tty if it handed one over, else the socket.
///
/// # Errors
/// [`LinkError::Io`] when descriptors run out.
pub fn sink(attach: &Attach, receiver: &mut Receiver, sender: &Sender) -> Result<Sink, LinkError> {
    let tty: Option<OwnedFd> = receiver.take_descriptor().filter(|_| attach.tty);
    match tty.map(Sink::tty) {
        Some(Ok(sink)) => Ok(sink),
        // No tty, or something else under that name: messages always work.
        Some(Err(_)) | None => Ok(Sink::socket(sender.socket())?),
    }
}

/// Tells a terminal that it is attached, with the PTY's master beside it if it may write straight into it.
///
/// # Errors
/// See [`LinkError`].
pub fn welcome(
    sender: &Sender,
    session: shellkeep_protocol::ids::SessionId,
    name: Option<String>,
    master: Option<&Arc<std::fs::File>>,
) -> Result<(), LinkError> {
    let attached = FromKeeper::Attached { session, name, direct_input: master.is_some() };
    match master {
        Some(master) => sender.to_terminal(&attached, &[master.as_fd()]),
        None => sender.to_terminal(&attached, &[]),
    }
}
