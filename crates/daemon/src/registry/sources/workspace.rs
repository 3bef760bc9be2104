//! Which directories are packages of a JavaScript workspace.
//!
//! Patterns are matched a segment at a time, and only directories that can match are listed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::scan::Scan;

/// Patterns of one workspace.
const PATTERNS_MAX: usize = 64;

/// Bytes of one pattern. A matcher grows with its braces.
const PATTERN_BYTES_MAX: usize = 256;

/// Directories that all patterns may look at.
const DIRECTORIES_MAX: usize = 2_000;

/// The directories with a `package.json` that the patterns mean, sorted. `!` takes away.
pub(super) fn members(scan: &mut Scan<'_>, file: &Path, patterns: &[String]) -> Vec<PathBuf> {
    if patterns.len() > PATTERNS_MAX {
        scan.cut(file, "has too many patterns of packages; the rest is left out");
    }
    let mut found = BTreeSet::new();
    let mut not = Vec::new();
    let mut search = Search { left: DIRECTORIES_MAX, found: &mut found };
    for pattern in patterns.iter().take(PATTERNS_MAX) {
        let is_not = pattern.starts_with('!');
        let plain = pattern.trim_start_matches('!').trim_start_matches("./").trim_end_matches('/');
        if plain.len() > PATTERN_BYTES_MAX {
            scan.cut(file, "has a pattern of packages that is too long; it is left out");
        } else if is_not {
            match glob(plain) {
                Some(glob) => not.push(glob),
                None => scan.note(file, None, format!("\"{pattern}\" is no pattern")),
            }
        } else {
            let segments: Vec<&str> = plain.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect();
            search.expand(scan, Path::new(""), &segments);
        }
    }
    if search.left == 0 {
        scan.cut(file, "means more directories than are looked at; the rest is left out");
    }
    found.into_iter().filter(|path| !not.iter().any(|glob| glob.is_match(path))).collect()
}

fn glob(pattern: &str) -> Option<GlobMatcher> {
    GlobBuilder::new(pattern).literal_separator(true).build().ok().map(|glob| glob.compile_matcher())
}

struct Search<'a> {
    left: usize,
    found: &'a mut BTreeSet<PathBuf>,
}

impl Search<'_> {
    fn expand(&mut self, scan: &mut Scan<'_>, dir: &Path, segments: &[&str]) {
        if self.left == 0 || dir.components().count() > scan.limits.depth {
            return;
        }
        self.left -= 1;
        let Some((segment, rest)) = segments.split_first() else {
            if dir != Path::new("") && scan.exists(dir.join("package.json")) {
                self.found.insert(dir.to_owned());
            }
            return;
        };
        if !segment.contains(['*', '?', '[', '{']) {
            return self.expand(scan, &dir.join(segment), rest);
        }
        let is_any_depth = *segment == "**";
        if is_any_depth {
            self.expand(scan, dir, rest);
        }
        let Some(glob) = glob(segment) else { return };
        let is_wanted =
            |name: &str| !name.starts_with('.') && name != "node_modules" && (is_any_depth || glob.is_match(name));
        for entry in scan.entries(dir, is_wanted) {
            if !entry.is_dir {
                continue;
            }
            if is_any_depth {
                self.expand(scan, &entry.path, segments);
            } else if glob.is_match(&entry.name) {
                self.expand(scan, &entry.path, rest);
            }
        }
    }
}
