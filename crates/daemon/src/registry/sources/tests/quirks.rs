//! What real files have that their documentation does not.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

#[test]
fn front_matter_that_is_no_yaml_is_read_line_by_line_and_said() {
    let world = World::empty();
    world.write(
        ".claude/commands/a.md",
        "---\nargument-hint: [env] [tag]\ndescription: Use when: x\ndisable-model-invocation: on\n---\nbody\n",
    );
    let item = world.item("claude", "a");
    assert_eq!(item.arguments.hint.as_deref(), Some("[env] [tag]"));
    assert_eq!(item.description, "Use when: x");
    assert!(!item.agents_may);
    assert!(world.messages("claude").contains("line by line"), "{}", world.messages("claude"));
}

#[test]
fn every_form_of_an_argument_hint_is_shown_as_it_is_meant() {
    for (written, shown) in [
        ("[env]", "[env]"),
        ("[env] [tag]", "[env] [tag]"),
        ("[a, b]", "[a, b]"),
        ("<name>", "<name>"),
        ("\"[x] | y\"", "[x] | y"),
        ("{name}", "{name}"),
        ("5", "5"),
        ("add [id] | remove [id]", "add [id] | remove [id]"),
    ] {
        let world = World::empty();
        world.write(".claude/commands/a.md", format!("---\nargument-hint: {written}\n---\nbody"));
        assert_eq!(world.item("claude", "a").arguments.hint.as_deref(), Some(shown), "{written}");
    }
}

#[test]
fn a_byte_order_mark_and_foreign_line_ends_hide_nothing() {
    let world = World::empty();
    world.write(".claude/commands/a.md", "\u{feff}---\r\ndescription: x\r\nuser-invocable: 0\r\n---\r\nbody\r\n");
    world.write("package.json", "\u{feff}{\r\n\"scripts\": {\"a\": \"b\"}}\r\n");
    world.write("justfile", "\u{feff}# doc\r\nrun a='b':\r\n\techo\r\n");
    let item = world.item("claude", "a");
    assert_eq!((item.description.as_str(), item.listed), ("x", false));
    assert!(matches!(item.exec, Exec::Prompt(prompt) if &*prompt.text == "body\n"));
    assert_eq!(world.names("npm"), ["a"]);
    assert_eq!(world.item("just", "run").description, "doc");
}

#[test]
fn front_matter_that_never_ends_is_text() {
    let world = World::empty();
    world.write(".claude/commands/a.md", "---\ndescription: x\nno end");
    assert_eq!(world.item("claude", "a").description, "description: x");
    world.write(".claude/commands/b.md", "--- not a fence\n---\n# Title");
    assert_eq!(world.item("claude", "b").description, "--- not a fence");
}

#[test]
fn the_program_that_runs_scripts_is_the_one_the_project_has() {
    for (lock, manager) in [("yarn.lock", "yarn"), ("bun.lockb", "bun"), ("pnpm-lock.yaml", "pnpm"), ("x", "npm")] {
        let world = World::empty();
        world.write("package.json", r#"{"scripts":{"a":"b"}}"#);
        world.write(lock, "");
        let Exec::Program(program) = world.item("npm", "a").exec else { panic!("no program") };
        assert_eq!(program.argv, [manager, "run", "a"]);
        let added = program.with(&["--x".to_owned()]).unwrap();
        assert_eq!(added.contains(&"--".to_owned()), manager == "npm", "{added:?}");
    }
}

/// R-19.
#[test]
fn bad_or_missing_files_of_plugins_mean_no_plugins_and_no_error() {
    let installed = ".claude/plugins/installed_plugins.json";
    for (settings, plugins) in [
        (None, None),
        (Some("{"), Some("{\"version\":2,\"plugins\":{\"a@b\":[]}}")),
        (Some("{\"enabledPlugins\":[1]}"), Some("[]")),
        (
            Some("{\"enabledPlugins\":{\"a@b\":true}}"),
            Some("{\"plugins\":{\"a@b\":[{\"scope\":7,\"installPath\":1}]}}"),
        ),
        (Some("{\"enabledPlugins\":{\"a@b\":true}}"), Some("{\"plugins\":{\"a@b\":\"x\"}}")),
    ] {
        let world = World::empty();
        fs::create_dir_all(world.places.home.join(".claude/plugins")).unwrap();
        for (path, text) in [(".claude/settings.json", settings), (installed, plugins)] {
            if let Some(text) = text {
                fs::write(world.places.home.join(path), text).unwrap();
            }
        }
        world.write("package.json", r#"{"scripts":{"a":"b"}}"#);
        assert_eq!(world.slice("claude-plugins").items, []);
        assert_eq!(world.names("npm"), ["a"]);
    }
}

/// Version 1 of the file, where a plugin has one place.
#[test]
fn plugins_of_the_older_file_are_found() {
    let world = World::empty();
    let plugin = world.places.home.join("p");
    fs::create_dir_all(plugin.join("commands")).unwrap();
    fs::write(plugin.join("commands/go.md"), "Go.").unwrap();
    fs::create_dir_all(world.places.home.join(".claude/plugins")).unwrap();
    fs::write(world.places.home.join(".claude/settings.json"), r#"{"enabledPlugins":{"tool@m":true}}"#).unwrap();
    let installed = format!(r#"{{"version":1,"plugins":{{"tool@m":{{"version":"1.0.0","installPath":{plugin:?}}}}}}}"#);
    fs::write(world.places.home.join(".claude/plugins/installed_plugins.json"), installed).unwrap();
    assert_eq!(world.names("claude-plugins"), ["tool:go"]);
}

/// Trust: project files never say what runs unasked. What they switch on is a project's matter, be it installed by the user.
#[test]
fn only_what_the_home_alone_says_of_a_project_is_the_users_own_word() {
    let world = World::empty();
    let home = |path: &str, text: String| {
        let path = world.places.home.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let root = world.root();
    let mut installed = serde_json::json!({"version": 2, "plugins": {}});
    for (name, scope) in
        [("everywhere", "user"), ("asked-for", "user"), ("mine-here", "local"), ("theirs-here", "project")]
    {
        let path = world.places.home.join("plugins").join(name);
        home(&format!("plugins/{name}/.mcp.json"), r#"{"s":{"command":"x"}}"#.to_owned());
        installed["plugins"][format!("{name}@m")] =
            serde_json::json!([{"scope": scope, "projectPath": root, "version": "1.0.0", "installPath": path}]);
    }
    home(".claude/plugins/installed_plugins.json", installed.to_string());
    home(".claude/settings.json", r#"{"enabledPlugins":{"everywhere@m":true,"mine-here@m":true}}"#.to_owned());
    let of_project = r#"{"enabledPlugins":{"everywhere@m":true,"asked-for@m":true,"theirs-here@m":true}}"#;
    world.write(".claude/settings.json", of_project);
    home(
        ".claude.json",
        serde_json::json!({"projects": {root.to_str().unwrap(): {"mcpServers": {"own": {"command": "x"}}},
        "/elsewhere": {"mcpServers": {"not-here": {"command": "x"}}}}})
        .to_string(),
    );
    world.write(".mcp.json", r#"{"mcpServers":{"own":{"command":"theirs"},"other":{"command":"x"}}}"#);
    let servers: Vec<(String, Scope, bool, Option<PathBuf>)> = world
        .slices()
        .into_iter()
        .flat_map(|slice| slice.items)
        .map(|item| {
            let Exec::McpServer(server) = item.exec else { panic!("{}", item.qualified_name) };
            (item.qualified_name, item.scope, item.is_own, server.dir)
        })
        .collect();
    let at_root = || Some(root.clone());
    let expected = [
        ("mcp:other", Scope::Project, false, at_root()),
        ("mcp:own", Scope::Project, true, at_root()),
        ("plugin:asked-for:s", Scope::Project, false, at_root()),
        ("plugin:mine-here:s", Scope::Project, true, at_root()),
        ("plugin:theirs-here:s", Scope::Project, false, at_root()),
        ("plugin:everywhere:s", Scope::User, false, None),
    ];
    assert_eq!(servers, expected.map(|(name, scope, is_own, dir)| (name.to_owned(), scope, is_own, dir)));
    assert!(world.messages("mcp").contains("you have one of that name"));
}

/// It is the state of a program that is used every day; only what stands at two keys of it is ours.
#[test]
fn the_users_servers_are_found_in_megabytes_of_other_state() {
    let world = World::empty();
    let root = world.root();
    let history: Vec<String> = (0..40_000).map(|n| format!("{n}: {}", "what was asked ".repeat(8))).collect();
    let state = serde_json::json!({
        "history": history,
        "mcpServers": {"everywhere": {"command": "x"}},
        "projects": {root.to_str().unwrap(): {"history": ["a"], "mcpServers": {"here": {"command": "y"}}}, "/other": 3},
    });
    let text = state.to_string();
    assert!(text.len() > 4 << 20);
    fs::write(world.places.home.join(".claude.json"), text).unwrap();
    let items = world.slices().into_iter().flat_map(|slice| slice.items);
    let names: Vec<_> = items.map(|item| item.qualified_name).collect();
    assert_eq!(names, ["mcp:here", "mcp:everywhere"]);
}

/// R-30.
#[test]
fn a_source_that_fails_hides_no_other() {
    let world = World::empty();
    for path in ["package.json", ".mcp.json", "mise.toml", "Taskfile.yml", ".vscode/tasks.json", ".cargo/config.toml"] {
        world.write(path, "{ [ \u{0} not anything");
    }
    world.write("justfile", "run:\n");
    assert_eq!(world.names("just"), ["run"]);
    let slices = world.slices();
    for source in ["npm", "mcp", "mise", "task", "vscode", "cargo"] {
        let slice = slices.iter().find(|slice| slice.source == source && slice.scope == Scope::Project).unwrap();
        assert_eq!((slice.items.len(), slice.diagnostics.len()), (0, 1), "{source}");
    }
}

/// R-33.
#[test]
fn names_that_cannot_be_typed_or_would_be_options_are_refused_and_said() {
    let world = World::empty();
    let long = "x".repeat(200);
    let scripts = ["a b", "a/b", "--help", "\u{202e}x", "\u{1b}[1m", &long, "good"];
    let scripts: Vec<String> = scripts.iter().map(|name| format!("{}:\"x\"", serde_json::json!(name))).collect();
    world.write("package.json", format!("{{\"scripts\":{{{}}}}}", scripts.join(",")));
    assert_eq!(world.names("npm"), ["good"]);
    assert_eq!(world.slice("npm").diagnostics.len(), 6);
    let said = world.messages("npm");
    assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said:?}");
}

#[test]
fn links_that_leave_their_place_are_refused_and_those_inside_are_followed() {
    let world = World::empty();
    let secret = world.places.home.join("secret.md");
    fs::write(&secret, "secret").unwrap();
    world.write("real/inside.md", "inside");
    world.write(".claude/commands/plain.md", "plain");
    let commands = world.root().join(".claude/commands");
    symlink(&secret, commands.join("leak.md")).unwrap();
    symlink("../../real/inside.md", commands.join("linked.md")).unwrap();
    symlink("../../real", commands.join("dir")).unwrap();
    symlink("nowhere", commands.join("broken.md")).unwrap();
    symlink(&world.places.home, world.root().join(".gemini")).unwrap();
    symlink("../home/secret.md", world.root().join("Makefile")).unwrap();
    world.write("justfile", "import '../home/secret.just'\nrun:\n");
    fs::write(world.places.home.join("secret.just"), "leak:\n").unwrap();
    assert_eq!(world.names("claude"), ["dir:inside", "linked", "plain"]);
    assert!(world.messages("claude").contains("leads out of its place"));
    assert_eq!(world.names("just"), ["run"]);
    assert_eq!(world.slice("make").items, []);
    assert!(!world.listing().contains("secret\n"));
}

#[test]
fn a_pipe_in_the_place_of_a_file_stops_nobody() {
    let world = World::empty();
    for name in ["package.json", "justfile"] {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            world.root().join(name),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
    }
    assert!(world.messages("npm").contains("it is no file"));
}

#[test]
fn a_change_of_what_would_run_changes_what_was_agreed_to() {
    let world = World::empty();
    world.write("package.json", r#"{"scripts":{"a":"node tool.js","b":"x"},"version":"1"}"#);
    world.write("tool.js", "1");
    let before = world.item("npm", "a").trust_input();
    world.write("package.json", r#"{"scripts":{"a":"node tool.js","b":"x"},"version":"2"}"#);
    assert_eq!(world.item("npm", "a").trust_input(), before, "a version changes nothing that runs");
    for (path, text) in [
        ("tool.js", "2"),
        (".npmrc", "script-shell=/tmp/x"),
        ("yarn.lock", ""),
        ("package.json", r#"{"scripts":{"a":"node tool.js","b":"y"}}"#),
    ] {
        world.write(path, text);
        let after = world.item("npm", "a").trust_input();
        assert_ne!(after, before, "{path}");
        fs::remove_file(world.root().join(path)).unwrap();
        world.write("package.json", r#"{"scripts":{"a":"node tool.js","b":"x"}}"#);
        world.write("tool.js", "1");
    }
    world.write("justfile", "v := 'a'\nrun:\n  ./tool.js {{v}}\nother:\n");
    let before = world.item("just", "run").trust_input();
    world.write("justfile", "v := 'b'\nrun:\n  ./tool.js {{v}}\nother:\n");
    assert_ne!(world.item("just", "run").trust_input(), before);
}

#[test]
fn evidence_that_is_too_large_cannot_be_remembered() {
    let world = World::empty();
    world.write("package.json", r#"{"scripts":{"a":"./big.sh"}}"#);
    world.write("big.sh", vec![b'#'; (1 << 20) + 1]);
    assert!(!world.item("npm", "a").can_be_remembered());
}

#[test]
fn a_template_in_a_description_is_shown_and_never_run() {
    let world = World::empty();
    let out = world.root().join("ran");
    let run = format!("touch {}", out.display());
    world.write("mise.toml", format!("[tasks.a]\ndescription = \"{{{{ exec(command='{run}') }}}}\"\nrun = '{run}'\n"));
    world.write("justfile", format!("x := `{run}`\na:\n  {run}\n"));
    world.write("Makefile", format!("X := $(shell {run})\na: ## $(shell {run})\n\t{run}\n"));
    assert!(world.item("mise", "a").description.contains("exec("));
    assert_eq!(world.names("just"), ["a"]);
    assert_eq!(world.names("make"), ["a"]);
    assert!(!out.exists());
}

#[test]
fn files_of_tasks_that_nobody_may_execute_are_none() {
    let world = World::empty();
    world.write("mise-tasks/yes", "#!/bin/sh\n//MISE description=\"x\"\n");
    world.write("mise-tasks/no", "#!/bin/sh\n");
    fs::set_permissions(world.root().join("mise-tasks/yes"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(world.names("mise"), ["yes"]);
    assert_eq!(world.item("mise", "yes").description, "x");
}

#[test]
fn files_that_include_each_other_end() {
    let world = World::empty();
    world.write("justfile", "import 'a.just'\nmod b\nrun:\n");
    world.write("a.just", "import 'justfile'\nimport 'a.just'\na:\n");
    world.write("b.just", "mod b\nimport 'justfile'\nb:\n");
    world.write("Taskfile.yml", "includes: {self: ./Taskfile.yml, a: a.yml}\ntasks: {x: echo}\n");
    world.write("a.yml", "includes: {back: ./Taskfile.yml}\ntasks: {y: echo}\n");
    world.write("Makefile", "include Makefile\ninclude m.mk\nall:\n");
    world.write("m.mk", "include Makefile\n");
    assert_eq!(world.names("just"), ["run", "a", "b::b"]);
    assert_eq!(world.names("task"), ["x", "a:y"]);
    assert_eq!(world.names("make"), ["all"]);
}

#[test]
fn the_order_and_the_bytes_are_the_same_each_time() {
    let world = World::of("claude-code");
    assert_eq!(world.slices(), world.slices());
}
