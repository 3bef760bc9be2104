//! The first frame in each direction: who speaks which conversation, in which version, with which limits.
//!
//! Promises a layout that never changes, so that any two builds can at least refuse each other in words. Decides on
//! the version; knows neither sockets nor messages. Source: docs/wire.md, "Hello".

use std::ops::RangeInclusive;

use crate::frame::{FrameError, HELLO_FRAME_BYTES_MAX, append_frame};
use crate::protocol::Protocol;

/// What every Hello begins with. The first byte is no text and no TLS, the line end shows a mangled channel.
pub const MAGIC: [u8; 8] = *b"\x93KEPT\r\n\x01";
/// Bytes of a Hello's body, for ever.
const HELLO_BYTES: usize = 32;
/// Bytes of a reply's body before its text, for ever.
const REPLY_BYTES: usize = 40;
/// Longest text of a refusal, in bytes of UTF-8; a longer one is cut at a character.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 256;

const _: () = assert!(REPLY_BYTES + REFUSAL_TEXT_BYTES_MAX < HELLO_FRAME_BYTES_MAX as usize);

/// Ability of a client: it looks for an answer before it sleeps, and is quicker still if the server looks for its next
/// request likewise. A hint that changes no byte.
pub const ABILITY_SPIN: u32 = 1;

/// What a client says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The conversation, [`Protocol::NAME`].
    pub name: [u8; 4],
    /// The versions that the client speaks.
    pub versions: RangeInclusive<u16>,
    /// Largest frame body that the client accepts, in bytes.
    pub frame_bytes_max: u32,
    /// After so much silence while it waits for something the client pings, in ms; 0: never. For the server's notice.
    pub heartbeat_ms: u32,
    /// Optional abilities, a set of bits: [`ABILITY_SPIN`]. Unknown ones are ignored.
    pub abilities: u32,
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The connection is open.
    Accepted(Terms),
    /// The connection ends after this frame.
    Refused(Refusal),
}

/// What both ends keep to for the life of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The version to speak, inside both ranges.
    pub version: u16,
    /// Largest frame body that the server accepts, in bytes.
    pub frame_bytes_max: u32,
    /// How many calls may wait at a time on this connection.
    pub in_flight_max: u32,
    /// The server's number for this connection, for its diagnostics and the client's.
    pub connection: u64,
}

/// A server's no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused by the server ({kind:?}): {text}")]
pub struct Refusal {
    /// What to do about it.
    pub kind: RefusalKind,
    /// The versions that the server speaks.
    pub versions: RangeInclusive<u16>,
    /// The reason in words, for people; at the most [`REFUSAL_TEXT_BYTES_MAX`] bytes.
    pub text: String,
}

/// Why a server refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// No version is spoken by both; see [`Refusal::versions`].
    Version,
    /// Another conversation is held at this socket.
    Conversation,
    /// The server has as many connections as it allows; come back.
    Full,
    /// The server is ending; come back.
    ShuttingDown,
    /// A reason of a newer server.
    Other(u16),
}

impl RefusalKind {
    fn to_wire(self) -> u16 {
        match self {
            Self::Version => 1,
            Self::Conversation => 2,
            Self::Full => 3,
            Self::ShuttingDown => 4,
            Self::Other(code) => code,
        }
    }

    fn from_wire(code: u16) -> Self {
        match code {
            1 => Self::Version,
            2 => Self::Conversation,
            3 => Self::Full,
            4 => Self::ShuttingDown,
            code => Self::Other(code),
        }
    }
}

/// The first frame is not what this protocol begins with: the peer speaks something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// Wrong first bytes.
    #[error("the peer does not begin with a Hello")]
    Magic,
    /// The right first bytes and the wrong number of them.
    #[error("a Hello of {bytes} bytes")]
    Length {
        /// Length of the body.
        bytes: usize,
    },
    /// A server accepted a version that was not offered.
    #[error("the server chose version {version}, which was not offered")]
    Version {
        /// What it chose.
        version: u16,
    },
    /// The reply is of another conversation than was asked for.
    #[error("the server answered for another conversation")]
    Conversation,
}

impl Hello {
    /// Appends the frame.
    ///
    /// # Errors
    /// None in practice: a Hello is far below the limit.
    pub fn append_to(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        append_frame(out, HELLO_FRAME_BYTES_MAX, |out| {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&self.name);
            out.extend_from_slice(&self.versions.start().to_le_bytes());
            out.extend_from_slice(&self.versions.end().to_le_bytes());
            out.extend_from_slice(&self.frame_bytes_max.to_le_bytes());
            out.extend_from_slice(&self.heartbeat_ms.to_le_bytes());
            out.extend_from_slice(&self.abilities.to_le_bytes());
            out.extend_from_slice(&[0; 4]); // reserved
            Ok(())
        })
    }

    /// Reads the body of a client's first frame.
    ///
    /// # Errors
    /// [`HelloError::Magic`] or [`HelloError::Length`].
    pub fn parse(body: &[u8]) -> Result<Self, HelloError> {
        let fields = fixed::<HELLO_BYTES>(body, body.len() == HELLO_BYTES)?;
        Ok(Self {
            name: take(fields, 8),
            versions: u16_at(fields, 12)..=u16_at(fields, 14),
            frame_bytes_max: u32_at(fields, 16),
            heartbeat_ms: u32_at(fields, 20),
            abilities: u32_at(fields, 24),
        })
    }
}

impl Reply {
    /// Appends the frame. `name` and `versions` are the server's own.
    ///
    /// # Errors
    /// None in practice: a reply is far below the limit.
    pub fn append_to(
        &self,
        name: [u8; 4],
        versions: &RangeInclusive<u16>,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let (verdict, terms, text) = match self {
            Self::Accepted(terms) => (0, *terms, ""),
            Self::Refused(refusal) => (refusal.kind.to_wire(), Terms::NONE, refusal.text.as_str()),
        };
        append_frame(out, HELLO_FRAME_BYTES_MAX, |out| {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&name);
            out.extend_from_slice(&verdict.to_le_bytes());
            out.extend_from_slice(&terms.version.to_le_bytes());
            out.extend_from_slice(&versions.start().to_le_bytes());
            out.extend_from_slice(&versions.end().to_le_bytes());
            out.extend_from_slice(&terms.frame_bytes_max.to_le_bytes());
            out.extend_from_slice(&terms.in_flight_max.to_le_bytes());
            out.extend_from_slice(&[0; 4]); // abilities: none yet
            out.extend_from_slice(&terms.connection.to_le_bytes());
            out.extend_from_slice(cut(text).as_bytes());
            Ok(())
        })
    }

    /// Reads the body of a server's first frame, and holds it against what was offered.
    ///
    /// # Errors
    /// See [`HelloError`].
    pub fn parse(body: &[u8], offered: &Hello) -> Result<Self, HelloError> {
        let fits = body.len() <= REPLY_BYTES + REFUSAL_TEXT_BYTES_MAX;
        let fields = fixed::<REPLY_BYTES>(body, fits)?;
        let verdict = u16_at(fields, 12);
        if verdict != 0 {
            let text = body.get(REPLY_BYTES..).unwrap_or_default();
            return Ok(Self::Refused(Refusal {
                kind: RefusalKind::from_wire(verdict),
                versions: u16_at(fields, 16)..=u16_at(fields, 18),
                text: String::from_utf8_lossy(text).into_owned(),
            }));
        }
        let terms = Terms {
            version: u16_at(fields, 14),
            frame_bytes_max: u32_at(fields, 20),
            in_flight_max: u32_at(fields, 24),
            connection: u64::from_le_bytes(take(fields, 32)),
        };
        if take::<4>(fields, 8) != offered.name {
            return Err(HelloError::Conversation);
        }
        if !offered.versions.contains(&terms.version) {
            let version = terms.version;
            return Err(HelloError::Version { version });
        }
        Ok(Self::Accepted(terms))
    }
}

impl Terms {
    const NONE: Self = Self { version: 0, frame_bytes_max: 0, in_flight_max: 0, connection: 0 };
}

/// The version that a server of `P` speaks with the sender of `hello`: the highest that both know.
///
/// # Errors
/// The refusal to send, if there is none or if another conversation was meant.
pub(crate) fn choose_version<P: Protocol>(hello: &Hello) -> Result<u16, Refusal> {
    if hello.name != P::NAME {
        let (ours, theirs) = (P::NAME, hello.name);
        return Err(refusal::<P>(
            RefusalKind::Conversation,
            format!("here {} is spoken, not {}", ours.escape_ascii(), theirs.escape_ascii()),
        ));
    }
    let version = (*hello.versions.end()).min(*P::VERSIONS.end());
    if hello.versions.contains(&version) && P::VERSIONS.contains(&version) {
        return Ok(version);
    }
    let (ours, theirs) = (P::VERSIONS, &hello.versions);
    Err(refusal::<P>(RefusalKind::Version, format!("the server speaks versions {ours:?}, the client {theirs:?}")))
}

pub(crate) fn refusal<P: Protocol>(kind: RefusalKind, text: String) -> Refusal {
    Refusal { kind, versions: P::VERSIONS, text }
}

/// The fixed fields of a first frame. The magic is judged first: of a stranger the length means nothing.
fn fixed<const N: usize>(body: &[u8], fits: bool) -> Result<&[u8; N], HelloError> {
    if !body.starts_with(&MAGIC) {
        return Err(HelloError::Magic);
    }
    let bytes = body.len();
    body.first_chunk().filter(|_| fits).ok_or(HelloError::Length { bytes })
}

fn take<const N: usize>(fields: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&fields[at..at + N]);
    field
}

fn u16_at(fields: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(take(fields, at))
}

fn u32_at(fields: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(take(fields, at))
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX)]
}
