//! Scripts of `package.json`, of a project and of the packages in its workspace.
//!
//! Which program runs them is what the project says or has a lock file of. Names are always `npm:…`: a project that
//! changes from npm to pnpm keeps its commands.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::evidence::Evidence;
use super::item::{Exec, Item, Kind, Passing, Program};
use super::programs::Text;
use super::scan::{Scan, SourceFile};
use super::tree::Tree;
use super::workspace;

/// What each manager leaves in a project.
const LOCKS: [(&str, &str); 7] = [
    ("bun.lock", "bun"),
    ("bun.lockb", "bun"),
    ("pnpm-lock.yaml", "pnpm"),
    ("pnpm-workspace.yaml", "pnpm"),
    ("yarn.lock", "yarn"),
    ("package-lock.json", "npm"),
    ("npm-shrinkwrap.json", "npm"),
];

/// Settings that decide how a script is run.
const SETTINGS: [&str; 4] = [".npmrc", ".yarnrc.yml", ".yarnrc", "bunfig.toml"];

/// The base's `package.json`.
pub(super) fn read(scan: &mut Scan<'_>) {
    let Some(file) = scan.file_in_parts("package.json") else { return };
    let Some(tree) = scan.tree(&file, Tree::json) else { return };
    let manager = manager(scan, &tree);
    let patterns = patterns(scan, &tree);
    settings(scan, Path::new(""));
    scripts(scan, &file, &tree, manager, None);
    let members = scan.aside(|scan| workspace::members(scan, &file.relative, &patterns));
    let mut packages: Vec<(PathBuf, SourceFile, Tree, String)> = Vec::new();
    for dir in members {
        let found = scan.aside(|scan| {
            let file = scan.file_in_parts(dir.join("package.json"))?;
            let tree = scan.tree(&file, Tree::json)?;
            Some((file, tree))
        });
        let Some((file, tree)) = found else { continue };
        let name = tree.text_of("name").unwrap_or_default();
        let short = name.rsplit_once('/').map_or(name, |(_, short)| short).to_owned();
        packages.push((dir, file, tree, short));
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (.., name) in &packages {
        *counts.entry(name.clone()).or_default() += 1;
    }
    for (dir, file, tree, short) in &packages {
        // Two packages `@a/web` and `@b/web`, or one without a name, are called by where they lie.
        let is_own = !short.is_empty() && counts.get(short).is_some_and(|count| *count == 1);
        let name = if is_own { short.clone() } else { dir.to_string_lossy().replace('/', ".") };
        scan.new_group();
        settings(scan, dir);
        scripts(scan, file, tree, manager, Some((&name, dir)));
    }
}

fn manager(scan: &mut Scan<'_>, tree: &Tree) -> &'static str {
    let named = tree.text_of("packageManager").unwrap_or_default();
    let named = named.split('@').next().unwrap_or_default();
    if let Some(known) = ["npm", "pnpm", "yarn", "bun"].into_iter().find(|known| *known == named) {
        return known;
    }
    LOCKS.into_iter().find(|(lock, _)| scan.exists(lock)).map_or("npm", |(_, manager)| manager)
}

fn patterns(scan: &mut Scan<'_>, tree: &Tree) -> Vec<String> {
    let mut patterns = match tree.get("workspaces") {
        Some(list @ Tree::List(_)) => list.texts(),
        Some(other) => other.get("packages").map(Tree::texts).unwrap_or_default(),
        None => Vec::new(),
    };
    if let Some(file) = scan.file("pnpm-workspace.yaml")
        && let Some(tree) = scan.tree(&file, Tree::yaml)
    {
        patterns.extend(tree.get("packages").map(Tree::texts).unwrap_or_default());
    }
    patterns
}

/// Settings of a directory, and the files that they name: `script-shell=./x.sh`.
fn settings(scan: &mut Scan<'_>, dir: &Path) {
    for name in SETTINGS {
        if let Some(file) = scan.file(dir.join(name)) {
            for evidence in scan.programs_in(&file.text, &[dir], &[], Text::Prose) {
                scan.decides(evidence);
            }
        }
    }
}

/// What decides of a script of the package in a directory, for who runs npm and is none of its items.
pub(super) fn decides(scan: &mut Scan<'_>, dir: &Path) -> Vec<Evidence> {
    let mut found = Vec::new();
    let mut names = vec!["package.json"];
    names.extend(SETTINGS);
    for name in names {
        let path = dir.strip_prefix(scan.base()).unwrap_or(dir).join(name);
        let Some(file) = scan.file_in_parts(&path) else {
            let is_there = scan.is_taken(&path);
            found.extend(is_there.then(|| Evidence::unread(&path.to_string_lossy(), "it cannot be read")));
            continue;
        };
        if name != "package.json" {
            found.push(scan.evidence(&file));
            found.extend(scan.programs_in(&file.text, &[dir], &[], Text::Prose));
        } else if let Some(tree) = scan.tree(&file, Tree::json) {
            found.push(scripts_of(scan, &file, &tree));
            for (_, line) in tree.get("scripts").map(Tree::map).unwrap_or_default() {
                found.extend(scan.programs_of(line.text().unwrap_or_default(), dir));
            }
        }
    }
    found.dedup();
    found
}

/// A script runs others by name, and those before and after it, so all of them decide.
fn scripts_of(scan: &mut Scan<'_>, file: &SourceFile, tree: &Tree) -> Evidence {
    let mut all = Vec::new();
    for (name, line) in tree.get("scripts").map(Tree::map).unwrap_or_default() {
        all.extend_from_slice(format!("{name}: {}\n", line.text().unwrap_or_default()).as_bytes());
    }
    scan.part(&format!("{} scripts", file.relative.display()), &all)
}

fn scripts(scan: &mut Scan<'_>, file: &SourceFile, tree: &Tree, manager: &str, package: Option<(&str, &Path)>) {
    let scripts = tree.get("scripts").map(Tree::map).unwrap_or_default();
    let all = scripts_of(scan, file, tree);
    let relative = package.map_or(Path::new(""), |(_, dir)| dir);
    let dir = package.map_or_else(|| scan.base().to_owned(), |(_, dir)| scan.base().join(dir));
    let has = |name: &str| scripts.iter().any(|(other, _)| other == name);
    for (name, line) in scripts {
        if name.starts_with("//") {
            continue; // how comments are written where there are none
        }
        let Some(line) = line.text() else {
            scan.note(&file.relative, None, format!("the script \"{name}\" is left out: it is no text"));
            continue;
        };
        let passing = if manager == "npm" { Passing::BehindDashes } else { Passing::Behind };
        let program = Program::new(&[manager, "run", name], Some(dir.clone()), passing);
        if name.starts_with('-') {
            scan.note(&file.relative, None, format!("the script \"{name}\" is left out: it looks like an option"));
            continue;
        }
        let full = package.map_or_else(|| name.clone(), |(package, _)| format!("{package}:{name}"));
        let mut item = Item::new("npm", full, Kind::Task, Exec::Program(program), file.path.clone());
        line.clone_into(&mut item.description);
        line.clone_into(&mut item.own);
        item.group = package.map(|(package, _)| package.to_owned());
        // `prebuild` runs with `build`; nobody calls it.
        let runs_with = name.strip_prefix("pre").or_else(|| name.strip_prefix("post"));
        item.listed = !runs_with.is_some_and(has);
        item.evidence = vec![all.clone()];
        item.evidence.extend(scan.programs_of(line, relative));
        scan.push(item);
    }
}
