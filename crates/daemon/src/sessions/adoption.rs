//! Finds the spools of dead keepers and takes them over: at the start, when a keeper's connection ends, before anybody
//! lists sessions, and every second only while a spool has no connection.
//!
//! Promise: a spool whose lock is held is never touched; a spool goes only when the log has all of it durable; a bad
//! one is left where it is and told of, and the others are adopted all the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use shellkeep_journal::hook::{self, Point};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::Failure;
use shellkeep_transport::socket::remove_dead;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::adopt::{Adoption, adopt};
use super::core::ConnectionId;
use super::manager::SessionManager;
use super::spool::{self, Found, FreeSpool, OpenSpool, SpoolState};
use super::store::Store;

/// How often spools are looked at while one of them has no connection.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks more for somebody who waits, and the pause before each.
const LOOKS_AGAIN_MAX: u32 = 10;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Adopted spools have no connection; their starts are numbered from here, far above any server's.
const ADOPTER: ConnectionId = ConnectionId(u64::MAX);

enum Ask {
    Look(Option<oneshot::Sender<()>>),
    Remove(SessionId, oneshot::Sender<Result<u64, Failure>>),
    Stop,
}

/// Asks for adoption. Cheap to clone.
#[derive(Clone)]
pub struct Adopter {
    asks: Sender<Ask>,
}

impl Adopter {
    /// Starts the thread that looks, and looks at once.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(store: Store, spools: PathBuf, keepers: Vec<PathBuf>) -> std::io::Result<Self> {
        let (asks, inbox) = channel();
        let places = Places { spools, keepers };
        std::thread::Builder::new().name("adoption".into()).spawn(move || run(&store, &places, &inbox))?;
        Ok(Self { asks })
    }

    /// A keeper's connection has ended: it may be dead.
    pub fn look(&self) {
        let _ = self.asks.send(Ask::Look(None));
    }

    /// Looks now and resolves when all free spools are adopted, or could not be.
    pub async fn looked(&self) {
        let (done, is_done) = oneshot::channel();
        let _ = self.asks.send(Ask::Look(Some(done)));
        let _ = is_done.await;
    }

    /// Removes the record of an ended session, with what a dead keeper of it has left: otherwise that would be adopted
    /// later, and the session would be back. Returns the bytes freed.
    ///
    /// # Errors
    /// [`Failure::StillRunning`]; what cannot be removed, and why.
    pub async fn remove(&self, session: SessionId) -> Result<u64, Failure> {
        let (done, removed) = oneshot::channel();
        let _ = self.asks.send(Ask::Remove(session, done));
        removed.await.unwrap_or_else(|_| Err(Failure::Invalid { why: "the daemon is ending".into() }))
    }

    /// Ends the thread.
    pub fn stop(&self) {
        let _ = self.asks.send(Ask::Stop);
    }
}

/// Where keepers have what a dead one leaves.
struct Places {
    spools: PathBuf,
    /// Directories of attach sockets.
    keepers: Vec<PathBuf>,
}

fn run(store: &Store, places: &Places, inbox: &Receiver<Ask>) {
    let mut told = BTreeSet::new();
    let mut unconnected = look(store, places, &mut told);
    loop {
        let ask = if unconnected {
            inbox.recv_timeout(LOOK_EVERY)
        } else {
            inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        let done = match ask {
            Ok(Ask::Look(done)) => done,
            Ok(Ask::Remove(session, done)) => {
                let _ = done.send(remove(store, &places.spools, session));
                continue;
            }
            Err(RecvTimeoutError::Timeout) => None,
            Ok(Ask::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        };
        unconnected = look(store, places, &mut told);
        if let Some(done) = done {
            // A keeper that is just ending, or just dialing: worth a moment, because somebody wants the whole picture.
            for _ in 0..LOOKS_AGAIN_MAX {
                if !unconnected {
                    break;
                }
                std::thread::sleep(LOOK_AGAIN_AFTER);
                unconnected = look(store, places, &mut told);
            }
            let _ = done.send(());
        }
    }
}

/// Looks at each spool once; true if one of them has no connection. `told` keeps complaints from being repeated.
fn look(store: &Store, places: &Places, told: &mut BTreeSet<PathBuf>) -> bool {
    let Ok(entries) = std::fs::read_dir(&places.spools) else { return false };
    let mut unconnected = false;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(session) = name.to_str().and_then(|name| SessionId::from_str(name).ok()) else { continue };
        match OpenSpool::open(&entry.path(), session) {
            SpoolState::Held => unconnected |= !is_connected(store, session),
            SpoolState::Gone => {}
            SpoolState::Bad(why) => {
                if told.insert(entry.path()) {
                    warn!(spool = %entry.path().display(), %why, "a spool cannot be adopted and is left as it is");
                }
            }
            SpoolState::Free(spool) => unconnected |= !adopt_one(store, *spool, &places.keepers),
        }
    }
    unconnected
}

fn is_connected(store: &Store, session: SessionId) -> bool {
    store
        .run(move |manager| manager.get(session).is_some_and(|open| open.core().connection().is_some()))
        .unwrap_or(false)
}

/// The spool first: after a crash between the two a log without its spool is still there to be removed, but a spool
/// without its log would bring the session back.
fn remove(store: &Store, spools: &Path, session: SessionId) -> Result<u64, Failure> {
    let mut found = spool::of(spools, session);
    for _ in 0..LOOKS_AGAIN_MAX {
        if !matches!(found, Found::Held) {
            break;
        }
        std::thread::sleep(LOOK_AGAIN_AFTER); // whoever only looks holds the lock for a moment
        found = spool::of(spools, session);
    }
    let spool = match found {
        Found::Held => return Err(Failure::StillRunning),
        Found::None => None,
        Found::Free(spool) => Some(spool),
    };
    let removed = store.run(move |manager| {
        if manager.get(session).is_some_and(|open| open.core().connection().is_some()) {
            return Err(Failure::StillRunning);
        }
        let freed_spool = spool.map(FreeSpool::remove).transpose()?;
        manager.forget(session);
        match (manager.logs().remove(session), freed_spool) {
            (Err(Failure::UnknownSession), Some(freed)) => Ok(freed), // nothing of it had reached a log
            (removed, freed) => Ok(removed? + freed.unwrap_or(0)),
        }
    });
    removed.unwrap_or_else(|| Err(Failure::Invalid { why: "the daemon is ending".into() }))
}

/// True when the spool is gone: the log has everything.
fn adopt_one(store: &Store, spool: OpenSpool, keepers: &[PathBuf]) -> bool {
    let session = spool.session();
    let outcome = store.run(move |manager| {
        let mut spool = spool;
        let adopted = manager.adopt(&mut spool);
        if !adopted {
            return Ok(false);
        }
        hook::pause(Point::DaemonAdopted);
        spool.remove().map(|()| true)
    });
    match outcome {
        Some(Ok(adopted)) => {
            if adopted {
                info!(%session, "adopted what a dead keeper had left");
                for directory in keepers {
                    remove_dead(&directory.join(format!("{session}.sock"))); // nobody will bind it again
                }
            }
            adopted
        }
        Some(Err(error)) => {
            warn!(%session, %error, "adopted, but the spool cannot be removed; it will be adopted again, adding nothing");
            false
        }
        None => false,
    }
}

impl SessionManager {
    /// Brings an abandoned spool into its log and syncs it. True when the log has all of it, durable.
    pub fn adopt(&mut self, spool: &mut OpenSpool) -> bool {
        let (now, time_us) = crate::clocks();
        // Twice at the most: the second time in a new session, because the log has other records.
        for _ in 0..2 {
            let start = spool.start();
            let id = start.session;
            let Ok(session) = self.open(&start, now) else { return false };
            if session.core().connection().is_some_and(|held| held != ADOPTER) {
                return false; // a connection is still open; its end comes first
            }
            let adoption = adopt(session, spool, ADOPTER, &start, spool.gap_reason(), (now, time_us));
            session.disconnected(ADOPTER);
            self.mark(id);
            if self.lost_log(id) {
                return false; // the next look finds what is there, or makes it
            }
            match adoption {
                Adoption::Conflict => spool.fork(),
                Adoption::Later(response) => {
                    info!(session = %id, ?response, "a spool is adopted later");
                    return false;
                }
                Adoption::Done => return self.sync_now(id),
            }
        }
        false
    }

    /// Syncs one session here and now; true when everything written is durable.
    pub(crate) fn sync_now(&mut self, id: SessionId) -> bool {
        let Some(session) = self.get_mut(id) else { return false };
        if session.sync_due().is_some() {
            let ticket = session.sync_begin();
            let result = session.log().sync_job().sync();
            session.log_mut().note(&result);
            session.sync_end(ticket, result.ok, std::time::Instant::now());
            self.seal(id);
        }
        let Some(session) = self.get(id) else { return false };
        let clean = session.core().is_clean();
        self.mark(id);
        clean && !self.lost_log(id)
    }
}
