//! What the two ends of a connection speak: the types of the messages, and the name and versions of the conversation.
//! Owns no byte: how messages are laid out is `codec`'s, how frames are `frame`'s.

use std::ops::RangeInclusive;

use serde::{Serialize, de::DeserializeOwned};

/// One conversation: the messages that its two ends exchange.
///
/// Implement it on an empty type. Both ends must name the same types for the same version: bincode writes no field
/// names, so a changed type is a new version (or a new variant at the end of an enum, which old readers refuse).
///
/// Messages are plain data: they are written, and an unclaimed answer is dropped, under the lock of their connection.
/// A `Serialize` or `Drop` of theirs that used the same client would wait for itself.
pub trait Protocol: Send + Sync + 'static {
    /// What a client asks.
    type Request: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What the server answers, failures that belong to the application included.
    type Response: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What the server says unasked; [`std::convert::Infallible`] cannot be used here, `()` can.
    type Push: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Names the conversation in the Hello, so that a client at the wrong socket is told so instead of misread.
    const NAME: [u8; 4];
    /// The versions that this build speaks; the highest that both ends speak is used. Must not be empty.
    const VERSIONS: RangeInclusive<u16>;
}
