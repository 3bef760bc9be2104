//! A log laid beside what its session printed.
//!
//! Promise: every recorded byte is compared at its own place, and what is not there must have been named by the log
//! (a gap, damage, pruned); a silent hole is a violation. Reads the log's files itself, so that no daemon can flatter it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use shellkeep_journal::storage::RealStorage;
use shellkeep_journal::{Item, Reader, RecordKind, Start, scan_read_only};

/// What a log has of its session's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beside {
    /// Bytes that are there, each equal to what was printed.
    pub kept_bytes: u64,
    /// Bytes that the log says are lost.
    pub lost_bytes: u64,
    /// Places at which it says so.
    pub holes: u32,
}

/// Compares the log in `directory` with everything that its session has printed.
///
/// # Errors
/// The first byte that is foreign, or missing without a word.
pub fn beside(directory: &Path, printed: &[u8]) -> Result<Beside> {
    let mut reader = Reader::open(Arc::new(RealStorage), directory, Start::Oldest)?;
    let mut result = Beside::default();
    let (mut at, mut named) = (0usize, false);
    while let Some(item) = reader.next()? {
        let record = match item {
            Item::Record(record) => record,
            Item::Damage(_) | Item::Pruned { .. } => {
                named = true;
                result.holes += 1;
                continue;
            }
        };
        match record.header.kind {
            RecordKind::Output => {
                let offset = usize::try_from(record.header.offset)?;
                skip(&mut at, offset, named, &mut result)?;
                named = false;
                let expected = printed.get(offset..offset + record.payload.len());
                let expected = expected.with_context(|| format!("the log has output beyond byte {}", printed.len()))?;
                if let Some(first) = first_difference(expected, record.payload) {
                    bail!("byte {} of the output is another in the log: {}", offset + first.0, first.1);
                }
                at = offset + record.payload.len();
                result.kept_bytes += record.payload.len() as u64;
            }
            RecordKind::Gap => {
                named = true;
                result.holes += 1;
            }
            _ => {}
        }
    }
    skip(&mut at, printed.len(), named, &mut result)?;
    Ok(result)
}

/// Goes on at `to`: silence is allowed only where the log has named a loss.
fn skip(at: &mut usize, to: usize, named: bool, result: &mut Beside) -> Result<()> {
    ensure!(to >= *at, "output goes back from byte {at} to {to}: something is there twice");
    ensure!(to == *at || named, "bytes {at} to {to} of the output are missing, and the log says nothing of it");
    result.lost_bytes += (to - *at) as u64;
    *at = to;
    Ok(())
}

/// Where two texts part, and what they have there; `None` if they are equal.
pub fn first_difference(expected: &[u8], found: &[u8]) -> Option<(usize, String)> {
    /// Bytes shown of each side.
    const SHOWN_BYTES: usize = 60;
    if expected == found {
        return None;
    }
    let at = expected.iter().zip(found).take_while(|(one, other)| one == other).count();
    let part = |text: &[u8]| {
        let from = at.min(text.len());
        String::from_utf8_lossy(&text[from..text.len().min(at + SHOWN_BYTES)]).into_owned()
    };
    let lengths = format!("{} bytes expected, {} found", expected.len(), found.len());
    Some((at, format!("{lengths}; from byte {at} on {:?} became {:?}", part(expected), part(found))))
}

/// Fails where two texts part.
///
/// # Errors
/// The place and both sides of it, in a line.
pub fn same(what: &str, expected: &[u8], found: &[u8]) -> Result<()> {
    match first_difference(expected, found) {
        None => Ok(()),
        Some((_, difference)) => bail!("{what}: {difference}"),
    }
}

/// How often a keeper was given the log of a session: once more for each daemon that it registered with.
///
/// # Errors
/// If the log cannot be read.
pub fn grants(directory: &Path) -> Result<u32> {
    Ok(scan_read_only(&RealStorage, directory)?.identity.map_or(0, |identity| identity.epoch))
}
