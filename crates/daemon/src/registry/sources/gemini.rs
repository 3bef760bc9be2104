//! Commands of Gemini CLI: `.gemini/commands/**/*.toml`; folders become part of the name.

use std::path::Path;

use super::claude::name_of;
use super::item::{Exec, Item, Kind};
use super::scan::{Scan, ends_with};
use super::template::{Dialect, Prompt};
use super::tree::Tree;

/// `.gemini/commands` of the base.
pub(super) fn read(scan: &mut Scan<'_>) {
    let dir = Path::new(".gemini/commands");
    for path in scan.walk(dir, |name| ends_with(name, "toml")) {
        let Some(file) = scan.file(&path) else { continue };
        let Some(tree) = scan.tree(&file, Tree::toml) else { continue };
        let Some(text) = tree.text_of("prompt") else {
            scan.note(&path, None, "is left out: it has no prompt");
            continue;
        };
        let prompt = Prompt { text: text.into(), dialect: Dialect::Gemini, names: Vec::new(), constants: Vec::new() };
        let name = name_of(dir, &path);
        let mut item = Item::new("gemini", name, Kind::Prompt, Exec::Prompt(prompt), file.path.clone());
        item.group = item.name.rsplit_once(':').map(|(folder, _)| folder.to_owned());
        tree.text_of("description").unwrap_or_default().clone_into(&mut item.description);
        item.evidence = vec![scan.evidence(&file)];
        scan.push(item);
    }
}
