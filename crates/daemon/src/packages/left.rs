//! Releases that were removed while they ran: their files stay where they are, with a mark in the trash.
//!
//! Promise: what has a mark is installed for nobody, also if the database is lost. A mark is a file of its own, for everything that can be
//! seen of a directory may have been made so by its user.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Disk, Found, list_own};
use super::layout::Layout;

/// Behind the name of the release's directory.
const MARK: &str = ".runs";

/// The mark of a directory of the store.
pub(super) fn mark(layout: &Layout, name: &str) -> PathBuf {
    layout.trash.join(format!("{name}{MARK}"))
}

/// Of which directory something in the trash is the mark.
pub(super) fn marked(found: &Found) -> Option<&str> {
    found.name.strip_suffix(MARK).filter(|_| !found.is_directory())
}

/// Whether a directory of the store has one.
pub(super) fn is_left(layout: &Layout, directory: &Path) -> bool {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    mark(layout, &name).symlink_metadata().is_ok()
}

/// What was in the place of a directory of the store until it was installed again, and is still used.
pub(super) fn replaced(layout: &Layout, name: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(&layout.trash).into_iter().flatten().flatten();
    let of = |entry: &std::fs::DirEntry| {
        let number = entry.file_name().to_str()?.strip_prefix(name)?.strip_prefix('.')?.parse::<u32>();
        number.is_ok().then_some(())
    };
    all.filter(|entry| of(entry).is_some()).map(|entry| entry.path()).collect()
}

/// The releases of the store that count, as far as can be seen without the database.
pub(super) fn installed(disk: &dyn Disk, layout: &Layout) -> io::Result<Vec<Found>> {
    let mut all = list_own(disk, &layout.store)?;
    all.retain(|found| found.is_directory() && !is_left(layout, &found.path));
    Ok(all)
}
