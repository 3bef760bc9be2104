//! Plugins of Claude Code that the user has installed and not switched off.
//!
//! What is installed is in the home's `installed_plugins.json`, of which there are two versions; what is on, in
//! `enabledPlugins` of the settings: user, then project, then local. Whatever is missing or no JSON means no plugins,
//! never an error that hides something else.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::claude::{self, Plugin};
use super::mcp;
use super::scan::Scan;
use super::tree::Tree;

const INSTALLED: &str = ".claude/plugins/installed_plugins.json";

/// Switched on or off, by the plugin's id, the later word counts.
pub(super) type Enabled = Vec<(String, bool)>;

/// `enabledPlugins` of the base's settings.
pub(super) fn enabled_in(scan: &mut Scan<'_>) -> Enabled {
    let mut enabled = Vec::new();
    for path in [".claude/settings.json", ".claude/settings.local.json"] {
        let Some(file) = scan.file(path) else { continue };
        let Some(tree) = scan.tree(&file, Tree::json) else { continue };
        match tree.get("enabledPlugins") {
            None => {}
            Some(Tree::Map(pairs)) => {
                // A list is a wish for versions, and a wish to have it.
                let word = |value: &Tree| value.truth().unwrap_or(matches!(value, Tree::List(_)));
                enabled.extend(pairs.iter().map(|(id, value)| (id.clone(), word(value))));
            }
            Some(_) => scan.note(&file.relative, None, "enabledPlugins is no map; no plugin is taken from it"),
        }
    }
    enabled
}

/// One place where a plugin is installed.
struct Install {
    /// More says more: user, project, local.
    rank: u8,
    path: PathBuf,
    version: String,
    updated: String,
}

/// All that is installed for all projects and that the user has switched on.
pub(super) fn user(scan: &mut Scan<'_>) {
    read(scan, None);
}

/// What comes to that in the project at `root`, whose settings say `enabled`: what is installed for it alone, and what its settings
/// switch on. Only what the user's settings switch on too is the user's own word.
pub(super) fn here(scan: &mut Scan<'_>, root: &Path, enabled: &Enabled) {
    read(scan, Some((root, enabled)));
}

fn read(scan: &mut Scan<'_>, here: Option<(&Path, &Enabled)>) {
    let by_user = enabled_in(scan);
    let root = here.map(|(root, _)| root);
    let Some(file) = scan.file(INSTALLED) else { return };
    let Some(tree) = scan.tree(&file, Tree::json) else { return };
    let Some(plugins) = tree.get("plugins").filter(|plugins| matches!(plugins, Tree::Map(_))) else {
        scan.note(&file.relative, None, "has no map of plugins; none is taken from it");
        return;
    };
    let mut seen = HashSet::new();
    for (id, installs) in plugins.map() {
        let word = |enabled: &Enabled| enabled.iter().rev().find(|(name, _)| name == id).map(|(_, on)| *on);
        let by_user = word(&by_user).unwrap_or(false);
        let is_on = here.and_then(|(_, enabled)| word(enabled)).unwrap_or(by_user);
        // What is on everywhere is so here, and was read with what is the user's.
        let is_everywhere = here.is_some() && by_user && !installs_of(id, installs, None).is_empty();
        let name = id.split_once('@').map_or(id.as_str(), |(name, _)| name);
        if !is_on || is_everywhere || name.is_empty() {
            continue;
        }
        let installs = installs_of(id, installs, root);
        if installs.is_empty() {
            continue;
        }
        // The newest may be gone from the disk, as after a half-done update: the next one serves.
        let Some(install) = installs.into_iter().find(|install| scan.exists(&install.path)) else {
            scan.note(&file.relative, None, format!("\"{id}\" is installed, but its directory cannot be read"));
            continue;
        };
        if !seen.insert(name.to_owned()) {
            scan.note(&file.relative, None, format!("\"{id}\" is left out: another plugin is called \"{name}\" too"));
            continue;
        }
        scan.set_own(here.is_some() && by_user);
        plugin(scan, name, &install);
    }
}

/// Where a plugin may be taken from for this project, the best first.
fn installs_of(id: &str, installs: &Tree, root: Option<&Path>) -> Vec<Install> {
    // Version 1 of the file has one map for a plugin, version 2 a list of them.
    let list = if matches!(installs, Tree::Map(_)) { std::slice::from_ref(installs) } else { installs.list() };
    let mut found: Vec<Install> = list
        .iter()
        .filter_map(|install| {
            let is_here = || {
                let path = Path::new(install.text_of("projectPath")?).canonicalize().ok()?;
                (Some(path.as_path()) == root).then_some(())
            };
            let rank = match install.text_of("scope") {
                None | Some("user" | "managed") => 0,
                Some("project") => is_here().map(|()| 1)?,
                Some("local") => is_here().map(|()| 2)?,
                Some(_) => return None,
            };
            let version = install.get("version").and_then(Tree::scalar).unwrap_or_default();
            let path = match install.text_of("installPath") {
                Some(path) => PathBuf::from(path),
                None => cached(id, &version)?,
            };
            let updated = install.text_of("lastUpdated").or_else(|| install.text_of("installedAt"));
            Some(Install { rank, path, version, updated: updated.unwrap_or_default().to_owned() })
        })
        .collect();
    found.sort_by(|one, other| {
        let key = |install: &Install| (install.rank, version_key(&install.version), install.updated.clone());
        key(other).cmp(&key(one))
    });
    found
}

/// Where Claude Code keeps a version.
fn cached(id: &str, version: &str) -> Option<PathBuf> {
    let (name, market) = id.split_once('@')?;
    (!version.is_empty()).then(|| Path::new(".claude/plugins/cache").join(market).join(name).join(version))
}

/// `1.10.0` comes after `1.9.0`; what is no number comes before all numbers.
fn version_key(version: &str) -> Vec<u64> {
    version
        .trim_start_matches('v')
        .split(['.', '-', '+'])
        .map(|part| part.parse().map_or(0, |n: u64| n.saturating_add(1)))
        .collect()
}

fn plugin(scan: &mut Scan<'_>, name: &str, install: &Install) {
    let dir = install.path.strip_prefix(scan.base()).unwrap_or(&install.path).to_owned();
    let place = scan.base().join(&dir).to_string_lossy().into_owned();
    let plugin: Plugin<'_> = (name, &place);
    let manifest = scan.file(dir.join(".claude-plugin/plugin.json"));
    let manifest = manifest.and_then(|file| scan.tree(&file, Tree::json)).unwrap_or(Tree::Null);
    if let Some(other) = manifest.text_of("name").filter(|other| *other != name) {
        let message = format!("is installed as \"{name}\", its manifest says \"{other}\"");
        scan.note(&dir.join(".claude-plugin/plugin.json"), None, message);
    }
    let mut skills = HashSet::new();
    for path in paths(&dir, &manifest, "skills") {
        if !claude::single_skill(scan, &path, plugin) {
            skills.extend(claude::skills(scan, &path, name, Some(plugin)));
        }
    }
    for path in paths(&dir, &manifest, "commands") {
        claude::commands(scan, &path, name, Some(plugin), &skills);
    }
    for path in paths(&dir, &manifest, "agents") {
        claude::agents(scan, &path, &format!("{name}-agent"));
    }
    let hooks = manifest.get("hooks");
    if let Some(Tree::Map(_)) = hooks {
        claude::hooks_of(scan, &scan.base().join(&dir), hooks, &format!("{name}-hook"));
    } else {
        let path = hooks.and_then(Tree::text).unwrap_or("hooks/hooks.json");
        if let Some(file) = scan.file(dir.join(path))
            && let Some(tree) = scan.tree(&file, Tree::json)
        {
            claude::hooks_of(scan, &file.path, tree.get("hooks"), &format!("{name}-hook"));
        }
    }
    mcp::plugin(scan, &dir, plugin, manifest.get("mcpServers"));
}

/// The standard folder and those that the manifest adds, all inside the plugin.
fn paths(dir: &Path, manifest: &Tree, what: &str) -> Vec<PathBuf> {
    let mut paths = vec![dir.join(what)];
    for path in manifest.get(what).map(Tree::texts).unwrap_or_default() {
        let path = super::scan::tidy(&dir.join(path));
        if path.starts_with(dir) && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}
