//! The per-user process of shellkeep that records sessions and serves what was recorded.
//!
//! Promise: it may die at any instruction; a restart is a crash and a start, there is no other path. What a keeper was
//! told to be written survives that, what it was told to be durable survives power loss. Knows no terminal and no
//! shell. Way of the data: `server` → [`sessions`] → log, one store thread for all writes.

mod config;
pub mod index;
pub mod lock;
mod memory;
pub mod packages;
mod queries;
pub mod registry;
mod retention;
pub mod screen;
mod server;
pub mod sessions;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use config::{Config, Places, Retention};
use shellkeep_protocol::daemon::DaemonProtocol;
use shellkeep_transport::socket::{self, BindError, BoundSocket};
use shellkeep_transport::{CancellationToken, RpcServer, ServerOptions, SocketWatch};
use tracing::{info, warn};

use crate::queries::Queries;
use crate::registry::Registry;
use crate::retention::Pruner;
use crate::screen::follow::Screens;
use crate::server::Server;
use crate::sessions::adoption::Adopter;
use crate::sessions::logs::Logs;
use crate::sessions::store::Store;
use crate::sessions::watch::Watchers;

/// Longest first frame of a connection: a session's start with its attrs, or a query, both of which are smaller.
const FIRST_FRAME_BYTES_MAX: u32 = 128 << 10;
const _: () = assert!(shellkeep_protocol::session::ATTRS_BYTES_MAX * 2 < FIRST_FRAME_BYTES_MAX as usize);

/// How soon a socket whose path is gone or not ours is bound again.
const REBIND_PAUSE: Duration = Duration::from_millis(500);

/// Why a daemon could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The socket cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gave no thread, or no listener.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Where the daemon's listener comes from.
#[derive(Debug)]
pub enum Listener {
    /// Bound at [`Places::socket`], and again whenever it is gone from there.
    Own,
    /// Inherited from whoever started this process; never bound, renamed or unlinked.
    Inherited(std::os::unix::net::UnixListener),
}

/// Records and serves until `stop`. The caller holds the [`lock::Lock`]. `on_serving` is called once, as soon as
/// keepers can connect.
///
/// # Errors
/// [`RunError`] before the first connection; from then on trouble is survived and told in diagnostics.
pub async fn run(
    config: Config,
    listener: Listener,
    stop: CancellationToken,
    on_serving: impl FnOnce(),
) -> Result<(), RunError> {
    let system = |action| move |source| RunError::System { action, source };
    let watchers = Watchers::default();
    let logs = Logs::real(config.places.logs.clone(), config.retention.of_one_session());
    let (store, store_thread) =
        Store::start(logs.clone(), watchers.clone()).map_err(system("start the store's threads"))?;
    let (spools, keepers) = (config.places.spools.clone(), config.places.keepers.clone());
    let adopter = Adopter::start(store.clone(), spools, keepers).map_err(system("start adoption"))?;
    let pruner = Pruner::start(store.clone(), logs.clone(), config.places.spools.clone(), config.retention)
        .map_err(system("start pruning"))?;
    let screens = Screens::start(logs.clone()).map_err(system("start following"))?;
    let follower = watchers.follower().clone();
    let registry = Registry::start(&config, &store, &logs, &follower).map_err(system("start the registry"))?;
    let (followers, commands) = (screens.clone(), registry.clone());
    let on_change = move |session, change| {
        followers.changed(session, change);
        commands.changed(session, change);
    };
    store.with(move |manager| manager.when_changed(Box::new(on_change)));
    let (index, secrets) = (config.places.index.clone(), Arc::clone(&config.secrets));
    follower.start(logs.clone(), store.clone(), index, secrets).map_err(system("start the index"))?;
    let queries = Queries::new(config.clone(), store.clone(), logs, watchers, adopter.clone(), screens.clone());
    let server = Server {
        store: store.clone(),
        queries: Arc::new(queries),
        adopter: adopter.clone(),
        registry: registry.clone(),
    };
    let options = ServerOptions { first_frame_bytes_max: FIRST_FRAME_BYTES_MAX, ..ServerOptions::default() };
    let server = RpcServer::new(server, options, stop.clone());
    let listen = |socket: BoundSocket| server.listen(socket).map_err(system("listen"));
    match listener {
        Listener::Inherited(listener) => {
            listen(BoundSocket::inherited(listener))?;
            on_serving();
            stop.cancelled().await;
        }
        Listener::Own => {
            let bound = listen_at(&config, &server)?;
            on_serving();
            keep_bound(&config, &server, bound, &stop).await;
        }
    }
    info!("stopping");
    registry.stop();
    let left = server.stopped().await;
    if left > 0 {
        warn!(left, "handlers were still at work");
    }
    adopter.stop();
    pruner.stop();
    follower.stop();
    store.stop();
    screens.stop();
    // Bounded by the disk: the last sync is what the daemon owes to its keepers.
    let _ = tokio::task::spawn_blocking(move || store_thread.join()).await;
    info!("stopped");
    Ok(())
}

/// A listener at the path, and the means to end just that one.
struct Bound {
    stop: CancellationToken,
    path: PathBuf,
    inode: u64,
}

/// Binds the usual path, else the fallback: the runtime directory may be gone while sessions live.
fn listen_at(config: &Config, server: &RpcServer<DaemonProtocol, Server>) -> Result<Bound, RunError> {
    let usual = bind_in(&config.places.socket);
    let socket = match (usual, &config.places.socket_fallback) {
        (Err(error), Some(fallback)) if *fallback != config.places.socket => bind_in(fallback).map_err(|_| error)?,
        (bound, _) => bound?,
    };
    // Of a socket that was bound here there is always a file.
    let (path, inode) = socket.file().map_or((PathBuf::new(), 0), |file| (file.path().to_owned(), file.inode()));
    let stop = server.listen(socket).map_err(|source| RunError::System { action: "listen", source })?;
    info!(socket = %path.display(), "serving");
    Ok(Bound { stop, path, inode })
}

fn bind_in(path: &Path) -> Result<BoundSocket, BindError> {
    if let Some(directory) = path.parent() {
        socket::create_private_dir(directory)?;
    }
    socket::bind(path)
}

/// Binds again whenever the path is gone or another's. Wakes only when something happens in its directory.
async fn keep_bound(
    config: &Config,
    server: &RpcServer<DaemonProtocol, Server>,
    mut bound: Bound,
    stop: &CancellationToken,
) {
    loop {
        let mut watch = SocketWatch::new(&bound.path);
        while still_bound(&bound) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = watch.changed() => {}
            }
        }
        warn!(socket = %bound.path.display(), "the socket is gone from its path; binding it again");
        bound.stop.cancel();
        match listen_at(config, server) {
            Ok(again) => bound = again,
            Err(error) => {
                warn!(%error, "cannot bind the socket again");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(REBIND_PAUSE) => {}
                }
            }
        }
    }
}

fn still_bound(bound: &Bound) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(&bound.path).is_ok_and(|found| found.ino() == bound.inode)
}

/// Monotonic time with the wall clock's beginning, for what is written with a time.
fn now_us() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

/// Both clocks, as adoption wants them.
fn clocks() -> (Instant, u64) {
    (Instant::now(), now_us())
}
