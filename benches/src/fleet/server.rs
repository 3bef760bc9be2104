//! The server's process: welcomes each client, says who answers, and counts.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use shellkeep_transport::{CancellationToken, Context, Handler, RpcServer, ServerOptions, socket};

use super::{Ask, Child, Fleet, Place, READY_WAIT_MAX, Told, monotonic_ns, raise_descriptor_limit};

/// What the child is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    socket: PathBuf,
}

/// What a server has seen.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Connections that said Hello, since its start.
    pub(super) accepted: u64,
    /// Sessions started, since its start.
    pub(super) started: u64,
    /// Connections now.
    pub(super) connected: u64,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    started: AtomicU64,
    gone: AtomicU64,
}

struct Answering {
    counts: Arc<Counts>,
}

impl Handler<Fleet> for Answering {
    type Connection = ();

    fn on_connect(&self, _: &Context<Fleet>) {
        self.counts.accepted.fetch_add(1, Ordering::Relaxed);
    }

    async fn call(&self, _: &Context<Fleet>, (): &(), request: Ask) -> Told {
        match request {
            Ask::SessionStart { .. } => {
                self.counts.started.fetch_add(1, Ordering::Relaxed);
                Told::Welcome
            }
            Ask::Which => Told::Server(std::process::id()),
            Ask::Hang => std::future::pending().await,
        }
    }

    fn on_disconnect(&self, _: &Context<Fleet>, (): ()) {
        self.counts.gone.fetch_add(1, Ordering::Relaxed);
    }
}

/// The child's whole life. Says when it began to bind, and after each line on stdin what it has seen.
#[allow(clippy::print_stdout)] // the pipe to the starter
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    raise_descriptor_limit()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let counts = Arc::new(Counts::default());
        // Before the bind, so that a client that is faster than our print is not counted as having come too early.
        let listening = monotonic_ns();
        let bound = socket::bind(&args.socket)?;
        println!("{listening}");
        let answering = Answering { counts: Arc::clone(&counts) };
        std::thread::spawn(move || {
            for _ in std::io::stdin().lines().map_while(Result::ok) {
                let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let (accepted, started) = (count(&counts.accepted), count(&counts.started));
                let seen = Seen { accepted, started, connected: accepted - count(&counts.gone).min(accepted) };
                println!("{}", serde_json::to_string(&seen).unwrap_or_default());
            }
            std::process::exit(0);
        });
        RpcServer::serve([bound], answering, ServerOptions::default(), CancellationToken::new()).await?;
        Ok(())
    })
}

/// A running server.
pub(super) struct Server {
    pub(super) child: Child,
    /// When it began to bind, on the shared clock.
    pub(super) listening_ns: u64,
}

impl Server {
    pub(super) fn start(place: &Place) -> anyhow::Result<Self> {
        let child = Child::start("serve-fleet", &place.socket, &[])?;
        let listening_ns = child.line(READY_WAIT_MAX)?.parse()?;
        Ok(Self { child, listening_ns })
    }

    pub(super) fn seen(&mut self) -> anyhow::Result<Seen> {
        Ok(serde_json::from_str(&self.child.ask()?)?)
    }

    /// Kills it; returns when it is gone.
    pub(super) fn kill(self) {
        drop(self.child);
    }
}
