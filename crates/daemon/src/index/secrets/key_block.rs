//! Private keys of several lines: which lines belong to one.
//!
//! Promises that a key that never ends hides no more than [`LINES_MAX`] lines, and none that does not look like a key's.

use serde::{Deserialize, Serialize};

use super::Secrets;

/// Longest key, in lines; the longest usual one has about 100. Behind it lines count as text again.
const LINES_MAX: u32 = 2000;

/// Whether a key is being read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyBlock {
    /// So many lines may still belong to it.
    left: u32,
}

impl KeyBlock {
    /// Takes the next line; true if it is in the middle of a key. The lines around a key are no secret.
    pub(super) fn takes(&mut self, secrets: &Secrets, line: &[u8]) -> bool {
        let finds = |regex: &Option<regex::bytes::Regex>| regex.as_ref().is_some_and(|regex| regex.is_match(line));
        if self.left > 0 {
            self.left = if is_of_a_key(line) { self.left - 1 } else { 0 };
            if self.left > 0 {
                return true;
            }
        }
        // Cheap unless something is there.
        if finds(&secrets.key_begins) && !finds(&secrets.key_ends) {
            self.left = LINES_MAX;
        }
        false
    }

    /// Forgets the key: what comes is no continuation.
    pub(super) fn reset(&mut self) {
        self.left = 0;
    }

    /// Whether a key has begun whose end has not come.
    pub(super) fn is_open(self) -> bool {
        self.left > 0
    }
}

/// Whether a line may stand in a key: base64, perhaps indented, numbered, quoted or marked as in a diff; a header; nothing.
fn is_of_a_key(line: &[u8]) -> bool {
    let is_around = |byte: &u8| byte.is_ascii_whitespace() || b"|:>+#*\"'\\,-".contains(byte);
    let text = line.trim_ascii();
    if text.windows(5).any(|part| part == b"-----") {
        return false; // its end, or another beginning
    }
    let from = text.iter().position(|byte| !is_around(byte)).unwrap_or(text.len());
    let to = text.iter().rposition(|byte| !is_around(byte)).map_or(from, |last| last + 1);
    let mut words: Vec<&[u8]> = text[from..to].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    if words.len() > 1 && words[0].iter().all(|byte| byte.is_ascii_digit() || b"|:".contains(byte)) {
        words.remove(0); // the line's number
    }
    let is_base64 = |word: &[u8]| word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte));
    match words.as_slice() {
        [] => true,
        [word] => is_base64(word),
        // "Proc-Type: 4,ENCRYPTED". Source: RFC 1421, 4.6.
        [name, ..] => {
            name.ends_with(b":") && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-:".contains(byte))
        }
    }
}
