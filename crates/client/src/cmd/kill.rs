//! `shellkeep kill`: ends a session, by the keeper alone. Returns when it has ended.

use std::process::ExitCode;
use std::time::Duration;

use shellkeep_protocol::attach::FromTerminal;

use crate::cli::Kill;
use crate::keeper::session::KILL_AFTER;
use crate::keepers;
use crate::link::LinkError;
use crate::places::Places;
use crate::report::{Failure, Outcome};

/// How long a command may take to end after it was killed.
const KILLED_WAIT_MAX: Duration = Duration::from_secs(10).saturating_add(KILL_AFTER);

pub(super) fn run(args: &Kill) -> Outcome {
    let places = Places::from_env()?;
    if args.session.is_none() && keepers::around_us().is_none() {
        return Err(Failure::usage("which session?").with_hint("give a name or an id; \"shellkeep ls\" lists them"));
    }
    let keeper = keepers::find(&places, args.session.as_ref())?;
    let failed = |error| Failure::refused(format_args!("cannot kill {}: {error}", keeper.info.session));
    let (sender, mut receiver) = keepers::dial(&keeper.socket).map_err(failed)?;
    receiver.set_wait(Some(KILLED_WAIT_MAX)).map_err(failed)?;
    sender.to_keeper(&FromTerminal::Kill, &[]).map_err(failed)?;
    receiver.hello().map_err(failed)?;
    match receiver.from_keeper() {
        // Closed: the keeper had ended before it could answer, which is what was asked for.
        Ok(_) | Err(LinkError::Closed) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(failed(error)),
    }
}
