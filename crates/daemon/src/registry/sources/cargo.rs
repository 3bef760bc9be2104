//! Aliases of cargo: `[alias]` in `.cargo/config.toml`, or in the older `.cargo/config`.

use std::path::Path;

use super::item::{Exec, Item, Kind, Passing, Program};
use super::programs::Text;
use super::scan::Scan;
use super::tree::Tree;

/// The base's own configuration.
pub(super) fn read(scan: &mut Scan<'_>) {
    // Where both are, cargo takes the one without an ending.
    let Some(file) = scan.first_file(Path::new(".cargo"), &["config", "config.toml"]) else { return };
    let Some(tree) = scan.tree(&file, Tree::toml) else { return };
    // Runners, wrappers and linkers stand there too.
    let programs = scan.programs_in(&file.text, &[], &[], Text::Prose);
    for (name, line) in tree.get("alias").map(Tree::map).unwrap_or_default() {
        let words = match line {
            Tree::Text(line) => line.split_whitespace().map(str::to_owned).collect(),
            Tree::List(words) => words.iter().filter_map(Tree::text).map(str::to_owned).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        if words.is_empty() {
            scan.note(&file.relative, None, format!("the alias \"{name}\" is left out: it is neither text nor a list"));
            continue;
        }
        let program = Program::new(&["cargo", name], scan.place(), Passing::Behind);
        let mut item = Item::new("cargo", name.clone(), Kind::Task, Exec::Program(program), file.path.clone());
        item.description = format!("cargo {}", words.join(" "));
        item.evidence.clone_from(&programs);
        scan.push(item);
    }
}
