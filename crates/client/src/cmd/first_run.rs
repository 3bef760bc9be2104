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
    report::notice_wrapped(&format!(
        "what this shell prints is recorded in {}, where only you can read it; what you type is not. \"shellkeep detach\" leaves the \
         shell running, \"shellkeep attach\" brings it back, \"shellkeep pause\" stops recording until \"shellkeep resume\", \
         \"shellkeep ls --all\" lists records, \"shellkeep rm SESSION\" removes one. This is shown once.",
        places.logs().display()
    ));
}
