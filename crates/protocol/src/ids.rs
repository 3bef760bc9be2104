//! Who is who on the wire: sessions, writers, stores.
//!
//! Refuses every text that is not exactly an identity, so that no path is ever built from a hostile one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Identity of one kept shell: a UUIDv7, so ids sort by time of birth. 16 bytes on the wire and on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A new identity, from the clock and the system's randomness.
    #[must_use]
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7().into_bytes())
    }

    /// The identity that these stored bytes mean.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// When it was made, by the clock of then: microseconds since the Unix epoch, to the millisecond. Source: RFC 9562, 5.7.
    #[must_use]
    pub fn born_us(&self) -> u64 {
        self.0[..6].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte)) * 1000
    }

    /// The 16 bytes of the wire and of file headers.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl Default for SessionId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no session id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a session id: want 36 characters like 0197c0de-0000-7000-8000-000000000000")]
pub struct NotASessionId;

impl FromStr for SessionId {
    type Err = NotASessionId;

    /// Accepts only the hyphenated lower-case form that `Display` writes: one identity has one spelling.
    fn from_str(text: &str) -> Result<Self, NotASessionId> {
        let id = uuid::Uuid::try_parse(text).map_err(|_| NotASessionId)?;
        let id = Self(id.into_bytes());
        if id.to_string() == text { Ok(id) } else { Err(NotASessionId) }
    }
}

/// Defines a 128-bit random identity that is compared and printed in hexadecimal, never guessed.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A new random identity.
            ///
            /// # Errors
            /// When the system has no randomness to give; an identity that could collide is never made.
            pub fn random() -> Result<Self, getrandom::Error> {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes)?;
                Ok(Self(bytes))
            }

            /// The identity that these stored bytes mean.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes of the wire and of file headers.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

random_id! {
    /// Identity of one keeper process: the only writer that its session's records may come from.
    WriterId
}
random_id! {
    /// Identity of one log. A wiped or replaced log has another one, so what was said about the old one ends with it.
    StoreId
}
random_id! {
    /// What the shell's marks carry, so that printed text cannot forge one. One per session.
    MarksNonce
}
