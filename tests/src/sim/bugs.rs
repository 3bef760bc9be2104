//! Mistakes that a careless build would make, planted one at a time: the simulation must find each.

use std::collections::BTreeMap;

use shellkeep_journal::Seq;
use shellkeep_protocol::ids::{SessionId, WriterId};

/// What is done wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Nothing: the promises must hold.
    None,
    /// The keeper forgets records when they are written instead of when they are durable.
    TrimOnWritten,
    /// The daemon knows from a table in memory what it already has.
    DedupeInMemory,
    /// The daemon takes appends of any epoch.
    NoFencing,
    /// Lost records are skipped without saying so in the log.
    SilentGap,
    /// The daemon writes whatever arrives at its end, whatever the number and the proof.
    BlindAppend,
    /// Who owns a session is kept beside the log, and not synced with it.
    OwnerInSecondFile,
    /// A failed sync is known only to the daemon that saw it.
    ForgetfulSync,
}

/// All planted bugs.
pub const BUGS: [Bug; 7] = [
    Bug::TrimOnWritten,
    Bug::DedupeInMemory,
    Bug::NoFencing,
    Bug::SilentGap,
    Bug::BlindAppend,
    Bug::OwnerInSecondFile,
    Bug::ForgetfulSync,
];

impl Bug {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::TrimOnWritten => "trim-on-written",
            Self::DedupeInMemory => "dedupe-in-memory",
            Self::NoFencing => "no-fencing",
            Self::SilentGap => "silent-gap",
            Self::BlindAppend => "blind-append",
            Self::OwnerInSecondFile => "owner-in-second-file",
            Self::ForgetfulSync => "forgetful-sync",
        }
    }

    /// The bug of this name.
    pub fn named(name: &str) -> Option<Self> {
        BUGS.into_iter().chain([Self::None]).find(|bug| bug.name() == name)
    }
}

/// State that only a planted bug keeps.
#[derive(Debug, Default)]
pub(super) struct Planted {
    /// `DedupeInMemory`: next number per session, as this life of the daemon has seen it.
    pub(super) seen: BTreeMap<SessionId, Seq>,
    /// `OwnerInSecondFile`: the file, and what of it is on the medium.
    pub(super) owners: BTreeMap<SessionId, WriterId>,
}

impl Planted {
    pub(super) fn daemon_died(&mut self) {
        self.seen.clear();
    }

    pub(super) fn power_loss(&mut self) {
        self.owners.clear();
    }
}
