//! Reading for one source: only inside its base, only so much, and what was left out is said.
//!
//! Promise: nothing outside the base is opened for reading, also not through links that change while we look; special
//! files are never opened; listing is sorted, so that limits cut at the same place each time. Runs nothing.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{FileType, Mode, OFlags};

use super::admit;
use super::item::{Content, Evidence, Held, Item, Scope};
pub(super) use super::paths::{ends_with, tidy};
use super::tree::{Tree, TreeError};
use super::{Diagnostic, Limits, Slice};
use crate::registry::names;

/// Entries of one directory. A larger directory is left out as a whole: no part of it would be the same each time.
const DIRECTORY_ENTRIES_MAX: usize = 20_000;

/// Diagnostics of one source; the rest is counted.
const DIAGNOSTICS_MAX: usize = 100;

/// Programs of a project that one line is looked through for.
const PROGRAMS_MAX: usize = 16;

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

/// Why a path is not read.
enum Refusal {
    /// It is not there, or a link to what is not there.
    Absent,
    /// It leads out of the base.
    Outside,
    /// It is no file or directory, or cannot be had.
    Other(String),
}

/// One source's reading, and what it has found.
pub(super) struct Scan<'a> {
    /// Canonical.
    base: &'a Path,
    pub(super) limits: &'a Limits,
    budget: &'a mut Budget,
    files: usize,
    deadline: Instant,
    slice: Slice,
    names: HashSet<String>,
    /// Evidence that was read already: many lines name one file.
    held: HashMap<PathBuf, Arc<Held>>,
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
        source: &'static str,
        scope: Scope,
        base: &'a Path,
        limits: &'a Limits,
        budget: &'a mut Budget,
    ) -> Self {
        let now = Instant::now();
        let slice =
            Slice { source, scope, items: Vec::new(), diagnostics: Vec::new(), complete: true, depends_on: Vec::new() };
        Self {
            base,
            limits,
            files: budget.files.div_ceil(2),
            deadline: now + budget.deadline.saturating_duration_since(now) / 2,
            budget,
            slice,
            names: HashSet::new(),
            held: HashMap::new(),
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
        self.slice
    }

    /// A parser came to its end in a way that it should not.
    pub(super) fn failed(&mut self) {
        self.slice.complete = false;
        self.lost(Path::new(""), None, "this source could not be read to its end: its reader failed");
    }

    /// A limit of a source's own has left something out.
    pub(super) fn cut(&mut self, file: &Path, message: &str) {
        self.slice.complete = false;
        self.lost(file, None, message);
    }

    /// A file as a tree; what is wrong with it is said.
    pub(super) fn tree(&mut self, file: &SourceFile, parse: fn(&str) -> Result<Tree, TreeError>) -> Option<Tree> {
        match parse(&file.text) {
            Ok(tree) => Some(tree),
            Err(error) => {
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

    /// The text of a file; nothing if it is not there or may not be read, which is said.
    pub(super) fn file(&mut self, relative: impl AsRef<Path>) -> Option<SourceFile> {
        let relative = tidy(relative.as_ref());
        self.slice.depends_on.push(self.base.join(&relative));
        match self.read(&relative) {
            Ok(file) => {
                if std::str::from_utf8(&file.bytes).is_err() {
                    self.note(&relative, None, "is not UTF-8; what is not is replaced");
                }
                Some(file)
            }
            Err(refusal) => {
                self.refused(&relative, &refusal);
                None
            }
        }
    }

    /// The first of some files that is there.
    pub(super) fn first_file(&mut self, dir: &Path, names: &[&str]) -> Option<SourceFile> {
        names.iter().find_map(|name| self.file(dir.join(name)))
    }

    /// Whether a path is there and inside, without reading it.
    pub(super) fn exists(&mut self, relative: impl AsRef<Path>) -> bool {
        let relative = tidy(relative.as_ref());
        self.slice.depends_on.push(self.base.join(&relative));
        self.open(&relative).is_ok()
    }

    /// What a directory holds, sorted by name. Empty if it is not there.
    pub(super) fn entries(&mut self, relative: &Path) -> Vec<Entry> {
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
            let path = relative.join(&name);
            let is_dir = match kind {
                FileType::RegularFile => false,
                FileType::Directory => true,
                _ => match self.open(&path) {
                    Ok((_, FileType::RegularFile)) => false,
                    Ok((_, FileType::Directory)) => true,
                    Ok(_) | Err(Refusal::Absent) => continue,
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
            self.slice.complete = false;
            return;
        }
        for entry in self.entries(dir) {
            if !entry.is_dir {
                if wanted(&entry.name) {
                    found.push(entry.path);
                }
            } else if NEVER_WALKED.contains(&entry.name.as_str()) {
            } else if depth + 1 >= self.limits.depth {
                self.slice.complete = false;
                let message = format!("is not read: it is deeper than {} directories", self.limits.depth);
                self.note(&entry.path, None, message);
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
    }

    /// A file's bytes as evidence of an item.
    pub(super) fn evidence(&mut self, file: &SourceFile) -> Evidence {
        self.evidence_of(&file.relative.to_string_lossy(), &file.bytes, Some(&file.relative))
    }

    /// A part of a file, by a name of its own.
    pub(super) fn part(&mut self, what: &str, bytes: &[u8]) -> Evidence {
        self.evidence_of(what, bytes, None)
    }

    fn evidence_of(&mut self, what: &str, bytes: &[u8], held_as: Option<&Path>) -> Evidence {
        let what = what.to_owned();
        if let Some(held) = held_as.and_then(|path| self.held.get(path)) {
            return Evidence { what, content: Content::Bytes(Arc::clone(held)) };
        }
        if bytes.len() > self.budget.evidence_bytes {
            return Evidence { what, content: Content::TooLarge { bytes: bytes.len() as u64 } };
        }
        self.budget.evidence_bytes -= bytes.len();
        let held = Held::new(bytes);
        self.held.extend(held_as.map(|path| (path.to_owned(), Arc::clone(&held))));
        Evidence { what, content: Content::Bytes(held) }
    }

    /// Files of the project that a command line names, as evidence: what they hold decides what runs.
    pub(super) fn programs_of(&mut self, line: &str, dir: &Path) -> Vec<Evidence> {
        let is_separator = |c: char| c.is_whitespace() || "\"'`;|&()<>=$".contains(c);
        let mut words: Vec<&str> = line
            .split(is_separator)
            // The end of a sentence is no part of a name.
            .map(|word| word.trim_end_matches(['.', ',', ':', '!', '?']))
            .filter(|word| word.contains(['/', '.']) && !word.starts_with('-') && word.len() < 1_024)
            .collect();
        words.sort_unstable();
        words.dedup();
        let mut found = Vec::new();
        for word in words {
            if found.len() == PROGRAMS_MAX {
                break;
            }
            let path = tidy(&dir.join(word));
            let path = path.strip_prefix(self.base).map(Path::to_owned).unwrap_or(path);
            let what = path.to_string_lossy().into_owned();
            let is_new = !found.iter().any(|other: &Evidence| other.what == what);
            if !is_new || !matches!(self.open(&path), Ok((_, FileType::RegularFile))) {
                continue;
            }
            if let Some(held) = self.held.get(&path) {
                found.push(Evidence { what, content: Content::Bytes(Arc::clone(held)) });
                continue;
            }
            self.slice.depends_on.push(self.base.join(&path));
            found.push(if let Ok(file) = self.read(&path) {
                self.evidence(&file)
            } else {
                let bytes = fs::metadata(self.base.join(&path)).map_or(0, |found| found.len());
                Evidence { what, content: Content::TooLarge { bytes } }
            });
        }
        found
    }

    fn refused(&mut self, relative: &Path, refusal: &Refusal) {
        match refusal {
            Refusal::Absent => {}
            Refusal::Outside => self.lost(relative, None, "is not read: it leads out of its place"),
            Refusal::Other(why) => self.lost(relative, None, format!("is not read: {why}")),
        }
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

    fn read(&mut self, relative: &Path) -> Result<SourceFile, Refusal> {
        let (fd, kind) = self.open(relative)?;
        if kind != FileType::RegularFile {
            return Err(if kind == FileType::Directory {
                Refusal::Absent
            } else {
                Refusal::Other("it is no file".to_owned())
            });
        }
        if self.is_late(relative) {
            return Err(Refusal::Absent);
        }
        if self.files == 0 {
            self.slice.complete = false;
            if !self.is_out_of_files {
                self.is_out_of_files = true;
                self.lost(relative, None, "is not read, nor what follows: too many files");
            }
            return Err(Refusal::Absent);
        }
        self.files -= 1;
        self.budget.files = self.budget.files.saturating_sub(1);
        let stat = rustix::fs::fstat(&fd).map_err(|error| Refusal::Other(error.to_string()))?;
        let bytes = self.content(&fd)?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let text = if text.contains('\r') { text.replace("\r\n", "\n").into() } else { text.into() };
        Ok(SourceFile {
            path: self.base.join(relative),
            relative: relative.to_owned(),
            text,
            bytes: bytes.into(),
            executable: stat.st_mode & 0o111 != 0,
        })
    }

    fn content(&self, fd: &OwnedFd) -> Result<Vec<u8>, Refusal> {
        let other = |error: io::Error| Refusal::Other(error.to_string());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened =
            rustix::fs::open(descriptor_path(fd), flags, Mode::empty()).map_err(|error| other(error.into()))?;
        let mut bytes = Vec::new();
        let limit = self.limits.file_bytes as u64;
        fs::File::from(opened).take(limit + 1).read_to_end(&mut bytes).map_err(other)?;
        if bytes.len() as u64 > limit {
            return Err(Refusal::Other(format!("it is larger than {limit} bytes")));
        }
        Ok(bytes)
    }

    fn names_in(&mut self, relative: &Path) -> Result<Vec<(String, FileType)>, Refusal> {
        let (fd, kind) = self.open(relative)?;
        if kind != FileType::Directory {
            return Err(Refusal::Absent);
        }
        let other = |error: io::Error| Refusal::Other(error.to_string());
        let mut names = Vec::new();
        let mut unreadable = 0_usize;
        for entry in fs::read_dir(descriptor_path(&fd)).map_err(other)? {
            let entry = entry.map_err(other)?;
            if names.len() == DIRECTORY_ENTRIES_MAX {
                self.slice.complete = false;
                return Err(Refusal::Other(format!("it has more than {DIRECTORY_ENTRIES_MAX} entries")));
            }
            let kind = entry.file_type().map_err(other)?;
            let kind = match (kind.is_file(), kind.is_dir()) {
                (true, _) => FileType::RegularFile,
                (_, true) => FileType::Directory,
                _ => FileType::Unknown,
            };
            match entry.file_name().into_string() {
                Ok(name) => names.push((name, kind)),
                Err(_) => unreadable += 1,
            }
        }
        if unreadable > 0 {
            self.note(relative, None, format!("{unreadable} names in it are not UTF-8 and are left out"));
        }
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(names)
    }

    /// A handle on what a path leads to, which cannot be read from yet, so that nothing happens to what is outside.
    fn open(&self, relative: &Path) -> Result<(OwnedFd, FileType), Refusal> {
        let path = self.base.join(relative);
        let fd = match rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Err(Refusal::Absent),
            Err(error) => return Err(Refusal::Other(error.to_string())),
        };
        // What it leads to is asked of the handle, not of the path, which may mean something else by now.
        let real = fs::read_link(descriptor_path(&fd)).map_err(|error| Refusal::Other(error.to_string()))?;
        if !real.starts_with(self.base) {
            return Err(Refusal::Outside);
        }
        let stat = rustix::fs::fstat(&fd).map_err(|error| Refusal::Other(error.to_string()))?;
        Ok((fd, FileType::from_raw_mode(stat.st_mode)))
    }
}

fn descriptor_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
