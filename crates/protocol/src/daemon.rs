//! What is spoken on the daemon's socket: the session conversation of keepers, the queries of people's commands, and
//! their questions about commands.
//!
//! One socket serves all, because a container or a remote host may be given just that one. The session part is what
//! the connection's version speaks of; queries and questions carry their own versions and demand an equal one.

use serde::{Deserialize, Serialize};

use crate::session::{SESSION_VERSIONS, SessionPush, SessionRequest, SessionResponse};

/// Names the conversation in the Hello.
pub const NAME: [u8; 4] = *b"SKd1";

/// The versions in the Hello: those of the session conversation.
pub const VERSIONS: std::ops::RangeInclusive<u16> = SESSION_VERSIONS;

/// What the daemon is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// By a keeper.
    Session(SessionRequest),
    /// By a command.
    Query {
        /// [`crate::query::QUERY_VERSION`] of the asking program.
        version: u16,
        /// A [`crate::query::Query`] of that version, encoded.
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
    /// By a command, about commands.
    Registry {
        /// [`crate::registry::REGISTRY_VERSION`] of the asking program.
        version: u16,
        /// A [`crate::registry::Ask`] of that version, encoded.
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To a keeper.
    Session(SessionResponse),
    /// To a command: a [`crate::query::Reply`] of the version that was asked in, encoded.
    Reply {
        /// The encoded reply.
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
    /// The query was of another version; nothing was done.
    QueryVersion {
        /// The version that this daemon speaks.
        speaks: u16,
        /// Version of the daemon's program.
        program: String,
    },
    /// About commands: a [`crate::registry::Told`] of the version that was asked in, encoded.
    Registry {
        /// The encoded answer.
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
}

/// What the daemon says unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Push {
    /// To a keeper.
    Session(SessionPush),
    /// To who has subscribed to commands: a [`crate::registry::RegistryPush`], encoded.
    Registry {
        /// The encoded push.
        #[serde(with = "serde_bytes")]
        body: Vec<u8>,
    },
}

/// The conversation, for the transport.
#[derive(Debug, Clone, Copy)]
pub enum DaemonProtocol {}

impl shellkeep_transport::Protocol for DaemonProtocol {
    type Request = Request;
    type Response = Response;
    type Push = Push;
    const NAME: [u8; 4] = NAME;
    const VERSIONS: std::ops::RangeInclusive<u16> = VERSIONS;
}
