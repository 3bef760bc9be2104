//! The commands of installed packages, as the registry, shells and completions want them.
//!
//! Promise: one state of the database, wholly; reading waits for nobody and changes nothing. Whoever wants to know of changes watches
//! [`Packages::watched`], which is replaced by each of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use semver::Version;

use super::Packages;
use super::db::{self, Db, DbError, directory_name};
use super::disk::RealDisk;
use super::left;

/// A command of an installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageCommand {
    /// As it is called here: safe in a path, a shell's word and on a terminal.
    pub name: String,
    /// The package that it belongs to.
    pub package: String,
    /// Its version.
    pub version: Version,
    /// One line, without anything that a terminal acts on.
    pub description: String,
    /// What may follow it, like `[NAME]`.
    pub args_hint: Option<String>,
    /// Over the files of its release, 64 hexadecimal digits.
    pub digest: String,
    /// The program itself, in the store: another release has another path.
    pub program: PathBuf,
    /// Its name in `bin/`; `None` if the user wants it left out.
    pub link: Option<PathBuf>,
    /// Shell (`bash`, `zsh`, `fish`) and the file that completes its arguments.
    pub completions: Vec<(&'static str, PathBuf)>,
    /// Smaller for the package that was installed earlier: it keeps a name that both have.
    pub installed_seq: u64,
}

/// All of them, in one state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageCommands {
    /// Grows with each change of what is installed.
    pub serial: u64,
    /// By package, then as its manifest has them.
    pub commands: Vec<PackageCommand>,
}

impl Packages {
    /// The file that each change replaces: the one path to watch. It lies in the packages' directory, which may not exist yet.
    pub fn watched(&self) -> PathBuf {
        self.layout.root.join(db::FILE)
    }

    /// The commands of all installed packages; of a damaged database those that its copy has. Bounded by the limits of packages and of
    /// their commands.
    ///
    /// # Errors
    /// If the database cannot be read, or neither can its copy.
    pub fn commands(&self) -> Result<PackageCommands, DbError> {
        let db = self.recorded()?;
        let mut commands = Vec::new();
        for package in db.packages.values() {
            let directory = self.layout.store.join(directory_name(&package.name, &package.current));
            for (name, command) in package.commands() {
                commands.push(PackageCommand {
                    name: name.to_owned(),
                    package: package.name.clone(),
                    version: package.current.version.clone(),
                    description: command.description.clone().unwrap_or_else(|| package.current.description.clone()),
                    args_hint: command.args_hint.clone(),
                    digest: package.current.digest.clone(),
                    program: directory.join(&command.path),
                    link: (!package.choices.no_bin).then(|| self.layout.bin.join(name)),
                    completions: command.completions.all().map(|(shell, path)| (shell, directory.join(path))).collect(),
                    installed_seq: package.seq,
                });
            }
        }
        Ok(PackageCommands { serial: db.serial, commands })
    }

    /// Names and versions of what is installed, by the same rules; nothing where the database cannot be read. Takes no lock and changes
    /// nothing.
    pub fn installed(&self) -> BTreeMap<String, Version> {
        let all = self.recorded().unwrap_or_default().packages;
        all.into_iter().map(|(name, package)| (name, package.current.version)).collect()
    }

    fn recorded(&self) -> Result<Db, DbError> {
        let copy = || Db::read(&RealDisk, &self.layout.root.join(db::COPY));
        match Db::read(&RealDisk, &self.watched()) {
            Ok(Some(db)) => Ok(db),
            Ok(None) => Ok(copy()?.unwrap_or_default()),
            Err(damaged @ DbError::Damaged(_)) => copy().ok().flatten().ok_or(damaged),
            Err(other) => Err(other),
        }
    }

    /// Whether a program of the store is of a release that was removed while it was used.
    pub fn is_removed(&self, program: &Path) -> bool {
        let inner = program.strip_prefix(&self.layout.store).ok().and_then(|inner| inner.iter().next());
        inner.is_some_and(|name| left::is_left(&self.layout, Path::new(name)))
    }

    /// Whether something lies there that was removed while it was used.
    pub fn has_removed(&self) -> bool {
        std::fs::read_dir(&self.layout.trash).is_ok_and(|mut trash| trash.next().is_some())
    }
}
