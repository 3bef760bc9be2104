//! `shellkeep pause` and `resume`: what a session prints is not recorded for a while, by the keeper alone.

use std::process::ExitCode;

use shellkeep_protocol::attach::{FromKeeper, FromTerminal, Recording};

use crate::cli::Pause;
use crate::keepers;
use crate::places::Places;
use crate::report::{self, Failure, Outcome};

pub(super) fn run(args: &Pause, wanted: Recording) -> Outcome {
    let places = Places::from_env()?;
    let keeper = keepers::find(&places, args.session.as_ref())?;
    let name = keeper.info.name.clone().unwrap_or_else(|| keeper.info.session.to_string());
    let failed = |error| Failure::refused(format_args!("cannot reach the keeper of {name}: {error}"));
    let (sender, mut receiver) = keepers::dial(&keeper.socket).map_err(failed)?;
    sender.to_keeper(&FromTerminal::Record(wanted), &[]).map_err(failed)?;
    receiver.hello().map_err(failed)?;
    match receiver.from_keeper().map_err(failed)? {
        FromKeeper::Recording(Recording::Paused) => {
            report::notice(format_args!("{name} is not recorded until \"shellkeep resume\""));
        }
        FromKeeper::Recording(Recording::On) => report::notice(format_args!("{name} is recorded")),
        other => return Err(Failure::refused(format_args!("the keeper of {name} answered {other:?}"))),
    }
    Ok(ExitCode::SUCCESS)
}
