//! Recipes of a justfile, with those it imports and those of its modules (`module::recipe`).

mod parse;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::item::{Argument, Exec, Item, Kind, Passing, Program};
use super::programs::Text;
use super::scan::{Scan, SourceFile, tidy};
use parse::{Justfile, Module, Recipe};

/// Imports and modules inside each other.
const NESTING_MAX: usize = 8;

/// Files that one project's justfile may be made of.
const FILES_MAX: usize = 100;

/// The base's justfile.
pub(super) fn read(scan: &mut Scan<'_>) {
    let Some(path) = find(scan, Path::new(""), &["justfile", ".justfile"]) else { return };
    let Some(file) = scan.file(&path) else { return };
    let mut reader = Reader { seen: HashSet::new(), found: Vec::new() };
    reader.module(scan, &file, "", 0);
    for (mut item, body, dir) in reader.found {
        item.evidence = scan.programs_in(&in_place(&body), &[&dir], &[], Text::Line);
        scan.push(item);
    }
}

/// A file of one of the names, in any case, as just finds it.
fn find(scan: &mut Scan<'_>, dir: &Path, names: &[&str]) -> Option<PathBuf> {
    let is_wanted = |name: &str| names.contains(&name.to_ascii_lowercase().as_str());
    scan.entries(dir, is_wanted).into_iter().find(|entry| !entry.is_dir).map(|entry| entry.path)
}

/// Where a recipe runs, in its words.
fn in_place(body: &str) -> String {
    let mut text = body.to_owned();
    for place in ["justfile_directory()", "invocation_directory()", "source_directory()", "module_directory()"] {
        text = text.replace(&format!("{{{{{place}}}}}"), "$PWD").replace(&format!("{{{{ {place} }}}}"), "$PWD");
    }
    text
}

struct Reader {
    seen: HashSet<PathBuf>,
    /// With the text that runs, and where.
    found: Vec<(Item, String, PathBuf)>,
}

impl Reader {
    /// A module: its file, and all that it imports.
    fn module(&mut self, scan: &mut Scan<'_>, file: &SourceFile, prefix: &str, depth: usize) {
        let mut files = Vec::new();
        self.imported(scan, file, depth, &mut files);
        let mut names = HashSet::new();
        let mut modules = Vec::new();
        let aliases: Vec<_> = files.iter().flat_map(|(_, parsed)| parsed.aliases.clone()).collect();
        for (file, parsed) in &files {
            let lines: Vec<&str> = file.text.lines().collect();
            // In one file the last of a name counts (where that is allowed at all); before what is imported.
            let recipes: Vec<&Recipe> =
                parsed.recipes.iter().rev().filter(|one| names.insert(one.name.clone())).collect();
            for recipe in recipes.into_iter().rev() {
                self.recipe(scan, (file, &lines), recipe, prefix, &aliases);
            }
            modules.extend(parsed.modules.iter().map(|module| (file.relative.clone(), module.clone())));
        }
        for (file, module) in modules {
            self.submodule(scan, &file, &module, prefix, depth);
        }
    }

    /// A file and what it imports, itself first.
    fn imported(
        &mut self,
        scan: &mut Scan<'_>,
        file: &SourceFile,
        depth: usize,
        files: &mut Vec<(SourceFile, Justfile)>,
    ) {
        if !self.seen.insert(file.relative.clone()) {
            return;
        }
        if depth >= NESTING_MAX || self.seen.len() > FILES_MAX {
            return scan.cut(&file.relative, "is not read: too many files import each other");
        }
        let parsed = parse::parse(&file.text);
        for (line, message) in &parsed.odd {
            let what = format!("line {line} of {}", file.relative.display());
            scan.incomplete(&file.relative, Some(*line), &what, message);
        }
        let imports = parsed.imports.clone();
        let dir = file.relative.parent().unwrap_or(Path::new("")).to_owned();
        for (text, kind) in [(&parsed.evaluated, Text::Line), (&parsed.assigned, Text::Values)] {
            // Variables and settings of any file may be used in any other.
            for evidence in scan.programs_in(text, &[Path::new(""), &dir], &[], kind) {
                scan.decides(evidence);
            }
        }
        files.push((file.clone(), parsed));
        for (path, is_optional) in imports {
            // By text alone, as just does it; `~` is the home.
            let path = tidy(&dir.join(path));
            if path.starts_with("~") {
                scan.incomplete(&file.relative, None, &path.to_string_lossy(), "it is imported from the home");
                continue;
            }
            match scan.file(&path) {
                Some(next) => self.imported(scan, &next, depth + 1, files),
                None if is_optional => {}
                None => scan.lost(&file.relative, None, format!("imports {}, which cannot be read", path.display())),
            }
        }
    }

    fn submodule(&mut self, scan: &mut Scan<'_>, parent: &Path, module: &Module, prefix: &str, depth: usize) {
        let dir = parent.parent().unwrap_or(Path::new(""));
        let own = ["mod.just", "justfile", ".justfile"];
        let path = if let Some(path) = &module.path {
            let path = tidy(&dir.join(path));
            if path.starts_with("~") {
                return scan.incomplete(parent, Some(module.line), &path.to_string_lossy(), "its file is in the home");
            }
            find(scan, &path, &own).or(Some(path))
        } else {
            let beside = dir.join(format!("{}.just", module.name));
            if scan.is_taken(&beside) { Some(beside) } else { find(scan, &dir.join(&module.name), &own) }
        };
        match path.and_then(|path| scan.file(path)) {
            Some(file) => self.module(scan, &file, &format!("{prefix}{}::", module.name), depth + 1),
            None if module.is_optional => {}
            None => scan.lost(parent, Some(module.line), format!("the module {} cannot be read", module.name)),
        }
    }

    fn recipe(
        &mut self,
        scan: &mut Scan<'_>,
        (file, lines): (&SourceFile, &[&str]),
        recipe: &Recipe,
        prefix: &str,
        aliases: &[(String, String, bool)],
    ) {
        let name = format!("{prefix}{}", recipe.name);
        let program = Program::new(&["just", &name], scan.place(), Passing::Behind);
        let mut item = Item::new("just", name, Kind::Task, Exec::Program(program), file.path.clone());
        item.line = Some(recipe.line);
        item.own = super::item::block(lines, recipe.line);
        item.description.clone_from(&recipe.doc);
        let module = prefix.trim_end_matches("::");
        item.group = recipe.group.clone().or_else(|| (!module.is_empty()).then(|| module.to_owned()));
        item.listed = !recipe.is_private;
        let to_it = aliases.iter().filter(|(_, target, is_private)| *target == recipe.name && !is_private);
        item.aliases = to_it.map(|(alias, ..)| format!("{prefix}{alias}")).collect();
        let argument = |parameter: &parse::Parameter| Argument {
            name: parameter.name.clone(),
            description: String::new(),
            default: parameter.default.clone(),
            required: parameter.is_required,
            rest: parameter.is_rest,
        };
        item.arguments.names = recipe.parameters.iter().map(argument).collect();
        item.arguments.hint = hint(&item.arguments.names);
        // A module's recipes run where its file lies, the root's at the root.
        let dir = if module.is_empty() { Path::new("") } else { file.relative.parent().unwrap_or(Path::new("")) };
        if self.found.len() > scan.limits.items {
            return scan.cut(&file.relative, "has too many recipes; the rest is left out");
        }
        self.found.push((item, recipe.body.clone(), dir.to_owned()));
    }
}

/// `TARGET [mode=x] [REST...]`.
pub(super) fn hint(arguments: &[Argument]) -> Option<String> {
    let words: Vec<String> = arguments
        .iter()
        .map(|argument| {
            let name = &argument.name;
            let rest = if argument.rest { "..." } else { "" };
            match &argument.default {
                Some(default) => format!("[{name}={default}{rest}]"),
                None if argument.required => format!("<{name}{rest}>"),
                None => format!("[{name}{rest}]"),
            }
        })
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}
