//! Sessions and their logs: what may be written, by whom, and what may be said of it.

pub mod adopt;
pub mod adoption;
pub(crate) mod aside;
pub mod core;
pub mod journal_log;
pub mod logs;
pub mod manager;
mod ruin;
pub mod session;
pub mod spool;
pub mod store;
pub mod syncer;
pub mod watch;
