//! What is in the records, for people: commands, and text as it was seen. A cache of the log at the most, never a source.
//!
//! `follower` reads logs behind their writers: `commands` and `fold` make commands and lines of the output, `sieve`
//! takes secrets out of them, `block` packs lines, `grams` and `runs` know which words are where, `store` keeps it
//! all in one file. `search` and `history` read that.

mod block;
pub mod commands;
mod emulated;
pub mod fold;
pub(crate) mod follower;
mod grams;
mod held;
pub(crate) mod history;
pub mod lines;
pub mod marks;
pub mod plain;
mod reading;
mod row;
mod runs;
pub(crate) mod search;
pub mod secrets;
mod sieve;
mod stamp;
pub(crate) mod store;

#[cfg(test)]
mod tests;
