//! `shellkeep mcp`: the commands of a session for an agent, as a server of tools on standard input and output.
//!
//! Promise: an agent sees what the session sees and may run what the user has agreed to, nothing else: what is pending says how the user
//! agrees, and never runs. When the list changes, the agent is told. Ends when standard input does.

mod execution;
mod offers;
mod record;
mod server;

use std::process::ExitCode;
use std::sync::Arc;

use rmcp::ServiceExt as _;
use shellkeep_protocol::registry::MCP_CHILD;

use self::server::Server;
use super::commands::session;
use crate::cli;
use crate::daemon_link::DaemonLink;
use crate::places::Places;
use crate::report::{self, Failure, Outcome};

/// Serves until standard input ends.
///
/// # Errors
/// If the daemon or the session cannot be had, or nobody speaks the protocol on standard input.
pub(super) fn run(places: &Places, args: &cli::Mcp) -> Outcome {
    let session = {
        let link = DaemonLink::reach(places)?;
        let session = session(places, &link, args.session.as_ref())?;
        if session.is_none() {
            report::notice(
                "this is not a kept session: only your own commands are offered; \"--session SESSION\" names one",
            );
        }
        session
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::refused(format_args!("no runtime: {error}")))?;
    // One of the daemon's own servers: what other servers offer it does not offer again, itself least of all.
    let is_inner = std::env::var_os(MCP_CHILD).is_some();
    let server = Server::new(places.clone(), session, is_inner);
    let outcome = runtime.block_on(async {
        let offered = Arc::clone(&server.offered);
        let running = server.serve(rmcp::transport::stdio()).await;
        let running =
            running.map_err(|error| Failure::refused(format_args!("nobody speaks MCP on standard input: {error}")))?;
        tokio::select! {
            () = server::follow(offered, running.peer().clone()) => {}
            _ended = running.waiting() => {}
        }
        Ok(ExitCode::SUCCESS)
    });
    runtime.shutdown_background(); // a read of standard input may still wait
    outcome
}
