//! `shellkeep verify`: whether records are whole, and where they are not.

use std::fmt::Write as _;
use std::process::ExitCode;

use shellkeep_daemon::sessions::spool::is_held;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{Item, Query, Reply};

use super::output::{describe, still_waiting};
use super::recorded::{find, sessions};
use crate::daemon_link::DaemonLink;
use crate::keepers;
use crate::names::SessionRef;
use crate::places::Places;
use crate::report::{self, Exit, Failure, Outcome, size};

/// `shellkeep verify`: 1 on damage or gaps, and says where.
///
/// # Errors
/// If the daemon cannot be had or does not know the session.
pub(super) fn run(places: &Places, wanted: Option<&SessionRef>) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let recorded = sessions(&link, true)?;
    let chosen = match wanted {
        Some(_) => vec![find(places, &link, wanted)?],
        None => recorded.iter().map(|info| info.session).collect(),
    };
    let mut is_whole = wanted.is_some() || are_taken_over(places)?;
    for session in chosen {
        let verified = match link.ask(&Query::Verify { session }) {
            Ok(Reply::Verified(verified)) => verified,
            Ok(_) => return Err(Failure::bug(&"the daemon answered another question")),
            // One that cannot be read keeps nobody from the others; one that was removed meanwhile is none.
            Err(failure) if wanted.is_none() && failure.exit == Exit::Refused => {
                if sessions(&link, true)?.iter().any(|info| info.session == session) {
                    is_whole = false;
                    report::result(&format!("{session}  NOT whole: {}\n", report::printable(&failure.message)))?;
                }
                continue;
            }
            Err(failure) => return Err(failure),
        };
        // What was removed or left out on purpose is no loss.
        let is_loss = |item: &Item| !matches!(item, Item::Pruned { .. } | Item::Recording { .. });
        let has_loss = verified.findings.iter().any(is_loss);
        is_whole &= !has_loss;
        let word = if has_loss { "NOT whole" } else { "whole" };
        let mut text =
            format!("{session}  {word}: {} records, {} of output\n", verified.records, size(verified.output_bytes));
        for item in &verified.findings {
            text.push_str("  ");
            text.push_str(&report::printable(&describe(item)));
            text.push('\n');
        }
        let in_log = recorded.iter().find(|info| info.session == session).map_or(0, |info| info.output_bytes);
        let waiting = keepers::of(places, session).map_or(0, |keeper| keeper.output_bytes.saturating_sub(in_log));
        if waiting > 0 {
            let _infallible = writeln!(text, "  {}", still_waiting(waiting));
        }
        report::result(&text)?;
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the daemon, which was just asked, has taken over what dead keepers left; says what it has not.
fn are_taken_over(places: &Places) -> Result<bool, Failure> {
    let spools = places.spools();
    let mut all = true;
    for entry in std::fs::read_dir(&spools).into_iter().flatten().flatten() {
        let Some(session) = entry.file_name().to_str().and_then(|name| name.parse::<SessionId>().ok()) else {
            continue;
        };
        if !is_held(&spools, session) && entry.path().exists() {
            all = false;
            let path = entry.path().display().to_string();
            report::result(&format!(
                "{session}  NOT whole: what its keeper left in {} was not taken over; the diagnostics say why\n",
                report::printable(&path)
            ))?;
        }
    }
    Ok(all)
}
