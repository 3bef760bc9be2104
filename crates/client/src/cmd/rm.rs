//! `shellkeep rm`: removes the record of an ended session.

use std::process::ExitCode;

use shellkeep_protocol::query::{Query, Reply};

use super::recorded::find;
use crate::daemon_link::DaemonLink;
use crate::names::SessionRef;
use crate::places::Places;
use crate::report::{self, Failure, Outcome, size};

/// `shellkeep rm`: removes the record of an ended session.
///
/// # Errors
/// If it runs, or is unknown, or the daemon cannot be had.
pub(super) fn run(places: &Places, wanted: Option<&SessionRef>) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = find(places, &link, wanted)?;
    match link.ask(&Query::Remove { session }) {
        Ok(Reply::Removed { freed_bytes }) => {
            report::notice(format_args!("removed {session}, {} freed", size(freed_bytes)));
            Ok(ExitCode::SUCCESS)
        }
        Ok(_) => Err(Failure::bug(&"the daemon answered another question")),
        Err(failure) => Err(Failure { message: format!("cannot remove {session}: {}", failure.message), ..failure }),
    }
}
