//! A process of many clients, each with a session to replay and a call to make whenever it is connected again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shellkeep_transport::{Connection, Event, ReconnectPolicy, RpcClient, connect_unix_lazy};
use tokio::sync::mpsc;

use super::{Ask, Child, Fleet, Place, Told, monotonic_ns, raise_descriptor_limit};

/// What the child is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    count: u64,
}

/// All clients of a process are with one server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Arrived {
    /// The server's process.
    server: u32,
    /// When each client's first call was answered, on the shared clock.
    pub(super) answered_ns: Vec<u64>,
    /// Tries that led to no connection since the last time that all had arrived.
    pub(super) failed_tries: u64,
}

/// Tries that failed, in this process.
static FAILED_TRIES: AtomicU64 = AtomicU64::new(0);

/// Counts what the transport says of failed tries, and nothing else.
struct CountFailedTries;

impl tracing::Subscriber for CountFailedTries {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "shellkeep_transport::reconnect"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        // The loss of a connection is told as well, but with a reason and not with an error: it is no try.
        if event.metadata().fields().field("error").is_some() {
            FAILED_TRIES.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// The child's whole life. Says so in a line whenever all its clients are with one server.
#[allow(clippy::print_stdout)] // the pipe to the starter
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    raise_descriptor_limit()?;
    tracing::subscriber::set_global_default(CountFailedTries)?;
    std::thread::spawn(|| {
        std::io::stdin().lines().for_each(drop);
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (arrive, mut arrivals) = mpsc::unbounded_channel(); // one message per client and server
        for number in 0..args.count {
            tokio::spawn(one(connect(&args.socket, number), number, arrive.clone()));
        }
        let mut answered: HashMap<u32, HashMap<u64, u64>> = HashMap::new();
        while let Some((server, client, when)) = arrivals.recv().await {
            let with_server = answered.entry(server).or_default();
            with_server.entry(client).or_insert(when);
            if with_server.len() as u64 == args.count {
                let answered_ns = with_server.values().copied().collect();
                let arrived = Arrived { server, answered_ns, failed_tries: FAILED_TRIES.swap(0, Ordering::Relaxed) };
                println!("{}", serde_json::to_string(&arrived)?);
                answered.clear();
            }
        }
        Ok(())
    })
}

/// A client that replays its session on each connection.
pub(super) fn connect(socket: &std::path::Path, number: u64) -> RpcClient<Fleet> {
    connect_unix_lazy(socket, ReconnectPolicy::default(), move |connection: Connection<Fleet>| async move {
        connection.call(Ask::SessionStart { client: number }).await?;
        Ok(())
    })
}

/// Calls once on each connection, unasked: nothing else makes the client come back.
async fn one(client: RpcClient<Fleet>, number: u64, arrive: mpsc::UnboundedSender<(u32, u64, u64)>) {
    let mut events = client.events();
    while let Some(event) = events.next().await {
        if !matches!(event, Event::Up { .. }) {
            continue;
        }
        if let Ok(answer) = client.call(Ask::Which).await
            && let Told::Server(server) = answer.response
        {
            let _ = arrive.send((server, number, monotonic_ns()));
        }
    }
}

/// Processes of clients.
pub(super) struct Clients {
    pub(super) children: Vec<Child>,
}

impl Clients {
    /// Starts `count` clients in `processes`.
    pub(super) fn start(place: &Place, count: u64, processes: u64) -> anyhow::Result<Self> {
        let of = |process: u64| count / processes + u64::from(process < count % processes);
        let start = |process| Child::start("fleet-clients", &place.socket, &[format!("--count={}", of(process))]);
        Ok(Self { children: (0..processes).map(start).collect::<anyhow::Result<_>>()? })
    }

    /// Waits until all clients are with the server of that process.
    pub(super) fn with(&self, server: u32, wait: Duration) -> anyhow::Result<Arrived> {
        let mut all = Arrived { server, answered_ns: Vec::new(), failed_tries: 0 };
        for child in &self.children {
            loop {
                let line = child.line(wait).context("not all clients are back")?;
                let arrived: Arrived = serde_json::from_str(&line)?;
                all.failed_tries += arrived.failed_tries;
                if arrived.server == server {
                    all.answered_ns.extend(arrived.answered_ns);
                    break;
                }
            }
        }
        Ok(all)
    }
}
