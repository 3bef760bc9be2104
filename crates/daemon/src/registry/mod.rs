//! The commands that a session can see.

pub mod names;
pub mod sources;
