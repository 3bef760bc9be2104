//! The screens of running sessions, kept near the end of their logs.
//!
//! Promises that following never holds up the writer (it reads the log beside it, at the lowest priority, and only
//! when much was written), that nothing runs while nothing is written, and bounded memory: of most sessions only a
//! checkpoint is kept. Sessions of which little was printed cost nothing until somebody attaches.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Instant;

use parking_lot::Mutex;
use shellkeep_journal::{Chain, Hint, Item, Reader, RecordKind, Seq, Start};
use shellkeep_protocol::attach::{Recording, Size};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{Failure, Screen as Shown};

use super::checkpoint::{self, Checkpoint};
use super::{Screen, Window};
use crate::memory;
use crate::sessions::logs::Logs;
use crate::sessions::manager::LogChange;

/// Bytes of records after which a session is followed. So much is read when somebody attaches, at the most, unless
/// the machine is busy.
const FOLLOW_BYTES: u64 = 512 << 10;
/// Bytes of output that are fed at once: the more, the more of it can be left out.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes of output between two checkpoints of a screen that stays in memory.
const CHECKPOINT_BYTES: u64 = 8 << 20;
/// Bytes of screens in memory, roughly, and how many. Beyond either the one that was used the longest ago goes.
const LIVE_BYTES_MAX: usize = 3 << 20;
/// See [`LIVE_BYTES_MAX`].
const LIVE_MAX: usize = 16;
/// Sessions that wait to be followed. Beyond it one is told again at its next write.
const WAITING_MAX: usize = 256;
/// Niceness of the following thread: everything else goes first.
const NICENESS: i32 = 19;

/// The screens of all sessions. Cheap to clone.
#[derive(Clone)]
pub struct Screens {
    shared: Arc<Shared>,
    wake: SyncSender<Ask>,
}

struct Shared {
    logs: Logs,
    directory: PathBuf,
    live: Mutex<HashMap<SessionId, Live>>,
    /// Bytes of records written since a session was followed.
    written: Mutex<HashMap<SessionId, u64>>,
    /// Sessions whose screen was made ready when their keeper came.
    warmed: Mutex<usize>,
}

/// One screen in memory.
struct Live {
    followed: Arc<Mutex<Option<Followed>>>,
    bytes: usize,
    used: Instant,
}

/// One screen and its place in the log.
struct Followed {
    session: SessionId,
    screen: Screen,
    reader: Reader,
    /// The last record that is in the screen; `None` behind damage, of which nothing can be proved.
    last: Option<(Seq, u32)>,
    offset: u64,
    saved_at: u64,
}

enum Ask {
    Follow(SessionId),
    Stop(SyncSender<()>),
}

impl Screens {
    /// Starts the following thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(logs: Logs) -> std::io::Result<Self> {
        let directory = checkpoint::directory(logs.directory());
        let (wake, asks) = sync_channel(WAITING_MAX);
        let shared = Arc::new(Shared {
            logs,
            directory,
            live: Mutex::default(),
            written: Mutex::default(),
            warmed: Mutex::default(),
        });
        let screens = Self { shared: Arc::clone(&shared), wake };
        std::thread::Builder::new().name("screens".into()).spawn(move || shared.run(&asks))?;
        Ok(screens)
    }

    /// Keeps what is known, so that the next daemon need not read it again.
    pub fn stop(&self) {
        let (done, is_done) = sync_channel(1);
        if self.wake.send(Ask::Stop(done)).is_ok() {
            let _ended = is_done.recv();
        }
    }

    /// Something became of a log. Never waits.
    pub(crate) fn changed(&self, session: SessionId, change: LogChange) {
        let bytes = match change {
            LogChange::Grew(bytes) => bytes,
            LogChange::Replaced => return self.forget(session),
            LogChange::Opened => return self.warm(session),
        };
        let mut written = self.shared.written.lock();
        let total = written.entry(session).or_default();
        *total += bytes;
        if *total >= FOLLOW_BYTES {
            match self.wake.try_send(Ask::Follow(session)) {
                Ok(()) => *total = 0,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {} // at its next write
            }
        }
    }

    /// A keeper has come back to a restarted daemon: whoever attaches should not wait until its place in the log is
    /// found. Only for so many sessions as stay in memory, and none of which little was printed.
    fn warm(&self, session: SessionId) {
        let mut warmed = self.shared.warmed.lock();
        if *warmed < LIVE_MAX && checkpoint::exists(&self.shared.directory, session) {
            *warmed += 1;
            let _whoever_attaches_waits = self.wake.try_send(Ask::Follow(session));
        }
    }

    /// The screen of a session with at least so much of its output, for a window; `None` if it is not known so far.
    /// Reads until `until` at the most. Blocking.
    ///
    /// # Errors
    /// If there is no such log, or it cannot be read.
    pub fn show(
        &self,
        session: SessionId,
        at_least: u64,
        window: Window,
        until: Instant,
    ) -> Result<Option<Shown>, Failure> {
        let slot = self.shared.slot(session);
        let mut followed = slot.lock();
        if followed.is_none() {
            *followed = Some(self.shared.thaw(session)?);
        }
        let Some(found) = followed.as_mut() else { return Ok(None) };
        while found.offset < at_least && Instant::now() < until {
            if !found.read_piece().map_err(|error| self.shared.logs.unreadable(session, &error))? {
                break;
            }
        }
        if found.offset < at_least {
            let _at_its_next_write = self.wake.try_send(Ask::Follow(session));
            return Ok(None);
        }
        let bytes = found.screen.show(window);
        let shown = bytes.map(|bytes| Shown { offset: found.offset, is_exact: found.screen.is_exact(), bytes });
        let size = found.screen.bytes();
        drop(followed);
        self.shared.used(session, size);
        Ok(shown)
    }

    /// The log is gone, or another one now.
    pub fn forget(&self, session: SessionId) {
        self.shared.live.lock().remove(&session);
        self.shared.written.lock().remove(&session);
    }
}

impl Shared {
    /// The following thread.
    fn run(&self, asks: &Receiver<Ask>) {
        // Of this thread alone, on Linux. Fails only where it is so already.
        let _as_before = rustix::process::setpriority_process(None, NICENESS);
        checkpoint::sweep(&self.directory, self.logs.directory());
        let mut read = 0;
        loop {
            let ask = match asks.try_recv() {
                Ok(ask) => ask,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    if std::mem::take(&mut read) > 0 {
                        memory::give_back();
                    }
                    let Ok(ask) = asks.recv() else { return };
                    ask
                }
            };
            match ask {
                Ask::Follow(session) => read += self.follow(session),
                Ask::Stop(done) => {
                    let all: Vec<_> = self.live.lock().drain().map(|(_, live)| live.followed).collect();
                    for followed in all {
                        if let Some(followed) = followed.lock().as_mut() {
                            followed.save(&self.directory, self.logs.directory());
                        }
                    }
                    let _gone = done.send(());
                    return;
                }
            }
        }
    }

    /// Reads a session to the end of its log, as it is now. Returns the bytes of output that were read.
    fn follow(&self, session: SessionId) -> u64 {
        let slot = self.slot(session);
        let mut read = 0;
        loop {
            // Let go between pieces: somebody may want to attach.
            let mut followed = slot.lock();
            if followed.is_none() {
                match self.thaw(session) {
                    Ok(thawed) => *followed = Some(thawed),
                    Err(_) => break, // nobody asked; whoever asks is told
                }
            }
            let Some(found) = followed.as_mut() else { break };
            let before = found.offset;
            let is_more = found.read_piece();
            read += found.offset - before;
            if found.offset - found.saved_at >= CHECKPOINT_BYTES {
                found.save(&self.directory, self.logs.directory());
            }
            let size = found.screen.bytes();
            match is_more {
                Ok(true) => {}
                Ok(false) => {
                    drop(followed);
                    self.used(session, size);
                    return read;
                }
                Err(error) => {
                    tracing::debug!(%session, %error, "a log cannot be followed");
                    break;
                }
            }
        }
        self.live.lock().remove(&session);
        read
    }

    fn slot(&self, session: SessionId) -> Arc<Mutex<Option<Followed>>> {
        let mut live = self.live.lock();
        let slot =
            live.entry(session).or_insert_with(|| Live { followed: Arc::default(), bytes: 0, used: Instant::now() });
        Arc::clone(&slot.followed)
    }

    /// A screen was used; those that were not for the longest time make room.
    fn used(&self, session: SessionId, bytes: usize) {
        let mut out = Vec::new();
        {
            let mut live = self.live.lock();
            if let Some(entry) = live.get_mut(&session) {
                (entry.bytes, entry.used) = (bytes, Instant::now());
            }
            while live.len() > 1
                && (live.len() > LIVE_MAX || live.values().map(|entry| entry.bytes).sum::<usize>() > LIVE_BYTES_MAX)
            {
                let oldest = live.iter().filter(|(id, _)| **id != session).min_by_key(|(_, entry)| entry.used);
                let Some(oldest) = oldest.map(|(id, _)| *id) else { break };
                out.extend(live.remove(&oldest));
            }
        }
        for entry in out {
            if let Some(followed) = entry.followed.lock().as_mut() {
                followed.save(&self.directory, self.logs.directory());
            }
        }
    }

    /// The screen of a session from its checkpoint, else from the start of its log.
    fn thaw(&self, session: SessionId) -> Result<Followed, Failure> {
        let saved = Checkpoint::load(&self.directory, session).and_then(|saved| self.restore(saved));
        if let Some(followed) = saved {
            return Ok(followed);
        }
        let attrs = self.logs.summary(session).ok_or(Failure::UnknownSession)?.attrs;
        let screen = Screen::new(Window::of(attrs.size.0, attrs.size.1));
        let reader = self.logs.reader(session, Start::Oldest)?;
        let mut followed = Followed { session, screen, reader, last: None, offset: 0, saved_at: 0 };
        if followed.reader.next_seq() > Seq::FIRST {
            followed.screen.missed(); // its beginning was pruned
        }
        Ok(followed)
    }

    /// Goes on from a checkpoint, if the log is the one that it was made from.
    fn restore(&self, saved: Checkpoint) -> Option<Followed> {
        let Checkpoint { session, seq, check, place, offset, state } = saved;
        let hint = place.map(|(segment, at)| Hint { segment, at, chain: Chain::new(check) });
        let mut reader = self.logs.reader(session, Start::Hinted(Seq::new(seq), hint)).ok()?;
        let is_same = match reader.next() {
            Ok(Some(Item::Record(record))) => record.header.seq == Seq::new(seq) && record.header.check.get() == check,
            _ => false,
        };
        let screen = Screen::restore(&state).filter(|_| is_same)?;
        Some(Followed { session, screen, reader, last: Some((Seq::new(seq), check)), offset, saved_at: offset })
    }
}

impl Followed {
    /// Reads and shows the next piece; false if there is nothing more for now.
    fn read_piece(&mut self) -> Result<bool, shellkeep_journal::JournalError> {
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES {
            let Some(item) = self.reader.next()? else {
                self.screen.feed(&piece);
                return Ok(false);
            };
            let record = match item {
                Item::Record(record) => record,
                Item::Damage(damage) => {
                    self.skipped(&mut piece, damage.after.output_offset);
                    continue;
                }
                Item::Pruned { after, .. } => {
                    self.skipped(&mut piece, after.output_offset);
                    continue;
                }
            };
            let header = record.header;
            self.last = Some((header.seq, header.check.get()));
            match header.kind {
                RecordKind::Output => {
                    piece.extend_from_slice(record.payload);
                    self.offset = header.offset + record.payload.len() as u64;
                }
                RecordKind::Resize => {
                    let size = Size::from_payload(record.payload).unwrap_or_default();
                    self.screen.feed(&std::mem::take(&mut piece));
                    self.screen.resize(Window::of(size.cols, size.rows));
                }
                RecordKind::Gap => {
                    let lost = record.gap().map_or(0, |gap| gap.output_bytes);
                    self.skipped(&mut piece, header.offset + lost);
                }
                RecordKind::Mark if Recording::from_payload(record.payload) == Some(Recording::On) => {
                    self.screen.feed(&std::mem::take(&mut piece));
                    self.screen.missed();
                }
                _ => {}
            }
        }
        self.screen.feed(&piece);
        Ok(true)
    }

    /// Output up to `offset` is missing.
    fn skipped(&mut self, piece: &mut Vec<u8>, offset: u64) {
        self.screen.feed(&std::mem::take(piece));
        self.screen.missed();
        self.offset = offset;
        self.last = None;
    }

    /// Writes a checkpoint, if there is something new and the log is still there.
    fn save(&mut self, directory: &std::path::Path, logs: &std::path::Path) {
        let Some((seq, check)) = self.last.filter(|_| self.offset > self.saved_at) else { return };
        let Some(state) = self.screen.state().filter(|_| logs.join(self.session.to_string()).is_dir()) else { return };
        self.saved_at = self.offset;
        let place = self.reader.hint(seq).map(|hint| (hint.segment, hint.at));
        let (session, offset) = (self.session, self.offset);
        let checkpoint = Checkpoint { session, seq: seq.get(), check, place, offset, state };
        if let Err(error) = checkpoint.save(directory) {
            tracing::debug!(session = %self.session, %error, "a screen's checkpoint cannot be written");
        }
    }
}
