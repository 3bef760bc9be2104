//! The one timer of a connection, which wakes its task at the nearest thing that is due and at nothing else.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is set only forward in need: once it has fired it stays silent until it is set again.
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Timer {
    pub(crate) const fn new() -> Self {
        Self { sleep: None, armed: false }
    }

    pub(crate) fn set(&mut self, at: Instant) {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            none => *none = Some(Box::pin(sleep_until(at))),
        }
        self.armed = true;
    }

    /// The time, if it has come since the timer was set; otherwise the task is woken when it does.
    pub(crate) fn fired(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        let sleep = self.sleep.as_mut().filter(|_| self.armed)?;
        sleep.as_mut().poll(cx).is_ready().then(|| {
            self.armed = false;
            Instant::now()
        })
    }
}
