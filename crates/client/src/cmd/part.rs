//! `output --command N` and `output --plain`: a part of a record, or the text of it.

use std::ops::Range;
use std::process::ExitCode;

use shellkeep_daemon::index::plain::PlainText;
use shellkeep_journal::Seq;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{CHUNK_BYTES_MAX, Chunk, Item, Query, Reply};

use super::history;
use super::output::notice_of;
use super::recorded::{catch_up, sessions};
use crate::cli::Output;
use crate::daemon_link::DaemonLink;
use crate::places::Places;
use crate::report::{self, Failure, Outcome};
use crate::stdout;

/// What of a record is wanted.
struct Part {
    first_seq: Seq,
    /// Offsets among all output.
    bytes: Range<u64>,
}

/// Prints what `args` ask for.
///
/// # Errors
/// If there is no such command, or the daemon cannot be had.
pub(super) fn print(places: &Places, link: &DaemonLink, session: SessionId, args: &Output) -> Outcome {
    catch_up(places, link, Some(session))?;
    let part = match args.command {
        Some(id) => command(link, session, id)?,
        None => Part { first_seq: Seq::FIRST, bytes: 0..history::page(link, session, u64::MAX)?.output_bytes },
    };
    let mut text = if args.plain { Some(PlainText::new(window(link, session)?)) } else { None };
    let mut from = part.first_seq;
    'pages: loop {
        let Chunk { items, next, is_last } = chunk(link, session, from)?;
        if items.is_empty() || (next == from && !is_last) {
            break;
        }
        for item in items {
            let shown = match item {
                Item::Output { offset, .. } if offset >= part.bytes.end => break 'pages,
                Item::Output { offset, bytes, .. } => {
                    let wanted = within(&bytes, offset, &part.bytes);
                    match &mut text {
                        None => wanted.to_vec(),
                        Some(text) => lines(text.feed(wanted)),
                    }
                }
                Item::Resize { cols, rows, .. } => {
                    text.as_mut().map_or_else(Vec::new, |text| lines(text.resize((cols, rows))))
                }
                Item::Exit { .. } | Item::Input { .. } => continue,
                other => {
                    report::notice(notice_of(session, &other));
                    continue;
                }
            };
            if !stdout::write(&shown)? {
                return Ok(ExitCode::SUCCESS); // the reader has gone: its choice
            }
        }
        from = next;
        if is_last {
            break;
        }
    }
    if let Some(text) = text {
        stdout::write(&lines(text.finish()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn command(link: &DaemonLink, session: SessionId, id: u64) -> Result<Part, Failure> {
    let page = history::page(link, session, id - 1)?;
    let Some(command) = page.commands.first().filter(|command| command.id == id) else {
        return Err(Failure::refused(format_args!("session {session} has no command {id}"))
            .with_hint(format_args!("\"shellkeep history {session}\" lists them")));
    };
    Ok(Part { first_seq: command.first_seq, bytes: command.output_from..command.output_to })
}

/// The window in which the session began.
fn window(link: &DaemonLink, session: SessionId) -> Result<(u16, u16), Failure> {
    let info = sessions(link, true)?.into_iter().find(|info| info.session == session);
    Ok(info.map_or((0, 0), |info| info.attrs.size))
}

/// One page of records.
///
/// # Errors
/// If the daemon cannot be had, or there is no such session.
pub(super) fn chunk(link: &DaemonLink, session: SessionId, from: Seq) -> Result<Chunk, Failure> {
    match link.ask(&Query::Read { session, from, bytes_max: CHUNK_BYTES_MAX, wait_ms: 0 })? {
        Reply::Chunk(chunk) => Ok(chunk),
        _ => Err(Failure::bug(&"the daemon answered another question")),
    }
}

/// The bytes of a piece, which begins at `offset`, that are in `wanted`.
pub(crate) fn within<'a>(bytes: &'a [u8], offset: u64, wanted: &Range<u64>) -> &'a [u8] {
    let at = |place: u64| usize::try_from(place.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
    &bytes[at(wanted.start)..at(wanted.end).max(at(wanted.start))]
}

fn lines(lines: Vec<String>) -> Vec<u8> {
    lines.into_iter().flat_map(|line| (report::printable_line(&line) + "\n").into_bytes()).collect()
}
