//! The index's file: sessions, commands, blocks of text, and which groups of bytes are in which block.
//!
//! Promise: one transaction takes it from one true state to the next; another version's file, or a damaged one, is thrown
//! away, because it is a cache; what is removed is overwritten, not only forgotten. Knows no log.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};
use shellkeep_journal::Seq;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::CommandInfo;

use super::block::Block;

/// Version of everything in the file. Another one is thrown away.
const VERSION: i64 = 4;

/// Name of the file in its directory.
pub(super) const FILE: &str = "index.db";

/// Bytes of a page. A file that was ever opened has one at least.
pub(super) const PAGE_BYTES: u64 = 8192;

/// Memory for pages while there is work, in KiB.
const CACHE_KIB: i64 = 2 << 10;

/// Pages that are given back to the disk at a time.
const VACUUM_PAGES: i64 = 4 << 10;

/// Most bytes of the running command, encoded; a longer one is known once it has ended.
const RUNNING_BYTES_MAX: usize = 1 << 20;

/// How long one connection waits for another one, which only ever holds the file for a moment.
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Text with the session's id in it is bound as 16 bytes; numbers of blocks and sessions are rows.
const SCHEMA: &str = "
CREATE TABLE sessions(key INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, over INTEGER NOT NULL, running BLOB, state BLOB NOT NULL);
CREATE TABLE commands(session INTEGER NOT NULL, number INTEGER NOT NULL, line TEXT NOT NULL, cwd TEXT NOT NULL,
    started INTEGER NOT NULL, ended INTEGER, exit INTEGER, first_seq INTEGER NOT NULL, output_from INTEGER NOT NULL,
    output_to INTEGER NOT NULL, PRIMARY KEY(session, number)) WITHOUT ROWID;
CREATE TABLE blocks(id INTEGER PRIMARY KEY, session INTEGER NOT NULL, first_line INTEGER NOT NULL, lines INTEGER NOT NULL,
    first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, last_seq INTEGER NOT NULL, bytes INTEGER NOT NULL, closed INTEGER NOT NULL);
CREATE INDEX blocks_by_session ON blocks(session, first_line, last_seq);
CREATE INDEX blocks_by_time ON blocks(last_us, id, session, first_us);
CREATE TABLE texts(block INTEGER PRIMARY KEY, places BLOB NOT NULL, text BLOB NOT NULL);
CREATE TABLE fresh(block INTEGER PRIMARY KEY, closed INTEGER NOT NULL, grams BLOB NOT NULL);
CREATE TABLE runs(id INTEGER PRIMARY KEY, level INTEGER NOT NULL, blocks BLOB NOT NULL);
CREATE TABLE postings(run INTEGER NOT NULL, part INTEGER NOT NULL, list BLOB NOT NULL, PRIMARY KEY(run, part)) WITHOUT ROWID;
";

/// Why the index cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It is no file of ours, or damaged: to be made anew.
    #[error("the index is damaged")]
    Damaged,
    /// Anything else: the disk is full, the directory cannot be written.
    #[error("{0}")]
    Failed(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

type Result<T> = std::result::Result<T, StoreError>;

/// What is known of a block without its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockRow {
    pub(super) id: i64,
    pub(super) session: i64,
    pub(super) first_line: u64,
    pub(super) last_us: u64,
}

/// What of a file makes it another one, beside [`VERSION`]: the shapes of secrets that were left out of it. Their digest
/// stands in `SQLite`'s field for the file's application, which is in the same page as the version.
pub(crate) type Shapes = u32;

/// The open file.
#[derive(Debug)]
pub(crate) struct Store {
    db: Connection,
}

/// Where the file is, in its directory.
pub(crate) fn file_in(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// Throws the index away.
///
/// # Errors
/// If it is there and cannot be removed; it says which file.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let path = directory.join(format!("{FILE}{suffix}"));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// The same error with the path in its words.
fn at(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Store {
    /// Opens the file to write to it; makes it, or makes it anew, if it cannot be used. Says whether it was made.
    pub(crate) fn open(directory: &Path, shapes: Shapes) -> Result<(Self, bool)> {
        match Self::try_open(directory, shapes) {
            Err(StoreError::Damaged) => {
                tracing::warn!(path = %file_in(directory).display(), "the index is damaged, of another version, or made with other patterns of secrets; it is built anew");
                remove(directory)?;
                Self::try_open(directory, shapes)
            }
            other => other,
        }
    }

    fn try_open(directory: &Path, shapes: Shapes) -> Result<(Self, bool)> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at(directory))?;
        let path = file_in(directory);
        // Made by us first: what SQLite makes beside it gets the same rights.
        let mut made = std::fs::OpenOptions::new();
        made.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(at(&path))?;
        let db =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.busy_timeout(LOCK_WAIT)?;
        db.pragma_update(None, "page_size", signed(PAGE_BYTES))?;
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        db.pragma_update(None, "secure_delete", "ON")?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        let (version, made_with) = versions(&db)?;
        match version {
            VERSION if made_with == shapes => {}
            0 if db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))? == 0 => {
                let shapes = shapes.cast_signed();
                db.execute_batch(&format!(
                    "BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {shapes}; PRAGMA user_version = {VERSION}; COMMIT;"
                ))?;
            }
            _ => return Err(StoreError::Damaged),
        }
        db.set_prepared_statement_cache_capacity(32);
        Ok((Self { db }, version == 0))
    }

    /// Opens the file to read from it; `None` if there is none of this version and these shapes.
    pub(super) fn read(directory: &Path, shapes: Shapes) -> Result<Option<Connection>> {
        let path = file_in(directory);
        if !path.exists() {
            return Ok(None);
        }
        // Readers of a write-ahead log write to its index.
        let db =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.busy_timeout(LOCK_WAIT)?;
        db.pragma_update(None, "query_only", "ON")?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok((versions(&db)? == (VERSION, shapes)).then_some(db))
    }

    pub(super) fn db(&self) -> &Connection {
        &self.db
    }

    pub(super) fn begin(&self) -> Result<()> {
        Ok(self.db.execute_batch("BEGIN IMMEDIATE")?)
    }

    pub(super) fn commit(&self) -> Result<()> {
        Ok(self.db.execute_batch("COMMIT")?)
    }

    /// Undoes what was begun.
    pub(super) fn roll_back(&self) {
        if !self.db.is_autocommit() {
            let _nothing_was_begun = self.db.execute_batch("ROLLBACK");
        }
    }

    /// Everything is in the one file, and what was freed is the disk's again.
    pub(super) fn tidy(&self) -> Result<()> {
        let free: i64 = self.db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free > 0 {
            let mut vacuum = self.db.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
        }
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// A session's row and state.
    pub(super) fn session(&self, id: SessionId) -> Result<Option<(i64, Vec<u8>)>> {
        let mut query = self.db.prepare_cached("SELECT key, state FROM sessions WHERE id = ?")?;
        Ok(query.query_row([&id.as_bytes()[..]], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    /// All sessions, and whether all of each is here.
    pub(super) fn sessions(&self) -> Result<Vec<(SessionId, bool)>> {
        let mut query = self.db.prepare_cached("SELECT id, over FROM sessions")?;
        let rows = query.query_map([], |row| Ok((SessionId::from_bytes(row.get(0)?), row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Writes a session's state, the command that runs, and whether nothing comes any more; returns its row.
    pub(super) fn put_session(
        &self,
        id: SessionId,
        over: bool,
        running: Option<&CommandInfo>,
        state: &[u8],
    ) -> Result<i64> {
        let mut put = self.db.prepare_cached(
            "INSERT INTO sessions(id, over, running, state) VALUES(?, ?, ?, ?)
             ON CONFLICT(id) DO UPDATE SET over = excluded.over, running = excluded.running, state = excluded.state
             RETURNING key",
        )?;
        let encoded = |command: &CommandInfo| {
            let mut bytes = Vec::new();
            shellkeep_transport::encode_into(command, &mut bytes, RUNNING_BYTES_MAX).ok()?;
            Some(bytes)
        };
        let running = running.and_then(encoded);
        Ok(put.query_row(params![&id.as_bytes()[..], over, running, state], |row| row.get(0))?)
    }

    /// Writes a command, which may have been written before.
    pub(super) fn put_command(&self, session: i64, command: &CommandInfo) -> Result<()> {
        let mut put = self.db.prepare_cached("INSERT OR REPLACE INTO commands VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
        put.execute(params![
            session,
            signed(command.id),
            command.line,
            command.cwd,
            signed(command.started_at_us),
            command.ended_at_us.map(signed),
            command.exit,
            signed(command.first_seq.get()),
            signed(command.output_from),
            signed(command.output_to),
        ])?;
        Ok(())
    }

    /// Writes a block, over the one that has this row if any; returns its row.
    pub(super) fn put_block(
        &self,
        row: Option<i64>,
        (session, first_line): (i64, u64),
        block: &Block,
        (text, grams): (&[u8], &[u8]),
        closed: bool,
    ) -> Result<i64> {
        let mut put = self.db.prepare_cached("INSERT OR REPLACE INTO blocks VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
        let (first_us, last_us, last_seq) = (signed(block.first_us), signed(block.last_us), signed(block.last_seq));
        let bytes = signed(block.text.len() as u64);
        put.execute(params![
            row,
            session,
            signed(first_line),
            block.lines,
            first_us,
            last_us,
            last_seq,
            bytes,
            closed
        ])?;
        let row = row.unwrap_or_else(|| self.db.last_insert_rowid());
        let mut put = self.db.prepare_cached("INSERT OR REPLACE INTO texts VALUES(?, ?, ?)")?;
        put.execute(params![row, block.places(), text])?;
        let mut put = self.db.prepare_cached("INSERT OR REPLACE INTO fresh VALUES(?, ?, ?)")?;
        put.execute(params![row, closed, grams])?;
        Ok(row)
    }

    /// Removes blocks with all that is known of them.
    pub(super) fn drop_blocks(&self, rows: &[i64]) -> Result<()> {
        for table in ["blocks WHERE id", "texts WHERE block", "fresh WHERE block"] {
            let mut drop = self.db.prepare_cached(&format!("DELETE FROM {table} = ?"))?;
            for row in rows {
                drop.execute([row])?;
            }
        }
        self.drop_from_runs(rows)
    }

    /// Removes what was written behind a state that is gone on from: blocks from `first_line` on but the one that is gone
    /// on with, and commands after `last_command`.
    pub(super) fn drop_behind(
        &self,
        session: i64,
        tail: Option<i64>,
        first_line: u64,
        last_command: u64,
    ) -> Result<()> {
        let mut query =
            self.db.prepare_cached("SELECT id FROM blocks WHERE session = ? AND first_line >= ? AND id IS NOT ?")?;
        let rows = query.query_map(params![session, signed(first_line), tail], |row| row.get(0))?;
        let rows: Vec<i64> = rows.collect::<rusqlite::Result<_>>()?;
        if !rows.is_empty() {
            self.drop_blocks(&rows)?;
            self.drop_from_runs(&tail.into_iter().collect::<Vec<_>>())?; // it was full since
        }
        let behind = "DELETE FROM commands WHERE session = ? AND number > ?";
        self.db.prepare_cached(behind)?.execute(params![session, signed(last_command)])?;
        Ok(())
    }

    /// A block with its text.
    pub(super) fn block(&self, row: i64) -> Result<Option<Block>> {
        block(&self.db, row)
    }

    /// Removes a session.
    pub(super) fn forget(&self, id: SessionId) -> Result<()> {
        let Some((session, _)) = self.session(id)? else { return Ok(()) };
        let mut query = self.db.prepare_cached("SELECT id FROM blocks WHERE session = ?")?;
        let rows: Vec<i64> = query.query_map([session], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        self.drop_blocks(&rows)?;
        self.db.execute("DELETE FROM commands WHERE session = ?", [session])?;
        self.db.execute("DELETE FROM sessions WHERE key = ?", [session])?;
        Ok(())
    }

    /// Removes what is only in records before `first`: closed blocks and commands.
    pub(super) fn prune(&self, id: SessionId, first: Seq, output_offset: u64) -> Result<()> {
        let Some((session, _)) = self.session(id)? else { return Ok(()) };
        let mut query =
            self.db.prepare_cached("SELECT id FROM blocks WHERE session = ? AND closed = 1 AND last_seq < ?")?;
        let rows = query.query_map(params![session, signed(first.get())], |row| row.get(0))?;
        let rows: Vec<i64> = rows.collect::<rusqlite::Result<_>>()?;
        self.drop_blocks(&rows)?;
        let offset = signed(output_offset);
        self.db.execute(
            "DELETE FROM commands WHERE session = ? AND output_to < ? AND first_seq < ?",
            params![session, offset, signed(first.get())],
        )?;
        Ok(())
    }
}

/// The version of a file, and the shapes with which it was made.
fn versions(db: &Connection) -> Result<(i64, Shapes)> {
    let version = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let shapes: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
    Ok((version, shapes.cast_unsigned()))
}

/// The command that runs in a session, as far as it is known.
pub(super) fn running(db: &Connection, session: i64) -> Result<Option<CommandInfo>> {
    let mut query = db.prepare_cached("SELECT running FROM sessions WHERE key = ?")?;
    let found = query.query_row([session], |row| row.get::<_, Option<Vec<u8>>>(0)).optional()?.flatten();
    Ok(found.and_then(|bytes| shellkeep_transport::decode(&bytes).ok()))
}

/// A block with its text; `None` if it is gone or damaged.
pub(super) fn block(db: &Connection, row: i64) -> Result<Option<Block>> {
    let mut query = db.prepare_cached("SELECT places, text FROM texts WHERE block = ?")?;
    let unpacked = |row: &rusqlite::Row<'_>| {
        let (places, text) = (row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        Ok(Block::unpacked(text, places))
    };
    match query.query_row([row], unpacked).optional()? {
        Some(None) => Err(StoreError::Damaged),
        found => Ok(found.flatten()),
    }
}

/// A command of a session.
pub(super) fn command(row: &rusqlite::Row<'_>) -> rusqlite::Result<CommandInfo> {
    Ok(CommandInfo {
        id: unsigned(row.get(0)?),
        line: row.get(1)?,
        cwd: row.get(2)?,
        started_at_us: unsigned(row.get(3)?),
        ended_at_us: row.get::<_, Option<i64>>(4)?.map(unsigned),
        exit: row.get(5)?,
        first_seq: Seq::new(unsigned(row.get(6)?)),
        output_from: unsigned(row.get(7)?),
        output_to: unsigned(row.get(8)?),
    })
}

/// The columns that [`command`] reads.
pub(super) const COMMAND: &str = "number, line, cwd, started, ended, exit, first_seq, output_from, output_to";

/// Numbers in the file have a sign; ours do not and are far below 2^63.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// See [`signed`].
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
