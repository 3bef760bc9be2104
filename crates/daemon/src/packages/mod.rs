//! Packages: commands on disk, that every session has as soon as they are installed.
//!
//! Owns the directory `pkgs` of the user's data: which releases lie there (`db`), how they come and go (`install`, `work`), what
//! is let in (`intake`, `archive`), where they come from (`index`, `fetch`). Promises that one atomic write of `pkgdb.json` is
//! each operation, that an archive changes nothing outside staging, and that no script of a package is run by any of it. Knows neither
//! sessions nor shells: `commands` is all that they get. Everything here blocks, and is called on threads that may.

mod archive;
mod commands;
mod db;
mod directory;
mod disk;
mod error;
mod fetch;
mod http;
mod index;
mod install;
mod intake;
mod layout;
mod left;
mod manifest;
mod names;
mod pack;
mod provides;
mod staging;
mod uses;
mod verify;
mod work;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use archive::ArchiveError;
pub use commands::{PackageCommand, PackageCommands};
pub use db::{Choices, Db, DbError, Origin, Package, Release};
pub use directory::DirectoryError;
pub use disk::{Disk, Found, Kind, RealDisk};
pub use error::PackageError;
pub use fetch::{Fetched, OnFetch, Spec};
pub use http::HttpError;
pub use index::{Freshness, Held, Index, IndexError, Listed, Source, read as read_index};
pub use install::{Changed, OnUnpack, Wishes};
pub use intake::{IntakeError, Item, Items, TakeError};
pub use layout::{DIRECTORY, Layout};
pub use manifest::{Command, Completions, Extension, ExtensionRun, ExtensionScope, Manifest, ManifestError};
pub use names::{ALL, is_command_name, is_package_name};
pub use pack::{Built, Compression, Indexed, build, index as make_index};
pub use provides::{Near, Provides, slips_max};
pub use uses::Lease;
pub use verify::{Fault, Verified};

use fetch::{Content, spool};
use work::Work;

/// How long an operation waits for another one.
pub const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);

/// What is installed for one user. Cheap to make: nothing is read before it is asked for.
#[derive(Debug, Clone)]
pub struct Packages {
    layout: Layout,
    disk: Arc<dyn Disk>,
    lock_wait: Duration,
}

/// What is installed, and what the user should know of it.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// What is installed.
    pub db: Db,
    /// What was found damaged and mended.
    pub notes: Vec<String>,
}

impl Packages {
    /// Those in the directory `root` (`pkgs` in the user's data), which need not exist; the one above it must when something is to be
    /// changed.
    pub fn new(root: &Path) -> Self {
        Self::with(root, Arc::new(RealDisk), LOCK_WAIT_MAX)
    }

    /// The same with another disk, and another wait for other operations.
    pub fn with(root: &Path, disk: Arc<dyn Disk>, lock_wait: Duration) -> Self {
        Self { layout: Layout::new(root), disk, lock_wait }
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What is installed. Waits for nobody; what an operation left half done is put in order if none goes on.
    ///
    /// # Errors
    /// If the database cannot be read, or is damaged and another operation goes on.
    pub fn look(&self) -> Result<Look, PackageError> {
        let path = self.watched();
        if !self.layout.root.exists() {
            return Ok(Look::default());
        }
        let read = Db::read(&*self.disk, &path);
        let wait = if matches!(read, Ok(Some(_))) { Duration::ZERO } else { self.lock_wait };
        match (Work::begin(&*self.disk, &self.layout, wait), read) {
            (Ok(work), _) => Ok(Look { db: work.db, notes: work.notes }),
            // Somebody else works, or this disk is not to be written: what is there can be told all the same.
            (Err(_), Ok(Some(db))) => Ok(Look { db, notes: Vec::new() }),
            (Err(_), Err(source @ DbError::Newer(_))) => Err(PackageError::Db { path, source }),
            (Err(error), _) => Err(error),
        }
    }

    /// Gets an archive or a directory that the user named.
    ///
    /// # Errors
    /// If it cannot be read, fetched or put down here.
    pub fn fetch_path(&self, path: &Path, on_fetch: OnFetch<'_>) -> Result<Fetched, PackageError> {
        let what = path.display().to_string();
        let meta = std::fs::metadata(path).map_err(PackageError::io("read", path))?;
        if meta.is_dir() {
            let (content, origin) = (Content::Directory(path.to_owned()), Origin::Directory { path: what.clone() });
            return Ok(Fetched { content, what, origin, promised: None, sha256: None });
        }
        self.prepare()?;
        let spooled = spool::file(&self.layout.staging, path, on_fetch)?;
        Ok(spooled.of(what.clone(), Origin::Archive { path: what }, None))
    }

    /// Gets an archive from an address that the user named.
    ///
    /// # Errors
    /// If it cannot be fetched or put down here.
    pub fn fetch_url(&self, url: &str, on_fetch: OnFetch<'_>) -> Result<Fetched, PackageError> {
        let parsed = reqwest::Url::parse(url).map_err(|_| PackageError::NoSpec(url.to_owned()))?;
        self.prepare()?;
        let spooled = spool::url(&self.layout.staging, &parsed, on_fetch)?;
        Ok(spooled.of(url.to_owned(), Origin::Url { url: url.to_owned() }, None))
    }

    /// Gets a release that an index has.
    ///
    /// # Errors
    /// If it cannot be fetched or put down here.
    pub fn fetch_listed(&self, held: &Held, listed: &Listed, on_fetch: OnFetch<'_>) -> Result<Fetched, PackageError> {
        self.prepare()?;
        Ok(index::archive(&self.layout.staging, &held.source, listed, on_fetch)?)
    }

    /// Reads an index, and remembers it.
    ///
    /// # Errors
    /// See [`IndexError`].
    pub fn read_index(&self, source: &Source, freshness: Freshness) -> Result<Held, PackageError> {
        self.prepare()?;
        Ok(index::read(&self.layout.cache, source, freshness)?)
    }

    /// The release of `name` to take: this version, else the newest.
    ///
    /// # Errors
    /// [`PackageError::Unknown`] and [`PackageError::NoSuchVersion`].
    pub fn choose<'a>(
        held: &'a Held,
        name: &str,
        version: Option<&semver::Version>,
    ) -> Result<&'a Listed, PackageError> {
        let unknown = || {
            let near = held.index.near(name);
            PackageError::Unknown { name: name.to_owned(), index: held.source.to_string(), near }
        };
        let newest = held.index.newest(name).ok_or_else(unknown)?;
        let Some(version) = version else { return Ok(newest) };
        let all = held.index.packages.get(name).ok_or_else(unknown)?;
        all.iter().find(|one| one.version == *version).ok_or_else(|| PackageError::NoSuchVersion {
            name: name.to_owned(),
            wanted: version.to_string(),
            available: newest.version.clone(),
        })
    }

    fn begin(&self) -> Result<Work<'_>, PackageError> {
        Work::begin(&*self.disk, &self.layout, self.lock_wait)
    }

    fn not_installed(db: &Db, name: &str) -> PackageError {
        PackageError::NotInstalled { name: name.to_owned(), near: index::near(name, db.packages.keys()) }
    }

    /// The directories, for what is fetched before an operation begins.
    fn prepare(&self) -> Result<(), PackageError> {
        for directory in self.layout.directories() {
            match self.disk.make_dir(directory) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(PackageError::io("make", directory)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
