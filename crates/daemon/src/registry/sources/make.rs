//! Targets of a makefile that a person would name: those with a doc comment (`## …`), phony ones, and plain words.
//!
//! Read as text: no function is called, no variable expanded, so a target made of variables is not seen, and of
//! conditionals both sides are. An include that is not plain text makes the evidence incomplete.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::GlobBuilder;

use super::evidence::Common;
use super::item::{Exec, Item, Kind, Passing, Program};
use super::programs::Text;
use super::scan::{Scan, SourceFile};

/// Includes inside each other.
const INCLUDES_DEPTH_MAX: usize = 8;

/// Files that one makefile may be made of.
const INCLUDES_MAX: usize = 50;

/// Targets and recipes of one makefile; what follows is left out, and all is asked for each time.
const TARGETS_MAX: usize = 10_000;
const RECIPES_MAX: usize = 10_000;

/// Lines of a target's recipes that people are shown, and letters of a rule's own line.
const OWN_LINES_MAX: usize = 200;
const HEAD_CHARS_MAX: usize = 256;

/// The base's makefile.
pub(super) fn read(scan: &mut Scan<'_>) {
    let Some(file) = scan.first_file(Path::new(""), &["GNUmakefile", "makefile", "Makefile"]) else { return };
    let mut reader = Reader::default();
    reader.file(scan, &file, 0);
    if let Some((file, number)) = reader.unclear.take().filter(|_| reader.has_eval) {
        let what = format!("line {number} of {}", file.display());
        scan.incomplete(&file, Some(number), &what, "what it includes when it is evaluated is known only to make");
    }
    for evidence in scan.programs_in(&reader.evaluated, &[], &[], Text::Line) {
        scan.decides(evidence);
    }
    for evidence in scan.programs_in(&reader.assigned, &[], &[], Text::Values) {
        scan.decides(evidence);
    }
    // Of a recipe that many targets share the evidence is one.
    let mut programs: Vec<Option<Arc<Common>>> = vec![None; reader.recipes.len()];
    for target in &reader.targets {
        let is_phony = reader.phony.contains(&target.name);
        // `main.o` and `build/app` are what is made, not what is asked for.
        if target.name.contains('/') || (!is_phony && target.doc.is_empty() && target.name.contains('.')) {
            continue;
        }
        if scan.is_over(&file.relative) {
            return;
        }
        let program = Program::new(&["make", &target.name], scan.place(), Passing::Assignments);
        let name = target.name.clone();
        let mut item = Item::new("make", name, Kind::Task, Exec::Program(program), target.file.clone());
        item.line = Some(target.line);
        let recipes = target.recipes.iter().filter_map(|&recipe| reader.recipes.get(recipe));
        let mut lines = recipes.flat_map(|recipe| std::iter::once(recipe.head.as_str()).chain(recipe.lines.lines()));
        let lines = lines.by_ref();
        item.own = super::item::own(&mut lines.take(OWN_LINES_MAX));
        item.description.clone_from(&target.doc);
        item.listed = !target.name.starts_with('_');
        for &recipe in &target.recipes {
            let (Some(known), Some(text)) = (programs.get_mut(recipe), reader.recipes.get(recipe)) else { continue };
            let common = known.get_or_insert_with(|| Common::new(scan.programs_of(&text.lines, Path::new(""))));
            if !common.all().is_empty() {
                item.shared.push(Arc::clone(common));
            }
        }
        scan.push(item);
    }
}

struct Target {
    name: String,
    file: PathBuf,
    line: u32,
    doc: String,
    /// Numbers of its recipes.
    recipes: Vec<usize>,
}

struct Recipe {
    /// The rule's own line, from its first target on; the beginning of a long one.
    head: String,
    /// What is run.
    lines: String,
}

#[derive(Default)]
struct Reader {
    targets: Vec<Target>,
    recipes: Vec<Recipe>,
    by_name: HashMap<String, usize>,
    phony: HashSet<String>,
    seen: HashSet<PathBuf>,
    /// Lines that make runs whatever it is asked for.
    evaluated: String,
    /// Other lines that are no recipe's.
    assigned: String,
    is_full: bool,
    /// Something is evaluated that was put together.
    has_eval: bool,
    /// A line with an include that is none yet.
    unclear: Option<(PathBuf, u32)>,
}

/// How far a file was read.
#[derive(Default)]
struct State {
    doc: String,
    in_definition: bool,
    /// A recipe's lines may follow.
    in_rule: bool,
    /// The recipe that they belong to, if its targets are ours.
    recipe: Option<usize>,
}

impl Reader {
    fn file(&mut self, scan: &mut Scan<'_>, file: &SourceFile, depth: usize) {
        if !self.seen.insert(file.relative.clone()) {
            return;
        }
        if depth >= INCLUDES_DEPTH_MAX || self.seen.len() > INCLUDES_MAX {
            return scan.cut(&file.relative, "is not read: too many files include each other");
        }
        let text = file.text.clone();
        let mut lines = text.lines().zip(1_u32..);
        let mut state = State::default();
        while let Some((first, number)) = lines.next() {
            if number.is_multiple_of(1_024) && scan.is_over(&file.relative) {
                return;
            }
            let mut line = first.to_owned();
            while line.ends_with('\\') {
                line.pop();
                line.push(' ');
                let Some((next, _)) = lines.next() else { break };
                line.push_str(next.trim());
            }
            self.line(scan, file, &line, number, depth, &mut state);
        }
    }

    fn line(
        &mut self,
        scan: &mut Scan<'_>,
        file: &SourceFile,
        line: &str,
        number: u32,
        depth: usize,
        state: &mut State,
    ) {
        let trimmed = line.trim();
        let is_recipe = line.starts_with('\t') && state.in_rule;
        self.hidden(scan, file, trimmed, number, depth);
        // Wherever such a line stands: no shell has a command of that name, and what we take for a recipe make may not.
        if let Some((paths, must)) = include(trimmed) {
            return self.include(scan, file, paths, must.then_some(number), depth);
        }
        if is_recipe {
            if let Some(recipe) = state.recipe.and_then(|recipe| self.recipes.get_mut(recipe)) {
                recipe.lines.extend(["\t", trimmed, "\n"]);
            }
            return;
        }
        if state.in_definition {
            state.in_definition = !trimmed.starts_with("endef");
            // It may become a recipe.
            self.evaluated.extend([trimmed, "\n"]);
            return;
        }
        if let Some(comment) = trimmed.strip_prefix("##") {
            return comment.trim_matches(['#', ' ']).clone_into(&mut state.doc);
        }
        if trimmed.starts_with('#') {
            return;
        }
        let above = std::mem::take(&mut state.doc);
        if trimmed.is_empty() {
            return;
        }
        let runs = ["shell", "!="].iter().any(|mark| trimmed.contains(mark))
            || trimmed.trim_start_matches('-').starts_with("load ");
        if trimmed.starts_with("define ") || trimmed.starts_with("define\t") {
            state.in_definition = true;
        } else if let Some((targets, rest)) = split_rule(line.split('#').next().unwrap_or_default()) {
            let comment = line.split_once("##").map_or(above.as_str(), |(_, comment)| comment.trim());
            state.in_rule = true;
            state.recipe = self.rule(scan, file, (targets, rest), number, comment);
        } else {
            // A variable of one target may stand between the target and its comment.
            state.doc = above;
            self.assigned.extend([trimmed, "\n"]);
        }
        if runs {
            self.evaluated.extend([trimmed, "\n"]);
        }
    }

    /// What is no include to look at, and may be one to make.
    fn hidden(&mut self, scan: &mut Scan<'_>, file: &SourceFile, line: &str, number: u32, depth: usize) {
        if line.starts_with(".RECIPEPREFIX") {
            let what = format!("line {number} of {}", file.relative.display());
            return scan.incomplete(&file.relative, Some(number), &what, "it changes what a recipe begins with");
        }
        let mut left = line.to_owned();
        for mark in ["(eval ", "{eval ", "(eval\t", "{eval\t"] {
            for (at, _) in line.match_indices(mark) {
                self.has_eval = true;
                let inner = line[at + mark.len()..].trim_start();
                let inner = &inner[..inner.find([')', '}']).unwrap_or(inner.len())];
                if let Some((paths, must)) = include(inner) {
                    self.include(scan, file, paths, must.then_some(number), depth);
                    left = left.replace(inner, "");
                }
            }
        }
        if line.starts_with('#') || include(line).is_some() || self.unclear.is_some() {
            return;
        }
        // A word of its own, with something behind it: to be evaluated, maybe.
        let mut words = left
            .split(|c: char| c.is_whitespace() || "(){},=".contains(c))
            .skip_while(|word| !matches!(*word, "include" | "-include" | "sinclude"));
        if words.next().is_some() && words.any(|word| !word.is_empty()) {
            self.unclear = Some((file.relative.clone(), number));
        }
    }

    /// `number` is that of an include that must be there.
    fn include(&mut self, scan: &mut Scan<'_>, file: &SourceFile, paths: &str, number: Option<u32>, depth: usize) {
        // What is there of it, which is what make finds.
        let wildcard = paths.strip_prefix("$(wildcard ").and_then(|rest| rest.strip_suffix(')'));
        let paths = wildcard.unwrap_or(paths);
        let is_open = |text: &str| text.contains(['*', '?', '[']);
        let unclear = |text: &str| text.contains(['$', '~', '\\', '(', ')', '{', '}']);
        let in_open_directory =
            |path: &str| Path::new(path).parent().is_some_and(|dir| is_open(&dir.to_string_lossy()));
        if unclear(paths) || paths.split_whitespace().any(in_open_directory) {
            let what = format!("the include {paths} of {} is not followed", file.relative.display());
            return scan.incomplete(&file.relative, number, &what, "which file it means is known only to make");
        }
        for path in paths.split_whitespace().map(Path::new) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if !is_open(&name) {
                // make looks from where it runs, not from the file.
                self.included(scan, path, depth);
                continue;
            }
            let glob = GlobBuilder::new(&name).literal_separator(true).build().map(|glob| glob.compile_matcher());
            let wanted = |name: &str| glob.as_ref().is_ok_and(|glob| glob.is_match(name));
            for entry in scan.entries(path.parent().unwrap_or(Path::new("")), wanted).into_iter().take(INCLUDES_MAX + 1)
            {
                self.included(scan, &entry.path, depth);
            }
        }
    }

    fn included(&mut self, scan: &mut Scan<'_>, path: &Path, depth: usize) {
        if let Some(next) = scan.file(path) {
            self.file(scan, &next, depth + 1);
        }
    }

    /// A rule. Returns its recipe, if some of its targets are ours.
    fn rule(
        &mut self,
        scan: &mut Scan<'_>,
        file: &SourceFile,
        (targets, rest): (&str, &str),
        number: u32,
        doc: &str,
    ) -> Option<usize> {
        let targets_of_it = targets.trim();
        let mut targets = targets.split_whitespace().peekable();
        if targets.peek() == Some(&".PHONY") {
            self.phony.extend(rest.split_whitespace().map(str::to_owned));
            return None;
        }
        let recipe = self.recipes.len();
        let mut is_ours = false;
        for name in targets {
            if name.starts_with('.') || name.contains(['%', '$', '(', ')', '{', '}', '*', '&', '\\', '"', '\'', '=']) {
                continue;
            }
            if self.is_full || self.targets.len() >= TARGETS_MAX || recipe >= RECIPES_MAX {
                if !std::mem::replace(&mut self.is_full, true) {
                    scan.cut(&file.relative, &format!("has more than {TARGETS_MAX} targets or {RECIPES_MAX} recipes"));
                }
                break;
            }
            let index = *self.by_name.entry(name.to_owned()).or_insert_with(|| {
                let (name, doc, file) = (name.to_owned(), String::new(), file.path.clone());
                self.targets.push(Target { name, file, line: number, doc, recipes: Vec::new() });
                self.targets.len() - 1
            });
            let target = &mut self.targets[index];
            if target.doc.is_empty() {
                doc.clone_into(&mut target.doc);
            }
            target.recipes.push(recipe);
            is_ours = true;
        }
        if !is_ours {
            return None;
        }
        let first = rest.split_once(';').map_or_else(String::new, |(_, recipe)| format!("{recipe}\n"));
        let head = format!("{targets_of_it}:{rest}").chars().take(HEAD_CHARS_MAX).collect();
        self.recipes.push(Recipe { head, lines: first });
        Some(recipe)
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
    let words = [("include", true), ("-include", false), ("sinclude", false)];
    let (paths, must) = words.into_iter().find_map(|(word, must)| Some((line.strip_prefix(word)?, must)))?;
    paths.starts_with([' ', '\t']).then(|| (paths.split('#').next().unwrap_or_default().trim(), must))
}
