//! Where packages lie: one directory of the user's data, and what is in it.

use std::path::{Path, PathBuf};

/// Name of the directory in the user's data.
pub const DIRECTORY: &str = "pkgs";

/// The directories of packages.
#[derive(Debug, Clone)]
pub struct Layout {
    /// All of it; `pkgdb.json` lies here.
    pub root: PathBuf,
    /// `NAME-VERSION-HASH8/`, read-only.
    pub store: PathBuf,
    /// What is being put together.
    pub staging: PathBuf,
    /// What was removed while it ran.
    pub trash: PathBuf,
    /// One link for each command: the directory for `PATH`.
    pub bin: PathBuf,
    /// Links for the shells, in a directory for each: what completes the arguments of commands.
    pub completions: PathBuf,
    /// Indexes as they were last seen.
    pub cache: PathBuf,
    /// Locked while an operation goes on.
    pub lock: PathBuf,
}

impl Layout {
    /// That of a directory, which need not exist; the one above it must when something is to be changed.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            store: root.join("store"),
            staging: root.join("staging"),
            trash: root.join("trash"),
            bin: root.join("bin"),
            completions: root.join("completions"),
            cache: root.join("cache"),
            lock: root.join(".lock"),
        }
    }

    /// All directories, the outer first.
    pub(super) fn directories(&self) -> [&Path; 7] {
        [&self.root, &self.store, &self.staging, &self.trash, &self.bin, &self.completions, &self.cache]
    }
}
