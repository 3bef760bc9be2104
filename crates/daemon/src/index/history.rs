//! The commands of a session: those that the index has, then those in what it has not read yet.
//!
//! Promise: the same list as the log alone would give, without its secrets, whatever state the index is in.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use shellkeep_journal::{Item, Record, RecordKind, Start};
use shellkeep_protocol::attach::Size;
use shellkeep_protocol::ids::{SessionId, StoreId};
use shellkeep_protocol::query::{CommandInfo, Failure, HISTORY_PAGE_BYTES_MAX, HISTORY_PAGE_MAX, History};

use super::commands::{Course, Piece, redacted, status};
use super::marks::Place;
use super::reading::Saved;
use super::search::session_row;
use super::secrets::Secrets;
use super::store::{self, COMMAND, Store, StoreError, signed};
use crate::sessions::logs::Logs;

/// Commands of the session whose number is above `after`, one page of them.
///
/// # Errors
/// If there is no such log, or it cannot be read.
pub(crate) fn history(
    directory: &Path,
    secrets: &Arc<Secrets>,
    logs: &Logs,
    id: SessionId,
    after: u64,
) -> Result<History, Failure> {
    let found = logs.scan(id).ok_or(Failure::UnknownSession)?;
    let store = found.identity.as_ref().map(|identity| StoreId::from_bytes(identity.store));
    let known = match indexed(directory, secrets, id, after) {
        Ok(known) => known.filter(|(_, saved)| Some(saved.store) == store && saved.next <= found.end.next_seq),
        Err(error) => {
            tracing::debug!(%error, "the index cannot be read; the log is");
            None
        }
    };
    if let Some((commands, saved)) = known {
        if commands.len() >= HISTORY_PAGE_MAX || bytes(&commands) >= HISTORY_PAGE_BYTES_MAX {
            return Ok(History { commands, output_bytes: saved.course.output_end(), is_last: false });
        }
        return read((logs, id), secrets, after, commands, saved.course, Start::Seq(saved.next));
    }
    let attrs = logs.summary(id).ok_or(Failure::UnknownSession)?.attrs;
    let mut course = Course::new(attrs.marks.map(|nonce| nonce.to_string()), attrs.cwd);
    course.resized(attrs.size.0, &mut |_| {});
    read((logs, id), secrets, after, Vec::new(), course, Start::Oldest)
}

fn bytes(commands: &[CommandInfo]) -> usize {
    commands.iter().map(|command| command.line.len() + command.cwd.len()).sum()
}

/// Goes on from where the index has come to.
fn read(
    (logs, id): (&Logs, SessionId),
    secrets: &Arc<Secrets>,
    after: u64,
    mut page: Vec<CommandInfo>,
    mut course: Course,
    from: Start,
) -> Result<History, Failure> {
    let unreadable = |error| logs.unreadable(id, &error);
    let mut reader = logs.follow(id, from).map_err(unreadable)?;
    let mut held = bytes(&page);
    // The index may have commands behind the place where its state goes on, and then not all of those before: what was run from outside
    // is told while another runs.
    let known: HashSet<u64> = page.iter().map(|command| command.id).collect();
    while let Some(found) = reader.next().map_err(unreadable)? {
        let Item::Record(Record { header, payload, .. }) = found else { continue };
        let mut new = Vec::new();
        let mut ended = |piece: Piece<'_>| {
            if let Piece::Ended(command) = piece {
                new.push(command);
            }
        };
        match header.kind {
            RecordKind::Output => {
                let place = Place { seq: header.seq, offset: header.offset, time_us: header.time_us };
                course.output(payload, place, &mut ended);
            }
            RecordKind::Annotation => course.noted(payload, (header.seq, header.time_us), &mut ended),
            RecordKind::Exit => course.exited(status(payload), header.time_us, &mut ended),
            RecordKind::Resize => course.resized(Size::from_payload(payload).map_or(0, |size| size.cols), &mut ended),
            _ => {}
        }
        for command in new.into_iter().filter(|command| command.id > after && !known.contains(&command.id)) {
            let command = redacted(command, secrets);
            held += command.line.len() + command.cwd.len();
            page.push(command);
        }
        if page.len() >= HISTORY_PAGE_MAX || held >= HISTORY_PAGE_BYTES_MAX {
            return Ok(History { commands: page, output_bytes: course.output_end(), is_last: false });
        }
    }
    // Only on the last page, whatever has come behind it.
    page.extend(course.running().map(|command| redacted(command, secrets)));
    page.sort_by_key(|command| command.id);
    Ok(History { commands: page, output_bytes: course.output_end(), is_last: true })
}

/// What the index has: one page, and where it goes on.
fn indexed(
    directory: &Path,
    secrets: &Secrets,
    id: SessionId,
    after: u64,
) -> Result<Option<(Vec<CommandInfo>, Saved)>, StoreError> {
    let Some(db) = Store::read(directory, secrets.digest())? else { return Ok(None) };
    db.execute_batch("BEGIN")?;
    let Some(session) = session_row(&db, id)? else { return Ok(None) };
    let Some(saved) = saved_row(&db, session)? else { return Ok(None) };
    let query = format!(
        "SELECT {COMMAND} FROM commands WHERE session = ? AND number > ? ORDER BY number LIMIT {HISTORY_PAGE_MAX}"
    );
    let mut query = db.prepare(&query)?;
    let mut rows = query.query(params![session, signed(after)])?;
    let (mut page, mut held) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let command = store::command(row)?;
        held += command.line.len() + command.cwd.len();
        page.push(command);
        if held >= HISTORY_PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(Some((page, saved)))
}

/// Where the shell of a session was, as far as the index has read.
pub(crate) fn directory(directory: &Path, secrets: &Secrets, id: SessionId) -> Option<String> {
    let db = Store::read(directory, secrets.digest()).ok()??;
    let session = session_row(&db, id).ok()??;
    saved_row(&db, session).ok()?.map(|saved| saved.course.directory().to_owned())
}

/// Where the index has come to in a session.
pub(super) fn saved_row(db: &Connection, session: i64) -> Result<Option<Saved>, StoreError> {
    let mut query = db.prepare_cached("SELECT state FROM sessions WHERE key = ?")?;
    let state = query.query_row([session], |row| Ok(Saved::decode(row.get_ref(0)?.as_blob()?))).optional()?;
    Ok(state.flatten())
}
