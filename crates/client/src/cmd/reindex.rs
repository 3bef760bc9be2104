//! `shellkeep reindex`: what is searched is thrown away and built anew from the records.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shellkeep_protocol::query::{IndexState, Query, Reply};

use crate::daemon_link::DaemonLink;
use crate::places::Places;
use crate::report::{self, Failure, Outcome, size};

/// Pause between two looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Begins, and waits for the end; interrupted, it goes on in the daemon.
///
/// # Errors
/// If the daemon cannot be had, or the index cannot be written.
pub(super) fn run(places: &Places) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let mut state = ask(&link, &Query::Reindex)?;
    let bar = ProgressBar::with_draw_target(Some(state.total_bytes), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{bar:40} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}");
    bar.set_style(style.map_err(|error| Failure::bug(&error))?);
    while state.is_building && state.trouble.is_none() {
        bar.set_length(state.total_bytes);
        bar.set_position(state.done_bytes);
        std::thread::sleep(LOOK_EVERY);
        state = ask(&link, &Query::Index)?;
    }
    bar.finish_and_clear();
    if let Some(trouble) = state.trouble {
        // In the words of SQLite and of the system.
        let is_full = ["disk is full", "No space left", "quota"].iter().any(|words| trouble.contains(words));
        let first = if is_full { "make room on the disk" } else { "move away what is in the way, or make it writable" };
        return Err(Failure::refused(format_args!("cannot write the index: {trouble}"))
            .with_hint(format_args!("recording goes on; {first}, then \"shellkeep reindex\"")));
    }
    report::notice(format_args!("{} of output can be searched", size(state.done_bytes)));
    Ok(ExitCode::SUCCESS)
}

fn ask(link: &DaemonLink, query: &Query) -> Result<IndexState, Failure> {
    match link.ask(query)? {
        Reply::Index(state) => Ok(state),
        _ => Err(Failure::bug(&"the daemon answered another question")),
    }
}
