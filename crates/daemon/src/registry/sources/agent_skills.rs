//! Skills of the Agent Skills standard where Codex and others look for them, and Codex's older prompts.

use std::collections::HashSet;
use std::path::Path;

use super::claude;
use super::scan::Scan;

/// `.agents/skills` and `.codex/skills` of a project.
pub(super) fn project(scan: &mut Scan<'_>) {
    claude::skills(scan, Path::new(".agents/skills"), "agents", None);
    claude::skills(scan, Path::new(".codex/skills"), "codex", None);
}

/// The same of the home, and `.codex/prompts`.
pub(super) fn user(scan: &mut Scan<'_>) {
    project(scan);
    claude::commands(scan, Path::new(".codex/prompts"), "codex-prompt", None, &HashSet::new());
}
