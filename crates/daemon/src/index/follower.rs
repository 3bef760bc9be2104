//! The thread that reads logs behind their writers and writes the index.
//!
//! Promises that nobody who writes a log ever waits for it, that it does nothing while nothing happens, that its memory is
//! bounded whatever was printed, and that a crash costs what was read since the last transaction and nothing else. It runs
//! below everything else in priority, and once it has caught up it gives its memory back.

mod inbox;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shellkeep_journal::{JournalError, Seq};
use shellkeep_protocol::ids::{SessionId, StoreId};
use shellkeep_protocol::query::IndexState;
use tokio::sync::oneshot;
use tracing::{info, warn};

pub(crate) use self::inbox::Follower;
use self::inbox::{Ask, Shared};
use super::reading::{More, ReadError, Reading, Saved, Tools};
use super::secrets::Secrets;
use super::stamp::Stamp;
use super::store::{self, Store, StoreError};
use crate::memory;
use crate::sessions::logs::Logs;
use crate::sessions::store::Store as Sessions;

/// How long nothing must have happened before what happened is read, and the longest wait for that: a flood of seconds is
/// read behind it, and not beside it. Whoever searches meanwhile waits for neither.
const QUIET: Duration = Duration::from_millis(150);
const QUIET_WAIT_MAX: Duration = Duration::from_secs(5);

/// Bytes of records that are read of one session before another one has its turn, and that a transaction holds.
const TURN_BYTES: usize = 8 << 20;

/// Sessions that are open to be read at a time; beyond that all are closed.
const READINGS_MAX: usize = 32;

/// Sessions that are remembered while nothing happens, because what is written of them is behind what was read: a secret
/// is on their screen. Beyond that a session is read again from where it had none.
const REMEMBERED_MAX: usize = 16;

/// Lists that are merged in one transaction.
const MERGES_PER_TURN: usize = 4;

/// How little the thread's work matters beside all other. Source: `setpriority(2)`.
const NICE: i32 = 10;

impl Follower {
    /// Starts the thread, which looks at all logs first.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(
        &self,
        logs: Logs,
        sessions: Sessions,
        directory: PathBuf,
        secrets: Arc<Secrets>,
    ) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let work = Work {
            shared,
            logs,
            sessions,
            directory,
            secrets,
            open: None,
            stamp: None,
            is_new: false,
            readings: HashMap::new(),
            done: HashMap::new(),
        };
        std::thread::Builder::new().name("index".into()).spawn(move || work.run())?;
        Ok(())
    }
}

/// The thread's own.
struct Work {
    shared: Arc<Shared>,
    logs: Logs,
    sessions: Sessions,
    directory: PathBuf,
    /// What is left out.
    secrets: Arc<Secrets>,
    /// While there is work.
    open: Option<(Store, Tools)>,
    /// The file, as it was left.
    stamp: Option<Stamp>,
    /// The file was made just now: it has nothing of what was read before.
    is_new: bool,
    readings: HashMap<SessionId, Reading>,
    /// Bytes of output read of each session, while all logs are being read.
    done: HashMap<SessionId, u64>,
}

/// Why a turn ended early.
enum Failed {
    Stopped,
    /// Everything is to be read anew: what is read now is for nothing.
    Rebuild,
    Store(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Work {
    fn run(mut self) {
        let _as_it_is = rustix::process::setpriority_process(None, NICE);
        let mut begun = false;
        let mut at_once = true;
        let mut was_damaged = false;
        let mut waiting: BTreeSet<SessionId> = BTreeSet::new();
        loop {
            if !std::mem::take(&mut at_once) && !self.wait() {
                return;
            }
            let (changed, asks) = {
                let mut inbox = self.shared.inbox.lock();
                (std::mem::take(&mut inbox.changed), std::mem::take(&mut inbox.asks))
            };
            waiting.extend(changed);
            let mut caught_up = Vec::new(); // whoever is in it hears nothing before trouble can be told
            match self.pass(&mut begun, &mut waiting, asks, &mut caught_up) {
                Ok(()) => {
                    was_damaged = false;
                    self.trouble(None);
                }
                Err(Failed::Stopped) => return,
                Err(Failed::Rebuild) => at_once = true, // who asked still waits in the inbox
                Err(Failed::Store(error)) => {
                    self.rest();
                    if matches!(error, StoreError::Damaged) && store::remove(&self.directory).is_ok() {
                        warn!(path = %self.directory.display(), "the index is damaged and is built anew");
                        // Once in a row: a disk that damages everything is not tried again and again.
                        begun = false;
                        at_once = !std::mem::replace(&mut was_damaged, true);
                    }
                    if at_once {
                        let again = std::mem::take(&mut caught_up).into_iter().map(Ask::CaughtUp);
                        self.shared.inbox.lock().asks.extend(again);
                    }
                    self.trouble(Some(error.to_string())); // what waits is tried again with the next thing that happens
                }
            }
        }
    }

    /// Waits for something to do; false when the thread must end.
    fn wait(&self) -> bool {
        let mut inbox = self.shared.inbox.lock();
        while !inbox.stop && inbox.asks.is_empty() && inbox.changed.is_empty() {
            self.shared.wake.wait(&mut inbox);
        }
        let until = Instant::now() + QUIET_WAIT_MAX;
        loop {
            let (seen, look_at) = (inbox.changes, (Instant::now() + QUIET).min(until));
            // Nobody who writes wakes us again: whether it was quiet is seen by looking.
            while !inbox.stop && inbox.asks.is_empty() && !self.shared.wake.wait_until(&mut inbox, look_at).timed_out()
            {
            }
            if inbox.stop || !inbox.asks.is_empty() || inbox.changes == seen || Instant::now() >= until {
                break;
            }
        }
        !inbox.stop
    }

    fn is_stopped(&self) -> bool {
        self.shared.inbox.lock().stop
    }

    fn trouble(&self, trouble: Option<String>) {
        let mut state = self.shared.state.lock();
        if state.trouble != trouble {
            if let Some(trouble) = &trouble {
                warn!(path = %self.directory.display(), %trouble, "the index cannot be written; recording goes on without it");
            }
            state.trouble = trouble;
        }
    }

    /// Does everything that there is to do now. Those who wait for it are in `caught_up` when it fails.
    fn pass(
        &mut self,
        begun: &mut bool,
        waiting: &mut BTreeSet<SessionId>,
        asks: VecDeque<Ask>,
        caught_up: &mut Vec<oneshot::Sender<()>>,
    ) -> Result<(), Failed> {
        let is_lost = self.stamp.is_some_and(|stamp| !stamp.is_there(&self.directory));
        for ask in asks {
            match ask {
                Ask::CaughtUp(done) => caught_up.push(done),
                Ask::Forget(session, done) => {
                    waiting.remove(&session);
                    self.forget(session)?;
                    self.opened()?.0.tidy()?;
                    let _nobody_waits = done.map(|done| done.send(()));
                }
                Ask::Pruned(session) => self.prune(session)?,
                Ask::Rebuild(done) => {
                    self.throw_away(begun)?;
                    let _nobody_waits = done.send(());
                }
            }
        }
        if is_lost && *begun {
            self.throw_away(begun)?; // what is left of it would say that nothing was ever recorded
        }
        if !*begun {
            self.begin(waiting)?;
            self.is_new = false;
            *begun = true;
        }
        if !waiting.is_empty() {
            self.opened()?;
            if std::mem::take(&mut self.is_new) {
                self.begin(waiting)?; // somebody removed it
            }
        }
        self.read_all(waiting)?;
        while self.merge()? {}
        if self.shared.inbox.lock().changed.is_empty() {
            self.opened_if_any().map_or(Ok(()), Store::tidy)?;
            self.rest();
        }
        let mut state = self.shared.state.lock();
        state.is_building = false;
        drop(state);
        for done in caught_up.drain(..) {
            let _nobody_waits = done.send(());
        }
        Ok(())
    }

    /// Everything is to be read again, into a new file.
    fn throw_away(&mut self, begun: &mut bool) -> Result<(), StoreError> {
        self.rest();
        if let Err(error) = store::remove(&self.directory) {
            self.trouble(Some(error.to_string())); // whoever asked for this hears of it
            return Err(error.into());
        }
        info!(path = %self.directory.display(), "the index is built anew");
        (self.stamp, *begun) = (None, false);
        *self.shared.state.lock() = IndexState { is_building: true, ..IndexState::default() };
        Ok(())
    }

    /// Compares the index with the logs that are there: what is in one of them only is read, or goes.
    fn begin(&mut self, waiting: &mut BTreeSet<SessionId>) -> Result<(), Failed> {
        let logs: BTreeSet<SessionId> =
            self.logs.ids().map_err(|error| StoreError::Failed(error.to_string()))?.into_iter().collect();
        if logs.is_empty() && !store::file_in(&self.directory).exists() {
            return Ok(());
        }
        let (store, _) = self.opened()?;
        let known = store.sessions()?;
        for (session, _) in known.iter().filter(|(session, _)| !logs.contains(session)) {
            self.forget(*session)?;
        }
        let over: BTreeSet<SessionId> = known.iter().filter(|(_, over)| *over).map(|(session, _)| *session).collect();
        let todo: Vec<SessionId> = logs.difference(&over).copied().collect();
        let is_new = known.is_empty();
        if is_new {
            self.done.clear();
            let bytes = |id: &SessionId| self.logs.scan(*id).map_or(0, |found| found.end.output_offset);
            let total_bytes = todo.iter().map(bytes).sum();
            *self.shared.state.lock() = IndexState { trouble: None, is_building: true, total_bytes, done_bytes: 0 };
        }
        waiting.extend(todo);
        Ok(())
    }

    fn opened(&mut self) -> Result<&mut (Store, Tools), StoreError> {
        if self.open.is_none() {
            let (store, is_new) = Store::open(&self.directory, self.secrets.digest())?;
            self.stamp = Stamp::of_open(&self.directory);
            self.is_new |= is_new;
            if is_new {
                self.readings.clear(); // what is remembered goes on in a file that is no more
            }
            self.open = Some((store, Tools::new()?));
        }
        self.open.as_mut().ok_or(StoreError::Damaged)
    }

    fn opened_if_any(&self) -> Option<&Store> {
        self.open.as_ref().map(|(store, _)| store)
    }

    /// Gives everything back that is only needed for work.
    fn rest(&mut self) {
        self.readings.retain(|_, reading| reading.is_ahead());
        while let Some(session) = self.readings.keys().next().copied().filter(|_| self.readings.len() > REMEMBERED_MAX)
        {
            self.readings.remove(&session);
        }
        self.readings.values_mut().for_each(Reading::rest);
        if let Some((store, _)) = self.open.take() {
            store.roll_back();
            drop(store);
            self.stamp = self.stamp.map(|stamp| stamp.closed(&self.directory));
            memory::give_back();
        }
    }

    /// Does `act` in a transaction.
    fn transaction<T>(
        &mut self,
        act: impl FnOnce(&Store, &mut Tools) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (store, tools) = self.opened()?;
        store.begin()?;
        let done = act(store, tools).and_then(|done| store.commit().map(|()| done));
        if done.is_err() {
            store.roll_back();
        }
        done
    }

    fn forget(&mut self, session: SessionId) -> Result<(), StoreError> {
        self.readings.remove(&session);
        if self.open.is_none() && !store::file_in(&self.directory).exists() {
            return Ok(());
        }
        self.transaction(|store, _| store.forget(session))
    }

    fn prune(&mut self, session: SessionId) -> Result<(), StoreError> {
        let Some(found) = self.logs.scan(session) else { return Ok(()) };
        if found.first.next_seq == Seq::FIRST {
            return Ok(());
        }
        self.transaction(|store, _| store.prune(session, found.first.next_seq, found.first.output_offset))
    }

    fn merge(&mut self) -> Result<bool, Failed> {
        if self.open.is_none() || self.is_stopped() {
            return Ok(false);
        }
        Ok(self.transaction(|store, _| store.merge())?)
    }

    /// Reads each session as far as there is something; one after the other has its turn.
    fn read_all(&mut self, waiting: &mut BTreeSet<SessionId>) -> Result<(), Failed> {
        while !waiting.is_empty() {
            for session in waiting.clone() {
                if self.is_stopped() {
                    return Err(Failed::Stopped);
                }
                let asked = std::mem::take(&mut self.shared.inbox.lock().asks);
                let is_void = asked.iter().any(|ask| matches!(ask, Ask::Rebuild(_)));
                self.forget_early(asked, waiting)?;
                if is_void {
                    return Err(Failed::Rebuild);
                }
                if !waiting.contains(&session) || !self.turn(session)? {
                    waiting.remove(&session);
                }
                for _ in 0..MERGES_PER_TURN {
                    if !self.merge()? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whoever removes a record does not wait for others to be read.
    fn forget_early(&mut self, asks: VecDeque<Ask>, waiting: &mut BTreeSet<SessionId>) -> Result<(), StoreError> {
        for ask in asks {
            if let Ask::Forget(session, done) = ask {
                waiting.remove(&session);
                self.forget(session)?;
                self.opened()?.0.tidy()?;
                let _nobody_waits = done.map(|done| done.send(()));
            } else {
                self.shared.inbox.lock().asks.push_back(ask);
            }
        }
        Ok(())
    }

    /// One session's turn; true if there is more of it.
    fn turn(&mut self, session: SessionId) -> Result<bool, StoreError> {
        for _ in 0..2 {
            let mut reading = match self.readings.remove(&session) {
                Some(reading) if reading.is_awake() => reading,
                rested => match self.open_reading(session, rested)? {
                    Some(reading) => reading,
                    None => return Ok(false),
                },
            };
            match reading.read(TURN_BYTES) {
                Ok(more) => {
                    self.transaction(|store, tools| reading.write(store, tools))?;
                    if let Some((call, directory)) = self.shared.on_move.get().zip(reading.moved()) {
                        call(session, directory);
                    }
                    self.count(session, reading.output_end);
                    if !reading.is_over() && self.readings.len() < READINGS_MAX {
                        self.readings.insert(session, reading);
                    }
                    return Ok(more == More::Yes);
                }
                Err(ReadError::Changed) => {
                    info!(%session, "the log is another one than before; it is read again");
                    self.forget(session)?;
                }
                Err(ReadError::Journal(JournalError::NotFound { .. })) => {
                    self.forget(session)?;
                    return Ok(false);
                }
                Err(ReadError::Journal(error)) => {
                    warn!(%session, %error, "a log cannot be read for the index");
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }

    fn count(&mut self, session: SessionId, output_end: u64) {
        let mut state = self.shared.state.lock();
        if state.is_building {
            let before = self.done.insert(session, output_end).unwrap_or(0);
            state.done_bytes += output_end.saturating_sub(before);
        }
    }

    /// From where it stopped, if the log is still the same; `None` if it cannot be read.
    fn open_reading(&mut self, session: SessionId, rested: Option<Reading>) -> Result<Option<Reading>, StoreError> {
        let (logs, secrets) = (self.logs.clone(), Arc::clone(&self.secrets));
        let open = |start| logs.follow(session, start);
        if let Some(rested) = rested
            && self.is_same(session, rested.store_id, rested.next)
            && let Ok(reading) = rested.wake(&self.opened()?.0, open)?
        {
            return Ok(Some(reading));
        }
        let known = self.opened()?.0.session(session)?;
        if let Some((row, state)) = known
            && let Some(saved) = Saved::decode(&state)
            && self.is_same(session, saved.store, saved.next)
            && let store = &self.opened()?.0
            && let Ok(reading) = Reading::go_on(session, (row, state), saved, Arc::clone(&secrets), (store, open))?
        {
            return Ok(Some(reading));
        }
        self.forget(session)?;
        let Some(identity) = self.logs.scan(session).and_then(|found| found.identity) else { return Ok(None) };
        let attrs = crate::sessions::journal_log::decode_attrs(&identity.attrs);
        let begun = Reading::begin(session, (StoreId::from_bytes(identity.store), attrs), secrets, open);
        Ok(begun.ok())
    }

    /// Whether a log is still the one that was read up to `next`.
    fn is_same(&self, session: SessionId, store: StoreId, next: Seq) -> bool {
        let open = self.sessions.run(move |manager| {
            manager.get(session).map(|open| (open.core().store(), open.core().end_position().next_seq))
        });
        let found = open.flatten().or_else(|| {
            let found = self.logs.scan(session)?;
            Some((StoreId::from_bytes(found.identity?.store), found.end.next_seq))
        });
        found.is_some_and(|(found, end)| found == store && end >= next)
    }
}
