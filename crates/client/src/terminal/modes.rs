//! The modes of the user's terminal: raw while attached, as before on every way out; and what its screen is left in.
//!
//! Promises that nothing typed ahead is flushed, and that restoring twice or never having changed anything is
//! harmless. Knows standard input only.

use parking_lot::Mutex;
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios};

/// What the screen is left in when the session goes on without it: the main screen, a visible cursor of the usual
/// shape, no mouse, no bracketed paste, the usual keyboard, plain characters, no region. Harmless where nothing of it
/// was changed. Region and origin are between saving and restoring the cursor, for both move it. Source: xterm's control
/// sequences, kitty's keyboard protocol.
pub const LEAVE_SCREEN: &[u8] =
    b"\x1b[?2026l\x1b[<16u\x1b[?47l\x1b[<16u\x1b[>4;0m\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\
      \x1b[?1015l\x1b[?1016l\x1b[?1004l\x1b[?2004l\x1b[?1l\x1b>\x1b[?25h\x1b[0 q\x1b7\x1b[r\x1b[?6l\x1b8\x1b[?7h\x1b[4l\
      \x1b[?5l\x1b(B\x0f\x1b[m\r\n";

/// The modes to go back to, while others are in force. Global, because a panic has no other way to find them.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Puts the modes back when it goes out of scope, and when the process panics.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Sets raw modes.
    ///
    /// # Errors
    /// Of tcgetattr or tcsetattr; nothing has changed then.
    pub fn enter() -> rustix::io::Result<Self> {
        let before = rustix::termios::tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        // Stored first: a panic in between restores what is still in force.
        BEFORE.lock().get_or_insert(before);
        // `Now`, because `Flush` would throw away what was typed ahead.
        rustix::termios::tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the modes back that were in force before; does nothing if they are.
pub fn restore() {
    if let Some(before) = BEFORE.lock().take() {
        let _hung_up = rustix::termios::tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}

/// Makes a panic restore the modes before it prints.
pub fn restore_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        print(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_after_leaving_a_screen_stands_below_its_text() {
        for (before, row) in [("one\r\ntwo", 2), ("one\r\n\x1b[2;4r\x1b[3;1Hthree", 3)] {
            let mut terminal = avt::Terminal::new(20, 6).unwrap();
            terminal.feed(before);
            terminal.feed(std::str::from_utf8(LEAVE_SCREEN).unwrap());
            let cursor = terminal.cursor();
            assert_eq!((cursor.col, cursor.row), (0, row), "{before:?}");
        }
    }
}
