//! What the keeper's sending side decides, over a spool of which only the places count.
#![allow(clippy::panic)] // a test fails by panicking

use std::time::Instant;

use shellkeep::keeper::core::{Extent, KeeperCore, Output, SpoolView};
use shellkeep_journal::{Chain, Position, Seq};
use shellkeep_protocol::ids::{SessionId, StoreId, WriterId};
use shellkeep_protocol::resume::Retained;
use shellkeep_protocol::session::{GapReason, SessionResponse, Welcome};

/// Records 1 to `end`, of which those from `lost.0` up to `lost.1` are no more.
struct Places {
    end: u64,
    lost: Option<(u64, u64)>,
}

fn place(seq: u64) -> Position {
    let chain = Chain::new(u32::try_from(seq * 7).unwrap_or(0));
    Position { next_seq: Seq::new(seq), chain, output_offset: seq * 10 }
}

impl Retained for Places {
    fn first(&self) -> Position {
        place(1)
    }

    fn end(&self) -> Position {
        place(self.end)
    }

    fn chain_before(&self, seq: Seq) -> Option<Chain> {
        let is_lost = self.lost.is_some_and(|(from, to)| seq.get() > from && seq.get() < to);
        (!is_lost).then(|| place(seq.get()).chain)
    }
}

impl SpoolView for Places {
    fn extent(&self, from: Seq, _: u32) -> Extent {
        match self.lost {
            Some((lost, to)) if (lost..to).contains(&from.get()) => {
                Extent::Hole { to: place(to), reason: GapReason::SpoolFull }
            }
            Some((lost, _)) if from.get() < lost => Extent::Records { to: place(lost), bytes: 1 },
            _ => Extent::Records { to: self.end(), bytes: 1 },
        }
    }
}

fn welcome(end: Position) -> Welcome {
    Welcome { store: StoreId::from_bytes([1; 16]), epoch: 1, end, durable_seq: 0, window_bytes: 1 << 20 }
}

/// A full disk: the log has what was sent, and then the spool loses it and much behind it. What was sent proves the log's end.
#[test]
fn a_log_that_ends_where_the_spool_has_a_hole_by_now_goes_on_behind_it_in_the_same_session() {
    let now = Instant::now();
    for (at, is_ours) in
        [(place(101), true), (place(102), false), (Position { chain: Chain::new(1), ..place(101) }, false)]
    {
        let mut core = KeeperCore::new(SessionId::new(), WriterId::from_bytes([2; 16]));
        let before = Places { end: 101, lost: None };
        let sent = core.welcomed(1, &welcome(place(1)), &before, now);
        assert!(matches!(sent[..], [Output::Append { .. }]), "{sent:?}");
        core.answered(1, &SessionResponse::Written { next_seq: Seq::new(101) }, &before, now);
        core.lost(1);
        let after = Places { end: 301, lost: Some((51, 201)) };
        let sent = core.welcomed(2, &welcome(at), &after, now);
        if is_ours {
            let [Output::Gap { from, to_before, .. }, Output::Append { from: next, to, .. }] = sent[..] else {
                panic!("{sent:?}")
            };
            assert_eq!((from.get(), to_before, next.get(), to.get()), (101, place(201), 201, 301));
        } else {
            assert_eq!(sent, [Output::Fork]);
        }
    }
}
