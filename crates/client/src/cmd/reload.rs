//! `shellkeep reload`: looks for commands anew.

use std::process::ExitCode;

use shellkeep_protocol::registry::{Ask, Diagnostic, Told};

use super::commands::{ask, session, unexpected};
use crate::cli;
use crate::daemon_link::DaemonLink;
use crate::places::Places;
use crate::report::{self, Outcome};

pub(super) fn run(places: &Places, args: &cli::Reload) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = session(places, &link, args.session.as_ref())?;
    let Told::Reloaded(reloaded) = ask(&link, &Ask::Reload { session })? else { return Err(unexpected()) };
    let place = reloaded.root.map(|root| format!(" in {}", report::printable(&root)));
    let here = place.map(|place| format!(", {} here{place}", reloaded.session)).unwrap_or_default();
    let plugins = if reloaded.plugins > 0 { format!(" ({} of plugins)", reloaded.plugins) } else { String::new() };
    let all = reloaded.base + reloaded.session;
    report::result(&format!("{all} commands{plugins}: {} everywhere{here}\n", reloaded.base))?;
    for diagnostic in &reloaded.diagnostics {
        report::notice(told(diagnostic));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with a source of commands, in a line that begins with its place.
pub(super) fn told(diagnostic: &Diagnostic) -> String {
    let at = match (&diagnostic.file, diagnostic.line) {
        (Some(file), Some(number)) => format!("{file}:{number}"),
        (Some(file), None) => file.clone(),
        (None, _) => diagnostic.source.clone(),
    };
    format!("{at}: {}", diagnostic.message)
}
