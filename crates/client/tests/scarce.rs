//! What holds when the process may open no more files. Alone in its file: the limit is the whole process's.
#![allow(clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shellkeep::keeper::core::{Extent, KeeperCore, Output, SpoolView as _};
use shellkeep::keeper::disk::Plan;
use shellkeep::keeper::spool::{Spool, encode_attrs};
use shellkeep_journal::{Identity, RecordKind, Seq};
use shellkeep_protocol::attach::WhenFull;
use shellkeep_protocol::ids::{SessionId, StoreId, WriterId};
use shellkeep_protocol::resume::Retained as _;
use shellkeep_protocol::session::{Attrs, Welcome};

/// Lets no more files be opened until the guard goes.
struct NoDescriptors(Rlimit);

impl NoDescriptors {
    fn begin() -> Self {
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..before }).expect("limited");
        assert!(std::fs::File::open("/dev/null").is_err());
        Self(before)
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).expect("as before");
    }
}

#[test]
fn records_that_cannot_be_read_for_want_of_descriptors_are_sent_later_and_not_called_lost() {
    let spools = tempfile::tempdir().expect("a directory");
    let session = SessionId::new();
    let writer = WriterId::random().expect("random");
    let identity = Identity {
        session: *session.as_bytes(),
        store: [0; 16],
        writer: *writer.as_bytes(),
        epoch: 0,
        attrs: encode_attrs(session, &Attrs::default()),
    };
    let plan = Plan { spools: spools.path().to_owned(), identity, bytes_max: 1 << 30 };
    let spool = Spool::new(Some(plan), WhenFull::Gap);
    for _ in 0..100 {
        spool.append(RecordKind::Output, b"a line\n");
    }
    let mut core = KeeperCore::new(session, writer);
    let store = StoreId::random().expect("random");
    let welcome = Welcome { store, epoch: 1, end: spool.first(), durable_seq: 0, window_bytes: 1 << 20 };
    let begun = Instant::now();
    let limit = NoDescriptors::begin();
    assert_eq!(spool.extent(Seq::FIRST, 1 << 20), Extent::Unreadable);
    assert_eq!(core.welcomed(1, &welcome, &spool, begun), []);
    let again = core.wake_at().expect("it will look again");
    assert!(again > begun && again <= begun + Duration::from_secs(2));
    assert_eq!(core.tick(&spool, again), []);
    drop(limit);
    let sent = core.tick(&spool, core.wake_at().expect("it will look again"));
    let [Output::Append { from: Seq::FIRST, to, .. }] = sent[..] else { panic!("{sent:?}") };
    assert_eq!(to, spool.end().next_seq);
}
