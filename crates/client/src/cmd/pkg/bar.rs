//! How far long work is, on a terminal. Nothing is drawn anywhere else, nor for what is done at once.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that takes less is not worth a bar.
const QUIET_FOR: Duration = Duration::from_millis(200);

/// A bar on standard error.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    begun: std::time::Instant,
}

impl Bar {
    /// For bytes of something.
    pub(super) fn bytes(what: &str) -> Self {
        Self::with(what, "{msg:24!} {bar:30} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}")
    }

    /// For things that are counted.
    pub(super) fn count(what: &str) -> Self {
        Self::with(what, "{msg:24!} {bar:30} {pos}/{len}")
    }

    fn with(what: &str, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(crate::report::printable(what));
        Self { bar, begun: std::time::Instant::now() }
    }

    /// So much of so much.
    pub(super) fn at(&self, done: u64, total: Option<u64>) {
        if self.bar.is_hidden() && self.begun.elapsed() > QUIET_FOR {
            self.bar.set_draw_target(ProgressDrawTarget::stderr()); // hidden still where that is no terminal
        }
        self.bar.set_length(total.unwrap_or(done).max(done));
        self.bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
