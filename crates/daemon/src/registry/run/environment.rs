//! What of the asking program's environment a command of a project gets.
//!
//! Promise: nothing but the names of `ENVIRONMENT_PASSED`, so that no secret of the user's shell reaches a project's program unasked.

use shellkeep_protocol::registry::{RUN_DEPTH, is_passed};

/// Runs inside runs; one more is refused.
pub(super) const DEPTH_MAX: u32 = 8;

/// What is let through; `None` if runs are nested too deep.
pub(super) fn of(asked: &[(String, String)]) -> Option<Vec<(String, String)>> {
    let usable = |text: &str| !text.contains('\0');
    let depth =
        asked.iter().find(|(name, _)| name == RUN_DEPTH).and_then(|(_, value)| value.parse().ok()).unwrap_or(0_u32);
    if depth >= DEPTH_MAX {
        return None;
    }
    let passed = asked.iter().filter(|(name, value)| is_passed(name) && name != RUN_DEPTH && usable(value));
    let mut all: Vec<_> = passed.cloned().collect();
    all.push((RUN_DEPTH.to_owned(), (depth + 1).to_string()));
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_passed_on_and_runs_are_counted() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let asked =
            [pair("PATH", "/bin"), pair("AWS_SECRET_ACCESS_KEY", "x"), pair("LC_ALL", "C"), pair("LD_PRELOAD", "x")];
        assert_eq!(of(&asked), Some(vec![pair("PATH", "/bin"), pair("LC_ALL", "C"), pair(RUN_DEPTH, "1")]));
        assert_eq!(of(&[pair(RUN_DEPTH, "7")]), Some(vec![pair(RUN_DEPTH, "8")]));
        assert_eq!(of(&[pair(RUN_DEPTH, "8")]), None);
    }
}
