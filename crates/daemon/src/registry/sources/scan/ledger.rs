//! What decides of a source's items: kept by the scan itself, so that no source can forget it.
//!
//! Promise: of a tool's files all count, those that were read, those that are not there, and those that were not read.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FileType;

use super::super::beneath::Refusal;
use super::super::evidence::{Content, Evidence, Held};
use super::{Runs, Scan, SourceFile};

/// What a path that a line names leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Looked {
    File {
        held: Arc<Held>,
        executable: bool,
    },
    Directory,
    Absent,
    /// It leads out; how.
    Outside(Arc<str>),
    /// It is there and was not read; why.
    Unread(Arc<str>),
}

/// Evidence that some items have in common.
#[derive(Default, Clone)]
pub(super) struct Ledger {
    pub(super) all: Vec<Evidence>,
    names: HashSet<Arc<str>>,
}

impl Ledger {
    pub(super) fn add(&mut self, evidence: Evidence) {
        // Of what was read twice, and was not the same both times, both count.
        if self.names.insert(Arc::clone(&evidence.what)) || !self.all.contains(&evidence) {
            self.all.push(evidence);
        }
    }
}

impl Scan<'_> {
    /// What the items from here on have in common, beside what those of the first group have. Those before keep theirs.
    pub(in super::super) fn new_group(&mut self) {
        let first = self.ledgers.first().cloned().unwrap_or_default();
        self.ledgers.push(first);
    }

    /// Reads what decides nothing of what a tool does.
    pub(in super::super) fn aside<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        self.aside += 1;
        let outcome = read(self);
        self.aside -= 1;
        outcome
    }

    /// Something that decides of all items of the group.
    pub(in super::super) fn decides(&mut self, evidence: Evidence) {
        if let Some(ledger) = self.ledgers.last_mut().filter(|_| self.aside == 0 && self.runs == Runs::Tool) {
            ledger.add(evidence);
        }
    }

    /// Something that decides was not read: said, and all items of the group are asked for each time.
    pub(in super::super) fn incomplete(&mut self, file: &Path, line: Option<u32>, what: &str, why: &str) {
        self.lost(file, line, format!("{what}: {why}"));
        self.decides(Evidence::unread(what, why));
    }

    /// No more items fit.
    pub(in super::super) fn is_full(&self) -> bool {
        self.slice.items.len() >= self.limits.items
    }

    /// The time for this source is over, which is said.
    pub(in super::super) fn is_over(&mut self, at: &Path) -> bool {
        let is_late = self.is_late(at);
        if is_late {
            self.decides(Evidence::unread(&at.to_string_lossy(), "it could not be read to its end in time"));
        }
        is_late
    }

    /// A file's bytes as evidence of an item.
    pub(in super::super) fn evidence(&mut self, file: &SourceFile) -> Evidence {
        self.evidence_of(&file.relative.to_string_lossy(), &file.bytes, Some(&file.relative))
    }

    /// A part of a file, by a name of its own.
    pub(in super::super) fn part(&mut self, what: &str, bytes: &[u8]) -> Evidence {
        self.evidence_of(what, bytes, None)
    }

    fn evidence_of(&mut self, what: &str, bytes: &[u8], held_as: Option<&Path>) -> Evidence {
        let known = held_as.and_then(|path| self.looked.get(path));
        // Of a file that was read twice both contents would count, were they not the same.
        if let Some(Looked::File { held, .. }) =
            known.filter(|looked| matches!(looked, Looked::File { held, .. } if held.bytes() == bytes))
        {
            return Evidence { what: what.into(), content: Content::Bytes(Arc::clone(held)) };
        }
        match self.held(bytes) {
            Ok(held) => {
                let looked = Looked::File { held: Arc::clone(&held), executable: false };
                self.looked.extend(held_as.map(|path| (path.to_owned(), looked)));
                Evidence { what: what.into(), content: Content::Bytes(held) }
            }
            Err(why) => Evidence { what: what.into(), content: Content::Unread(why) },
        }
    }

    fn held(&mut self, bytes: &[u8]) -> Result<Arc<Held>, Arc<str>> {
        if bytes.len() > self.budget.evidence_bytes {
            return Err(format!("with its {} bytes it is more than can be looked at in all", bytes.len()).into());
        }
        self.budget.evidence_bytes -= bytes.len();
        Ok(Held::new(bytes))
    }

    /// What a path that a line names leads to. Many lines name one file: it is looked at once.
    pub(in super::super) fn look(&mut self, path: &Path) -> Looked {
        let path = self.inside(path);
        if let Some(looked) = self.looked.get(&path) {
            return looked.clone();
        }
        if self.lookups == 0 || self.is_late(&path) {
            return Looked::Unread("more files are named than are looked for".into());
        }
        self.lookups -= 1;
        let looked = match self.read(&path, &path, self.limits.file_bytes) {
            Ok(file) => match self.held(&file.bytes) {
                Ok(held) => Looked::File { held, executable: file.executable },
                Err(why) => Looked::Unread(why),
            },
            Err(Refusal::Absent) if matches!(self.beneath.open(&path), Ok((_, FileType::Directory))) => {
                Looked::Directory
            }
            Err(Refusal::Absent) => Looked::Absent,
            Err(Refusal::Outside(why)) => Looked::Outside(why.into()),
            Err(Refusal::Other(why)) => Looked::Unread(why.into()),
            Err(Refusal::Limit(why)) => Looked::Unread(why.into()),
        };
        self.looked.insert(path, looked.clone());
        looked
    }

    /// Somebody who watches files should watch this one too.
    pub(in super::super) fn depends_on(&mut self, path: &Path) {
        let path = self.base.join(path);
        self.slice.depends_on.push(path);
    }

    pub(super) fn refused(&mut self, relative: &Path, refusal: &Refusal) {
        let why = match refusal {
            Refusal::Absent => return,
            Refusal::Outside(why) | Refusal::Other(why) => {
                self.lost(relative, None, format!("is not read: {why}"));
                why
            }
            Refusal::Limit(why) => *why,
        };
        self.decides(Evidence::unread(&relative.to_string_lossy(), why));
    }
}
