//! Install, upgrade, go back, remove.
//!
//! Promise: what happens first is all that can be refused; then the package is put into the store; then one commit. An error means the
//! state before. No script of a package is ever run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use semver::Version;

use super::Packages;
use super::db::{Choices, Db, Origin, PACKAGES_MAX, Package, Receipt, Release, directory_name};
use super::error::PackageError;
use super::fetch::{Content, Fetched, Promised};
use super::intake::Taken;
use super::manifest::Manifest;
use super::names::is_command_name;
use super::staging::Staging;
use super::uses::Users;
use super::work::Work;
use super::{archive, directory, index, left};

/// What the user wants of a package beside itself.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// `NEW`, for a package with one command, or `OLD=NEW`.
    pub rename: Vec<String>,
    /// Leave its commands out of `bin/`.
    pub no_bin: bool,
}

/// What an operation has done to one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The package.
    pub name: String,
    /// The version in use now; when it was removed, the one that was.
    pub version: Version,
    /// The version in use before, if there was one.
    pub before: Option<Version>,
    /// Its commands, as they are called here.
    pub commands: Vec<String>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Called with how much of an archive was unpacked, in bytes of the archive.
pub type OnUnpack<'a> = &'a dyn Fn(u64);

impl Packages {
    /// Installs a package that is not installed yet.
    ///
    /// # Errors
    /// See [`PackageError`]; then nothing has changed.
    pub fn install(&self, fetched: Fetched, wishes: &Wishes, on_unpack: OnUnpack<'_>) -> Result<Changed, PackageError> {
        let mut work = self.begin()?;
        if let Some((name, version)) = fetched.promised.as_ref().and_then(Promised::release) {
            refuse_installed(&work.db, name, version)?;
        }
        let (staging, taken) = take(&work, &fetched, on_unpack)?;
        let name = taken.manifest.name.clone();
        refuse_installed(&work.db, &name, &taken.manifest.version)?;
        if work.db.packages.len() >= PACKAGES_MAX {
            return Err(PackageError::TooMany);
        }
        let choices = choices(&taken.manifest, wishes)?;
        let seq = work.db.next_seq();
        let release = release(&taken.manifest, taken.digest.clone(), fetched.origin, seq);
        let package = Package { name: name.clone(), seq, choices, current: release, previous: None };
        refuse_conflicts(&work.db, &package)?;
        place(&work, staging, &package, taken)?;
        let mut next = work.db.clone();
        next.packages.insert(name, package.clone());
        work.commit(next)?;
        Ok(changed(&package, None, work.notes))
    }

    /// Puts another release of an installed package in place of the one in use, which stays to go back to.
    ///
    /// # Errors
    /// See [`PackageError`]; then nothing has changed.
    pub fn upgrade(&self, fetched: Fetched, on_unpack: OnUnpack<'_>) -> Result<Changed, PackageError> {
        let mut work = self.begin()?;
        let (staging, taken) = take(&work, &fetched, on_unpack)?;
        let old = installed(&work.db, &taken.manifest.name)?.clone();
        if old.current.digest == taken.digest {
            return Err(PackageError::AlreadyInstalled { name: old.name, version: old.current.version, wanted: None });
        }
        let release = release(&taken.manifest, taken.digest.clone(), fetched.origin, work.db.next_seq());
        let mut choices = old.choices.clone();
        choices.renames.retain(|from, _| release.commands.iter().any(|command| command.name == *from));
        let package = Package {
            name: old.name.clone(),
            seq: old.seq,
            choices,
            current: release,
            previous: Some(old.current.clone()),
        };
        refuse_conflicts(&work.db, &package)?;
        place(&work, staging, &package, taken)?;
        let mut next = work.db.clone();
        next.packages.insert(package.name.clone(), package.clone());
        work.commit(next)?;
        Ok(changed(&package, Some(old.current.version), work.notes))
    }

    /// Puts the release before in place of the one in use, and the other way round.
    ///
    /// # Errors
    /// [`PackageError::NoPrevious`]; see there.
    pub fn rollback(&self, name: &str) -> Result<Changed, PackageError> {
        let mut work = self.begin()?;
        let old = installed(&work.db, name)?.clone();
        let Some(previous) = old.previous.clone() else {
            return Err(PackageError::NoPrevious { name: name.to_owned() });
        };
        let package = Package { current: previous, previous: Some(old.current.clone()), ..old.clone() };
        refuse_conflicts(&work.db, &package)?;
        let mut next = work.db.clone();
        next.packages.insert(name.to_owned(), package.clone());
        work.commit(next)?;
        Ok(changed(&package, Some(old.current.version), work.notes))
    }

    /// Removes a package, with what it could go back to. What runs goes on, unless `force`; its files are deleted when it has ended.
    ///
    /// # Errors
    /// See [`PackageError`]; then nothing has changed.
    pub fn remove(&self, name: &str, force: bool) -> Result<Changed, PackageError> {
        let mut work = self.begin()?;
        let package = installed(&work.db, name)?.clone();
        let mut next = work.db.clone();
        next.packages.remove(name);
        if force {
            let ended = self.end_programs(&package);
            if ended > 0 {
                work.notes.push(format!("processes ended: {ended}"));
            }
        }
        work.commit(next)?;
        Ok(Changed { before: Some(package.current.version.clone()), ..changed(&package, None, work.notes) })
    }

    /// Ends what runs of a package. New ones may begin until it is removed; those go on, as without force.
    fn end_programs(&self, package: &Package) -> usize {
        let own: Vec<_> = package.releases().map(|release| directory_name(&package.name, release)).collect();
        let is_own = |name: &PathBuf| match std::fs::read_link(name) {
            // Called by a name that has become another's since, or always was.
            Ok(leads_to) => leads_to.iter().any(|part| own.iter().any(|own| part == own.as_str())),
            Err(_) => true,
        };
        let all = package.releases().flat_map(|release| &release.commands).filter(|_| !package.choices.no_bin);
        let mut names: Vec<PathBuf> =
            all.map(|command| self.layout.bin.join(package.choices.name_of(command))).filter(is_own).collect();
        names.dedup();
        let replaced = own.iter().flat_map(|name| left::replaced(&self.layout, name));
        let directories = own.iter().map(|name| self.layout.store.join(name)).chain(replaced);
        Users::of(directories, names).end()
    }
}

fn changed(package: &Package, before: Option<Version>, notes: Vec<String>) -> Changed {
    Changed {
        name: package.name.clone(),
        version: package.current.version.clone(),
        before,
        commands: package.commands().map(|(name, _)| name.to_owned()).collect(),
        notes,
    }
}

fn installed<'a>(db: &'a Db, name: &str) -> Result<&'a Package, PackageError> {
    let near = || index::near(name, db.packages.keys());
    db.packages.get(name).ok_or_else(|| PackageError::NotInstalled { name: name.to_owned(), near: near() })
}

fn refuse_installed(db: &Db, name: &str, version: &Version) -> Result<(), PackageError> {
    let Some(package) = db.packages.get(name) else { return Ok(()) };
    let wanted = Some(version.clone()).filter(|version| *version != package.current.version);
    Err(PackageError::AlreadyInstalled { name: name.to_owned(), version: package.current.version.clone(), wanted })
}

/// Unpacks into staging, after the checksum and before anything is believed.
fn take<'a>(work: &Work<'a>, fetched: &Fetched, on_unpack: OnUnpack<'_>) -> Result<(Staging<'a>, Taken), PackageError> {
    let what = fetched.what.clone();
    let mismatch = |wanted: &str, found: &str| {
        let by = fetched.promised.as_ref().map_or_else(String::new, |promised| promised.by.clone());
        PackageError::Mismatch { what: what.clone(), by, wanted: wanted.to_owned(), found: found.to_owned() }
    };
    if let Some(promised) = &fetched.promised {
        let found = fetched.sha256.as_deref().unwrap_or("a directory, which has none,");
        if found != promised.sha256 {
            return Err(mismatch(&format!("sha256 {}", promised.sha256), found));
        }
    }
    let at = work.layout.staging.join("new");
    let mut staging = Staging::new(work.disk, &at).map_err(PackageError::io("make", &at))?;
    let taken = match &fetched.content {
        Content::Archive(file) => {
            let mut file = file.try_clone().map_err(PackageError::io("read", Path::new(&what)))?;
            let unpacked = archive::unpack(&mut file, &mut staging, on_unpack);
            unpacked.map_err(|source| PackageError::Archive { what: what.clone(), source })?
        }
        Content::Directory(path) => directory::read(path, &mut staging)
            .map_err(|source| PackageError::Directory { path: path.clone(), source })?,
    };
    taken.manifest.fits_here().map_err(|source| PackageError::Manifest { what: what.clone(), source })?;
    if let Some(promised) = &fetched.promised {
        let (name, version) = (&taken.manifest.name, &taken.manifest.version);
        if promised.name.as_ref().is_some_and(|wanted| wanted != name) {
            return Err(mismatch(promised.name.as_deref().unwrap_or_default(), name));
        }
        if let Some(wanted) = promised.version.as_ref().filter(|wanted| *wanted != version) {
            return Err(mismatch(&wanted.to_string(), &version.to_string()));
        }
    }
    Ok((staging, taken))
}

pub(super) fn release(manifest: &Manifest, digest: String, origin: Origin, seq: u64) -> Release {
    Release {
        version: manifest.version.clone(),
        description: manifest.description.clone(),
        license: manifest.license.clone(),
        homepage: manifest.homepage.clone(),
        digest,
        installed_at_us: crate::now_us(),
        seq,
        origin,
        commands: manifest.commands.clone(),
        extension: manifest.extension.clone(),
    }
}

/// Into the store, unless the same files lie there already: an upgrade after a rollback.
fn place(work: &Work<'_>, staging: Staging<'_>, package: &Package, taken: Taken) -> Result<(), PackageError> {
    let to = work.layout.store.join(directory_name(&package.name, &package.current));
    let failed = |source| PackageError::io("put into the store as", &to)(source);
    let receipt = Receipt {
        package: package.name.clone(),
        package_seq: package.seq,
        choices: package.choices.clone(),
        release: package.current.clone(),
        items: taken.items,
    };
    if !work.db.directories().any(|name| to.ends_with(name)) {
        // The same files may lie there since they were removed, because they are used, or could not be thrown away.
        let store = work.disk.list(&work.layout.store).map_err(failed)?;
        let is_there = store.iter().any(|found| found.path == to);
        return match staging.place(&receipt, &to, is_there) {
            Ok(()) if is_there => work.discard_staged(&directory_name(&package.name, &package.current)).map_err(failed),
            placed => placed.map_err(failed),
        };
    }
    let there = Receipt::read(work.disk, &to).map_err(failed)?;
    if there.release.digest == receipt.release.digest {
        return Ok(()); // what is staged is thrown away by the commit
    }
    Err(failed(std::io::Error::other("another release with the same short digest is there")))
}

/// What `--as` and `--no-bin` mean for this package.
fn choices(manifest: &Manifest, wishes: &Wishes) -> Result<Choices, PackageError> {
    let refuse = |why: String| PackageError::Rename(why);
    let mut renames = BTreeMap::new();
    for wish in &wishes.rename {
        let (from, to) = match wish.split_once('=') {
            Some((from, to)) => (from.to_owned(), to),
            None => match manifest.commands.as_slice() {
                [only] => (only.name.clone(), wish.as_str()),
                all => {
                    let names: Vec<&str> = all.iter().map(|command| command.name.as_str()).collect();
                    return Err(refuse(format!("{wish}: which one? {} has {}", manifest.name, names.join(", "))));
                }
            },
        };
        if !is_command_name(to) {
            return Err(refuse(format!("{wish}: \"{to}\" is no name for a command")));
        }
        if manifest.commands.iter().all(|command| command.name != from) {
            return Err(refuse(format!("{wish}: {} has no command \"{from}\"", manifest.name)));
        }
        renames.insert(from, to.to_owned());
    }
    Ok(Choices { renames, no_bin: wishes.no_bin })
}

/// No two packages have one name in `bin/`.
fn refuse_conflicts(db: &Db, package: &Package) -> Result<(), PackageError> {
    let mut own = BTreeSet::new();
    if let Some((twice, _)) = package.commands().find(|(name, _)| !own.insert(*name)) {
        return Err(PackageError::Rename(format!("{twice}: two commands of {} would be called so", package.name)));
    }
    if package.choices.no_bin {
        return Ok(());
    }
    for other in db.packages.values().filter(|other| other.name != package.name && !other.choices.no_bin) {
        if let Some((command, _)) = other.commands().find(|(name, _)| own.contains(name)) {
            let (name, owner) = (package.name.clone(), other.name.clone());
            return Err(PackageError::Conflict { name, command: command.to_owned(), owner });
        }
    }
    Ok(())
}
