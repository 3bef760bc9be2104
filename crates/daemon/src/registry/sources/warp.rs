//! Workflows of Warp: YAML files with a line and its arguments.

use std::path::Path;

use super::admit::slug;
use super::item::{Argument, Exec, Item, Kind};
use super::just::hint;
use super::scan::{Scan, ends_with};
use super::template::{Line, Places, places, refusal};
use super::tree::Tree;

/// `.warp/workflows` of a project.
pub(super) fn project(scan: &mut Scan<'_>) {
    read(scan, Path::new(".warp/workflows"));
}

/// Where Warp keeps the user's.
pub(super) fn user(scan: &mut Scan<'_>) {
    read(scan, Path::new(".warp/workflows"));
    read(scan, Path::new(".local/share/warp-terminal/workflows"));
}

fn read(scan: &mut Scan<'_>, dir: &Path) {
    for path in scan.walk(dir, |name| ends_with(name, "yaml") || ends_with(name, "yml")) {
        let Some(file) = scan.file(&path) else { continue };
        let Some(tree) = scan.tree(&file, Tree::yaml) else { continue };
        let (Some(name), Some(text)) = (tree.text_of("name"), tree.text_of("command")) else {
            scan.note(&path, None, "is left out: it has no name or no command");
            continue;
        };
        if let Some(why) = refusal(text, Places::Braces) {
            scan.note(&path, None, format!("is left out: {why}"));
            continue;
        }
        let described = tree.get("arguments").map(Tree::list).unwrap_or_default();
        let mut arguments: Vec<Argument> = Vec::new();
        for (_, name) in places(text, Places::Braces) {
            if arguments.iter().any(|argument| argument.name == name) {
                continue;
            }
            let found = described.iter().find(|argument| argument.text_of("name") == Some(name));
            let default = found.and_then(|argument| argument.get("default_value")).and_then(Tree::scalar);
            let description = found.and_then(|argument| argument.text_of("description")).unwrap_or_default();
            arguments.push(Argument {
                name: name.to_owned(),
                description: description.to_owned(),
                required: default.is_none(),
                default,
                rest: false,
            });
        }
        let line = Line {
            text: text.trim_end().to_owned(),
            places: if arguments.is_empty() { Places::None } else { Places::Braces },
            shell: tree.get("shells").map(Tree::texts).unwrap_or_default(),
            dir: scan.place(),
            env: Vec::new(),
        };
        let mut item = Item::new("warp", slug(name), Kind::Task, Exec::Line(line), file.path.clone());
        item.display_name = (item.name != name).then(|| name.to_owned());
        tree.text_of("description").unwrap_or(text).clone_into(&mut item.description);
        item.group = tree.get("tags").map(Tree::texts).filter(|tags| !tags.is_empty()).map(|tags| tags.join(", "));
        item.arguments.hint = hint(&arguments);
        item.arguments.names = arguments;
        item.evidence = vec![scan.evidence(&file)];
        item.evidence.extend(scan.programs_of(text, Path::new("")));
        scan.push(item);
    }
}
