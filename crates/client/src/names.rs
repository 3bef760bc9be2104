//! What users call sessions: names, ids, beginnings and ends of ids, `last`.
//!
//! Promises that nothing else gets past parsing, so that no path or message is ever built from a hostile argument.

use std::fmt;
use std::str::FromStr;

use shellkeep_protocol::ids::SessionId;

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// From this many hexadecimal digits on a text is meant as an id, not as a name.
const ID_LIKE_BYTES_MIN: usize = 8;
/// Shortest end of an id that may stand for it.
const END_BYTES_MIN: usize = 4;
/// Length of a whole id as text.
const ID_BYTES: usize = 36;

/// A text is no session name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or too long.
    #[error("a session name has 1 to {NAME_BYTES_MAX} characters")]
    Length,
    /// A character that names do not have.
    #[error("a session name consists of letters, digits, '.', '_' and '-'")]
    Character,
    /// `last` means the newest session.
    #[error("\"last\" means the newest session and cannot be a name")]
    Last,
    /// It would be taken for an id.
    #[error("a session name must not look like a session id")]
    LikeAnId,
}

/// A user's name for a session: 1 to 64 of `[A-Za-z0-9._-]`, not `last`, not like an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionName(String);

impl SessionName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SessionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(NameError::Length);
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return Err(NameError::Character);
        }
        if text == "last" {
            return Err(NameError::Last);
        }
        if text.len() >= ID_LIKE_BYTES_MIN && is_id_prefix(text) {
            return Err(NameError::LikeAnId);
        }
        Ok(Self(text.to_owned()))
    }
}

/// SESSION as given: which session is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionRef {
    /// The newest one.
    Last,
    /// Exactly this one.
    Id(SessionId),
    /// A name, or else the beginning or the end of an id.
    NameOrPart(String),
}

impl FromStr for SessionRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "last" {
            return Ok(Self::Last);
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        if text.len() < ID_BYTES && is_id_prefix(text) {
            return Ok(Self::NameOrPart(text.to_owned()));
        }
        text.parse().map(|SessionName(name)| Self::NameOrPart(name))
    }
}

impl fmt::Display for SessionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::Id(id) => id.fmt(f),
            Self::NameOrPart(text) => f.write_str(text),
        }
    }
}

/// Whether `text` is a part by which `id` may be called: its beginning, or its end, which is what tells sessions of one
/// minute apart.
pub fn is_part(id: SessionId, text: &str) -> bool {
    let id = id.to_string();
    id.starts_with(text) || (text.len() >= END_BYTES_MIN && id.ends_with(text))
}

/// How much of the ends of these ids, in bytes, tells all of them apart; at least what a person would expect of an id.
pub fn ends(ids: &[SessionId]) -> usize {
    let mut length = ID_LIKE_BYTES_MIN;
    let texts: Vec<String> = ids.iter().map(SessionId::to_string).collect();
    while length < ID_BYTES {
        let different: std::collections::HashSet<&str> = texts.iter().map(|id| &id[ID_BYTES - length..]).collect();
        if different.len() == texts.len() {
            break;
        }
        length += 1;
    }
    length
}

/// Whether `text` could be the beginning of an id.
fn is_id_prefix(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= ID_BYTES
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_rejected_by_type() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", &long, "../../x", "a/b", "a\0b", "a b", "é", "\u{202e}x", "last", "01234567"] {
            assert!(bad.parse::<SessionName>().is_err(), "{bad:?}");
        }
        for bad in ["", &long, "../../x", "a\0b", "é", "0197c0de-0000-7000-8000-00000000000/"] {
            assert!(bad.parse::<SessionRef>().is_err(), "{bad:?}");
        }
        for good in ["build-7", "a", "face", "A.b_c", &"x".repeat(NAME_BYTES_MAX)] {
            assert!(good.parse::<SessionName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn the_ends_of_ids_tell_apart_what_began_at_the_same_time() {
        let ids: Vec<SessionId> = ["018f4c2e-9000-7abc-8123-0123456789ab", "018f4c2e-9000-7abc-8123-1123456789ab"]
            .map(|id| id.parse().expect("an id"))
            .to_vec();
        assert_eq!(ends(&ids[..1]), 8);
        assert_eq!(ends(&ids), 12);
        assert!(is_part(ids[0], "0123456789ab") && !is_part(ids[1], "0123456789ab"));
        assert!(is_part(ids[0], "018f") && is_part(ids[0], "89ab") && !is_part(ids[0], "9ab"));
    }

    #[test]
    fn a_reference_is_last_an_id_or_a_name_or_prefix() {
        let id = SessionId::new();
        assert_eq!("last".parse(), Ok(SessionRef::Last));
        assert_eq!(id.to_string().parse(), Ok(SessionRef::Id(id)));
        let prefix = id.to_string()[..20].to_owned();
        assert_eq!(prefix.parse(), Ok(SessionRef::NameOrPart(prefix)));
    }
}
