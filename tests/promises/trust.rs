//! What a person is shown before a command of a project runs, and told when one cannot: in words, on a small terminal, with a next step.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use torture::screen::Screen;

use crate::world::{World, eventually};

const JUSTFILE: &str = "# Runs the tests\ntest *ARGS: build\n    cargo test {{ARGS}}\n\nbuild:\n    cargo build\n";

fn write(root: &Path, name: &str, text: &str) -> Result<()> {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().context("it lies in a directory")?)?;
    Ok(std::fs::write(path, text)?)
}

/// A project with a justfile of many lines, and a session in it that is called "work".
fn project(world: &World) -> Result<PathBuf> {
    let root = world.outside().canonicalize()?.join("work");
    let more: Vec<String> = (0..200).map(|number| format!("\nrecipe-{number}:\n    echo {number}\n")).collect();
    write(&root, "justfile", &format!("{JUSTFILE}{}", more.concat()))?;
    let mut command = world.command(["start", "--detached", "-n", "work", "--", "/bin/sleep", "600"]);
    let output = command.current_dir(&root).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(root)
}

/// Task runners that say what they were started with.
fn install(world: &World, names: &[&str]) -> Result<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let bin = world.outside().join("tools");
    for name in names {
        write(&bin, name, "#!/bin/sh\necho ran \"$(basename \"$0\")\" \"$@\" secret=\"$SECRET\"\nexit ${STATUS:-0}\n")?;
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(format!("{}:/usr/bin:/bin", bin.display()))
}

/// At a terminal, where also what goes to standard error is seen.
fn at_terminal(world: &World, path: &str, line: &str) -> Result<Screen> {
    let program = world.program().display();
    let script =
        format!("PATH={path}; export PATH; sk() {{ '{program}' \"$@\"; }}; {{ {line}; }} 2>&1; echo status-$?");
    Screen::of(world, Path::new("/bin/sh"), &["-c", &script])
}

fn text(screen: &Screen) -> String {
    String::from_utf8_lossy(&screen.shown()).into_owned()
}

/// What 80 columns and 24 rows show of it.
fn seen(shown: &str) -> Result<String> {
    let mut terminal = avt::Terminal::new(80, 24).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    terminal.feed(shown);
    Ok(terminal.screen().text().join("\n"))
}

fn said(world: &World, path: &str, args: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = world.command(args).env("PATH", path).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code(), text(output.stdout), text(output.stderr)))
}

#[test]
fn the_question_fits_a_small_terminal_with_the_line_as_it_was_asked_for() -> Result<()> {
    let world = World::new()?;
    let root = project(&world)?;
    let path = install(&world, &["just"])?;
    let mut screen = at_terminal(&world, &path, "sk run --session work test --no-capture 'a b'")?;
    screen.shows("[y/N]")?;
    let seen = seen(&text(&screen))?;
    let root = root.display().to_string();
    for part in
        ["does: test *ARGS: build", "does:     cargo test", "more lines", "shellkeep trust --show just:test", &root]
    {
        ensure!(seen.contains(part), "{part} is not in\n{seen}");
    }
    ensure!(seen.contains("  just test --no-capture 'a b'\n"), "{seen}");
    ensure!(!seen.contains("recipe-1"), "{seen}");
    screen.keys(b"\r")?;
    screen.shows("status-1")?;
    let shown = text(&screen);
    ensure!(shown.contains("not trusted yet") && shown.contains("\"shellkeep run test\" asks again"), "{shown}");
    let (_, all, _) = said(&world, &path, &["trust", "--session", "work", "--show", "just:test"])?;
    ensure!(all.contains("recipe-199:") && all.contains("runs: just test\n"), "{all}");
    Ok(())
}

#[test]
fn a_change_is_told_by_where_it_is() -> Result<()> {
    let world = World::new()?;
    let root = project(&world)?;
    let path = install(&world, &["just"])?;
    let yes = |part: &[&str]| -> Result<()> {
        let mut screen = at_terminal(&world, &path, "sk trust --session work test")?;
        screen.shows("[y/N]")?;
        let shown = text(&screen).replace("\r\n", "\n");
        ensure!(part.iter().all(|part| shown.contains(part)), "{part:?} is not in\n{shown}");
        screen.keys(b"y\r")?;
        screen.shows("status-0")
    };
    yes(&["is new here"])?;
    let justfile = std::fs::read_to_string(root.join("justfile"))?;
    let reloaded = || world.ok(&["reload", "--session", "work"]);
    write(&root, "justfile", &justfile.replace("echo 100", "echo other"))?;
    reloaded()?;
    yes(&["not the command itself", "-       echo 100", "+       echo other", "\n    recipe-100:"])?;
    write(&root, "justfile", &justfile.replace("cargo test", "cargo nextest"))?;
    reloaded()?;
    yes(&["the command itself:", "- does:     cargo test", "+ does:     cargo nextest", "  does: test *ARGS: build"])?;
    ensure!(world.ok(&["trust", "--list"])?.contains("just:test"));
    Ok(())
}

/// Its file's text, not what a parser made of it.
/// What it runs is too large to be remembered.
#[test]
fn an_answer_that_is_forgotten_is_asked_for_only_where_the_command_runs() -> Result<()> {
    let world = World::new()?;
    let root = project(&world)?;
    write(&root, "big.sh", &format!("echo it ran\nexit\n{}", "#".repeat(2 << 20)))?;
    write(&root, "justfile", "big:\n    sh big.sh\n")?;
    world.ok(&["reload", "--session", "work"])?;
    let path = install(&world, &["just"])?;
    let mut screen = at_terminal(&world, &path, "sk run --session work big")?;
    screen.shows("Run it this once? [y/N]")?;
    screen.keys(b"y\r")?;
    screen.shows("status-0")?;
    let (status, _, told) = said(&world, &path, &["trust", "--session", "work", "big"])?;
    ensure!(status == Some(1) && told.contains("cannot be remembered: big.sh"), "{told}");
    ensure!(told.contains("\"shellkeep run just:big\" asks each time"), "{told}");
    let screen = at_terminal(&world, &path, "sk trust --session work --ask-all")?;
    screen.shows("passed over: what just:big does cannot be remembered")?;
    screen.shows("status-0")
}

#[test]
fn a_server_is_asked_about_in_plain_words() -> Result<()> {
    let world = World::new()?;
    let root = project(&world)?;
    let server =
        r#"{"mcpServers": {"shelly": {"command": "sh", "args": ["server.sh", "a b"], "env": {"KEY": "${TOKEN}"}}}}"#;
    write(&root, ".mcp.json", server)?;
    world.ok(&["reload", "--session", "work"])?;
    let path = "/usr/bin:/bin";
    let (status, _, refused) = said(&world, path, &["run", "--session", "work", "mcp:shelly"])?;
    ensure!(
        status == Some(1)
            && refused.contains("\"shellkeep trust mcp:shelly\"")
            && refused.contains("shellkeep commands shelly"),
        "{refused}"
    );
    let (_, all, _) = said(&world, path, &["trust", "--session", "work", "--show", "mcp:shelly"])?;
    let mut screen = at_terminal(&world, path, "sk trust --session work mcp:shelly")?;
    screen.shows("[y/N]")?;
    let shown = text(&screen);
    for shown in [&shown, &all] {
        ensure!(!shown.contains("Map(") && !shown.contains("Text(") && !shown.contains("String("), "{shown}");
        for part in ["starts: sh server.sh 'a b'", "gets your variable: TOKEN", "env: KEY=${TOKEN}"] {
            ensure!(shown.contains(part), "{part} is not in\n{shown}");
        }
    }
    screen.keys(b"y\r")?;
    screen.shows("status-0")?;
    ensure!(text(&screen).contains("\"shellkeep commands shelly\""), "{}", text(&screen));
    Ok(())
}

#[test]
fn what_waits_for_agreement_is_listed_and_taking_all_back_asks() -> Result<()> {
    let world = World::new()?;
    project(&world)?;
    let path = install(&world, &["just"])?;
    let (status, waits, how) = said(&world, &path, &["trust", "--session", "work"])?;
    ensure!(status == Some(0) && waits.contains("just:test") && waits.contains("just build"), "{waits}");
    ensure!(how.contains("--ask-all") && how.contains("--list"), "{how}");
    let mut screen = at_terminal(&world, &path, "sk trust --session work test")?;
    screen.shows("[y/N]")?;
    screen.keys(b"y\r")?;
    screen.shows("status-0")?;
    let mut screen = at_terminal(&world, &path, "sk trust --session work --revoke")?;
    screen.shows("Take back 1 agreement of")?;
    screen.keys(b"\r")?;
    screen.shows("status-1")?;
    ensure!(world.ok(&["trust", "--list"])?.contains("just:test"));
    // A program means what it says.
    world.ok(&["trust", "--session", "work", "--revoke"])?;
    ensure!(world.ok(&["trust", "--list"])?.is_empty());
    Ok(())
}

#[test]
fn nobody_is_asked_about_what_cannot_run_here() -> Result<()> {
    let world = World::new()?;
    project(&world)?;
    let path = install(&world, &["make"])?;
    let without = path.replace(":/usr/bin:/bin", "");
    for args in [&["commands", "--session", "work", "test"][..], &["which", "--session", "work", "test"]] {
        let (_, shown, _) = said(&world, &without, args)?;
        ensure!(shown.contains("just is not in your PATH"), "{shown}");
    }
    let (status, _, refused) = said(&world, &without, &["run", "--session", "work", "test"])?;
    ensure!(
        status == Some(1) && refused.contains("just is not in your PATH") && !refused.contains("trust"),
        "{refused}"
    );
    Ok(())
}

/// Only after a failure, only where a person reads it, and only if nothing was given.
#[test]
fn a_command_that_fails_without_a_terminal_says_what_to_type() -> Result<()> {
    let world = World::new()?;
    let root = project(&world)?;
    let path = install(&world, &["just"])?;
    let mut screen = at_terminal(&world, &path, "sk trust --session work test")?;
    screen.shows("[y/N]")?;
    screen.keys(b"y\r")?;
    screen.shows("status-0")?;
    let hint = "it had no terminal";
    let failed = at_terminal(&world, &path, "cd work; SECRET=x sk run --session work --env STATUS=3 test a")?;
    failed.shows("status-3")?;
    let shown = text(&failed).replace("\r\n", "\n");
    ensure!(shown.matches(hint).count() == 1 && shown.contains("type it yourself: just test a\n"), "{shown}");
    ensure!(shown.contains("ran just test a secret=\n"), "{shown}");
    let given = at_terminal(&world, &path, "SECRET=x; export SECRET; sk run --session work --env SECRET test a")?;
    given.shows("status-0")?;
    ensure!(text(&given).contains("secret=x") && !text(&given).contains(hint), "{}", text(&given));
    let with_input = at_terminal(&world, &path, "echo | sk run --stdin --session work --env STATUS=3 test")?;
    with_input.shows("status-3")?;
    ensure!(!text(&with_input).contains(hint), "{}", text(&with_input));
    let (status, _, stderr) = said(&world, &path, &["run", "--session", "work", "--env", "STATUS=3", "test"])?;
    ensure!(status == Some(3) && !stderr.contains(hint), "{stderr}");
    let (status, _, unset) = said(&world, &path, &["run", "--session", "work", "--env", "NOT_SET", "test"])?;
    ensure!(status == Some(2) && unset.contains("NOT_SET"), "{unset}");
    drop(root);
    Ok(())
}

#[test]
fn files_that_could_not_be_read_are_told_by_whoever_looks_for_a_command() -> Result<()> {
    let world = World::new()?;
    let root = project(&world)?;
    write(&root, "Taskfile.yml", "version: '3'\ntasks:\n  a: [unclosed\n")?;
    write(&root, "justfile", &format!("{JUSTFILE}\nbroken {{{{{{ :\n"))?;
    world.ok(&["reload", "--session", "work"])?;
    let path = "/usr/bin:/bin";
    for args in [
        &["commands", "--session", "work"][..],
        &["run", "--session", "work", "a"],
        &["which", "--session", "work", "build"],
    ] {
        let (_, _, told) = said(&world, path, args)?;
        ensure!(
            told.contains("2 files with commands could not be read") && told.contains("\"shellkeep reload\""),
            "{args:?}: {told}"
        );
    }
    let mut doctor = world.command(["doctor"]);
    let output = doctor.env("SHELLKEEP_SESSION", session_id(&world)?).current_dir(&root).output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(told.contains("note   commands: ") && told.contains("Taskfile.yml"), "{told}");
    let reloaded = world.run(&["reload", "--session", "work"])?;
    let told = String::from_utf8_lossy(&reloaded.stderr);
    ensure!(told.contains("Taskfile.yml") && told.contains("justfile:8"), "{told}");
    Ok(())
}

fn session_id(world: &World) -> Result<String> {
    world.listed_by_name("work")
}

/// Commands outside of a kept session, and what nothing matches.
#[test]
fn outside_of_a_session_that_is_said_with_what_would_have_it() -> Result<()> {
    let world = World::new()?;
    let root = project(&world)?;
    let mut command = world.command(["run", "test"]);
    let output = command.current_dir(&root).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && told.contains("there is no command \"test\""), "{told}");
    ensure!(
        told.contains("not a kept session") && told.contains("--session SESSION") && !told.contains("pwd"),
        "{told}"
    );
    let served = world.run(&["mcp"])?;
    let told = String::from_utf8_lossy(&served.stderr);
    ensure!(told.lines().filter(|line| line.contains("not a kept session")).count() == 1, "{told}");
    let path = "/usr/bin:/bin";
    let (status, none, _) = said(&world, path, &["commands", "--session", "work", "zzzz"])?;
    ensure!(status == Some(1) && none.is_empty(), "{none}");
    let (status, none, _) = said(&world, path, &["commands", "--session", "work", "--json", "zzzz"])?;
    ensure!(status == Some(1) && none == "[]\n", "{none}");
    Ok(())
}

/// A line each, shellkeep's own last; for programs in the registry's order.
#[test]
fn a_list_for_people_fits_its_terminal_with_shellkeeps_own_last() -> Result<()> {
    let world = World::new()?;
    let root = project(&world)?;
    let long = "x".repeat(200);
    write(&root, "justfile", &format!("# {long}\ndescribed:\n    true\n\nbare:\n    true\n"))?;
    let path = install(&world, &["just"])?;
    world.ok(&["reload", "--session", "work"])?;
    let screen = at_terminal(&world, &path, "NO_COLOR=1 sk commands --session work")?;
    screen.shows("status-0")?;
    let shown = text(&screen).replace("\r\n", "\n");
    let lines: Vec<&str> = shown.lines().collect();
    ensure!(lines.iter().all(|line| line.chars().count() <= 80), "{shown}");
    let at = |name: &str| lines.iter().position(|line| line.starts_with(name)).context("it is listed");
    ensure!(at("described")? < at("bare")? && at("bare")? < at("cd")?, "{shown}");
    ensure!(lines[at("described")?].ends_with("…  (not trusted yet)"), "{shown}");
    ensure!(lines[at("bare")?].ends_with("just bare  (not trusted yet)"), "{shown}");
    let json: Vec<serde_json::Value> =
        serde_json::from_str(&world.ok(&["commands", "--session", "work", "--json"])?)?;
    ensure!(json.first().is_some_and(|entry| entry["name"] == "cd"), "{json:?}");
    let counted = world.ok(&["reload", "--session", "work"])?;
    ensure!(counted.starts_with(&format!("{} commands: ", json.len())), "{counted} of {}", json.len());
    Ok(())
}

#[test]
fn stopping_the_daemon_as_a_command_says_so() -> Result<()> {
    let world = World::new()?;
    world.ok(&["daemon", "start"])?;
    let stopped = world.run(&["run", "exit-daemon"])?;
    let told = String::from_utf8_lossy(&stopped.stderr);
    ensure!(stopped.status.success() && told.contains("the daemon is stopped"), "{told}");
    eventually("it has gone", || Ok(world.daemon_pid().is_none().then_some(())))
}
