//! Whether what is installed is still as it was installed.

use std::path::PathBuf;

use semver::Version;

use super::Packages;
use super::db::{Receipt, directory_name};
use super::directory;
use super::disk::RealDisk;
use super::error::PackageError;
use super::intake::{Item, Items};

/// How a file differs from what was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has other bytes, leads elsewhere, or is no longer a program.
    Modified,
    /// It is gone.
    Missing,
    /// It was not there.
    Added,
    /// It cannot be told.
    Unreadable,
}

impl Fault {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Modified => "modified",
            Self::Missing => "missing",
            Self::Added => "added",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What was found of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The package.
    pub name: String,
    /// The version in use.
    pub version: Version,
    /// Where its files are.
    pub directory: PathBuf,
    /// Paths in it, and what is the matter with each; none if it is whole.
    pub faults: Vec<(String, Fault)>,
}

impl Packages {
    /// Compares the files of a package, or of all, with what was installed. What is to be believed is the digest in the database.
    ///
    /// # Errors
    /// If the package is not installed, or the database cannot be read.
    pub fn verify(&self, only: Option<&str>) -> Result<Vec<Verified>, PackageError> {
        let look = self.look()?;
        if let Some(name) = only.filter(|name| !look.db.packages.contains_key(*name)) {
            return Err(Self::not_installed(&look.db, name));
        }
        let wanted = look.db.packages.values().filter(|package| only.is_none_or(|name| name == package.name));
        Ok(wanted
            .map(|package| {
                let directory = self.layout.store.join(directory_name(&package.name, &package.current));
                let faults = match Receipt::read(&RealDisk, &directory) {
                    Ok(receipt) if receipt.release.digest == package.current.digest => {
                        compare(&receipt.items, &directory)
                    }
                    _ => vec![(super::intake::RECEIPT.to_owned(), Fault::Modified)],
                };
                Verified { name: package.name.clone(), version: package.current.version.clone(), directory, faults }
            })
            .collect())
    }
}

fn compare(items: &Items, directory: &std::path::Path) -> Vec<(String, Fault)> {
    let there = match directory::items(directory) {
        Ok(there) => there,
        Err(error) => return vec![(error.to_string(), Fault::Unreadable)],
    };
    let mut faults: Vec<(String, Fault)> = items
        .iter()
        .filter_map(|(path, item): (&String, &Item)| match there.get(path) {
            None => Some((path.clone(), Fault::Missing)),
            Some(found) if found != item => Some((path.clone(), Fault::Modified)),
            Some(_) => None,
        })
        .collect();
    faults.extend(there.keys().filter(|path| !items.contains_key(*path)).map(|path| (path.clone(), Fault::Added)));
    faults
}
