//! Every message that crosses a process border, and the identities in them: types only, one file per conversation.
//!
//! Promise: a version of the [`session`] conversation that was ever released stays decodable, because keepers live
//! for months and are never upgraded under their shell; golden bytes in `tests/` hold every message still. Knows no
//! sockets, no files and no policy. Source of the wire format: `docs/wire.md`.

pub mod annotation;
pub mod attach;
pub mod daemon;
pub mod ids;
pub mod query;
pub mod registry;
pub mod resume;
pub mod session;
