//! What is installed: `pkgdb.json`, and what a release's own directory says of it.
//!
//! Promise: the file changes by one rename, which is the commit of every operation; a damaged one is known by its checksum. Beside it
//! lies a copy of the same state; each release's receipt is enough to build both anew. Knows no archive and no index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use semver::Version;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::disk::Disk;
use super::intake::{self, Items, RECEIPT, hex};
use super::layout::Layout;
use super::left;
use super::manifest::{Command, Extension};
use super::names::{is_command_name, is_package_name};

/// Name of the file: the one path to watch.
pub(super) const FILE: &str = "pkgdb.json";
/// The copy of it.
pub(super) const COPY: &str = "pkgdb.json.bak";
/// Both while they are written.
pub(super) const BESIDE: &str = ".pkgdb.json.new";
/// Where a damaged one is kept, one at a time.
pub(super) const DAMAGED: &str = "pkgdb.json.damaged";
/// Largest file that is read, and written: 10,000 packages with ten commands each.
pub(super) const BYTES_MAX: u64 = 64 << 20;
/// Packages that may be installed.
pub(super) const PACKAGES_MAX: usize = 10_000;
/// Largest receipt that is read, and written.
pub(super) const RECEIPT_BYTES_MAX: u64 = 32 << 20;
/// Form of the file.
const VERSION: u32 = 1;
/// Digits of a digest in the name of a directory.
const SHORT_DIGITS: usize = 8;

/// Where a release came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Origin {
    /// Asked for by name.
    Index {
        /// Which index.
        source: String,
    },
    /// A file that the user named.
    Archive {
        /// Its absolute path.
        path: String,
    },
    /// A directory that the user named.
    Directory {
        /// Its absolute path.
        path: String,
    },
    /// An address that the user named.
    Url {
        /// It.
        url: String,
    },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index { source: place }
            | Self::Archive { path: place }
            | Self::Directory { path: place }
            | Self::Url { url: place } => f.write_str(place),
        }
    }
}

/// One version of a package, as it lies in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Strict semver.
    pub version: Version,
    /// One line.
    pub description: String,
    /// SPDX, or whatever it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Where to read on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// Over its files, 64 hexadecimal digits.
    pub digest: String,
    /// When it came, in microseconds since the Unix epoch.
    pub installed_at_us: u64,
    /// Grows with each release that comes: of two of one package the larger is the later.
    pub seq: u64,
    /// Where it came from.
    pub origin: Origin,
    /// Its commands, as its manifest names them.
    pub commands: Vec<Command>,
    /// Its extension, kept as it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<Extension>,
}

/// What the user wants of a package, whatever its version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// Command as its package names it → as the user does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub renames: BTreeMap<String, String>,
    /// Not in `bin/`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_bin: bool,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Grows with each package that comes: of two with one command the smaller was there first.
    pub seq: u64,
    /// What the user wants of it.
    #[serde(default)]
    pub choices: Choices,
    /// What is in use.
    pub current: Release,
    /// What was before, to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Release>,
}

impl Package {
    /// Its commands with the names that the user gave them.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &Command)> {
        self.current.commands.iter().map(|command| (self.choices.name_of(command), command))
    }

    /// Both releases.
    pub(super) fn releases(&self) -> impl Iterator<Item = &Release> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

impl Choices {
    /// What a command is called here.
    pub fn name_of<'a>(&'a self, command: &'a Command) -> &'a str {
        self.renames.get(&command.name).unwrap_or(&command.name)
    }
}

/// Name of a release's directory in the store.
pub(super) fn directory_name(package: &str, release: &Release) -> String {
    let short = release.digest.get(..SHORT_DIGITS).unwrap_or(&release.digest);
    format!("{package}-{}-{short}", release.version)
}

/// All that is installed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Db {
    /// Grows with each change.
    pub serial: u64,
    /// By name.
    pub packages: BTreeMap<String, Package>,
}

/// The form of the file.
#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    serial: u64,
    packages: Vec<Package>,
    /// Over the three above.
    sha256: String,
}

/// What a release's directory says of it: enough to build the database anew, and to see what was changed in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// Name of the package.
    pub package: String,
    /// See [`Package::seq`].
    pub package_seq: u64,
    /// What the user wanted when it came.
    pub choices: Choices,
    /// The release.
    pub release: Release,
    /// Its files and links.
    pub items: Items,
}

/// Why the file is not what is installed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It is there and cannot be believed.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// A newer shellkeep wrote it; it is left alone.
    #[error("it was written by a newer shellkeep (form {0})")]
    Newer(u64),
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Db {
    /// What a file says; `None` if there is none.
    ///
    /// # Errors
    /// See [`DbError`].
    pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, DbError> {
        let bytes = match disk.read(path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                return Err(DbError::Damaged(format!("it has more than {BYTES_MAX} bytes")));
            }
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                return Err(DbError::Damaged("it is no regular file".to_owned()));
            }
            Err(error) => return Err(error.into()),
        };
        Self::parse(&bytes).map(Some)
    }

    fn parse(bytes: &[u8]) -> Result<Self, DbError> {
        let damaged = |error: &dyn std::fmt::Display| DbError::Damaged(error.to_string());
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version > u64::from(VERSION) => return Err(DbError::Newer(version)),
            Some(_) => {}
            None => return Err(damaged(&"it has no version")),
        }
        let saved: Saved = serde_json::from_value(value).map_err(|error| damaged(&error))?;
        if saved.sha256 != checksum(saved.serial, &saved.packages)? {
            return Err(damaged(&"its checksum is of something else"));
        }
        let is_fine = saved.packages.iter().all(is_fine);
        let packages: BTreeMap<_, _> =
            saved.packages.into_iter().map(|package| (package.name.clone(), package)).collect();
        if is_fine {
            Ok(Self { serial: saved.serial, packages })
        } else {
            Err(damaged(&"it has names that no package has"))
        }
    }

    fn to_bytes(&self) -> Result<Vec<u8>, DbError> {
        let packages: Vec<Package> = self.packages.values().cloned().collect();
        let sha256 = checksum(self.serial, &packages)?;
        let saved = Saved { version: VERSION, serial: self.serial, packages, sha256 };
        let mut bytes = serde_json::to_vec_pretty(&saved).map_err(std::io::Error::from)?;
        bytes.push(b'\n');
        if bytes.len() as u64 > BYTES_MAX {
            Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge).into())
        } else {
            Ok(bytes)
        }
    }

    /// Puts this state in place of the old one. When the rename has happened it counts, whatever comes after.
    ///
    /// # Errors
    /// If it cannot be written; then the old state counts.
    pub(super) fn commit(&self, disk: &dyn Disk, directory: &Path) -> Result<(), DbError> {
        let beside = write_beside(disk, directory, &self.to_bytes()?)?;
        Ok(disk.rename(&beside, &directory.join(FILE))?)
    }

    /// The same as the copy. Written after the commit and before anything is deleted, so that a copy that comes to be needed names
    /// nothing that is gone.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn commit_copy(&self, disk: &dyn Disk, directory: &Path) -> Result<(), DbError> {
        let beside = write_beside(disk, directory, &self.to_bytes()?)?;
        disk.rename(&beside, &directory.join(COPY))?;
        Ok(disk.sync_dir(directory)?)
    }

    /// The next number for a package or a release.
    pub(super) fn next_seq(&self) -> u64 {
        let all = self
            .packages
            .values()
            .flat_map(|package| package.releases().map(|release| release.seq).chain(std::iter::once(package.seq)));
        all.max().unwrap_or(0) + 1
    }

    /// Names of all directories of the store that are in use.
    pub(super) fn directories(&self) -> impl Iterator<Item = String> {
        let of = |package: &Package| -> Vec<String> {
            package.releases().map(|release| directory_name(&package.name, release)).collect()
        };
        self.packages.values().flat_map(of)
    }

    /// What the store says is installed: of each package the release that came last, and the one before it.
    pub(super) fn rebuild(disk: &dyn Disk, layout: &Layout) -> std::io::Result<Self> {
        let mut found: BTreeMap<String, Vec<Receipt>> = BTreeMap::new();
        for entry in left::installed(disk, layout)? {
            let Ok(receipt) = Receipt::read(disk, &entry.path) else { continue };
            if directory_name(&receipt.package, &receipt.release) == entry.name {
                found.entry(receipt.package.clone()).or_default().push(receipt);
            }
        }
        let mut db = Self::default();
        for (name, mut receipts) in found {
            receipts.sort_by_key(|receipt| receipt.release.seq);
            let Some(last) = receipts.pop() else { continue };
            let previous = receipts.pop().map(|receipt| receipt.release);
            let Receipt { package_seq: seq, choices, release: current, .. } = last;
            db.serial = db.serial.max(current.seq);
            db.packages.insert(name.clone(), Package { name, seq, choices, current, previous });
        }
        Ok(db)
    }
}

impl Receipt {
    /// What its commands were called when it came.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.release.commands.iter().map(|command| self.choices.name_of(command))
    }

    /// That of a release's directory, whose items are those that its digest is of.
    ///
    /// # Errors
    /// If it cannot be read, or is not one.
    pub(super) fn read(disk: &dyn Disk, release: &Path) -> std::io::Result<Self> {
        let receipt: Self = serde_json::from_slice(&disk.read(&release.join(RECEIPT), RECEIPT_BYTES_MAX)?)?;
        let is_whole = intake::digest(&receipt.items) == receipt.release.digest
            && is_package_name(&receipt.package)
            && receipt.release.commands.iter().all(|command| is_command_name(receipt.choices.name_of(command)));
        if is_whole { Ok(receipt) } else { Err(std::io::Error::other("it is not what was installed")) }
    }
}

/// Names go into paths: also those of a file of our own.
fn is_fine(package: &Package) -> bool {
    is_package_name(&package.name)
        && package.releases().all(|release| {
            release.digest.len() == 64
                && release.digest.bytes().all(|byte| byte.is_ascii_hexdigit())
                && release.commands.iter().all(|command| is_command_name(package.choices.name_of(command)))
        })
}

fn checksum(serial: u64, packages: &[Package]) -> Result<String, DbError> {
    let bytes = serde_json::to_vec(&(VERSION, serial, packages)).map_err(std::io::Error::from)?;
    Ok(hex(&Sha256::digest(bytes)))
}

/// Writes and syncs a new file beside those that it will replace.
fn write_beside(disk: &dyn Disk, directory: &Path, bytes: &[u8]) -> std::io::Result<PathBuf> {
    let beside = directory.join(BESIDE);
    match disk.remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = disk.create(&beside)?;
    disk.write(&mut file, bytes)?;
    disk.sync(&file)?;
    Ok(beside)
}
