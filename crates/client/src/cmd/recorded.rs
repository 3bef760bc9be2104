//! Which recorded session is meant: what the daemon has, and what keepers keep that it has not heard of yet.

use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{Query, Reply, SessionInfo, SessionState};

use crate::daemon_link::DaemonLink;
use crate::keepers;
use crate::names::{SessionRef, is_part};
use crate::places::Places;
use crate::report::Failure;

/// All sessions that the daemon has, newest first.
///
/// # Errors
/// If the daemon cannot be had.
pub(crate) fn sessions(link: &DaemonLink, ended: bool) -> Result<Vec<SessionInfo>, Failure> {
    let mut all: Vec<SessionInfo> = Vec::new();
    loop {
        let after = all.last().map(|info| info.session);
        match link.ask(&Query::Sessions { ended, after })? {
            Reply::Sessions(page) if page.is_empty() => return Ok(all),
            Reply::Sessions(page) => all.extend(page),
            _ => return Err(Failure::bug(&"the daemon answered another question")),
        }
    }
}

/// The recorded session that is meant: by id, by name (a running one first, else the newest), by prefix, or the last.
///
/// # Errors
/// If nothing, or more than one session, is meant; or the daemon cannot be had.
pub(crate) fn find(places: &Places, link: &DaemonLink, wanted: Option<&SessionRef>) -> Result<SessionId, Failure> {
    let text = match wanted {
        Some(SessionRef::Id(id)) => return Ok(*id),
        None => match keepers::around_us() {
            Some(id) => return Ok(id),
            None => {
                return Err(Failure::usage("which session?")
                    .with_hint("give a name or an id; \"shellkeep ls --all\" lists them"));
            }
        },
        Some(SessionRef::Last) => None,
        Some(SessionRef::NameOrPart(text)) => Some(text),
    };
    let all = known(places, link)?;
    let Some(text) = text else {
        return all.first().map(|known| known.session).ok_or_else(|| Failure::refused("nothing is recorded yet"));
    };
    let named = |known: &&Known| known.name.as_deref() == Some(text);
    let running = all.iter().filter(named).find(|known| known.is_running);
    if let Some(known) = running.or_else(|| all.iter().find(named)) {
        return Ok(known.session);
    }
    let mut matching = all.iter().filter(|known| is_part(known.session, text));
    match (matching.next(), matching.count()) {
        (Some(known), 0) => Ok(known.session),
        (Some(_), others) => Err(Failure::refused(format_args!("{text} is a part of {} sessions' ids", others + 1))
            .with_hint("give more of the id; \"shellkeep ls --all\" shows ends that tell them apart")),
        (None, _) => Err(Failure::refused(format_args!("no session is called {text}"))
            .with_hint("\"shellkeep ls --all\" lists the recorded ones")),
    }
}

/// Waits until the daemon has what the keeper of `session` has now, or of all sessions; false if that takes too long.
///
/// # Errors
/// If the daemon cannot be had.
pub(crate) fn catch_up(places: &Places, link: &DaemonLink, session: Option<SessionId>) -> Result<bool, Failure> {
    let goals: Vec<(SessionId, u64)> = match session {
        Some(session) => {
            keepers::of(places, session).map(|keeper| (session, keeper.output_bytes)).into_iter().collect()
        }
        None => {
            keepers::all(places).into_iter().map(|keeper| (keeper.info.session, keeper.info.output_bytes)).collect()
        }
    };
    if goals.is_empty() {
        return Ok(true);
    }
    match link.ask(&Query::CatchUp { goals })? {
        Reply::CaughtUp { all } => Ok(all),
        _ => Err(Failure::bug(&"the daemon answered another question")),
    }
}

/// A session that somebody knows of.
struct Known {
    session: SessionId,
    name: Option<String>,
    is_running: bool,
}

/// What the daemon has recorded and what keepers keep, newest first.
fn known(places: &Places, link: &DaemonLink) -> Result<Vec<Known>, Failure> {
    let kept = keepers::all(places).into_iter().map(|keeper| Known {
        session: keeper.info.session,
        name: keeper.info.name,
        is_running: keeper.info.exit.is_none(),
    });
    let mut all: Vec<Known> = kept.collect();
    for info in sessions(link, true)? {
        if !all.iter().any(|known| known.session == info.session) {
            let is_running = info.state == SessionState::Running;
            all.push(Known { session: info.session, name: info.attrs.name, is_running });
        }
    }
    all.sort_by_key(|known| std::cmp::Reverse(known.session));
    Ok(all)
}
