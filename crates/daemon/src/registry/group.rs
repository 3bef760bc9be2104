//! Slices that are seen together: the base, a project's, or a session's own.
//!
//! Promise: immutable, with one index of all names; made anew as a whole when one of its slices is another.

use std::collections::HashMap;
use std::sync::Arc;

use shellkeep_protocol::registry::{Digest, Kind};

use super::entry::Entry;
use super::slice::{Slice, SourceId};

/// Entries of one group. Of the slice that goes over it the rest is left out, and all of those behind it.
pub const GROUP_ENTRIES_MAX: usize = 100_000;

/// Slices of one group; one more is refused.
pub const SOURCES_MAX: usize = 256;

/// Where a chain of entries of one name ends.
const END: u32 = u32::MAX;

/// Slices, and an index of their names.
#[derive(Debug, Default)]
pub struct Group {
    /// Number of the change that made it.
    rev: u64,
    slices: Vec<Arc<Slice>>,
    /// Those of all slices, in order.
    entries: Vec<Arc<Entry>>,
    /// First of each name, qualified name and alias.
    first: HashMap<Arc<str>, u32>,
    /// For each link, its entry and the next link of the same name.
    links: Vec<(u32, u32)>,
    /// Those that are servers of tools.
    servers: Vec<Arc<Entry>>,
}

impl Group {
    /// Of these slices, in this order.
    pub fn new(rev: u64, slices: Vec<Arc<Slice>>) -> Self {
        let slices = bounded(slices);
        let entries: Vec<Arc<Entry>> = slices.iter().flat_map(|slice| slice.entries()).cloned().collect();
        let mut group = Self {
            rev,
            first: HashMap::with_capacity(entries.len() * 2),
            links: Vec::with_capacity(entries.len() * 2),
            slices,
            entries: Vec::new(),
            servers: entries.iter().filter(|entry| entry.kind == Kind::McpServer).cloned().collect(),
        };
        // From the last to the first, so that each chain is in the order of the entries.
        for (at, entry) in entries.iter().enumerate().rev() {
            let at = u32::try_from(at).unwrap_or(END);
            for name in [&entry.name, &entry.qualified_name].into_iter().chain(entry.aliases.iter()) {
                group.link(name, at);
            }
        }
        group.entries = entries;
        group
    }

    fn link(&mut self, name: &Arc<str>, entry: u32) {
        let link = u32::try_from(self.links.len()).unwrap_or(END);
        let next = self.first.insert(Arc::clone(name), link).unwrap_or(END);
        self.links.push((entry, next));
    }

    /// The same with one slice put in the place of the one of its source, or behind all; `None` if it says the same.
    ///
    /// An empty slice without a diagnostic takes its source away.
    pub fn with(&self, rev: u64, slice: &Arc<Slice>) -> Option<Self> {
        let is_nothing = slice.entries().is_empty() && slice.diagnostics().is_empty();
        let mut slices = self.slices.clone();
        match slices.iter().position(|old| old.source() == slice.source()) {
            Some(at) if slices[at].hash() == slice.hash() => return None,
            Some(at) if is_nothing => drop(slices.remove(at)),
            Some(at) => slices[at] = Arc::clone(slice),
            None if is_nothing || slices.len() >= SOURCES_MAX => return None,
            None => slices.push(Arc::clone(slice)),
        }
        Some(Self::new(rev, slices))
    }

    /// The same without a source; `None` if it has none of it.
    pub fn without(&self, rev: u64, source: &SourceId) -> Option<Self> {
        let slices: Vec<_> = self.slices.iter().filter(|slice| slice.source() != source).cloned().collect();
        (slices.len() < self.slices.len()).then(|| Self::new(rev, slices))
    }

    /// Whether another one would say the same.
    pub fn says_the_same(&self, slices: &[Arc<Slice>]) -> bool {
        let hashes = |slices: &[Arc<Slice>]| -> Vec<(SourceId, Digest)> {
            slices.iter().map(|slice| (Arc::clone(slice.source()), slice.hash())).collect()
        };
        hashes(&self.slices) == hashes(slices)
    }

    /// Number of the change that made it.
    pub fn rev(&self) -> u64 {
        self.rev
    }

    /// In order.
    pub fn slices(&self) -> &[Arc<Slice>] {
        &self.slices
    }

    /// Those of all slices, in order.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// Those that are servers of tools, in order.
    pub fn servers(&self) -> &[Arc<Entry>] {
        &self.servers
    }

    /// Those that have `name` as name, qualified name or alias, in order.
    pub fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        self.places(name).filter_map(|at| self.entries.get(at))
    }

    /// Where those that have `name` stand among all.
    pub(super) fn places<'a>(&'a self, name: &str) -> impl Iterator<Item = usize> + use<'a> {
        let mut link = self.first.get(name).copied().unwrap_or(END);
        std::iter::from_fn(move || {
            let (entry, next) = *self.links.get(link as usize)?;
            link = next;
            Some(entry as usize)
        })
    }
}

/// As many entries as may be, from the first slice on.
fn bounded(slices: Vec<Arc<Slice>>) -> Vec<Arc<Slice>> {
    let mut left = GROUP_ENTRIES_MAX;
    slices
        .into_iter()
        .map(|slice| {
            let count = slice.entries().len();
            let slice = if count <= left { slice } else { Arc::new(slice.cut(left, GROUP_ENTRIES_MAX)) };
            left = left.saturating_sub(count);
            slice
        })
        .collect()
}
