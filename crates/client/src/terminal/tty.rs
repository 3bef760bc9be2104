//! The terminal that this process was started in: whether it can be lent, its window, and whose turn it is.

use rustix::process::Signal;
use rustix::stdio::{stdin, stdout};
use shellkeep_protocol::attach::Size;

/// Whether standard input and output are one terminal, which can be lent.
pub fn has_tty() -> bool {
    rustix::termios::isatty(stdin()) && rustix::termios::isatty(stdout()) && same_device()
}

fn same_device() -> bool {
    let device = |stat: rustix::io::Result<rustix::fs::Stat>| stat.map(|stat| stat.st_rdev).ok();
    device(rustix::fs::fstat(stdin())) == device(rustix::fs::fstat(stdout()))
}

/// The window of standard input's terminal; all zero is a size too.
pub fn size() -> Option<Size> {
    let window = rustix::termios::tcgetwinsize(stdin()).ok()?;
    Some(Size { cols: window.ws_col, rows: window.ws_row, x_pixels: window.ws_xpixel, y_pixels: window.ws_ypixel })
}

/// Stops like any program that wants the terminal from the background, until it is in the foreground. False if it
/// cannot get there.
pub fn wait_for_foreground() -> bool {
    /// Stops before giving up: a process whose shell has gone cannot be stopped, nor brought to the foreground.
    const STOPS_MAX: usize = 64;
    (0..STOPS_MAX).any(|_| {
        let ours = rustix::process::getpgrp();
        match rustix::termios::tcgetpgrp(stdin()) {
            Ok(foreground) if foreground != ours => {
                let _stopped = rustix::process::kill_current_process_group(Signal::TTIN);
                false
            }
            _ => true, // also where this terminal controls no jobs
        }
    })
}
