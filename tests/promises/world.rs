//! The sealed world of each test, and what tests wait with.

pub(crate) use torture::world::*;

/// Says why a test proves nothing on this machine.
#[allow(clippy::print_stderr)] // for whoever reads the test's output
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
