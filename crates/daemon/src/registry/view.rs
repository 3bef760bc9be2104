//! What one session sees: base, project and its own, at one moment.
//!
//! Promise: a view never changes; a bare name means the same whatever the order in which sources were read.

use std::collections::BTreeMap;
use std::sync::Arc;

use shellkeep_protocol::registry::{Diagnostic, Kind, RegistryError, Revision, Scope, Trust};

use super::entry::Entry;
use super::group::Group;
use super::haystack::letters;

/// Near misses that an error names.
pub const NEAR_MAX: usize = 5;

/// How alike two names must be, from 0 to 1.
const NEAR: f64 = 0.75;

/// Names that are compared when one is unknown.
const NEAR_LOOKS_MAX: usize = 20_000;

/// What the user prefers where several commands have one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preferences {
    /// A trusted project's commands go before the user's own.
    pub project_first: bool,
    /// Bare name → qualified name, among those of equal rank.
    pub prefer: BTreeMap<String, String>,
}

/// What a session sees.
#[derive(Debug, Clone)]
pub struct View {
    pub(super) base: Arc<Group>,
    pub(super) project: Option<Arc<Group>>,
    pub(super) own: Option<Arc<Group>>,
    pub(super) preferences: Arc<Preferences>,
    pub(super) revision: Revision,
    pub(super) is_complete: bool,
}

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved<'a> {
    /// This one.
    Found(&'a Arc<Entry>),
    /// One of these, and nothing says which. In order of their qualified names.
    Ambiguous(Vec<&'a Arc<Entry>>),
    /// Nothing.
    Unknown,
}

impl View {
    /// Base, project, session.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        [Some(&self.base), self.project.as_ref(), self.own.as_ref()].into_iter().flatten()
    }

    /// Made of the same parts.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let part = |one: &Option<Arc<Group>>, other: &Option<Arc<Group>>| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        Arc::ptr_eq(&self.base, &other.base) && part(&self.project, &other.project) && part(&self.own, &other.own)
    }

    /// Which list this is.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// All sources of the session were looked at.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// All, base first, each in the order of its sources; those that are not listed too.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.groups().flat_map(|group| group.entries())
    }

    /// Number of all.
    pub fn len(&self) -> usize {
        self.groups().map(|group| group.entries().len()).sum()
    }

    /// Without any entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those from the `at`th on.
    pub fn entries_from(&self, at: usize) -> impl Iterator<Item = &Arc<Entry>> {
        let mut skip = at;
        self.groups().flat_map(move |group| {
            let from = skip.min(group.entries().len());
            skip -= from;
            &group.entries()[from..]
        })
    }

    /// What is wrong with the sources.
    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.groups().flat_map(|group| group.slices()).flat_map(|slice| slice.diagnostics())
    }

    /// What `name` means: a name, a qualified name, an alias, `scope:name`, or an id.
    ///
    /// Order: builtin, the user's own, packages and extensions of the user's, trusted project, MCP, then what the user has not agreed to.
    pub fn resolve(&self, name: &str) -> Resolved<'_> {
        if name.contains('/') {
            return self.with_id(name);
        }
        if let Some((scope, bare)) = name.split_once(':').and_then(|(scope, bare)| Some((scope_named(scope)?, bare))) {
            let found = self.best(name, |entry| &*entry.qualified_name == name);
            return match found {
                Resolved::Unknown => self.best(bare, |entry| entry.scope == scope),
                found => found,
            };
        }
        let mut is_qualified = false;
        for entry in self.groups().flat_map(|group| group.named(name)) {
            is_qualified |= &*entry.qualified_name == name;
        }
        self.best(name, |entry| !is_qualified || &*entry.qualified_name == name)
    }

    fn with_id(&self, id: &str) -> Resolved<'_> {
        let name = id.rsplit('/').next().unwrap_or_default();
        let mut found = self.groups().flat_map(|group| group.named(name)).filter(|entry| &*entry.id == id);
        // In one group two sources may have one id; the qualified names differ then.
        match (found.next(), found.next()) {
            (Some(entry), None) => Resolved::Found(entry),
            (Some(_), Some(_)) => self.best(name, |entry| &*entry.id == id),
            (None, _) => Resolved::Unknown,
        }
    }

    fn best(&self, name: &str, wanted: impl Fn(&Entry) -> bool) -> Resolved<'_> {
        let rank = |entry: &Entry| {
            let is_alias = &*entry.name != name && &*entry.qualified_name != name;
            (precedence(entry, &self.preferences), is_alias)
        };
        let mut best: Option<&Arc<Entry>> = None;
        let mut equals = Vec::new();
        for entry in self.groups().flat_map(|group| group.named(name)).filter(|entry| wanted(entry)) {
            match best.map(|best| rank(entry).cmp(&rank(best))) {
                None | Some(std::cmp::Ordering::Less) => {
                    best = Some(entry);
                    equals.clear();
                }
                Some(std::cmp::Ordering::Equal) => equals.push(entry),
                Some(std::cmp::Ordering::Greater) => {}
            }
        }
        match best {
            None => Resolved::Unknown,
            Some(best) if equals.is_empty() => Resolved::Found(best),
            Some(best) => self.among_equals(name, best, equals),
        }
    }

    /// The preferred one, else the one that was installed first, else none.
    fn among_equals<'a>(&self, name: &str, best: &'a Arc<Entry>, others: Vec<&'a Arc<Entry>>) -> Resolved<'a> {
        let mut all = others;
        all.push(best);
        let preferred = self.preferences.prefer.get(name);
        if let Some(entry) = preferred.and_then(|wanted| all.iter().find(|entry| &*entry.qualified_name == wanted)) {
            return Resolved::Found(entry);
        }
        if all.iter().all(|entry| entry.installed.is_some())
            && let Some(first) = all.iter().min_by_key(|entry| (entry.installed, Arc::clone(&entry.id)))
        {
            return Resolved::Found(first);
        }
        all.sort_by(|one, other| (&one.qualified_name, &one.id).cmp(&(&other.qualified_name, &other.id)));
        Resolved::Ambiguous(all)
    }

    /// The entry that has the bare name of `entry`, if it is another one.
    pub fn shadowing(&self, entry: &Entry) -> Option<&Arc<Entry>> {
        match self.resolve(&entry.name) {
            Resolved::Found(other) if other.id != entry.id => Some(other),
            _ => None,
        }
    }

    /// The one that `name` means.
    ///
    /// # Errors
    /// [`RegistryError::UnknownCommand`] with near misses, or [`RegistryError::Ambiguous`].
    pub fn one(&self, name: &str) -> Result<&Arc<Entry>, RegistryError> {
        match self.resolve(name) {
            Resolved::Found(entry) => Ok(entry),
            Resolved::Ambiguous(all) => Err(RegistryError::Ambiguous {
                name: name.to_owned(),
                candidates: all.iter().map(|entry| entry.qualified_name.to_string()).collect(),
            }),
            Resolved::Unknown => {
                Err(RegistryError::UnknownCommand { name: name.to_owned(), near: self.near(name), is_service: false })
            }
        }
    }

    /// Names like one that there is not, the nearest first.
    pub fn near(&self, name: &str) -> Vec<String> {
        let (wanted, folded) = (letters(name), name.to_lowercase());
        let likely = |entry: &&Arc<Entry>| {
            let lengths = entry.name.len().abs_diff(name.len());
            entry.is_listed && lengths <= 3 && (letters(&entry.name) ^ wanted).count_ones() <= 4
        };
        let listed = self.entries().filter(likely).take(NEAR_LOOKS_MAX);
        let mut near: Vec<(f64, &str)> = listed
            // Who has the case wrong is as near as can be.
            .map(|entry| (strsim::jaro_winkler(&entry.name.to_lowercase(), &folded), &*entry.name))
            .filter(|(alike, _)| *alike > NEAR)
            .collect();
        near.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
        near.dedup_by_key(|(_, name)| *name);
        near.into_iter().take(NEAR_MAX).map(|(_, name)| name.to_owned()).collect()
    }

    /// Bare names that differ only in case, for who looks for what is wrong.
    pub fn case_variants(&self) -> Vec<Vec<String>> {
        let mut folded: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in self.entries() {
            let names = folded.entry(entry.name.to_lowercase()).or_default();
            if !names.contains(&entry.name.to_string()) {
                names.push(entry.name.to_string());
            }
        }
        folded.into_values().filter(|names| names.len() > 1).collect()
    }
}

/// Which of two goes first for a bare name: the lower.
fn precedence(entry: &Entry, preferences: &Preferences) -> u8 {
    let is_mcp = matches!(entry.kind, Kind::McpTool | Kind::McpPrompt | Kind::McpServer);
    match (entry.scope, entry.kind) {
        (Scope::Builtin, _) => 0,
        (Scope::Project | Scope::Session, _) if entry.trust != Trust::Trusted => 7,
        // Of servers the nearest goes first, as their users know it: for this project, of this project, for all.
        (Scope::Project | Scope::Session, _) if is_mcp => 5,
        (_, _) if is_mcp => 6,
        (Scope::Project | Scope::Session, _) if preferences.project_first => 1,
        (Scope::User, Kind::Package | Kind::Extension) => 3,
        (Scope::User, _) => 2,
        (Scope::Project | Scope::Session, _) => 4,
    }
}

fn scope_named(name: &str) -> Option<Scope> {
    [Scope::Builtin, Scope::User, Scope::Project, Scope::Session].into_iter().find(|scope| scope.name() == name)
}
