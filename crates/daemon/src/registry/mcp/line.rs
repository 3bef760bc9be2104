//! The line to one server: who calls finds the connection here, and waits for it a while if it is being made.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rmcp::RoleClient;
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProgressNotificationParam, ProgressToken};
use rmcp::service::{NotificationContext, Peer};
use shellkeep_protocol::registry::ExecutionEvent;
use tokio::sync::{Notify, watch};

use super::super::names;
use super::super::run::Tell;

/// How long a call waits for a server that is being started.
pub(super) const UP_WAIT_MAX: Duration = Duration::from_secs(15);

/// Calls of one server whose progress is shown; of more it is not.
const PROGRESS_MAX: usize = 256;

/// Whether a server can be called.
#[derive(Clone)]
pub(super) enum Up {
    Starting,
    Yes(Peer<RoleClient>),
    /// And why not.
    No(String),
}

/// The line to one server.
pub(super) struct Line {
    up: watch::Sender<Up>,
    /// The tools or prompts are others.
    pub(super) changed: Notify,
    /// A call came to nothing: is it still there?
    pub(super) doubt: Notify,
    progress: Mutex<HashMap<ProgressToken, Tell>>,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            up: watch::channel(Up::Starting).0,
            changed: Notify::new(),
            doubt: Notify::new(),
            progress: Mutex::default(),
        }
    }

    pub(super) fn set(&self, up: Up) {
        self.up.send_replace(up);
    }

    /// There is no connection, and none is being made.
    pub(super) fn is_down(&self) -> bool {
        matches!(*self.up.borrow(), Up::No(_))
    }

    /// The connection, as soon as there is one.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn up(&self) -> Result<Peer<RoleClient>, String> {
        let mut changes = self.up.subscribe();
        let is_known = changes.wait_for(|up| !matches!(up, Up::Starting));
        match tokio::time::timeout(UP_WAIT_MAX, is_known).await {
            Ok(Ok(up)) => match &*up {
                Up::Yes(peer) => Ok(peer.clone()),
                Up::No(why) => Err(why.clone()),
                Up::Starting => Err("its server is still starting".to_owned()),
            },
            _ => Err("its server is still starting".to_owned()),
        }
    }

    pub(super) fn doubted(&self) {
        self.doubt.notify_one();
    }

    /// Shows the progress of one call as long as what is returned lives.
    pub(super) fn progress_of(self: &Arc<Self>, token: &ProgressToken, tell: Tell) -> Progress {
        let mut all = self.progress.lock();
        if all.len() < PROGRESS_MAX {
            all.insert(token.clone(), tell);
        }
        Progress { line: Arc::clone(self), token: token.clone() }
    }
}

/// See [`Line::progress_of`].
pub(super) struct Progress {
    line: Arc<Line>,
    token: ProgressToken,
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line.progress.lock().remove(&self.token);
    }
}

/// What a server says unasked.
pub(super) struct Handler(pub(super) Arc<Line>);

impl rmcp::ClientHandler for Handler {
    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.0.changed.notify_one();
    }

    async fn on_prompt_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.0.changed.notify_one();
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        let tell = self.0.progress.lock().get(&progress.progress_token).cloned();
        if let Some(tell) = tell {
            tell(ExecutionEvent::Stderr(shown(&progress).into_bytes()));
        }
    }

    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(ClientCapabilities::default(), Implementation::new("shellkeep", env!("CARGO_PKG_VERSION")))
    }
}

/// `3/10 copying`.
fn shown(progress: &ProgressNotificationParam) -> String {
    let mut text = format!("{}", progress.progress);
    if let Some(total) = progress.total {
        let _infallible = write!(text, "/{total}");
    }
    if let Some(message) = &progress.message {
        let _infallible = write!(text, " {}", names::shown(message));
    }
    text + "\n"
}
