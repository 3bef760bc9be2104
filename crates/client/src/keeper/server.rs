//! The attach socket: bound, watched, and bound again when its path vanishes.
//!
//! Promises that the session can be reached again within a second after somebody removed its socket or the directory
//! around it (a logout does), that nobody but its user is listened to, and no wakeup while nothing happens.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use shellkeep_transport::socket::{BindError, SocketFile, bind, own_uid, peer_credentials};

use super::attach::{ANSWER_WAIT_MAX, Connection, FIRST_WORD_WAIT_MAX};
use super::session::Session;
use crate::link;
use crate::places::{PlaceError, Places, keeper_socket_name};

/// Connections served at once. Beyond it new ones are closed unheard.
const CONNECTIONS_MAX: usize = 64;
/// Stack of a connection's thread.
const STACK_BYTES: usize = 128 << 10;
/// Seconds between looks at the socket while it cannot be bound or watched: inotify instances are few (128 per user).
const LOOK_AGAIN_S: i64 = 1;
/// What can make the path stop leading to the socket.
const WATCHED: WatchFlags = WatchFlags::DELETE
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// Why the session cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No directory for the socket.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// No socket.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// The attach socket of one session.
pub struct Server {
    places: Places,
    name: String,
    listener: Option<UnixListener>,
    place: Arc<Mutex<Place>>,
    /// `None` if the system gives no more instances.
    watch: Option<OwnedFd>,
}

/// Where the attach socket lies. Shared, because the end of the session removes it.
#[derive(Debug, Default)]
pub struct Place {
    file: Option<SocketFile>,
    /// Without this the removal at the end would look like a vanished path, and be repaired.
    is_over: bool,
}

impl Place {
    /// The session is over: removes the file for good.
    pub fn give_up(&mut self) {
        self.is_over = true;
        self.file = None;
    }

    fn is_missing(&self) -> bool {
        !self.is_over && !self.file.as_ref().is_some_and(SocketFile::still_bound)
    }
}

impl Server {
    /// Binds the socket of `session`.
    pub fn bind(places: Places, session: shellkeep_protocol::ids::SessionId) -> (Self, Option<ServeError>) {
        let name = keeper_socket_name(session);
        let mut server = Self { places, name, listener: None, place: Arc::default(), watch: None };
        let error = server.rebind().err();
        (server, error)
    }

    /// Where the socket lies, to be given up when the session is over.
    pub fn place(&self) -> Arc<Mutex<Place>> {
        Arc::clone(&self.place)
    }

    /// Serves the session until the process ends.
    pub fn run(mut self, session: &Arc<Session>) {
        let connections = Arc::new(AtomicUsize::new(0));
        loop {
            self.wait();
            let missing = self.place.lock().is_missing();
            if missing {
                let _again_later = self.rebind();
            }
            while let Some(stream) = self.accept() {
                serve(stream, session, &connections);
            }
        }
    }

    fn accept(&self) -> Option<UnixStream> {
        let (stream, _) = self.listener.as_ref()?.accept().ok()?;
        let ours = peer_credentials(&stream).is_ok_and(|peer| peer.uid == own_uid());
        // A stranger is closed before a byte is read; the next one may be a friend.
        if ours { Some(stream) } else { self.accept() }
    }

    fn rebind(&mut self) -> Result<(), ServeError> {
        self.listener = None;
        self.place.lock().file = None;
        let directory = self.places.prepare_keeper_directory()?;
        // Watched before it is bound: what happens in between is seen.
        self.watch = watch(&directory).ok();
        let (file, listener) = bind(&directory.join(&self.name))?.into_parts();
        let mut place = self.place.lock();
        if place.is_over {
            return Ok(()); // dropped here, the file goes again
        }
        place.file = file;
        drop(place);
        self.listener = Some(listener);
        Ok(())
    }

    /// Waits for a connection or a change of the directory.
    fn wait(&self) {
        let idle = self.listener.is_some() && self.watch.is_some();
        let again = Timespec { tv_sec: LOOK_AGAIN_S, tv_nsec: 0 };
        let mut polled = Vec::with_capacity(2);
        if let Some(listener) = &self.listener {
            polled.push(PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
        }
        if let Some(watch) = &self.watch {
            polled.push(PollFd::new(watch, PollFlags::IN));
        }
        let _interrupted = rustix::event::poll(&mut polled, if idle { None } else { Some(&again) });
        if let Some(watch) = &self.watch {
            let mut space = [MaybeUninit::uninit(); 4096];
            while rustix::io::read(watch, &mut space[..]).is_ok_and(|(events, _)| !events.is_empty()) {}
        }
    }
}

/// Watches the socket's directory, and the one above it, whose removal takes it along.
fn watch(directory: &Path) -> rustix::io::Result<OwnedFd> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, directory, WATCHED)?;
    if let Some(above) = directory.parent() {
        inotify::add_watch(&watch, above, WATCHED)?;
    }
    Ok(watch)
}

fn serve(stream: UnixStream, session: &Arc<Session>, connections: &Arc<AtomicUsize>) {
    if connections.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
        connections.fetch_sub(1, Ordering::AcqRel);
        return;
    }
    let (session, count) = (Arc::clone(session), Arc::clone(connections));
    let spawned = thread::Builder::new().name("attach".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        if let Ok(connection) = greet(stream, session) {
            connection.serve();
        }
        count.fetch_sub(1, Ordering::AcqRel);
    });
    if spawned.is_err() {
        connections.fetch_sub(1, Ordering::AcqRel);
    }
}

fn greet(stream: UnixStream, session: Arc<Session>) -> Result<Connection, link::LinkError> {
    stream.set_nonblocking(false)?;
    let (sender, mut receiver) = link::split(stream);
    receiver.set_wait(Some(FIRST_WORD_WAIT_MAX))?;
    sender.set_wait(Some(ANSWER_WAIT_MAX))?;
    sender.hello()?;
    let version = receiver.hello()?;
    Ok(Connection::new(session, sender, receiver, version))
}
