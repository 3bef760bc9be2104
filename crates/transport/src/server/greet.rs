//! A stranger's first second: the Hello, within its deadline, and our reply.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{Handler, Shared};
use crate::dial::{FirstFrameError, read_frame, write_all};
use crate::frame::{FRAME_BYTES_MAX, FrameBuffer};
use crate::handshake::{ABILITY_SPIN, Hello, Refusal, RefusalKind, Reply, Terms, choose_version, refusal};
use crate::protocol::Protocol;
use crate::stream::Stream;

/// A stranger that is none any more.
pub(crate) struct Guest {
    pub(crate) terms: Terms,
    pub(crate) frame_bytes_max: u32,
    /// It asked us to look for its next request before sleeping.
    pub(crate) spins: bool,
    /// Its place among the connections.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Reads the Hello and answers it; `None` if the connection shall end.
pub(crate) async fn greet<P: Protocol, H: Handler<P>>(
    shared: &Arc<Shared<P, H>>,
    stream: &Stream,
    buffer: &mut FrameBuffer,
) -> Option<Guest> {
    let exchange = async {
        let hello = match read_frame(stream, buffer).await {
            Ok(body) => Hello::parse(body).map_err(|error| error.to_string()),
            Err(FirstFrameError::Frame(error)) => Err(error.to_string()),
            Err(FirstFrameError::Io(error)) => Err(error.to_string()),
        };
        // Who says no Hello speaks no language in which to be refused.
        let hello = hello.inspect_err(|error| tracing::debug!(%error, "no Hello")).ok()?;
        let guest = admit::<P, H>(shared, &hello);
        let reply = match &guest {
            Ok(guest) => Reply::Accepted(guest.terms),
            Err(refusal) => Reply::Refused(refusal.clone()),
        };
        let mut bytes = Vec::new();
        reply.append_to(P::NAME, &P::VERSIONS, &mut bytes).ok()?;
        write_all(stream, &bytes).await.ok()?;
        guest.ok()
    };
    tokio::select! {
        biased;
        () = shared.stop.cancelled() => {
            let text = "the server is ending".to_owned();
            let reply = Reply::Refused(refusal::<P>(RefusalKind::ShuttingDown, text));
            let mut bytes = Vec::new();
            reply.append_to(P::NAME, &P::VERSIONS, &mut bytes).ok()?;
            let _ = stream.try_write(&bytes); // if it takes it at once; nobody waits for a stranger now
            None
        }
        greeted = tokio::time::timeout(shared.options.hello_deadline, exchange) => greeted.ok().flatten(),
    }
}

fn admit<P: Protocol, H: Handler<P>>(shared: &Arc<Shared<P, H>>, hello: &Hello) -> Result<Guest, Refusal> {
    let version = choose_version::<P>(hello)?;
    let permit = Arc::clone(&shared.permits).try_acquire_owned().map_err(|_| {
        let text = format!("{} connections are open already", shared.options.connections_max);
        refusal::<P>(RefusalKind::Full, text)
    })?;
    let terms = Terms {
        version,
        frame_bytes_max: FRAME_BYTES_MAX,
        in_flight_max: shared.options.in_flight_max,
        connection: shared.next_number(),
    };
    let spins = hello.abilities & ABILITY_SPIN != 0;
    Ok(Guest { terms, frame_bytes_max: hello.frame_bytes_max, spins, permit })
}
