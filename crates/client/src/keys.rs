//! Keys of views that fill the screen.

use std::io;
use std::time::Duration;

use crossterm::event::{self, Event};

/// How long it waits for more once nothing is left to read: with none at all, the library does not look.
const LOOK: Duration = Duration::from_millis(1);

/// What the user did next, if they did anything that is not handed out yet.
///
/// # Errors
/// If the terminal cannot be read.
pub(crate) fn pending() -> io::Result<Option<Event>> {
    if event::poll(LOOK)? { event::read().map(Some) } else { Ok(None) }
}
