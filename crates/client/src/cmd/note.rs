//! Commands that were run for a session from outside of its terminal, noted in its record.
//!
//! Promise: what is noted is in the daemon's record when [`ran`] returns, if the daemon takes records and is quick; nothing that goes wrong
//! here changes what the command did. The session's keeper alone numbers records, so it is the one that is asked.

use std::time::{Duration, Instant};

use shellkeep_journal::Seq;
use shellkeep_protocol::annotation::{Annotation, Run};
use shellkeep_protocol::attach::{ATTACH_VERSION_NOTES, FromKeeper, FromTerminal};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{Query, Reply};

use super::start;
use crate::daemon_link::DaemonLink;
use crate::keeper::spool::now_us;
use crate::keepers::{self, Keeper};
use crate::link::LinkError;
use crate::palette::line::quoted;
use crate::places::Places;

/// How long the daemon may take to have what the keeper has noted, and how often it is asked. Then it comes later.
const RECORDED_WAIT_MAX: Duration = Duration::from_millis(500);
const RECORDED_LOOK_EVERY: Duration = Duration::from_millis(5);

/// A command that runs for a session whose shell does not tell of it.
#[derive(Debug)]
pub(super) struct Outside {
    session: SessionId,
    line: String,
    started_at_us: u64,
}

/// What became of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is recorded, or the session has ended or is paused, and wants none.
    Yes,
    /// The keeper is of a version that takes none.
    TooOld,
    /// The keeper did not answer.
    Failed,
}

impl Outside {
    /// Begins now. `None` for nobody's command, and for what is typed in the session itself: its shell marks that.
    pub(super) fn begin(places: &Places, session: Option<SessionId>, name: &str, args: &[String]) -> Option<Self> {
        let session = session.filter(|session| start::is_inside(places) != Some(*session))?;
        Some(Self::called(session, name, args))
    }

    /// The same for an agent, which shows what it calls nowhere, wherever it runs.
    pub(super) fn called(session: SessionId, name: &str, args: &[String]) -> Self {
        let words = std::iter::once(name).chain(args.iter().map(String::as_str));
        let line = words.fold("shellkeep run".to_owned(), |line, word| line + " " + &quoted(word));
        Self { session, line, started_at_us: now_us() }
    }

    /// It has ended, with this status if it came to one.
    pub(super) fn ended(self, places: &Places, link: &DaemonLink, exit: Option<u8>) -> Noted {
        let Some(keeper) = keepers::by_id(places, self.session) else { return Noted::Yes };
        let run = Run { line: self.line, cwd: keeper.info.cwd.clone(), started_at_us: self.started_at_us, exit };
        let Ok((noted, seq)) = note(&keeper, &Annotation::Run(run)) else { return Noted::Failed };
        if let Some(seq) = seq {
            wait_for(link, self.session, Seq::new(seq));
        }
        noted
    }
}

/// Until the daemon has this record, so far as that is soon: who looks next shall find it. Readers are shown nothing of it, so there is
/// nothing to wait for but the place behind it.
fn wait_for(link: &DaemonLink, session: SessionId, from: Seq) {
    let until = Instant::now() + RECORDED_WAIT_MAX;
    let read = Query::Read { session, from, bytes_max: 1, wait_ms: 0 };
    while Instant::now() < until {
        match link.ask_within(&read, RECORDED_WAIT_MAX) {
            Ok(Reply::Chunk(chunk)) if chunk.next <= from && !chunk.is_last => {}
            _ => return,
        }
        std::thread::sleep(RECORDED_LOOK_EVERY);
    }
}

/// What became of it, and the record's number if there is one.
fn note(keeper: &Keeper, annotation: &Annotation) -> Result<(Noted, Option<u64>), LinkError> {
    let (sender, mut receiver) = keepers::dial(&keeper.socket)?;
    if receiver.hello()? < ATTACH_VERSION_NOTES {
        return Ok((Noted::TooOld, None));
    }
    sender.to_keeper(&FromTerminal::Note(&annotation.to_payload()), &[])?;
    match receiver.from_keeper()? {
        FromKeeper::Noted { seq } => Ok((Noted::Yes, seq)),
        other => Err(LinkError::Foreign(format!("an answer to another question: {other:?}"))),
    }
}
