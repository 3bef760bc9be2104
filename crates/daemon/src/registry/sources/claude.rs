//! Claude Code: commands, skills, agents and hooks of a `.claude` directory, a project's or the user's.
//!
//! Commands and skills are two layouts of one thing; of two with one name the skill counts, as there. Agents and hooks
//! are listed, never run.

use std::collections::HashSet;
use std::path::Path;

use super::front_matter;
use super::item::{Exec, Item, Kind};
use super::markdown::{self, Wanted};
use super::scan::{Scan, ends_with};
use super::tree::Tree;

/// `.claude` of the base.
pub(super) fn read(scan: &mut Scan<'_>) {
    let skills: HashSet<String> = skills(scan, Path::new(".claude/skills"), "claude", None).into_iter().collect();
    commands(scan, Path::new(".claude/commands"), "claude", None, &skills);
    agents(scan, Path::new(".claude/agents"), "claude-agent");
}

/// Whatever plugin the files belong to: its name, and where it lies.
pub(super) type Plugin<'a> = (&'a str, &'a str);

/// `NAME/SKILL.md` for each directory. Returns the names.
pub(super) fn skills(scan: &mut Scan<'_>, dir: &Path, owner: &str, plugin: Option<Plugin<'_>>) -> Vec<String> {
    let mut names = Vec::new();
    for entry in scan.entries(dir, |name| !name.starts_with('.')) {
        if !entry.is_dir {
            continue;
        }
        let Some(file) = scan.file(entry.path.join("SKILL.md")) else { continue };
        let place = scan.base().join(&entry.path).to_string_lossy().into_owned();
        let mut constants = vec![("CLAUDE_SKILL_DIR".to_owned(), place)];
        constants.extend(plugin.map(|(_, root)| ("CLAUDE_PLUGIN_ROOT".to_owned(), root.to_owned())));
        let wanted = Wanted { owner, name: entry.name.clone(), kind: Kind::Skill, constants };
        let item = markdown::item(scan, &file, wanted);
        if item.description.is_empty() {
            scan.note(&file.relative, None, "has no description");
        }
        if plugin.is_none() && item.display_name.is_some() {
            let message = format!("gives another name: a skill is called as its directory, \"{}\"", entry.name);
            scan.note(&file.relative, None, message);
        }
        names.push(entry.name);
        scan.push(named_by_plugin(item, plugin));
    }
    names
}

/// All Markdown files below a directory; folders become part of the name.
pub(super) fn commands(
    scan: &mut Scan<'_>,
    dir: &Path,
    owner: &str,
    plugin: Option<Plugin<'_>>,
    taken: &HashSet<String>,
) {
    let files = scan.walk(dir, |name| ends_with(name, "md"));
    let stem = |path: &Path| path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let mut stems: Vec<String> = files.iter().map(|path| stem(path)).collect();
    stems.sort();
    for path in files {
        let name = name_of(dir, &path);
        if taken.contains(&name) {
            scan.note(&path, None, format!("is left out: a skill is called \"{name}\" too"));
            continue;
        }
        let Some(file) = scan.file(&path) else { continue };
        let constants = plugin.map(|(_, root)| ("CLAUDE_PLUGIN_ROOT".to_owned(), root.to_owned()));
        let wanted =
            Wanted { owner, name: name.clone(), kind: Kind::Prompt, constants: constants.into_iter().collect() };
        let mut item = markdown::item(scan, &file, wanted);
        if let Some((folder, last)) = name.rsplit_once(':') {
            item.group = Some(folder.to_owned());
            if plugin.is_none() && stems.iter().filter(|stem| *stem == last).count() == 1 && !taken.contains(last) {
                item.aliases.push(last.to_owned());
            }
        }
        scan.push(named_by_plugin(item, plugin));
    }
}

/// Agents' descriptions.
pub(super) fn agents(scan: &mut Scan<'_>, dir: &Path, owner: &str) {
    for path in scan.walk(dir, |name| ends_with(name, "md")) {
        let Some(file) = scan.file(&path) else { continue };
        let name = name_of(dir, &path);
        let wanted = Wanted { owner, name, kind: Kind::Agent, constants: Vec::new() };
        let mut item = markdown::item(scan, &file, wanted);
        // An agent is called as its front matter says, which may have a colon.
        if let Some(name) = item.display_name.take() {
            item.qualified_name = format!("{owner}:{name}");
            item.name = name;
        }
        scan.push(item);
    }
}

/// Hooks in settings.
pub(super) fn hooks(scan: &mut Scan<'_>) {
    for path in [".claude/settings.json", ".claude/settings.local.json"] {
        let Some(file) = scan.file(path) else { continue };
        // That the file is no JSON is said by who reads what is enabled in it.
        let Ok(tree) = Tree::json(&file.text) else { continue };
        let place = if path.contains("local") { "claude-hook-local" } else { "claude-hook" };
        hooks_of(scan, &file.path, tree.get("hooks"), place);
    }
}

/// One item per command that an event would run.
pub(super) fn hooks_of(scan: &mut Scan<'_>, file: &Path, hooks: Option<&Tree>, owner: &str) {
    for (event, matchers) in hooks.map(Tree::map).unwrap_or_default() {
        let mut count = 0;
        for matcher in matchers.list() {
            for hook in matcher.get("hooks").map(Tree::list).unwrap_or_default() {
                count += 1;
                let line = hook.text_of("command").or_else(|| hook.text_of("prompt")).unwrap_or_default();
                let when = matcher.text_of("matcher").filter(|when| !when.is_empty()).unwrap_or("always");
                let mut item = Item::new(owner, format!("{event}.{count}"), Kind::Hook, Exec::Nothing, file.to_owned());
                item.description = format!("{when}: {line}");
                item.evidence = vec![scan.part("hook", line.as_bytes())];
                scan.push(item);
            }
        }
    }
}

/// `git/commit.md` is `git:commit`.
pub(super) fn name_of(dir: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(dir).unwrap_or(path).with_extension("");
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join(":")
}

/// A plugin's entries are always `PLUGIN:NAME`, whatever their front matter says.
fn named_by_plugin(mut item: Item, plugin: Option<Plugin<'_>>) -> Item {
    if let Some((plugin, _)) = plugin {
        item.name = format!("{plugin}:{}", item.name);
        item.qualified_name.clone_from(&item.name);
        item.group = Some(plugin.to_owned());
    }
    item
}

/// A skill that is one file of its own, as a plugin may name it.
pub(super) fn single_skill(scan: &mut Scan<'_>, dir: &Path, plugin: Plugin<'_>) -> bool {
    let Some(file) = scan.file(dir.join("SKILL.md")) else { return false };
    let keys = front_matter::read(scan, &file).keys;
    let folder = dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let name = if folder.is_empty() { keys.text_of("name").unwrap_or_default().to_owned() } else { folder };
    let place = scan.base().join(dir).to_string_lossy().into_owned();
    let constants =
        vec![("CLAUDE_SKILL_DIR".to_owned(), place), ("CLAUDE_PLUGIN_ROOT".to_owned(), plugin.1.to_owned())];
    let item = markdown::item(scan, &file, Wanted { owner: plugin.0, name, kind: Kind::Skill, constants });
    scan.push(named_by_plugin(item, Some(plugin)));
    true
}
