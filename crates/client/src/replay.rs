//! A record played in a terminal, with its own timing.
//!
//! [`pace`] knows when, [`filter`] what may reach the terminal, [`screen`] what stands on it, [`keys`] what was asked for,
//! [`player`] brings them together over a [`Console`], which is a real terminal, a pipe, or a test with a clock of its own.

use std::io;
use std::time::Instant;

pub mod console;
pub mod filter;
pub mod keys;
pub mod pace;
pub mod player;
pub mod screen;
pub mod status;

/// What a player hears while it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A key.
    Key(keys::Key),
    /// The window has another size.
    Resized,
    /// The user's shell wants the terminal for a while, and has given it back.
    Suspended,
    /// A signal asks for the end.
    Signal(u8),
}

/// Where a recording is played, and its clock.
pub trait Console {
    /// The time.
    fn now(&self) -> Instant;

    /// Waits until something is heard, at the longest until `until`; looks once if that has passed.
    fn wait(&mut self, until: Option<Instant>) -> Vec<Heard>;

    /// Shows text.
    ///
    /// # Errors
    /// If the terminal takes no more.
    fn show(&mut self, text: &str) -> io::Result<()>;

    /// The window, columns and rows; `None` where there is none and no line of status is shown.
    fn window(&self) -> Option<(u16, u16)>;

    /// Gives the terminal back for as long as the user's shell wants it; `leave` is shown before.
    ///
    /// # Errors
    /// If it cannot be had again.
    fn suspend(&mut self, leave: &str) -> io::Result<()>;

    /// Tells something that is not in the recording where nothing else can show it.
    fn note(&mut self, text: String);
}
