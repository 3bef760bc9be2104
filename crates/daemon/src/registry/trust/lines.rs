//! What runs, as lines for people: of a command now, of the agreement before, and of both where they differ.
//!
//! Promise: however much it is, every change is among the lines, at least as another digest of those that are not shown.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use shellkeep_protocol::registry::{ALL_OF, Digest, EACH_TIME, TrustRecord};

use super::super::entry::{Entry, Exec, words};
use super::super::sources::{self, Content};

/// Lines of one record, and bytes of them. Of what is behind there is a digest, so that every change is one of the lines.
pub(super) const RUNS_LINES_MAX: usize = 20_000;
pub(super) const RUNS_BYTES_MAX: usize = 256 << 10;

/// Bytes of the lines of all records. The oldest records lose theirs first: then a change is told without what was before.
pub(super) const ALL_RUNS_BYTES_MAX: usize = 32 << 20;

/// Bytes of lines in the list of all agreements.
pub(super) const LISTED_BYTES_MAX: usize = 1 << 20;

/// The oldest records lose their lines if all are too many.
pub(super) fn forget_lines(records: &mut BTreeMap<(String, String), TrustRecord>) {
    let mut all: usize = records.values().map(|record| bytes(&record.runs)).sum();
    while all > ALL_RUNS_BYTES_MAX {
        let oldest = records.values_mut().filter(|record| record.runs.len() > 1).min_by_key(|record| record.at_us);
        let Some(record) = oldest else { return };
        let before = bytes(&record.runs);
        record.runs = bounded(std::mem::take(&mut record.runs), 0, 0);
        all -= before - bytes(&record.runs).min(before);
    }
}

pub(super) fn bytes(lines: &[String]) -> usize {
    lines.iter().map(|line| line.len() + 1).sum()
}

/// All that decides what a command does, line by line, for people.
pub fn runs(entry: &Entry) -> Vec<String> {
    let Exec::Found(item) = &entry.exec else { return vec![format!("runs: {}", entry.runs())] };
    let unread = item.unread().map(|(what, why)| format!("{EACH_TIME}{what}: {why}"));
    let mut lines: Vec<String> = unread.collect();
    lines.push(format!("file: {}", item.file.display()));
    let environment = |lines: &mut Vec<String>, env: &[(String, String)]| {
        lines.extend(env.iter().map(|(name, value)| format!("env: {name}={value}")));
    };
    match &item.exec {
        sources::Exec::Program(program) => {
            lines.push(place(program.dir.as_deref()));
            environment(&mut lines, &program.env);
            lines.push(format!("runs: {}", words(&program.argv)));
            lines.extend(item.own.lines().map(|line| format!("does: {line}")));
        }
        sources::Exec::Line(line) => {
            lines.push(place(line.dir.as_deref()));
            environment(&mut lines, &line.env);
            lines.extend(line.text.lines().map(|line| format!("runs: {line}")));
        }
        sources::Exec::Prompt(prompt) => lines.extend(prompt.text.lines().map(|line| format!("says: {line}"))),
        sources::Exec::McpServer(server) => match &server.transport {
            sources::Transport::Stdio { env, .. } => {
                lines.push(place(server.dir.as_deref()));
                environment(&mut lines, env);
                lines.push(format!("starts: {}", line(entry)));
            }
            sources::Transport::Http { headers, .. } | sources::Transport::Sse { headers, .. } => {
                lines.push(format!("talks to: {}", line(entry)));
                lines.extend(headers.iter().map(|(name, value)| format!("sends: {name}: {value}")));
            }
        },
        sources::Exec::Nothing => {}
    }
    if let sources::Exec::McpServer(server) = &item.exec {
        lines.extend(server.variables.iter().map(|name| format!("gets your variable: {name}")));
    }
    // Of what it shares with others only what is there is told.
    let absent = item.evidence.iter().filter(|evidence| evidence.content == Content::Absent);
    lines.extend(absent.map(|evidence| format!("not there: {}", evidence.what)));
    for evidence in item.evidence() {
        if let Content::Bytes(held) = &evidence.content {
            let text = String::from_utf8_lossy(held.bytes());
            lines.push(format!("{ALL_OF}{}:", evidence.what));
            lines.extend(text.lines().map(|line| format!("  {line}")));
        }
    }
    bounded(lines, RUNS_LINES_MAX, RUNS_BYTES_MAX)
}

/// What runs without any arguments, as it is; in a line if it is one.
pub fn line(entry: &Entry) -> String {
    let Exec::Found(item) = &entry.exec else { return entry.runs() };
    match &item.exec {
        sources::Exec::Program(program) => words(&program.argv),
        sources::Exec::Line(line) => line.text.clone(),
        sources::Exec::McpServer(server) => match &server.transport {
            sources::Transport::Stdio { command, args, .. } => words(&[std::slice::from_ref(command), args].concat()),
            sources::Transport::Http { url, .. } | sources::Transport::Sse { url, .. } => url.clone(),
        },
        sources::Exec::Prompt(_) | sources::Exec::Nothing => entry.runs(),
    }
}

pub(super) fn place(directory: Option<&Path>) -> String {
    directory
        .map_or_else(|| "in: the session's directory".to_owned(), |directory| format!("in: {}", directory.display()))
}

/// The first lines, and of the others a digest.
pub(super) fn bounded(mut lines: Vec<String>, lines_max: usize, bytes_max: usize) -> Vec<String> {
    let mut bytes = 0;
    let fits = lines.iter().take(lines_max).take_while(|line| {
        bytes += line.len() + 1;
        bytes <= bytes_max
    });
    let count = fits.count();
    if count < lines.len() {
        let mut rest = Sha256::new();
        for line in &lines[count..] {
            rest.update(line.as_bytes());
            rest.update(b"\n");
        }
        let digest = Digest(rest.finalize().into()).to_string();
        let digest = &digest[..16.min(digest.len())];
        let more = format!("… and {} more lines, which count all the same ({digest})", lines.len() - count);
        lines.truncate(count);
        lines.push(more);
    }
    lines
}
