//! One record: its bytes are fixed for good, and nothing but a whole, linked record passes.

use proptest::prelude::*;
use shellkeep_journal::{
    Chain, GapInfo, POSITION_MAX, Position, RECORD_HEADER_BYTES, RECORD_PAYLOAD_BYTES_MAX, Record, RecordError,
    RecordIter, RecordKind, Seq, encode_gap, encode_record,
};

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

#[test]
fn the_bytes_of_a_record_never_change() {
    let mut bytes = Vec::new();
    let after = encode_record(&mut bytes, Position::START, RecordKind::Output, 0x0102_0304_0506_0708, b"hi").unwrap();
    let after = encode_record(&mut bytes, after, RecordKind::Resize, 0x0102_0304_0506_0709, b"").unwrap();
    assert_eq!(
        hex(&bytes),
        concat!(
            "4bf50100",
            "02000000",
            "0100000000000000",
            "0807060504030201",
            "0000000000000000",
            "00000000",
            "87cace00",
            "6869",
            "4bf50300",
            "00000000",
            "0200000000000000",
            "0907060504030201",
            "0200000000000000",
            "87cace00",
            "cfeb5e4e",
        )
    );
    assert_eq!((after.next_seq, after.output_offset), (Seq::new(3), 2));
}

#[test]
fn the_bytes_of_a_gap_never_change() {
    let mut bytes = Vec::new();
    let gap = GapInfo { to: Seq::new(9), output_bytes: 100, reason: 2, chain_after: Chain::new(0xdead_beef) };
    let at = Position { next_seq: Seq::new(4), chain: Chain::new(0x0a0b_0c0d), output_offset: 7 };
    let after = encode_gap(&mut bytes, at, 5, &gap).unwrap();
    assert_eq!(
        hex(&bytes),
        concat!(
            "4bf50600",
            "18000000",
            "0400000000000000",
            "0500000000000000",
            "0700000000000000",
            "0d0c0b0a",
            "8dbbb899",
            "0900000000000000",
            "6400000000000000",
            "02000000",
            "efbeadde",
        )
    );
    assert_eq!(after, Position { next_seq: Seq::new(10), chain: Chain::new(0xdead_beef), output_offset: 107 });
    assert_eq!(Record::decode(&bytes).unwrap().gap(), Some(gap));
}

#[test]
fn what_announces_too_much_is_refused_before_it_is_read() {
    let mut bytes = Vec::new();
    encode_record(&mut bytes, Position::START, RecordKind::Output, 0, b"x").unwrap();
    bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Record::decode(&bytes), Err(RecordError::NoHeader));
    let long = vec![0; RECORD_PAYLOAD_BYTES_MAX as usize + 1];
    let mut out = vec![7];
    let refused = encode_record(&mut out, Position::START, RecordKind::Output, 0, &long);
    assert_eq!((refused, out), (Err(RecordError::TooLarge { len: long.len() }), vec![7]));
}

#[test]
fn a_gap_that_ends_before_it_begins_or_beyond_all_numbers_is_refused() {
    let at = Position { next_seq: Seq::new(4), ..Position::START };
    for (to, output_bytes) in [(3, 0), (0, 0), (u64::MAX, 0), (9, u64::MAX), (9, POSITION_MAX + 1)] {
        let gap = GapInfo { to: Seq::new(to), output_bytes, reason: 0, chain_after: Chain::START };
        assert_eq!(encode_gap(&mut Vec::new(), at, 0, &gap), Err(RecordError::BadGap { seq: Seq::new(4) }));
    }
}

#[test]
fn a_record_that_does_not_follow_ends_the_walk_with_its_number() {
    let mut bytes = Vec::new();
    let second = encode_record(&mut bytes, Position::START, RecordKind::Output, 0, b"one").unwrap();
    let skipped = Position { next_seq: second.next_seq.next(), ..second };
    encode_record(&mut bytes, skipped, RecordKind::Output, 0, b"three").unwrap();
    let walked: Vec<_> = RecordIter::new(&bytes, Position::START).map(|r| r.map(|r| r.header.seq)).collect();
    let refused = RecordError::NotNext { seq: Seq::new(3), expected: Seq::new(2) };
    assert_eq!(walked, [Ok(Seq::FIRST), Err(refused)]);
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let mut bytes = Vec::new();
    encode_record(&mut bytes, Position::START, RecordKind::Mark, 77, b"payload").unwrap();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Record::decode(&bytes).is_err(), "flip of bit {bit} went unseen");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    for cut in 0..bytes.len() {
        assert_eq!(Record::decode(&bytes[..cut]), Err(RecordError::Cut));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded(
        records in prop::collection::vec((any::<u8>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..200)), 0..20)
    ) {
        let (mut bytes, mut at, mut starts) = (Vec::new(), Position::START, Vec::new());
        for (kind, time, payload) in &records {
            let kind = if *kind == 6 { RecordKind::Output } else { RecordKind::from_byte(*kind) };
            starts.push((at, kind));
            at = encode_record(&mut bytes, at, kind, *time, payload).unwrap();
        }
        let mut walk = RecordIter::new(&bytes, Position::START);
        for ((_, time, payload), (start, kind)) in records.iter().zip(starts) {
            let record = walk.next().unwrap().unwrap();
            prop_assert_eq!(record.header.before(), start);
            prop_assert_eq!((record.header.kind, record.header.time_us), (kind, *time));
            prop_assert_eq!(record.payload, &payload[..]);
        }
        prop_assert!(walk.next().is_none());
        prop_assert_eq!(walk.position(), at);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut bytes = bytes;
        let _ = Record::decode(&bytes);
        if bytes.len() >= RECORD_HEADER_BYTES { bytes[..2].copy_from_slice(&[0x4b, 0xf5]); }
        for record in RecordIter::new(&bytes, Position::START) { let _ = record; }
    }
}
