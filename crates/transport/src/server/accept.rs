//! Accepts connections from one listener and lets in whom it may.
//!
//! Promises to survive every error of accept, to check the peer's user before a byte is read, and to hold only so many
//! strangers at a time. Costs nothing while nobody connects.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Handler, Shared, connection};
use crate::protocol::Protocol;
use crate::socket::{BoundSocket, PeerCredentials, SocketFile, peer_credentials};

/// Pause after an error that will be there again at once: descriptors or memory are used up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Clients that are accepted and closed at a time for want of descriptors, before the pause.
const TURNED_AWAY_MAX: u32 = 64;
/// At the most one line about accepting in so long, whatever happens.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

pub(crate) struct Accept<P: Protocol, H: Handler<P>> {
    shared: Arc<Shared<P, H>>,
    /// Unlinked when accepting ends, before the listener closes.
    file: Option<SocketFile>,
    listener: UnixListener,
    stop: CancellationToken,
    /// Held back so that, with all descriptors used up, a waiting client can still be accepted and closed: it then
    /// learns at once, instead of hanging in the backlog.
    reserve: Option<File>,
    complained: Option<Instant>,
}

impl<P: Protocol, H: Handler<P>> Accept<P, H> {
    pub(crate) fn new(shared: Arc<Shared<P, H>>, socket: BoundSocket, stop: CancellationToken) -> io::Result<Self> {
        let (file, listener) = socket.into_parts();
        listener.set_nonblocking(true)?; // an inherited one may not be
        Ok(Self {
            shared,
            file,
            listener: UnixListener::from_std(listener)?,
            stop,
            reserve: reserve(),
            complained: None,
        })
    }

    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            never = self.accept_for_ever() => match never {},
        }
        drop(self.file.take());
    }

    async fn accept_for_ever(&mut self) -> std::convert::Infallible {
        loop {
            let strangers = Arc::clone(&self.shared.strangers);
            let Ok(place) = strangers.acquire_owned().await else {
                return std::future::pending().await; // never: nobody closes it
            };
            match self.listener.accept().await {
                Ok((stream, _)) => self.let_in(stream, place),
                Err(error) => self.survive(&error).await,
            }
        }
    }

    fn let_in(&mut self, stream: UnixStream, place: OwnedSemaphorePermit) {
        match self.check(&stream) {
            Ok(peer) => {
                let shared = Arc::clone(&self.shared);
                self.shared.tasks.spawn(connection::serve(shared, stream, peer, place));
            }
            Err(reason) => self.complain(&reason),
        }
    }

    /// The kernel's word on who connected; nothing that the peer says is read before.
    fn check(&self, stream: &UnixStream) -> Result<PeerCredentials, String> {
        let peer = peer_credentials(stream).map_err(|error| format!("unknown peer: {error}"))?;
        let expected = self.shared.options.client_uid;
        if peer.uid == expected {
            return Ok(peer);
        }
        Err(format!("a client of user {} was turned away", peer.uid))
    }

    async fn survive(&mut self, error: &io::Error) {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            // The client has gone again, or a signal came: the next one is waiting.
            Some(Errno::CONNABORTED | Errno::INTR | Errno::AGAIN) => return,
            Some(Errno::MFILE | Errno::NFILE) => self.turn_away(),
            _ => {}
        }
        self.complain(&format!("failed to accept: {error}"));
        tokio::time::sleep(ACCEPT_PAUSE).await;
        self.reserve = self.reserve.take().or_else(reserve);
    }

    fn turn_away(&mut self) {
        drop(self.reserve.take());
        for _ in 0..TURNED_AWAY_MAX {
            // Dropped at once, which the client sees as the end of its connection.
            if rustix::net::accept_with(&self.listener, rustix::net::SocketFlags::CLOEXEC).is_err() {
                break;
            }
        }
        self.reserve = reserve();
    }

    fn complain(&mut self, about: &str) {
        let now = Instant::now();
        if self.complained.is_none_or(|last| now >= last + COMPLAINT_PAUSE) {
            self.complained = Some(now);
            tracing::warn!(about, "not every client is served");
        }
    }
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}
