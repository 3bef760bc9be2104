//! What a person is told once, before the first session: what is recorded, where, and how to pause or remove it.

use std::os::unix::fs::OpenOptionsExt as _;

use crate::places::{Places, prepare};
use crate::report;

/// Present once the notice was shown.
const MARK: &str = "noticed";

/// Tells it, unless it was told before. Whatever fails here stops nobody's shell.
pub(super) fn notice(places: &Places) {
    if prepare(&places.state).is_err() {
        return; // said by whoever needs the directory
    }
    let mark = places.state.join(MARK);
    let is_first = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(mark).is_ok();
    if !is_first {
        return;
    }
    // Lines that fit narrow terminals: one that wraps is cut in the middle of words.
    report::notice(format_args!("what this shell prints is recorded in {}", places.logs().display()));
    report::notice("where only you can read it; what you type is not.");
    report::notice("\"shellkeep detach\" leaves the shell running, \"shellkeep attach\" brings it back,");
    report::notice("\"shellkeep pause\" stops recording until \"shellkeep resume\",");
    report::notice("\"shellkeep ls --all\" lists records, \"shellkeep rm SESSION\" removes one.");
    report::notice("This is shown once.");
}
