//! What is noted in a session's record from outside of its terminal: the payloads of annotation records.
//!
//! A payload is one JSON object with one key, the kind of what it says; readers pass over kinds and keys that they do not know, so
//! that both may be added. Like the other payloads these forms stay readable for good.
//! Source: docs/journal-format.md, "Annotations".

use serde::{Deserialize, Serialize};

/// Longest payload. A longer one is not recorded.
pub const ANNOTATION_BYTES_MAX: usize = 64 << 10;

/// Longest line of a command, in bytes; what is behind is cut off. With every byte of it escaped, and with the directory, it fits into
/// [`ANNOTATION_BYTES_MAX`].
const LINE_BYTES_MAX: usize = 8 << 10;

/// Longest directory that is noted; of a longer one nothing is.
const DIRECTORY_BYTES_MAX: usize = 2 << 10;

const _: () = assert!((LINE_BYTES_MAX + DIRECTORY_BYTES_MAX) * 6 + 256 < ANNOTATION_BYTES_MAX);

/// What is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Annotation {
    /// A command was run for the session, and has ended when this is recorded.
    Run(Run),
}

/// A command that was run for a session, and not typed in it: its output went to where it was run, and is not in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// As it would be typed.
    pub line: String,
    /// Directory of the session then.
    pub cwd: String,
    /// Microseconds since the Unix epoch.
    pub started_at_us: u64,
    /// Its status, if it came to one.
    pub exit: Option<u8>,
}

impl Annotation {
    /// The payload.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        let Self::Run(run) = self;
        let line = run.line[..run.line.floor_char_boundary(LINE_BYTES_MAX)].to_owned();
        let cwd = if run.cwd.len() > DIRECTORY_BYTES_MAX { String::new() } else { run.cwd.clone() };
        // Texts and numbers always can be put into JSON.
        serde_json::to_vec(&Self::Run(Run { line, cwd, ..*run })).unwrap_or_default()
    }

    /// Reads a payload; `None` if it says nothing known.
    #[must_use]
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_its_bytes_and_what_is_not_known_is_passed_over() {
        let run = Run { line: "shellkeep run t".into(), cwd: "/p".into(), started_at_us: 5, exit: Some(3) };
        let bytes = br#"{"run":{"line":"shellkeep run t","cwd":"/p","started_at_us":5,"exit":3}}"#;
        assert_eq!(Annotation::Run(run.clone()).to_payload(), bytes);
        let later = br#"{"run":{"new":[1],"line":"shellkeep run t","cwd":"/p","started_at_us":5,"exit":3}}"#;
        for payload in [&bytes[..], later] {
            assert_eq!(Annotation::from_payload(payload), Some(Annotation::Run(run.clone())));
        }
        for other in [&b""[..], b"instead", br#"{"note":{}}"#, br#"{"run":{"line":1}}"#, b"[]"] {
            assert_eq!(Annotation::from_payload(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_so_that_it_always_fits() {
        let run =
            |cwd: &str| Run { line: "\u{1}".repeat(1 << 20), cwd: cwd.into(), started_at_us: u64::MAX, exit: None };
        let payload = Annotation::Run(run(&"\u{1}".repeat(DIRECTORY_BYTES_MAX))).to_payload();
        assert!(payload.len() < ANNOTATION_BYTES_MAX);
        let Some(Annotation::Run(read)) = Annotation::from_payload(&payload) else { panic!("it is one") };
        assert_eq!(read.line.len(), LINE_BYTES_MAX);
    }
}
