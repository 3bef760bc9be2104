//! [`CommandRegistry`]: the base, the projects and the sessions, and who may change which.
//!
//! Promise: one change at a time makes one new snapshot with a higher revision, or none if nothing would be shown
//! otherwise; what was looked for on behalf of a session that has gone, or is overtaken by a newer look, is thrown away.
//! Pure: no files, no clock.

mod brought;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{RegistryError, Revision, Trust};
use tokio::sync::watch;

pub use self::brought::Wanted;
pub(super) use self::brought::source_of;
use self::brought::{All, dressed};
use super::entry::{self, Draft, Entry};
use super::group::Group;
use super::slice::{Slice, SourceId};
use super::usage::Usage;
use super::view::{Preferences, View};

/// Sessions that have a layer; one more sees the base only.
pub const LAYERS_MAX: usize = 4_096;

/// The source of what [`CommandRegistry::set_session_entries`] sets.
const OWN: &str = "session";

/// The source of shellkeep's own commands, which nothing clears.
pub const BUILTIN: &str = "builtin";

/// What readers see.
#[derive(Debug)]
struct Snapshot {
    base: Arc<Group>,
    /// The user's own sources were looked at.
    is_base_complete: bool,
    layers: HashMap<SessionId, Layer>,
    /// When the last layer went: then a session without one may see another list than before.
    gone_rev: u64,
    preferences: Arc<Preferences>,
}

/// What a session has beside the base.
#[derive(Debug, Clone)]
struct Layer {
    /// Number of the change that made it.
    rev: u64,
    project: Option<Arc<Group>>,
    /// `None` as long as there is nothing, so that sessions of one project see the same.
    own: Option<Arc<Group>>,
    is_complete: bool,
}

/// What only writers know.
#[derive(Debug, Default)]
struct Writer {
    /// Number of the last change.
    n: u64,
    incarnations: u64,
    sessions: HashMap<SessionId, Known>,
    projects: HashMap<PathBuf, Project>,
    /// Newest look for each source of the base.
    looks: HashMap<SourceId, u64>,
    last_look: u64,
    /// What servers of tools have brought, of projects and of the user's own.
    brought: HashMap<Option<PathBuf>, All>,
}

/// A session with a layer.
#[derive(Debug)]
struct Known {
    incarnation: u64,
    root: Option<PathBuf>,
    /// Newest look for each source.
    looks: HashMap<SourceId, u64>,
}

/// A project that sessions are in.
#[derive(Debug)]
struct Project {
    sessions: BTreeSet<SessionId>,
    look: u64,
    /// `None` until it was looked at.
    group: Option<Arc<Group>>,
}

/// The right to say what a look has found, as long as there is none newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    whose: Whose,
    source: SourceId,
    number: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Whose {
    Base,
    Session(SessionId, u64),
    Project(PathBuf),
}

/// All commands of this daemon. Readers take a snapshot and wait for nobody.
#[derive(Debug)]
pub struct CommandRegistry {
    boot: u64,
    snapshot: ArcSwap<Snapshot>,
    writer: Mutex<Writer>,
    changed: watch::Sender<u64>,
}

impl CommandRegistry {
    /// With shellkeep's own commands. `boot` tells this daemon's lists from those of others.
    pub fn new(boot: u64, preferences: Preferences) -> Self {
        let builtin = Arc::new(Slice::new(BUILTIN, entry::builtins(), Vec::new()));
        let snapshot = Snapshot {
            base: Arc::new(Group::new(1, vec![builtin])),
            is_base_complete: false,
            layers: HashMap::new(),
            gone_rev: 0,
            preferences: Arc::new(preferences),
        };
        Self {
            boot,
            snapshot: ArcSwap::from_pointee(snapshot),
            writer: Mutex::new(Writer { n: 1, ..Writer::default() }),
            changed: watch::channel(1).0,
        }
    }

    /// Tells this daemon's life from others.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Wakes at each change; the value is its number.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What a session sees; the base alone if it has no layer, or none is named.
    pub fn get_for_session(&self, session: Option<SessionId>) -> View {
        let snapshot = self.snapshot.load();
        let layer = session.and_then(|session| snapshot.layers.get(&session));
        let rev = layer.map_or(snapshot.gone_rev, |layer| layer.rev).max(snapshot.base.rev());
        View {
            base: Arc::clone(&snapshot.base),
            project: layer.and_then(|layer| layer.project.clone()),
            own: layer.and_then(|layer| layer.own.clone()),
            preferences: Arc::clone(&snapshot.preferences),
            revision: Revision { boot: self.boot, n: rev },
            is_complete: snapshot.is_base_complete && layer.is_none_or(|layer| layer.is_complete),
        }
    }

    /// The base.
    pub fn get_all(&self) -> View {
        self.get_for_session(None)
    }

    /// What a source of the base has.
    pub(super) fn slice_of_base(&self, source: &str) -> Option<Arc<Slice>> {
        self.snapshot.load().base.slices().iter().find(|slice| &**slice.source() == source).cloned()
    }

    /// At most `max_results` entries of the base that match.
    pub fn search(&self, query: &str, max_results: usize) -> Vec<Arc<Entry>> {
        self.get_all().search(query, max_results, &Usage::default(), 0)
    }

    /// At most `max_results` entries of what a session sees that match.
    pub fn search_for_session(&self, session: SessionId, query: &str, max_results: usize) -> Vec<Arc<Entry>> {
        self.get_for_session(Some(session)).search(query, max_results, &Usage::default(), 0)
    }

    /// Whether a session has a layer.
    pub fn has_session(&self, session: SessionId) -> bool {
        self.snapshot.load().layers.contains_key(&session)
    }

    /// A session has come, or come back, which changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::Busy`] beyond [`LAYERS_MAX`].
    pub fn add_session(&self, session: SessionId) -> Result<(), RegistryError> {
        let writer = &mut *self.writer.lock();
        if writer.sessions.contains_key(&session) {
            return Ok(());
        }
        if writer.sessions.len() >= LAYERS_MAX {
            return Err(RegistryError::Busy);
        }
        writer.incarnations += 1;
        let known = Known { incarnation: writer.incarnations, root: None, looks: HashMap::new() };
        writer.sessions.insert(session, known);
        self.change(writer, |snapshot, rev| {
            snapshot.layers.insert(session, Layer { rev, project: None, own: None, is_complete: false });
        });
        Ok(())
    }

    /// A session's own entries are these and no others, be they none.
    ///
    /// # Errors
    /// As [`Self::add_session`].
    pub fn set_session_entries(&self, session: SessionId, drafts: Vec<Draft>) -> Result<(), RegistryError> {
        self.add_session(session)?;
        let Some(look) = self.look_for_session(session, OWN) else { return Ok(()) };
        self.found(&look, Slice::new(OWN, drafts, Vec::new()));
        Ok(())
    }

    /// A session has ended: its layer goes. Does nothing to one that is unknown.
    pub fn remove_session(&self, session: SessionId) {
        let writer = &mut *self.writer.lock();
        let Some(known) = writer.sessions.remove(&session) else { return };
        writer.leave(session, known.root.as_deref());
        self.change(writer, |snapshot, rev| {
            snapshot.layers.remove(&session);
            snapshot.gone_rev = rev;
        });
    }

    /// Takes a source away from the base. Sessions, and other sources, keep theirs; shellkeep's own stay.
    pub fn clear_source(&self, source: &str) {
        let writer = &mut *self.writer.lock();
        let source: SourceId = source.into();
        writer.last_look += 1;
        writer.looks.insert(Arc::clone(&source), writer.last_look);
        let without = self.snapshot.load().base.without(writer.n + 1, &source);
        if let Some(base) = without.filter(|_| &*source != BUILTIN) {
            self.change(writer, |snapshot, _| snapshot.base = Arc::new(base));
        }
    }

    /// Somebody begins to look for what a source of the base has.
    pub fn look_for_base(&self, source: &str) -> Look {
        let writer = &mut *self.writer.lock();
        let (source, number): (SourceId, u64) = (source.into(), writer.next_look());
        writer.looks.insert(Arc::clone(&source), number);
        Look { whose: Whose::Base, source, number }
    }

    /// Somebody begins to look for what a source of a session has; `None` if the session is unknown.
    pub fn look_for_session(&self, session: SessionId, source: &str) -> Option<Look> {
        let writer = &mut *self.writer.lock();
        let (source, number): (SourceId, u64) = (source.into(), writer.next_look());
        let known = writer.sessions.get_mut(&session)?;
        known.looks.insert(Arc::clone(&source), number);
        Some(Look { whose: Whose::Session(session, known.incarnation), source, number })
    }

    /// Somebody begins to look at a project; `None` if no session is in it.
    pub fn look_at_project(&self, root: &Path) -> Option<Look> {
        let writer = &mut *self.writer.lock();
        let number = writer.next_look();
        writer.projects.get_mut(root)?.look = number;
        Some(Look { whose: Whose::Project(root.to_owned()), source: "project".into(), number })
    }

    /// What a look for one source has found. False if it came too late, and was thrown away.
    pub fn found(&self, look: &Look, slice: Slice) -> bool {
        let writer = &mut *self.writer.lock();
        let slice = Arc::new(slice);
        let rev = writer.n + 1;
        match &look.whose {
            Whose::Base => {
                if writer.looks.get(&look.source) != Some(&look.number) {
                    return false;
                }
                let with = self.snapshot.load().base.with(rev, &slice);
                if let Some(base) = with {
                    self.change(writer, |snapshot, _| snapshot.base = Arc::new(base));
                }
            }
            Whose::Session(session, incarnation) => {
                let known = writer.sessions.get(session).filter(|known| known.incarnation == *incarnation);
                if known.and_then(|known| known.looks.get(&look.source)) != Some(&look.number) {
                    return false;
                }
                let before = self.snapshot.load().layers.get(session).and_then(|layer| layer.own.clone());
                if let Some(own) = before.unwrap_or_default().with(rev, &slice) {
                    let own = Some(Arc::new(own)).filter(|own| !own.slices().is_empty());
                    self.change(writer, |snapshot, rev| {
                        snapshot.layers.entry(*session).and_modify(|layer| (layer.own, layer.rev) = (own, rev));
                    });
                }
            }
            Whose::Project(_) => return false, // a project is looked at as a whole
        }
        true
    }

    /// What a look for all that is the user's own has found: sources whose names begin with `prefix`. False if it came too
    /// late.
    pub fn found_all(&self, look: &Look, prefix: &str, slices: Vec<Slice>) -> bool {
        let writer = &mut *self.writer.lock();
        if look.whose != Whose::Base || writer.looks.get(&look.source) != Some(&look.number) {
            return false;
        }
        let (base, was_complete) = {
            let snapshot = self.snapshot.load();
            (Arc::clone(&snapshot.base), snapshot.is_base_complete)
        };
        let mut all: Vec<Arc<Slice>> =
            base.slices().iter().filter(|slice| !slice.source().starts_with(prefix)).cloned().collect();
        all.extend(slices.into_iter().map(Arc::new));
        let all = kept(Some(&base), dressed(&all, writer.brought.get(&None)));
        if base.says_the_same(&all) && was_complete {
            return true;
        }
        let group = Arc::new(Group::new(writer.n + 1, all));
        self.change(writer, |snapshot, _| (snapshot.base, snapshot.is_base_complete) = (group, true));
        true
    }

    /// The user has agreed to something of a project, or taken that back: `trust` says how it is now, in one change.
    pub fn retrust(&self, root: &Path, trust: impl Fn(&Entry) -> Trust) {
        let writer = &mut *self.writer.lock();
        let Some(group) = writer.projects.get(root).and_then(|project| project.group.clone()) else { return };
        let slices: Vec<_> = group.slices().iter().map(|slice| Arc::new(slice.with_trust(&trust))).collect();
        let slices = kept(Some(&group), dressed(&slices, writer.brought.get(&Some(root.to_owned()))));
        if group.says_the_same(&slices) {
            return;
        }
        self.show_project(writer, root, slices);
    }

    /// What a look at a project has found, for all sessions that are in it by now. False if it came too late.
    pub fn found_project(&self, look: &Look, slices: Vec<Slice>) -> bool {
        let Whose::Project(root) = &look.whose else { return false };
        let slices: Vec<Arc<Slice>> = slices.into_iter().map(Arc::new).collect();
        let writer = &mut *self.writer.lock();
        let slices = dressed(&slices, writer.brought.get(&Some(root.clone())));
        let Some(project) = writer.projects.get(root).filter(|project| project.look == look.number) else {
            return false;
        };
        if project.group.as_ref().is_some_and(|group| group.says_the_same(&slices)) {
            return true;
        }
        let slices = kept(project.group.as_deref(), slices);
        self.show_project(writer, root, slices);
        true
    }

    /// All sessions in a project see this of it from now on.
    fn show_project(&self, writer: &mut Writer, root: &Path, slices: Vec<Arc<Slice>>) {
        let rev = writer.n + 1;
        let Some(project) = writer.projects.get_mut(root) else { return };
        let group = Arc::new(Group::new(rev, slices));
        project.group = Some(Arc::clone(&group));
        let sessions = project.sessions.clone();
        self.change(writer, |snapshot, rev| {
            for session in sessions {
                snapshot.layers.entry(session).and_modify(|layer| {
                    (layer.project, layer.rev, layer.is_complete) = (Some(Arc::clone(&group)), rev, true);
                });
            }
        });
    }

    /// A session is in this project from now on, or in none. The look that is needed if nobody has looked at it yet.
    pub fn set_project(&self, session: SessionId, root: Option<&Path>) -> Option<Look> {
        let writer = &mut *self.writer.lock();
        let known = writer.sessions.get_mut(&session)?;
        if known.root.as_deref() == root && root.is_some() {
            return None;
        }
        let before = std::mem::replace(&mut known.root, root.map(Path::to_owned));
        writer.leave(session, before.as_deref());
        let group = root.and_then(|root| {
            let project = writer.projects.entry(root.to_owned());
            let project = project.or_insert_with(|| Project { sessions: BTreeSet::new(), look: 0, group: None });
            project.sessions.insert(session);
            project.group.clone()
        });
        let is_complete = root.is_none() || group.is_some();
        let shown = self.snapshot.load().layers.get(&session).map(|layer| (layer.project.is_some(), layer.is_complete));
        if shown != Some((false, is_complete)) || group.is_some() {
            self.change(writer, |snapshot, rev| {
                snapshot.layers.entry(session).and_modify(|layer| {
                    (layer.project, layer.rev, layer.is_complete) = (group, rev, is_complete);
                });
            });
        }
        let root = root.filter(|_| !is_complete)?;
        let number = writer.next_look();
        let project = writer.projects.get_mut(root)?;
        // Somebody looks already; what they find is for this session too.
        if project.look != 0 {
            return None;
        }
        project.look = number;
        Some(Look { whose: Whose::Project(root.to_owned()), source: "project".into(), number })
    }

    /// The project that a session is in.
    pub fn project_of(&self, session: SessionId) -> Option<PathBuf> {
        self.writer.lock().sessions.get(&session)?.root.clone()
    }

    /// All projects that sessions are in.
    pub fn projects(&self) -> Vec<PathBuf> {
        self.writer.lock().projects.keys().cloned().collect()
    }

    /// Makes the next snapshot. The number of the change is the revision.
    fn change(&self, writer: &mut Writer, act: impl FnOnce(&mut Snapshot, u64)) {
        writer.n += 1;
        let old = self.snapshot.load();
        let mut next = Snapshot {
            base: Arc::clone(&old.base),
            is_base_complete: old.is_base_complete,
            layers: old.layers.clone(),
            gone_rev: old.gone_rev,
            preferences: Arc::clone(&old.preferences),
        };
        act(&mut next, writer.n);
        self.snapshot.store(Arc::new(next));
        self.changed.send_replace(writer.n);
    }
}

impl Writer {
    fn next_look(&mut self) -> u64 {
        self.last_look += 1;
        self.last_look
    }

    /// The last session that leaves a project takes it away.
    fn leave(&mut self, session: SessionId, root: Option<&Path>) {
        let Some(project) = root.and_then(|root| self.projects.get_mut(root)) else { return };
        project.sessions.remove(&session);
        if let Some(root) = root.filter(|_| project.sessions.is_empty()) {
            self.projects.remove(root);
        }
    }
}

/// `slices`, with those of before in the place of the ones that say the same: what did not change is the same to a delta.
fn kept(before: Option<&Group>, slices: Vec<Arc<Slice>>) -> Vec<Arc<Slice>> {
    let old = |slice: &Arc<Slice>| {
        let slices = before?.slices().iter();
        slices.into_iter().find(|old| old.source() == slice.source() && old.hash() == slice.hash()).cloned()
    };
    slices.into_iter().map(|slice| old(&slice).unwrap_or(slice)).collect()
}
