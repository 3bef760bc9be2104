//! The directory of all logs: opened, made, listed, read, checked, removed.
//!
//! Promise: what is read is read from the log itself; nothing is remembered that the log does not say, except a
//! summary that is valid for exactly the state of the log that it was made from.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use shellkeep_journal::storage::Storage;
use shellkeep_journal::{
    Finding, Identity, Item as Found, Journal, JournalError, Options, Position, Reader, RecordKind, Recovery, Seq,
    Start, remove_journal, scan_read_only,
};
use shellkeep_protocol::attach::{Recording, Size, exit_from_payload};
use shellkeep_protocol::ids::{SessionId, StoreId, WriterId};
use shellkeep_protocol::query::{Chunk, FINDINGS_MAX, Failure, Item, Verified};
use shellkeep_protocol::session::{Attrs, ExitStatus, GapReason, SessionStart};
use tracing::warn;

use super::aside;
use super::core::SessionCore;
use super::journal_log::{JournalLog, decode_attrs, encode_attrs, real_storage};
use super::ruin;
use super::session::{Session, WriteFailure};
use crate::queries::failed;
use crate::screen::checkpoint;

/// Summaries kept in memory; beyond that all are forgotten and made anew when asked for.
const SUMMARIES_MAX: usize = 20_000;

/// Segments that a session's share of the disk holds at least: so much of it may be over the limit, or unused, at a time.
const SEGMENTS_PER_SESSION: u64 = 8;

/// What an item is counted as in a chunk, beside its bytes of output: no less than it takes when encoded.
const ITEM_BYTES: usize = 64;

/// The logs of one user. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Logs {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    options: Options,
    session_bytes_max: u64,
    summaries: Arc<Mutex<Summaries>>,
}

/// What a log says about its session.
#[derive(Debug, Clone)]
pub struct Summary {
    /// What the keeper said last.
    pub attrs: Attrs,
    /// How the command ended.
    pub exit: Option<ExitStatus>,
    /// Microseconds since the Unix epoch.
    pub last_time_us: u64,
    /// Bytes of output so far, lost ones included.
    pub output_bytes: u64,
    /// Gaps and damaged places.
    pub gaps: u64,
    /// What stands behind the last record is none: of a session that nobody writes any more, damage.
    pub is_torn: bool,
    /// Where the counting has come to.
    counted_to: Seq,
    bytes_on_disk: u64,
}

/// What was counted of logs.
#[derive(Debug, Default)]
struct Summaries {
    known: HashMap<SessionId, Summary>,
    /// How often something was forgotten.
    forgotten: u64,
}

impl Logs {
    /// On the real disk. Segments are small enough for `session_bytes_max` to be kept by dropping whole ones.
    pub fn real(directory: PathBuf, session_bytes_max: u64) -> Self {
        let segment_bytes_max = (session_bytes_max / SEGMENTS_PER_SESSION).min(Options::default().segment_bytes_max);
        let options = Options { segment_bytes_max, ..Options::default() };
        Self { storage: real_storage(), directory, options, session_bytes_max, summaries: Arc::default() }
    }

    /// Bytes of disk that one session may have.
    pub(super) fn session_bytes_max(&self) -> u64 {
        self.session_bytes_max
    }

    /// Forgets what was counted, and what is being counted: the log is another one now.
    pub(super) fn forget_summary(&self, id: SessionId) {
        let mut summaries = self.summaries.lock();
        summaries.known.remove(&id);
        summaries.forgotten += 1;
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where one of them is.
    pub fn path(&self, id: SessionId) -> PathBuf {
        self.directory.join(id.to_string())
    }

    /// Opens the log of a session, recovering it; `None` if there is none. Its keeper has all records from `retained` on.
    ///
    /// # Errors
    /// If it is there and cannot be used.
    pub(super) fn open(
        &self,
        id: SessionId,
        retained: Seq,
        now: Instant,
    ) -> Result<Option<Session<JournalLog>>, WriteFailure> {
        let opened = Journal::open(Arc::clone(&self.storage), &self.path(id), self.options);
        let (mut journal, recovery) = match opened {
            Ok((journal, _)) if journal.identity().session != *id.as_bytes() => {
                return self.put_aside(id).map(|()| None); // somebody put another session's log here
            }
            Ok(opened) => opened,
            Err(JournalError::NotFound { .. }) => return Ok(None),
            Err(JournalError::NoIdentity { .. }) => return self.put_aside(id).map(|()| None),
            Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => {
                return self.put_aside(id).map(|()| None);
            }
            Err(error) => {
                warn!(session = %id, %error, "a log cannot be opened");
                return Err(WriteFailure::Storage);
            }
        };
        for finding in &recovery.findings {
            warn!(session = %id, ?finding, "recovery found something in a log");
        }
        // A power cut may leave a hole in what was not durable yet: whoever still has those records sends them again.
        if let Some(hole) = recovery.first_hole_from(retained)
            && !journal.is_doubtful()
            && let Err(error) = journal.new_segment_from(hole)
        {
            warn!(session = %id, %hole, %error, "a hole in a log cannot be filled now");
            return Err(WriteFailure::Storage);
        }
        self.forget_summary(id); // what was damaged may be sent again, and is no gap then
        let identity = journal.identity();
        let owner = (StoreId::from_bytes(identity.store), WriterId::from_bytes(identity.writer), identity.epoch);
        // What is sealed is durable, and nothing else is known to be.
        let proved = journal.place_before(journal.durable().next()).ok().flatten().unwrap_or(journal.first());
        let mut core = SessionCore::recovered(owner, proved, journal.end(), now);
        if journal.is_doubtful() {
            warn!(session = %id, "a sync of this log had failed; its end is written anew before it counts");
            core.distrust();
        }
        Ok(Some(Session::new(id, core, JournalLog::new(journal))))
    }

    /// Makes the log of a session that has none.
    ///
    /// # Errors
    /// If the storage does not take it.
    pub(super) fn create(&self, start: &SessionStart, store: StoreId) -> Result<JournalLog, WriteFailure> {
        let identity = Identity {
            session: *start.session.as_bytes(),
            store: *store.as_bytes(),
            writer: *start.writer.as_bytes(),
            epoch: 0,
            attrs: encode_attrs(&start.attrs).ok_or(WriteFailure::Storage)?,
        };
        let name = start.session.to_string();
        let make = || {
            let storage = Arc::clone(&self.storage);
            Journal::create(storage, &self.directory, &name, identity.clone(), self.options)
        };
        let log = match make() {
            // No segment is in it, or it would have been opened: what is left of a log.
            Err(JournalError::Exists { .. }) => {
                self.put_aside(start.session)?;
                make()
            }
            // The directory of all logs was removed: made again, empty. Whatever else is wrong is said by the next try.
            Err(_) if self.storage.list(&self.directory).is_err() => {
                let _made = self.storage.create_dir(&self.directory);
                make()
            }
            other => other,
        };
        match log {
            Ok(journal) => Ok(JournalLog::new(journal)),
            Err(error) => {
                warn!(session = %name, %error, "a log cannot be made");
                let no_space = matches!(error, JournalError::NoSpace { .. });
                Err(if no_space { WriteFailure::NoSpace } else { WriteFailure::Storage })
            }
        }
    }

    fn put_aside(&self, id: SessionId) -> Result<(), WriteFailure> {
        aside::put(&self.directory, id).map_err(|error| {
            warn!(session = %id, %error, "a log that nobody can go on with cannot be put aside");
            WriteFailure::Storage
        })
    }

    /// All sessions that have a log.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn ids(&self) -> io::Result<Vec<SessionId>> {
        let mut ids = Vec::new();
        let entries = match self.storage.list(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(), // somebody removed all logs at once
            listed => listed?,
        };
        for entry in entries {
            ids.extend(SessionId::from_str(&entry.name));
        }
        Ok(ids)
    }

    /// What a log says about its session; `None` if it is gone or says nothing.
    pub fn summary(&self, id: SessionId) -> Option<Summary> {
        let forgotten = self.summaries.lock().forgotten;
        let recovery = self.scan(id)?;
        let is_ruin = ruin::is_one(&recovery);
        // Without a readable header the records are still there, and must not vanish from lists.
        let attrs = recovery.identity.map_or_else(Attrs::default, |identity| decode_attrs(&identity.attrs));
        let known = self.summaries.lock().known.get(&id).cloned();
        // A log that was cut back is counted anew.
        let known = known.filter(|known| known.counted_to <= recovery.end.next_seq);
        let mut summary = known.unwrap_or(Summary {
            attrs: Attrs::default(),
            exit: None,
            last_time_us: 0,
            output_bytes: 0,
            gaps: 0,
            is_torn: false,
            counted_to: Seq::FIRST,
            bytes_on_disk: 0,
        });
        summary.attrs = attrs;
        summary.last_time_us = recovery.last_time_us;
        summary.output_bytes = recovery.end.output_offset;
        summary.bytes_on_disk = recovery.bytes_on_disk;
        summary.is_torn = recovery.findings.iter().any(|finding| matches!(finding, Finding::TornTail { .. }));
        if is_ruin {
            return Some(Summary { gaps: 1, ..summary }); // nothing was counted, so nothing is remembered
        }
        if summary.counted_to < recovery.end.next_seq {
            self.count(id, &mut summary).ok()?;
        }
        let mut summaries = self.summaries.lock();
        // What was counted while a log changed may be neither the old one's nor the new one's.
        if summaries.forgotten == forgotten {
            if summaries.known.len() >= SUMMARIES_MAX {
                summaries.known.clear();
            }
            summaries.known.insert(id, summary.clone());
        }
        Some(summary)
    }

    /// Counts gaps and finds the exit in what was not counted yet.
    fn count(&self, id: SessionId, summary: &mut Summary) -> Result<(), JournalError> {
        let mut reader = Reader::open(Arc::clone(&self.storage), &self.path(id), Start::Seq(summary.counted_to))?;
        while let Some(found) = reader.next()? {
            match found {
                Found::Record(record) => match record.header.kind {
                    RecordKind::Gap => summary.gaps += 1,
                    RecordKind::Exit => summary.exit = exit_from_payload(record.payload),
                    _ => {}
                },
                Found::Damage(_) => summary.gaps += 1,
                Found::Pruned { .. } => {}
            }
        }
        summary.counted_to = reader.next_seq();
        Ok(())
    }

    /// Whether the log says how the command ended.
    pub fn has_ended(&self, id: SessionId) -> bool {
        self.summary(id).is_some_and(|summary| summary.exit.is_some())
    }

    /// Records from `from` on, about `bytes_max` bytes of them.
    ///
    /// # Errors
    /// If there is no such log, or it cannot be read.
    pub fn read(&self, id: SessionId, from: Seq, bytes_max: u32) -> Result<Chunk, Failure> {
        let mut reader = self.reader(id, Start::Seq(from))?;
        let (mut items, mut bytes) = (Vec::new(), 0usize);
        while bytes < bytes_max as usize {
            let Some(found) = reader.next().map_err(|error| self.unreadable(id, &error))? else { break };
            if let Some(item) = item(found) {
                // With what each costs in the reply: a million keystrokes must not make it too long to be sent.
                bytes += ITEM_BYTES;
                bytes +=
                    if let Item::Output { bytes, .. } | Item::Input { bytes, .. } = &item { bytes.len() } else { 0 };
                items.push(item);
            }
        }
        Ok(Chunk { items, next: reader.next_seq(), is_last: false })
    }

    /// Reads all of a log and checks it. A log that cannot be read at all is damaged, and that is what is found.
    ///
    /// # Errors
    /// If there is no such log.
    pub fn verify(&self, id: SessionId) -> Result<Verified, Failure> {
        match self.checked(id) {
            Err(Failure::Storage { path, why }) => {
                let what = format!("{path}: {why}");
                let findings = vec![Item::Damage { from: Seq::FIRST, to: Seq::FIRST.prev(), what }];
                Ok(Verified { records: 0, output_bytes: 0, findings })
            }
            checked => checked,
        }
    }

    fn checked(&self, id: SessionId) -> Result<Verified, Failure> {
        let mut reader = self.reader(id, Start::Oldest)?;
        let first = reader.next_seq();
        let (recovery, findings) = self.around_records(id)?;
        let mut verified = Verified { records: 0, output_bytes: 0, findings };
        while let Some(found) = reader.next().map_err(|error| self.unreadable(id, &error))? {
            if let Found::Record(record) = &found {
                verified.records += 1;
                if record.header.kind == RecordKind::Output {
                    verified.output_bytes += record.payload.len() as u64;
                }
            }
            let finding = item(found).filter(is_finding);
            if verified.findings.len() < FINDINGS_MAX {
                verified.findings.extend(finding);
            }
        }
        if first > Seq::FIRST {
            let output_offset_after = recovery.first.output_offset;
            verified.findings.insert(0, Item::Pruned { from: Seq::FIRST, to: first.prev(), output_offset_after });
        }
        Ok(verified)
    }

    /// What a log says of itself, and the damage in it that no record lies in.
    ///
    /// # Errors
    /// If there is no such log, or it cannot be read.
    pub(crate) fn around_records(&self, id: SessionId) -> Result<(Recovery, Vec<Item>), Failure> {
        let scan = || scan_read_only(&*self.storage, &self.path(id)).map_err(|error| self.unreadable(id, &error));
        let (earlier, recovery) = (scan()?, scan()?);
        // A tail that is no record may be one that is being written: it is another one at the second look.
        let stays =
            |finding: &&Finding| !matches!(finding, Finding::TornTail { .. }) || earlier.findings.contains(finding);
        let findings = recovery.findings.iter().filter(stays);
        let items = findings.filter_map(|finding| around_records(finding, recovery.end)).collect();
        Ok((recovery, items))
    }

    /// What a log says of itself: nothing, if it cannot be read; `None` if it is gone.
    pub(crate) fn scan(&self, id: SessionId) -> Option<Recovery> {
        let path = self.path(id);
        match scan_read_only(&*self.storage, &path) {
            Err(error) if error.is_passing() => None,
            Ok(recovery) if !ruin::is_one(&recovery) => Some(recovery),
            scanned => ruin::recovery(&path, scanned.ok()),
        }
    }

    /// Reads a log from some place on, while it is written.
    ///
    /// # Errors
    /// If there is no such log, or it cannot be read.
    pub(crate) fn follow(&self, id: SessionId, start: Start) -> Result<Reader, JournalError> {
        Reader::open(Arc::clone(&self.storage), &self.path(id), start)
    }

    /// Removes a log and returns the bytes that it had.
    ///
    /// # Errors
    /// If there is none, or it cannot be removed.
    pub fn remove(&self, id: SessionId) -> Result<u64, Failure> {
        let summary = self.summary(id).ok_or(Failure::UnknownSession)?;
        let removed = remove_journal(&*self.storage, &self.directory, &id.to_string());
        removed.map_err(|error| self.unreadable(id, &error))?;
        aside::forget(&self.directory, id).map_err(|error| failed(&self.path(id), &error))?;
        checkpoint::remove(&checkpoint::directory(&self.directory), id);
        self.forget_summary(id);
        Ok(summary.bytes_on_disk)
    }

    /// Bytes of all logs.
    pub fn bytes_on_disk(&self) -> u64 {
        let ids = self.ids().unwrap_or_default();
        ids.into_iter().map(|id| directory_bytes(&self.path(id))).sum()
    }

    /// Bytes of one log.
    pub fn bytes_of(&self, id: SessionId) -> u64 {
        directory_bytes(&self.path(id))
    }

    pub(crate) fn reader(&self, id: SessionId, start: Start) -> Result<Reader, Failure> {
        Reader::open(Arc::clone(&self.storage), &self.path(id), start).map_err(|error| self.unreadable(id, &error))
    }

    pub(crate) fn unreadable(&self, id: SessionId, error: &JournalError) -> Failure {
        if matches!(error, JournalError::NotFound { .. }) {
            let found = ruin::describe(&*self.storage, &self.path(id));
            return found.map_or(Failure::UnknownSession, |(path, why)| Failure::Storage {
                path: path.display().to_string(),
                why,
            });
        }
        failed(&self.path(id), &io::Error::other(error.to_string()))
    }
}

/// Whether `verify` tells of it.
fn is_finding(item: &Item) -> bool {
    !matches!(item, Item::Output { .. } | Item::Input { .. } | Item::Exit { .. } | Item::Resize { .. })
}

/// Damage that no record lies in: headers, indexes, the end of the last segment.
fn around_records(finding: &Finding, end: Position) -> Option<Item> {
    let what = match finding {
        Finding::BadHeader { file } => format!("the header of {file} is damaged"),
        Finding::BadIndex { file } => format!("the index of {file} is damaged"),
        Finding::Foreign { file } => format!("{file} is no segment of this log"),
        Finding::TornTail { file, bytes, .. } => {
            format!("bytes {} to {} at the end of {file} are no record", bytes.start, bytes.end)
        }
        Finding::Damage { .. } | Finding::Hole { .. } | Finding::BrokenChain { .. } => return None, // a reader's to find
    };
    Some(Item::Damage { from: end.next_seq, to: end.next_seq.prev(), what })
}

pub(super) fn directory_bytes(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
}

/// What readers are shown of a record; `None` for what is no output and no loss.
fn item(found: Found<'_>) -> Option<Item> {
    match found {
        Found::Pruned { lost, after } => {
            Some(Item::Pruned { from: lost.from, to: lost.to, output_offset_after: after.output_offset })
        }
        Found::Damage(damage) => {
            let what = damage.place.map_or_else(
                || "records are missing".to_owned(),
                |place| format!("bytes {} to {} of segment {:08}", place.bytes.start, place.bytes.end, place.segment),
            );
            let Position { next_seq, .. } = damage.after;
            let (from, to) = damage.lost.map_or((next_seq, next_seq.prev()), |lost| (lost.from, lost.to));
            Some(Item::Damage { from, to, what })
        }
        Found::Record(record) => match record.header.kind {
            RecordKind::Output => Some(Item::Output {
                time_us: record.header.time_us,
                offset: record.header.offset,
                bytes: record.payload.to_vec(),
            }),
            RecordKind::Gap => record.gap().map(|gap| Item::Gap {
                from: record.header.seq,
                to: gap.to,
                output_bytes: gap.output_bytes,
                reason: u8::try_from(gap.reason).map_or(GapReason::SpoolFull, GapReason::from_code),
            }),
            RecordKind::Resize => {
                let Size { cols, rows, .. } = Size::from_payload(record.payload)?;
                Some(Item::Resize { time_us: record.header.time_us, cols, rows })
            }
            RecordKind::Mark => {
                let recording = Recording::from_payload(record.payload)?;
                Some(Item::Recording { time_us: record.header.time_us, recording })
            }
            RecordKind::Input => Some(Item::Input { time_us: record.header.time_us, bytes: record.payload.to_vec() }),
            RecordKind::Exit => {
                let exit = exit_from_payload(record.payload)?;
                Some(Item::Exit { time_us: record.header.time_us, exit })
            }
            _ => None,
        },
    }
}
