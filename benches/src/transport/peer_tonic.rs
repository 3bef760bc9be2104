//! tonic, which is gRPC over HTTP/2, on a Unix socket. Service and messages are written by hand, as its code generator
//! would write them.

use std::convert::Infallible;
use std::path::Path;

use prost::bytes::Bytes;
use tokio::net::UnixListener;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::callers::{self, Caller};
use super::echo::ANSWER_BYTES;
use super::{Load, Run};

/// The one method's path.
const PATH: &str = "/bench.Echo/Echo";

#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    /// Shared, not copied, where its codec can.
    #[prost(bytes = "bytes", tag = "1")]
    payload: Bytes,
}

/// The method.
#[derive(Clone)]
struct Answering;

impl Service<Request<Message>> for Answering {
    type Response = Response<Message>;
    type Error = Status;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Message>) -> Self::Future {
        Box::pin(async move {
            let mut message = request.into_inner();
            message.payload.truncate(ANSWER_BYTES);
            Ok(Response::new(message))
        })
    }
}

/// The service that has it.
#[derive(Clone)]
struct Echo;

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<Message, Message>::default());
        Box::pin(async move { Ok(grpc.unary(Answering, request).await) })
    }
}

/// Answers until the process is ended. `ready` is called once clients can connect.
pub(super) async fn serve(socket: &Path, ready: impl FnOnce()) -> anyhow::Result<()> {
    let listener = UnixListener::bind(socket)?;
    ready();
    let incoming = futures::stream::try_unfold(listener, |listener| async {
        let (stream, _) = listener.accept().await?;
        std::io::Result::Ok(Some((stream, listener)))
    });
    Ok(Server::builder().serve_with_incoming(Echo, incoming).await?)
}

#[derive(Clone)]
struct Asking {
    grpc: tonic::client::Grpc<Channel>,
    message: Message,
}

impl Caller for Asking {
    async fn call(&mut self) -> anyhow::Result<()> {
        self.grpc.ready().await?;
        let codec = ProstCodec::<Message, Message>::default();
        self.grpc.unary(Request::new(self.message.clone()), PathAndQuery::from_static(PATH), codec).await?;
        Ok(())
    }
}

/// Puts the load on the server.
pub(super) async fn drive(socket: &Path, load: Load, calls: u64) -> anyhow::Result<Run> {
    let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))?.connect().await?;
    let message = Message { payload: Bytes::from(vec![0x5a; load.payload_bytes]) };
    callers::drive(Asking { grpc: tonic::client::Grpc::new(channel), message }, load, calls).await
}
