//! Reading a package from a directory of the user's, under the same rules as an archive.
//!
//! Promise: links are taken as links and never followed; what version control keeps beside the files stays out, and so do archives that
//! were built of it.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::disk;
use super::intake::{Discard, Intake, IntakeError, Items, RECEIPT, Sink, TakeError, Taken, shown};
use super::manifest::{self, Manifest};

/// Directories of version control, which are no part of a package.
const LEFT_OUT: [&str; 3] = [".git", ".hg", ".svn"];
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Why a directory is not taken.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in it.
    #[error(transparent)]
    Take(#[from] TakeError),
}

/// Reads all of a directory into `sink`, in the order of its names.
///
/// # Errors
/// See [`DirectoryError`]; what `sink` has got by then is to be thrown away.
pub(super) fn read(root: &Path, sink: &mut dyn Sink) -> Result<Taken, DirectoryError> {
    let mut intake = Intake::new(sink, None);
    let built = built_before(root);
    level(root, "", &built.iter().map(String::as_str).collect::<Vec<_>>(), &mut intake)?;
    Ok(intake.finish()?)
}

/// Archives of this package that were built into its own directory: each would go into the next.
fn built_before(root: &Path) -> Vec<String> {
    let manifest = disk::open(&root.join(manifest::FILE)).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(manifest::BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    // What is wrong with a manifest is told by whoever takes it.
    let Some(manifest) = manifest.ok().and_then(|bytes| Manifest::from_toml(&bytes).ok()) else { return Vec::new() };
    let names =
        fs::read_dir(root).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_built = |name: &String| {
        let version = name.strip_prefix(&manifest.name).and_then(|rest| rest.strip_prefix('-'));
        let version = version.and_then(|rest| rest.strip_suffix(".tar.gz").or_else(|| rest.strip_suffix(".tar.zst")));
        version.is_some_and(|version| semver::Version::parse(version).is_ok())
    };
    names.filter(is_built).take(super::intake::ENTRIES_MAX).collect()
}

/// What lies in a release's directory of the store, whatever it was when it was installed.
///
/// # Errors
/// See [`DirectoryError`].
pub(super) fn items(release: &Path) -> Result<Items, DirectoryError> {
    let mut nowhere = Discard;
    let mut intake = Intake::new(&mut nowhere, None);
    level(release, "", &[RECEIPT], &mut intake)?;
    Ok(intake.into_items())
}

/// One directory. The intake bounds how deep and how many.
fn level(directory: &Path, prefix: &str, own: &[&str], intake: &mut Intake<'_>) -> Result<(), DirectoryError> {
    let unreadable = |source| DirectoryError::Read { path: directory.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name());
        if names.len() > super::intake::ENTRIES_MAX {
            let max = super::intake::ENTRIES_MAX as u64;
            return Err(TakeError::from(IntakeError::TooMuch { what: "entries", max }).into());
        }
    }
    names.sort();
    for name in names {
        let refuse =
            |path: &str, why| Err(DirectoryError::from(TakeError::from(IntakeError::Path { path: shown(path), why })));
        let Some(name) = name.to_str() else { return refuse(&name.to_string_lossy(), "is not UTF-8") };
        if LEFT_OUT.contains(&name) || own.contains(&name) {
            continue;
        }
        let (at, path) = (directory.join(name), format!("{prefix}{name}"));
        let unreadable = |source| DirectoryError::Read { path: at.clone(), source };
        let meta = fs::symlink_metadata(&at).map_err(unreadable)?;
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_dir() {
            // A directory that hands its group on is usual at home; it means nothing in a package.
            intake.directory(&path, 0o755)?;
            level(&at, &format!("{path}/"), &[], intake)?;
        } else if meta.is_symlink() {
            let target = fs::read_link(&at).map_err(unreadable)?;
            let Some(target) = target.to_str() else { return refuse(&path, "is a link whose target is not UTF-8") };
            intake.link(&path, target)?;
        } else if meta.is_file() {
            file(&at, &path, mode, intake)?;
        } else {
            return refuse(&path, "is neither a file nor a directory nor a link");
        }
    }
    Ok(())
}

fn file(at: &Path, path: &str, mode: u32, intake: &mut Intake<'_>) -> Result<(), DirectoryError> {
    let unreadable = |source| DirectoryError::Read { path: at.to_owned(), source };
    let mut file = disk::open(at).map_err(unreadable)?;
    intake.begin(path, mode, file.metadata().map_err(unreadable)?.len())?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk).map_err(unreadable)? {
            0 => return Ok(intake.end()?),
            count => intake.data(&chunk[..count])?,
        }
    }
}
