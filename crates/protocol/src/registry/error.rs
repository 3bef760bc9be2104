//! Why something was not done.

use serde::{Deserialize, Serialize};

use super::TrustQuestion;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RegistryError {
    /// No such session runs.
    #[error("no such session is running")]
    UnknownSession,
    /// No such command; those of similar names.
    #[error("{}", unknown(.name, *.is_service))]
    UnknownCommand {
        /// As asked for.
        name: String,
        /// What may have been meant, the nearest first.
        near: Vec<String>,
        /// Only service commands were asked for.
        is_service: bool,
    },
    /// Several commands have the name; qualified names of all.
    #[error("{name} may mean {}", .candidates.join(", "))]
    Ambiguous {
        /// As asked for.
        name: String,
        /// Qualified names, in order.
        candidates: Vec<String>,
    },
    /// It is another command than the one that was seen.
    #[error("{entry} has changed since it was shown")]
    StaleEntry {
        /// Its id.
        entry: String,
    },
    /// The user has not agreed to it yet, or has said no.
    #[error("{} is not trusted yet", .0.entry.qualified_name)]
    NotTrusted(Box<TrustQuestion>),
    /// It cannot run now.
    #[error("{entry} is unavailable: {why}")]
    Unavailable {
        /// Qualified name.
        entry: String,
        /// Why.
        why: String,
    },
    /// The arguments are wrong.
    #[error("{why}")]
    InvalidArgs {
        /// How.
        why: String,
    },
    /// It took too long and was ended.
    #[error("it was ended after {after_ms} ms, its time limit")]
    Timeout {
        /// The limit.
        after_ms: u64,
    },
    /// It was cancelled.
    #[error("it was cancelled")]
    Cancelled,
    /// Its session has ended, and it with it.
    #[error("its session has ended")]
    SessionEnded,
    /// What ran it was replaced. It may be tried again.
    #[error("what ran it was replaced")]
    Reloaded,
    /// The daemon that ran it has ended.
    #[error("the daemon that ran it has ended")]
    Interrupted,
    /// Too much runs already.
    #[error("too many commands run already")]
    Busy,
    /// More than the limits allow.
    #[error("too large: {what}")]
    TooLarge {
        /// What.
        what: String,
    },
    /// What runs it says so.
    #[error("error {code}: {data}")]
    RemoteError {
        /// Its number.
        code: i64,
        /// Its words.
        data: String,
    },
    /// The system refused.
    #[error("{what}: {why}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        why: String,
    },
    /// The question was not understood.
    #[error("the daemon did not understand the question: {why}")]
    Invalid {
        /// Why.
        why: String,
    },
}

/// The founding protocol has words of its own for its service commands.
fn unknown(name: &str, is_service: bool) -> String {
    if is_service { format!("Unknown service command: {name}") } else { format!("there is no command \"{name}\"") }
}
