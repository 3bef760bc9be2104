//! What must hold for any bytes at all. Used by the fuzzer, and by `tests/corpus.rs`, which replays what it has found.

use serde::{Deserialize, Serialize};
use shellkeep_transport::frame::{FRAME_BYTES_MAX, FrameBuffer, HELLO_FRAME_BYTES_MAX};
use shellkeep_transport::{Envelope, Hello, Reply, decode, encode_into};

/// Frames do not depend on how they arrive, memory keeps to what has come, and what is parsed writes itself again.
/// The first byte says in which pieces the rest arrives.
pub fn frames(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else { return };
    let whole = read(stream, usize::MAX);
    let pieces = read(stream, usize::from(piece) + 1);
    assert_eq!(whole, pieces, "in pieces of {}", usize::from(piece) + 1);
    let mut again = Vec::new();
    for body in &whole.0 {
        if let Ok(envelope) = Envelope::parse(body) {
            envelope.append_to(&mut again, FRAME_BYTES_MAX).expect("it came in a frame");
            assert_eq!(again.get(4..), Some(&body[..]), "{envelope:?}");
            again.clear();
        }
    }
}

/// The bodies, and whether what follows is no frame.
fn read(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut buffer, mut bodies, mut rest) = (FrameBuffer::new(FRAME_BYTES_MAX), Vec::new(), stream);
    loop {
        loop {
            match buffer.next_frame() {
                Ok(Some(body)) => bodies.push(body.to_vec()),
                Ok(None) => break,
                Err(_) => return (bodies, true),
            }
        }
        let spare = buffer.spare();
        assert!(!spare.is_empty(), "room to read while no whole frame is there");
        let count = rest.len().min(piece).min(spare.len());
        if count == 0 {
            return (bodies, false);
        }
        spare[..count].copy_from_slice(&rest[..count]);
        buffer.filled(count);
        rest = &rest[count..];
    }
}

/// A Hello and a reply say the same when they are written again (reserved bytes apart), and a server's choice is one of
/// those that were offered.
pub fn hello(body: &[u8]) {
    let mut bytes = Vec::new();
    if let Ok(hello) = Hello::parse(body) {
        hello.append_to(&mut bytes).expect("a Hello fits");
        assert_eq!(Hello::parse(&bytes[4..]).as_ref(), Ok(&hello));
        assert_eq!(bytes[4..32], body[..28], "all but the reserved bytes");
        bytes.clear();
    }
    let offered =
        Hello { name: *b"fuzz", versions: 2..=5, frame_bytes_max: FRAME_BYTES_MAX, heartbeat_ms: 0, abilities: 0 };
    if let Ok(reply) = Reply::parse(body, &offered) {
        match &reply {
            Reply::Accepted(terms) => assert!(offered.versions.contains(&terms.version)),
            Reply::Refused(refusal) => assert!(refusal.text.len() <= 3 * 256, "each damaged byte becomes three"),
        }
        reply.append_to(*b"fuzz", &(2..=5), &mut bytes).expect("a reply fits");
        assert!(bytes.len() <= 4 + HELLO_FRAME_BYTES_MAX as usize);
        assert!(Reply::parse(&bytes[4..], &offered).is_ok());
    }
}

/// A message with everything in it that a length can lie about.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Message {
    Nothing,
    Numbers(Vec<u64>),
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    Text(String),
    Nested { name: Option<String>, list: Vec<(u16, Vec<String>)>, flag: bool, letter: char },
}

/// Decoding allocates no more than it was given, and what was decoded encodes to the same bytes.
pub fn codec(bytes: &[u8]) {
    if let Ok(message) = decode::<Message>(bytes) {
        let mut again = Vec::new();
        encode_into(&message, &mut again, bytes.len()).expect("it is no longer than what it came from");
        assert_eq!(again, bytes, "{message:?}");
        let mut cut = Vec::new();
        let shorter = encode_into(&message, &mut cut, bytes.len() - 1);
        assert!(shorter.is_err() && cut.len() < bytes.len(), "the limit holds");
        for end in 0..bytes.len().min(64) {
            assert!(decode::<Message>(&bytes[..end]).is_err(), "no message is the beginning of another");
        }
    }
}
