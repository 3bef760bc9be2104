//! `shellkeep palette`: of which session.

use super::recorded::find;
use crate::cli;
use crate::daemon_link::DaemonLink;
use crate::keepers;
use crate::places::Places;
use crate::report::Outcome;

pub(super) fn run(places: &Places, args: &cli::Palette) -> Outcome {
    let session = match &args.session {
        Some(wanted) => Some(find(places, &DaemonLink::reach(places)?, Some(wanted))?),
        None => keepers::around_us(),
    };
    crate::palette::run(places, session, &args.query)
}
