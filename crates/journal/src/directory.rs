//! A journal's directory: which segments there are, where each begins, and how one is opened to be walked over.
//!
//! Promise: looks, never changes. Whatever is no regular file is named, not opened. Refuses to know what follows what.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chain::Position;
use crate::cursor::{Cursor, PlainCursor, Step};
use crate::error::JournalError;
use crate::record::RECORD_BYTES_MAX;
use crate::sealed::{SealedCursor, Trailer};
use crate::segment::{FileKind, HEADER_BYTES_MAX, HeaderError, SegmentHeader};
use crate::storage::{FileStat, OpenMode, Storage, StorageFile, read_full_at, uninterrupted};

/// Bytes of a header that are read at first; longer attrs cost a second read.
const HEADER_READ_BYTES: usize = 4 << 10;

/// Which files a segment has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Presence {
    pub(crate) plain: bool,
    pub(crate) sealed: bool,
}

/// What is in a journal's directory, by names alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing {
    /// By ordinal.
    pub(crate) segments: BTreeMap<u32, Presence>,
    pub(crate) unfinished: Vec<String>,
    /// Ordinals, ascending.
    pub(crate) torn: Vec<u32>,
}

impl Listing {
    pub(crate) fn read(storage: &dyn Storage, dir: &Path) -> Result<Self, JournalError> {
        let entries = uninterrupted(|| storage.list(dir)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => JournalError::NotFound { path: dir.to_owned() },
            _ => JournalError::of(dir, "list", source),
        })?;
        let mut listing = Self::default();
        for entry in entries {
            match FileKind::parse(&entry.name) {
                Some((FileKind::Plain, ordinal)) => listing.segments.entry(ordinal).or_default().plain = true,
                Some((FileKind::Sealed, ordinal)) => listing.segments.entry(ordinal).or_default().sealed = true,
                Some((FileKind::Unfinished, _)) => listing.unfinished.push(entry.name),
                Some((FileKind::Torn, ordinal)) => listing.torn.push(ordinal),
                None => {}
            }
        }
        listing.torn.sort_unstable();
        Ok(listing)
    }
}

/// A segment that was looked at: its file is open, its header read.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) ordinal: u32,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) sealed: bool,
    /// `None` if it is damaged.
    pub(crate) header: Option<SegmentHeader>,
    /// The place before its first record; `None` if the header is damaged and there is no record.
    pub(crate) first: Option<Position>,
    /// Where its entries begin.
    pub(crate) start: u64,
    pub(crate) len: u64,
    /// A sync of it failed.
    pub(crate) doubtful: bool,
    /// Of a sealed segment that is whole.
    pub(crate) trailer: Option<Trailer>,
}

/// What is found at a segment's name.
#[derive(Debug)]
pub(crate) enum Opened {
    Segment(Box<OpenSegment>),
    /// No regular file: a link, a pipe, a directory.
    Foreign,
    /// It is not there any more.
    Missing,
}

/// Opens a segment to read it. If both kinds are there, the sealed one counts when it is whole.
pub(crate) fn open_segment(
    storage: &dyn Storage,
    dir: &Path,
    ordinal: u32,
    presence: Presence,
) -> Result<Opened, JournalError> {
    let sealed = if presence.sealed { open_file(storage, dir, ordinal, FileKind::Sealed)? } else { Opened::Missing };
    let whole = matches!(&sealed, Opened::Segment(segment) if segment.trailer.is_some());
    if whole || !presence.plain {
        return Ok(sealed);
    }
    let plain = open_file(storage, dir, ordinal, FileKind::Plain)?;
    Ok(if matches!((&plain, &sealed), (Opened::Segment(_), _) | (Opened::Foreign, Opened::Missing)) {
        plain
    } else {
        sealed
    })
}

fn open_file(storage: &dyn Storage, dir: &Path, ordinal: u32, kind: FileKind) -> Result<Opened, JournalError> {
    let path = dir.join(kind.name(ordinal));
    let file: Arc<dyn StorageFile> = match uninterrupted(|| storage.open(&path, OpenMode::Read)) {
        Ok(file) => file.into(),
        Err(error) => return refusal(&path, error),
    };
    let failed = |source| JournalError::of(&path, "read", source);
    let FileStat { len, doubtful, .. } = uninterrupted(|| file.stat()).map_err(failed)?;
    let bytes = read_head(&*file, len).map_err(failed)?;
    let sealed = kind == FileKind::Sealed;
    let header = match SegmentHeader::decode(&bytes) {
        Ok((header, start)) if header.sealed == sealed && header.ordinal == ordinal => Some((header, start as u64)),
        Err(HeaderError::Version(version)) => return Err(JournalError::Version { path, version }),
        Ok(_) | Err(HeaderError::Damaged) => None,
    };
    let mut segment = OpenSegment {
        ordinal,
        file,
        sealed,
        first: header.as_ref().map(|(header, _)| header.first),
        start: header.as_ref().map_or(0, |(_, start)| *start),
        header: header.map(|(header, _)| header),
        len,
        doubtful,
        trailer: None,
        path,
    };
    if segment.header.is_none() {
        segment.find_first(&bytes).map_err(|source| JournalError::of(&segment.path, "read", source))?;
    }
    if sealed {
        let first = segment.first.unwrap_or(Position::START);
        let cursor = SealedCursor::new(Arc::clone(&segment.file), segment.start, first);
        segment.trailer = cursor.map_err(|source| JournalError::of(&segment.path, "read", source))?.trailer();
    }
    Ok(Opened::Segment(Box::new(segment)))
}

fn refusal(path: &Path, error: io::Error) -> Result<Opened, JournalError> {
    const ELOOP: i32 = 40; // a symbolic link, with O_NOFOLLOW
    const ENXIO: i32 = 6; // a socket
    match error.kind() {
        io::ErrorKind::NotFound => Ok(Opened::Missing),
        io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory => Ok(Opened::Foreign),
        _ if matches!(error.raw_os_error(), Some(ELOOP | ENXIO)) => Ok(Opened::Foreign),
        _ => Err(JournalError::of(path, "open", error)),
    }
}

fn read_head(file: &dyn StorageFile, len: u64) -> io::Result<Vec<u8>> {
    let most = usize::try_from(len).unwrap_or(usize::MAX).min(HEADER_BYTES_MAX);
    let mut bytes = vec![0; most.min(HEADER_READ_BYTES)];
    let got = read_full_at(file, &mut bytes, 0)?;
    bytes.truncate(got);
    if let Some(announced) =
        SegmentHeader::announced_len(&bytes).filter(|announced| *announced > got && *announced <= most)
    {
        bytes.resize(announced, 0);
        let more = read_full_at(file, &mut bytes[got..], got as u64)?;
        bytes.truncate(got + more);
    }
    Ok(bytes)
}

impl OpenSegment {
    /// Without a header: where the first entry is and what comes there, from the records themselves.
    fn find_first(&mut self, head: &[u8]) -> io::Result<()> {
        // Most of the time only a field is damaged and the length is right.
        let announced = SegmentHeader::announced_len(head).unwrap_or(0) as u64;
        for start in [announced, 0] {
            self.start = start;
            let mut cursor = self.walk(None)?;
            loop {
                match cursor.step()? {
                    Step::Record => {
                        self.first = cursor.last().map(|(header, _)| header.before());
                        return Ok(());
                    }
                    Step::Damage(_) if start != 0 => break, // the length was not right after all
                    Step::Grant(_) | Step::Damage(_) => {}
                    Step::End(_) => break,
                }
            }
        }
        self.start = 0;
        Ok(())
    }

    fn walk(&self, expected: Option<Position>) -> io::Result<Cursor> {
        let file = Arc::clone(&self.file);
        Ok(if self.sealed {
            Cursor::Sealed(SealedCursor::new(file, self.start, expected.unwrap_or(Position::START))?)
        } else {
            Cursor::Plain(PlainCursor::new(file, self.start, expected))
        })
    }

    /// Walks over its entries from the first.
    pub(crate) fn cursor(&self) -> Result<Cursor, JournalError> {
        let expected = self.header.as_ref().map(|header| header.first);
        self.walk(expected).map_err(|source| JournalError::of(&self.path, "read", source))
    }
}

const _: () = assert!(HEADER_BYTES_MAX < RECORD_BYTES_MAX);
