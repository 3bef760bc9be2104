//! ttrpc, containerd's RPC between processes of one machine. The payload travels as it is in its envelope: the second
//! encoding, of a message inside of it, is left out in its favour.

use std::collections::HashMap;
use std::path::Path;

use tonic::codegen::async_trait;
use ttrpc::r#async::{Client, MethodHandler, Server, Service, TtrpcContext};
use ttrpc::proto::{Request, Response};

use super::callers::{self, Caller};
use super::echo::ANSWER_BYTES;
use super::{Load, Run};

const SERVICE: &str = "bench.Echo";
const METHOD: &str = "Echo";

struct Answering;

#[async_trait]
impl MethodHandler for Answering {
    async fn handler(&self, _: TtrpcContext, mut request: Request) -> ttrpc::Result<Response> {
        request.payload.truncate(ANSWER_BYTES);
        let mut response = Response::new();
        response.payload = request.payload;
        Ok(response)
    }
}

fn address(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// Answers until the process is ended. `ready` is called once clients can connect.
pub(super) async fn serve(socket: &Path, ready: impl FnOnce()) -> anyhow::Result<()> {
    let methods: HashMap<_, Box<dyn MethodHandler + Send + Sync>> =
        HashMap::from([(METHOD.to_owned(), Box::new(Answering) as _)]);
    let service = Service { methods, streams: HashMap::new() };
    let services = HashMap::from([(SERVICE.to_owned(), service)]);
    let mut server = Server::new().bind(&address(socket))?.register_service(services);
    server.start().await?;
    ready();
    std::future::pending().await
}

#[derive(Clone)]
struct Asking {
    client: Client,
    request: Request,
}

impl Caller for Asking {
    async fn call(&mut self) -> anyhow::Result<()> {
        // Its interface takes the request by value.
        self.client.request(self.request.clone()).await?;
        Ok(())
    }
}

/// Puts the load on the server.
pub(super) async fn drive(socket: &Path, load: Load, calls: u64) -> anyhow::Result<Run> {
    let client = Client::connect(&address(socket)).await?;
    let mut request = Request::new();
    request.service = SERVICE.into();
    request.method = METHOD.into();
    request.timeout_nano = 5_000_000_000; // as long as ours waits
    request.payload = vec![0x5a; load.payload_bytes];
    callers::drive(Asking { client, request }, load, calls).await
}
