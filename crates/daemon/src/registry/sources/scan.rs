//! Reading for one source: only inside its base, only so much, and what was left out is said.
//!
//! Promise: nothing outside the base is touched, also not through links that change while we look; special files are never
//! opened; listing is sorted, so that limits cut at the same place each time. What a tool will read again when it runs is
//! evidence of all that this tool is asked to do, whatever came of our reading it. Runs nothing.

mod ledger;
mod reading;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::FileType;

use super::admit;
use super::beneath::{Beneath, Mounts, Refusal};
use super::evidence::{Common, Evidence};
use super::item::{Item, Scope};
pub(super) use super::paths::{ends_with, tidy};
use super::tree::TreeError;
use super::{Diagnostic, Limits, Slice};
use crate::registry::names;
use ledger::Ledger;
pub(super) use ledger::Looked;

/// Diagnostics of one source; the rest is counted.
const DIAGNOSTICS_MAX: usize = 100;

/// Directories that hold other people's files.
const NEVER_WALKED: [&str; 2] = [".git", "node_modules"];

/// What is left for the sources of one base.
pub(super) struct Budget {
    files: usize,
    evidence_bytes: usize,
    deadline: Instant,
}

impl Budget {
    pub(super) fn new(limits: &Limits, deadline: Instant) -> Self {
        Self { files: limits.files, evidence_bytes: limits.evidence_bytes, deadline }
    }
}

/// A file that was read.
#[derive(Debug, Clone)]
pub(super) struct SourceFile {
    /// Where it is, as it was asked for.
    pub path: PathBuf,
    /// The same from the base.
    pub relative: PathBuf,
    /// Its text: without a byte order mark, lines end with a line feed, foreign bytes replaced.
    pub text: Arc<str>,
    /// As it lies there.
    pub bytes: Arc<[u8]>,
    /// Somebody may run it.
    pub executable: bool,
}

/// What is in a directory.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub name: String,
    pub path: PathBuf,
    pub is_dir: bool,
}

/// Who acts on what a source reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// We run what we have read here, and nothing else of it.
    Us,
    /// A tool reads all of it again when it runs: what was read, what could not be read and what was not there decides of all its items.
    Tool,
}

/// One source's reading, and what it has found.
pub(super) struct Scan<'a> {
    /// Canonical.
    base: &'a Path,
    beneath: Beneath,
    runs: Runs,
    pub(super) limits: &'a Limits,
    budget: &'a mut Budget,
    files: usize,
    deadline: Instant,
    slice: Slice,
    names: HashSet<String>,
    /// What the items have in common, and which of it each item has.
    ledgers: Vec<Ledger>,
    ledger_of: Vec<usize>,
    /// What is read decides nothing: depth of [`Self::aside`].
    aside: usize,
    /// Evidence that was read already: many lines name one file.
    looked: HashMap<PathBuf, Looked>,
    lookups: usize,
    is_out_of_files: bool,
    is_out_of_time: bool,
    left_out: usize,
    /// See [`Self::place`].
    place: Option<PathBuf>,
    is_own: bool,
}

impl<'a> Scan<'a> {
    /// A source gets at most half of what is left, so that no source can starve those behind it.
    pub(super) fn new(
        (source, runs): (&'static str, Runs),
        scope: Scope,
        base: &'a Path,
        limits: &'a Limits,
        budget: &'a mut Budget,
    ) -> Self {
        let now = Instant::now();
        let slice =
            Slice { source, scope, items: Vec::new(), diagnostics: Vec::new(), complete: true, depends_on: Vec::new() };
        let mounts = if scope == Scope::Project { Mounts::Refuse } else { Mounts::Follow };
        Self {
            base,
            beneath: Beneath::new(base, mounts),
            runs,
            limits,
            files: budget.files.div_ceil(2),
            deadline: now + budget.deadline.saturating_duration_since(now) / 2,
            budget,
            slice,
            names: HashSet::new(),
            ledgers: vec![Ledger::default()],
            ledger_of: Vec::new(),
            aside: 0,
            looked: HashMap::new(),
            lookups: limits.lookups,
            is_out_of_files: false,
            is_out_of_time: false,
            left_out: 0,
            place: (scope == Scope::Project).then(|| base.to_owned()),
            is_own: false,
        }
    }

    /// The same for a base that is not the project itself: what it has runs at the project's root.
    pub(super) fn at(mut self, root: &Path) -> Self {
        self.place = Some(root.to_owned());
        self
    }

    /// Whether what is added from now on is the user's own word ([`Item::is_own`]).
    pub(super) fn set_own(&mut self, is_own: bool) {
        self.is_own = is_own;
    }

    /// The base that this source may read.
    pub(super) fn base(&self) -> &'a Path {
        self.base
    }

    /// Where a command runs that says nothing of it: a project's at its root, the user's where the session is.
    pub(super) fn place(&self) -> Option<PathBuf> {
        self.place.clone()
    }

    /// What was found.
    pub(super) fn finish(mut self) -> Slice {
        if self.left_out > 0 {
            self.slice.complete = false;
            let message = format!("{} more items are left out: a source may have {}", self.left_out, self.limits.items);
            self.note(Path::new(""), None, message);
        }
        self.slice.depends_on.sort();
        self.slice.depends_on.dedup();
        let common: Vec<_> = self.ledgers.into_iter().map(|ledger| Common::new(ledger.all)).collect();
        for (item, ledger) in self.slice.items.iter_mut().zip(self.ledger_of) {
            item.shared.extend(common.get(ledger).filter(|common| !common.all().is_empty()).cloned());
        }
        self.slice
    }

    /// A parser came to its end in a way that it should not.
    pub(super) fn failed(&mut self) {
        self.slice.complete = false;
        let why = "this source could not be read to its end: its reader failed";
        self.ledgers.iter_mut().for_each(|ledger| ledger.add(Evidence::unread("", why)));
        self.lost(Path::new(""), None, why);
    }

    /// A limit of a source's own has left something out.
    pub(super) fn cut(&mut self, file: &Path, message: &str) {
        self.slice.complete = false;
        self.lost(file, None, message);
        self.decides(Evidence::unread(&file.to_string_lossy(), message));
    }

    /// A file as a tree; what is wrong with it is said.
    pub(super) fn tree<T>(&mut self, file: &SourceFile, parse: impl Fn(&str) -> Result<T, TreeError>) -> Option<T> {
        match parse(&file.text) {
            Ok(tree) => Some(tree),
            Err(error) => {
                // The tool may understand it all the same.
                self.decides(Evidence::unread(&file.relative.to_string_lossy(), &error.message));
                self.lost(&file.relative, error.line, error.message);
                None
            }
        }
    }

    /// Says something of a file, by its path from the base or absolute.
    pub(super) fn note(&mut self, file: &Path, line: Option<u32>, message: impl AsRef<str>) {
        self.say(file, line, message.as_ref(), false);
    }

    /// The same of what could not be read, so that commands may be missing.
    pub(super) fn lost(&mut self, file: &Path, line: Option<u32>, message: impl AsRef<str>) {
        self.say(file, line, message.as_ref(), true);
    }

    fn say(&mut self, file: &Path, line: Option<u32>, message: &str, is_loss: bool) {
        if self.slice.diagnostics.len() > DIAGNOSTICS_MAX {
            return;
        }
        let is_last = self.slice.diagnostics.len() == DIAGNOSTICS_MAX;
        let message = if is_last { "more is wrong with this source; it is not told" } else { message };
        let message = names::shown(message);
        self.slice.diagnostics.push(Diagnostic { file: self.base.join(file), line, message, is_loss });
    }

    /// The text of a file; nothing if it is not there or may not be read, which is said. Of a tool's file, either decides.
    pub(super) fn file(&mut self, path: impl AsRef<Path>) -> Option<SourceFile> {
        self.large_file(path, self.limits.file_bytes)
    }

    /// As [`Self::file`], but if it is there, then not all of it decides: the source must say what does.
    pub(super) fn file_in_parts(&mut self, path: impl AsRef<Path>) -> Option<SourceFile> {
        self.one_of(Path::new(""), &[path.as_ref()], self.limits.file_bytes)
    }

    /// As [`Self::file`], of one that may be larger or must be smaller than others.
    pub(super) fn large_file(&mut self, path: impl AsRef<Path>, bytes_max: usize) -> Option<SourceFile> {
        let file = self.one_of(Path::new(""), &[path.as_ref()], bytes_max)?;
        let evidence = self.evidence(&file);
        self.decides(evidence);
        Some(file)
    }

    /// The first of some files that is there: if that one cannot be read, none is.
    pub(super) fn first_file(&mut self, dir: &Path, names: &[&str]) -> Option<SourceFile> {
        let names: Vec<&Path> = names.iter().map(Path::new).collect();
        let file = self.one_of(dir, &names, self.limits.file_bytes)?;
        let evidence = self.evidence(&file);
        self.decides(evidence);
        Some(file)
    }

    fn one_of(&mut self, dir: &Path, names: &[&Path], bytes_max: usize) -> Option<SourceFile> {
        for name in names {
            let asked = self.inside(&dir.join(name));
            let relative = tidy(&asked);
            self.slice.depends_on.push(self.base.join(&relative));
            let what = relative.to_string_lossy().into_owned();
            match self.read(&relative, &asked, bytes_max) {
                Ok(file) => {
                    if std::str::from_utf8(&file.bytes).is_err() {
                        self.note(&relative, None, "is not UTF-8; what is not is replaced");
                    }
                    return Some(file);
                }
                Err(Refusal::Absent) => self.decides(Evidence::absent(&what)),
                Err(refusal) => {
                    self.refused(&relative, &refusal);
                    return None;
                }
            }
        }
        None
    }

    /// From the base, if it is written as absolute.
    fn inside(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.base).unwrap_or(path).to_owned()
    }

    /// Whether a path is there and inside, without reading it. Decides nothing.
    pub(super) fn exists(&mut self, relative: impl AsRef<Path>) -> bool {
        let relative = tidy(relative.as_ref());
        self.slice.depends_on.push(self.base.join(&relative));
        self.beneath.open(&relative).is_ok()
    }

    /// Whether it is a directory. Decides nothing.
    pub(super) fn is_directory(&mut self, relative: impl AsRef<Path>) -> bool {
        let relative = tidy(relative.as_ref());
        matches!(self.beneath.open(&relative), Ok((_, FileType::Directory)))
    }

    /// Whether anything at all is there, be it nothing that can be read. Decides nothing.
    pub(super) fn is_taken(&mut self, relative: impl AsRef<Path>) -> bool {
        let relative = tidy(relative.as_ref());
        self.slice.depends_on.push(self.base.join(&relative));
        !matches!(self.beneath.open(&relative), Err(Refusal::Absent))
    }

    /// What is wanted of a directory, sorted by name. Empty if it is not there. What is not wanted is not looked at.
    pub(super) fn entries(&mut self, relative: &Path, wanted: impl Fn(&str) -> bool) -> Vec<Entry> {
        let relative = tidy(relative);
        self.slice.depends_on.push(self.base.join(&relative));
        let names = match self.names_in(&relative) {
            Ok(names) => names,
            Err(refusal) => {
                self.refused(&relative, &refusal);
                return Vec::new();
            }
        };
        let mut entries = Vec::with_capacity(names.len());
        for (name, kind) in names {
            if !wanted(&name) {
                continue;
            }
            let path = relative.join(&name);
            let is_dir = match kind {
                FileType::RegularFile => false,
                FileType::Directory => true,
                _ => match self.beneath.open(&path) {
                    Ok((_, FileType::Directory)) => true,
                    Err(Refusal::Absent) => continue,
                    // What is no file is said by who reads it.
                    Ok(_) => false,
                    Err(refusal) => {
                        self.refused(&path, &refusal);
                        continue;
                    }
                },
            };
            entries.push(Entry { name, path, is_dir });
        }
        entries
    }

    /// All files below a directory that are wanted by name, sorted by path.
    pub(super) fn walk(&mut self, relative: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut seen = 0;
        self.walk_into(relative, 0, &wanted, &mut found, &mut seen);
        found
    }

    fn walk_into(
        &mut self,
        dir: &Path,
        depth: usize,
        wanted: &dyn Fn(&str) -> bool,
        found: &mut Vec<PathBuf>,
        seen: &mut usize,
    ) {
        // Directories cost as much as files, and a ring of links would be walked for ever without a count of them.
        *seen += 1;
        if *seen > self.limits.files || found.len() > self.limits.files || self.is_late(dir) {
            return self.cut(dir, "is not read: there are too many files and directories");
        }
        for entry in self.entries(dir, |_| true) {
            if !entry.is_dir {
                if wanted(&entry.name) {
                    found.push(entry.path);
                }
            } else if NEVER_WALKED.contains(&entry.name.as_str()) {
            } else if depth + 1 >= self.limits.depth {
                let message = format!("is not read: it is deeper than {} directories", self.limits.depth);
                self.cut(&entry.path, &message);
            } else {
                self.walk_into(&entry.path, depth + 1, wanted, found, seen);
            }
        }
    }

    /// Adds an item, or says why not.
    pub(super) fn push(&mut self, mut item: Item) {
        item.scope = self.slice.scope;
        item.is_own = self.is_own;
        let (file, line) = (item.file.clone(), item.line);
        let item = match admit::admit(item, self.limits) {
            Ok(item) => item,
            Err(why) => return self.note(&file, line, why),
        };
        if self.slice.items.len() >= self.limits.items {
            self.left_out += 1;
            return;
        }
        if !self.names.insert(item.qualified_name.clone()) {
            let message = format!("\"{}\" is left out: the name is taken", item.qualified_name);
            return self.note(&file, line, message);
        }
        self.slice.items.push(item);
        self.ledger_of.push(self.ledgers.len() - 1);
    }

    fn is_late(&mut self, at: &Path) -> bool {
        if Instant::now() < self.deadline {
            return false;
        }
        self.slice.complete = false;
        if !self.is_out_of_time {
            self.is_out_of_time = true;
            self.lost(
                at,
                None,
                format!("is not read, nor what follows: {} s are over", self.limits.time.as_secs_f32()),
            );
        }
        true
    }
}
