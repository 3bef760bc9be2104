//! The per-user process of shellkeep that records sessions and serves what was recorded.

pub mod sessions;
