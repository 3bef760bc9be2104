//! What is removed because it is too much or too old. Pruned is no gap.
//!
//! Looks at the daemon's start and once an hour; each look takes whole segments of running sessions and whole ended
//! sessions, the oldest first.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use shellkeep_journal::Seq;
use shellkeep_protocol::ids::SessionId;
use tracing::{info, warn};

use crate::Retention;
use crate::sessions::logs::Logs;
use crate::sessions::manager::SessionManager;
use crate::sessions::store::Store;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// Prunes until told to stop.
pub(crate) struct Pruner {
    stop: Sender<()>,
}

impl Pruner {
    pub(crate) fn start(store: Store, logs: Logs, limits: Retention) -> io::Result<Self> {
        let (stop, stopped) = channel();
        std::thread::Builder::new().name("pruning".into()).spawn(move || {
            loop {
                prune(&store, &logs, limits);
                if stopped.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { stop })
    }

    pub(crate) fn stop(&self) {
        let _ = self.stop.send(());
    }
}

fn prune(store: &Store, logs: &Logs, limits: Retention) {
    let Ok(mut ids) = logs.ids() else { return };
    ids.sort_unstable(); // UUIDv7: oldest first
    let mut sizes: Vec<(SessionId, u64)> = ids.into_iter().map(|id| (id, logs.bytes_of(id))).collect();
    for (id, bytes) in &mut sizes {
        if *bytes > limits.session_bytes_max {
            let (session, over) = (*id, *bytes - limits.session_bytes_max);
            store.with(move |manager| manager.prune_front(session, over));
            *bytes = limits.session_bytes_max;
        }
    }
    let mut total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    let age_max_us = u64::try_from(limits.age_max.as_micros()).unwrap_or(u64::MAX);
    let too_old = crate::now_us().saturating_sub(age_max_us);
    for (id, bytes) in sizes {
        let is_old = logs.summary(id).is_some_and(|summary| summary.exit.is_some() && summary.last_time_us < too_old);
        if is_old || total > limits.total_bytes_max {
            store.with(move |manager| manager.prune_ended(id));
            total = total.saturating_sub(bytes);
        }
    }
}

impl SessionManager {
    /// Drops about `bytes` from the front of a log, in whole segments.
    fn prune_front(&mut self, id: SessionId, bytes: u64) {
        let Some(session) = self.get_mut(id) else { return };
        let durable = session.core().durable_seq();
        let journal = session.log_mut().journal_mut();
        let (first, end) = (journal.first_retained().get(), journal.next_seq().get());
        let share = u128::from(end - first) * u128::from(bytes) / u128::from(journal.bytes_on_disk().max(1));
        let up_to = first.saturating_add(u64::try_from(share).unwrap_or(0)).min(durable);
        match journal.drop_front(Seq::new(up_to)) {
            Ok(freed) => info!(session = %id, freed, "pruned the oldest records of a session over its limit"),
            Err(error) => warn!(session = %id, %error, "cannot prune the oldest records of a session"),
        }
    }

    /// Removes a session that has ended.
    fn prune_ended(&mut self, id: SessionId) {
        let held = self.get(id).is_some_and(|open| open.core().connection().is_some());
        if held || !self.logs().has_ended(id) {
            return;
        }
        self.forget(id);
        match self.logs().remove(id) {
            Ok(freed) => info!(session = %id, freed, "pruned an ended session"),
            Err(error) => warn!(session = %id, %error, "cannot prune a session"),
        }
    }
}
