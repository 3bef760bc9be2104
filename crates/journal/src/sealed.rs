//! A sealed segment: records in compressed blocks, each readable by itself, and an index of them.
//!
//! Promise: what is unpacked is byte for byte what was packed; a damaged block loses only itself; nothing is allocated for a
//! length that was not checked. Refuses to know plain segments. Source: docs/journal-format.md, "Sealed segment".

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::chain::{Chain, Position, Seq};
use crate::cursor::Step;
use crate::record::{RECORD_PAYLOAD_BYTES_MAX, Record, RecordHeader, RecordKind, encode_with_flags, u32_at, u64_at};
use crate::storage::{StorageFile, read_full_at, uninterrupted};

/// Unpacked content at which a block is closed: small enough to be unpacked for one record, large enough to compress well.
/// Half of it costs 7 % more disk (at 256 KiB and below zstd takes other parameters), twice as much saves nothing.
const BLOCK_CONTENT_BYTES: usize = 512 << 10;

/// Largest unpacked content: a block that was not full, and the largest record.
const BLOCK_CONTENT_BYTES_MAX: usize = 1_310_720;

/// Bytes of each record's content beside its payload: kind, flags, length, time.
const HEAD_BYTES: usize = 14;

const _: () = assert!(BLOCK_CONTENT_BYTES <= BLOCK_CONTENT_BYTES_MAX);
const _: () = assert!(HEAD_BYTES + RECORD_PAYLOAD_BYTES_MAX as usize <= BLOCK_CONTENT_BYTES_MAX);

/// Bytes of a block's header.
const BLOCK_HEADER_BYTES: usize = 72;

/// Largest packed content that is read: what zstd may make of the largest content that does not compress.
const PACKED_BYTES_MAX: usize = BLOCK_CONTENT_BYTES_MAX + (64 << 10);

/// Bytes of an index entry.
const INDEX_ENTRY_BYTES: usize = 24;

/// Bytes of the trailer.
const TRAILER_BYTES: usize = 64;

/// Compression: 3 is zstd's own default; more costs much and gains little on terminal output.
const ZSTD_LEVEL: i32 = 3;

/// Most bytes of a sealed segment that are searched for blocks when its index is damaged.
const SEARCH_BYTES_MAX: u64 = 96 << 20;

const BLOCK_MAGIC: [u8; 4] = *b"KZBK";
const TRAILER_MAGIC: [u8; 8] = *b"\x89SKJEND\n";

/// A block's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BlockHeader {
    count: u32,
    content_len: u32,
    packed_len: u32,
    before: Position,
    after: Position,
    time: u64,
    packed_check: u32,
}

impl BlockHeader {
    fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut out = [0; BLOCK_HEADER_BYTES];
        out[..4].copy_from_slice(&BLOCK_MAGIC);
        out[4..8].copy_from_slice(&self.count.to_le_bytes());
        out[8..12].copy_from_slice(&self.content_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.packed_len.to_le_bytes());
        out[16..24].copy_from_slice(&self.before.next_seq.get().to_le_bytes());
        out[24..32].copy_from_slice(&self.after.next_seq.get().to_le_bytes());
        out[32..40].copy_from_slice(&self.before.output_offset.to_le_bytes());
        out[40..48].copy_from_slice(&self.after.output_offset.to_le_bytes());
        out[48..56].copy_from_slice(&self.time.to_le_bytes());
        out[56..60].copy_from_slice(&self.before.chain.get().to_le_bytes());
        out[60..64].copy_from_slice(&self.after.chain.get().to_le_bytes());
        out[64..68].copy_from_slice(&self.packed_check.to_le_bytes());
        let check = crc32c::crc32c(&out[..68]);
        out[68..].copy_from_slice(&check.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BLOCK_HEADER_BYTES] = bytes.first_chunk()?;
        if bytes[..4] != BLOCK_MAGIC || crc32c::crc32c(&bytes[..68]) != u32_at(bytes, 68) {
            return None;
        }
        let place = |seq, output, chain| Position {
            next_seq: Seq::new(u64_at(bytes, seq)),
            chain: Chain::new(u32_at(bytes, chain)),
            output_offset: u64_at(bytes, output),
        };
        let header = Self {
            count: u32_at(bytes, 4),
            content_len: u32_at(bytes, 8),
            packed_len: u32_at(bytes, 12),
            before: place(16, 32, 56),
            after: place(24, 40, 60),
            time: u64_at(bytes, 48),
            packed_check: u32_at(bytes, 64),
        };
        let possible = header.content_len as usize <= BLOCK_CONTENT_BYTES_MAX
            && header.packed_len as usize <= PACKED_BYTES_MAX
            && header.count as usize <= header.content_len as usize / HEAD_BYTES;
        possible.then_some(header)
    }
}

/// Packs records into blocks and at the end gives the index and the trailer.
pub(crate) struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    heads: [Vec<u8>; 4],
    payloads: Vec<u8>,
    before: Position,
    at: Position,
    first_time: u64,
    last_time: u64,
    record_bytes: u64,
    index: Vec<BlockRef>,
}

impl Packer {
    /// Packs what comes at `first`.
    pub(crate) fn new(first: Position) -> io::Result<Self> {
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL)?,
            heads: [const { Vec::new() }; 4],
            payloads: Vec::new(),
            before: first,
            at: first,
            first_time: 0,
            last_time: 0,
            record_bytes: 0,
            index: Vec::new(),
        })
    }

    fn content_len(&self) -> usize {
        self.heads.iter().map(Vec::len).sum::<usize>() + self.payloads.len()
    }

    /// Takes the record that comes next; appends a block to `blocks` when one is full.
    pub(crate) fn push(&mut self, record: &Record<'_>, blocks: &mut Vec<u8>) -> io::Result<()> {
        let added = HEAD_BYTES + record.payload.len();
        if !self.heads[0].is_empty() && self.content_len() + added > BLOCK_CONTENT_BYTES {
            self.close_block(blocks)?;
        }
        let header = record.header;
        if self.heads[0].is_empty() {
            (self.first_time, self.last_time) = (header.time_us, header.time_us);
            self.before = self.at;
        }
        self.heads[0].push(header.kind.byte());
        self.heads[1].push(header.flags);
        self.heads[2].extend_from_slice(&header.len.to_le_bytes());
        self.heads[3].extend_from_slice(&header.time_us.wrapping_sub(self.last_time).to_le_bytes());
        self.payloads.extend_from_slice(record.payload);
        self.last_time = header.time_us;
        self.record_bytes += header.encoded_len() as u64;
        self.at = record.after;
        Ok(())
    }

    fn close_block(&mut self, blocks: &mut Vec<u8>) -> io::Result<()> {
        let count = self.heads[0].len();
        if count == 0 {
            return Ok(());
        }
        let mut content = Vec::with_capacity(self.content_len());
        for head in &mut self.heads {
            content.append(head);
        }
        content.append(&mut self.payloads);
        let packed = self.compressor.compress(&content)?;
        self.index.push(BlockRef {
            at: blocks.len() as u64,
            first_seq: self.before.next_seq,
            output_before: self.before.output_offset,
        });
        let header = BlockHeader {
            count: small(count)?,
            content_len: small(content.len())?,
            packed_len: small(packed.len())?,
            before: self.before,
            after: self.at,
            time: self.first_time,
            packed_check: crc32c::crc32c(&packed),
        };
        blocks.extend_from_slice(&header.encode());
        blocks.extend_from_slice(&packed);
        Ok(())
    }

    /// Appends the last block, the index and the trailer to `blocks`, which begin at byte `blocks_at` of the file.
    pub(crate) fn finish(mut self, blocks: &mut Vec<u8>, blocks_at: u64) -> io::Result<()> {
        self.close_block(blocks)?;
        let mut index = Vec::with_capacity(self.index.len() * INDEX_ENTRY_BYTES);
        for block in &self.index {
            index.extend_from_slice(&(blocks_at + block.at).to_le_bytes());
            index.extend_from_slice(&block.first_seq.get().to_le_bytes());
            index.extend_from_slice(&block.output_before.to_le_bytes());
        }
        let trailer = Trailer {
            index_at: blocks_at + blocks.len() as u64,
            after: self.at,
            last_time: self.last_time,
            record_bytes: self.record_bytes,
            blocks: small(self.index.len())?,
            index_check: crc32c::crc32c(&index),
        };
        blocks.append(&mut index);
        blocks.extend_from_slice(&trailer.encode());
        Ok(())
    }
}

fn small(len: usize) -> io::Result<u32> {
    u32::try_from(len).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The end of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    index_at: u64,
    pub(crate) after: Position,
    pub(crate) last_time: u64,
    /// Encoded bytes of all records, as they were in the plain segment.
    pub(crate) record_bytes: u64,
    blocks: u32,
    index_check: u32,
}

impl Trailer {
    fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut out = [0; TRAILER_BYTES];
        out[..8].copy_from_slice(&self.index_at.to_le_bytes());
        out[8..16].copy_from_slice(&self.after.next_seq.get().to_le_bytes());
        out[16..24].copy_from_slice(&self.after.output_offset.to_le_bytes());
        out[24..32].copy_from_slice(&self.last_time.to_le_bytes());
        out[32..40].copy_from_slice(&self.record_bytes.to_le_bytes());
        out[40..44].copy_from_slice(&self.after.chain.get().to_le_bytes());
        out[44..48].copy_from_slice(&self.blocks.to_le_bytes());
        out[48..52].copy_from_slice(&self.index_check.to_le_bytes());
        let check = crc32c::crc32c(&out[..52]);
        out[52..56].copy_from_slice(&check.to_le_bytes());
        out[56..].copy_from_slice(&TRAILER_MAGIC);
        out
    }

    fn decode(bytes: &[u8; TRAILER_BYTES]) -> Option<Self> {
        if bytes[56..] != TRAILER_MAGIC || crc32c::crc32c(&bytes[..52]) != u32_at(bytes, 52) {
            return None;
        }
        Some(Self {
            index_at: u64_at(bytes, 0),
            after: Position {
                next_seq: Seq::new(u64_at(bytes, 8)),
                chain: Chain::new(u32_at(bytes, 40)),
                output_offset: u64_at(bytes, 16),
            },
            last_time: u64_at(bytes, 24),
            record_bytes: u64_at(bytes, 32),
            blocks: u32_at(bytes, 44),
            index_check: u32_at(bytes, 48),
        })
    }
}

/// Where a block is, and what comes there.
#[derive(Debug, Clone, Copy)]
struct BlockRef {
    at: u64,
    first_seq: Seq,
    output_before: u64,
}

/// The walk over a sealed segment; holds one unpacked block.
pub(crate) struct SealedCursor {
    file: Arc<dyn StorageFile>,
    blocks: Vec<BlockRef>,
    /// End of the last block.
    blocks_end: u64,
    trailer: Option<Trailer>,
    next_block: usize,
    /// Encoded records of the current block.
    content: Vec<u8>,
    at: usize,
    position: Position,
    last: Option<(RecordHeader, Position)>,
}

impl fmt::Debug for SealedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedCursor")
            .field("blocks", &self.blocks.len())
            .field("next", &self.next_block)
            .finish_non_exhaustive()
    }
}

impl SealedCursor {
    /// Over `file`, whose blocks begin at byte `start`, where `first` comes.
    pub(crate) fn new(file: Arc<dyn StorageFile>, start: u64, first: Position) -> io::Result<Self> {
        let len = uninterrupted(|| file.stat())?.len;
        let indexed = read_index(&*file, start, len)?;
        let trailer = indexed.as_ref().map(|(trailer, _)| *trailer);
        let (blocks, blocks_end) = match indexed {
            Some((trailer, blocks)) => (blocks, trailer.index_at),
            None => walk_blocks(&*file, start, len)?,
        };
        Ok(Self {
            file,
            blocks,
            blocks_end,
            trailer,
            next_block: 0,
            content: Vec::new(),
            at: 0,
            position: first,
            last: None,
        })
    }

    /// The end, if trailer and index are whole.
    pub(crate) fn trailer(&self) -> Option<Trailer> {
        self.trailer
    }

    /// Goes to the block that holds `seq`, or would.
    pub(crate) fn seek_seq(&mut self, seq: Seq) {
        let behind = self.blocks.partition_point(|block| block.first_seq <= seq);
        self.go_to(behind.saturating_sub(1));
    }

    /// Goes to the last block that begins at or before this output offset.
    pub(crate) fn seek_output(&mut self, offset: u64) {
        let behind = self.blocks.partition_point(|block| block.output_before <= offset);
        self.go_to(behind.saturating_sub(1));
    }

    fn go_to(&mut self, block: usize) {
        (self.next_block, self.at) = (block, 0);
        self.content.clear();
        self.last = None;
    }

    pub(crate) fn step(&mut self) -> io::Result<Step> {
        self.last = None;
        loop {
            if self.at < self.content.len() {
                let Ok(record) = Record::decode(&self.content[self.at..]) else {
                    return Err(io::ErrorKind::InvalidData.into()); // encoded a moment ago, by us
                };
                self.last = Some((record.header, record.after));
                self.position = record.after;
                self.at += record.header.encoded_len();
                return Ok(Step::Record);
            }
            let Some(block) = self.blocks.get(self.next_block).copied() else {
                return Ok(Step::End(self.blocks_end..self.blocks_end));
            };
            self.next_block += 1;
            let end = self.blocks.get(self.next_block).map_or(self.blocks_end, |next| next.at);
            (self.content, self.at) = (Vec::new(), 0);
            match unpack(&*self.file, block.at, end)? {
                Some(content) => self.content = content,
                None => return Ok(Step::Damage(block.at..end)),
            }
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let len = self.last.map_or(0, |(header, _)| header.encoded_len());
        &self.content[self.at - len.min(self.at)..self.at]
    }

    pub(crate) fn last(&self) -> Option<(RecordHeader, Position)> {
        self.last
    }

    pub(crate) fn unread(&mut self) {
        if let Some((header, _)) = self.last.take() {
            self.at -= header.encoded_len();
            self.position = header.before();
        }
    }
}

fn read_exactly(file: &dyn StorageFile, at: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; len];
    let got = read_full_at(file, &mut bytes, at)?;
    Ok((got == len).then_some(bytes))
}

/// The trailer and the index, if both are whole.
fn read_index(file: &dyn StorageFile, start: u64, len: u64) -> io::Result<Option<(Trailer, Vec<BlockRef>)>> {
    let Some(trailer_at) = len.checked_sub(TRAILER_BYTES as u64).filter(|at| *at >= start) else { return Ok(None) };
    let Some(bytes) = read_exactly(file, trailer_at, TRAILER_BYTES)? else { return Ok(None) };
    let Some(trailer) = bytes.first_chunk().and_then(Trailer::decode) else { return Ok(None) };
    // Checked against the file's own length before anything is allocated.
    let index_len = trailer.blocks as usize * INDEX_ENTRY_BYTES;
    if trailer.index_at < start || trailer.index_at.checked_add(index_len as u64) != Some(trailer_at) {
        return Ok(None);
    }
    let Some(index) = read_exactly(file, trailer.index_at, index_len)? else { return Ok(None) };
    if crc32c::crc32c(&index) != trailer.index_check {
        return Ok(None);
    }
    let blocks = index.chunks_exact(INDEX_ENTRY_BYTES).map(|entry| BlockRef {
        at: u64_at(entry, 0),
        first_seq: Seq::new(u64_at(entry, 8)),
        output_before: u64_at(entry, 16),
    });
    Ok(Some((trailer, blocks.collect())))
}

/// Finds the blocks without an index, by their headers; between two found ones lies what is damaged.
fn walk_blocks(file: &dyn StorageFile, start: u64, len: u64) -> io::Result<(Vec<BlockRef>, u64)> {
    let bytes =
        read_exactly(file, start, usize::try_from(len.saturating_sub(start).min(SEARCH_BYTES_MAX)).unwrap_or(0))?;
    let bytes = bytes.unwrap_or_default();
    let (mut blocks, mut at, mut end) = (Vec::<BlockRef>::new(), 0, 0);
    while at + BLOCK_HEADER_BYTES <= bytes.len() {
        let header = BlockHeader::decode(&bytes[at..]);
        let later = |block: &BlockRef| header.is_some_and(|header| header.before.next_seq > block.first_seq);
        match header.filter(|_| blocks.last().is_none_or(later)) {
            Some(header) => {
                let BlockHeader { before, packed_len, .. } = header;
                blocks.push(BlockRef {
                    at: start + at as u64,
                    first_seq: before.next_seq,
                    output_before: before.output_offset,
                });
                at += BLOCK_HEADER_BYTES + packed_len as usize;
                end = at.min(bytes.len());
            }
            None => at += 1,
        }
    }
    Ok((blocks, start + end as u64))
}

/// The encoded records of the block at `at`, which ends before `end`; `None` if it is damaged.
fn unpack(file: &dyn StorageFile, at: u64, end: u64) -> io::Result<Option<Vec<u8>>> {
    let len = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
    if !(BLOCK_HEADER_BYTES..=BLOCK_HEADER_BYTES + PACKED_BYTES_MAX).contains(&len) {
        // The next block was not found where this one ends: read only what its own header says.
        let Some(head) = read_exactly(file, at, BLOCK_HEADER_BYTES)? else { return Ok(None) };
        let Some(header) = BlockHeader::decode(&head) else { return Ok(None) };
        let own_end = at + (BLOCK_HEADER_BYTES + header.packed_len as usize) as u64;
        return if own_end < end { unpack(file, at, own_end) } else { Ok(None) };
    }
    let Some(bytes) = read_exactly(file, at, len)? else { return Ok(None) };
    Ok(unpack_bytes(&bytes))
}

fn unpack_bytes(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = BlockHeader::decode(bytes)?;
    let packed = bytes.get(BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + header.packed_len as usize)?;
    if crc32c::crc32c(packed) != header.packed_check {
        return None;
    }
    let content = zstd::bulk::decompress(packed, header.content_len as usize).ok()?;
    if content.len() != header.content_len as usize {
        return None;
    }
    let count = header.count as usize;
    let (kinds, rest) = content.split_at(count);
    let (flags, rest) = rest.split_at(count);
    let (lens, rest) = rest.split_at(4 * count);
    let (times, mut payloads) = rest.split_at(8 * count);
    let mut out = Vec::with_capacity(content.len() + 26 * count);
    let (mut at, mut time) = (header.before, header.time);
    for n in 0..count {
        let (payload, rest) = payloads.split_at_checked(u32_at(lens, 4 * n) as usize)?;
        payloads = rest;
        time = time.wrapping_add(u64_at(times, 8 * n));
        at = encode_with_flags(&mut out, at, RecordKind::from_byte(kinds[n]), flags[n], time, payload).ok()?;
    }
    (payloads.is_empty() && at == header.after).then_some(out)
}
