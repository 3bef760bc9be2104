//! Files of a project that a command line names: what they hold decides what runs.
//!
//! Promise: each word is looked for in each directory that the line may run in. What is there is evidence by its content, what looks like a
//! program's path and is not there is evidence as absent, and what cannot be known makes the evidence incomplete, as far as it may mean a
//! file of the project that is run. What a program reads by itself is no part of this (docs/threats.md).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::evidence::{Content, Evidence};
use super::paths::tidy;
use super::scan::{Looked, Scan};
use super::words::{Role, Word, words};

/// Files that one line may name. Of one that names more the rest is not looked at, and agreement to it is not remembered.
const PROGRAMS_MAX: usize = 64;

/// Words of one line, with the same end; of prose, which is longer.
const WORDS_MAX: usize = 5_000;
const PROSE_WORDS_MAX: usize = 100_000;

/// Directories that one line may run in.
const DIRECTORIES_MAX: usize = 16;

/// Longest word that is looked for.
const WORD_BYTES_MAX: usize = 1_024;

/// What a module is called by, for programs that add the ending themselves.
const ENDINGS: [&str; 6] = [".js", ".mjs", ".cjs", ".ts", "/index.js", "/package.json"];

/// Where words may name a file from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    /// A line that a shell or a tool runs.
    Line,
    /// Words for people or agents, in which only what looks like a path is one.
    Prose,
    /// Values of variables, of which only a file that may be executed is a program.
    Values,
}

/// The search of one text.
struct Search<'s, 'a> {
    scan: &'s mut Scan<'a>,
    text: Text,
    dirs: Vec<PathBuf>,
    found: Vec<Evidence>,
    names: HashSet<PathBuf>,
    is_full: bool,
    /// It goes to a directory that is not known.
    is_lost: bool,
}

impl Scan<'_> {
    /// Files that a line names which runs in a directory of the project.
    pub(super) fn programs_of(&mut self, line: &str, dir: &Path) -> Vec<Evidence> {
        self.programs_in(line, &[dir], &[], Text::Line)
    }

    /// The same of a text of any kind, in one of several directories, with variables that are set for it.
    pub(super) fn programs_in(
        &mut self,
        text: &str,
        dirs: &[&Path],
        env: &[(String, String)],
        kind: Text,
    ) -> Vec<Evidence> {
        if self.is_full() {
            return Vec::new(); // the item will be left out
        }
        let here = self.base().join(dirs.first().unwrap_or(&Path::new("")));
        let known = |name: &str| match name {
            "PWD" | "INIT_CWD" => Some(here.to_string_lossy().into_owned()),
            // Not of the project, wherever it is.
            "HOME" => Some("/home".to_owned()),
            name => env.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.clone()),
        };
        let base = self.base();
        let inside = |dir: &&Path| dir.strip_prefix(base).unwrap_or(dir).to_owned();
        let mut all = dirs.iter().map(inside).chain([PathBuf::new()]).collect::<Vec<_>>();
        all.dedup();
        let words_max = if kind == Text::Prose { PROSE_WORDS_MAX } else { WORDS_MAX };
        let (found, names) = (Vec::new(), HashSet::new());
        let mut search = Search { scan: self, text: kind, dirs: all, found, names, is_full: false, is_lost: false };
        let mut is_all = true;
        for text in std::iter::once(text).chain(env.iter().map(|(_, value)| value.as_str())) {
            let (words, is_whole) = words(text, &known, words_max);
            is_all &= is_whole;
            for word in &words {
                search.word(word);
            }
        }
        if !is_all {
            search.incomplete("…", "it has more words than are looked at");
        }
        search.found
    }
}

impl Search<'_, '_> {
    fn word(&mut self, word: &Word) {
        let is_line = self.text == Text::Line;
        let is_run = word.role != Role::Argument;
        if word.is_directory && is_line {
            self.directory(word);
        }
        if word.text.is_empty() || word.text.len() > WORD_BYTES_MAX || word.text.contains("://") {
            return;
        }
        if word.is_open {
            if is_run && is_line && word.text.contains(['/', '*', '?', '[', '{']) {
                self.incomplete(&word.text, "which file it means is known only when it runs");
            }
            return;
        }
        let mut is_there = false;
        for name in self.candidates(word) {
            is_there |= self.look(&name, is_run);
        }
        let is_path = word.text.contains('/') && !word.text.starts_with('/');
        if is_there || !is_run || !is_line {
            return;
        }
        if is_path && self.is_lost {
            self.incomplete(&word.text, "which directory it is looked for in is known only when it runs");
        } else if is_path && !word.text.starts_with(['-', '~', '@']) {
            self.add(Path::new(&word.text), Content::Absent);
        }
    }

    /// The names of files that a word may be.
    fn candidates(&self, word: &Word) -> Vec<String> {
        let text = word.text.as_str();
        let mut names = vec![text];
        names.extend(text.split(['=', ':', ',', '@']));
        // `-f./x.mk`
        names.extend(text.strip_prefix('-').and_then(|text| text.get(1..)));
        // Marks of make, which stand before a line.
        names.push(text.trim_start_matches(['@', '-', '+']));
        let plain: Vec<&str> = names.iter().map(|name| name.trim_end_matches(['.', ',', ':', '!', '?'])).collect();
        names.extend(plain);
        let is_wanted = |name: &&str| match self.text {
            Text::Line => true,
            Text::Prose | Text::Values => name.contains(['/', '.']),
        };
        let mut all: Vec<String> = names.into_iter().filter(is_wanted).map(str::to_owned).collect();
        if word.role == Role::Script && self.text == Text::Line {
            all.extend(ENDINGS.iter().map(|ending| format!("{text}{ending}")));
            let module = text.replace('.', "/");
            all.extend([format!("{module}.py"), format!("{module}/__main__.py")]);
        }
        all.retain(|name| !name.trim_matches(['.', '/']).is_empty() && !name.starts_with('~'));
        all.sort();
        all.dedup();
        all
    }

    /// Whether there is such a file.
    fn look(&mut self, name: &str, is_run: bool) -> bool {
        let mut is_there = false;
        for dir in self.dirs.clone() {
            let path = dir.join(name);
            match self.scan.look(&path) {
                Looked::File { executable: false, .. } if self.text == Text::Values => {}
                Looked::File { held, .. } => {
                    is_there = true;
                    self.add(&path, Content::Bytes(held));
                }
                Looked::Unread(why) => {
                    is_there = true;
                    self.add(&path, Content::Unread(why));
                }
                // `build` may be a link to a disk that has room; `./build` is meant to be a file here. Programs of the system are not ours.
                Looked::Outside(why) if (is_run || name.contains('/')) && !self.is_elsewhere(&path) => {
                    is_there = true;
                    self.add(&path, Content::Unread(why));
                }
                Looked::Outside(_) | Looked::Directory | Looked::Absent => {}
            }
        }
        is_there
    }

    fn directory(&mut self, word: &Word) {
        if word.is_open {
            self.is_lost = true;
            return;
        }
        for dir in self.dirs.clone() {
            let dir = dir.join(&word.text);
            if self.dirs.contains(&dir) || self.scan.look(&dir) != Looked::Directory {
                continue;
            }
            if self.dirs.len() == DIRECTORIES_MAX {
                return self.incomplete(&word.text, "it goes to more directories than are looked at");
            }
            self.dirs.push(dir);
        }
    }

    fn incomplete(&mut self, what: &str, why: &str) {
        self.add(Path::new(what), Content::Unread(why.into()));
    }

    /// Written as it lies outside of the project: no file of it can be in its place, unless by what `/proc` has, which may lead anywhere.
    fn is_elsewhere(&self, path: &Path) -> bool {
        let is_own = ["cwd", "root", "fd"].iter().any(|name| path.components().any(|part| part.as_os_str() == *name));
        let leads_anywhere = is_own && (path.starts_with("/proc") || path.starts_with("/dev"));
        (path.is_absolute() && !path.starts_with(self.scan.base()) && !leads_anywhere) || tidy(path).starts_with("..")
    }

    fn add(&mut self, path: &Path, content: Content) {
        let path = path.strip_prefix(self.scan.base()).map_or_else(|_| tidy(path), tidy);
        if self.is_full || !self.names.insert(path.clone()) {
            return;
        }
        let what = path.to_string_lossy().into_owned();
        let evidence = if self.found.len() == PROGRAMS_MAX {
            self.is_full = true;
            Evidence::unread(&what, "more files are named than are looked at")
        } else {
            Evidence { what: what.as_str().into(), content }
        };
        if let Content::Unread(why) = &evidence.content {
            self.scan.note(Path::new(""), None, format!("what names {what} is asked for each time: {why}"));
        }
        self.scan.depends_on(&path);
        self.found.push(evidence);
    }
}
