//! What the daemon says to keepers that ask for what it does not give.

use shellkeep_daemon::sessions::core::ConnectionId;
use shellkeep_daemon::sessions::logs::Logs;
use shellkeep_daemon::sessions::manager::{Peer, SessionManager};
use shellkeep_daemon::sessions::syncer::Syncer;
use shellkeep_daemon::sessions::watch::Watchers;
use shellkeep_journal::{Chain, Seq};
use shellkeep_protocol::ids::{SessionId, WriterId};
use shellkeep_protocol::session::{ATTRS_BYTES_MAX, Attrs, SessionPush, SessionRequest, SessionResponse, SessionStart};

struct Nobody;

impl Peer for Nobody {
    fn push(&self, _: SessionPush) -> bool {
        true
    }

    fn close(&self) {}
}

fn start(command: &str) -> SessionRequest {
    SessionRequest::Start(Box::new(SessionStart {
        session: SessionId::new(),
        writer: WriterId::from_bytes([7; 16]),
        epoch_known: 0,
        first_retained: Seq::FIRST,
        chain_before_first: Chain::START,
        next_seq: Seq::FIRST,
        chain_at_end: Chain::START,
        attrs: Attrs { command: vec![command.to_owned()], ..Attrs::default() },
    }))
}

/// Half a page of a log's header must not be able to hold a keeper's whole environment.
#[test]
fn attributes_over_their_limit_are_refused_with_the_reason_and_leave_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let syncer = Syncer::start(|_, _, _| {}, |_, _| {}).unwrap();
    let logs = Logs::real(home.path().to_owned(), 1 << 30);
    let mut manager = SessionManager::new(logs, syncer, Watchers::default());
    let response = manager.execute(ConnectionId(1), Box::new(Nobody), &start(&"x".repeat(ATTRS_BYTES_MAX)));
    let SessionResponse::Invalid { reason } = response else { panic!("{response:?}") };
    assert!(reason.contains("32768"), "{reason}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    let response = manager.execute(ConnectionId(1), Box::new(Nobody), &start(&"x".repeat(ATTRS_BYTES_MAX / 2)));
    assert!(matches!(response, SessionResponse::Welcome(_)), "{response:?}");
}
