//! `shellkeep-transport` as its users use it: typed messages, a deadline on each call, a task per caller.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shellkeep_transport::socket::BoundSocket;
use shellkeep_transport::{
    CancellationToken, ConnectOptions, Context, Handler, Protocol, RpcClient, RpcServer, ServerOptions, connect_unix,
};

use super::echo::ANSWER_BYTES;
use super::{Load, Run};
use crate::stats::nanos;

/// The conversation: bytes there, the first of them back.
struct Echo;

#[derive(Debug, Serialize, Deserialize)]
struct Message {
    #[serde(with = "serde_bytes")]
    payload: Vec<u8>,
}

impl Protocol for Echo {
    type Request = Message;
    type Response = Message;
    type Push = ();
    const NAME: [u8; 4] = *b"ECHO";
    const VERSIONS: RangeInclusive<u16> = 1..=1;
}

struct Answering;

impl Handler<Echo> for Answering {
    type Connection = ();

    fn on_connect(&self, _: &Context<Echo>) {}

    async fn call(&self, _: &Context<Echo>, (): &(), mut request: Message) -> Message {
        request.payload.truncate(ANSWER_BYTES);
        request
    }

    fn on_disconnect(&self, _: &Context<Echo>, (): ()) {}
}

/// Answers until the process is ended.
pub(super) async fn serve(socket: BoundSocket) -> anyhow::Result<()> {
    RpcServer::serve([socket], Answering, ServerOptions::default(), CancellationToken::new()).await?;
    Ok(())
}

/// Puts the load on the server.
pub(super) fn drive(socket: &Path, load: Load, calls: u64, spin: bool) -> anyhow::Result<Run> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = connect_unix::<Echo>(socket, ConnectOptions { spin, ..ConnectOptions::default() }).await?;
        let request = Arc::new(Message { payload: vec![0x5a; load.payload_bytes] });
        let run = match load.in_flight {
            1 => one_by_one(&client, &request, calls).await?,
            _ => side_by_side(&client, &request, load, calls).await?,
        };
        client.close().await;
        Ok(run)
    })
}

async fn one_by_one(client: &RpcClient<Echo>, request: &Message, calls: u64) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let started = Instant::now();
    for _ in 0..calls {
        let asked = Instant::now();
        client.start_call(request).await?;
        run.latencies_ns.push(nanos(asked.elapsed()));
    }
    run.elapsed = started.elapsed();
    Ok(run)
}

async fn side_by_side(client: &RpcClient<Echo>, request: &Arc<Message>, load: Load, calls: u64) -> anyhow::Result<Run> {
    let started = Instant::now();
    let callers: Vec<_> = (0..load.in_flight)
        .map(|_| {
            let (client, request) = (client.clone(), Arc::clone(request));
            let calls = calls / load.in_flight as u64;
            tokio::spawn(async move {
                for _ in 0..calls {
                    client.start_call(&request).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for caller in callers {
        caller.await.context("a caller panicked")??;
    }
    Ok(Run { elapsed: started.elapsed(), latencies_ns: Vec::new() })
}
