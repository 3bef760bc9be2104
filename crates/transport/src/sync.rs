//! The lock that everything shared is behind: short, never held over an await. In one place, so that `tests/model.rs`
//! can put one there whose every interleaving it walks through.

pub(crate) use parking_lot::{Mutex, MutexGuard};
