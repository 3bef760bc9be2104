//! Commands that run: who asked for them, what they did, and their end.
//!
//! Promise: each ends with exactly one last event, whatever becomes of its caller, its session, its entry or its time; it keeps the entry
//! that it was started with; so many run at a time and no more. What is started and whether it may be is its caller's matter.

mod child;
mod elsewhere;
mod environment;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{ExecutionEvent, InvocationId, RegistryError, Told};

pub(super) use self::child::prepare_child;
pub use self::elsewhere::{Elsewhere, Tell};
use self::stream::{Stream, Taken};
use super::entry::Entry;
use super::installed::Held;

/// Commands of one session that run at a time; further ones wait.
pub const RUNNING_MAX: usize = 8;

/// Commands of one session that wait; one more is refused.
pub const WAITING_MAX: usize = 64;

/// Commands of all sessions that are known, running, waiting or ended and not yet followed to their end.
pub const KNOWN_MAX: usize = 512;

/// How long a command goes on, or what it has said is kept, when its caller's connection has gone.
pub const ORPHAN_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a command may take unless its caller says otherwise, and the most that can be said.
pub const TIME_MAX_DEFAULT: Duration = Duration::from_hours(1);
/// See [`TIME_MAX_DEFAULT`].
pub const TIME_MAX: Duration = Duration::from_hours(24);

/// Why a command is ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Its caller wants it, or has gone for good.
    Cancelled,
    /// Its time is over.
    TimeOver,
    /// Its session has ended.
    SessionEnded,
    /// The user has taken back what allowed it.
    TrustWithdrawn,
    /// The daemon ends.
    Stopping,
}

impl Stop {
    fn error(&self) -> RegistryError {
        match self {
            Self::Cancelled | Self::TimeOver | Self::TrustWithdrawn => RegistryError::Cancelled,
            Self::SessionEnded => RegistryError::SessionEnded,
            Self::Stopping => RegistryError::Interrupted,
        }
    }
}

/// One execution.
#[derive(Debug)]
pub struct Invocation {
    id: InvocationId,
    /// As it was when it began; another one by that name changes nothing here.
    entry: Arc<Entry>,
    root: Option<PathBuf>,
    session: Option<SessionId>,
    stream: Stream,
    stop: Mutex<Option<Stop>>,
    /// It is a process that has started, to which signals can be sent.
    takes_signals: AtomicBool,
    /// Its caller has pressed Ctrl-C.
    interrupted: AtomicBool,
    /// Written to make the thread look again.
    wake: OwnedFd,
    owner: Mutex<Owner>,
    began: Instant,
}

/// Who follows it.
#[derive(Debug)]
enum Owner {
    Connection(u64),
    /// Nobody, since then.
    Gone(Instant),
}

/// What is to be run.
#[derive(Debug)]
pub struct Job {
    /// What it is of.
    pub entry: Arc<Entry>,
    /// Of which project.
    pub root: Option<PathBuf>,
    /// For which session.
    pub session: Option<SessionId>,
    /// Who asks.
    pub connection: u64,
    /// What is done.
    pub act: Act,
    /// Asked once more before it starts, if it had to wait for others.
    pub recheck: Recheck,
}

/// Whether something may still be started.
pub struct Recheck(Box<dyn Fn() -> Result<(), RegistryError> + Send>);

impl Recheck {
    /// Blocking is allowed in it.
    pub fn new(check: impl Fn() -> Result<(), RegistryError> + Send + 'static) -> Self {
        Self(Box::new(check))
    }
}

impl std::fmt::Debug for Recheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recheck")
    }
}

/// What is done.
#[derive(Debug)]
pub enum Act {
    /// It is done already: these are its events, the last one among them.
    Done(Vec<ExecutionEvent>),
    /// A process.
    Process {
        /// Program and arguments.
        argv: Vec<String>,
        /// Where.
        directory: PathBuf,
        /// The caller's environment, of which some is let through.
        asked: Vec<(String, String)>,
        /// Set on top of that.
        environment: Vec<(String, String)>,
        /// Its standard input.
        stdin: Vec<u8>,
        /// Both its outputs are one.
        merged: bool,
        /// How long.
        time_max: Duration,
        /// Its files, if they could be removed meanwhile.
        held: Option<Held>,
    },
    /// Something that another part of the daemon does.
    Elsewhere {
        /// That.
        call: Box<dyn Elsewhere>,
        /// How long.
        time_max: Duration,
    },
}

/// What a command's thread does.
#[derive(Debug)]
enum Start {
    Process(child::Start),
    Elsewhere(Box<dyn Elsewhere>, Duration),
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    known: HashMap<u64, Arc<Invocation>>,
    queues: HashMap<Option<SessionId>, Queue>,
    is_stopping: bool,
}

#[derive(Debug, Default)]
struct Queue {
    running: usize,
    waiting: VecDeque<(Arc<Invocation>, Start, Recheck)>,
}

/// All executions of this daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Invocations {
    boot: u64,
    inner: Arc<Mutex<Inner>>,
}

impl Invocations {
    /// None yet.
    pub fn new(boot: u64) -> Self {
        Self { boot, inner: Arc::default() }
    }

    /// Begins.
    ///
    /// # Errors
    /// [`RegistryError::Busy`] if too much runs and waits; what the system says if it gives no thread.
    pub fn begin(&self, job: Job) -> Result<InvocationId, RegistryError> {
        let Job { entry, root, session, connection, act, recheck } = job;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| failed("cannot begin", &error.into()))?;
        let start = match act {
            Act::Done(events) => Err(events),
            Act::Process { argv, directory, asked, environment, stdin, merged, time_max, held } => {
                let Some(mut all) = environment::of(&asked) else {
                    let what = format!("runs inside runs, {} deep", environment::DEPTH_MAX);
                    return Err(RegistryError::TooLarge { what });
                };
                all.extend(environment);
                let time_max = time_max.min(TIME_MAX);
                Ok(Start::Process(child::Start {
                    argv,
                    directory,
                    environment: all,
                    stdin,
                    merged,
                    time_max,
                    _held: held,
                }))
            }
            Act::Elsewhere { call, time_max } => Ok(Start::Elsewhere(call, time_max.min(TIME_MAX))),
        };
        let inner = &mut *self.inner.lock();
        inner.sweep();
        if inner.is_stopping || inner.known.len() >= KNOWN_MAX {
            return Err(RegistryError::Busy);
        }
        let id = InvocationId { boot: self.boot, n: inner.last + 1 };
        let invocation = Arc::new(Invocation {
            id,
            entry,
            root,
            session,
            stream: Stream::default(),
            stop: Mutex::new(None),
            takes_signals: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            wake,
            owner: Mutex::new(Owner::Connection(connection)),
            began: Instant::now(),
        });
        match start {
            Err(events) => events.into_iter().for_each(|event| invocation.stream.add(event)),
            Ok(start) => self.enqueue(inner, session, (Arc::clone(&invocation), start), recheck)?,
        }
        inner.last += 1;
        inner.known.insert(id.n, invocation);
        Ok(id)
    }

    fn enqueue(
        &self,
        inner: &mut Inner,
        session: Option<SessionId>,
        job: (Arc<Invocation>, Start),
        recheck: Recheck,
    ) -> Result<(), RegistryError> {
        let queue = inner.queues.entry(session).or_default();
        if queue.running < RUNNING_MAX {
            let own = self.clone();
            let thread = std::thread::Builder::new().name("command".into());
            thread.spawn(move || own.run(session, job)).map_err(|error| failed("cannot start a thread", &error))?;
            queue.running += 1;
        } else if queue.waiting.len() < WAITING_MAX {
            queue.waiting.push_back((job.0, job.1, recheck));
        } else {
            return Err(RegistryError::Busy);
        }
        Ok(())
    }

    /// The thread of a command, and then of those that waited for it.
    fn run(&self, session: Option<SessionId>, mut job: (Arc<Invocation>, Start)) {
        let mut recheck: Option<Recheck> = None;
        loop {
            let (invocation, start) = &job;
            let checked = recheck.take().map_or(Ok(()), |recheck| (recheck.0)());
            match invocation.stop_wanted().map(|stop| stop.error()).or(checked.err()) {
                Some(error) => invocation.stream.add(ExecutionEvent::Error(error)),
                None => match start {
                    Start::Process(start) => child::run(invocation, start),
                    Start::Elsewhere(call, time_max) => elsewhere::run(invocation, &**call, *time_max),
                },
            }
            let mut inner = self.inner.lock();
            let Some(queue) = inner.queues.get_mut(&session) else { return };
            if let Some((invocation, start, check)) = queue.waiting.pop_front() {
                (job, recheck) = ((invocation, start), Some(check));
            } else {
                queue.running -= 1;
                if queue.running == 0 {
                    inner.queues.remove(&session);
                }
                return;
            }
        }
    }

    /// What it has done since `from`; waits for something at most so long. Who asks is its caller from now on.
    pub async fn follow(&self, id: InvocationId, from: u64, wait: Duration, connection: u64) -> Told {
        let Some(invocation) = self.get(id) else { return Told::Failed(RegistryError::Interrupted) };
        *invocation.owner.lock() = Owner::Connection(connection);
        let until = tokio::time::Instant::now() + wait;
        loop {
            let added = invocation.stream.added();
            let Taken { mut events, next, is_last, made_room } = invocation.stream.take(from);
            if made_room {
                invocation.wake();
            }
            if !events.is_empty() || is_last {
                return Told::Events { events, next, is_last };
            }
            if tokio::time::timeout_at(until, added).await.is_err() {
                let elapsed_ms = u64::try_from(invocation.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                events.push(ExecutionEvent::Progress { elapsed_ms });
                return Told::Events { events, next, is_last: false };
            }
        }
    }

    fn get(&self, id: InvocationId) -> Option<Arc<Invocation>> {
        self.inner.lock().known.get(&id.n).filter(|found| found.id == id).cloned()
    }

    /// Interrupts one, which may go on; ends it if it is no process or has not begun. False if there is none.
    pub fn interrupt(&self, id: InvocationId) -> bool {
        self.get(id).is_some_and(|invocation| {
            if invocation.takes_signals.load(Ordering::SeqCst) {
                invocation.interrupted.store(true, Ordering::SeqCst);
                invocation.wake();
            } else {
                self.end(&invocation, Stop::Cancelled);
            }
            true
        })
    }

    /// Ends one; false if there is none.
    pub fn cancel(&self, id: InvocationId) -> bool {
        self.get(id).is_some_and(|invocation| {
            self.end(&invocation, Stop::Cancelled);
            true
        })
    }

    /// Ends those that `is_meant` says, for this reason.
    pub fn stop_where(&self, stop: &Stop, is_meant: impl Fn(&Invocation) -> bool) {
        let all: Vec<_> = self.inner.lock().known.values().cloned().collect();
        for invocation in all.iter().filter(|invocation| !invocation.stream.has_ended() && is_meant(invocation)) {
            self.end(invocation, stop.clone());
        }
    }

    /// The session has ended, and all that runs for it.
    pub fn session_ended(&self, session: SessionId) {
        self.stop_where(&Stop::SessionEnded, |invocation| invocation.session == Some(session));
    }

    /// A connection has gone. What it began goes on for [`ORPHAN_WAIT_MAX`].
    pub fn disconnected(&self, connection: u64) {
        let mut inner = self.inner.lock();
        for invocation in inner.known.values() {
            let mut owner = invocation.owner.lock();
            if matches!(*owner, Owner::Connection(of) if of == connection) {
                *owner = Owner::Gone(Instant::now());
                drop(owner);
                invocation.wake();
            }
        }
        inner.sweep();
    }

    /// The daemon ends: everything is told to end, and nothing begins any more.
    pub fn stop(&self) {
        self.inner.lock().is_stopping = true;
        self.stop_where(&Stop::Stopping, |_| true);
    }

    fn end(&self, invocation: &Arc<Invocation>, stop: Stop) {
        invocation.stop.lock().get_or_insert(stop);
        invocation.wake();
        // One that waits has no thread to see it.
        let mut inner = self.inner.lock();
        let queue = inner.queues.get_mut(&invocation.session);
        let waiting = queue.and_then(|queue| {
            let at = queue.waiting.iter().position(|(waiting, ..)| waiting.id == invocation.id)?;
            queue.waiting.remove(at)
        });
        if let (Some(_), Some(stop)) = (waiting, invocation.stop_wanted()) {
            invocation.stream.add(ExecutionEvent::Error(stop.error()));
        }
    }
}

impl Inner {
    /// Forgets what has ended and whose caller has gone.
    fn sweep(&mut self) {
        self.known.retain(|_, invocation| {
            let is_alone = invocation.orphan_due().is_some_and(|due| due <= Instant::now());
            !(invocation.stream.has_ended() && is_alone)
        });
        if self.known.len() >= KNOWN_MAX {
            // Callers that never take the end of what they began.
            let ended = self.known.iter().filter(|(_, known)| known.stream.has_ended()).map(|(n, _)| *n).min();
            ended.map(|oldest| self.known.remove(&oldest));
        }
    }
}

impl Invocation {
    /// What it is of.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Of which project.
    pub fn root(&self) -> Option<&std::path::Path> {
        self.root.as_deref()
    }

    fn stop_wanted(&self) -> Option<Stop> {
        self.stop.lock().clone()
    }

    /// When it ends because nobody follows it.
    fn orphan_due(&self) -> Option<Instant> {
        match *self.owner.lock() {
            Owner::Connection(_) => None,
            Owner::Gone(since) => Some(since + ORPHAN_WAIT_MAX),
        }
    }

    fn wake(&self) {
        let _full_is_awake = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

fn failed(what: &str, error: &std::io::Error) -> RegistryError {
    RegistryError::System { what: what.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests;
