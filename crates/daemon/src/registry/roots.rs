//! Which project a directory is in.
//!
//! Promise: never the home itself, nothing above it, and nothing of another file system than the directory's.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::sources::beneath::{Beneath, Mounts, Refusal};

/// What lies in the root of a project.
const MARKERS: [&str; 34] = [
    ".git",
    ".hg",
    ".jj",
    ".svn",
    ".shellkeep",
    ".claude",
    ".mcp.json",
    ".gemini",
    ".agents",
    ".warp",
    ".vscode",
    "package.json",
    "Cargo.toml",
    "justfile",
    "Justfile",
    ".justfile",
    "Makefile",
    "makefile",
    "GNUmakefile",
    "Taskfile.yml",
    "Taskfile.yaml",
    "taskfile.yml",
    "taskfile.yaml",
    "Taskfile.dist.yml",
    "Taskfile.dist.yaml",
    "mise.toml",
    ".mise.toml",
    "mise-tasks",
    ".mise",
    "pyproject.toml",
    "go.mod",
    "deno.json",
    "pom.xml",
    "build.gradle",
];

/// Directories that are looked at upwards.
const DEPTH_MAX: usize = 64;

/// The nearest directory above `directory`, or itself, that has a marker. Reads the disk.
pub(super) fn of(directory: &Path, home: &Path) -> Option<PathBuf> {
    let directory = directory.canonicalize().ok()?;
    let home = home.canonicalize().ok();
    let device = directory.metadata().ok()?.dev();
    let above = directory.ancestors().take(DEPTH_MAX);
    let inside = above.take_while(|at| {
        let is_home = home.as_deref() == Some(*at);
        !is_home && at.parent().is_some() && at.metadata().is_ok_and(|found| found.dev() == device)
    });
    inside.into_iter().find(|at| has_marker(at)).map(Path::to_owned)
}

/// Whether a marker lies there; one that leads out counts, and is not followed: it may never answer.
fn has_marker(directory: &Path) -> bool {
    let beneath = Beneath::new(directory, Mounts::Refuse);
    MARKERS.iter().any(|marker| !matches!(beneath.open(Path::new(marker)), Err(Refusal::Absent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_nearest_with_a_marker_and_never_the_home_or_above() {
        let all = tempfile::tempdir().unwrap();
        let top = all.path().canonicalize().unwrap();
        let home = top.join("home");
        let project = home.join("work/project");
        std::fs::create_dir_all(project.join("src/deep")).unwrap();
        std::fs::create_dir_all(home.join("elsewhere")).unwrap();
        for marker in [top.join("Makefile"), home.join("package.json"), project.join("justfile")] {
            std::fs::write(marker, "").unwrap();
        }
        assert_eq!(of(&project.join("src/deep"), &home), Some(project.clone()));
        assert_eq!(of(&project, &home), Some(project.clone()));
        assert_eq!(of(&home.join("elsewhere"), &home), None);
        assert_eq!(of(&home, &home), None);
        assert_eq!(of(&home.join("gone"), &home), None);
        std::fs::write(project.join("src/package.json"), "").unwrap();
        assert_eq!(of(&project.join("src/deep"), &home), Some(project.join("src")));
        // Through a symlink it is the same project.
        std::os::unix::fs::symlink(&project, home.join("link")).unwrap();
        assert_eq!(of(&home.join("link"), &home), Some(project));
    }
}
