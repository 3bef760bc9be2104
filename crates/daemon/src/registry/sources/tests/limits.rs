//! Whatever lies there, reading it ends, within its limits, and says what it left out.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Instant;

use proptest::prelude::*;

use super::*;

/// Files that some source reads, for a project; the last one is executable.
const FILES: [&str; 20] = [
    ".mcp.json",
    ".shellkeep/commands/a.toml",
    ".cargo/config.toml",
    "justfile",
    "a.just",
    "Makefile",
    "a.mk",
    "Taskfile.yml",
    "mise.toml",
    ".vscode/tasks.json",
    ".gemini/commands/a.toml",
    ".claude/commands/a.md",
    ".claude/skills/a/SKILL.md",
    ".claude/settings.json",
    "package.json",
    "pnpm-workspace.yaml",
    "p/package.json",
    ".warp/workflows/a.yaml",
    "a.cheat",
    "mise-tasks/a",
];

/// Pieces that the formats are made of, so that chance gets further than the first byte.
const PIECES: [&str; 56] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "'''",
    "`",
    "---\n",
    "\n",
    "\r\n",
    "\t",
    "  ",
    ": ",
    ":=",
    "=",
    "#",
    "##",
    "$1",
    "$ARGUMENTS",
    "{{args}}",
    "{{a}}",
    "<a>",
    "${A:-b}",
    "&a ",
    "*a",
    "<<: *a",
    "- ",
    "scripts",
    "workspaces",
    "packages/**",
    "import 'a.just'",
    "include a.mk",
    "mod a",
    "alias a := b",
    "mcpServers",
    "command",
    "tasks",
    "includes",
    "[tasks.a]",
    "[[command]]",
    "name = \"x\"",
    "prompt = \"x\"",
    "description: x",
    "a b='c': d",
    "%",
    ".PHONY:",
    "define x",
    "\\\n",
    "\u{feff}",
    "\u{0}",
    "é\u{202e}",
    "\"a\": {",
    "\"a\": [",
    "[private, doc('x')]",
    "#MISE a=1",
];

fn content() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_any_file_end_within_the_limits(
        files in prop::collection::vec((0..FILES.len(), content()), 1..8),
        given in "\\PC{0,40}",
    ) {
        let world = World::empty();
        for (index, content) in &files {
            world.write(FILES[*index], content);
        }
        let task = world.root().join("mise-tasks/a");
        if task.exists() {
            fs::set_permissions(&task, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let begin = Instant::now();
        let limits = patient();
        for slice in world.discover(&limits) {
            prop_assert!(slice.diagnostics.iter().all(|one| !one.message.contains("its reader failed")), "{slice:?}");
            prop_assert!(slice.items.len() <= limits.items);
            for item in slice.items {
                prop_assert!(crate::registry::names::check(&item.name).is_ok());
                prop_assert!(crate::registry::names::check(&item.qualified_name).is_ok());
                prop_assert!(!item.description.contains(|c: char| c.is_control()));
                match &item.exec {
                    Exec::Prompt(prompt) => drop(prompt.render(&given)),
                    Exec::Line(line) => drop(line.render(&item.arguments, std::slice::from_ref(&given))),
                    Exec::Program(program) => drop(program.with(std::slice::from_ref(&given))),
                    Exec::McpServer(_) | Exec::Nothing => {}
                }
                item.trust_input();
            }
        }
        prop_assert!(begin.elapsed() < limits.time);
    }
}

/// R-31.
#[test]
fn files_beyond_the_limit_are_left_out_at_the_same_place_each_time() {
    let world = World::empty();
    for number in 0..40 {
        world.write(&format!(".claude/commands/c{number:02}.md"), "x");
    }
    let limits = Limits { files: 20, ..patient() };
    let slice = |limits: &Limits| world.discover(limits).into_iter().find(|slice| slice.source == "claude").unwrap();
    let names: Vec<String> = slice(&limits).items.into_iter().map(|item| item.name).collect();
    let expected: Vec<String> = (0..10).map(|number| format!("c{number:02}")).collect();
    assert_eq!(names, expected, "half of what is left is one source's share");
    assert!(!slice(&limits).complete);
    assert!(slice(&limits).diagnostics.iter().any(|one| one.message.contains("too many files")));
    assert_eq!(slice(&limits), slice(&limits));
    assert!(slice(&patient()).complete);
}

/// R-31.
#[test]
fn items_beyond_the_limit_are_left_out_and_counted() {
    let world = World::empty();
    let scripts: Vec<String> = (0..30).map(|number| format!("\"s{number:02}\":\"x\"")).collect();
    world.write("package.json", format!("{{\"scripts\":{{{}}}}}", scripts.join(",")));
    let limits = Limits { items: 10, ..patient() };
    let slice = world.discover(&limits).into_iter().find(|slice| slice.source == "npm").unwrap();
    assert_eq!((slice.items.len(), slice.complete), (10, false));
    assert!(slice.diagnostics[0].message.starts_with("20 more items"), "{:?}", slice.diagnostics);
}

#[test]
fn an_item_and_a_file_that_are_too_large_are_left_out_and_said() {
    let world = World::empty();
    let line = "x".repeat(20 << 10);
    world.write("package.json", format!(r#"{{"scripts":{{"big":"{line}","small":"x"}}}}"#));
    world.write(".cargo/config.toml", "#".repeat((1 << 20) + 1));
    // The line is the description, which is cut; what an editor's task runs is not.
    world.write(".vscode/tasks.json", format!(r#"{{"tasks":[{{"label":"big","type":"shell","command":"{line}"}}]}}"#));
    assert_eq!(world.names("npm"), ["big", "small"]);
    assert!(world.item("npm", "big").description.len() <= 1 << 10);
    assert_eq!(world.slice("vscode").items, []);
    assert!(world.messages("vscode").contains("an item may have 16384"));
    assert!(world.messages("cargo").contains("larger than 1048576 bytes"));
}

#[test]
fn directories_deeper_than_the_limit_and_rings_of_links_end() {
    let world = World::empty();
    let deep = "d/".repeat(12);
    world.write(&format!(".claude/commands/{deep}x.md"), "x");
    world.write(".claude/commands/a.md", "x");
    let commands = world.root().join(".claude/commands");
    symlink(".", commands.join("ring")).unwrap();
    let slice = world.slice("claude");
    assert!(!slice.complete);
    assert!(slice.diagnostics.iter().any(|one| one.message.contains("deeper than 8")));
    assert!(slice.items.len() <= 8, "one for each turn of the ring");
}

#[test]
fn time_that_is_over_gives_what_was_read_until_then_and_says_so() {
    let world = World::empty();
    world.write("package.json", r#"{"scripts":{"a":"b"}}"#);
    let limits = Limits { time: Duration::ZERO, ..Limits::default() };
    let slice = world.discover(&limits).into_iter().find(|slice| slice.source == "npm").unwrap();
    assert_eq!((slice.items.len(), slice.complete), (0, false));
    assert!(slice.diagnostics[0].message.contains("are over"), "{:?}", slice.diagnostics);
}

#[test]
fn patterns_of_a_workspace_that_mean_everything_end() {
    let world = World::empty();
    for one in 0..6 {
        for two in 0..6 {
            world.write(&format!("a{one}/b{two}/package.json"), r#"{"scripts":{"x":"y"}}"#);
        }
    }
    let pattern = "**/".repeat(30);
    let braces = "{a,b}".repeat(40);
    world.write("package.json", format!(r#"{{"workspaces":["{pattern}*","**","{braces}","[","!{braces}"]}}"#));
    assert_eq!(world.slice("npm").items.len(), 36);
}

#[test]
fn long_front_matter_is_not_read_and_said() {
    let world = World::empty();
    let text = format!("---\ndescription: x\nlong: {}\n---\n# Title\n", "x".repeat(64 << 10));
    world.write(".claude/commands/a.md", text);
    assert_eq!(world.item("claude", "a").description, "Title");
    assert!(world.messages("claude").contains("longer than 65536 bytes"));
}

#[test]
fn a_file_that_many_lines_name_is_read_once() {
    let world = World::empty();
    let scripts: Vec<String> = (0..100).map(|number| format!("\"s{number}\":\"node tool.js {number}\"")).collect();
    world.write("package.json", format!("{{\"scripts\":{{{}}}}}", scripts.join(",")));
    world.write("tool.js", "x");
    let limits = Limits { files: 8, ..patient() };
    let slice = world.discover(&limits).into_iter().find(|slice| slice.source == "npm").unwrap();
    assert!(slice.complete, "{:?}", slice.diagnostics);
    assert!(
        slice.items.iter().all(|item| item.evidence().filter(|one| one.content != Content::Absent).count() == 2
            && item.can_be_remembered())
    );
}
