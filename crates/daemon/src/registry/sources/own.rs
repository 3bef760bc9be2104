//! Our own format: TOML files in a project's `.shellkeep/commands` and in `commands` of the user's configuration.
//!
//! Documented in docs/commands.md. A key that is not known is said, with the nearest one.

use std::path::Path;

use super::item::{Argument, Exec, Item, Kind, Passing, Program};
use super::just::hint;
use super::programs::Text;
use super::scan::{Scan, SourceFile, ends_with, tidy};
use super::template::{Line, Places, places, refusal};
use super::tree::Tree;

/// Keys of a command.
const KEYS: [&str; 14] = [
    "name",
    "description",
    "command",
    "run",
    "dir",
    "env",
    "shells",
    "args",
    "aliases",
    "group",
    "display_name",
    "hint",
    "hidden",
    "agents",
];

/// Keys of an argument.
const ARGUMENT_KEYS: [&str; 5] = ["name", "description", "default", "required", "rest"];

/// `.shellkeep/commands` of a project.
pub(super) fn project(scan: &mut Scan<'_>) {
    read(scan, Path::new(".shellkeep/commands"), "project", Kind::ProjectCommand);
}

/// `commands` of the configuration directory.
pub(super) fn user(scan: &mut Scan<'_>) {
    read(scan, Path::new("commands"), "user", Kind::UserCommand);
}

fn read(scan: &mut Scan<'_>, dir: &Path, owner: &str, kind: Kind) {
    for entry in scan.entries(dir, |name| ends_with(name, "toml")) {
        if entry.is_dir {
            continue;
        }
        let Some(file) = scan.file(&entry.path) else { continue };
        let Some(tree) = scan.tree(&file, Tree::toml) else { continue };
        let stem = entry.name.trim_end_matches(".toml");
        let result = match tree.get("command") {
            // `[[command]]`: several in one file, each with its name.
            Some(Tree::List(list)) => list.iter().try_for_each(|one| add(scan, &file, one, None, owner, kind)),
            _ => add(scan, &file, &tree, Some(stem), owner, kind),
        };
        if let Err(why) = result {
            scan.note(&file.relative, None, why);
        }
    }
}

fn add(
    scan: &mut Scan<'_>,
    file: &SourceFile,
    tree: &Tree,
    stem: Option<&str>,
    owner: &str,
    kind: Kind,
) -> Result<(), String> {
    let name = tree.text_of("name").or(stem).ok_or("a [[command]] has no name; it and what follows are left out")?;
    unknown_keys(scan, file, tree, &KEYS);
    let left_out = |why: &str| {
        let message = format!("\"{name}\" is left out: {why}");
        move |scan: &mut Scan<'_>| scan.note(&file.relative, None, message)
    };
    let dir = match tree.text_of("dir") {
        Some(dir) if kind == Kind::ProjectCommand => Some(tidy(&scan.base().join(dir))),
        Some(dir) => Some(Path::new(dir).to_owned()),
        None => scan.place(),
    };
    if kind == Kind::ProjectCommand && !dir.as_ref().is_some_and(|dir| dir.starts_with(scan.base())) {
        left_out("its dir is outside of the project")(scan);
        return Ok(());
    }
    let env = tree.get("env").map(Tree::pairs).unwrap_or_default();
    let mut names = None;
    let (place, set) = (dir.clone().unwrap_or_default(), env.clone());
    let (exec, run) = match (tree.text_of("command"), tree.get("run").map(Tree::texts)) {
        (Some(text), None) => {
            if let Some(why) = refusal(text, Places::Quoted) {
                left_out(&why)(scan);
                return Ok(());
            }
            let has_places = !places(text, Places::Quoted).is_empty();
            let line = Line {
                text: text.trim_end().to_owned(),
                places: if has_places { Places::Quoted } else { Places::None },
                shell: tree.get("shells").map(Tree::texts).unwrap_or_default(),
                dir,
                env,
            };
            (Exec::Line(line), text.to_owned())
        }
        (None, Some(argv)) if !argv.is_empty() => {
            let run = argv.join(" ");
            names = shlex::try_join(argv.iter().map(String::as_str)).ok();
            (Exec::Program(Program { argv, dir, env, passing: Passing::Behind }), run)
        }
        _ => {
            left_out("it must have either a command (a line) or run (a list of words)")(scan);
            return Ok(());
        }
    };
    let mut item = Item::new(owner, name, kind, exec, file.path.clone());
    item.arguments.names = arguments(scan, file, tree, &run);
    let own_hint = tree.text_of("hint").map(str::to_owned);
    item.arguments.hint = own_hint.or_else(|| hint(&item.arguments.names));
    tree.text_of("description").unwrap_or(&run).clone_into(&mut item.description);
    item.display_name = tree.text_of("display_name").map(str::to_owned);
    item.group = tree.text_of("group").map(str::to_owned);
    item.aliases = tree.get("aliases").map(Tree::texts).unwrap_or_default();
    item.listed = !tree.truth_of("hidden").unwrap_or(false);
    item.agents_may = tree.truth_of("agents").unwrap_or(true);
    item.evidence = vec![scan.evidence(file)];
    if kind == Kind::ProjectCommand {
        item.evidence.extend(scan.programs_in(names.as_ref().unwrap_or(&run), &[&place], &set, Text::Line));
    }
    scan.push(item);
    Ok(())
}

/// The arguments that are described, then those that only have a place.
fn arguments(scan: &mut Scan<'_>, file: &SourceFile, tree: &Tree, run: &str) -> Vec<Argument> {
    let mut arguments = Vec::new();
    for one in tree.get("args").map(Tree::list).unwrap_or_default() {
        unknown_keys(scan, file, one, &ARGUMENT_KEYS);
        let Some(name) = one.text_of("name") else {
            scan.note(&file.relative, None, "an argument has no name; it is left out");
            continue;
        };
        let default = one.get("default").and_then(Tree::scalar);
        arguments.push(Argument {
            name: name.to_owned(),
            description: one.text_of("description").unwrap_or_default().to_owned(),
            required: one.truth_of("required").unwrap_or(default.is_none()),
            default,
            rest: one.truth_of("rest").unwrap_or(false),
        });
    }
    for (_, name) in places(run, Places::Quoted) {
        if !arguments.iter().any(|argument| argument.name == name) {
            arguments.push(Argument { name: name.to_owned(), required: true, ..Argument::default() });
        }
    }
    arguments
}

fn unknown_keys(scan: &mut Scan<'_>, file: &SourceFile, tree: &Tree, known: &[&str]) {
    for (key, _) in tree.map() {
        if known.contains(&key.as_str()) {
            continue;
        }
        let near = known.iter().min_by_key(|name| strsim::levenshtein(name, key));
        let near = near.filter(|name| strsim::levenshtein(name, key) <= 2);
        let hint = near.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"));
        scan.note(&file.relative, None, format!("the key \"{key}\" is not known{hint}"));
    }
}
