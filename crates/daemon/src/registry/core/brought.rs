//! What servers of tools have brought, put beside what was found on the disk.
//!
//! Promise: what a server offers is seen only as long as its own entry is there, is trusted and says what was agreed to when it was started;
//! when that ends, all of it goes in the very same change. Knows no process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shellkeep_protocol::registry::{Digest, EntryState, Kind, Trust};

use super::super::entry::Entry;
use super::super::group::Group;
use super::super::slice::Slice;
use super::{CommandRegistry, kept};

/// How the names of these sources begin.
const PREFIX: &str = "server:";

/// By the id of the server's entry.
pub(super) type All = BTreeMap<Arc<str>, Brought>;

/// What one server has brought.
#[derive(Debug)]
pub(super) struct Brought {
    /// What the server's entry decided by when it was started.
    agreed: Digest,
    state: EntryState,
    /// `None` until it has listed something.
    offers: Option<Arc<Slice>>,
}

/// Servers that should run.
#[derive(Debug, Default)]
pub struct Wanted {
    /// With the root of its project; without one for the user's own.
    pub servers: Vec<(Option<PathBuf>, Arc<Entry>)>,
    /// Projects that sessions are in and that were not looked at yet: nothing is known of their servers.
    pub unknown: Vec<PathBuf>,
    /// Sessions see commands at all.
    pub has_sessions: bool,
}

impl CommandRegistry {
    /// Servers of tools that may run, of projects that sessions are in and of the user's own, in a fixed order.
    pub fn wanted_servers(&self) -> Wanted {
        let writer = self.writer.lock();
        let mut wanted = Wanted { has_sessions: !writer.sessions.is_empty(), ..Wanted::default() };
        let may_run = |entry: &&Arc<Entry>| entry.trust == Trust::Trusted && entry.is_listed;
        for (root, project) in &writer.projects {
            match &project.group {
                None => wanted.unknown.push(root.clone()),
                Some(group) => {
                    let servers = group.servers().iter().filter(may_run);
                    wanted.servers.extend(servers.map(|entry| (Some(root.clone()), Arc::clone(entry))));
                }
            }
        }
        let base = Arc::clone(&self.snapshot.load().base);
        wanted.servers.extend(base.servers().iter().filter(may_run).map(|entry| (None, Arc::clone(entry))));
        wanted.servers.sort_by(|one, other| (&one.0, &one.1.id).cmp(&(&other.0, &other.1.id)));
        wanted
    }

    /// A server is in this state, and offers this; what it offered before if `offers` is `None`.
    pub fn bring(&self, root: Option<&Path>, server: &Entry, state: EntryState, offers: Option<Slice>) {
        let writer = &mut *self.writer.lock();
        let all = writer.brought.entry(root.map(Path::to_owned)).or_default();
        let before = all.remove(&server.id).filter(|before| before.agreed == server.decides);
        let offers = offers.map(Arc::new).or_else(|| before?.offers);
        all.insert(Arc::clone(&server.id), Brought { agreed: server.decides, state, offers });
        self.dress(writer, root);
    }

    /// A server does not run any more, and nothing of it is seen.
    pub fn take_away(&self, root: Option<&Path>, server: &str) {
        let writer = &mut *self.writer.lock();
        let whose = root.map(Path::to_owned);
        let Some(all) = writer.brought.get_mut(&whose) else { return };
        all.remove(server);
        if all.is_empty() {
            writer.brought.remove(&whose);
        }
        self.dress(writer, root);
    }

    fn dress(&self, writer: &mut super::Writer, root: Option<&Path>) {
        let group = match root {
            None => Some(Arc::clone(&self.snapshot.load().base)),
            Some(root) => writer.projects.get(root).and_then(|project| project.group.clone()),
        };
        let Some(group) = group else { return };
        let brought = writer.brought.get(&root.map(Path::to_owned));
        let slices = kept(Some(&group), dressed(group.slices(), brought));
        if group.says_the_same(&slices) {
            return;
        }
        if let Some(root) = root {
            return self.show_project(writer, root, slices);
        }
        let group = Arc::new(Group::new(writer.n + 1, slices));
        self.change(writer, |snapshot, _| snapshot.base = group);
    }
}

/// `slices` with servers in their states, and behind them what these offer. What was put there before makes no difference.
pub(super) fn dressed(slices: &[Arc<Slice>], brought: Option<&All>) -> Vec<Arc<Slice>> {
    let found = slices.iter().filter(|slice| !slice.source().starts_with(PREFIX));
    let is_server = |entry: &Arc<Entry>| entry.kind == Kind::McpServer;
    let of = |entry: &Entry| {
        let brought = brought?.get(&entry.id)?;
        (entry.trust == Trust::Trusted && entry.decides == brought.agreed).then_some(brought)
    };
    let mut offers = Vec::new();
    let mut all: Vec<Arc<Slice>> = found
        .map(|slice| {
            if !slice.entries().iter().any(is_server) {
                return Arc::clone(slice);
            }
            for brought in slice.entries().iter().filter(|entry| is_server(entry)).filter_map(|entry| of(entry)) {
                offers.extend(brought.offers.as_ref().map(|offers| {
                    // As their server is, so are they.
                    Arc::new(offers.with_states(|_| Some(brought.state.clone())))
                }));
            }
            let state = |entry: &Entry| {
                let is_server = entry.kind == Kind::McpServer;
                is_server.then(|| of(entry).map_or(EntryState::Ready, |brought| brought.state.clone()))
            };
            Arc::new(slice.with_states(state))
        })
        .collect();
    all.append(&mut offers);
    all
}

/// The source of what a server offers.
pub(in super::super) fn source_of(server: &Entry) -> String {
    format!("{PREFIX}{}", server.id)
}
