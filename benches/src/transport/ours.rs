//! `shellkeep-transport` as its users use it: typed messages, a deadline on each call, a task per caller.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shellkeep_transport::{
    CancellationToken, ConnectOptions, Context, Handler, Protocol, RpcClient, RpcServer, ServerOptions, connect_unix,
};

use super::callers::{self, Caller};
use super::echo::ANSWER_BYTES;
use super::{Load, Run};

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

/// What is measured is the default. A switch of this bench that changes an option of the client changes it here, and
/// is a contestant of its own beside this one.
fn client_options() -> ConnectOptions {
    ConnectOptions::default()
}

/// The same for the server.
fn server_options() -> ServerOptions {
    ServerOptions::default()
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

/// Answers until the process is ended. `ready` is called once clients can connect.
pub(super) async fn serve(socket: &Path, ready: impl FnOnce()) -> anyhow::Result<()> {
    let socket = shellkeep_transport::socket::bind(socket)?;
    ready();
    RpcServer::serve([socket], Answering, server_options(), CancellationToken::new()).await?;
    Ok(())
}

/// A client and what it sends.
#[derive(Clone)]
struct Asking {
    client: RpcClient<Echo>,
    request: Arc<Message>,
}

impl Caller for Asking {
    async fn call(&mut self) -> anyhow::Result<()> {
        self.client.start_call(&self.request).await?;
        Ok(())
    }
}

/// Puts the load on the server.
pub(super) async fn drive(socket: &Path, load: Load, calls: u64, spin: bool) -> anyhow::Result<Run> {
    let client = connect_unix::<Echo>(socket, ConnectOptions { spin, ..client_options() }).await?;
    let request = Arc::new(Message { payload: vec![0x5a; load.payload_bytes] });
    let run = callers::drive(Asking { client: client.clone(), request }, load, calls).await?;
    client.close().await;
    Ok(run)
}
