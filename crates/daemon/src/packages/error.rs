//! Why an operation on packages did not happen, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use semver::Version;

use super::archive::ArchiveError;
use super::db::DbError;
use super::directory::DirectoryError;
use super::index::IndexError;
use super::manifest::ManifestError;

/// Why an operation did not happen. The state is the one before it.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Another operation goes on, and did not end within the wait.
    #[error("another operation on packages is going on{}", .pid.map_or_else(String::new, |pid| format!(" in process {pid}")))]
    Busy {
        /// Whose, if it could be read.
        pid: Option<u32>,
    },
    /// It is there.
    #[error("{name} {version} is already installed")]
    AlreadyInstalled {
        /// The package.
        name: String,
        /// Its version.
        version: Version,
        /// Another one that was asked for.
        wanted: Option<Version>,
    },
    /// It is not there.
    #[error("{name} is not installed")]
    NotInstalled {
        /// What was asked for.
        name: String,
        /// An installed package with nearly that name.
        near: Option<String>,
    },
    /// The index does not have it.
    #[error("there is no package \"{name}\" in {index}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Which index.
        index: String,
        /// A package with nearly that name.
        near: Option<String>,
    },
    /// The index does not have this version of it.
    #[error("{name} {wanted} is not available; {available} is")]
    NoSuchVersion {
        /// The package.
        name: String,
        /// What was asked for.
        wanted: String,
        /// The newest that there is.
        available: Version,
    },
    /// What is asked for is no name, no path and no address.
    #[error("\"{0}\" is neither the name of a package nor a path nor an address")]
    NoSpec(String),
    /// No index is known, and a package was asked for by name.
    #[error("no index of packages is set")]
    NoIndex,
    /// The index cannot be had.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The archive is refused.
    #[error("{what}: {source}")]
    Archive {
        /// Which.
        what: String,
        /// Why.
        source: ArchiveError,
    },
    /// The directory is refused.
    #[error("{}: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: DirectoryError,
    },
    /// The package is not for here.
    #[error("{what}: {source}")]
    Manifest {
        /// Which.
        what: String,
        /// Why.
        source: ManifestError,
    },
    /// It is not what was promised.
    #[error("{what} is not what {by} says: {wanted} expected, {found} found")]
    Mismatch {
        /// Which.
        what: String,
        /// Who promised.
        by: String,
        /// What was promised.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// A command is another package's.
    #[error("{name} brings the command \"{command}\", which {owner} has")]
    Conflict {
        /// The package.
        name: String,
        /// The command.
        command: String,
        /// Whose it is.
        owner: String,
    },
    /// `--as` cannot be done.
    #[error("--as {0}")]
    Rename(String),
    /// There is nothing to go back to.
    #[error("{name} has no earlier version here")]
    NoPrevious {
        /// The package.
        name: String,
    },
    /// There are too many packages.
    #[error("{} packages are installed, which is the limit", super::db::PACKAGES_MAX)]
    TooMany,
    /// The database.
    #[error("{}: {source}", path.display())]
    Db {
        /// The file.
        path: PathBuf,
        /// What is the matter.
        source: DbError,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl PackageError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// What to do now.
    pub fn hint(&self) -> Option<String> {
        let near = |near: &Option<String>| near.as_ref().map(|near| format!("did you mean \"{near}\"?"));
        Some(match self {
            Self::Busy { .. } => "wait for it to end, and try again".to_owned(),
            Self::AlreadyInstalled { name, wanted: Some(wanted), .. } => {
                format!("\"shellkeep pkg upgrade {name}@{wanted}\" puts that version in its place")
            }
            Self::AlreadyInstalled { name, .. } => {
                format!(
                    "\"shellkeep pkg upgrade {name}\" gets a newer version, \"shellkeep pkg remove {name}\" removes it"
                )
            }
            Self::NotInstalled { near: found, .. } => {
                near(found).unwrap_or_else(|| "\"shellkeep pkg list\" lists what is".to_owned())
            }
            Self::Unknown { near: found, .. } => {
                near(found).unwrap_or_else(|| "\"shellkeep pkg update\" looks for new ones".to_owned())
            }
            Self::NoSuchVersion { name, available, .. } => format!("\"shellkeep pkg install {name}@{available}\""),
            Self::NoSpec(word) if word.contains('@') && !word.contains('/') => {
                "a version has three numbers, like hello@1.2.0; \"shellkeep pkg info NAME\" lists those that there are"
                    .to_owned()
            }
            Self::NoSpec(_) => {
                "a path has a \"/\" in it: \"./NAME\"; a name is like \"hello\" or \"hello@1.2.0\"".to_owned()
            }
            Self::NoIndex => {
                "say where it is: --index DIR or URL, or index = \"…\" in [packages] of your settings".to_owned()
            }
            Self::Index(error) => return error.hint(),
            Self::Conflict { name, command, .. } => {
                format!("install {name} with \"--as {command}=OTHER\" to call it otherwise, or with \"--no-bin\"")
            }
            Self::Mismatch { .. } => {
                "nothing was changed; if the index is yours, \"shellkeep pkg index DIR\" refreshes it".to_owned()
            }
            Self::Rename(_) => {
                "write it like \"--as NEW\" for a package with one command, or \"--as OLD=NEW\"".to_owned()
            }
            Self::NoPrevious { .. } => "only what an upgrade replaced can be gone back to".to_owned(),
            Self::TooMany => "\"shellkeep pkg remove\" some".to_owned(),
            Self::Db { source: DbError::Newer(_), .. } => "use that shellkeep".to_owned(),
            Self::Io { source, path, .. } | Self::Db { source: DbError::Io(source), path } => {
                return of_the_system(source, path);
            }
            Self::Archive { source: ArchiveError::Unknown, .. } => {
                "packages are .tar.gz or .tar.zst; \"shellkeep pkg build DIR\" makes one".to_owned()
            }
            Self::Archive { source, what } => {
                return of_what_it_had(source, Path::new(what)).or_else(|| Some("nothing was changed".to_owned()));
            }
            Self::Directory { source, path } => {
                return of_what_it_had(source, path).or_else(|| Some("nothing was changed".to_owned()));
            }
            Self::Manifest { .. } | Self::Db { .. } => return None,
        })
    }
}

/// The same of the system's word behind another error.
fn of_what_it_had(error: &(dyn std::error::Error + 'static), path: &Path) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(said) = error.downcast_ref::<io::Error>() {
            return of_the_system(said, path);
        }
        cause = error.source();
    }
    None
}

/// What to do about what the system said.
pub(super) fn of_the_system(error: &io::Error, path: &Path) -> Option<String> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("make room on the disk, and try again".to_owned())
        }
        io::ErrorKind::PermissionDenied => Some(format!(
            "it has to be yours: \"ls -ld {}\" tells whose it is",
            path.parent().unwrap_or(path).display()
        )),
        io::ErrorKind::ReadOnlyFilesystem => Some("this disk is mounted to be read only".to_owned()),
        _ => None,
    }
}
