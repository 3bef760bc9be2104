//! tarpc over a Unix socket, with bincode: the RPC that Rust programs use among themselves.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt as _;
use serde_bytes::ByteBuf;
use tarpc::context;
use tarpc::serde_transport::unix;
use tarpc::server::{BaseChannel, Channel as _};
use tarpc::tokio_serde::formats::Bincode;

use super::callers::{self, Caller};
use super::echo::ANSWER_BYTES;
use super::{Load, Run};

/// Calls that may wait for their answer; its default of 1,000 is less than the greatest load.
const IN_FLIGHT_MAX: usize = 4096;

#[tarpc::service]
trait Echo {
    async fn echo(payload: ByteBuf) -> ByteBuf;
}

#[derive(Clone)]
struct Answering;

impl Echo for Answering {
    async fn echo(self, _: context::Context, mut payload: ByteBuf) -> ByteBuf {
        payload.truncate(ANSWER_BYTES);
        payload
    }
}

/// Answers until the process is ended. `ready` is called once clients can connect.
pub(super) async fn serve(socket: &Path, ready: impl FnOnce()) -> anyhow::Result<()> {
    let mut incoming = unix::listen(socket, Bincode::default).await?;
    ready();
    while let Some(transport) = incoming.next().await {
        let channel = BaseChannel::with_defaults(transport?);
        tokio::spawn(channel.execute(Answering.serve()).for_each(|answering| async {
            tokio::spawn(answering);
        }));
    }
    Ok(())
}

#[derive(Clone)]
struct Asking {
    client: EchoClient,
    payload: Arc<ByteBuf>,
}

impl Caller for Asking {
    async fn call(&mut self) -> anyhow::Result<()> {
        // Its interface takes the payload by value.
        self.client.echo(context::current(), ByteBuf::clone(&self.payload)).await?;
        Ok(())
    }
}

/// Puts the load on the server.
pub(super) async fn drive(socket: &Path, load: Load, calls: u64) -> anyhow::Result<Run> {
    let mut config = tarpc::client::Config::default();
    (config.max_in_flight_requests, config.pending_request_buffer) = (IN_FLIGHT_MAX, IN_FLIGHT_MAX);
    let client = EchoClient::new(config, unix::connect(socket, Bincode::default).await?).spawn();
    callers::drive(Asking { client, payload: Arc::new(ByteBuf::from(vec![0x5a; load.payload_bytes])) }, load, calls)
        .await
}
