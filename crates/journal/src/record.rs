//! One record as bytes: header, payload, check. Encode, decode, and walk over encoded ones.
//!
//! Promise: what `decode` returns has a check that is right; what `RecordIter` returns also follows the record before it.
//! Refuses to know files. Source of the layout: docs/journal-format.md, "Record".

use crate::chain::{Chain, POSITION_MAX, Position, Seq};

/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = 40;

/// Largest payload. A longer one is refused before anything is allocated or written.
pub const RECORD_PAYLOAD_BYTES_MAX: u32 = 1 << 20; // 1 MiB

/// Largest encoded record.
pub const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + RECORD_PAYLOAD_BYTES_MAX as usize;

/// First two bytes of every record.
pub(crate) const RECORD_MAGIC: [u8; 2] = [0x4b, 0xf5];

/// Bytes of a gap's payload; longer ones are legal, their rest is ignored.
const GAP_PAYLOAD_BYTES: usize = 24;

/// What a record is. Kinds of later versions are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// Bytes that the PTY gave: the only kind that counts as output.
    Output,
    /// Bytes typed into the PTY.
    Input,
    /// The terminal's new size.
    Resize,
    /// A mark in the session's course, such as a pause of the recording.
    Mark,
    /// A note of a person or a program.
    Annotation,
    /// Records known to be lost; see [`GapInfo`].
    Gap,
    /// The end of the session's command.
    Exit,
    /// A kind of a later version; never one of the above.
    Other(u8),
}

impl RecordKind {
    /// The kind that this byte means.
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Output,
            2 => Self::Input,
            3 => Self::Resize,
            4 => Self::Mark,
            5 => Self::Annotation,
            6 => Self::Gap,
            7 => Self::Exit,
            other => Self::Other(other),
        }
    }

    /// The byte on disk.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Output => 1,
            Self::Input => 2,
            Self::Resize => 3,
            Self::Mark => 4,
            Self::Annotation => 5,
            Self::Gap => 6,
            Self::Exit => 7,
            Self::Other(byte) => byte,
        }
    }
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it is.
    pub kind: RecordKind,
    /// Reserved: 0 today, kept as found.
    pub flags: u8,
    /// Bytes of the payload, at most [`RECORD_PAYLOAD_BYTES_MAX`].
    pub len: u32,
    /// Its number.
    pub seq: Seq,
    /// Microseconds since the Unix epoch; never decreases within one writer.
    pub time_us: u64,
    /// Bytes of output before it, since the session's start.
    pub offset: u64,
    /// Chain before it.
    pub prev: Chain,
    /// Its checksum: the chain after it, unless it is a gap.
    pub check: Chain,
}

impl RecordHeader {
    /// Reads the fields without verifying the check. `None` if these bytes cannot begin a record.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD_HEADER_BYTES] = bytes.first_chunk()?;
        let header = Self::read_any(bytes);
        let legal = bytes[..2] == RECORD_MAGIC
            && header.len <= RECORD_PAYLOAD_BYTES_MAX
            && header.seq.is_valid()
            && header.offset <= POSITION_MAX;
        legal.then_some(header)
    }

    /// Reads the fields of a header that may be damaged; nothing in it can be trusted.
    pub(crate) fn read_any(bytes: &[u8; RECORD_HEADER_BYTES]) -> Self {
        Self {
            kind: RecordKind::from_byte(bytes[2]),
            flags: bytes[3],
            len: u32_at(bytes, 4),
            seq: Seq::new(u64_at(bytes, 8)),
            time_us: u64_at(bytes, 16),
            offset: u64_at(bytes, 24),
            prev: Chain::new(u32_at(bytes, 32)),
            check: Chain::new(u32_at(bytes, 36)),
        }
    }

    /// The 32 bytes that the check covers.
    pub(crate) fn hashed(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&RECORD_MAGIC);
        bytes[2] = self.kind.byte();
        bytes[3] = self.flags;
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seq.get().to_le_bytes());
        bytes[16..24].copy_from_slice(&self.time_us.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    /// Whether this is the record that comes at `at`.
    pub fn follows(&self, at: Position) -> bool {
        self.seq == at.next_seq && self.prev == at.chain && self.offset == at.output_offset
    }

    /// The place before the record.
    pub const fn before(&self) -> Position {
        Position { next_seq: self.seq, chain: self.prev, output_offset: self.offset }
    }

    /// Bytes of the whole record.
    pub const fn encoded_len(&self) -> usize {
        RECORD_HEADER_BYTES + self.len as usize
    }
}

/// What a gap record says: the records from its own number to `to` are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GapInfo {
    /// The last missing record.
    pub to: Seq,
    /// Bytes of output that are missing.
    pub output_bytes: u64,
    /// Why: a number that the caller gives and reads.
    pub reason: u32,
    /// Chain after `to`: the proof that the next record carries.
    pub chain_after: Chain,
}

impl GapInfo {
    fn encode(&self) -> [u8; GAP_PAYLOAD_BYTES] {
        let mut bytes = [0; GAP_PAYLOAD_BYTES];
        bytes[..8].copy_from_slice(&self.to.get().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.output_bytes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.reason.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.chain_after.get().to_le_bytes());
        bytes
    }

    /// Reads a gap's payload. `None` if it is too short to be one.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let bytes: &[u8; GAP_PAYLOAD_BYTES] = payload.first_chunk()?;
        Some(Self {
            to: Seq::new(u64_at(bytes, 0)),
            output_bytes: u64_at(bytes, 8),
            reason: u32_at(bytes, 16),
            chain_after: Chain::new(u32_at(bytes, 20)),
        })
    }
}

/// A record whose check is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its fixed part.
    pub header: RecordHeader,
    /// Its payload, `header.len` bytes.
    pub payload: &'a [u8],
    /// The place after it; behind a gap, the place behind the lost records.
    pub after: Position,
}

impl<'a> Record<'a> {
    /// Reads and verifies the record at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`RecordError`] says why these bytes are no record; nothing is allocated for what they announce.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, RecordError> {
        if bytes.len() < RECORD_HEADER_BYTES {
            return Err(RecordError::Cut);
        }
        let Some(header) = RecordHeader::read(bytes) else {
            return Err(RecordError::NoHeader);
        };
        let Some(payload) = bytes.get(RECORD_HEADER_BYTES..header.encoded_len()) else {
            return Err(RecordError::Cut);
        };
        let hashed: &[u8; 32] = bytes.first_chunk().ok_or(RecordError::Cut)?;
        if header.prev.extend(hashed, payload) != header.check {
            return Err(RecordError::WrongCheck { seq: header.seq });
        }
        Self::verified(header, payload)
    }

    /// A record from parts whose check is known to be right.
    pub(crate) fn verified(header: RecordHeader, payload: &'a [u8]) -> Result<Self, RecordError> {
        let after = place_after(&header, payload).ok_or(RecordError::BadGap { seq: header.seq })?;
        Ok(Self { header, payload, after })
    }

    /// What a gap record says; `None` for all others.
    pub fn gap(&self) -> Option<GapInfo> {
        if self.header.kind == RecordKind::Gap { GapInfo::decode(self.payload) } else { None }
    }
}

/// The place after a record; `None` if it is a gap that says something impossible, or the offset ends beyond all bounds.
pub(crate) fn place_after(header: &RecordHeader, payload: &[u8]) -> Option<Position> {
    let after = match header.kind {
        RecordKind::Gap => {
            let gap = GapInfo::decode(payload)?;
            let possible = gap.to >= header.seq && gap.to.is_valid() && gap.output_bytes <= POSITION_MAX;
            if !possible {
                return None;
            }
            let output_offset = header.offset.checked_add(gap.output_bytes)?;
            Position { next_seq: gap.to.next(), chain: gap.chain_after, output_offset }
        }
        RecordKind::Output => Position {
            next_seq: header.seq.next(),
            chain: header.check,
            output_offset: header.offset + u64::from(header.len),
        },
        _ => Position { next_seq: header.seq.next(), chain: header.check, output_offset: header.offset },
    };
    (after.output_offset <= POSITION_MAX).then_some(after)
}

/// Why bytes are no record, or not the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end before the record does.
    #[error("the bytes end inside a record")]
    Cut,
    /// No legal header: magic, length, number or offset.
    #[error("no record begins here")]
    NoHeader,
    /// The check does not match the bytes.
    #[error("the checksum of record {seq} is wrong")]
    WrongCheck {
        /// The number that the damaged record states.
        seq: Seq,
    },
    /// A gap that ends before it begins or beyond all bounds.
    #[error("gap record {seq} is impossible")]
    BadGap {
        /// Its number.
        seq: Seq,
    },
    /// A sound record, but not the one that comes next.
    #[error("record {seq} does not follow: expected {expected}")]
    NotNext {
        /// The number found.
        seq: Seq,
        /// The number wanted; if it is the same, chain or offset differ.
        expected: Seq,
    },
    /// The payload is longer than a record may carry.
    #[error("a payload of {len} bytes is too long, the limit is {RECORD_PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// Numbers are used up.
    #[error("the session has no record numbers or output offsets left")]
    Exhausted,
}

/// Appends the encoded record that comes at `at` to `out`; returns the place after it.
///
/// # Errors
/// `TooLarge` for the payload, `BadGap` for an impossible gap payload, `Exhausted` at the end of all numbers; `out` is
/// then as it was.
pub fn encode_record(
    out: &mut Vec<u8>,
    at: Position,
    kind: RecordKind,
    time_us: u64,
    payload: &[u8],
) -> Result<Position, RecordError> {
    encode_with_flags(out, at, kind, 0, time_us, payload)
}

/// Like [`encode_record`], for records that already have flags.
pub(crate) fn encode_with_flags(
    out: &mut Vec<u8>,
    at: Position,
    kind: RecordKind,
    flags: u8,
    time_us: u64,
    payload: &[u8],
) -> Result<Position, RecordError> {
    let len = u32::try_from(payload.len()).ok().filter(|&len| len <= RECORD_PAYLOAD_BYTES_MAX);
    let len = len.ok_or(RecordError::TooLarge { len: payload.len() })?;
    if !at.next_seq.is_valid() || at.output_offset > POSITION_MAX - u64::from(len) {
        return Err(RecordError::Exhausted);
    }
    let mut header = RecordHeader {
        kind,
        flags,
        len,
        seq: at.next_seq,
        time_us,
        offset: at.output_offset,
        prev: at.chain,
        check: Chain::START,
    };
    let hashed = header.hashed();
    header.check = at.chain.extend(&hashed, payload);
    let after = place_after(&header, payload).ok_or(RecordError::BadGap { seq: header.seq })?;
    out.reserve(header.encoded_len());
    out.extend_from_slice(&hashed);
    out.extend_from_slice(&header.prev.get().to_le_bytes());
    out.extend_from_slice(&header.check.get().to_le_bytes());
    out.extend_from_slice(payload);
    Ok(after)
}

/// Appends the encoded gap that comes at `at` to `out`; returns the place behind the lost records.
///
/// # Errors
/// As [`encode_record`].
pub fn encode_gap(out: &mut Vec<u8>, at: Position, time_us: u64, gap: &GapInfo) -> Result<Position, RecordError> {
    encode_record(out, at, RecordKind::Gap, time_us, &gap.encode())
}

/// Walks over encoded records, for example of an `Append`; verifies each check and that each follows the one before.
///
/// Ends after the first error.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
    at: Position,
}

impl<'a> RecordIter<'a> {
    /// Over `bytes`, whose first record must be the one that comes at `at`.
    pub const fn new(bytes: &'a [u8], at: Position) -> Self {
        Self { rest: bytes, at }
    }

    /// Over `bytes`, wherever the first record says that it belongs.
    ///
    /// # Errors
    /// As [`Record::decode`], for the first record.
    pub fn from_first(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let at = Record::decode(bytes)?.header.before();
        Ok(Self { rest: bytes, at })
    }

    /// The place after what was walked over so far.
    pub const fn position(&self) -> Position {
        self.at
    }

    /// The bytes not walked over yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = Record::decode(self.rest).and_then(|record| {
            let (seq, expected) = (record.header.seq, self.at.next_seq);
            if record.header.follows(self.at) { Ok(record) } else { Err(RecordError::NotNext { seq, expected }) }
        });
        match record {
            Ok(record) => {
                self.rest = &self.rest[record.header.encoded_len()..];
                self.at = record.after;
            }
            Err(_) => self.rest = &[],
        }
        Some(record)
    }
}

/// Reads a little-endian u32 that the caller knows to be inside.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Reads a little-endian u64 that the caller knows to be inside.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
