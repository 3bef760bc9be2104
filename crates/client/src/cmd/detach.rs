//! `shellkeep detach`: lets all terminals of a session go, by the keeper alone.

use std::process::ExitCode;

use shellkeep_protocol::attach::{FromKeeper, FromTerminal};

use crate::cli::Detach;
use crate::keepers;
use crate::places::Places;
use crate::report::{Failure, Outcome};

/// How long a keeper may take to let go of terminals that are slow to take their last output.
const DETACHED_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) fn run(args: &Detach) -> Outcome {
    let places = Places::from_env()?;
    let keeper = keepers::find(&places, args.session.as_ref())?;
    let failed = |error| Failure::refused(format_args!("cannot detach {}: {error}", keeper.info.session));
    let (sender, mut receiver) = keepers::dial(&keeper.socket).map_err(failed)?;
    receiver.set_wait(Some(DETACHED_WAIT_MAX)).map_err(failed)?;
    sender.to_keeper(&FromTerminal::DetachAll, &[]).map_err(failed)?;
    receiver.hello().map_err(failed)?;
    match receiver.from_keeper().map_err(failed)? {
        FromKeeper::Detached { terminals: 0 } => {
            Err(Failure::refused(format_args!("session {} is shown nowhere", keeper.info.session)))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
