//! Who is told when a session's commands change.
//!
//! Promise: in the order of revisions, from one list to the next that is told; who takes too little gets one word to ask for all of it. What
//! many see alike is computed once. Costs nothing while nothing changes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shellkeep_protocol::daemon::{DaemonProtocol, Push};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{Change, EntryInfo, RegistryChanged, RegistryError, RegistryPush, Revision};
use shellkeep_transport::{CancellationToken, PushError, Pusher};

use super::core::CommandRegistry;
use super::delta::Delta;
use super::view::View;

/// Subscriptions of one connection; one more is refused.
pub const OF_ONE_MAX: usize = 8;

/// Subscriptions in all.
pub const MAX: usize = 4_096;

/// Entries in one delta; a larger one is told as a reset.
pub const DELTA_ENTRIES_MAX: usize = 2_000;

/// Longest encoded change, and push. A connection takes a push whenever less than so much waits for it.
const CHANGE_BYTES_MAX: usize = 1 << 20;
const PUSH_BYTES_MAX: usize = CHANGE_BYTES_MAX + 256;

/// When who took too little is told again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

struct Subscription {
    connection: u64,
    session: Option<SessionId>,
    pusher: Pusher<DaemonProtocol>,
    /// The list as it was last told.
    told: View,
    /// Something could not be told.
    lags: bool,
}

/// All subscriptions.
#[derive(Clone)]
pub(crate) struct Subscriptions {
    registry: Arc<CommandRegistry>,
    all: Arc<Mutex<Vec<Subscription>>>,
}

impl Subscriptions {
    pub(crate) fn new(registry: Arc<CommandRegistry>) -> Self {
        Self { registry, all: Arc::default() }
    }

    /// From now on a connection is told of changes behind the revision that is returned.
    ///
    /// # Errors
    /// [`RegistryError::Busy`] beyond the bounds.
    pub(crate) fn add(
        &self,
        connection: u64,
        pusher: Pusher<DaemonProtocol>,
        session: Option<SessionId>,
    ) -> Result<Revision, RegistryError> {
        let mut all = self.all.lock();
        all.retain(|one| one.connection != connection || one.session != session);
        let own = all.iter().filter(|one| one.connection == connection).count();
        if own >= OF_ONE_MAX || all.len() >= MAX {
            return Err(RegistryError::Busy);
        }
        let told = self.registry.get_for_session(session);
        let revision = told.revision();
        all.push(Subscription { connection, session, pusher, told, lags: false });
        Ok(revision)
    }

    /// A connection has gone.
    pub(crate) fn disconnected(&self, connection: u64) {
        self.all.lock().retain(|one| one.connection != connection);
    }

    /// Tells, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut changes = self.registry.subscribe();
        let mut lags = false;
        loop {
            let again =
                async { if lags { tokio::time::sleep(AGAIN_AFTER).await } else { std::future::pending().await } };
            tokio::select! {
                () = stop.cancelled() => return,
                () = again => {}
                there = changes.changed() => if there.is_err() { return },
            }
            let own = self.clone();
            // Large lists are compared where nobody waits for it.
            lags = tokio::task::spawn_blocking(move || own.tell()).await.unwrap_or(false);
        }
    }

    /// Tells everybody what is new to them; true if somebody takes too little.
    fn tell(&self) -> bool {
        let mut changes = Changes::default();
        let reset = encoded(&Change::Reset).unwrap_or_default();
        let mut all = self.all.lock();
        all.retain_mut(|one| {
            let now = self.registry.get_for_session(one.session);
            if now.revision() == one.told.revision() && now.is_complete() == one.told.is_complete() && !one.lags {
                return true;
            }
            let change = if one.lags { Arc::clone(&reset) } else { changes.between(&one.told, &now) };
            one.push(now, &change)
        });
        all.iter().any(|one| one.lags)
    }
}

impl Subscription {
    /// False if the connection has gone.
    fn push(&mut self, now: View, change: &[u8]) -> bool {
        let changed = RegistryChanged {
            session: self.session,
            revision: now.revision(),
            complete: now.is_complete(),
            change: change.to_vec(),
        };
        let mut body = Vec::new();
        let encoded = shellkeep_transport::encode_into(&RegistryPush::Changed(changed), &mut body, PUSH_BYTES_MAX);
        self.lags = match encoded.map(|()| self.pusher.push(&Push::Registry { body })) {
            Ok(Ok(())) => false,
            Ok(Err(PushError::Closed)) => return false,
            Ok(Err(_)) | Err(_) => true,
        };
        if !self.lags {
            self.told = now;
        }
        true
    }
}

/// Changes between lists, encoded. Of those that are asked for one after the other the same is computed once: sessions of one project see
/// the same.
#[derive(Debug, Default)]
pub struct Changes {
    last: Option<(View, View, Arc<[u8]>)>,
}

impl Changes {
    /// How the one became the other, encoded. A change that is too large is a reset.
    pub fn between(&mut self, old: &View, new: &View) -> Arc<[u8]> {
        if let Some((_, _, change)) = self.last.as_ref().filter(|(was, is, _)| was.is_same(old) && is.is_same(new)) {
            return Arc::clone(change);
        }
        let change = encoded(&change(old, new)).or_else(|| encoded(&Change::Reset)).unwrap_or_default();
        self.last = Some((old.clone(), new.clone(), Arc::clone(&change)));
        change
    }
}

/// `None` if it is too large.
fn encoded(change: &Change) -> Option<Arc<[u8]>> {
    let mut bytes = Vec::new();
    shellkeep_transport::encode_into(change, &mut bytes, CHANGE_BYTES_MAX).ok()?;
    Some(bytes.into())
}

fn change(old: &View, new: &View) -> Change {
    let Delta { added, updated, removed } = Delta::between(old, new);
    if added.len() + updated.len() + removed.len() > DELTA_ENTRIES_MAX {
        return Change::Reset;
    }
    let infos = |entries: Vec<Arc<super::Entry>>| -> Vec<EntryInfo> {
        entries.iter().map(|entry| entry.info(new.shadowing(entry).map(|other| &**other))).collect()
    };
    Change::Delta {
        added: infos(added),
        updated: infos(updated),
        removed: removed.iter().map(ToString::to_string).collect(),
    }
}
