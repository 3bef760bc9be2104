//! What must survive an outage, on top of a transport that keeps nothing: numbers, and a replay that asks where to go on.
//!
//! A client counts lines for a server that is restarted in the middle. `on_reconnect` opens the session again and learns
//! how many lines the server has; the rest is sent again, and what comes twice is recognised by its number.
//!
//! `cargo run -p shellkeep-transport --example session`
#![allow(clippy::print_stdout)] // an example shows something

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use shellkeep_transport::{
    CancellationToken, Connection, Context, Handler, Protocol, ReconnectPolicy, RpcServer, ServerOptions, State,
    connect_unix_lazy, socket,
};
use tokio::task::JoinHandle;

enum Lines {}

impl Protocol for Lines {
    type Request = Request;
    /// How many lines the server has: the next number that it takes.
    type Response = usize;
    type Push = ();
    const NAME: [u8; 4] = *b"line";
    const VERSIONS: RangeInclusive<u16> = 1..=1;
}

#[derive(Serialize, Deserialize)]
enum Request {
    /// Opens or resumes: changes nothing, so it can be said on every connection.
    Start,
    /// The line with this number. Of a number that the server has, nothing is written again.
    Append { number: usize, line: String },
}

/// What the server keeps: here in memory that outlives its restarts, in life on a disk.
type Log = Arc<Mutex<Vec<String>>>;

struct Logging(Log);

impl Handler<Lines> for Logging {
    type Connection = ();

    fn on_connect(&self, _: &Context<Lines>) {}

    async fn call(&self, _: &Context<Lines>, (): &(), request: Request) -> usize {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            Request::Append { number, line } if number == log.len() => log.push(line),
            Request::Append { .. } | Request::Start => {} // known already, or beyond the end: the answer says where
        }
        log.len()
    }

    fn on_disconnect(&self, _: &Context<Lines>, (): ()) {}
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn serve(path: &Path, log: &Log) -> Result<(CancellationToken, JoinHandle<std::io::Result<usize>>), Failure> {
    let stop = CancellationToken::new();
    let handler = Logging(Arc::clone(log));
    let serving = RpcServer::serve([socket::bind(path)?], handler, ServerOptions::default(), stop.clone());
    Ok((stop, tokio::spawn(serving)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let home = tempfile::tempdir()?;
    let run = home.path().join("run");
    socket::create_private_dir(&run)?;
    let path = run.join("lines.sock");
    let log = Log::default();
    let (mut stop, mut serving) = serve(&path, &log)?;

    // Where to go on, as the server has said last. Only `on_reconnect` may set it back.
    let next = Arc::new(AtomicUsize::new(0));
    let replayed = Arc::clone(&next);
    let client = connect_unix_lazy(&path, ReconnectPolicy::default(), move |connection: Connection<Lines>| {
        let next = Arc::clone(&replayed);
        async move {
            let has = connection.call(Request::Start).await?.response;
            println!("connection {}: the server has {has} lines", connection.generation());
            next.store(has, Ordering::SeqCst);
            Ok(())
        }
    });
    let lines: Vec<_> = (0..9).map(|number| format!("line {number}")).collect();
    let mut restarts = 0;
    loop {
        client.state().wait_for(State::is_connected).await?;
        let number = next.load(Ordering::SeqCst);
        let Some(line) = lines.get(number) else { break };
        if number == 3 * (restarts + 1) {
            restarts += 1;
            stop.cancel();
            serving.await??;
            (stop, serving) = serve(&path, &log)?;
        }
        match client.call(Request::Append { number, line: line.clone() }).await {
            Ok(answer) => next.store(answer.response, Ordering::SeqCst),
            // Sent or not, executed or not: it keeps its number, so it may be sent again in any case.
            Err(error) => println!("{line}: {error}; executed: {:?}", error.executed()),
        }
    }
    client.close().await;
    stop.cancel();
    serving.await??;
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{restarts} restarts, and each line once: {}", *log == lines);
    Ok(())
}
