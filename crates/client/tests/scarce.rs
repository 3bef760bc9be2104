//! What holds when the process may open no more files. Alone in its file: the limit is the whole process's.
#![allow(clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::path::Path;
use std::sync::{Mutex, PoisonError};
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

/// One test at a time: the limit is everybody's.
static ALONE: Mutex<()> = Mutex::new(());

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

fn spool(spools: &Path) -> (Spool, SessionId, WriterId) {
    let session = SessionId::new();
    let writer = WriterId::random().expect("random");
    let identity = Identity {
        session: *session.as_bytes(),
        store: [0; 16],
        writer: *writer.as_bytes(),
        epoch: 0,
        attrs: encode_attrs(session, &Attrs::default()),
    };
    let plan = Plan { spools: spools.to_owned(), identity, bytes_max: 1 << 30 };
    (Spool::new(Some(plan), WhenFull::Gap), session, writer)
}

/// The disk takes nothing for a while, and the log takes what waits in memory: numbers go on from there all the same.
#[test]
fn numbers_never_go_back_when_the_disk_takes_records_again() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let spools = tempfile::tempdir().expect("a directory");
    let (spool, ..) = spool(spools.path());
    let chunk = vec![b'x'; 100 << 10];
    let mut count = 0;
    let mut append = |spool: &Spool| {
        let before = spool.append(RecordKind::Output, &chunk);
        count += 1;
        assert_eq!((before.next_seq.get(), before.output_offset), (count, (count - 1) * chunk.len() as u64));
    };
    append(&spool);
    let limit = NoDescriptors::begin();
    while !spool.is_in_memory() {
        append(&spool); // until a segment is full and none can be begun
    }
    append(&spool);
    spool.trim(spool.end().next_seq);
    assert!(!spool.is_in_memory());
    drop(limit);
    for _ in 0..3 {
        append(&spool);
    }
    let Extent::Records { to, .. } = spool.extent(Seq::new(count - 2), 1 << 20) else { panic!("they are there") };
    assert_eq!(to, spool.end());
}

#[test]
fn records_that_cannot_be_read_for_want_of_descriptors_are_sent_later_and_not_called_lost() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let spools = tempfile::tempdir().expect("a directory");
    let (spool, session, writer) = spool(spools.path());
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
