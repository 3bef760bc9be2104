//! Scripts of `package.json`, of a project and of the packages in its workspace.
//!
//! Which program runs them is what the project says or has a lock file of. Names are always `npm:…`: a project that
//! changes from npm to pnpm keeps its commands.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::item::{Evidence, Exec, Item, Kind, Passing, Program};
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
    let Some(file) = scan.file("package.json") else { return };
    let Some(tree) = scan.tree(&file, Tree::json) else { return };
    let manager = manager(scan, &tree);
    let settings = settings(scan, Path::new(""));
    scripts(scan, &file, &tree, manager, None, &settings);
    let patterns = patterns(scan, &tree);
    let members = workspace::members(scan, &file.relative, &patterns);
    let mut packages: Vec<(PathBuf, SourceFile, Tree, String)> = Vec::new();
    for dir in members {
        let Some(file) = scan.file(dir.join("package.json")) else { continue };
        let Some(tree) = scan.tree(&file, Tree::json) else { continue };
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
        let mut settings = settings.clone();
        settings.extend(self::settings(scan, dir));
        scripts(scan, file, tree, manager, Some((&name, dir)), &settings);
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

fn settings(scan: &mut Scan<'_>, dir: &Path) -> Vec<Evidence> {
    let mut found = Vec::new();
    for name in SETTINGS {
        if let Some(file) = scan.file(dir.join(name)) {
            found.push(scan.evidence(&file));
        }
    }
    found
}

fn scripts(
    scan: &mut Scan<'_>,
    file: &SourceFile,
    tree: &Tree,
    manager: &str,
    package: Option<(&str, &Path)>,
    settings: &[Evidence],
) {
    let scripts = tree.get("scripts").map(Tree::map).unwrap_or_default();
    // A script runs others by name, and those before and after it, so all of them decide.
    let mut all = Vec::new();
    for (name, line) in scripts {
        all.extend_from_slice(format!("{name}: {}\n", line.text().unwrap_or_default()).as_bytes());
    }
    let all = scan.part(&format!("{} scripts", file.relative.display()), &all);
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
        item.evidence.extend(settings.iter().cloned());
        item.evidence.extend(scan.programs_of(line, relative));
        scan.push(item);
    }
}
