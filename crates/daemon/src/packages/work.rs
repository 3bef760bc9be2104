//! One operation at a time: the lock, the state as it is, and what an operation before may have left half done.
//!
//! Promise: whatever instruction an operation ended at, the next begins with the old or the new state, whole; what was not committed is
//! thrown away. A damaged database comes back from its copy, else from the store.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::db::{self, Db, DbError, Package, Receipt, directory_name};
use super::directory;
use super::disk::{Disk, Found, Kind, list_own};
use super::error::PackageError;
use super::intake;
use super::layout::Layout;
use super::left;
use super::manifest::Manifest;
use super::staging::MOVABLE_MODE;
use super::uses::Users;
use crate::lock::{Lock, LockError};

/// Pause between two looks at a lock that another has.
const LOCK_LOOK_EVERY: Duration = Duration::from_millis(20);
/// Damaged databases that are kept, if the first place is taken by something that cannot be replaced.
const ASIDE_MAX: u32 = 4;
/// Names that are tried for a link before it is moved to its place.
const BESIDE_MAX: u32 = 16;
/// Directories in one another that are deleted; deeper than any package.
const DELETE_DEPTH_MAX: usize = 64;

/// For each shell, what the file that completes a command has before and behind its name.
const COMPLETION_FILES: [(&str, &str, &str); 3] = [("bash", "", ""), ("zsh", "_", ""), ("fish", "", ".fish")];

/// Where fish looks for what completes a command: a link for each, all to one file. For it would read a package's own whatever the name
/// means to its user, and forget what it has read of others if its list of directories changes: so it reads that, which asks the shell.
const FISH_ASKS: &str = "fish-asks";
/// That file, and what is in it.
const FISH_ASK: (&str, &str) = (
    "ask.fish",
    "# What completes a command of a package is read by a kept fish alone, if the name means the package's command there.\n\
     functions --query __shellkeep_asked; and __shellkeep_asked (status filename)\n",
);

/// One part of what brings everything in line with the database.
type Step<'a> = fn(&Work<'a>) -> io::Result<()>;

/// The right to change what is installed, until it is dropped.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) layout: &'a Layout,
    /// As it is on the disk.
    pub(super) db: Db,
    /// What the user should know.
    pub(super) notes: Vec<String>,
    /// The copy of the database is as it is.
    is_copied: Cell<bool>,
    _lock: Lock,
}

impl<'a> Work<'a> {
    /// Waits for the lock, reads the state and cleans up.
    ///
    /// # Errors
    /// [`PackageError::Busy`] after `wait`; if the state cannot be had.
    pub(super) fn begin(disk: &'a dyn Disk, layout: &'a Layout, wait: Duration) -> Result<Self, PackageError> {
        for directory in layout.directories() {
            match disk.make_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(PackageError::io("make", directory)(error));
                }
                _ => {}
            }
        }
        let lock = take_lock(layout, wait)?;
        let mut notes = Vec::new();
        let db = load(disk, layout, &mut notes)?;
        let mut work = Self { disk, layout, db, notes, is_copied: Cell::new(false), _lock: lock };
        work.clean();
        Ok(work)
    }

    /// Makes `next` the state: the commit, its copy, then `bin/`, then what nobody needs any more.
    ///
    /// # Errors
    /// If the commit itself fails; whatever comes after it is a note, and the next operation does it again.
    pub(super) fn commit(&mut self, mut next: Db) -> Result<(), PackageError> {
        next.serial = self.db.serial + 1;
        let failed = |source| PackageError::Db { path: self.layout.root.join(db::FILE), source };
        next.commit(self.disk, &self.layout.root).map_err(failed)?;
        self.db = next;
        if let Err(error) = self.disk.sync_dir(&self.layout.root) {
            self.notes.push(format!("it is done, but the disk has not confirmed it ({error})"));
        }
        self.clean();
        Ok(())
    }

    /// Brings everything beside the database in line with it. Nothing here can make the state another.
    fn clean(&mut self) {
        let steps: [(&str, Step<'a>); 6] = [
            ("staging", Self::sweep_staging),
            ("the copy of the database", |work| work.copy().inspect(|()| work.is_copied.set(true))),
            ("bin", Self::reconcile_bin),
            ("completions", Self::reconcile_completions),
            ("the store", Self::sweep_store),
            ("the trash", Self::empty_trash),
        ];
        self.is_copied.set(false);
        for (what, step) in steps {
            if let Err(error) = step(self) {
                self.notes
                    .push(format!("{what} could not be brought in order ({error}); the next operation tries again"));
            }
        }
    }

    fn copy(&self) -> io::Result<()> {
        let copy = Db::read(self.disk, &self.layout.root.join(db::COPY));
        if copy.is_ok_and(|copy| copy.as_ref() == Some(&self.db)) {
            return Ok(());
        }
        self.db.commit_copy(self.disk, &self.layout.root).map_err(|error| match error {
            DbError::Io(error) => error,
            other => io::Error::other(other),
        })
    }

    /// What was begun and not finished.
    fn sweep_staging(&self) -> io::Result<()> {
        for found in self.disk.list(&self.layout.root)?.iter().filter(|found| found.name == db::BESIDE) {
            delete(self.disk, found, 0)?;
        }
        list_own(self.disk, &self.layout.staging)?.iter().try_for_each(|found| delete(self.disk, found, 0))
    }

    /// What no package has goes to the trash, unless it runs: then it stays where it is, for a program finds what lies beside it by its
    /// path. So does what the old copy of the database may still name.
    fn sweep_store(&self) -> io::Result<()> {
        let installed: BTreeSet<String> = self.db.directories().collect();
        let all = list_own(self.disk, &self.layout.store)?;
        for found in all.iter().filter(|found| !installed.contains(&found.name)) {
            if !found.is_directory() || self.is_copied.get() && !self.is_used(found) {
                self.discard(found)?;
            } else if !left::is_left(self.layout, &found.path) {
                self.disk.create(&left::mark(self.layout, &found.name))?;
            }
        }
        Ok(())
    }

    /// Whether any process uses a release, or runs one of its commands as they were called.
    fn is_used(&self, found: &Found) -> bool {
        let receipt = Receipt::read(self.disk, &found.path);
        let names = receipt.iter().filter(|receipt| !receipt.choices.no_bin).flat_map(Receipt::names);
        let names = names.map(|name| self.layout.bin.join(name)).collect();
        let replaced = left::replaced(self.layout, &found.name);
        Users::of(replaced.into_iter().chain([found.path.clone()]), names).are_there()
    }

    /// Takes something out of the store, whoever uses it.
    fn discard(&self, found: &Found) -> io::Result<()> {
        if !found.is_directory() {
            return delete(self.disk, found, 0);
        }
        let taken = list_own(self.disk, &self.layout.trash)?;
        let name = (0..).map(|number: u32| format!("{}.{number}", found.name));
        let mut free = name.filter(|name| taken.iter().all(|there| there.name != *name));
        let to = self.layout.trash.join(free.next().unwrap_or_default());
        self.disk.set_mode(&found.path, MOVABLE_MODE)?;
        self.disk.rename(&found.path, &to)
    }

    /// The same with what has changed places with a new release, under that one's name: who uses it looks for its files there. What is in
    /// its place now is no longer marked, before it is installed: else nobody could run it until it is.
    pub(super) fn discard_staged(&self, name: &str) -> io::Result<()> {
        let staged = list_own(self.disk, &self.layout.staging)?;
        staged.into_iter().try_for_each(|found| self.discard(&Found { name: name.to_owned(), ..found }))?;
        match self.disk.remove_file(&left::mark(self.layout, name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes what nobody uses any more, and marks of what is installed, or gone.
    fn empty_trash(&self) -> io::Result<()> {
        let installed: BTreeSet<String> = self.db.directories().collect();
        let store = list_own(self.disk, &self.layout.store)?;
        let is_left = |name: &str| !installed.contains(name) && store.iter().any(|there| there.name == name);
        for found in list_own(self.disk, &self.layout.trash)? {
            let stays = match left::marked(&found) {
                Some(name) => is_left(name),
                None => found.is_directory() && Users::of([found.path.clone()], Vec::new()).are_there(),
            };
            if !stays {
                delete(self.disk, &found, 0)?;
            }
        }
        Ok(())
    }

    /// One link for each command.
    fn reconcile_bin(&self) -> io::Result<()> {
        let mut wanted = BTreeMap::new();
        for package in self.db.packages.values().filter(|package| !package.choices.no_bin) {
            let store = Path::new("../store").join(directory_name(&package.name, &package.current));
            wanted.extend(package.commands().map(|(name, command)| (name.to_owned(), store.join(&command.path))));
        }
        self.reconcile_links(&self.layout.bin, wanted)
    }

    /// The same for each shell, by the names under which it looks for them. What completes a command says its name, so of renamed ones
    /// there are none.
    fn reconcile_completions(&self) -> io::Result<()> {
        list_own(self.disk, &self.layout.completions)?;
        for (shell, before, behind) in COMPLETION_FILES {
            let directory = self.layout.completions.join(shell);
            match self.disk.make_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let mut wanted = BTreeMap::new();
            for package in self.db.packages.values().filter(|package| !package.choices.no_bin) {
                let store = Path::new("../../store").join(directory_name(&package.name, &package.current));
                for (name, command) in package.commands().filter(|(name, command)| *name == command.name) {
                    let file = command.completions.all().find(|(of, _)| *of == shell);
                    wanted.extend(file.map(|(_, path)| (format!("{before}{name}{behind}"), store.join(path))));
                }
            }
            if shell == "fish" {
                self.reconcile_fish_asks(wanted.keys())?;
            }
            self.reconcile_links(&directory, wanted)?;
        }
        Ok(())
    }

    fn reconcile_fish_asks<'n>(&self, files: impl Iterator<Item = &'n String>) -> io::Result<()> {
        let (name, text) = FISH_ASK;
        let file = self.layout.completions.join(name);
        if self.disk.read(&file, text.len() as u64).ok().as_deref() != Some(text.as_bytes()) {
            let beside = self.layout.completions.join(".new");
            let _none_or_half = self.disk.remove_file(&beside);
            let mut made = self.disk.create(&beside)?;
            self.disk.write(&mut made, text.as_bytes())?;
            self.disk.rename(&beside, &file)?;
        }
        let directory = self.layout.completions.join(FISH_ASKS);
        match self.disk.make_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.reconcile_links(&directory, files.map(|file| (file.clone(), Path::new("..").join(name))).collect())
    }

    /// Of our links these and nothing else; what somebody else has put there stays. Each changes by a rename, so a name is
    /// never away.
    fn reconcile_links(&self, directory: &Path, mut wanted: BTreeMap<String, PathBuf>) -> io::Result<()> {
        let mut others = Vec::new();
        for found in list_own(self.disk, directory)? {
            let leads_to = if found.kind == Kind::Link { Some(self.disk.read_link(&found.path)?) } else { None };
            match wanted.get(found.name.as_str()) {
                Some(target) if leads_to.as_ref() == Some(target) => {
                    wanted.remove(found.name.as_str());
                }
                Some(_) if !leads_to.as_deref().is_some_and(is_ours) => {
                    wanted.remove(found.name.as_str());
                    others.push(found.name);
                }
                None if leads_to.as_deref().is_some_and(is_ours) => delete(self.disk, &found, 0)?,
                _ => {} // replaced below, or in nobody's way
            }
        }
        for (name, target) in wanted {
            let beside = self.link_beside(directory, &target)?;
            self.disk.rename(&beside, &directory.join(name))?;
        }
        if others.is_empty() {
            return Ok(());
        }
        let (names, place) = (others.join(", "), directory.display());
        Err(io::Error::other(format!("{names} in {place} is somebody else's: move it away")))
    }

    /// A link that is to be moved over another one; beside what others may have put there.
    fn link_beside(&self, directory: &Path, target: &Path) -> io::Result<PathBuf> {
        let mut tried = Err(io::ErrorKind::AlreadyExists.into());
        for number in 0..BESIDE_MAX {
            let beside = directory.join(format!(".new.{number}"));
            tried = self.disk.link(target, &beside).map(|()| beside);
            if !matches!(&tried, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
                break;
            }
        }
        tried
    }
}

/// Whether a link is one of ours.
fn is_ours(target: &Path) -> bool {
    ["../store", "../../store"].iter().any(|store| target.starts_with(store))
        || target == Path::new("..").join(FISH_ASK.0)
}

fn take_lock(layout: &Layout, wait: Duration) -> Result<Lock, PackageError> {
    let until = Instant::now() + wait;
    loop {
        match Lock::take(&layout.lock) {
            Ok(lock) => return Ok(lock),
            Err(LockError::Held { .. }) if Instant::now() < until => std::thread::sleep(LOCK_LOOK_EVERY),
            Err(LockError::Held { pid }) => return Err(PackageError::Busy { pid }),
            Err(LockError::Io { path, source }) => return Err(PackageError::io("lock", &path)(source)),
        }
    }
}

/// The state, brought back if it is damaged. Always on the disk when this returns.
fn load(disk: &dyn Disk, layout: &Layout, notes: &mut Vec<String>) -> Result<Db, PackageError> {
    let path = layout.root.join(db::FILE);
    let failed = |source| PackageError::Db { path: path.clone(), source };
    let why = match Db::read(disk, &path) {
        Ok(Some(db)) => return Ok(db),
        Ok(None) => None,
        Err(DbError::Damaged(why)) => Some(why),
        Err(other) => return Err(failed(other)),
    };
    let copy = Db::read(disk, &layout.root.join(db::COPY)).ok().flatten();
    let (mut db, from) = match copy {
        Some(db) => (db, "its copy"),
        None => (Db::rebuild(disk, layout).map_err(PackageError::io("read", &layout.store))?, "the store"),
    };
    if from == "the store" {
        rebuild_without_receipts(disk, layout, &mut db, notes).map_err(PackageError::io("read", &layout.store))?;
    }
    only_what_is_there(disk, layout, &mut db, notes)?;
    let forgotten = if from == "the store" { ", which does not know of versions that were gone back to" } else { "" };
    if let Some(why) = &why {
        notes.push(format!("{} was damaged ({why}); it was brought back from {from}{forgotten}", db::FILE));
        set_aside(disk, &path, &layout.root).map_err(PackageError::io("move", &path))?;
    } else if !db.packages.is_empty() {
        notes.push(format!("{} was missing; it was brought back from {from}{forgotten}", db::FILE));
    }
    db.serial += 1;
    db.commit(disk, &layout.root).map_err(failed)?;
    Ok(db)
}

/// Keeps what was damaged. Over one that was kept before; if that cannot be, since one of both is a directory, beside it.
fn set_aside(disk: &dyn Disk, path: &Path, root: &Path) -> io::Result<()> {
    let mut tried = disk.rename(path, &root.join(db::DAMAGED));
    for number in 2..=ASIDE_MAX {
        if tried.is_ok() {
            break;
        }
        tried = disk.rename(path, &root.join(format!("{}.{number}", db::DAMAGED)));
    }
    tried
}

/// A copy of the database may name what is no longer there.
fn only_what_is_there(
    disk: &dyn Disk,
    layout: &Layout,
    db: &mut Db,
    notes: &mut Vec<String>,
) -> Result<(), PackageError> {
    let there = list_own(disk, &layout.store).map_err(PackageError::io("read", &layout.store))?;
    let is_there = |name: &str| there.iter().any(|found| found.name == name);
    for package in db.packages.values_mut() {
        package.previous = package.previous.take().filter(|release| is_there(&directory_name(&package.name, release)));
    }
    db.packages.retain(|name, package| {
        let stays = is_there(&directory_name(name, &package.current));
        if !stays {
            notes.push(format!("{name} {} is gone: its files are not there", package.current.version));
        }
        stays
    });
    Ok(())
}

/// Releases whose receipt is damaged too: their manifest says enough, and the directory's name has some of their digest.
fn rebuild_without_receipts(disk: &dyn Disk, layout: &Layout, db: &mut Db, notes: &mut Vec<String>) -> io::Result<()> {
    for found in left::installed(disk, layout)? {
        if Receipt::read(disk, &found.path).is_ok() {
            continue;
        }
        let Some((name, release)) = from_manifest(disk, &found) else {
            notes.push(format!("{} in the store cannot be read and was thrown away", found.name));
            continue;
        };
        let seq = release.seq;
        let package =
            Package { name: name.clone(), seq, choices: db::Choices::default(), current: release, previous: None };
        db.packages.entry(name).or_insert(package);
    }
    one_name_once(db, notes);
    Ok(())
}

/// What a command was called here is not known without the receipt: of two that would have one name the later is not in `bin/`.
fn one_name_once(db: &mut Db, notes: &mut Vec<String>) {
    let mut all: Vec<&mut Package> = db.packages.values_mut().filter(|package| !package.choices.no_bin).collect();
    all.sort_by_key(|package| package.seq);
    let mut known = BTreeSet::new();
    for package in all {
        let names: Vec<String> = package.commands().map(|(name, _)| name.to_owned()).collect();
        if let Some(twice) = names.iter().find(|name| known.contains(*name)) {
            notes.push(format!(
                "{} is no longer in bin: another package has {twice}; install it again with --as",
                package.name
            ));
            package.choices.no_bin = true;
        } else {
            known.extend(names);
        }
    }
}

fn from_manifest(disk: &dyn Disk, found: &Found) -> Option<(String, db::Release)> {
    let items = directory::items(&found.path).ok()?;
    let bytes = disk.read(&found.path.join(super::manifest::FILE), super::manifest::BYTES_MAX).ok()?;
    let manifest = Manifest::from_toml(&bytes).ok()?;
    let origin = db::Origin::Directory { path: found.path.to_string_lossy().into_owned() };
    let release = super::install::release(&manifest, intake::digest(&items), origin, 0);
    (directory_name(&manifest.name, &release) == found.name).then_some((manifest.name, release))
}

/// Deletes something and all that is in it. Links are deleted, not followed.
pub(super) fn delete(disk: &dyn Disk, found: &Found, depth: usize) -> io::Result<()> {
    if depth > DELETE_DEPTH_MAX {
        return Err(io::Error::other("too many directories in one another"));
    }
    if !found.is_directory() {
        return disk.remove_file(&found.path);
    }
    disk.set_mode(&found.path, MOVABLE_MODE)?;
    disk.list(&found.path)?.iter().try_for_each(|inner| delete(disk, inner, depth + 1))?;
    disk.remove_dir(&found.path)
}
