//! One attached terminal as the keeper sees it: its output, and the way to tell it things.
//!
//! Promises that messages never get between the bytes of others, that a terminal is told once that it is let go or
//! that the command has ended, behind everything it was shown, and that a tty whose terminal died gets its modes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shellkeep_protocol::attach::FromKeeper;
use shellkeep_protocol::session::ExitStatus;

use super::output::Output;
use crate::link::Sender;

/// How long a terminal that is let go may accept nothing of what is still queued for it. Then it goes without.
const RELEASE_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long a tty may accept nothing of the last output before its terminal is told that the command has ended.
const END_WAIT_MAX: Duration = Duration::from_secs(2);

/// One attached terminal.
pub struct Terminal {
    /// What it is shown.
    pub output: Arc<Output>,
    sender: Sender,
    is_relay: bool,
    patience: Option<Duration>,
    /// It was told to go; it restores its tty itself.
    left: AtomicBool,
}

impl Terminal {
    /// A terminal behind `sender`. Of a relay, output and messages share the socket, so everything goes through the
    /// queue.
    pub fn new(output: Arc<Output>, sender: Sender, is_relay: bool, patience: Option<Duration>) -> Self {
        Self { output, sender, is_relay, patience, left: AtomicBool::new(false) }
    }

    /// Tells it something.
    pub fn say(&self, message: &FromKeeper<'_>) {
        if self.is_relay {
            self.output.say(message);
        } else {
            // It has gone or does not listen: its connection ends by itself.
            let _gone = self.sender.to_terminal(message, &[]);
        }
    }

    /// Whether output and messages share the socket.
    pub fn is_relay(&self) -> bool {
        self.is_relay
    }

    /// Lets it go. True if it was not let go before.
    pub fn release(&self) -> bool {
        if self.left.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.output.drain(Some(RELEASE_WAIT_MAX));
        self.part(&FromKeeper::Released);
        true
    }

    /// Tells it that the command has ended, as soon as it was shown everything.
    pub fn end(&self, exit: ExitStatus) {
        if self.left.swap(true, Ordering::AcqRel) {
            return;
        }
        // A pipe loses nothing for being slow; its reader waits for the end of the data anyway.
        self.output.drain(if self.is_relay { self.patience } else { Some(END_WAIT_MAX) });
        self.part(&FromKeeper::Ended(exit));
    }

    /// Its connection has ended without a word: closes its tty at once, and gives it its modes back.
    pub fn bury(&self) {
        if let Some(sink) = self.output.close()
            && !self.left.swap(true, Ordering::AcqRel)
        {
            sink.restore();
        }
    }

    fn part(&self, message: &FromKeeper<'_>) {
        if self.is_relay {
            self.say(message);
            self.output.drain(Some(RELEASE_WAIT_MAX));
            self.output.close();
        } else {
            // Closed first: when the terminal hears of it, nobody else writes to its tty any more.
            self.output.close();
            self.say(message);
        }
    }
}
