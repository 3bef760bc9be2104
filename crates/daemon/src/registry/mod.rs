//! The commands of each session: a base for all and a layer for each session, in immutable snapshots.
//!
//! Promise: sessions in different projects see different commands and never each other's; a reader never waits and sees
//! wholly the old or wholly the new; what takes its time (files, processes) is on threads of its own. Knows nothing of
//! keepers' records. What it promises in numbers (R-1 … R-34) stands at the tests that hold it.
//!
//! Pure, without I/O: [`entry`], [`names`], [`slice`](mod@slice), [`group`], [`view`], [`search`], [`delta`], [`core`].

mod agreement;
pub mod caches;
pub(crate) mod conversation;
mod convert;
pub mod core;
pub mod delta;
pub(crate) mod discovery;
pub mod entry;
pub(crate) mod execution;
pub mod group;
mod haystack;
mod installed;
mod mcp;
pub mod names;
mod patience;
mod roots;
pub mod run;
pub mod search;
pub mod slice;
pub mod sources;
pub mod subscriptions;
pub mod trust;
mod turns;
pub mod usage;
pub mod view;
mod watcher;

pub use self::core::CommandRegistry;
pub use self::entry::{Draft, Entry};
pub use self::slice::{Slice, SourceId};
pub use self::view::{Preferences, Resolved, View};

mod service;
pub(crate) use self::service::Registry;

#[cfg(test)]
mod tests;
