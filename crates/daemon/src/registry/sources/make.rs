//! Targets of a makefile that a person would name: those with a doc comment (`## …`), phony ones, and plain words.
//!
//! Read as text: no function is called, no variable expanded, so a target made of variables is not seen, and of
//! conditionals both sides are.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::item::{Evidence, Exec, Item, Kind, Passing, Program};
use super::scan::{Scan, SourceFile, tidy};

/// Includes inside each other.
const INCLUDES_DEPTH_MAX: usize = 8;

/// Files that one makefile may be made of.
const INCLUDES_MAX: usize = 50;

/// The base's makefile.
pub(super) fn read(scan: &mut Scan<'_>) {
    let Some(file) = scan.first_file(Path::new(""), &["GNUmakefile", "makefile", "Makefile"]) else { return };
    let mut reader = Reader::default();
    reader.file(scan, &file, 0);
    for target in &reader.targets {
        let is_phony = reader.phony.contains(&target.name);
        // `main.o` and `build/app` are what is made, not what is asked for.
        if target.name.contains('/') || (!is_phony && target.doc.is_empty() && target.name.contains('.')) {
            continue;
        }
        let program = Program::new(&["make", &target.name], scan.place(), Passing::Assignments);
        let name = target.name.clone();
        let mut item = Item::new("make", name, Kind::Task, Exec::Program(program), target.file.path.clone());
        item.line = Some(target.line);
        item.own = super::item::block(&target.file.text, target.line);
        item.description.clone_from(&target.doc);
        item.listed = !target.name.starts_with('_');
        item.evidence.clone_from(&reader.evidence);
        item.evidence.extend(scan.programs_of(&target.recipe, Path::new("")));
        scan.push(item);
    }
}

struct Target {
    name: String,
    file: SourceFile,
    line: u32,
    doc: String,
    recipe: String,
}

#[derive(Default)]
struct Reader {
    targets: Vec<Target>,
    by_name: HashMap<String, usize>,
    phony: HashSet<String>,
    seen: HashSet<std::path::PathBuf>,
    evidence: Vec<Evidence>,
}

impl Reader {
    fn file(&mut self, scan: &mut Scan<'_>, file: &SourceFile, depth: usize) {
        if !self.seen.insert(file.relative.clone()) {
            return;
        }
        if depth >= INCLUDES_DEPTH_MAX || self.seen.len() > INCLUDES_MAX {
            return scan.cut(&file.relative, "is not read: too many files include each other");
        }
        self.evidence.push(scan.evidence(file));
        let text = file.text.clone();
        let mut lines = text.lines().zip(1_u32..);
        let mut doc = String::new();
        let mut in_definition = false;
        // Targets that the lines of a recipe belong to.
        let mut open: Vec<usize> = Vec::new();
        while let Some((first, number)) = lines.next() {
            if let Some(recipe) = first.strip_prefix('\t').filter(|_| !open.is_empty()) {
                for &index in &open {
                    self.targets[index].recipe.push_str(recipe);
                    self.targets[index].recipe.push('\n');
                }
                continue;
            }
            let mut line = first.to_owned();
            while line.ends_with('\\') {
                line.pop();
                line.push(' ');
                let Some((next, _)) = lines.next() else { break };
                line.push_str(next.trim());
            }
            let trimmed = line.trim();
            if in_definition {
                in_definition = !trimmed.starts_with("endef");
                continue;
            }
            if let Some(comment) = trimmed.strip_prefix("##") {
                comment.trim_matches(['#', ' ']).clone_into(&mut doc);
                continue;
            }
            if trimmed.starts_with('#') {
                continue;
            }
            let above = std::mem::take(&mut doc);
            if trimmed.is_empty() {
                continue;
            }
            if trimmed.starts_with("define ") {
                in_definition = true;
            } else if let Some((paths, must)) = include(trimmed) {
                self.include(scan, file, paths, must.then_some(number), depth);
            } else if let Some((targets, rest)) = split_rule(line.split('#').next().unwrap_or_default()) {
                let comment = line.split_once("##").map_or(above.as_str(), |(_, comment)| comment.trim());
                open = self.rule(targets, rest, number, comment, file);
            } else {
                // A variable of one target may stand between the target and its comment.
                doc = above;
            }
        }
    }

    /// `number` is that of an include that must be there.
    fn include(&mut self, scan: &mut Scan<'_>, file: &SourceFile, paths: &str, number: Option<u32>, depth: usize) {
        if paths.contains(['$', '*', '?', '[']) {
            if number.is_some() {
                scan.note(&file.relative, number, format!("the include {paths} is not followed: make would expand it"));
            }
            return;
        }
        for path in paths.split_whitespace() {
            // make looks from where it runs, not from the file.
            if let Some(next) = scan.file(tidy(Path::new(path))) {
                self.file(scan, &next, depth + 1);
            }
        }
    }

    /// A rule's targets. Returns those that are ours.
    fn rule(&mut self, targets: &str, rest: &str, number: u32, doc: &str, file: &SourceFile) -> Vec<usize> {
        let targets: Vec<&str> = targets.split_whitespace().collect();
        if targets.first() == Some(&".PHONY") {
            self.phony.extend(rest.split_whitespace().map(str::to_owned));
            return Vec::new();
        }
        let mut open = Vec::new();
        for name in targets {
            if name.starts_with('.') || name.contains(['%', '$', '(', ')', '{', '}', '*', '&', '\\', '"', '\'', '=']) {
                continue;
            }
            let index = *self.by_name.entry(name.to_owned()).or_insert_with(|| {
                let (name, doc, recipe) = (name.to_owned(), String::new(), String::new());
                self.targets.push(Target { name, file: file.clone(), line: number, doc, recipe });
                self.targets.len() - 1
            });
            if self.targets[index].doc.is_empty() {
                doc.clone_into(&mut self.targets[index].doc);
            }
            if let Some((_, recipe)) = rest.split_once(';') {
                self.targets[index].recipe.push_str(recipe);
                self.targets[index].recipe.push('\n');
            }
            open.push(index);
        }
        open
    }
}

/// Targets and what follows the colon; nothing if the line is an assignment, also one for a target alone.
fn split_rule(line: &str) -> Option<(&str, &str)> {
    let colon = line.find(':')?;
    let (targets, rest) = (&line[..colon], line[colon + 1..].trim_start_matches(':'));
    if targets.contains('=') || rest.trim_start().starts_with('=') || targets.trim().is_empty() {
        return None;
    }
    let value = rest.split(';').next().unwrap_or_default();
    let is_variable = value.split_once('=').is_some_and(|(name, _)| {
        let name = name.trim_end_matches([':', '?', '+', '!']).trim();
        let name = name.trim_start_matches("export ").trim_start_matches("override ").trim_start_matches("private ");
        !name.is_empty() && !name.contains(char::is_whitespace)
    });
    (!is_variable).then_some((targets, rest))
}

/// The paths of an include, and whether they must be there.
fn include(line: &str) -> Option<(&str, bool)> {
    let words = [("include ", true), ("-include ", false), ("sinclude ", false)];
    let (paths, must) = words.into_iter().find_map(|(word, must)| Some((line.strip_prefix(word)?, must)))?;
    Some((paths.split('#').next().unwrap_or_default().trim(), must))
}
