//! Installed packages as a source of the base: what any process installs or removes is here at once.
//!
//! Promise: the list is as one state of the database, wholly; who was there before and is the same stays the same entry; what runs keeps
//! its files until it has ended. Knows of the disk only through `packages`.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use shellkeep_protocol::registry::{Diagnostic, EntryState, Kind, Scope};
use tracing::debug;

use super::core::CommandRegistry;
use super::entry::{Draft, Exec};
use super::names;
use super::slice::Slice;
use super::watcher::Watcher;
use crate::packages::{Lease, PackageCommand, Packages};

/// The source of packages' commands, and its name in diagnostics.
pub(super) const SOURCE: &str = "packages";

/// Looks for the directory of packages until nothing of it is new: it may be made while it is looked for. Deeper than it lies.
const WATCH_TRIES_MAX: u32 = 16;

/// A program of a package, as it lies in the store.
#[derive(Debug, Clone)]
pub struct Spawn {
    /// Its absolute path: another release has another one.
    pub program: String,
    packages: Arc<Packages>,
}

/// Two are one if they run the same.
impl PartialEq for Spawn {
    fn eq(&self, other: &Self) -> bool {
        self.program == other.program
    }
}

impl Eq for Spawn {}

/// A package's command that runs: as long as this is held, its files stay.
#[derive(Debug)]
pub struct Held {
    lease: Option<Lease>,
    packages: Arc<Packages>,
}

impl Spawn {
    /// Keeps the program's files from now on.
    ///
    /// # Errors
    /// If it is gone.
    pub(super) fn hold(&self) -> std::io::Result<Held> {
        let lease = Lease::take(Path::new(&self.program))?;
        // It may have been removed between the list and here: then it is not there any more, or there because it still runs.
        std::fs::symlink_metadata(&self.program)?;
        if self.packages.is_removed(Path::new(&self.program)) {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        Ok(Held { lease: Some(lease), packages: Arc::clone(&self.packages) })
    }
}

impl Drop for Held {
    /// What was removed meanwhile is deleted now. On a thread of its own: whoever drops this may have no time.
    fn drop(&mut self) {
        self.lease = None;
        if self.packages.has_removed() {
            let packages = Arc::clone(&self.packages);
            let tidy = move || drop(packages.look());
            // Without a thread the next operation does it.
            let _none = std::thread::Builder::new().name("trash".into()).spawn(tidy);
        }
    }
}

/// What tells the registry of packages.
#[derive(Debug)]
pub(crate) struct Installed {
    registry: Arc<CommandRegistry>,
    packages: Arc<Packages>,
    /// `None` if the system gives no inotify: then they are looked at when all else is.
    watcher: Option<Watcher>,
    /// What was found damaged and mended when the daemon started.
    notes: Mutex<Vec<String>>,
}

impl Installed {
    /// Those in the directory `root`, which need not exist.
    pub(super) fn new(registry: Arc<CommandRegistry>, root: &Path) -> Arc<Self> {
        let watcher = Watcher::new().inspect_err(|error| debug!(%error, "packages cannot be watched")).ok();
        Arc::new(Self { registry, packages: Arc::new(Packages::new(root)), watcher, notes: Mutex::default() })
    }

    /// Starts the threads: one that waits for changes, and one that puts in order what an operation may have left half done.
    ///
    /// # Errors
    /// If the system gives none.
    pub(super) fn start(self: &Arc<Self>) -> std::io::Result<()> {
        if let Some(watcher) = &self.watcher {
            let own = Arc::clone(self);
            // At once: who installs a package means to run it.
            watcher.start(Box::new(move |_| own.refresh()))?;
        }
        let own = Arc::clone(self);
        std::thread::Builder::new().name("packages".into()).spawn(move || own.begin())?;
        Ok(())
    }

    /// Ends the thread that waits.
    pub(super) fn stop(&self) {
        self.watcher.iter().for_each(Watcher::stop);
    }

    fn begin(&self) {
        self.refresh();
        // May wait for another operation, if the database is damaged.
        match self.packages.look() {
            Ok(look) if look.notes.is_empty() => {}
            Ok(look) => {
                *self.notes.lock() = look.notes;
                self.refresh();
            }
            Err(error) => debug!(%error, "packages cannot be put in order"),
        }
    }

    /// Makes the list as the database is now. Blocking.
    pub(super) fn refresh(&self) {
        self.watch();
        let look = self.registry.look_for_base(SOURCE);
        let mut told: Vec<Diagnostic> = self.notes.lock().iter().map(|note| diagnostic(note.clone(), false)).collect();
        let before = self.registry.slice_of_base(SOURCE);
        let slice = match self.packages.commands() {
            Ok(all) => {
                let drafts = all.commands.into_iter().map(|command| draft(command, &self.packages)).collect();
                let slice = Slice::new(SOURCE, drafts, told);
                if let Some(before) = &before { slice.keeping(before) } else { slice }
            }
            Err(error) => {
                // What was there is likely to be there still.
                told.push(diagnostic(format!("what is installed cannot be read: {error}"), true));
                match &before {
                    Some(before) => before.with_told(told),
                    None => Slice::new(SOURCE, Vec::new(), told),
                }
            }
        };
        self.registry.found(&look, slice);
    }

    /// Each time anew: the directory may have come, or gone.
    fn watch(&self) {
        let Some(watcher) = &self.watcher else { return };
        for _ in 0..WATCH_TRIES_MAX {
            let watching = watcher.watch(&None, [self.packages.watched()]);
            if !watching.is_new {
                break;
            }
        }
    }
}

fn diagnostic(message: String, is_loss: bool) -> Diagnostic {
    Diagnostic { source: SOURCE.to_owned(), file: None, line: None, message, is_loss }
}

fn draft(command: PackageCommand, packages: &Arc<Packages>) -> Draft {
    let PackageCommand { name, package, version, digest, program, .. } = command;
    let (exec, state) = match program.to_str() {
        Some(text) => (
            Exec::Spawn(Arc::new(Spawn { program: text.to_owned(), packages: Arc::clone(packages) })),
            EntryState::Ready,
        ),
        None => (Exec::Nothing, EntryState::Unavailable("its path is no text".to_owned())),
    };
    Draft {
        description: command.description,
        args_hint: command.args_hint,
        path: Some(names::shown(&program.to_string_lossy())),
        group: Some(format!("{package} {version}")),
        decides: decides(&digest, &program),
        state,
        installed: Some(command.installed_seq),
        ..Draft::new(&name, &package, Kind::Package, Scope::User, exec)
    }
}

/// Of the package's files, and of which of them runs.
fn decides(digest: &str, program: &Path) -> Vec<u8> {
    [digest.as_bytes(), &[0], program.as_os_str().as_encoded_bytes()].concat()
}

#[cfg(test)]
mod tests;
