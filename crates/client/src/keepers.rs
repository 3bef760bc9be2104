//! The living keepers of this user, found through their attach sockets alone.
//!
//! Promises to work without a daemon, never to wait longer than `ANSWER_WAIT_MAX` for one keeper, and to talk to
//! keepers of this user only. Knows how sessions are named by users.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shellkeep_protocol::attach::{FromKeeper, FromTerminal, Info};
use shellkeep_protocol::ids::SessionId;

use shellkeep_transport::socket::{own_uid, remove_dead};

use crate::link::{self, LinkError, Receiver, Sender};
use crate::names::{SessionRef, is_part};
use crate::places::{Places, keeper_socket_name};
use crate::report::Failure;

/// How long a keeper may take to say who it is. A longer one is stopped or stuck, and is passed over.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);

/// A keeper that answered.
#[derive(Debug)]
pub struct Keeper {
    /// Its attach socket.
    pub socket: PathBuf,
    /// What it said.
    pub info: Info,
}

/// Connects to the keeper at `socket` and greets it, both ways in one round trip with the first request.
///
/// # Errors
/// See [`LinkError`]; also when another user's process listens there.
pub fn dial(socket: &Path) -> Result<(Sender, Receiver), LinkError> {
    let stream: UnixStream = shellkeep_transport::socket::connect(socket, own_uid())
        .map_err(|error| LinkError::Io(std::io::Error::other(error.to_string())))?;
    stream.set_nonblocking(false)?;
    let (sender, receiver) = link::split(stream);
    receiver.set_wait(Some(ANSWER_WAIT_MAX))?;
    sender.set_wait(Some(ANSWER_WAIT_MAX))?;
    sender.hello()?;
    Ok((sender, receiver))
}

/// Asks the keeper at `socket` who it is.
///
/// # Errors
/// See [`LinkError`].
pub fn info(socket: &Path) -> Result<Info, LinkError> {
    let (sender, mut receiver) = dial(socket)?;
    sender.to_keeper(&FromTerminal::Info, &[])?;
    receiver.hello()?;
    match receiver.from_keeper()? {
        FromKeeper::Info(info) => Ok(*info),
        other => Err(LinkError::Foreign(format!("an answer to another question: {other:?}"))),
    }
}

/// Keepers of commands that run, newest first.
pub fn running(places: &Places) -> Vec<Keeper> {
    let mut found = all(places);
    found.retain(|keeper| keeper.info.exit.is_none());
    found
}

/// All keepers that answer, newest first: also those whose command has just ended.
pub fn all(places: &Places) -> Vec<Keeper> {
    let mut found: Vec<Keeper> = places
        .keeper_directories()
        .iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flatten()
        .flatten()
        .filter(|entry| session_of(&entry.path()).is_some())
        .filter_map(|entry| {
            let socket = entry.path();
            info(&socket).ok().map(|info| Keeper { socket, info })
        })
        .collect();
    // Ids begin with the time of birth.
    found.sort_by_key(|keeper| std::cmp::Reverse(keeper.info.session));
    found.dedup_by_key(|keeper| keeper.info.session);
    found
}

/// What the keeper of `session` says, if there is one that answers.
pub fn of(places: &Places, session: SessionId) -> Option<Info> {
    let name = keeper_socket_name(session);
    places.keeper_directories().iter().find_map(|directory| info(&directory.join(&name)).ok())
}

/// Tells every keeper that a daemon has come up, so that none waits for its next try. What killed keepers and daemons
/// have left behind in their sockets' directories goes.
pub fn poke(places: &Places) {
    let entries = |directory: &Path| std::fs::read_dir(directory).into_iter().flatten().flatten();
    for directory in places.keeper_directories() {
        for socket in entries(&directory).map(|entry| entry.path()) {
            let is_attach_socket = session_of(&socket).is_some();
            let poked = is_attach_socket
                .then(|| dial(&socket).and_then(|(sender, _)| sender.to_keeper(&FromTerminal::Poke, &[])));
            if let Some(Err(error)) = &poked {
                tracing::debug!(socket = %socket.display(), %error, "a keeper could not be poked");
            }
            if !matches!(poked, Some(Ok(()))) {
                remove_dead(&socket);
            }
        }
        for entry in directory.parent().into_iter().flat_map(entries) {
            remove_dead(&entry.path());
        }
    }
}

/// The session whose attach socket this would be.
fn session_of(socket: &Path) -> Option<SessionId> {
    socket.file_name()?.to_str()?.strip_suffix(".sock")?.parse().ok()
}

/// The one running session that is meant; without a name the one around us.
///
/// # Errors
/// A [`Failure`] that says what was looked for, and what there is to choose from.
pub fn find(places: &Places, wanted: Option<&SessionRef>) -> Result<Keeper, Failure> {
    match wanted {
        Some(SessionRef::Id(id)) => by_id(places, *id).ok_or_else(|| unknown(&id.to_string())),
        Some(SessionRef::Last) => {
            running(places).into_iter().next().ok_or_else(|| Failure::refused("no session is running"))
        }
        Some(SessionRef::NameOrPart(text)) => by_text(places, text),
        None => match around_us() {
            Some(id) => by_id(places, id).ok_or_else(|| unknown(&id.to_string())),
            None => only_one(places),
        },
    }
}

/// The session that this process runs in, if its keeper's word is to be believed by the environment.
pub fn around_us() -> Option<SessionId> {
    std::env::var("SHELLKEEP_SESSION").ok()?.parse().ok()
}

/// The running session with this id.
pub fn by_id(places: &Places, id: SessionId) -> Option<Keeper> {
    let name = keeper_socket_name(id);
    places.keeper_directories().iter().find_map(|directory| {
        let socket = directory.join(&name);
        let info = info(&socket).ok()?;
        (info.session == id && info.exit.is_none()).then_some(Keeper { socket, info })
    })
}

fn by_text(places: &Places, text: &str) -> Result<Keeper, Failure> {
    let mut all = running(places);
    if let Some(at) = all.iter().position(|keeper| keeper.info.name.as_deref() == Some(text)) {
        return Ok(all.swap_remove(at));
    }
    all.retain(|keeper| is_part(keeper.info.session, text));
    match (all.pop(), all.len()) {
        (Some(keeper), 0) => Ok(keeper),
        (Some(_), others) => {
            Err(Failure::refused(format_args!("{text} is a part of {} running sessions' ids", others + 1))
                .with_hint("give more of the id; \"shellkeep ls\" shows ends that tell them apart"))
        }
        (None, _) => Err(unknown(text)),
    }
}

fn only_one(places: &Places) -> Result<Keeper, Failure> {
    let mut all = running(places);
    match (all.pop(), all.len()) {
        (Some(keeper), 0) => Ok(keeper),
        (Some(_), others) => Err(Failure::refused(format_args!("{} sessions are running", others + 1))
            .with_hint("name one, or say \"last\"")),
        (None, _) => Err(Failure::refused("no session is running")),
    }
}

fn unknown(text: &str) -> Failure {
    Failure::refused(format_args!("no running session is called {text}")).with_hint(
        "\"shellkeep ls\" shows the running sessions; those that have ended are in \"ls --all\", for output and replay",
    )
}
