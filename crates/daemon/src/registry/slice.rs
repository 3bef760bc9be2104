//! What one source brings, checked and immutable.
//!
//! Promise: whatever the source says, names are names, ids are unique, and the limits hold; what is left out is the same
//! each time and is told in a diagnostic. Also holds what searching needs, made once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use shellkeep_protocol::registry::{Diagnostic, Digest, EntryState, Trust};

use super::entry::{Draft, Entry};
use super::haystack::Haystack;
use super::names;

/// Entries of one source; those behind are left out.
pub const SOURCE_ENTRIES_MAX: usize = 5_000;

/// All texts of one entry, in bytes; a larger one is left out.
pub const ENTRY_BYTES_MAX: usize = 16 << 10;

/// Diagnostics of one source; the last says how many more there are.
pub const DIAGNOSTICS_MAX: usize = 100;

/// Which source a slice is of: `builtin`, `user`, `project:just`.
pub type SourceId = Arc<str>;

/// The entries of one source.
#[derive(Debug)]
pub struct Slice {
    source: SourceId,
    entries: Box<[Arc<Entry>]>,
    diagnostics: Box<[Diagnostic]>,
    hash: Digest,
    haystack: Haystack,
}

impl Slice {
    /// Checks what a source brings. The order stays; of several with one id the first stays.
    pub fn new(source: &str, drafts: Vec<Draft>, told: Vec<Diagnostic>) -> Self {
        let mut diagnostics = told;
        let mut ids = HashSet::new();
        let mut entries = Vec::with_capacity(drafts.len().min(SOURCE_ENTRIES_MAX));
        let mut over = 0_usize;
        for draft in drafts {
            let file = draft.path.clone();
            let mut tell = |message| {
                diagnostics.push(Diagnostic {
                    source: source.to_owned(),
                    file: file.clone(),
                    line: None,
                    message,
                    is_loss: false,
                });
            };
            if let Some(message) = refusal(&draft) {
                tell(message);
            } else if entries.len() >= SOURCE_ENTRIES_MAX {
                over += 1;
            } else {
                let entry = Entry::of(with_good_aliases(draft, &mut tell));
                if ids.insert(Arc::clone(&entry.id)) {
                    entries.push(Arc::new(entry));
                } else {
                    tell(format!("{} is defined twice; the first one counts", entry.qualified_name));
                }
            }
        }
        if over > 0 {
            let message = format!("{over} more commands are left out: the limit is {SOURCE_ENTRIES_MAX} of one source");
            diagnostics.push(Diagnostic { source: source.to_owned(), file: None, line: None, message, is_loss: false });
        }
        Self::of(source.into(), entries, bounded(source, diagnostics))
    }

    fn of(source: SourceId, entries: Vec<Arc<Entry>>, diagnostics: Vec<Diagnostic>) -> Self {
        let (hash, haystack) = (hash(&entries, &diagnostics), Haystack::of(&entries));
        Self { source, entries: entries.into(), diagnostics: diagnostics.into(), hash, haystack }
    }

    /// The first `count` of its entries, with a diagnostic that says so.
    pub(super) fn cut(&self, count: usize, limit: usize) -> Self {
        let mut diagnostics = self.diagnostics.to_vec();
        let message = format!("{} commands are left out: the limit is {limit} in total", self.entries.len() - count);
        let told = Diagnostic { source: self.source.to_string(), file: None, line: None, message, is_loss: false };
        diagnostics.truncate(DIAGNOSTICS_MAX - 1);
        diagnostics.push(told);
        Self::of(Arc::clone(&self.source), self.entries[..count].to_vec(), diagnostics)
    }

    /// The same with trust as `trust` says.
    pub(super) fn with_trust(&self, trust: impl Fn(&Entry) -> Trust) -> Self {
        let entry = |entry: &Arc<Entry>| match trust(entry) {
            same if same == entry.trust => Arc::clone(entry),
            trust => Arc::new(Entry { trust, ..Entry::clone(entry) }),
        };
        Self::of(Arc::clone(&self.source), self.entries.iter().map(entry).collect(), self.diagnostics.to_vec())
    }

    /// The same with servers of tools in the state that `state` says; what it does not know is as it was found.
    pub(super) fn with_states(&self, state: impl Fn(&Entry) -> Option<EntryState>) -> Self {
        let entry = |entry: &Arc<Entry>| match state(entry) {
            Some(state) if state != entry.state => Arc::new(Entry { state, ..Entry::clone(entry) }),
            _ => Arc::clone(entry),
        };
        Self::of(Arc::clone(&self.source), self.entries.iter().map(entry).collect(), self.diagnostics.to_vec())
    }

    /// The same with other diagnostics.
    pub(super) fn with_told(&self, told: Vec<Diagnostic>) -> Self {
        Self::of(Arc::clone(&self.source), self.entries.to_vec(), bounded(&self.source, told))
    }

    /// The same, with the entries of before in the place of those that are equal: what did not change stays what it was.
    pub(super) fn keeping(self, before: &Self) -> Self {
        let known: HashMap<&Arc<str>, &Arc<Entry>> = before.entries.iter().map(|entry| (&entry.id, entry)).collect();
        let old =
            |entry: &Arc<Entry>| known.get(&entry.id).filter(|old| **old == entry).map_or(entry, |old| *old).clone();
        Self { entries: self.entries.iter().map(old).collect(), ..self }
    }

    /// Whose it is.
    pub fn source(&self) -> &SourceId {
        &self.source
    }

    /// In the source's order.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// What went wrong.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Of all entries with their trust and state, and of the diagnostics: equal if nothing is to be told.
    pub fn hash(&self) -> Digest {
        self.hash
    }

    pub(super) fn haystack(&self) -> &Haystack {
        &self.haystack
    }
}

/// Why a draft cannot be an entry.
fn refusal(draft: &Draft) -> Option<String> {
    for name in [&draft.name, &draft.qualified_name, &draft.owner] {
        if let Err(error) = names::check(name) {
            return Some(format!("the name \"{}\" is refused: {error}", names::shown(name)));
        }
    }
    let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let bytes = draft.name.len()
        + draft.qualified_name.len()
        + draft.description.len()
        + optional(&draft.args_hint)
        + optional(&draft.schema)
        + optional(&draft.group)
        + optional(&draft.display_name)
        + optional(&draft.path)
        + draft.aliases.iter().map(String::len).sum::<usize>();
    (bytes > ENTRY_BYTES_MAX)
        .then(|| format!("{} is left out: its texts are longer than {ENTRY_BYTES_MAX} bytes", draft.qualified_name))
}

/// Without the aliases that are no names.
fn with_good_aliases(mut draft: Draft, tell: &mut impl FnMut(String)) -> Draft {
    draft.aliases.retain(|alias| match names::check(alias) {
        Ok(()) => *alias != draft.name,
        Err(error) => {
            tell(format!("the alias \"{}\" of {} is refused: {error}", names::shown(alias), draft.name));
            false
        }
    });
    draft
}

fn bounded(source: &str, mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    if let Some(more) = diagnostics.len().checked_sub(DIAGNOSTICS_MAX).filter(|more| *more > 0) {
        diagnostics.truncate(DIAGNOSTICS_MAX - 1);
        let message = format!("{} more", more + 1);
        diagnostics.push(Diagnostic { source: source.to_owned(), file: None, line: None, message, is_loss: false });
    }
    for diagnostic in &mut diagnostics {
        diagnostic.message = names::shown(&diagnostic.message);
    }
    diagnostics
}

fn hash(entries: &[Arc<Entry>], diagnostics: &[Diagnostic]) -> Digest {
    let mut hash = Sha256::new();
    for entry in entries {
        hash.update(entry.digest.0);
        hash.update([match entry.trust {
            Trust::Trusted => 0,
            Trust::Pending => 1,
            Trust::Denied => 2,
        }]);
        match &entry.state {
            EntryState::Ready => hash.update([0]),
            EntryState::Starting => hash.update([1]),
            EntryState::Unavailable(why) => {
                hash.update([2]);
                hash.update((why.len() as u64).to_le_bytes());
                hash.update(why);
            }
        }
    }
    for diagnostic in diagnostics {
        hash.update((diagnostic.message.len() as u64).to_le_bytes());
        hash.update(&diagnostic.message);
    }
    Digest(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use shellkeep_protocol::registry::{Kind, Scope};

    use super::super::entry::Exec;
    use super::*;

    fn draft(name: &str) -> Draft {
        Draft::new(name, "just", Kind::Task, Scope::Project, Exec::Nothing)
    }

    ///
    #[test]
    fn what_is_refused_or_over_the_limits_is_left_out_and_told() {
        let mut drafts = vec![draft("ok"), draft("a b"), draft("\u{202e}x"), draft("ok")];
        drafts.push(Draft { description: "x".repeat(ENTRY_BYTES_MAX), ..draft("large") });
        drafts.push(Draft { aliases: vec!["fine".into(), "no/t".into()], ..draft("aliased") });
        let slice = Slice::new("project:just", drafts, Vec::new());
        let names: Vec<&str> = slice.entries().iter().map(|entry| &*entry.name).collect();
        assert_eq!(names, ["ok", "aliased"]);
        assert_eq!(slice.entries()[1].aliases.len(), 1);
        assert_eq!(slice.diagnostics().len(), 5, "{:?}", slice.diagnostics());
        assert!(slice.diagnostics().iter().all(|told| !told.message.contains('\u{202e}')));
    }

    ///
    #[test]
    fn a_source_is_truncated_the_same_way_each_time() {
        let all = || (0..SOURCE_ENTRIES_MAX + 7).map(|n| draft(&format!("t{n}"))).collect();
        let (one, other) = (Slice::new("s", all(), Vec::new()), Slice::new("s", all(), Vec::new()));
        assert_eq!(one.entries().len(), SOURCE_ENTRIES_MAX);
        assert_eq!(one.hash(), other.hash());
        assert!(one.diagnostics()[0].message.starts_with("7 more"), "{:?}", one.diagnostics());
        let noise = (0..500).map(|n| draft(&format!("a {n}"))).collect();
        assert_eq!(Slice::new("s", noise, Vec::new()).diagnostics().len(), DIAGNOSTICS_MAX);
    }
}
