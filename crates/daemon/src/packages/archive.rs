//! Reading an archive: `.tar.gz` or `.tar.zst`, told by its first bytes.
//!
//! Promise: hostile input is an error that says what is wrong, never a partial success. Of the library only headers are used: what
//! long names and PAX records mean, what is let in ([`super::intake`]) and all writing is ours. Memory is bounded whatever an archive says.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _};

use tar::{Entry, EntryType, PaxExtensions};

use super::intake::{Intake, IntakeError, PACKED_BYTES_MAX, Sink, TakeError, Taken, UNPACKED_BYTES_MAX, shown};

/// Bytes of a PAX record or long name.
const EXTRA_BYTES_MAX: u64 = 64 << 10;
/// Zeros that may follow the end of a tar: its writers fill up blocks.
const PADDING_BYTES_MAX: u64 = 1 << 20;
/// What a tar ends with.
const END_BYTES: u64 = 1_024;
/// Bytes beside the files' own: headers of all entries, and as much again.
const OVERHEAD_BYTES_MAX: u64 = 64 << 20;
/// Largest window that a zstd frame may ask for: 128 MiB, the most that its own tool takes unasked.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Why an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no archive of a kind that is known.
    #[error("it is neither a .tar.gz nor a .tar.zst")]
    Unknown,
    /// It is too large before it is unpacked.
    #[error("it has {bytes} bytes, the limit is {PACKED_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// It cannot be read to its end.
    #[error("it is damaged: {0}")]
    Damaged(io::Error),
    /// It is not as a package's archive may be.
    #[error("\"{path}\" {why}")]
    Entry {
        /// Of which entry.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// As a whole it is not as it may be.
    #[error("{0}")]
    Form(&'static str),
    /// What is in it.
    #[error(transparent)]
    Take(#[from] TakeError),
}

impl From<IntakeError> for ArchiveError {
    fn from(error: IntakeError) -> Self {
        Self::Take(error.into())
    }
}

/// Called with the bytes of the archive that have been read, now and then.
pub(super) type OnRead<'a> = &'a dyn Fn(u64);

/// Reads all of an archive into `sink`.
///
/// # Errors
/// See [`ArchiveError`]; what `sink` has got by then is to be thrown away.
pub(super) fn unpack(file: &mut File, sink: &mut dyn Sink, on_read: OnRead<'_>) -> Result<Taken, ArchiveError> {
    let packed = file.metadata().map_err(ArchiveError::Damaged)?.len();
    if packed > PACKED_BYTES_MAX {
        return Err(ArchiveError::TooLarge { bytes: packed });
    }
    file.rewind().map_err(ArchiveError::Damaged)?;
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, Told { file, read: 0, on_read });
    let start: [u8; 4] = match reader.fill_buf().map_err(ArchiveError::Damaged)? {
        [a, b, c, d, ..] => [*a, *b, *c, *d],
        _ => return Err(ArchiveError::Unknown),
    };
    let mut intake = Intake::new(sink, Some(packed));
    let mut rest = match start {
        [0x1f, 0x8b, ..] => {
            let mut plain = Metered::new(flate2::bufread::GzDecoder::new(reader));
            entries(&mut plain, &mut intake)?;
            plain.inner.into_inner()
        }
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader).map_err(ArchiveError::Damaged)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(ArchiveError::Damaged)?;
            let mut plain = Metered::new(decoder.single_frame());
            entries(&mut plain, &mut intake)?;
            plain.inner.finish()
        }
        _ => return Err(ArchiveError::Unknown),
    };
    if !rest.fill_buf().map_err(ArchiveError::Damaged)?.is_empty() {
        return Err(ArchiveError::Form("there is something behind the archive's end"));
    }
    Ok(intake.finish()?)
}

/// What long names and PAX records say of the entry behind them.
#[derive(Default)]
struct Extra {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    /// Kinds that were there: each may come once before an entry.
    kinds: Vec<EntryType>,
}

/// All entries, then the end.
fn entries<R: Read>(plain: &mut Metered<R>, intake: &mut Intake<'_>) -> Result<(), ArchiveError> {
    let mut archive = tar::Archive::new(&mut *plain);
    let mut extra = Extra::default();
    for entry in archive.entries().map_err(ArchiveError::Damaged)?.raw(true) {
        let mut entry = entry.map_err(ArchiveError::Damaged)?;
        match entry.header().entry_type() {
            kind @ (EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink) => {
                if extra.kinds.contains(&kind) {
                    return Err(ArchiveError::Form("two headers of one kind stand before one entry"));
                }
                extra.kinds.push(kind);
                extra.read(kind, &mut entry)?;
            }
            EntryType::XGlobalHeader => only_comment(&mut entry)?,
            _ => one(&mut entry, std::mem::take(&mut extra), intake)?,
        }
    }
    if !extra.kinds.is_empty() {
        return Err(ArchiveError::Form("the last header has no entry"));
    }
    plain.finish()
}

impl Extra {
    fn read<R: Read>(&mut self, kind: EntryType, entry: &mut Entry<'_, R>) -> Result<(), ArchiveError> {
        let bytes = small(entry)?;
        let text = |bytes: &[u8]| bytes.strip_suffix(b"\0").unwrap_or(bytes).to_vec();
        match kind {
            EntryType::GNULongName => self.path = Some(text(&bytes)),
            EntryType::GNULongLink => self.link = Some(text(&bytes)),
            _ => {
                for record in PaxExtensions::new(&bytes) {
                    let record = record.map_err(ArchiveError::Damaged)?;
                    match record.key_bytes() {
                        b"path" => self.path = Some(record.value_bytes().to_vec()),
                        b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                        b"size" => {
                            let size = record.value().ok().and_then(|text| text.parse().ok());
                            self.size = Some(size.ok_or(ArchiveError::Form("a PAX size is no number"))?);
                        }
                        key if key.starts_with(b"GNU.sparse") => {
                            return Err(ArchiveError::Form("a file in it has holes"));
                        }
                        _ => {} // times, owners, attributes: nothing of it is taken
                    }
                }
            }
        }
        Ok(())
    }
}

/// git's archives say their commit for all entries; anything else there would change what entries are.
fn only_comment<R: Read>(entry: &mut Entry<'_, R>) -> Result<(), ArchiveError> {
    let bytes = small(entry)?;
    for record in PaxExtensions::new(&bytes) {
        if record.map_err(ArchiveError::Damaged)?.key_bytes() != b"comment" {
            return Err(ArchiveError::Form("a PAX header for all entries changes them"));
        }
    }
    Ok(())
}

/// The bytes of a header of a header.
fn small<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, ArchiveError> {
    let size = entry.header().entry_size().map_err(ArchiveError::Damaged)?;
    if size > EXTRA_BYTES_MAX {
        return Err(IntakeError::TooMuch { what: "bytes of a name", max: EXTRA_BYTES_MAX }.into());
    }
    let mut bytes = Vec::new();
    entry.take(EXTRA_BYTES_MAX).read_to_end(&mut bytes).map_err(ArchiveError::Damaged)?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(ArchiveError::Damaged(io::ErrorKind::UnexpectedEof.into())) }
}

/// One file, directory or link.
fn one<R: Read>(entry: &mut Entry<'_, R>, extra: Extra, intake: &mut Intake<'_>) -> Result<(), ArchiveError> {
    let header = entry.header();
    let raw = extra.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let lossy = shown(&String::from_utf8_lossy(&raw));
    let refuse = |why| Err(ArchiveError::Entry { path: lossy.clone(), why });
    let Ok(path) = String::from_utf8(raw) else { return refuse("is not UTF-8") };
    if has_nul(header) {
        return refuse("has a NUL in its name");
    }
    let mode = header.mode().map_err(ArchiveError::Damaged)?;
    let size = header.entry_size().map_err(ArchiveError::Damaged)?;
    if extra.size.is_some_and(|said| said != size) {
        return refuse("has two different sizes");
    }
    let kind = header.entry_type();
    let path = path.strip_prefix("./").unwrap_or(&path);
    match kind {
        EntryType::Directory => {
            if size != 0 {
                return refuse("is a directory with content");
            }
            let path = path.strip_suffix('/').unwrap_or(path);
            if path.is_empty() || path == "." { Ok(()) } else { Ok(intake.directory(path, mode)?) }
        }
        EntryType::Regular | EntryType::Continuous => {
            if size > UNPACKED_BYTES_MAX {
                return Err(IntakeError::TooMuch { what: "bytes unpacked", max: UNPACKED_BYTES_MAX }.into());
            }
            intake.begin(path, mode, size)?;
            content(entry, size, intake)
        }
        EntryType::Symlink => {
            let target = extra.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
            let Some(target) = target.and_then(|target| String::from_utf8(target).ok()) else {
                return refuse("is a link whose target is not UTF-8");
            };
            if size == 0 { Ok(intake.link(path, &target)?) } else { refuse("is a link with content") }
        }
        EntryType::Link => refuse("is a hard link"),
        EntryType::Block | EntryType::Char => refuse("is a device"),
        EntryType::Fifo => refuse("is a FIFO"),
        EntryType::GNUSparse => refuse("has holes"),
        _ => refuse("is of a kind that no package has"),
    }
}

fn content<R: Read>(entry: &mut Entry<'_, R>, size: u64, intake: &mut Intake<'_>) -> Result<(), ArchiveError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut got = 0;
    loop {
        match entry.read(&mut chunk).map_err(ArchiveError::Damaged)? {
            0 => break,
            count => {
                got += count as u64;
                intake.data(&chunk[..count])?;
            }
        }
    }
    if got != size {
        return Err(ArchiveError::Damaged(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(intake.end()?)
}

/// Names in a header end at their first NUL; what is behind it would be a name that one reader sees and another does not.
fn has_nul(header: &tar::Header) -> bool {
    let hides = |field: &[u8]| {
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        field[end..].iter().any(|byte| *byte != 0)
    };
    let old = header.as_old();
    hides(&old.name) || header.as_ustar().is_some_and(|ustar| hides(&ustar.prefix))
}

/// The tar, with a limit on all of it and an eye on its end.
struct Metered<R> {
    inner: R,
    read: u64,
    /// Zeros that came last.
    zeros: u64,
}

impl<R: Read> Metered<R> {
    fn new(inner: R) -> Self {
        Self { inner, read: 0, zeros: 0 }
    }

    /// Reads what is behind the last entry: the end that a tar must have, and nothing else.
    fn finish(&mut self) -> Result<(), ArchiveError> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut behind = 0;
        loop {
            let count = self.read(&mut chunk).map_err(ArchiveError::Damaged)?;
            if count == 0 {
                break;
            }
            behind += count as u64;
            if chunk[..count].iter().any(|byte| *byte != 0) || behind > PADDING_BYTES_MAX {
                return Err(ArchiveError::Form("there is something behind the archive's end"));
            }
        }
        if self.zeros < END_BYTES {
            return Err(ArchiveError::Damaged(io::Error::new(io::ErrorKind::UnexpectedEof, "its end is missing")));
        }
        Ok(())
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        if self.read > UNPACKED_BYTES_MAX + OVERHEAD_BYTES_MAX {
            return Err(io::Error::other("it is too large when it is unpacked"));
        }
        match buffer[..count].iter().rposition(|byte| *byte != 0) {
            Some(last) => self.zeros = (count - last - 1) as u64,
            None => self.zeros += count as u64,
        }
        Ok(count)
    }
}

/// Tells how far the archive was read.
struct Told<'a> {
    file: &'a mut File,
    read: u64,
    on_read: OnRead<'a>,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read += count as u64;
        (self.on_read)(self.read);
        Ok(count)
    }
}
