//! Behind damage: where do records begin again?
//!
//! Promise: time in proportion to the bytes, whatever they hold; bytes inside a record that look like records are never
//! taken for some while the chain behind the damage is whole. Source: docs/journal-format.md, "Recovery".

use crate::chain::Position;
use crate::record::{
    GapInfo, RECORD_HEADER_BYTES, RECORD_MAGIC, RECORD_PAYLOAD_BYTES_MAX, Record, RecordHeader, RecordKind,
    place_after, u32_at,
};
use crate::segment::{GRANT_FIXED_BYTES, Grant};

/// Distance between stored running checksums: between two of them the bytes themselves are hashed.
const STRIDE_BYTES: usize = 64;

/// Grants in a row that are stepped over when a record's successor is sought.
const GRANTS_IN_A_ROW_MAX: usize = 16;

/// Bytes of a gap record as this version writes it.
const GAP_RECORD_BYTES: usize = RECORD_HEADER_BYTES + 24;

/// Running checksums of some bytes: gives the checksum of any part in constant time.
struct Sums {
    at_stride: Vec<u32>,
    /// x^(8·2^k) modulo the polynomial.
    powers: [u32; 32],
}

impl Sums {
    fn new(bytes: &[u8]) -> Self {
        let mut at_stride = Vec::with_capacity(bytes.len() / STRIDE_BYTES + 1);
        let mut sum = 0;
        at_stride.push(sum);
        for part in bytes.chunks_exact(STRIDE_BYTES) {
            sum = crc32c::crc32c_append(sum, part);
            at_stride.push(sum);
        }
        let mut powers = [1 << 23; 32]; // x^8, lowest power in the highest bit
        for k in 1..powers.len() {
            powers[k] = multiply(powers[k - 1], powers[k - 1]);
        }
        Self { at_stride, powers }
    }

    /// Checksum of everything before `end`.
    fn before(&self, bytes: &[u8], end: usize) -> u32 {
        let stride = end / STRIDE_BYTES;
        crc32c::crc32c_append(self.at_stride[stride], &bytes[stride * STRIDE_BYTES..end])
    }

    /// What `sum` becomes when the bytes `from..to` are appended.
    fn append(&self, sum: u32, bytes: &[u8], from: usize, to: usize) -> u32 {
        let mut moved = sum ^ self.before(bytes, from);
        let mut left = to - from;
        for power in self.powers {
            if left == 0 {
                break;
            }
            if left & 1 == 1 {
                moved = multiply(power, moved);
            }
            left >>= 1;
        }
        moved ^ self.before(bytes, to)
    }
}

/// Product of two polynomials modulo that of CRC32C, lowest power in the highest bit.
fn multiply(a: u32, mut b: u32) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let (mut product, mut mask) = (0, 1 << 31);
    while mask != 0 {
        if a & mask != 0 {
            product ^= b;
        }
        mask >>= 1;
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
    }
    product
}

/// A place where a record stands whose check is right.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    at: usize,
    /// End of the run of linked records that begins here.
    run_end: usize,
}

/// The remaining bytes of a segment, with all places where a record could begin.
pub(crate) struct ResyncMap {
    bytes: Vec<u8>,
    sums: Sums,
    /// By place.
    candidates: Vec<Candidate>,
}

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Place in the bytes.
    pub(crate) at: usize,
    /// What comes there.
    pub(crate) position: Position,
}

impl ResyncMap {
    /// Finds all candidates, from the end to the beginning, so that each knows at once how far its run goes.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let sums = Sums::new(&bytes);
        let mut map = Self { bytes, sums, candidates: Vec::new() };
        for at in (0..(map.bytes.len() + 1).saturating_sub(RECORD_HEADER_BYTES)).rev() {
            if map.bytes[at..at + 2] != RECORD_MAGIC {
                continue;
            }
            if let Some(record) = map.record_at(at) {
                let run_end = map.run_end(at + record.header.encoded_len(), record.after);
                map.candidates.push(Candidate { at, run_end });
            }
        }
        map.candidates.reverse();
        map
    }

    /// Bytes that the map knows.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn record_at(&self, at: usize) -> Option<Record<'_>> {
        let header = RecordHeader::read(&self.bytes[at..])?;
        let (from, to) = (at + RECORD_HEADER_BYTES, at + header.encoded_len());
        let payload = self.bytes.get(from..to)?;
        let sum = header.prev.begin(self.bytes[at..].first_chunk()?);
        let right = self.sums.append(sum, &self.bytes, from, to) == header.check.get();
        if right { Record::verified(header, payload).ok() } else { None }
    }

    fn grant_end(&self, at: usize) -> Option<usize> {
        let end = at + Grant::announced_len(self.bytes.get(at..)?)?;
        let head = self.bytes.get(at..end)?;
        let sum = self.sums.append(crc32c::crc32c(&head[..12]), &self.bytes, at + 16, end);
        (sum == u32_at(head, 12)).then_some(end)
    }

    /// Place behind the grants that stand at `at`.
    fn behind_grants(&self, mut at: usize) -> usize {
        for _ in 0..GRANTS_IN_A_ROW_MAX {
            match self.grant_end(at) {
                Some(end) => at = end,
                None => break,
            }
        }
        at
    }

    /// How far the linked records go on from `at`, where `after` is expected. Only called while the map is built.
    fn run_end(&self, at: usize, after: Position) -> usize {
        let next = self.behind_grants(at);
        let found = self.candidates.binary_search_by(|candidate| next.cmp(&candidate.at)); // built backwards
        let linked = found.ok().map(|found| self.candidates[found]).filter(|candidate| {
            RecordHeader::read(&self.bytes[candidate.at..]).is_some_and(|header| header.follows(after))
        });
        linked.map_or(at, |candidate| candidate.run_end)
    }

    /// Where the segment goes on behind the damage at `at`, where `expected` should come (`None`: not known).
    pub(crate) fn find(&self, at: usize, expected: Option<Position>) -> Option<Found> {
        let damaged = Damaged::read(&self.bytes[at..], expected);
        if let Some(found) = damaged.and_then(|damaged| self.believed(at, damaged)) {
            return Some(found);
        }
        let first = self.candidates.partition_point(|candidate| candidate.at < at);
        let candidates = || self.candidates[first..].iter().filter_map(|c| Some((*c, self.header_at(c.at)?)));
        let proved = candidates().find(|(candidate, header)| {
            damaged.is_some_and(|damaged| self.is_proved(at, damaged, candidate.at, header))
        });
        let next = || candidates().find(|(_, header)| expected.is_some_and(|expected| header.follows(expected)));
        let gap = || candidates().find(|(candidate, header)| self.is_behind_gap(at, damaged, candidate.at, header));
        // `next` comes after `proved`: where a session begins, everybody knows the chain.
        let chosen = proved.or_else(next).or_else(gap).or_else(|| self.likeliest(at, damaged, expected, candidates()));
        if let Some((candidate, header)) = chosen {
            return Some(self.with_grants_before(at, damaged, Found { at: candidate.at, position: header.before() }));
        }
        // Nothing but grants behind the last record: they count, and what is damaged comes again.
        let end = at + damaged.filter(|damaged| damaged.nearly_agrees)?.header.encoded_len();
        let grants_only = end < self.bytes.len() && self.behind_grants(end) == self.bytes.len();
        grants_only.then_some(Found { at: end, position: expected? })
    }

    fn header_at(&self, at: usize) -> Option<RecordHeader> {
        RecordHeader::read(&self.bytes[at..])
    }

    /// A header that follows and whose end meets a header that follows it: only its payload is damaged.
    fn believed(&self, at: usize, damaged: Damaged) -> Option<Found> {
        if !damaged.agrees || damaged.header.kind == RecordKind::Gap {
            return None;
        }
        let position = place_after(&damaged.header, &[])?;
        let end = at + damaged.header.encoded_len();
        let next = self.behind_grants(end);
        let follows =
            self.bytes.get(next..).and_then(RecordHeader::read).is_some_and(|header| header.follows(position));
        follows.then_some(Found { at: end, position })
    }

    /// Whether the record follows the damaged one, by the check that stands there or by the one that its bytes give.
    fn is_proved(&self, at: usize, damaged: Damaged, candidate: usize, header: &RecordHeader) -> bool {
        let expected = damaged.expected;
        if header.seq != expected.next_seq.next() || candidate < at + RECORD_HEADER_BYTES {
            return false;
        }
        if damaged.nearly_agrees && header.prev == damaged.header.check {
            return true;
        }
        let end = at + damaged.header.encoded_len();
        damaged.agrees && candidate == self.behind_grants(end) && {
            let sum = expected.chain.begin(&damaged.header.hashed());
            self.sums.append(sum, &self.bytes, at + RECORD_HEADER_BYTES, end) == header.prev.get()
        }
    }

    /// Whether the damaged record was a gap that this record followed: one of the two things it says still fits.
    fn is_behind_gap(&self, at: usize, damaged: Option<Damaged>, candidate: usize, header: &RecordHeader) -> bool {
        let Some(damaged) = damaged.filter(|damaged| damaged.nearly_agrees) else { return false };
        let maybe_gap = damaged.header.kind == RecordKind::Gap || damaged.header.encoded_len() == GAP_RECORD_BYTES;
        let Some(payload) = self.bytes.get(at + RECORD_HEADER_BYTES..) else { return false };
        let Some(gap) = GapInfo::decode(payload) else { return false };
        let after = gap.to.next() == header.seq || gap.chain_after == header.prev;
        maybe_gap
            && after
            && candidate == self.behind_grants(at + GAP_RECORD_BYTES)
            && header.seq > damaged.expected.next_seq
    }

    /// Without proof: the first run that reaches the end, else the longest.
    fn likeliest(
        &self,
        at: usize,
        damaged: Option<Damaged>,
        expected: Option<Position>,
        candidates: impl Iterator<Item = (Candidate, RecordHeader)>,
    ) -> Option<(Candidate, RecordHeader)> {
        // A header that follows is believed: nothing inside its record is a candidate.
        let inside = damaged.filter(|damaged| damaged.agrees).map_or(at, |damaged| at + damaged.header.encoded_len());
        let last = self.candidates.last()?.at;
        let mut best = None;
        for (candidate, header) in candidates {
            let possible = expected
                .is_none_or(|expected| header.seq >= expected.next_seq && header.offset >= expected.output_offset);
            if candidate.at < inside || !possible {
                continue;
            }
            let skipped = (candidate.at - at) as u64;
            let plausible = expected.is_none_or(|expected| {
                (header.seq.get() - expected.next_seq.get()) <= skipped / RECORD_HEADER_BYTES as u64
                    && header.offset - expected.output_offset <= skipped
            });
            let score = (candidate.run_end > last, plausible, candidate.run_end - candidate.at);
            if best.is_none_or(|(best, _)| score > best) {
                best = Some((score, (candidate, header)));
            }
        }
        best.map(|(_, chosen)| chosen)
    }

    /// Grants between the damage and the found record still count, if the damaged record's length leads to them.
    fn with_grants_before(&self, at: usize, damaged: Option<Damaged>, found: Found) -> Found {
        let as_record = damaged.map(|damaged| at + damaged.header.encoded_len());
        let as_grant = Grant::announced_len(&self.bytes[at..]).map(|len| at + len);
        let ends = [as_record, as_grant].into_iter().flatten();
        let end = ends.into_iter().find(|&end| end < found.at && self.behind_grants(end) == found.at);
        Found { at: end.unwrap_or(found.at), ..found }
    }
}

/// The header of a damaged record, where `expected` should have come.
#[derive(Clone, Copy)]
struct Damaged {
    header: RecordHeader,
    expected: Position,
    /// It is legal and follows: its length can be believed unless a proof says otherwise.
    agrees: bool,
    /// All but one of magic, seq, offset and prev are as expected: it is the header of the record, one field of it damaged.
    nearly_agrees: bool,
}

impl Damaged {
    fn read(bytes: &[u8], expected: Option<Position>) -> Option<Self> {
        let expected = expected?;
        let header = RecordHeader::read_any(bytes.first_chunk()?);
        let same = [
            bytes[..2] == RECORD_MAGIC,
            header.seq == expected.next_seq,
            header.offset == expected.output_offset,
            header.prev == expected.chain,
        ];
        let differing = same.iter().filter(|same| !**same).count();
        let legal = header.len <= RECORD_PAYLOAD_BYTES_MAX;
        Some(Self { header, expected, agrees: differing == 0 && legal, nearly_agrees: differing <= 1 })
    }
}

const _: () = assert!(GRANT_FIXED_BYTES > RECORD_HEADER_BYTES, "a header can be read wherever a grant fits");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_summed_as_if_it_were_hashed() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| (n * 7 % 251) as u8).collect();
        let sums = Sums::new(&bytes);
        for (from, to) in [(0, 0), (0, 1000), (1, 2), (63, 65), (64, 128), (100, 999), (999, 1000)] {
            let want = crc32c::crc32c_append(0x1234_5678, &bytes[from..to]);
            assert_eq!(sums.append(0x1234_5678, &bytes, from, to), want, "{from}..{to}");
        }
    }
}
