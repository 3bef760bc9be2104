//! Tells when a socket may have appeared at a path, or gone from it, so that whoever waits for one need not sleep its
//! whole delay, and whoever owns one learns that it was taken away.
//!
//! Promises only speed: without inotify (the system allows few instances), or without the directory, `changed` never
//! ends and the caller's own delays remain. All watches of a process share one instance and one thread, which end with
//! the last of them (`lookout`). Knows nothing of connections.

mod lookout;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::socket::directory_of;
use lookout::{Lookout, Of, Post, Told};

/// A watch on the directory of a socket's path, for as long as it is needed.
///
/// All watches of the process share one of the user's few inotify instances (128 by default), and one thread.
pub struct SocketWatch {
    path: PathBuf,
    told: Arc<Told>,
    /// Before the lookout, which it leaves.
    post: Option<Post>,
    lookout: Option<Arc<Lookout>>,
}

impl SocketWatch {
    /// Watches for `path`. Never fails: what cannot be watched is never reported.
    pub fn new(path: &Path) -> Self {
        Self::of(path, Of::Anything)
    }

    /// Like [`new`](Self::new), and is silent about a socket that has only gone.
    pub(crate) fn for_arrivals(path: &Path) -> Self {
        Self::of(path, Of::Arrivals)
    }

    fn of(path: &Path, of: Of) -> Self {
        let lookout = Lookout::current();
        let mut watch = Self {
            path: path.to_owned(),
            told: Told::new(path.file_name().unwrap_or_default().to_owned(), of),
            post: None,
            lookout: lookout.inspect_err(|error| tracing::debug!(%error, "no inotify, waiting by delays alone")).ok(),
        };
        watch.rearm();
        watch
    }

    /// Watches again if the directory was away. To be called before each look at the socket, so that nothing that
    /// happens after the look is missed.
    pub fn rearm(&mut self) {
        if self.is_armed() {
            return;
        }
        self.post = None;
        self.post = self.lookout.as_ref().and_then(|lookout| lookout.post(directory_of(&self.path), &self.told));
    }

    /// Whether what happens from now on is told.
    pub(crate) fn is_armed(&self) -> bool {
        self.post.is_some() && !self.told.is_forgotten()
    }

    /// Waits until something has happened to the path, or to its directory.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        self.told.changed.notified().await;
    }
}
