//! A segment's name, header and grants, as bytes. Source of the layout: docs/journal-format.md.
//!
//! Promise: what decodes is whole. Refuses to know records and directories.

use crate::chain::{Chain, POSITION_MAX, Position, Seq};
use crate::record::{u32_at, u64_at};

/// Largest attrs of a grant. Longer ones are refused before anything is allocated or written.
pub const ATTRS_BYTES_MAX: usize = 64 << 10;

/// The version that this code writes, and the newest that it reads.
const FORMAT_VERSION: u16 = 1;

/// Bytes of a header before its attrs.
pub(crate) const HEADER_FIXED_BYTES: usize = 104;

/// Largest header.
pub(crate) const HEADER_BYTES_MAX: usize = HEADER_FIXED_BYTES + ATTRS_BYTES_MAX + 4;

/// Bytes of a grant before its attrs.
pub(crate) const GRANT_FIXED_BYTES: usize = 48;

/// Bit of the header's flags: the records are compressed.
const FLAG_SEALED: u16 = 1;

/// Largest ordinal: names have eight digits.
pub(crate) const ORDINAL_MAX: u32 = 99_999_999;

const HEADER_MAGIC: [u8; 8] = *b"\x89SKJSEG\n";
pub(crate) const GRANT_MAGIC: [u8; 2] = [0x4b, 0xc7];

/// Whose journal this is, and who may write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The session.
    pub session: [u8; 16],
    /// This journal; another one of the same session has another.
    pub store: [u8; 16],
    /// The keeper that may write.
    pub writer: [u8; 16],
    /// The take-over under which it may; never decreases.
    pub epoch: u32,
    /// What the keeper said about the session; opaque here, at most [`ATTRS_BYTES_MAX`].
    pub attrs: Vec<u8>,
}

/// Who may write from here on. Source: docs/journal-format.md, "Grant".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The journal, as in [`Identity`].
    pub store: [u8; 16],
    /// The keeper that may write.
    pub writer: [u8; 16],
    /// The take-over under which it may.
    pub epoch: u32,
    /// What the keeper said about the session.
    pub attrs: Vec<u8>,
}

impl Identity {
    /// Makes the grant count.
    pub(crate) fn apply(&mut self, grant: Grant) {
        let Grant { store, writer, epoch, attrs } = grant;
        (self.store, self.writer, self.epoch, self.attrs) = (store, writer, epoch, attrs);
    }
}

impl Grant {
    /// Appends the encoded grant. The caller has checked the length of the attrs.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&GRANT_MAGIC);
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&len_u32(&self.attrs).to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.store);
        out.extend_from_slice(&self.writer);
        out.extend_from_slice(&self.attrs);
        let check = grant_check(&out[start..]);
        out[start + 12..start + 16].copy_from_slice(&check.to_le_bytes());
    }

    /// Bytes of the grant that begins here; `None` if none does. Verifies nothing.
    pub(crate) fn announced_len(bytes: &[u8]) -> Option<usize> {
        if bytes.len() < GRANT_FIXED_BYTES || bytes[..2] != GRANT_MAGIC {
            return None;
        }
        let attrs = u32_at(bytes, 4) as usize;
        (attrs <= ATTRS_BYTES_MAX).then_some(GRANT_FIXED_BYTES + attrs)
    }

    /// Reads and verifies the grant at the beginning of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..Self::announced_len(bytes)?)?;
        (grant_check(bytes) == u32_at(bytes, 12)).then(|| Self {
            store: id_at(bytes, 16),
            writer: id_at(bytes, 32),
            epoch: u32_at(bytes, 8),
            attrs: bytes[GRANT_FIXED_BYTES..].to_vec(),
        })
    }
}

/// Checksum of a whole grant but for the four bytes where it stands.
fn grant_check(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

/// The beginning of a segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) sealed: bool,
    pub(crate) ordinal: u32,
    pub(crate) identity: Identity,
    /// The place before its first record.
    pub(crate) first: Position,
    /// Time of the record before, 0 if there is none.
    pub(crate) time_before: u64,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Damaged or cut.
    Damaged,
    /// Whole, and of a later version.
    Version(u16),
}

impl SegmentHeader {
    /// The encoded header. The caller has checked the length of the attrs.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let attrs = &self.identity.attrs;
        let mut out = Vec::with_capacity(HEADER_FIXED_BYTES + attrs.len() + 4);
        out.extend_from_slice(&HEADER_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(u16::from(self.sealed) * FLAG_SEALED).to_le_bytes());
        out.extend_from_slice(&(len_u32(attrs) + len_u32(&[0; HEADER_FIXED_BYTES]) + 4).to_le_bytes());
        out.extend_from_slice(&self.ordinal.to_le_bytes());
        out.extend_from_slice(&self.identity.epoch.to_le_bytes());
        out.extend_from_slice(&self.identity.session);
        out.extend_from_slice(&self.identity.store);
        out.extend_from_slice(&self.identity.writer);
        out.extend_from_slice(&self.first.next_seq.get().to_le_bytes());
        out.extend_from_slice(&self.first.output_offset.to_le_bytes());
        out.extend_from_slice(&self.time_before.to_le_bytes());
        out.extend_from_slice(&self.first.chain.get().to_le_bytes());
        out.extend_from_slice(&len_u32(attrs).to_le_bytes());
        out.extend_from_slice(attrs);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Bytes that a header claims to have, damaged or not; `None` if that is impossible.
    pub(crate) fn announced_len(bytes: &[u8]) -> Option<usize> {
        let len = u32_at(bytes.get(..16)?, 12) as usize;
        (HEADER_FIXED_BYTES + 4..=HEADER_BYTES_MAX).contains(&len).then_some(len)
    }

    /// Reads and verifies the header at the beginning of `bytes`; returns it and its length.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, usize), HeaderError> {
        let len = Self::announced_len(bytes).ok_or(HeaderError::Damaged)?;
        let bytes = bytes.get(..len).ok_or(HeaderError::Damaged)?;
        if bytes[..8] != HEADER_MAGIC || crc32c::crc32c(&bytes[..len - 4]) != u32_at(bytes, len - 4) {
            return Err(HeaderError::Damaged);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        let first = Position {
            next_seq: Seq::new(u64_at(bytes, 72)),
            chain: Chain::new(u32_at(bytes, 96)),
            output_offset: u64_at(bytes, 80),
        };
        let possible = first.next_seq.is_valid()
            && first.output_offset <= POSITION_MAX
            && u32_at(bytes, 100) as usize == len - HEADER_FIXED_BYTES - 4;
        if !possible {
            return Err(HeaderError::Damaged);
        }
        let header = Self {
            sealed: u16::from_le_bytes([bytes[10], bytes[11]]) & FLAG_SEALED != 0,
            ordinal: u32_at(bytes, 16),
            identity: Identity {
                session: id_at(bytes, 24),
                store: id_at(bytes, 40),
                writer: id_at(bytes, 56),
                epoch: u32_at(bytes, 20),
                attrs: bytes[HEADER_FIXED_BYTES..len - 4].to_vec(),
            },
            first,
            time_before: u64_at(bytes, 88),
        };
        Ok((header, len))
    }
}

fn len_u32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX) // callers check; a reader would refuse u32::MAX
}

fn id_at(bytes: &[u8], at: usize) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[at..at + 16]);
    id
}

/// What a file in a journal's directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Plain,
    Sealed,
    Unfinished,
    Torn,
}

impl FileKind {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Plain, ".seg"), (Self::Sealed, ".zseg"), (Self::Unfinished, ".tmp"), (Self::Torn, ".torn")];

    /// The name of the file of this kind with this ordinal.
    pub(crate) fn name(self, ordinal: u32) -> String {
        let suffix = Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, suffix)| suffix);
        format!("{ordinal:08}{suffix}")
    }

    /// What this name means; `None` for somebody else's file.
    pub(crate) fn parse(name: &str) -> Option<(Self, u32)> {
        let (digits, suffix) = name.split_at_checked(8)?;
        let (kind, _) = Self::ALL.iter().find(|(_, known)| *known == suffix)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
        Some((*kind, digits.parse().ok()?))
    }
}
