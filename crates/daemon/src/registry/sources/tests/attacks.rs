//! Ways to have another file run than the one that was agreed to. Each is tried: agreed to, then attacked, then looked at again.

use std::os::unix::fs::symlink;
use std::time::Instant;

use super::*;

const BIG: usize = (1 << 20) + 1;

/// Whether a command would run without a question, as it was agreed to.
fn runs_unasked(world: &World, (source, name): (&str, &str), agreed: &[u8]) -> bool {
    let slice = world.slice(source);
    let item = slice.items.iter().find(|item| item.name == name);
    item.is_some_and(|item| item.can_be_remembered() && item.trust_input() == agreed)
}

/// Agrees to a command that can be remembered, and attacks.
#[track_caller]
fn attack(files: &[(&str, &str)], what: (&str, &str), attack: impl FnOnce(&World)) -> World {
    let world = World::empty();
    for (path, text) in files {
        world.write(path, text);
    }
    let item = world.item(what.0, what.1);
    let unread: Vec<_> = item.unread().collect();
    assert!(item.can_be_remembered(), "{what:?} in {files:?}: {unread:?}");
    let agreed = item.trust_input();
    assert!(runs_unasked(&world, what, &agreed));
    attack(&world);
    assert!(!runs_unasked(&world, what, &agreed), "{what:?} in {files:?} runs unasked");
    world
}

/// Cannot be agreed to for good.
#[track_caller]
fn is_always_asked(files: &[(&str, &str)], (source, name): (&str, &str)) {
    let world = World::empty();
    for (path, text) in files {
        world.write(path, text);
    }
    assert!(!world.item(source, name).can_be_remembered(), "{source}:{name} in {files:?}");
    assert!(!world.messages(source).is_empty(), "{files:?}: nothing is said");
}

#[track_caller]
fn can_be_remembered(files: &[(&str, &str)], (source, name): (&str, &str)) {
    let world = World::empty();
    for (path, text) in files {
        world.write(path, text);
    }
    let item = world.item(source, name);
    assert!(item.can_be_remembered(), "{files:?}: {:?}", item.unread().collect::<Vec<_>>());
}

fn many(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect::<Vec<_>>().concat()
}

fn link(world: &World, target: &str, path: &str) {
    let path = world.root().join(path);
    let _may_be_absent = fs::remove_file(&path);
    symlink(target, path).unwrap();
}

fn big(world: &World, path: &str) {
    world.write(path, vec![b'#'; BIG]);
}

const MAKE: (&str, &str) = ("make", "build");
const MAKEFILE: (&str, &str) = ("Makefile", "build:\n\techo\n");

#[test]
fn a_file_that_the_tool_takes_first_and_that_we_cannot_read_is_not_passed_over() {
    for name in ["GNUmakefile", "makefile"] {
        attack(&[MAKEFILE], MAKE, |world| big(world, name));
        attack(&[MAKEFILE], MAKE, |world| link(world, "/proc/self/cwd/e.mk", name));
    }
    let task = [("Taskfile.dist.yml", "tasks: {build: echo}\n")];
    attack(&task, ("task", "build"), |world| big(world, "Taskfile.yml"));
    attack(&task, ("task", "build"), |world| link(world, "/proc/self/cwd/e.yml", "taskfile.yml"));
    let included =
        [("Taskfile.yml", "includes: {d: ./d}\ntasks: {build: echo}\n"), ("d/Taskfile.dist.yml", "tasks: {x: echo}\n")];
    attack(&included, ("task", "d:x"), |world| big(world, "d/Taskfile.yml"));
    attack(&included, ("task", "build"), |world| big(world, "d/Taskfile.yml"));
    let npm = [("package.json", r#"{"scripts":{"build":"tsc"}}"#)];
    attack(&npm, ("npm", "build"), |world| big(world, ".npmrc"));
    let world = attack(&npm, ("npm", "build"), |world| link(world, "/proc/self/cwd/e.npmrc", ".npmrc"));
    assert!(world.messages("npm").contains("leads out of its place: .npmrc is a link to /proc/self/cwd/e.npmrc"));
    let mise = [("mise.toml", "[tasks.build]\nrun = 'echo'\n")];
    attack(&mise, ("mise", "build"), |world| big(world, "mise.local.toml"));
    attack(&mise, ("mise", "build"), |world| world.write("mise.local.toml", "[tasks.build]\nrun = 'echo bad'\n"));
    let cargo = [(".cargo/config.toml", "[alias]\nbuild = 'check'\n")];
    attack(&cargo, ("cargo", "build"), |world| big(world, ".cargo/config"));
}

#[test]
fn an_include_that_cannot_be_read_is_evidence() {
    let make = [("Makefile", "include x.mk\n-include y.mk\nbuild:\n\techo\n"), ("x.mk", "A=1\n")];
    attack(&make, MAKE, |world| big(world, "x.mk"));
    attack(&make, MAKE, |world| big(world, "y.mk"));
    attack(&make, MAKE, |world| link(world, "../out.mk", "y.mk"));
    attack(&make, MAKE, |world| world.write("y.mk", "build:\n\techo bad\n"));
    let just =
        [("justfile", "import 'x.just'\nimport? 'y.just'\nmod? m\nbuild:\n  echo\n"), ("x.just", "x:\n  echo\n")];
    for name in ["x.just", "y.just", "m.just"] {
        attack(&just, ("just", "build"), |world| big(world, name));
        attack(&just, ("just", "build"), |world| link(world, "/proc/self/cwd/e.just", name));
    }
    is_always_asked(&[("justfile", "import '../../out.just'\nbuild:\n  echo\n")], ("just", "build"));
    is_always_asked(&[("justfile", "import '~/out.just'\nbuild:\n  echo\n")], ("just", "build"));
    let task = [("Taskfile.yml", "includes: {d: {taskfile: d.yml, optional: true}}\ntasks: {build: echo}\n")];
    attack(&task, ("task", "build"), |world| big(world, "d.yml"));
}

/// `l/../x.mk` is `x.mk` to who reads the text, and another file to make.
#[test]
fn a_link_before_a_parent_directory_is_seen() {
    let world = World::empty();
    world.write("Makefile", "include l/../x.mk\nbuild:\n\techo\n");
    world.write("x.mk", "A=1\n");
    world.write("other/deep/y", "");
    world.write("other/x.mk", "build:\n\techo bad\n");
    link(&world, "other/deep", "l");
    assert!(!world.item("make", "build").can_be_remembered());
}

#[test]
fn a_program_that_cannot_be_read_is_evidence() {
    let npm = [("package.json", r#"{"scripts":{"build":"./x.sh"}}"#), ("e.sh", "bad")];
    attack(&npm, ("npm", "build"), |world| link(world, "e.sh", "x.sh"));
    attack(&npm, ("npm", "build"), |world| link(world, "/proc/self/cwd/e.sh", "x.sh"));
    attack(&npm, ("npm", "build"), |world| link(world, "/usr/bin/true", "x.sh"));
    attack(&npm, ("npm", "build"), |world| big(world, "x.sh"));
    let item = World::empty();
    item.write("package.json", npm[0].1);
    assert!(
        item.item("npm", "build").evidence.iter().any(|one| &*one.what == "x.sh" && one.content == Content::Absent)
    );
}

#[test]
fn includes_in_every_spelling_are_followed() {
    for text in [
        "include\tx.mk",
        "  -include\tx.mk # y",
        "sinclude x.mk",
        "-include *.mk",
        "$(eval include x.mk)",
        "define T\ninclude x.mk\nendef\n$(eval $(T))",
        "A=1\n\tinclude x.mk",
    ] {
        let text = format!("build:\n\techo\n{text}\n");
        attack(&[("Makefile", &text), ("x.mk", "A=1\n")], MAKE, |world| world.write("x.mk", "build:\n\techo bad\n"));
        attack(&[("Makefile", &text), ("x.mk", "A=1\n")], MAKE, |world| big(world, "x.mk"));
    }
    attack(&[("Makefile", "-include *.mk\nbuild:\n\techo\n")], MAKE, |world| {
        world.write("new.mk", "build:\n\techo bad\n");
    });
    for text in [
        "include $(X).mk",
        "-include d*/x.mk",
        "define T\n$(X) include x.mk\nendef\n$(eval $(T))",
        "T = include x.mk\n$(eval $(T))",
        "$(eval include $(X))",
        ".RECIPEPREFIX = >",
        "include ~/x.mk",
    ] {
        is_always_asked(&[("Makefile", &format!("build:\n\techo\n{text}\n"))], MAKE);
    }
    let just = |import: &str| format!("import {import}\nbuild:\n  echo\n");
    attack(&[("justfile", &just(r#""\u{78}.just""#)), ("x.just", "")], ("just", "build"), |world| {
        world.write("x.just", "x:\n");
    });
    for import in ["x'${HOME}/x.just'", "x\"~/x.just\"", r#""\q.just""#] {
        is_always_asked(&[("justfile", &just(import))], ("just", "build"));
    }
    is_always_asked(&[("justfile", "mod m x'${HOME}/x.just'\nbuild:\n  echo\n")], ("just", "build"));
    for include in ["'{{.X}}/t.yml'", "'${X}/t.yml'", "'https://x/t.yml'"] {
        is_always_asked(
            &[("Taskfile.yml", &format!("includes: {{d: {include}}}\ntasks: {{build: echo}}\n"))],
            ("task", "build"),
        );
    }
}

#[test]
fn files_that_a_line_names_are_bound_wherever_it_runs() {
    let own = |text: &str| format!("{text}\n");
    let changed = |name: &'static str| move |world: &World| world.write(name, "bad");
    for (text, file) in [
        ("run = ['bash', './x.sh']\ndir = 'sub'", "sub/x.sh"),
        ("command = 'bash deploy'", "deploy"),
        ("command = '\"./my deploy.sh\"'", "my deploy.sh"),
        ("run = ['./my deploy.sh']", "my deploy.sh"),
        ("command = './x!'", "x!"),
        ("command = 'cd sub && ./x.sh'", "sub/x.sh"),
        ("command = 'cd sub; cd deep; ./x.sh'", "sub/deep/x.sh"),
        ("command = 'make -C sub -f x.mk'", "sub/x.mk"),
        ("command = '$PWD/x.sh'", "x.sh"),
        ("command = '$RUN'\nenv = { RUN = './e.sh' }", "e.sh"),
        ("command = '$D/e.sh'\nenv = { D = 'sub' }", "sub/e.sh"),
        ("command = 'X=./e.sh; $X'", "e.sh"),
        ("command = \"sh -c './x.sh a'\"", "x.sh"),
        ("command = 'node build'", "build.js"),
        ("command = 'node build'", "build/index.js"),
        ("command = 'python -m tools.gen'", "tools/gen.py"),
        ("command = 'sh ${X:-./x.sh}'", "x.sh"),
    ] {
        let toml = own(text);
        let files = [(".shellkeep/commands/build.toml", toml.as_str()), (file, "good")];
        attack(&files, ("shellkeep", "build"), changed(file));
    }
    let task = "tasks: {build: {dir: sub, cmds: [./x.sh]}, b: {preconditions: [{sh: ./y.sh}]}}\n";
    attack(&[("Taskfile.yml", task), ("sub/x.sh", "")], ("task", "build"), changed("sub/x.sh"));
    attack(&[("Taskfile.yml", task), ("y.sh", "")], ("task", "b"), changed("y.sh"));
    let vscode = r#"{"tasks":[{"label":"build","type":"shell","command":"bash x.sh","options":{"cwd":"sub","env":{"A":"./a.sh"}}}]}"#;
    for file in ["sub/x.sh", "sub/a.sh"] {
        attack(&[(".vscode/tasks.json", vscode), (file, "")], ("vscode", "build"), changed(file));
    }
    let vscode = r#"{"tasks":[{"label":"b","type":"npm","script":"build"}]}"#;
    let files = [(".vscode/tasks.json", vscode), ("package.json", r#"{"scripts":{"build":"tsc"}}"#)];
    attack(&files, ("vscode", "b"), |world| world.write("package.json", r#"{"scripts":{"build":"bad"}}"#));
    attack(&files, ("vscode", "b"), changed(".npmrc"));
    let mcp = r#"{"mcpServers":{"s":{"command":"sh","args":["server"]}}}"#;
    attack(&[(".mcp.json", mcp), ("server", "")], ("mcp", "s"), changed("server"));
    let npm = [
        ("package.json", r#"{"scripts":{"build":"tsc"}}"#),
        (".npmrc", "script-shell=./e.sh\nnode-options=--require ./e.js\n"),
    ];
    for file in ["e.sh", "e.js"] {
        attack(&[npm[0], npm[1], (file, "")], ("npm", "build"), changed(file));
    }
    attack(&[("Makefile", "X := $(shell ./x.sh)\nbuild:\n\techo\n"), ("x.sh", "")], MAKE, changed("x.sh"));
    attack(&[("justfile", "x := `./x.sh`\nbuild:\n  echo\n"), ("x.sh", "")], ("just", "build"), changed("x.sh"));
}

#[test]
fn what_a_line_names_and_nobody_can_know_is_asked_each_time() {
    for line in [
        "sh scripts/*.sh",
        "for f in scripts/*.sh; do sh $f; done",
        "$X/x.sh",
        "sh $(dirname $0)/x.sh",
        "cd $X && ./x.sh",
        "./{a,b}.sh",
        "source $(x)/y",
    ] {
        let toml = format!("command = '{line}'\n");
        is_always_asked(&[(".shellkeep/commands/build.toml", &toml)], ("shellkeep", "build"));
    }
    let world = World::empty();
    let names: Vec<String> = (0..70).map(|number| format!("./p{number}.sh")).collect();
    for name in &names {
        world.write(name, "");
    }
    world.write(".shellkeep/commands/build.toml", format!("command = 'cat {}'\n", names.join(" ")));
    assert!(!world.item("shellkeep", "build").can_be_remembered());
}

#[test]
fn ordinary_commands_can_be_remembered() {
    for line in [
        "cargo test --all",
        "npm run build",
        "pytest -q",
        "eslint src/**/*.ts --ext .ts,.tsx",
        "rm -rf dist/*",
        "docker build -t org/app:latest .",
        "cd sub && cargo build --release",
        "NODE_ENV=production webpack --config webpack.config.js",
        "if [ -f .env ]; then echo yes; fi",
        "python3 -m pytest tests -k 'a or b'",
        "for i in 1 2 3; do echo $i; done",
        "git log --format='%h %s' HEAD~3..",
        "curl -fsSL https://example.org/x.sh > /tmp/x",
        "find . -name '*.rs' | xargs wc -l",
        "$HOME/.cargo/bin/cargo build && ~/bin/x",
        "echo $? \"${USER}\" $(date +%F)",
        "cat /proc/cpuinfo 2>/dev/null",
        "sudo -u www ls ../..",
    ] {
        let world = World::empty();
        world.write("sub/Cargo.toml", "");
        link(&world, "/var", "build");
        world.write("package.json", serde_json::json!({"scripts": {"x": line}}).to_string());
        let item = world.item("npm", "x");
        assert!(item.can_be_remembered(), "{line}: {:?}", item.unread().collect::<Vec<_>>());
    }
    can_be_remembered(
        &[(
            "Makefile",
            "CC ?= cc\n-include x.mk\nall: build\nbuild: a.o\n\t$(CC) -I include -o $@ $<\n\t@[ -d out ] || mkdir out\n\t-rm -f *.o\n",
        )],
        MAKE,
    );
    can_be_remembered(
        &[("justfile", "set shell := ['bash', '-c']\nv := '1'\nbuild a='x':\n  cargo build {{v}} \"$@\"\n")],
        ("just", "build"),
    );
    can_be_remembered(
        &[(
            "Taskfile.yml",
            "vars: {A: 1}\ntasks: {build: {sources: ['src/**/*.go'], cmds: ['go build ./... {{.A}}']}}\n",
        )],
        ("task", "build"),
    );
}

/// 0.22 MB that took 3.7 GB, and 0.1 MB that kept a thread busy for 40 s.
#[test]
fn makefiles_that_multiply_end_soon_and_say_so() {
    let begin = Instant::now();
    let world = World::empty();
    let targets: Vec<String> = (0..20_000).map(|number| format!("t{number}")).collect();
    world.write("Makefile", format!("{}:\n{}", targets.join(" "), "\t./x.sh a b c\n".repeat(1_000)));
    let slice = world.slice("make");
    assert!(!slice.complete && slice.items.len() == 5_000, "{}", slice.items.len());
    assert!(world.messages("make").contains("more than 10000 targets"), "{}", world.messages("make"));
    let lines = many(15_000, |number| format!("\t./%x{number}\n"));
    let text = many(4_000, |number| format!("t{number}: x\n"));
    world.write("Makefile", format!("{text}{}:\n{lines}", targets[..4_000].join(" ")));
    let slice = world.slice("make");
    assert!(slice.items.iter().all(|item| !item.can_be_remembered()));
    assert!(world.messages("make").contains("more files are named than are looked at"));
    let shared: usize = slice.items.iter().map(|item| item.shared.len() + item.evidence.len()).sum();
    assert!(shared <= 3 * slice.items.len(), "evidence of a recipe is one for all its targets: {shared}");
    // Generous: a busy machine, without optimisation.
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}

#[test]
fn a_task_included_under_many_names_ends_within_the_limits() {
    let world = World::empty();
    let includes = many(100, |number| format!("  i{number}: ./t.yml\n"));
    let tasks = many(5_000, |number| format!("  t{number}: echo\n"));
    world.write("Taskfile.yml", format!("includes:\n{includes}"));
    world.write("t.yml", format!("tasks:\n{tasks}"));
    let slice = world.slice("task");
    assert!(slice.items.len() <= 5_000 && !slice.complete);
    assert!(world.messages("task").contains("too many tasks"));
}

#[test]
fn a_place_within_quotes_is_quoted_for_them_or_refused() {
    let world = World::empty();
    world.write(".shellkeep/commands/a.toml", "command = 'echo \"{{a}}\"'\n");
    world.write(".shellkeep/commands/b.toml", "command = 'echo `ls {{a}}`'\n");
    world.write(".warp/workflows/a.yaml", "name: w\ncommand: echo \"{{a}}\"\n");
    world.write(".warp/workflows/b.yaml", "name: x\ncommand: \"cat <<E\\n{{a}}\\nE\"\n");
    world.write("a.cheat", "# c\necho '<a>'\n# d\necho \"`<a>`\"\n");
    for (source, name, expected) in [
        ("shellkeep", "a", r#"echo "\$(touch PWN)'""#),
        ("warp", "w", r#"echo "\$(touch PWN)'""#),
        ("navi", "c", r"echo '$(touch PWN)'\'''"),
    ] {
        let item = world.item(source, name);
        let Exec::Line(line) = &item.exec else { panic!("{item:?}") };
        assert_eq!(line.render(&item.arguments, &["$(touch PWN)'".to_owned()]).unwrap(), expected);
    }
    for (source, names) in [("shellkeep", vec!["a"]), ("warp", vec!["w"]), ("navi", vec!["c"])] {
        assert_eq!(world.names(source), names);
        assert!(world.messages(source).contains("left out"), "{}", world.messages(source));
    }
    assert!(world.messages("shellkeep").contains("write it as a plain word"));
}
