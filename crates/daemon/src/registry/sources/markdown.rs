//! One Markdown file as a command: its front matter says what it is, its body is the prompt.

use super::front_matter::{self, Document};
use super::item::{Argument, Exec, Item, Kind};
use super::programs::Text;
use super::scan::{Scan, SourceFile};
use super::template::{Dialect, Prompt};
use super::tree::Tree;

/// What a file is to become.
pub(super) struct Wanted<'a> {
    pub owner: &'a str,
    pub name: String,
    pub kind: Kind,
    /// For `${NAME}` in the body.
    pub constants: Vec<(String, String)>,
}

/// The item of a file. Its evidence is the file and what it names beside itself.
pub(super) fn item(scan: &mut Scan<'_>, file: &SourceFile, wanted: Wanted<'_>) -> Item {
    let Document { keys, body } = front_matter::read(scan, file);
    let names = argument_names(&keys);
    let dialect = match wanted.kind {
        Kind::Skill => Dialect::FromZero,
        // The older layout counts from one, but for those who already write `$0`.
        _ if !names.is_empty() || has_zero(&body) => Dialect::FromZero,
        _ => Dialect::FromOne,
    };
    let mut evidence = vec![scan.evidence(file)];
    if let Some(dir) = file.relative.parent() {
        let known = wanted.constants.iter();
        let searched = known.fold(body.clone(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
        let beside = scan.programs_in(&searched, &[dir], &[], Text::Prose);
        evidence.extend(beside.into_iter().filter(|other| *other.what != *file.relative.to_string_lossy()));
    }
    let exec = match wanted.kind {
        Kind::Agent => Exec::Nothing,
        _ => Exec::Prompt(Prompt {
            text: body.as_str().into(),
            dialect,
            names: names.clone(),
            constants: wanted.constants,
        }),
    };
    let mut item = Item::new(wanted.owner, wanted.name, wanted.kind, exec, file.path.clone());
    item.description = keys
        .get("description")
        .and_then(Tree::scalar)
        .filter(|text| !text.trim().is_empty())
        .unwrap_or_else(|| front_matter::first_line(&body));
    item.arguments.hint = front_matter::hint(&keys);
    item.arguments.names = names.into_iter().map(|name| Argument { name, ..Argument::default() }).collect();
    item.display_name = keys.get("name").and_then(Tree::scalar).filter(|name| *name != item.name);
    item.listed = keys.truth_of("user-invocable").unwrap_or(true);
    item.agents_may = !keys.truth_of("disable-model-invocation").unwrap_or(false);
    item.evidence = evidence;
    item
}

/// `arguments: [a, b]` or `arguments: a b`.
fn argument_names(keys: &Tree) -> Vec<String> {
    match keys.get("arguments") {
        Some(Tree::List(names)) => {
            names.iter().filter_map(|name| name.scalar().or_else(|| name.text_of("name").map(str::to_owned))).collect()
        }
        Some(other) => other
            .scalar()
            .unwrap_or_default()
            .split([' ', ','])
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        None => Vec::new(),
    }
}

fn has_zero(body: &str) -> bool {
    body.match_indices("$0").any(|(at, _)| !body[at + 2..].starts_with(|c: char| c.is_ascii_alphanumeric()))
}
