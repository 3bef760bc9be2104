//! Tells when a socket may have appeared at a path, or gone from it, so that whoever waits for one need not sleep its
//! whole delay, and whoever owns one learns that it was taken away.
//!
//! Promises only speed: without inotify (the system allows few instances), or without the directory, `changed` never
//! ends and the caller's own delays remain. Knows nothing of connections.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::socket::directory_of;

/// Room for the events of one read: some 60 with the longest names.
const EVENTS_BYTES: usize = 16 << 10;

/// A watch on the directory of a socket's path, for as long as it is needed: it holds one of the few inotify instances.
pub struct SocketWatch {
    path: PathBuf,
    name: OsString,
    inotify: Option<AsyncFd<OwnedFd>>,
    armed: bool,
}

impl SocketWatch {
    /// Watches for `path`. Never fails: what cannot be watched is never reported.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub fn new(path: &Path) -> Self {
        let inotify =
            inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(io::Error::from).and_then(watched);
        let mut watch = Self {
            path: path.to_owned(),
            name: path.file_name().unwrap_or_default().to_owned(),
            inotify: inotify.inspect_err(|error| tracing::debug!(%error, "no inotify, waiting by delays alone")).ok(),
            armed: false,
        };
        watch.rearm();
        watch
    }

    /// Watches again if the directory was away. To be called before each look at the socket, so that nothing that
    /// happens after the look is missed.
    pub fn rearm(&mut self) {
        let Some(inotify) = self.inotify.as_ref().filter(|_| !self.armed) else {
            return;
        };
        let what = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        self.armed = inotify::add_watch(inotify, directory_of(&self.path), what).is_ok();
    }

    /// Waits until something has happened to the path, or to its directory.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing but events that were not yet of interest.
    pub async fn changed(&mut self) {
        let Some(inotify) = &self.inotify else {
            return std::future::pending().await;
        };
        loop {
            let Ok(mut ready) = inotify.readable().await else {
                return std::future::pending().await; // the runtime ends
            };
            match drain(inotify.get_ref(), &self.name) {
                Ok(seen) => {
                    ready.clear_ready();
                    if seen.directory_gone {
                        self.armed = false;
                    }
                    if seen.directory_gone || seen.name {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "inotify failed, waiting by delays alone");
                    return std::future::pending().await;
                }
            }
        }
    }
}

impl Drop for SocketWatch {
    /// Closing an inotify instance waits for a grace period of the kernel, some 15 ms, which a client that has just
    /// reconnected must not spend on its runtime's thread.
    fn drop(&mut self) {
        let Some(fd) = self.inotify.take().map(AsyncFd::into_inner) else {
            return;
        };
        let closer = std::thread::Builder::new().name("inotify-close".into());
        if let Err(error) = closer.spawn(move || drop(fd)) {
            tracing::debug!(%error, "no thread to close inotify on; closed in place");
        }
    }
}

fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, names the same description until it is dropped, and returns the same number each
    // time; the `AsyncFd` owns it for all of its own life.
    #[allow(unsafe_code)]
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

#[derive(Default)]
struct Seen {
    name: bool,
    directory_gone: bool,
}

/// Reads everything that has happened so far.
fn drain(fd: &OwnedFd, name: &OsString) -> Result<Seen, Errno> {
    let mut room = [MaybeUninit::uninit(); EVENTS_BYTES];
    let mut events = inotify::Reader::new(fd, &mut room);
    let mut seen = Seen::default();
    loop {
        match events.next() {
            Ok(event) => {
                let gone = ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
                seen.directory_gone |= event.events().intersects(gone);
                let lost = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                seen.name |= lost || event.file_name().is_some_and(|found| found.to_bytes() == name.as_bytes());
            }
            Err(Errno::AGAIN) => return Ok(seen),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
