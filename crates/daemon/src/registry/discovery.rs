//! Who looks for commands, and when: a session comes, moves, goes; somebody asks for all of it anew; a file changes.
//!
//! Promise: nobody who tells of these ever waits; the disk is read on threads of its own; the latest word of a session counts; nothing is
//! looked for before the first session or the first question. Knows files only through `sources`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use shellkeep_protocol::ids::SessionId;
use tokio::sync::oneshot;
use tracing::{debug, info};

use super::core::{CommandRegistry, Look};
use super::entry::Entry;
use super::installed::Installed;
use super::patience::Patience;
use super::run::Invocations;
use super::sources::{self, Limits};
use super::trust::TrustStore;
use super::turns::Turns;
use super::watcher::{Watched, Watcher};
use super::{convert, roots};

/// Threads that look at projects. A slow project holds up one of them for two seconds (`Limits::time`), one on a disk that does not answer
/// for [`LOOK_WAIT`].
const LOOKERS: usize = 2;

/// How long a look may take: more than `Limits::time`, which is for disks that answer.
const LOOK_WAIT: Duration = Duration::from_secs(4);

/// How long a session's directory may take to say which project it is in. All others wait meanwhile.
const ROOT_WAIT: Duration = Duration::from_secs(1);

/// How often it is looked whether the keeper of a session without a connection still lives, while there is such a session.
const LEFT_LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long changes of files are collected before they are looked at: whoever saves one file mostly saves another.
const CHANGES_WAIT: Duration = Duration::from_millis(200);

/// Looks until one is not overtaken by a newer one.
const LOOKS_MAX: u32 = 5;

/// Where things are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The user's home.
    pub(crate) home: PathBuf,
    /// The user's configuration.
    pub(crate) config: PathBuf,
}

/// What the daemon knows of sessions. Called on threads where waiting is allowed.
pub(crate) trait Sessions: Send + Sync {
    /// Where a session is, as far as is known.
    fn directory(&self, session: SessionId) -> Option<String>;
    /// Whether it runs on this machine, so that its directory is one of this disk.
    fn is_here(&self, session: SessionId) -> bool;
    /// Whether its keeper is connected.
    fn is_connected(&self, session: SessionId) -> bool;
    /// Whether its keeper lives, connected or not.
    fn is_alive(&self, session: SessionId) -> bool;
}

/// The latest word of a session.
#[derive(Debug, Default)]
struct Word {
    came: bool,
    directory: Option<String>,
    /// The project of a directory whose disk has taken its time.
    late: Option<(String, Option<PathBuf>)>,
    left: bool,
    ended: bool,
}

#[derive(Default)]
struct Inbox {
    words: BTreeMap<SessionId, Word>,
    /// What is to be looked at again, and when.
    again: BTreeMap<Watched, Instant>,
    /// The user's own sources are to be looked at.
    own: bool,
    /// Bounded by the questions that wait.
    synced: VecDeque<oneshot::Sender<()>>,
    stop: bool,
}

struct Shared {
    /// For what comes later.
    me: Weak<Self>,
    patience: Patience,
    registry: Arc<CommandRegistry>,
    trust: Arc<Mutex<TrustStore>>,
    invocations: Invocations,
    places: Places,
    installed: Arc<Installed>,
    inbox: Mutex<Inbox>,
    wake: Condvar,
    was_asked: Mutex<bool>,
    /// Of projects that are looked at. Bounded by those who wait.
    turns: Mutex<BTreeMap<PathBuf, Arc<Turns>>>,
    /// Where sessions with a layer are.
    directories: Mutex<BTreeMap<SessionId, String>>,
    /// `None` if the system gives no inotify.
    watcher: Option<Watcher>,
}

/// What a thread that reads the disk does.
enum Task {
    Own(Look),
    Project(PathBuf),
}

/// Tells what happens, and asks for looks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Discovery {
    shared: Arc<Shared>,
}

impl Discovery {
    pub(crate) fn new(
        registry: Arc<CommandRegistry>,
        trust: Arc<Mutex<TrustStore>>,
        invocations: Invocations,
        places: Places,
        installed: Arc<Installed>,
    ) -> Self {
        let watcher = Watcher::new().inspect_err(|error| debug!(%error, "files cannot be watched")).ok();
        let shared = Arc::new_cyclic(|me| Shared {
            me: Weak::clone(me),
            patience: Patience::default(),
            registry,
            trust,
            invocations,
            places,
            installed,
            inbox: Mutex::default(),
            wake: Condvar::new(),
            was_asked: Mutex::new(false),
            turns: Mutex::default(),
            directories: Mutex::default(),
            watcher,
        });
        Self { shared }
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// If the system gives none.
    pub(crate) fn start(&self, sessions: Arc<impl Sessions + 'static>) -> std::io::Result<()> {
        let (tasks, inbox) = channel();
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..LOOKERS {
            let (shared, inbox) = (Arc::clone(&self.shared), Arc::clone(&inbox));
            std::thread::Builder::new().name("sources".into()).spawn(move || shared.look(&inbox))?;
        }
        if let Some(watcher) = &self.shared.watcher {
            let shared = Arc::clone(&self.shared);
            watcher.start(Box::new(move |watched| shared.changed(watched)))?;
        }
        self.shared.installed.start()?;
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().name("commands".into()).spawn(move || shared.run(&*sessions, &tasks))?;
        Ok(())
    }

    fn tell(&self, session: SessionId, word: impl FnOnce(&mut Word)) {
        word(self.shared.inbox.lock().words.entry(session).or_default());
        self.shared.wake.notify_one();
    }

    /// A session's keeper has come, or come back.
    pub(crate) fn came(&self, session: SessionId) {
        self.tell(session, |word| *word = Word { came: true, directory: word.directory.take(), ..Word::default() });
    }

    /// A session's shell is in another directory.
    pub(crate) fn moved(&self, session: SessionId, directory: &str) {
        self.tell(session, |word| word.directory = Some(directory.to_owned()));
    }

    /// A session's keeper has lost its connection, or is dead.
    pub(crate) fn left(&self, session: SessionId) {
        self.tell(session, |word| word.left = true);
    }

    /// A session has ended.
    pub(crate) fn ended(&self, session: SessionId) {
        self.tell(session, |word| *word = Word { ended: true, ..Word::default() });
    }

    /// Resolves when all that was told until now has been taken note of. Looks may still be under way. The first call begins to look for
    /// what is the user's own.
    pub(crate) async fn noted(&self) {
        let (done, is_done) = oneshot::channel();
        {
            let mut inbox = self.shared.inbox.lock();
            inbox.own |= !std::mem::replace(&mut *self.shared.was_asked.lock(), true);
            inbox.synced.push_back(done);
        }
        self.shared.wake.notify_one();
        let _ended = is_done.await;
    }

    /// Looks at the user's own sources, and at this project, here and now. Blocking.
    pub(crate) fn look_again(&self, root: Option<&Path>) {
        self.shared.look_at_own(&self.shared.registry.look_for_base(OWN));
        if let Some(root) = root {
            self.look_at(root);
        }
    }

    /// Looks at a project that a session is in, from now on: whoever asks meanwhile shares the next look. False if that did not come to be
    /// shown. Blocking.
    pub(crate) fn look_at(&self, root: &Path) -> bool {
        self.shared.turn_at(root)
    }

    /// Where a session is, if it has a layer.
    pub(crate) fn directory(&self, session: SessionId) -> Option<String> {
        self.shared.directories.lock().get(&session).cloned()
    }

    /// The user's home.
    pub(crate) fn home(&self) -> &Path {
        &self.shared.places.home
    }

    /// Ends the threads soon.
    pub(crate) fn stop(&self) {
        self.shared.inbox.lock().stop = true;
        self.shared.wake.notify_one();
        self.shared.watcher.iter().for_each(Watcher::stop);
        self.shared.installed.stop();
    }
}

/// The look for all that is the user's own, and the beginning of its sources' names.
const OWN: &str = "user";
const OWN_PREFIX: &str = "user:";

impl Shared {
    fn run(&self, sessions: &impl Sessions, tasks: &Sender<Task>) {
        let mut left: BTreeSet<SessionId> = BTreeSet::new();
        while let Some(inbox) = self.wait(!left.is_empty()) {
            for (session, word) in inbox.words {
                self.take(session, word, sessions, tasks, &mut left);
            }
            left.retain(|session| {
                if sessions.is_connected(*session) {
                    return false; // it has come back before its old connection was seen to end
                }
                let stays = sessions.is_alive(*session);
                if !stays {
                    self.gone(*session);
                }
                stays
            });
            if inbox.own {
                let _stopped = tasks.send(Task::Own(self.registry.look_for_base(OWN)));
            }
            for watched in inbox.again.into_keys() {
                let task = match watched {
                    None => Task::Own(self.registry.look_for_base(OWN)),
                    Some(root) => Task::Project(root),
                };
                let _stopped = tasks.send(task);
            }
            if let Some(watcher) = &self.watcher {
                let projects = self.registry.projects();
                watcher.keep_only(|watched| watched.as_ref().is_none_or(|root| projects.contains(root)));
            }
            for done in inbox.synced {
                let _nobody_waits = done.send(());
            }
        }
    }

    /// Everything that was told since the last call; `None` when the thread must end.
    fn wait(&self, looks_at_left: bool) -> Option<Inbox> {
        let mut inbox = self.inbox.lock();
        let left_due = looks_at_left.then(|| Instant::now() + LEFT_LOOK_EVERY);
        while !inbox.stop && inbox.words.is_empty() && inbox.synced.is_empty() && !inbox.own {
            match inbox.again.values().copied().chain(left_due).min() {
                None => self.wake.wait(&mut inbox),
                Some(due) if due <= Instant::now() => break,
                Some(due) => _ = self.wake.wait_until(&mut inbox, due),
            }
        }
        let now = Instant::now();
        let later = inbox.again.extract_if(.., |_, due| *due > now).collect();
        let taken = std::mem::take(&mut *inbox);
        inbox.again = later;
        (!taken.stop).then_some(taken)
    }

    fn take(
        &self,
        session: SessionId,
        word: Word,
        sessions: &impl Sessions,
        tasks: &Sender<Task>,
        left: &mut BTreeSet<SessionId>,
    ) {
        if word.ended {
            left.remove(&session);
            return self.gone(session);
        }
        if word.came {
            left.remove(&session);
            if self.registry.add_session(session).is_err() {
                return debug!(%session, "too many sessions have commands of their own; this one sees the base");
            }
            if !std::mem::replace(&mut *self.was_asked.lock(), true) {
                let _stopped = tasks.send(Task::Own(self.registry.look_for_base(OWN)));
            }
        }
        let directory = word.directory.or_else(|| word.came.then(|| sessions.directory(session)).flatten());
        if let Some(directory) = directory.filter(|_| self.registry.has_session(session)) {
            self.directories.lock().insert(session, directory.clone());
            let root = if sessions.is_here(session) { self.root_of(session, &directory) } else { None };
            self.place(session, root, tasks);
        } else if let Some((directory, root)) = word.late
            && self.directories.lock().get(&session) == Some(&directory)
        {
            self.place(session, root, tasks);
        }
        if word.left && self.registry.has_session(session) {
            left.insert(session);
        }
    }

    /// The session is in this project now.
    fn place(&self, session: SessionId, root: Option<PathBuf>, tasks: &Sender<Task>) {
        if let Some(look) = self.registry.set_project(session, root.as_deref())
            && let Some(root) = root
        {
            // Its number says that somebody looks; what is shown is what the turn finds.
            drop(look);
            let _stopped = tasks.send(Task::Project(root));
        }
    }

    /// The project that a session's directory is in. If its disk takes too long, none for now, and the answer comes as a word of its own.
    fn root_of(&self, session: SessionId, directory: &str) -> Option<PathBuf> {
        let (path, home) = (PathBuf::from(directory), self.places.home.clone());
        let (me, directory) = (Weak::clone(&self.me), directory.to_owned());
        let (path_again, home_again) = (path.clone(), home.clone());
        let late = move |root: Option<PathBuf>| {
            // A disk that has come back may have answered what was asked before with an error.
            let root = root.or_else(|| roots::of(&path_again, &home_again));
            if let Some(shared) = me.upgrade() {
                shared.inbox.lock().words.entry(session).or_default().late = Some((directory, root));
                shared.wake.notify_one();
            }
        };
        self.patience.within(ROOT_WAIT, move || roots::of(&path, &home), late).flatten()
    }

    /// First what runs for it, then what it sees.
    fn gone(&self, session: SessionId) {
        self.invocations.session_ended(session);
        self.directories.lock().remove(&session);
        self.registry.remove_session(session);
    }

    /// A thread that reads the disk.
    fn look(&self, inbox: &Mutex<Receiver<Task>>) {
        loop {
            let Ok(task) = inbox.lock().recv() else { return };
            match task {
                Task::Own(look) => self.look_at_own(&look),
                Task::Project(root) => _ = self.turn_at(&root),
            }
        }
    }

    /// `None` if the disk takes too long; what it has then goes to `late`.
    fn find(
        &self,
        whose: &Watched,
        late: impl FnOnce(&Self, Vec<sources::Slice>) + Send + 'static,
    ) -> Option<Vec<sources::Slice>> {
        let places = sources::Places { home: self.places.home.clone(), config: self.places.config.clone() };
        let (root, me) = (whose.clone(), Weak::clone(&self.me));
        let work = move || match root {
            Some(root) => sources::of_project(&root, &places, &Limits::default()),
            None => sources::of_user(&places, &Limits::default()),
        };
        let late = move |found| {
            if let Some(shared) = me.upgrade() {
                late(&shared, found);
            }
        };
        let found = self.patience.within(LOOK_WAIT, work, late);
        if found.is_none() {
            info!(root = ?whose, "the disk does not answer: its commands stay as they were");
        }
        found
    }

    /// What is watched only now may have changed since it was read: then it is looked at once more.
    fn watch(&self, whose: &Watched, found: &[sources::Slice], scope: sources::Scope) {
        let Some(watcher) = &self.watcher else { return };
        let own = found.iter().filter(|slice| slice.scope == scope);
        let outcome = watcher.watch(whose, own.flat_map(|slice| slice.depends_on.iter().cloned()));
        if outcome.is_new {
            self.changed(whose);
        }
        if !outcome.is_all {
            debug!("not all that commands depend on can be watched; it is looked at when one is run");
        }
    }

    /// A file has changed. Looked at soon, together with what else changes until then.
    fn changed(&self, watched: &Watched) {
        let mut inbox = self.inbox.lock();
        if !inbox.again.contains_key(watched) {
            inbox.again.insert(watched.clone(), Instant::now() + CHANGES_WAIT);
            self.wake.notify_one();
        }
    }

    fn look_at_own(&self, look: &Look) {
        // Before the base is said to be complete, and where the system told nothing of a change.
        self.installed.refresh();
        let again = look.clone();
        if let Some(found) = self.find(&None, move |shared, found| shared.show_own(&again, found)) {
            self.show_own(look, found);
        }
    }

    fn show_own(&self, look: &Look, found: Vec<sources::Slice>) {
        self.watch(&None, &found, sources::Scope::User);
        let slices = convert::slices(found, sources::Scope::User);
        self.registry.found_all(look, OWN_PREFIX, slices);
    }

    /// One look at a time at each project, and one for all that ask while another is under way: it begins after they have asked.
    fn turn_at(&self, root: &Path) -> bool {
        let turns = Arc::clone(self.turns.lock().entry(root.to_owned()).or_default());
        let was_shown = turns.take(|| {
            let look = |_| self.look_at_project(&self.registry.look_at_project(root)?, root);
            (0..LOOKS_MAX).map_while(look).any(|was_shown| was_shown)
        });
        let mut all = self.turns.lock();
        // The map's and ours: nobody else waits.
        if Arc::strong_count(&turns) == 2 {
            all.remove(root);
        }
        was_shown
    }

    /// False if a newer look has begun meanwhile; `None` if the disk does not answer.
    fn look_at_project(&self, look: &Look, root: &Path) -> Option<bool> {
        let (again, again_root) = (look.clone(), root.to_owned());
        let late = move |shared: &Self, found| _ = shared.show_project(&again, &again_root, found);
        let found = self.find(&Some(root.to_owned()), late)?;
        Some(self.show_project(look, root, found))
    }

    /// False if a newer look has begun meanwhile.
    fn show_project(&self, look: &Look, root: &Path, found: Vec<sources::Slice>) -> bool {
        self.watch(&Some(root.to_owned()), &found, sources::Scope::Project);
        let mut slices = convert::slices(found, sources::Scope::Project);
        // Held until the list is shown: agreement that is given or taken back meanwhile comes behind it, not before.
        let trust = self.trust.lock();
        for slice in &mut slices {
            *slice = slice.with_trust(|entry: &Entry| trust.of(root, entry));
        }
        let entries: usize = slices.iter().map(|slice| slice.entries().len()).sum();
        let was_used = self.registry.found_project(look, slices);
        drop(trust);
        info!(entries, was_used, "looked for a project's commands");
        was_used
    }
}
