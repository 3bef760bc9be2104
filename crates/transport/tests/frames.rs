//! Bytes on the wire: their layout, for ever, and what hostile ones can do.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

mod common;

use std::io::{Cursor, Read};

use common::raw::{encoded, framed};
use common::{Ask, Told};
use proptest::prelude::*;
use shellkeep_transport::frame::*;
use shellkeep_transport::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The layout of the Hello never changes: these bytes are what every build ever sent.
#[test]
fn the_golden_bytes_of_the_hello() {
    let hello = Hello { name: *b"echo", versions: 1..=3, frame_bytes_max: 4 << 20, heartbeat_ms: 1000, abilities: 0 };
    let golden = hex("20000000 934b4550540d0a01 6563686f 0100 0300 00004000 e8030000 00000000 00000000");
    let mut bytes = Vec::new();
    hello.append_to(&mut bytes).unwrap();
    assert_eq!(bytes, golden);
    assert_eq!(Hello::parse(&golden[4..]).unwrap(), hello);

    let accepted = Reply::Accepted(Terms { version: 2, frame_bytes_max: 4 << 20, in_flight_max: 4096, connection: 7 });
    let golden =
        hex("28000000 934b4550540d0a01 6563686f 0000 0200 0100 0300 00004000 00100000 00000000 0700000000000000");
    let mut bytes = Vec::new();
    accepted.append_to(*b"echo", &(1..=3), &mut bytes).unwrap();
    assert_eq!(bytes, golden);
    assert_eq!(Reply::parse(&golden[4..], &hello).unwrap(), accepted);

    let refused = Reply::Refused(Refusal { kind: RefusalKind::Version, versions: 1..=3, text: "no".to_owned() });
    let golden =
        hex("2a000000 934b4550540d0a01 6563686f 0100 0000 0100 0300 00000000 00000000 00000000 0000000000000000 6e6f");
    let mut bytes = Vec::new();
    refused.append_to(*b"echo", &(1..=3), &mut bytes).unwrap();
    assert_eq!(bytes, golden);
    assert_eq!(Reply::parse(&golden[4..], &hello).unwrap(), refused);
}

#[test]
fn the_golden_bytes_of_every_kind() {
    let id = 0x0102_0304_0506_0708;
    let payload = &[0xaa, 0xbb][..];
    let goldens = [
        (Envelope::Request { id, deadline_ms: 5000, payload }, "0f000000 01 0807060504030201 88130000 aabb"),
        (Envelope::Response { id, payload }, "0b000000 02 0807060504030201 aabb"),
        (Envelope::Error { id, code: ErrorCode::Overloaded }, "0b000000 03 0807060504030201 0500"),
        (Envelope::Cancel { id }, "09000000 04 0807060504030201"),
        (Envelope::Push { payload }, "03000000 05 aabb"),
        (Envelope::Ping, "01000000 06"),
        (Envelope::Pong, "01000000 07"),
        (
            Envelope::Goodbye { reason: GoodbyeReason::ShuttingDown, requests_read: 9 },
            "0b000000 08 0200 0900000000000000",
        ),
    ];
    for (envelope, golden) in goldens {
        let golden = hex(golden);
        let mut bytes = Vec::new();
        envelope.append_to(&mut bytes, FRAME_BYTES_MAX).unwrap();
        assert_eq!(bytes, golden, "{envelope:?}");
        assert_eq!(Envelope::parse(&golden[4..]).unwrap(), envelope);
        // Cut or lengthened, it is another payload or an error, never a panic and never the same.
        for cut in 4..golden.len() {
            assert_ne!(Envelope::parse(&golden[4..cut]), Ok(envelope));
        }
        let longer = [&golden[4..], &[0]].concat();
        assert_ne!(Envelope::parse(&longer), Ok(envelope));
    }
}

#[test]
fn every_code_survives_the_way() {
    for code in 0..20 {
        let body = [&[3][..], &1_u64.to_le_bytes(), &u16::to_le_bytes(code)].concat();
        let mut again = Vec::new();
        Envelope::parse(&body).unwrap().append_to(&mut again, 64).unwrap();
        assert_eq!(again[4..], body);
        let body = [&[8][..], &u16::to_le_bytes(code), &1_u64.to_le_bytes()].concat();
        let mut again = Vec::new();
        Envelope::parse(&body).unwrap().append_to(&mut again, 64).unwrap();
        assert_eq!(again[4..], body);
    }
}

#[test]
fn a_long_refusal_is_cut_at_a_character() {
    let hello = common::raw::hello();
    let refused = Reply::Refused(Refusal { kind: RefusalKind::Full, versions: 1..=3, text: "ü".repeat(300) });
    let mut bytes = Vec::new();
    refused.append_to(*b"echo", &(1..=3), &mut bytes).unwrap();
    match Reply::parse(&bytes[4..], &hello).unwrap() {
        Reply::Refused(refusal) => assert_eq!(refusal.text, "ü".repeat(REFUSAL_TEXT_BYTES_MAX / 2)),
        Reply::Accepted(terms) => panic!("{terms:?}"),
    }
}

#[test]
fn a_server_cannot_choose_what_was_not_offered() {
    let hello = common::raw::hello();
    for (name, version, expected) in
        [(*b"echo", 4, HelloError::Version { version: 4 }), (*b"else", 2, HelloError::Conversation)]
    {
        let (frame_bytes_max, in_flight_max, connection) = (1, 1, 1);
        let accepted = Reply::Accepted(Terms { version, frame_bytes_max, in_flight_max, connection });
        let mut bytes = Vec::new();
        accepted.append_to(name, &(1..=4), &mut bytes).unwrap();
        assert_eq!(Reply::parse(&bytes[4..], &hello), Err(expected));
    }
}

/// A reader that gives one byte at a time, and is interrupted in between.
struct Dribble<'a>(Cursor<&'a [u8]>, bool);

impl Read for Dribble<'_> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        self.0.read(&mut room[..1])
    }
}

#[test]
fn blocking_readers_get_whole_frames_and_a_clean_end() {
    let mut wire = Vec::new();
    write_frame(&mut wire, b"one", 64).unwrap();
    write_frame(&mut wire, &[7; 5000], FRAME_BYTES_MAX).unwrap();
    let mut reader = Dribble(Cursor::new(&wire), false);
    let mut buffer = FrameBuffer::new(FRAME_BYTES_MAX);
    assert_eq!(read_frame(&mut reader, &mut buffer).unwrap(), Some(&b"one"[..]));
    assert_eq!(read_frame(&mut reader, &mut buffer).unwrap(), Some(&[7; 5000][..]));
    assert_eq!(read_frame(&mut reader, &mut buffer).unwrap(), None);
    let mut reader = Cursor::new(&wire[..wire.len() - 1]);
    read_frame(&mut reader, &mut buffer).unwrap();
    assert!(matches!(read_frame(&mut reader, &mut buffer), Err(ReadError::Truncated)));
    assert!(matches!(write_frame(&mut wire, b"", 64), Err(WriteError::Frame(FrameError::Empty))));
    assert!(matches!(write_frame(&mut wire, &[0; 65], 64), Err(WriteError::Frame(FrameError::TooLarge { .. }))));
}

#[test]
fn a_length_is_judged_before_anything_is_allocated_for_it() {
    let mut buffer = FrameBuffer::new(1000);
    let room = buffer.spare();
    room[..4].copy_from_slice(&1001_u32.to_le_bytes());
    buffer.filled(4);
    let expected = FrameError::TooLarge { bytes: 1001, bytes_max: 1000 };
    assert_eq!(buffer.has_frame(), Err(expected));
    assert_eq!(buffer.next_frame(), Err(expected));
    // Within the limit, memory follows what has come, not what was announced.
    let mut buffer = FrameBuffer::new(FRAME_BYTES_MAX);
    buffer.spare()[..4].copy_from_slice(&FRAME_BYTES_MAX.to_le_bytes());
    buffer.filled(4);
    let mut come = 4;
    while come < 100_000 {
        assert!(!buffer.has_frame().unwrap());
        let room = buffer.spare().len();
        assert!(room + come <= come * 2 + 4096, "{room} more after {come}");
        buffer.filled(room.min(1000));
        come += room.min(1000);
    }
}

#[test]
fn an_unfinished_frame_is_taken_back() {
    let mut out = framed(b"before");
    let before = out.clone();
    let failed = append_frame(&mut out, 64, |out| {
        out.extend_from_slice(b"half");
        Err(FrameError::Empty)
    });
    assert!(failed.is_err());
    assert_eq!(out, before);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        append_frame::<FrameError>(&mut out, 64, |out| {
            out.extend_from_slice(b"half");
            panic!("a Serialize of the user")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(out, before);
}

/// Without a limit, twelve bytes make bincode allocate a gigabyte.
#[test]
fn a_length_inside_a_message_allocates_nothing_either() {
    #[derive(serde::Deserialize)]
    struct Lists {
        _bytes: serde_bytes::ByteBuf,
    }
    for claimed in [1 << 30, u64::MAX / 2, u64::MAX] {
        let bytes = [&u64::to_le_bytes(claimed)[..], &[1, 2, 3, 4]].concat();
        assert!(decode::<Lists>(&bytes).is_err());
        assert!(decode::<Vec<u64>>(&bytes).is_err());
        assert!(decode::<String>(&bytes).is_err());
    }
    let trailing = [encoded(&Told::Number(1)), vec![0]].concat();
    assert!(decode::<Told>(&trailing).is_err());
    let mut out = vec![1];
    assert!(matches!(
        encode_into(&Ask::Send(vec![0; 100]), &mut out, 50),
        Err(EncodeError::TooLarge { bytes_max: 50 })
    ));
    assert!(out.len() <= 51);
}

/// Bytes travel as bytes: what is borrowed is not copied.
#[test]
fn bytes_are_decoded_in_place() {
    let bytes = encoded(&serde_bytes::Bytes::new(&[1, 2, 3]));
    let borrowed: &[u8] = decode(&bytes).unwrap();
    assert_eq!(borrowed, [1, 2, 3]);
    assert_eq!(borrowed.as_ptr(), bytes[8..].as_ptr());
}

#[test]
fn the_schedule_begins_at_once_and_keeps_to_its_bounds() {
    let (mut least, mut most) = (RETRY_DELAY_MAX, std::time::Duration::ZERO);
    for _ in 0..50 {
        let mut schedule = Schedule::default();
        assert!(schedule.next_delay().is_zero());
        for attempt in 0..40 {
            let delay = schedule.next_delay();
            assert!((RETRY_DELAY_MIN..=RETRY_DELAY_MAX).contains(&delay), "{delay:?}");
            let ceiling = RETRY_DELAY_MIN * 2 * 2_u32.pow(attempt.min(10));
            assert!(delay <= ceiling + RETRY_DELAY_MIN, "{delay:?} at attempt {attempt}");
            if attempt > 20 {
                (least, most) = (least.min(delay), most.max(delay));
            }
        }
        schedule.reset();
        assert!(schedule.next_delay().is_zero());
        assert!(schedule.next_delay() <= RETRY_DELAY_MIN * 2 + RETRY_DELAY_MIN);
    }
    // Full jitter: a crowd of clients is spread over the whole delay, not over a part of it.
    assert!(least < RETRY_DELAY_MAX / 10 && most > RETRY_DELAY_MAX / 10 * 9, "{least:?} to {most:?}");
}

#[test]
fn a_schedule_that_skips_ahead_keeps_to_its_bounds_too() {
    let skipped = || {
        let mut schedule = Schedule::default();
        schedule.skip_to(RETRY_DELAY_MAX / 4);
        let next = schedule.next_delay();
        assert!((RETRY_DELAY_MIN..=RETRY_DELAY_MAX / 4).contains(&next), "{next:?}");
        schedule.skip_to(RETRY_DELAY_MAX * 4);
        let last = schedule.next_delay();
        schedule.skip_to(RETRY_DELAY_MIN); // never back
        (next, last.max(schedule.next_delay()))
    };
    let (next, last): (Vec<_>, Vec<_>) = std::iter::repeat_with(skipped).take(200).unzip();
    assert!(next.iter().any(|delay| *delay > RETRY_DELAY_MAX / 8), "the short delays were not left out");
    assert!(last.iter().all(|delay| *delay <= RETRY_DELAY_MAX));
    assert!(last.iter().any(|delay| *delay > RETRY_DELAY_MAX / 2), "the short delays were not left out");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// However the bytes are cut, the frames are the same.
    #[test]
    fn frames_do_not_depend_on_how_they_arrive(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6000), 1..20),
        cuts in prop::collection::vec(1_usize..9000, 1..60),
    ) {
        let wire: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        let mut buffer = FrameBuffer::new(6000);
        let (mut rest, mut found) = (&wire[..], Vec::new());
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let room = buffer.spare();
            prop_assert!(!room.is_empty());
            let count = room.len().min(rest.len()).min(*cuts.next().unwrap());
            room[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            buffer.filled(count);
            while let Some(body) = buffer.next_frame().unwrap() {
                found.push(body.to_vec());
            }
            if count % 7 == 0 {
                buffer.shrink(); // at any moment, without losing anything
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(found, bodies);
    }

    /// Nothing that a peer sends panics, and what parses writes the same bytes again.
    #[test]
    fn any_bytes_are_an_envelope_or_an_error(body in prop::collection::vec(any::<u8>(), 1..40)) {
        if let Ok(envelope) = Envelope::parse(&body) {
            let mut again = Vec::new();
            envelope.append_to(&mut again, 64).unwrap();
            prop_assert_eq!(&again[4..], &body[..]);
        }
        let mut with_magic = MAGIC.to_vec();
        with_magic.extend(&body);
        for bytes in [&body, &with_magic] {
            let _ = Hello::parse(bytes);
            let _ = Reply::parse(bytes, &common::raw::hello());
            let _ = decode::<Ask>(bytes);
        }
    }
}
