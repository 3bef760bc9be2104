//! The process's one inotify instance, and the one thread that reads it for all watches.
//!
//! Promises that both exist only while somebody watches, that the thread sleeps until the kernel has something to tell,
//! and that it waits for nobody: it marks, wakes and sleeps again. Shared because the system allows a user 128 instances
//! by default, which a thousand clients of one process would have used up among themselves; a thread because watches of
//! several runtimes share it, any of which may end first. Knows names in directories, and nothing of sockets.

use std::collections::HashMap;
use std::ffi::{CStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::Notify;

use crate::sync::Mutex;

/// Room for the events of one read: some 60 with the longest names.
const EVENTS_BYTES: usize = 16 << 10;
/// The thread's stack: twice what its deepest call, a diagnostic, has been seen to need, and the room for events.
const STACK_BYTES: usize = 128 << 10;

/// What a name in a directory is watched for.
const WATCHED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// The directory is not at its path any more.
const GONE: ReadFlags = ReadFlags::IGNORED.union(ReadFlags::DELETE_SELF).union(ReadFlags::MOVE_SELF);
/// The name has only gone.
const DEPARTURE: ReadFlags = ReadFlags::DELETE.union(ReadFlags::MOVED_FROM);

/// The instance in use; the watches keep it alive, and the last one ends it.
static CURRENT: Mutex<Weak<Lookout>> = Mutex::new(Weak::new());

/// What somebody wants to be told of, and the bell that tells it.
pub(super) struct Told {
    name: OsString,
    of: Of,
    pub(super) changed: Notify,
    /// The directory has gone, and this was forgotten with it: to be posted again.
    gone: AtomicBool,
}

/// Which changes of a name matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Anything,
    /// Not of its mere disappearance.
    Arrivals,
}

impl Told {
    pub(super) fn new(name: OsString, of: Of) -> Arc<Self> {
        Arc::new(Self { name, of, changed: Notify::new(), gone: AtomicBool::new(false) })
    }

    /// Whether it waits for nothing, since its directory has gone.
    pub(super) fn is_forgotten(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn wants(&self, name: Option<&CStr>, what: ReadFlags) -> bool {
        let departed = what.intersects(DEPARTURE) && self.of == Of::Arrivals;
        !departed && name.is_some_and(|name| name.to_bytes() == self.name.as_bytes())
    }
}

/// Where one `Told` waits: leaves with this value.
pub(super) struct Post {
    lookout: Arc<Lookout>,
    directory: i32,
    ticket: u64,
}

impl Drop for Post {
    fn drop(&mut self) {
        let mut posts = self.lookout.posts.lock();
        let Some(here) = posts.directories.get_mut(&self.directory) else {
            return; // the directory went first
        };
        here.remove(&self.ticket);
        if here.is_empty() {
            posts.directories.remove(&self.directory);
            // Under the lock, so that nobody is posted at a watch that is about to go.
            let _ = inotify::remove_watch(&*self.lookout.inotify, self.directory); // it may have gone by itself
        }
    }
}

/// Fields in the order in which they must go: the thread closes the instance, after it was told to end. Closing waits
/// for a grace period of the kernel, some 15 ms, which a client that has just reconnected must not spend on its runtime.
pub(super) struct Lookout {
    posts: Mutex<Posts>,
    inotify: Arc<OwnedFd>,
    _end: End,
}

#[derive(Default)]
struct Posts {
    /// By the kernel's number of the watched directory, which it does not use again before it has used all others.
    directories: HashMap<i32, HashMap<u64, Arc<Told>>>,
    next_ticket: u64,
    /// The thread has failed: nobody would be told.
    blind: bool,
}

/// Ends the thread when dropped.
struct End(Arc<OwnedFd>);

impl Drop for End {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes()); // cannot fail: it is written once
    }
}

impl Lookout {
    /// The instance in use, or a new one.
    ///
    /// # Errors
    /// The user's instances, the descriptors or the threads are used up.
    pub(super) fn current() -> io::Result<Arc<Self>> {
        let mut current = CURRENT.lock();
        if let Some(lookout) = current.upgrade() {
            return Ok(lookout);
        }
        let lookout = Self::start()?;
        *current = Arc::downgrade(&lookout);
        Ok(lookout)
    }

    fn start() -> io::Result<Arc<Self>> {
        let inotify = Arc::new(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?);
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let lookout =
            Arc::new(Self { posts: Mutex::default(), inotify: Arc::clone(&inotify), _end: End(Arc::clone(&end)) });
        let weak = Arc::downgrade(&lookout);
        let thread = std::thread::Builder::new().name("socket-watch".into()).stack_size(STACK_BYTES);
        thread.spawn(move || keep_watch(&inotify, &end, &weak))?;
        Ok(lookout)
    }

    /// Tells `told` of what happens to its name in `directory` from now on; `None` if that cannot be watched.
    pub(super) fn post(self: &Arc<Self>, directory: &Path, told: &Arc<Told>) -> Option<Post> {
        let mut posts = self.posts.lock();
        if posts.blind {
            return None;
        }
        let directory = inotify::add_watch(&*self.inotify, directory, WATCHED).ok()?;
        let ticket = posts.next_ticket;
        posts.next_ticket += 1;
        told.gone.store(false, Ordering::Release);
        posts.directories.entry(directory).or_default().insert(ticket, Arc::clone(told));
        drop(posts);
        Some(Post { lookout: Arc::clone(self), directory, ticket })
    }

    /// Marks who is to be told, once each however much has happened.
    fn note(&self, event: &inotify::Event<'_>, wake: &mut HashMap<u64, Arc<Told>>) {
        let (directory, what) = (event.wd(), event.events());
        let mut posts = self.posts.lock();
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            let all = posts.directories.values().flatten();
            wake.extend(all.map(|(ticket, told)| (*ticket, Arc::clone(told))));
        } else if what.intersects(GONE) {
            let Some(forgotten) = posts.directories.remove(&directory) else {
                return;
            };
            // One that was moved is still watched, wherever it is now.
            let _ = inotify::remove_watch(&*self.inotify, directory);
            for told in forgotten.values() {
                told.gone.store(true, Ordering::Release);
            }
            wake.extend(forgotten);
        } else if let Some(here) = posts.directories.get(&directory) {
            let wanted = here.iter().filter(|(_, told)| told.wants(event.file_name(), what));
            wake.extend(wanted.map(|(ticket, told)| (*ticket, Arc::clone(told))));
        }
    }

    /// Forgets everybody: they have their own delays.
    fn go_blind(&self) {
        let mut posts = self.posts.lock();
        posts.blind = true;
        for told in posts.directories.drain().flat_map(|(_, here)| here.into_values()) {
            told.gone.store(true, Ordering::Release);
        }
    }
}

/// The thread's whole life: until the last watch has gone.
fn keep_watch(inotify: &Arc<OwnedFd>, end: &OwnedFd, lookout: &Weak<Lookout>) {
    loop {
        let mut ready = [PollFd::new(&**inotify, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        let polled = poll(&mut ready, None);
        if !ready[1].revents().is_empty() {
            return;
        }
        let Some(lookout) = lookout.upgrade() else {
            return;
        };
        let seen = match polled {
            Ok(_) => tell(&lookout),
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = seen {
            tracing::warn!(%error, "inotify failed, waiting by delays alone");
            lookout.go_blind();
            return;
        }
    }
}

/// Reads everything that has happened so far, and wakes whom it concerns.
fn tell(lookout: &Lookout) -> Result<(), Errno> {
    let mut room = [MaybeUninit::uninit(); EVENTS_BYTES];
    let mut events = inotify::Reader::new(&*lookout.inotify, &mut room);
    let mut wake = HashMap::new();
    let seen = loop {
        match events.next() {
            Ok(event) => lookout.note(&event, &mut wake),
            Err(Errno::AGAIN) => break Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => break Err(error),
        }
    };
    for told in wake.into_values() {
        told.changed.notify_one();
    }
    seen
}
