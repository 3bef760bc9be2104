//! Task runners that are not there: what a project wants run by `just` cannot run where there is no `just`.
//!
//! Promise: judged by the `PATH` of whoever asks, which is the one that a command gets; starts nothing. Only of commands that are known to
//! be run by a program: of a line for a shell nobody can say.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use shellkeep_protocol::registry::{EntryInfo, EntryState, Kind, RegistryError, Told};

/// Owners of tasks that a program of the search path runs, whose name stands first in what would run.
const RUNNERS: [&str; 6] = ["just", "make", "task", "mise", "npm", "cargo"];

/// What is said of one that is not there.
pub(crate) const NOT_THERE: &str = "is not in your PATH";

/// The answer with the entries that cannot run here marked so.
pub(crate) fn marked(mut told: Told) -> Told {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut known = HashMap::new();
    let mut mark = |entry: &mut EntryInfo| mark(entry, &path, &mut known);
    match &mut told {
        Told::Page(page) => page.entries.iter_mut().for_each(mark),
        Told::Found(entries) => entries.iter_mut().for_each(mark),
        Told::Resolved(entry) => mark(entry),
        Told::Question(question) => mark(&mut question.entry),
        _ => {}
    }
    told
}

/// The same of a refusal that shows an entry.
pub(crate) fn marked_refusal(mut error: RegistryError) -> RegistryError {
    if let RegistryError::NotTrusted(question) = &mut error {
        mark(&mut question.entry, &std::env::var_os("PATH").unwrap_or_default(), &mut HashMap::new());
    }
    error
}

fn mark(entry: &mut EntryInfo, path: &OsStr, known: &mut HashMap<String, bool>) {
    if entry.kind != Kind::Task || entry.state != EntryState::Ready || !RUNNERS.contains(&entry.source.as_str()) {
        return;
    }
    let Some(program) = entry.runs.split(' ').next().filter(|program| !program.is_empty()) else { return };
    if program.contains(['/', '\'']) {
        return;
    }
    let is_there = *known.entry(program.to_owned()).or_insert_with(|| is_in(path, program));
    if !is_there {
        entry.state = EntryState::Unavailable(format!("{program} {NOT_THERE}"));
    }
}

fn is_in(path: &OsStr, program: &str) -> bool {
    found_in(path, program).is_some()
}

/// The program that a name means in this search path.
pub(crate) fn found_in(path: &OsStr, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|directory| directory.join(program)).find(|file| {
        std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_where_the_path_leads() {
        assert!(is_in(OsStr::new("/nowhere:/usr/bin:/bin"), "sh"));
        assert!(!is_in(OsStr::new("/usr/bin:/bin"), "no-such-program"));
        assert!(!is_in(OsStr::new(""), "sh"));
    }
}
