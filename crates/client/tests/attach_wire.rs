//! The attach conversation's bytes: keepers live for months, so what they were born with must stay understood.

#![allow(clippy::expect_used, clippy::panic)]

use shellkeep::link::frame;
use shellkeep_protocol::attach::{
    Attach, CommandSignal, FromKeeper, FromTerminal, Hello, Recording, ResumeAt, Screen, Size, exit_from_payload,
    exit_payload,
};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::session::ExitStatus;

fn hex<M: serde::Serialize>(message: &M) -> String {
    let mut bytes = Vec::new();
    frame(message, &mut bytes).expect("it fits into a frame");
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn the_first_words_of_version_1_never_change() {
    let attach = Attach {
        size: Some(Size { cols: 80, rows: 24, x_pixels: 0, y_pixels: 0 }),
        tty: true,
        ssh_auth_sock: serde_bytes::ByteBuf::from(b"/a".to_vec()),
        patience_ms: Some(10_000),
    };
    assert_eq!(hex(&Hello::OURS), "08000000534b617401000300");
    assert_eq!(hex(&FromTerminal::Info), "0400000000000000");
    assert_eq!(
        hex(&FromTerminal::Attach(attach)),
        "1d000000010000000150001800000000000102000000000000002f610110270000"
    );
    assert_eq!(hex(&FromTerminal::Detach), "0400000009000000");
    assert_eq!(hex(&FromTerminal::DetachAll), "040000000a000000");
    assert_eq!(hex(&FromTerminal::Kill), "040000000b000000");
    assert_eq!(hex(&FromTerminal::Poke), "040000000c000000");
    assert_eq!(hex(&FromTerminal::Record(Recording::Paused)), "080000000d00000000000000");
    assert_eq!(hex(&FromKeeper::Recording(Recording::On)), "080000000d00000001000000");
}

#[test]
fn what_is_said_while_attached_keeps_its_bytes() {
    assert_eq!(hex(&FromTerminal::Input(b"hi")), "0e0000000400000002000000000000006869");
    assert_eq!(hex(&FromTerminal::EndOfInput), "0400000005000000");
    assert_eq!(hex(&FromTerminal::Signal(CommandSignal::Terminate)), "080000000600000001000000");
    assert_eq!(hex(&FromTerminal::Pause), "0400000007000000");
    let size = Size { cols: 1, rows: 2, x_pixels: 3, y_pixels: 4 };
    assert_eq!(hex(&FromTerminal::Resume(size)), "0c000000080000000100020003000400");
    assert_eq!(hex(&FromTerminal::Resize(size)), "0c000000030000000100020003000400");
    let session = SessionId::from_bytes([5; 16]);
    let attached = FromKeeper::Attached { session, name: Some("n".to_owned()), direct_input: true };
    assert_eq!(
        hex(&attached),
        "1f0000000100000005050505050505050505050505050505010100000000000000 6e01".replace(' ', "")
    );
    assert_eq!(hex(&FromKeeper::Output(b"o")), "0d0000000500000001000000000000006f");
    assert_eq!(hex(&FromKeeper::Paused), "0400000006000000");
    assert_eq!(hex(&FromKeeper::Released), "0400000007000000");
    assert_eq!(hex(&FromKeeper::Ended(ExitStatus::Signal(9))), "09000000090000000100000009");
    assert_eq!(hex(&FromKeeper::Killed(ExitStatus::Code(0))), "090000000a0000000000000000");
}

#[test]
fn what_version_2_added_keeps_its_bytes() {
    let size = Size { cols: 1, rows: 2, x_pixels: 3, y_pixels: 4 };
    let screen = Screen { offset: 5, is_exact: true, bytes: b"hi" };
    assert_eq!(hex(&FromTerminal::Where), "040000000e000000");
    assert_eq!(hex(&FromTerminal::ResumeAt(ResumeAt { size, screen: None })), "0d0000000f000000010002000300040000");
    assert_eq!(
        hex(&FromTerminal::ResumeAt(ResumeAt { size, screen: Some(screen) })),
        "200000000f000000010002000300040001050000000000000001020000000000000068 69".replace(' ', "")
    );
    assert_eq!(hex(&FromKeeper::At { offset: Some(7) }), "0d0000000e000000010700000000000000");
    assert_eq!(hex(&FromKeeper::At { offset: None }), "050000000e00000000");
    assert_eq!(hex(&FromKeeper::Behind), "040000000f000000");
}

#[test]
fn what_version_3_added_keeps_its_bytes() {
    assert_eq!(hex(&FromTerminal::Note(b"{}")), "0e0000001000000002000000000000007b7d");
    assert_eq!(hex(&FromKeeper::Noted { seq: Some(9) }), "0d00000010000000010900000000000000");
    assert_eq!(hex(&FromKeeper::Noted { seq: None }), "050000001000000000");
}

#[test]
fn payloads_of_records_keep_their_bytes() {
    let size = Size { cols: 0x0102, rows: 3, x_pixels: 4, y_pixels: 5 };
    assert_eq!(size.to_payload(), [2, 1, 3, 0, 4, 0, 5, 0]);
    assert_eq!(Size::from_payload(&size.to_payload()), Some(size));
    assert_eq!(Size::from_payload(&[0; 7]), None);
    for exit in [ExitStatus::Code(7), ExitStatus::Signal(15)] {
        assert_eq!(exit_from_payload(&exit_payload(exit)), Some(exit));
    }
    for recording in [Recording::On, Recording::Paused] {
        assert_eq!(Recording::from_payload(&recording.to_payload()), Some(recording));
    }
    assert_eq!((Recording::Paused.to_payload(), Recording::from_payload(&[9])), ([1], None));
    assert_eq!((exit_payload(ExitStatus::Code(7)), exit_from_payload(&[2, 0])), ([0, 7], None));
}
