//! The modes of the user's terminal: raw while attached, as before on every way out.
//!
//! Promises that nothing typed ahead is flushed, and that restoring twice or never having changed anything is
//! harmless. Knows standard input only.

use parking_lot::Mutex;
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios};

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
