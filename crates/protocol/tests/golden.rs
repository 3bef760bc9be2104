//! Golden bytes of every message of the session conversation: a keeper that lives for months must be understood by
//! every daemon after it. A change here is a new version of the conversation, not a new expectation.

use shellkeep_journal::{Chain, Position, Seq};
use shellkeep_protocol::daemon::{Push, Request, Response};
use shellkeep_protocol::ids::{MarksNonce, SessionId, StoreId, WriterId};
use shellkeep_protocol::session::*;

const SESSION: SessionId = SessionId::from_bytes([0x11; 16]);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Encodes as the wire does, compares, and decodes back.
#[allow(clippy::unwrap_used)] // a helper of tests: what fails here is the test
fn check<T>(message: &T, golden: &str)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let mut bytes = Vec::new();
    shellkeep_transport::encode_into(message, &mut bytes, 1 << 20).unwrap();
    assert_eq!(hex(&bytes), golden, "{message:?}");
    assert_eq!(&shellkeep_transport::decode::<T>(&bytes).unwrap(), message);
}

fn position() -> Position {
    Position { next_seq: Seq::new(5), chain: Chain::new(0xdead_beef), output_offset: 77 }
}

#[test]
fn requests_keep_their_bytes() {
    let attrs = Attrs {
        name: Some("n".into()),
        command: vec!["sh".into()],
        cwd: "/".into(),
        started_at_us: 1,
        pid: 2,
        keeper_pid: 3,
        term: "t".into(),
        size: (80, 24),
        host: "h".into(),
        parent: Some(SESSION),
        attached: 1,
        keeper_version: "0".into(),
        marks: Some(MarksNonce::from_bytes([0x44; 16])),
    };
    let start = SessionStart {
        session: SESSION,
        writer: WriterId::from_bytes([0x22; 16]),
        epoch_known: 7,
        first_retained: Seq::new(3),
        chain_before_first: Chain::new(4),
        next_seq: Seq::new(5),
        chain_at_end: Chain::new(6),
        attrs,
    };
    check(&Request::Session(SessionRequest::Start(Box::new(start))), GOLDEN_START);
    let append = Append {
        session: SESSION,
        epoch: 7,
        first_seq: Seq::new(3),
        prev_chain: Chain::new(4),
        records: vec![1, 2, 3],
    };
    check(&Request::Session(SessionRequest::Append(append)), GOLDEN_APPEND);
    let gap = Gap {
        session: SESSION,
        epoch: 7,
        from: Seq::new(3),
        to: Seq::new(4),
        output_offset_after: 9,
        time_us: 10,
        reason: GapReason::SpoolDamaged,
        chain_after: Chain::new(11),
    };
    check(&Request::Session(SessionRequest::Gap(gap)), GOLDEN_GAP);
    let exit = ExitStatus::Signal(9);
    let end = End { session: SESSION, epoch: 7, next_seq: Seq::new(5), chain: Chain::new(6), exit };
    check(&Request::Session(SessionRequest::End(end)), GOLDEN_END);
    check(&Request::Query { version: 1, body: vec![9] }, GOLDEN_QUERY);
}

#[test]
fn answers_and_pushes_keep_their_bytes() {
    let answer = |response| Response::Session(response);
    let welcome = Welcome {
        store: StoreId::from_bytes([0x33; 16]),
        epoch: 8,
        end: position(),
        durable_seq: 4,
        window_bytes: WINDOW_BYTES,
    };
    check(&answer(SessionResponse::Welcome(welcome)), GOLDEN_WELCOME);
    check(&answer(SessionResponse::Refused(Refused::Owner(WriterId::from_bytes([0x22; 16])))), GOLDEN_REFUSED_OWNER);
    check(&answer(SessionResponse::Refused(Refused::Epoch(9))), GOLDEN_REFUSED_EPOCH);
    check(&answer(SessionResponse::Refused(Refused::Unknown)), GOLDEN_REFUSED_UNKNOWN);
    check(&answer(SessionResponse::Busy(Busy { reason: BusyReason::NoSpace, retry_ms: 200 })), GOLDEN_BUSY);
    check(&answer(SessionResponse::Written { next_seq: Seq::new(5) }), GOLDEN_WRITTEN);
    check(&answer(SessionResponse::Expect(position())), GOLDEN_EXPECT);
    check(&answer(SessionResponse::Conflict), GOLDEN_CONFLICT);
    check(&answer(SessionResponse::Invalid { reason: "r".into() }), GOLDEN_INVALID);
    check(&Response::Reply { body: vec![9] }, GOLDEN_REPLY);
    check(&Response::QueryVersion { speaks: 1, program: "p".into() }, GOLDEN_QUERY_VERSION);
    let durable = Durable { session: SESSION, store: StoreId::from_bytes([0x33; 16]), epoch: 8, durable_seq: 4 };
    check(&Push::Session(SessionPush::Durable(durable)), GOLDEN_DURABLE);
    check(&Push::Session(SessionPush::Expect { session: SESSION, epoch: 8, end: position() }), GOLDEN_PUSH_EXPECT);
}

#[test]
fn an_id_has_one_spelling() {
    let text = SESSION.to_string();
    assert_eq!(text.parse::<SessionId>().unwrap(), SESSION);
    for bad in [&text.to_uppercase(), &text.replace('-', ""), &format!("{{{text}}}"), "", "../../x", "last"] {
        assert!(bad.parse::<SessionId>().is_err() || *bad == text, "{bad}");
    }
}

const GOLDEN_START: &str = "00000000000000001111111111111111111111111111111122222222222222222222222222222222070000000300000000000000040000000500000000000000060000000101000000000000006e01000000000000000200000000000000736801000000000000002f01000000000000000200000003000000010000000000000074500018000100000000000000680111111111111111111111111111111111010000000100000000000000300144444444444444444444444444444444";
const GOLDEN_APPEND: &str =
    "000000000100000011111111111111111111111111111111070000000300000000000000040000000300000000000000010203";
const GOLDEN_GAP: &str = "000000000200000011111111111111111111111111111111070000000300000000000000040000000000000009000000000000000a00000000000000020000000b000000";
const GOLDEN_END: &str = "000000000300000011111111111111111111111111111111070000000500000000000000060000000100000009";
const GOLDEN_QUERY: &str = "010000000100010000000000000009";
const GOLDEN_WELCOME: &str = "000000000000000033333333333333333333333333333333080000000500000000000000efbeadde4d00000000000000040000000000000000001000";
const GOLDEN_REFUSED_OWNER: &str = "00000000010000000000000022222222222222222222222222222222";
const GOLDEN_REFUSED_EPOCH: &str = "00000000010000000100000009000000";
const GOLDEN_REFUSED_UNKNOWN: &str = "000000000100000002000000";
const GOLDEN_BUSY: &str = "000000000200000000000000c8000000";
const GOLDEN_WRITTEN: &str = "00000000030000000500000000000000";
const GOLDEN_EXPECT: &str = "00000000040000000500000000000000efbeadde4d00000000000000";
const GOLDEN_CONFLICT: &str = "0000000005000000";
const GOLDEN_INVALID: &str = "0000000006000000010000000000000072";
const GOLDEN_REPLY: &str = "01000000010000000000000009";
const GOLDEN_QUERY_VERSION: &str = "020000000100010000000000000070";
const GOLDEN_DURABLE: &str =
    "00000000000000001111111111111111111111111111111133333333333333333333333333333333080000000400000000000000";
const GOLDEN_PUSH_EXPECT: &str =
    "000000000100000011111111111111111111111111111111080000000500000000000000efbeadde4d00000000000000";
