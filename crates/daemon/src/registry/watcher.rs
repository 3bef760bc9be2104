//! Tells when a file changes on which commands depend.
//!
//! Promise: directories are watched, not files, since editors replace files; only what a source depends on counts; reading a file wakes
//! nobody. What cannot be watched (too many directories, a network's disk that tells nothing) is looked at when somebody runs or reloads.
//! Knows no source. inotify itself and no library around it: those also wake at each file that is opened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::FileType;
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;
use tracing::debug;

use super::sources::beneath::{Beneath, Mounts, path_of};

/// Directories of one project, or of the user's own sources, that are watched. Those that its sources named first are.
pub(super) const OF_ONE_MAX: usize = 128;

/// Directories in all. The system's own limit is per user and shared with their editors.
pub(super) const MAX: usize = 2_048;

/// Bytes of events that are read at once.
const READ_BYTES: usize = 16 << 10;

/// What is watched: a project by its root, or what is the user's own.
pub(super) type Watched = Option<PathBuf>;

/// Called with what has changed. It must not block.
pub(super) type OnChange = Box<dyn Fn(&Watched) + Send>;

#[derive(Debug, Default)]
struct State {
    /// Paths on which each depends, and the directories that are watched for them.
    depends: BTreeMap<Watched, (BTreeSet<PathBuf>, BTreeSet<PathBuf>)>,
    /// Directories and their watches.
    directories: HashMap<PathBuf, i32>,
    paths: HashMap<i32, PathBuf>,
}

/// What became of a wish to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watching {
    /// Everything that was wished for is watched.
    pub(super) is_all: bool,
    /// Some of it only since now: what was read of it before may have changed since.
    pub(super) is_new: bool,
}

/// All watches of this daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Watcher {
    inotify: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
    state: Arc<Mutex<State>>,
}

impl Watcher {
    /// Nothing yet.
    ///
    /// # Errors
    /// If the system gives no inotify: then there is none, and nothing is watched.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            inotify: Arc::new(init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?),
            stop: Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?),
            state: Arc::default(),
        })
    }

    /// Starts the thread, which sleeps until something happens.
    ///
    /// # Errors
    /// If the system gives none.
    pub(super) fn start(&self, on_change: OnChange) -> std::io::Result<()> {
        let own = self.clone();
        std::thread::Builder::new().name("watcher".into()).spawn(move || own.run(&on_change))?;
        Ok(())
    }

    /// Ends the thread soon.
    pub(super) fn stop(&self) {
        let _wakes = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
    }

    /// From now on `watched` depends on these paths, there or not, and on no others.
    pub(super) fn watch(&self, watched: &Watched, paths: impl IntoIterator<Item = PathBuf>) -> Watching {
        let paths: BTreeSet<PathBuf> = paths.into_iter().collect();
        // Of what leads out of a project nothing is asked: it may never answer.
        let root = watched.as_deref().map(|root| Beneath::new(root, Mounts::Refuse));
        let wanted: BTreeSet<PathBuf> = paths.iter().filter_map(|path| directory_of(path, root.as_ref())).collect();
        let state = &mut *self.state.lock();
        state.depends.insert(watched.clone(), (paths, wanted.clone()));
        let mut watching = Watching { is_all: wanted.len() <= OF_ONE_MAX, is_new: false };
        for directory in wanted.into_iter().take(OF_ONE_MAX) {
            watching.is_new |= !state.directories.contains_key(&directory);
            watching.is_all &= self.add(state, directory, root.as_ref());
        }
        self.tidy(state);
        watching
    }

    /// Only these are watched from now on.
    pub(super) fn keep_only(&self, is_kept: impl Fn(&Watched) -> bool) {
        let state = &mut *self.state.lock();
        let before = state.depends.len();
        state.depends.retain(|watched, _| is_kept(watched));
        if state.depends.len() < before {
            self.tidy(state);
        }
    }

    fn add(&self, state: &mut State, directory: PathBuf, root: Option<&Beneath>) -> bool {
        if state.directories.contains_key(&directory) {
            return true;
        }
        if state.directories.len() >= MAX {
            return false;
        }
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        let handle = root.map(|root| root.open(&directory));
        let at = match &handle {
            None => directory.clone(),
            Some(Ok((handle, _))) => path_of(handle),
            Some(Err(_)) => return true, // gone since it was looked for
        };
        match add_watch(&*self.inotify, &at, flags) {
            Ok(watch) => {
                // The same directory by another name keeps its first one.
                state.paths.entry(watch).or_insert_with(|| directory.clone());
                state.directories.insert(directory, watch);
                true
            }
            Err(Errno::NOENT | Errno::NOTDIR) => true,
            Err(error) => {
                debug!(%error, "a directory cannot be watched");
                false
            }
        }
    }

    /// Removes watches that nobody needs any more.
    fn tidy(&self, state: &mut State) {
        let needed: BTreeSet<&PathBuf> = state.depends.values().flat_map(|(_, directories)| directories).collect();
        let gone: Vec<PathBuf> = state.directories.keys().filter(|path| !needed.contains(path)).cloned().collect();
        for directory in gone {
            let Some(watch) = state.directories.remove(&directory) else { continue };
            if !state.directories.values().any(|other| *other == watch) {
                state.paths.remove(&watch);
                let _gone_already = remove_watch(&*self.inotify, watch);
            }
        }
    }

    fn run(&self, on_change: &OnChange) {
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) if !fds[1].revents().is_empty() => return,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            for watched in self.changed(&mut buffer) {
                on_change(&watched);
            }
        }
    }

    /// What has changed, by the events that are there.
    fn changed(&self, buffer: &mut [MaybeUninit<u8>]) -> BTreeSet<Watched> {
        let mut reader = Reader::new(&*self.inotify, buffer);
        let mut changed = BTreeSet::new();
        while let Ok(event) = reader.next() {
            let state = &mut *self.state.lock();
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                changed.extend(state.depends.keys().cloned());
                continue;
            }
            let Some(directory) = state.paths.get(&event.wd()).cloned() else { continue };
            if event.events().contains(ReadFlags::IGNORED) {
                // The directory is gone, and its watch with it: one that comes in its place is watched at the next look.
                state.paths.remove(&event.wd());
                state.directories.retain(|_, watch| *watch != event.wd());
            }
            let name =
                event.file_name().map(|name| Path::new(std::ffi::OsStr::new(&*name.to_string_lossy())).to_owned());
            let path = name.map_or_else(|| directory.clone(), |name| directory.join(name));
            let depends = state.depends.iter().filter(|(_, (paths, _))| is_one_of(paths, &path));
            changed.extend(depends.map(|(watched, _)| watched.clone()));
        }
        changed
    }
}

/// Whether `path` is one of these, is in one of them, or has one of them in it.
fn is_one_of(paths: &BTreeSet<PathBuf>, path: &Path) -> bool {
    let is_inside = || path.parent().is_some_and(|parent| paths.contains(parent));
    // Those that begin with `path` stand behind it.
    let has_inside = || paths.range(path.to_owned()..).next().is_some_and(|next| next.starts_with(path));
    paths.contains(path) || is_inside() || has_inside()
}

/// The directory to watch for a path: itself if it is one, else the nearest above that is there; of a project only beneath its root.
fn directory_of(path: &Path, root: Option<&Beneath>) -> Option<PathBuf> {
    let Some(root) = root else {
        return path.ancestors().find(|at| at.is_dir()).filter(|at| at.parent().is_some()).map(Path::to_owned);
    };
    path.ancestors().find(|at| matches!(root.open(at), Ok((_, FileType::Directory)))).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn what_a_source_depends_on_is_told_also_when_it_comes_later_and_nothing_else_is() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap().join("p");
        std::fs::create_dir_all(&root).unwrap();
        let watcher = Watcher::new().unwrap();
        let (tell, told) = channel();
        watcher.start(Box::new(move |whose| drop(tell.send(whose.clone())))).unwrap();
        let paths = || [root.join("justfile"), root.join(".claude/commands")];
        let whose = Some(root.clone());
        assert!(watcher.watch(&whose, paths()).is_new);
        // Noise, then what counts: the first word is of what counts.
        std::fs::write(root.join("noise"), "x").unwrap();
        std::fs::read(root.join("noise")).unwrap();
        std::fs::create_dir_all(root.join(".claude/commands")).unwrap();
        assert_eq!(told.recv_timeout(SOON).unwrap(), whose);
        assert!(watcher.watch(&whose, paths()).is_new);
        while told.try_recv().is_ok() {}
        std::fs::write(root.join(".claude/commands/review.md"), "x").unwrap();
        assert_eq!(told.recv_timeout(SOON).unwrap(), whose);
        // As editors do.
        while told.recv_timeout(Duration::from_millis(50)).is_ok() {}
        std::fs::write(root.join("justfile.new"), "x").unwrap();
        std::fs::rename(root.join("justfile.new"), root.join("justfile")).unwrap();
        assert_eq!(told.recv_timeout(SOON).unwrap(), whose);
        watcher.keep_only(|_| false);
        assert!(watcher.state.lock().directories.is_empty());
        watcher.stop();
        while told.recv_timeout(SOON).is_ok() {}
    }

    /// `/proc` stands for a mount that never answers.
    #[test]
    fn what_leads_out_of_a_project_is_not_watched_but_the_link_is() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("/proc", root.join(".claude")).unwrap();
        let watcher = Watcher::new().unwrap();
        watcher.watch(&Some(root.clone()), [root.join(".claude/self"), root.join(".claude"), "/etc/x".into()]);
        assert_eq!(watcher.state.lock().directories.keys().collect::<Vec<_>>(), [&root]);
    }

    #[test]
    fn no_more_is_watched_than_may_be() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap();
        let paths: Vec<PathBuf> = (0..OF_ONE_MAX + 5).map(|n| root.join(format!("d{n}"))).collect();
        for path in &paths {
            std::fs::create_dir(path).unwrap();
        }
        let watcher = Watcher::new().unwrap();
        assert!(!watcher.watch(&None, paths.clone()).is_all);
        assert_eq!(watcher.state.lock().directories.len(), OF_ONE_MAX);
        assert_eq!(watcher.watch(&None, paths.into_iter().take(3)), Watching { is_all: true, is_new: false });
        assert_eq!(watcher.state.lock().directories.len(), 3);
    }
}
