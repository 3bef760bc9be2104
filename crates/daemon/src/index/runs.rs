//! Posting lists of many blocks: new blocks have a list each, which are merged into runs, and those into larger runs.
//!
//! Promise: a word is looked for in a handful of places, however many blocks there are; each list is written a handful of
//! times; blocks that are removed leave the lists at once.

use std::iter::Peekable;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::grams::{self, List, PARTS, get, postings, put, put_posting, range_of};
use super::store::{Store, StoreError, signed, unsigned};

/// Blocks with a list of their own that are merged into a run. Tests need many runs of few blocks.
const FRESH_MAX: usize = if cfg!(test) { 4 } else { 64 };

/// Runs of one level that are merged into one of the next, and the last level.
const RUNS_MAX: usize = if cfg!(test) { 3 } else { 8 };
const LEVEL_LAST: i64 = 3;

type Result<T> = std::result::Result<T, StoreError>;

/// Blocks of a run; the place of one in it is its number in the lists. 0 stands where one was removed.
fn blocks_of(mut bytes: &[u8]) -> Vec<i64> {
    std::iter::from_fn(|| get(&mut bytes)).map(signed).collect()
}

fn encoded(blocks: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in blocks {
        put(&mut out, unsigned(*block));
    }
    out
}

impl Store {
    /// Merges what has become too many. False when there is nothing to do.
    pub(super) fn merge(&self) -> Result<bool> {
        let closed: i64 = self.db().query_row("SELECT count(*) FROM fresh WHERE closed = 1", [], |row| row.get(0))?;
        if usize::try_from(closed).unwrap_or(0) >= FRESH_MAX {
            let query = format!("SELECT block, grams FROM fresh WHERE closed = 1 ORDER BY block LIMIT {FRESH_MAX}");
            let mut query = self.db().prepare(&query)?;
            let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let fresh: Vec<(i64, Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
            self.merge_fresh(&fresh)?;
            return Ok(true);
        }
        for level in 1..LEVEL_LAST {
            let query = format!("SELECT id, blocks FROM runs WHERE level = ? ORDER BY id LIMIT {RUNS_MAX}");
            let mut query = self.db().prepare(&query)?;
            let rows = query.query_map([level], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let runs: Vec<(i64, Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
            if runs.len() >= RUNS_MAX {
                self.merge_runs(&runs, level + 1)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn new_run(&self, level: i64, blocks: &[i64]) -> Result<i64> {
        self.db().execute("INSERT INTO runs(level, blocks) VALUES(?, ?)", params![level, encoded(blocks)])?;
        Ok(self.db().last_insert_rowid())
    }

    fn put_part(&self, run: i64, part: u32, list: &[u8]) -> Result<()> {
        if !list.is_empty() {
            self.db().prepare_cached("INSERT INTO postings VALUES(?, ?, ?)")?.execute(params![run, part, list])?;
        }
        Ok(())
    }

    fn merge_fresh(&self, fresh: &[(i64, Vec<u8>)]) -> Result<()> {
        let blocks: Vec<i64> = fresh.iter().map(|(block, _)| *block).collect();
        let run = self.new_run(1, &blocks)?;
        let mut lists: Vec<Peekable<List<'_>>> = fresh.iter().map(|(_, list)| List::new(list).peekable()).collect();
        let mut pairs = Vec::new();
        for part in 0..PARTS {
            let end = range_of(part).end;
            pairs.clear();
            for (number, list) in (0u64..).zip(&mut lists) {
                while let Some(gram) = list.next_if(|gram| *gram < end) {
                    pairs.push(u64::from(gram) << 32 | number);
                }
            }
            self.put_part(run, part, &part_of(&mut pairs, blocks.len()))?;
        }
        let mut drop = self.db().prepare_cached("DELETE FROM fresh WHERE block = ?")?;
        for block in &blocks {
            drop.execute([block])?;
        }
        Ok(())
    }

    fn merge_runs(&self, runs: &[(i64, Vec<u8>)], level: i64) -> Result<()> {
        let members: Vec<Vec<i64>> = runs.iter().map(|(_, blocks)| blocks_of(blocks)).collect();
        let blocks = members.concat();
        let run = self.new_run(level, &blocks)?;
        let mut pairs = Vec::new();
        for part in 0..PARTS {
            pairs.clear();
            let mut before = 0u64;
            for ((run, _), members) in runs.iter().zip(&members) {
                if let Some(list) = part_list(self.db(), *run, part)? {
                    let each = |gram: u32, blocks: &[u32]| {
                        pairs.extend(blocks.iter().map(|block| u64::from(gram) << 32 | (before + u64::from(*block))));
                        true
                    };
                    postings(&list, members.len(), each).ok_or(StoreError::Damaged)?;
                }
                before += members.len() as u64;
            }
            self.put_part(run, part, &part_of(&mut pairs, blocks.len()))?;
        }
        for (run, _) in runs {
            self.drop_run(*run)?;
        }
        Ok(())
    }

    fn drop_run(&self, run: i64) -> Result<()> {
        self.db().execute("DELETE FROM postings WHERE run = ?", [run])?;
        self.db().execute("DELETE FROM runs WHERE id = ?", [run])?;
        Ok(())
    }

    /// Takes blocks out of all lists.
    pub(super) fn drop_from_runs(&self, gone: &[i64]) -> Result<()> {
        let gone: std::collections::HashSet<i64> = gone.iter().copied().collect();
        for (run, blocks) in runs(self.db())? {
            let is_gone: Vec<bool> = blocks.iter().map(|block| gone.contains(block)).collect();
            if !is_gone.contains(&true) {
                continue;
            }
            let left: Vec<i64> = blocks.iter().map(|block| if gone.contains(block) { 0 } else { *block }).collect();
            if left.iter().all(|block| *block == 0) {
                self.drop_run(run)?;
                continue;
            }
            self.db().execute("UPDATE runs SET blocks = ? WHERE id = ?", params![encoded(&left), run])?;
            for part in 0..PARTS {
                let Some(list) = part_list(self.db(), run, part)? else { continue };
                let mut pairs = Vec::new();
                let each = |gram: u32, blocks: &[u32]| {
                    let left = blocks.iter().filter(|block| !is_gone[**block as usize]);
                    pairs.extend(left.map(|block| u64::from(gram) << 32 | u64::from(*block)));
                    true
                };
                postings(&list, blocks.len(), each).ok_or(StoreError::Damaged)?;
                let list = part_of(&mut pairs, blocks.len());
                let mut put = self.db().prepare_cached("UPDATE postings SET list = ? WHERE run = ? AND part = ?")?;
                put.execute(params![list, run, part])?;
            }
        }
        Ok(())
    }
}

/// A part's list of pairs of a group (upper half) and a block (lower half).
#[allow(clippy::cast_possible_truncation)] // halves are taken apart
fn part_of(pairs: &mut [u64], of: usize) -> Vec<u8> {
    pairs.sort_unstable();
    let mut list = Vec::with_capacity(pairs.len() * 2);
    let (mut before, mut blocks) = (0, Vec::new());
    for same in pairs.chunk_by(|one, other| one >> 32 == other >> 32) {
        blocks.clear();
        blocks.extend(same.iter().map(|pair| (pair & u64::from(u32::MAX)) as u32));
        put_posting(&mut list, &mut before, (same[0] >> 32) as u32, &blocks, of);
    }
    list
}

fn part_list(db: &Connection, run: i64, part: u32) -> Result<Option<Vec<u8>>> {
    let mut query = db.prepare_cached("SELECT list FROM postings WHERE run = ? AND part = ?")?;
    Ok(query.query_row(params![run, part], |row| row.get(0)).optional()?)
}

/// All runs with their blocks.
fn runs(db: &Connection) -> Result<Vec<(i64, Vec<i64>)>> {
    let mut query = db.prepare_cached("SELECT id, blocks FROM runs")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, blocks_of(row.get_ref(1)?.as_blob()?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Blocks that have all of `grams`, in no order.
pub(super) fn having(db: &Connection, grams: &[u32]) -> Result<Vec<i64>> {
    let mut found = Vec::new();
    for (run, blocks) in runs(db)? {
        let mut left: Vec<u32> = Vec::new();
        for (nth, gram) in grams.iter().enumerate() {
            let has = match part_list(db, run, grams::part(*gram))? {
                None => Vec::new(),
                Some(list) => with_gram(&list, blocks.len(), *gram)?,
            };
            if nth == 0 {
                left = has;
            } else {
                left.retain(|block| has.binary_search(block).is_ok());
            }
            if left.is_empty() {
                break;
            }
        }
        found.extend(left.into_iter().filter_map(|block| blocks.get(block as usize)).filter(|block| **block != 0));
    }
    let mut query = db.prepare_cached("SELECT block, grams FROM fresh")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        if grams::has_all(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?, grams) {
            found.push(row.get(0)?);
        }
    }
    Ok(found)
}

fn with_gram(list: &[u8], of: usize, wanted: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    let each = |gram: u32, blocks: &[u32]| {
        if gram == wanted {
            found.extend_from_slice(blocks);
        }
        gram < wanted
    };
    postings(list, of, each).ok_or(StoreError::Damaged)?;
    Ok(found)
}
