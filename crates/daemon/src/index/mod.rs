//! What is in the records, for people: commands, and text as it was seen. A cache of the log at the most, never a source.

pub mod commands;
mod emulated;
pub mod fold;
pub mod lines;
pub mod marks;
pub mod plain;
mod row;
