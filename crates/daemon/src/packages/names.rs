//! What packages, their commands and the files in them may be called.
//!
//! Promise: a name that gets past here is safe in a path, in a shell's word and on a terminal. Knows no package.

/// Longest name of a package or of a command, and longest version. A longer one is refused.
pub(super) const NAME_BYTES_MAX: usize = 64;
/// Longest path inside a package, and longest part of one.
const PATH_BYTES_MAX: usize = 1_024;
const PART_BYTES_MAX: usize = 255;
/// Directories in one another inside a package.
pub(super) const DEPTH_MAX: usize = 32;
/// Longest description, and any other line of text of a manifest.
pub(super) const TEXT_BYTES_MAX: usize = 1_024;

/// Commands that no package may bring: they are ours.
const OWN_COMMANDS: [&str; 2] = ["pkg", "shellkeep"];

/// The word that means every package of the index, so no package is called so.
pub const ALL: &str = "all";

/// Whether a package may be called so: `[a-z0-9][a-z0-9._-]{0,63}`, and not `all`.
pub fn is_package_name(name: &str) -> bool {
    let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_rest = |byte: &u8| is_first(byte) || b"._-".contains(byte);
    name.len() <= NAME_BYTES_MAX
        && name.as_bytes().first().is_some_and(is_first)
        && name.as_bytes().iter().all(is_rest)
        && name != ALL
}

/// Whether a package's command may be called so: `[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}`, and none of our own.
pub fn is_command_name(name: &str) -> bool {
    let is_first = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let is_rest = |byte: &u8| is_first(byte) || b"._+-".contains(byte);
    name.len() <= NAME_BYTES_MAX
        && name.as_bytes().first().is_some_and(is_first)
        && name.as_bytes().iter().all(is_rest)
        && !OWN_COMMANDS.contains(&name)
}

/// Why a path may not be in a package; in words that fit after the path.
pub(super) fn path_fault(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.starts_with('/') {
        return Some("is absolute");
    }
    if path.len() > PATH_BYTES_MAX {
        return Some("is longer than 1024 bytes");
    }
    if path.chars().any(is_unprintable) {
        return Some("has control characters");
    }
    let mut depth = 0;
    for part in path.split('/') {
        depth += 1;
        match part {
            "" | "." => return Some("is not in its shortest form"),
            ".." => return Some("leads out of its directory (\"..\")"),
            _ if part.len() > PART_BYTES_MAX => return Some("has a part of more than 255 bytes"),
            _ => {}
        }
    }
    (depth > DEPTH_MAX).then_some("is more than 32 directories deep")
}

/// Why a symlink at `path` may not lead to `target`.
///
/// Only `..` at its beginning, not beyond the package, then plain names. The directories above a link are no links, so these
/// `..` go where they seem to go; and what its names lead through are links under the same rule. So every link ends inside.
pub(super) fn link_fault(path: &str, target: &str) -> Option<&'static str> {
    let above = path.split('/').count() - 1;
    let mut rest = target;
    let mut ups = 0;
    while let Some(after) = rest.strip_prefix("..") {
        let Some(after) = after.strip_prefix('/').or_else(|| after.is_empty().then_some("")) else { break };
        ups += 1;
        rest = after;
    }
    if ups > above {
        return Some("is a link that leads out of the package");
    }
    if rest.is_empty() && ups > 0 {
        return None;
    }
    match path_fault(rest) {
        Some("is absolute") => Some("is a link to an absolute path"),
        Some(_) => Some("is a link whose target is not a plain path inside the package"),
        None => None,
    }
}

/// Whether a terminal would act on it, or show text in another order.
pub(super) fn is_unprintable(character: char) -> bool {
    let reorders =
        matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || reorders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p24_names_of_packages_are_lower_case_words_without_anything_special() {
        for good in ["a", "0", "git-undo", "a.b_c-9", &"x".repeat(64)] {
            assert!(is_package_name(good), "{good}");
        }
        for bad in ["", "A", "-a", ".a", "_a", "a b", "a/b", "a\n", "ä", "a+", "all", "..", &"x".repeat(65)] {
            assert!(!is_package_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn p24_paths_are_relative_normal_and_inside() {
        for good in ["a", "bin/x", "a/..b", "ä/ö", &["d"; 32].join("/")] {
            assert_eq!(path_fault(good), None, "{good}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", "./a", "a/./b", "..", "../a", "a/../b", "a\u{1b}", "a\0b", "\u{202e}a"]
        {
            assert!(path_fault(bad).is_some(), "{bad:?}");
        }
        assert!(path_fault(&["d"; 33].join("/")).is_some());
    }

    #[test]
    fn p23_a_link_stays_inside_whatever_it_leads_through() {
        for (path, good) in [("a", "b"), ("d/a", "../b"), ("d/e/a", "../.."), ("d/a", ".."), ("a", "d/..b")] {
            assert_eq!(link_fault(path, good), None, "{path} -> {good}");
        }
        for (path, bad) in [
            ("a", ".."),
            ("a", "/etc"),
            ("d/a", "../.."),
            ("a", "d/.."),
            ("a", ""),
            ("a", "."),
            ("a", "./b"),
            ("a", "b/"),
        ] {
            assert!(link_fault(path, bad).is_some(), "{path} -> {bad}");
        }
    }

    #[test]
    fn no_command_has_a_name_that_is_ours_or_an_option() {
        for good in ["serve", "G", "_x", "g++", "a.b"] {
            assert!(is_command_name(good), "{good}");
        }
        for bad in ["", "pkg", "shellkeep", "-x", ".x", "+x", "a/b", "a b", "a\u{1b}[2J", "ä", &"x".repeat(65)] {
            assert!(!is_command_name(bad), "{bad:?}");
        }
    }
}
