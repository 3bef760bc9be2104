//! The keeper: the small process that owns a session's PTY and hands its records to the daemon.

pub mod core;
