//! Sessions and their logs: what may be written, by whom, and what may be said of it.

pub mod adopt;
pub mod core;
pub mod session;
