//! `shellkeep verify`: whether records are whole, and where they are not.

use std::process::ExitCode;

use shellkeep_protocol::query::{Item, Query, Reply};

use super::output::describe;
use super::recorded::{find, sessions};
use crate::daemon_link::DaemonLink;
use crate::names::SessionRef;
use crate::places::Places;
use crate::report::{self, Failure, Outcome, size};

/// `shellkeep verify`: 1 on damage or gaps, and says where.
///
/// # Errors
/// If the daemon cannot be had or does not know the session.
pub(super) fn run(places: &Places, wanted: Option<&SessionRef>) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let chosen = match wanted {
        Some(_) => vec![find(places, &link, wanted)?],
        None => sessions(&link, true)?.into_iter().map(|info| info.session).collect(),
    };
    let mut is_whole = true;
    for session in chosen {
        let Reply::Verified(verified) = link.ask(&Query::Verify { session })? else {
            return Err(Failure::bug(&"the daemon answered another question"));
        };
        let lost: Vec<&Item> = verified.findings.iter().filter(|item| !matches!(item, Item::Pruned { .. })).collect();
        is_whole &= lost.is_empty();
        let word = if lost.is_empty() { "whole" } else { "NOT whole" };
        let mut text =
            format!("{session}  {word}: {} records, {} of output\n", verified.records, size(verified.output_bytes));
        for item in &verified.findings {
            text.push_str("  ");
            text.push_str(&report::printable(&describe(item)));
            text.push('\n');
        }
        report::result(&text)?;
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
