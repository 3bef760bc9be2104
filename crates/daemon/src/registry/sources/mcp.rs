//! Servers of tools in `.mcp.json` and in the user's `~/.claude.json`. The tools come from the running server.
//!
//! Nothing is expanded here: which variables a server asks for is told, and the user's agreement says which it gets.

use std::collections::BTreeSet;
use std::path::Path;

use super::claude::Plugin;
use super::item::{Exec, Item, Kind, McpServer, Transport};
use super::programs::Text;
use super::scan::{Scan, SourceFile};
use super::tree::Tree;

/// Longest `~/.claude.json`. It is no file that people write: Claude Code keeps its own state there, megabytes of it.
const STATE_BYTES_MAX: usize = 32 << 20;

/// `.mcp.json` of a project.
pub(super) fn project(scan: &mut Scan<'_>) {
    let Some(file) = scan.file(".mcp.json") else { return };
    let Some(tree) = scan.tree(&file, Tree::json) else { return };
    if tree.get("mcpServers").is_none() {
        scan.note(&file.relative, None, "has no mcpServers");
    }
    servers(scan, &file, tree.get("mcpServers"), None, "mcp");
}

/// The user's own servers, for all projects.
pub(super) fn user(scan: &mut Scan<'_>) {
    let Some(file) = scan.large_file(".claude.json", STATE_BYTES_MAX) else { return };
    let Some(found) = scan.tree(&file, |text| Tree::json_at(text, &["mcpServers"])) else { return };
    servers(scan, &file, found.as_ref(), None, "mcp");
}

/// The user's own servers for the project at `root` alone. They stand in the home, where no project can put them.
pub(super) fn here(scan: &mut Scan<'_>, root: &Path) {
    let Some(file) = scan.large_file(".claude.json", STATE_BYTES_MAX) else { return };
    // What is wrong with the file is said where the user's servers for all projects are read.
    let Ok(found) = Tree::json_at(&file.text, &["projects", &root.to_string_lossy(), "mcpServers"]) else { return };
    scan.set_own(true);
    servers(scan, &file, found.as_ref(), None, "mcp");
}

/// Servers of a plugin: its `.mcp.json`, or what its manifest has or names.
pub(super) fn plugin(scan: &mut Scan<'_>, dir: &Path, plugin: Plugin<'_>, manifest: Option<&Tree>) {
    if let Some(Tree::Map(_)) = manifest
        && let Some(file) = scan.file(dir.join(".claude-plugin/plugin.json"))
    {
        servers(scan, &file, manifest, Some(plugin), plugin.0);
    }
    let path = manifest.and_then(Tree::text).unwrap_or(".mcp.json");
    let Some(file) = scan.file(dir.join(path)) else { return };
    let Some(tree) = scan.tree(&file, Tree::json) else { return };
    // Here the outer key may be left out.
    servers(scan, &file, Some(tree.get("mcpServers").unwrap_or(&tree)), Some(plugin), plugin.0);
}

fn servers(scan: &mut Scan<'_>, file: &SourceFile, servers: Option<&Tree>, plugin: Option<Plugin<'_>>, owner: &str) {
    for (name, described) in servers.map(Tree::map).unwrap_or_default() {
        let transport = match transport(described, plugin) {
            Ok(transport) => transport,
            Err(why) => {
                scan.note(&file.relative, None, format!("the server \"{name}\" is left out: {why}"));
                continue;
            }
        };
        let mut variables = BTreeSet::new();
        let mut look = |text: &str| variables.extend(variables_in(text));
        let (line, pairs) = match &transport {
            Transport::Stdio { command, args, env } => (format!("{command} {}", args.join(" ")), env),
            Transport::Http { url, headers } | Transport::Sse { url, headers } => (url.clone(), headers),
        };
        look(&line);
        for (_, value) in pairs {
            look(value);
        }
        let mut evidence = vec![scan.part("its entry in the file", described.plain().as_bytes())];
        if let Transport::Stdio { command, args, env } = &transport {
            let words = std::iter::once(command).chain(args).map(String::as_str);
            let names = shlex::try_join(words).unwrap_or_else(|_| line.clone());
            evidence.extend(scan.programs_in(&names, &[], env, Text::Line));
        }
        let description = line.trim().to_owned();
        let server =
            McpServer { name: name.clone(), transport, dir: scan.place(), variables: variables.into_iter().collect() };
        let mut item = Item::new(owner, name.clone(), Kind::McpServer, Exec::McpServer(server), file.path.clone());
        item.description = described.text_of("description").map_or(description, str::to_owned);
        item.group = Some(name.clone());
        item.listed = !described.truth_of("disabled").unwrap_or(false);
        item.evidence = evidence;
        if let Some((plugin, _)) = plugin {
            item.name = format!("{plugin}:{name}");
            // A command of the plugin may have the server's name.
            item.qualified_name = format!("plugin:{plugin}:{name}");
        }
        scan.push(item);
    }
}

fn transport(described: &Tree, plugin: Option<Plugin<'_>>) -> Result<Transport, &'static str> {
    let expand = |text: &str| match plugin {
        Some((_, root)) => text.replace("${CLAUDE_PLUGIN_ROOT}", root),
        None => text.to_owned(),
    };
    let pairs = |key: &str| -> Vec<(String, String)> {
        let pairs = described.get(key).map(Tree::pairs).unwrap_or_default();
        pairs.into_iter().map(|(name, value)| (name, expand(&value))).collect()
    };
    let url = || described.text_of("url").filter(|url| !url.is_empty()).map(expand).ok_or("it has no url");
    let kind = described.text_of("type").unwrap_or(if described.get("url").is_some() { "http" } else { "stdio" });
    match kind {
        "stdio" => {
            let command = described.text_of("command").filter(|command| !command.trim().is_empty());
            let args = match described.get("args") {
                None | Some(Tree::Null) => Vec::new(),
                Some(Tree::List(list)) => list.iter().filter_map(Tree::scalar).map(|arg| expand(&arg)).collect(),
                Some(_) => return Err("its args are no list"),
            };
            Ok(Transport::Stdio { command: expand(command.ok_or("it has no command")?), args, env: pairs("env") })
        }
        "http" | "streamable-http" | "streamableHttp" => Ok(Transport::Http { url: url()?, headers: pairs("headers") }),
        "sse" => Ok(Transport::Sse { url: url()?, headers: pairs("headers") }),
        _ => Err("its type is none of stdio, http and sse"),
    }
}

/// Names in `${NAME}` and `${NAME:-default}`.
fn variables_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("${") {
        let rest = &text[at + 2..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if end > 0 && (rest[end..].starts_with('}') || rest[end..].starts_with(":-")) {
            found.push(rest[..end].to_owned());
        }
    }
    found
}
