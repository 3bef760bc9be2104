//! A record in a form for others: text, pages, casts, documents.
//!
//! Promises that no form prints a control character of a record, or one that orders text anew, but as an escape, that what is missing is said
//! where it is missing, and that memory does not grow with the record. Each form is a [`Writer`]; all of them get what is
//! recorded through [`redaction`], which takes secrets out, and [`passage`], and nothing else.

use std::io::{self, Write};

use shellkeep_protocol::query::{Item, SessionInfo};
use shellkeep_protocol::session::ExitStatus;

pub mod cast;
pub mod describe;
pub mod html;
pub mod json;
pub mod passage;
pub mod redaction;
pub mod text;

/// What is exported.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The session. Its texts have passed.
    pub session: SessionInfo,
    /// Its commands, or the one that is wanted. Their texts have passed.
    pub commands: Vec<shellkeep_protocol::query::CommandInfo>,
    /// Only a command of it, not all of the session.
    pub is_part: bool,
    /// The window at the beginning: columns, rows.
    pub size: (u16, u16),
    /// When what is exported begins: microseconds since the Unix epoch.
    pub started_at_us: u64,
}

/// What a form is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Text that was printed, with its escape sequences.
    Output(String),
    /// Text that was typed.
    Input(String),
    /// The window has another size: columns, rows.
    Resized(u16, u16),
    /// The command at this place of [`Subject::commands`] begins.
    Begins(usize),
    /// It has ended.
    Ends(usize),
    /// Something is missing, damaged or was left out.
    Told(Item),
    /// The session's command has ended.
    Exited(ExitStatus),
}

/// Writes one form.
pub trait Writer<W: Write> {
    /// Takes what happened next, at `time_us` microseconds since the Unix epoch.
    ///
    /// # Errors
    /// If what is written to takes no more.
    fn take(&mut self, time_us: u64, event: Event) -> io::Result<()>;

    /// Writes what is left; returns what was written to.
    ///
    /// # Errors
    /// As [`Self::take`].
    fn finish(self: Box<Self>) -> io::Result<W>;
}
