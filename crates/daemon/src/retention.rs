//! What is removed because it is too much or too old. Pruned is no gap.
//!
//! A session's own share is looked at after each sync, all sessions at the daemon's start, once an hour, whenever a
//! good part of the total was written since, and soon again when too much was left: what is not durable yet
//! stays. Whole segments go from the front of running sessions, and ended sessions go as a whole, the oldest first; what
//! lies beside logs and spools is swept.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use shellkeep_journal::{POSITION_MAX, Seq};
use shellkeep_protocol::ids::SessionId;
use tracing::{info, warn};

use crate::Retention;
use crate::sessions::aside;
use crate::sessions::logs::Logs;
use crate::sessions::manager::SessionManager;
use crate::sessions::spool::{self, OpenSpool, SpoolState};
use crate::sessions::store::Store;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// How long after a look that left too much, since it was not durable yet, the next one is. Doubles up to `LOOK_EVERY`.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// So many looks are made while as much is written as all sessions may hold: the total is over its limit by a part of this.
const LOOKS_PER_TOTAL: u64 = 64;

/// Fewest bytes that are written between two looks.
const LOOK_BYTES_MIN: u64 = 1 << 20;

/// How long a session without an end must be silent before it counts as lost for good: its keeper may be on a machine
/// that cannot be seen from here.
const LOST_AFTER: Duration = Duration::from_hours(24);

/// Spools that nobody can read; the oldest go first.
const BAD_SPOOLS_MAX: usize = 64;

enum Ask {
    /// Much was written: is it too much by now?
    Grown,
    Stop,
}

/// Prunes until told to stop.
pub(crate) struct Pruner {
    asks: Sender<Ask>,
}

impl Pruner {
    pub(crate) fn start(store: Store, logs: Logs, spools: PathBuf, limits: Retention) -> io::Result<Self> {
        let (asks, inbox) = channel();
        // Bounded in effect: one per so many bytes written, and each look takes all that wait.
        let ask = asks.clone();
        let every = (limits.total_bytes_max / LOOKS_PER_TOTAL).max(LOOK_BYTES_MIN);
        store.with(move |manager| manager.when_grown(every, Box::new(move || drop(ask.send(Ask::Grown)))));
        let prunes = Prunes { store, logs, spools, limits };
        std::thread::Builder::new().name("pruning".into()).spawn(move || prunes.run(&inbox))?;
        Ok(Self { asks })
    }

    pub(crate) fn stop(&self) {
        let _ = self.asks.send(Ask::Stop);
    }
}

struct Prunes {
    store: Store,
    logs: Logs,
    spools: PathBuf,
    limits: Retention,
}

impl Prunes {
    fn run(&self, inbox: &Receiver<Ask>) {
        let mut again = LOOK_AGAIN_AFTER;
        let mut due = Instant::now();
        loop {
            if due <= Instant::now() || !self.is_within_limits() {
                let is_kept = self.look() == 0;
                due = Instant::now() + if is_kept { LOOK_EVERY } else { again };
                again = if is_kept { LOOK_AGAIN_AFTER } else { (again * 2).min(LOOK_EVERY) };
            }
            match inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Ask::Grown) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Ask::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if inbox.try_iter().any(|ask| matches!(ask, Ask::Stop)) {
                return;
            }
        }
    }

    /// By sizes alone, which costs no reading. Every session is held to its own limit when it is synced.
    fn is_within_limits(&self) -> bool {
        let Ok(ids) = self.logs.ids() else { return true };
        ids.into_iter().map(|id| self.logs.bytes_of(id)).sum::<u64>() <= self.limits.total_bytes_max
    }

    /// Returns the bytes that all sessions are over their limit after it.
    fn look(&self) -> u64 {
        let logs = self.logs.directory().to_owned();
        self.store.with(move |_| aside::sweep_logs(&logs));
        aside::sweep_spools(&self.spools);
        self.bound_bad_spools();
        let Ok(mut ids) = self.logs.ids() else { return 0 };
        ids.sort_unstable(); // UUIDv7: oldest first
        for &id in &ids {
            let bytes = self.logs.bytes_of(id);
            if bytes > self.limits.session_bytes_max {
                let over = bytes - self.limits.session_bytes_max;
                self.store.run(move |manager| manager.prune_front(id, over));
            }
        }
        self.prune_ended(&ids);
        self.prune_running(&ids)
    }

    /// Ended sessions that are too old, and then as many more as the total demands.
    fn prune_ended(&self, ids: &[SessionId]) {
        let mut total: u64 = ids.iter().map(|id| self.logs.bytes_of(*id)).sum();
        let (too_old, lost_before) = (before_now(self.limits.age_max), before_now(LOST_AFTER));
        for &id in ids {
            let Some(summary) = self.logs.summary(id) else { continue };
            let is_over = summary.exit.is_some() || summary.last_time_us < lost_before;
            if is_over
                && !spool::is_held(&self.spools, id)
                && (summary.last_time_us < too_old || total > self.limits.total_bytes_max)
            {
                let freed = self.store.run(move |manager| manager.prune_ended(id)).flatten();
                total = total.saturating_sub(freed.unwrap_or(0));
            }
        }
    }

    /// Only running sessions are left: none may have more than its part of the total. Returns what could not be freed.
    fn prune_running(&self, ids: &[SessionId]) -> u64 {
        let sizes: Vec<_> =
            ids.iter().map(|id| (*id, self.logs.bytes_of(*id))).filter(|(_, bytes)| *bytes > 0).collect();
        let total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
        if total <= self.limits.total_bytes_max {
            return 0;
        }
        let part = self.limits.total_bytes_max / sizes.len().max(1) as u64;
        let mut over = total - self.limits.total_bytes_max;
        for (id, bytes) in sizes {
            let goes = bytes.saturating_sub(part).min(over);
            if goes > 0 {
                let freed = self.store.run(move |manager| manager.prune_front(id, goes)).unwrap_or(0);
                over = over.saturating_sub(freed);
            }
        }
        over
    }

    /// A spool that nobody can read is left where it is, but neither for ever nor in any number.
    fn bound_bad_spools(&self) {
        let mut bad = Vec::new();
        for entry in std::fs::read_dir(&self.spools).into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| SessionId::from_str(name).ok()) else { continue };
            if let SpoolState::Bad(_) = OpenSpool::open(&entry.path(), id) {
                bad.push((changed(&entry.path()), id));
            }
        }
        bad.sort_unstable();
        let surplus = bad.len().saturating_sub(BAD_SPOOLS_MAX);
        let too_old = SystemTime::now().checked_sub(self.limits.age_max);
        for (n, (at, id)) in bad.into_iter().enumerate() {
            if n < surplus || too_old.is_some_and(|too_old| at < too_old) {
                match spool::remove_free(&self.spools, id) {
                    Ok(freed) => info!(session = %id, freed, "pruned a spool that nobody can read"),
                    Err(error) => warn!(session = %id, %error, "cannot prune a spool"),
                }
            }
        }
    }
}

fn changed(path: &Path) -> SystemTime {
    std::fs::symlink_metadata(path).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// That long ago, in microseconds since the Unix epoch.
fn before_now(age: Duration) -> u64 {
    crate::now_us().saturating_sub(u64::try_from(age.as_micros()).unwrap_or(u64::MAX))
}

impl SessionManager {
    /// Drops at least `bytes` from the front of a log, in whole segments, as far as they are durable. Returns what was
    /// freed.
    pub(crate) fn prune_front(&mut self, id: SessionId, bytes: u64) -> u64 {
        let was_open = self.get(id).is_some();
        if !was_open && !self.open_to_prune(id) {
            return 0;
        }
        let Some(session) = self.get_mut(id) else { return 0 };
        let durable = session.core().durable_seq();
        let journal = session.log_mut().journal_mut();
        let up_to = journal.front_holding(bytes).get().min(durable);
        let freed = match journal.drop_front(Seq::new(up_to)) {
            Ok(freed) => freed,
            Err(error) => {
                warn!(session = %id, %error, "cannot prune the oldest records of a session");
                0
            }
        };
        if freed > 0 {
            self.watchers().follower().pruned(id);
            info!(session = %id, freed, "pruned the oldest records of a session over its limit");
        }
        if !was_open {
            self.forget(id);
        }
        freed
    }

    /// Opens a session that nobody holds and makes it durable, as dropping from its front demands.
    fn open_to_prune(&mut self, id: SessionId) -> bool {
        // Nobody is there to send anything again: no hole is filled.
        self.open_found(id, Seq::new(POSITION_MAX), Instant::now()) && self.sync_now(id)
    }

    /// Removes a session that has ended. Returns what was freed; `None` if it is still held, or cannot be removed.
    fn prune_ended(&mut self, id: SessionId) -> Option<u64> {
        if self.get(id).is_some_and(|open| open.core().connection().is_some()) {
            return None;
        }
        self.forget(id);
        match self.logs().remove(id) {
            Ok(freed) => {
                self.watchers().follower().forget(id);
                info!(session = %id, freed, "pruned an ended session");
                Some(freed)
            }
            Err(error) => {
                warn!(session = %id, %error, "cannot prune a session");
                None
            }
        }
    }
}
