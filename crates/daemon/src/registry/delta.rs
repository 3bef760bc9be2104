//! How one list became another.
//!
//! Promise: told are exactly the entries that are shown otherwise; who applies a delta to the old list has the new one. Costs what has
//! changed, not what there is.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::entry::Entry;
use super::group::Group;
use super::view::{Resolved, View};

/// What has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// New, in order of the new list.
    pub added: Vec<Arc<Entry>>,
    /// Others under the same id, or shadowed by another, in order of the new list.
    pub updated: Vec<Arc<Entry>>,
    /// Ids of those that are gone, in order of the old list.
    pub removed: Vec<Arc<str>>,
}

impl Delta {
    /// Nothing is shown otherwise.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.updated.is_empty() && self.removed.is_empty()
    }

    /// From one view to another.
    pub fn between(old: &View, new: &View) -> Self {
        let mut delta = Self::default();
        let (before, after) = (changed(old, new), changed(new, old));
        let known: HashMap<&str, &Arc<Entry>> = before.iter().map(|entry| (&*entry.id, *entry)).collect();
        let mut there = HashSet::new();
        let mut touched: BTreeSet<&str> = BTreeSet::new();
        for entry in &after {
            there.insert(&*entry.id);
            match known.get(&*entry.id) {
                None => delta.added.push(Arc::clone(entry)),
                Some(was) if was == entry => continue,
                Some(was) => {
                    touch(&mut touched, was);
                    delta.updated.push(Arc::clone(entry));
                }
            }
            touch(&mut touched, entry);
        }
        for entry in before.iter().filter(|entry| !there.contains(&*entry.id)) {
            touch(&mut touched, entry);
            delta.removed.push(Arc::clone(&entry.id));
        }
        delta.add_shadowed(old, new, &touched);
        delta
    }

    /// Adds those that are the same but give way to another one now.
    fn add_shadowed(&mut self, old: &View, new: &View, touched: &BTreeSet<&str>) {
        let told: HashSet<Arc<str>> =
            self.added.iter().chain(&self.updated).map(|entry| Arc::clone(&entry.id)).collect();
        let by = |view: &View, name: &str| match view.resolve(name) {
            Resolved::Found(entry) => Some(Arc::clone(&entry.id)),
            _ => None,
        };
        for name in touched {
            let (before, after) = (by(old, name), by(new, name));
            if before == after {
                continue;
            }
            let same = new.groups().flat_map(|group| group.named(name)).filter(|entry| &*entry.name == *name);
            self.updated.extend(same.filter(|entry| !told.contains(&entry.id)).cloned());
        }
    }
}

fn touch<'a>(touched: &mut BTreeSet<&'a str>, entry: &'a Arc<Entry>) {
    touched.insert(&entry.name);
    touched.extend(entry.aliases.iter().map(|alias| &**alias));
}

/// The entries of `view` that are in slices which `other` has not.
fn changed<'a>(view: &'a View, other: &View) -> Vec<&'a Arc<Entry>> {
    let known: HashSet<*const Group> = other.groups().map(Arc::as_ptr).collect();
    let slices: HashSet<*const super::slice::Slice> =
        other.groups().flat_map(|group| group.slices()).map(Arc::as_ptr).collect();
    view.groups()
        .filter(|group| !known.contains(&Arc::as_ptr(group)))
        .flat_map(|group| group.slices())
        .filter(|slice| !slices.contains(&Arc::as_ptr(slice)))
        .flat_map(|slice| slice.entries())
        .collect()
}
