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
        report::result(&text)?;
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
