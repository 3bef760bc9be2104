//! A log of which nothing is left: its directory is there, and no header and no record in it can be read.
//!
//! Promises that such a log is not taken for none: it has a place in every list, an age, and words that name the file
//! and what is wrong with it. Only looks; what is done about it is for people.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use shellkeep_journal::storage::Storage;
use shellkeep_journal::{Finding, Position, Recovery, scan_read_only};

/// Whether a log says neither whose it is nor anything else.
pub(super) fn is_one(recovery: &Recovery) -> bool {
    recovery.identity.is_none() && recovery.end == Position::START
}

/// What can be said of the log at `path`, of which `scanned` is all that could be read; `None` if nothing is at `path`.
pub(super) fn recovery(path: &Path, scanned: Option<Recovery>) -> Option<Recovery> {
    let changed = std::fs::symlink_metadata(path).ok()?.modified().ok();
    // Without a record it is as old as its last change: it must not be pruned for being from the year 1970.
    let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let last_time_us = u64::try_from(changed.as_micros()).unwrap_or(u64::MAX);
    let nothing = Recovery {
        identity: None,
        first: Position::START,
        end: Position::START,
        last_time_us,
        findings: Vec::new(),
        findings_left_out: 0,
        bytes_on_disk: 0,
    };
    Some(Recovery { last_time_us, ..scanned.unwrap_or(nothing) })
}

/// The file that should have records, or the directory where none is, and what is wrong with it; `None` if there is
/// nothing at `log`.
pub(super) fn describe(storage: &dyn Storage, log: &Path) -> Option<(PathBuf, String)> {
    std::fs::symlink_metadata(log).ok()?;
    let findings = scan_read_only(storage, log).map(|recovery| recovery.findings).unwrap_or_default();
    let file = findings.into_iter().find_map(|finding| match finding {
        Finding::BadHeader { file } => Some(file),
        _ => None,
    });
    Some(match file {
        None => (log.to_owned(), "no file of its records is left".to_owned()),
        Some(file) => {
            let path = log.join(file);
            let bytes = std::fs::symlink_metadata(&path).map_or(0, |found| found.len());
            (path, format!("neither its header nor any record can be read ({bytes} bytes)"))
        }
    })
}
