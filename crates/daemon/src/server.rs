//! The daemon's end of the socket: each message becomes one call below. Holds no state of its own.

use std::sync::Arc;

use shellkeep_protocol::daemon::{DaemonProtocol, Push, Request, Response};
use shellkeep_protocol::session::{Busy, BusyReason, SessionPush, SessionResponse};
use shellkeep_transport::{Context, GoodbyeReason, Handler};

use crate::queries::Queries;
use crate::registry::Registry;
use crate::sessions::adoption::Adopter;
use crate::sessions::core::ConnectionId;
use crate::sessions::manager::Peer;
use crate::sessions::store::Store;

/// Turns requests into work of the store, of the queries and of the registry.
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) queries: Arc<Queries>,
    pub(crate) adopter: Adopter,
    pub(crate) registry: Registry,
}

/// A keeper's connection, as the store sees it.
struct Connected(Context<DaemonProtocol>);

impl Peer for Connected {
    fn push(&self, push: SessionPush) -> bool {
        self.0.pusher().push(&Push::Session(push)).is_ok()
    }

    fn close(&self) {
        self.0.close(GoodbyeReason::Superseded);
    }
}

impl Handler<DaemonProtocol> for Server {
    type Connection = ();

    fn on_connect(&self, _: &Context<DaemonProtocol>) {}

    async fn call(&self, context: &Context<DaemonProtocol>, (): &(), request: Request) -> Response {
        match request {
            Request::Session(request) => {
                let connection = ConnectionId(context.connection());
                // Handed in before the first await: appends of one connection stay in order.
                let answered = self.store.request(connection, Box::new(Connected(context.clone())), request);
                Response::Session(
                    answered
                        .await
                        .unwrap_or(SessionResponse::Busy(Busy { reason: BusyReason::Stopping, retry_ms: 100 })),
                )
            }
            Request::Query { version, body } => self.queries.answer(version, &body).await,
            Request::Registry { version, body } => self.registry.answer(context, version, &body).await,
        }
    }

    fn on_disconnect(&self, context: &Context<DaemonProtocol>, (): ()) {
        self.store.disconnected(ConnectionId(context.connection()));
        self.registry.disconnected(context.connection());
        self.adopter.look(); // it may have been the keeper's death
    }
}
