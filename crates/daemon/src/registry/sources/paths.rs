//! Paths and names of files as text; whether they are inside is asked of what they lead to, in `scan`.

use std::path::{Component, Path, PathBuf};

/// Without `.` and, as far as it has names to take away, without `..`.
///
/// By text alone: whether the result is inside is asked of the handle.
pub(super) fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidied.components().next_back(), Some(Component::Normal(_))) => {
                tidied.pop();
            }
            other => tidied.push(other),
        }
    }
    tidied
}

/// Whether a file's name ends so, in any case: `.md`.
pub(super) fn ends_with(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}
