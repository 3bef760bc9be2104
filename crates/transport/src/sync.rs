//! The locks that everything shared is behind, never held over an await. In one place, so that `tests/model.rs` can put
//! one there whose every interleaving it walks through.

use parking_lot::lock_api;

use crate::short_lock::ShortLock;

pub(crate) use parking_lot::{Mutex, MutexGuard};

/// For what each call passes through: the connection in use, the state of a connection on either end.
pub(crate) type ShortMutex<T> = lock_api::Mutex<ShortLock, T>;
pub(crate) type ShortGuard<'a, T> = lock_api::MutexGuard<'a, ShortLock, T>;
