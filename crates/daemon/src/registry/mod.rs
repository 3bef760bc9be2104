//! The commands that a session can see.

pub mod sources;
