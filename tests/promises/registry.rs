//! Commands belong to a session: its project's are listed, asked for, run and ended with it, and no other session's are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use torture::screen::Screen;

use crate::world::{World, eventually};

/// A project below the home, with commands of our own format.
fn project(world: &World, name: &str, commands: &[(&str, &str)]) -> Result<PathBuf> {
    let root = world.outside().canonicalize()?.join("work").join(name);
    std::fs::create_dir_all(root.join(".shellkeep/commands"))?;
    for (command, line) in commands {
        write(&root, command, line)?;
    }
    Ok(root)
}

fn write(root: &Path, command: &str, line: &str) -> Result<()> {
    let text = format!("description = \"Does {command}\"\ncommand = '''{line}'''\n");
    Ok(std::fs::write(root.join(format!(".shellkeep/commands/{command}.toml")), text)?)
}

/// A detached session in a directory.
fn session_in(world: &World, directory: &Path) -> Result<String> {
    let mut command = world.command(["start", "--detached", "--", "/bin/sleep", "600"]);
    let output = command.current_dir(directory).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn commands(world: &World, args: &[&str]) -> Result<Vec<Value>> {
    let text = world.ok(&[&["commands", "--json"], args].concat())?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// Names of a session's commands that are its project's.
fn of_project(world: &World, session: &str) -> Result<Vec<String>> {
    let all = commands(world, &["--session", session])?;
    let own = all.iter().filter(|entry| entry["scope"] == "project");
    Ok(own.filter_map(|entry| entry["qualified_name"].as_str().map(str::to_owned)).collect())
}

/// Shows the question at a terminal, and says yes.
fn trust(world: &World, session: &str, name: &str) -> Result<String> {
    let mut screen = Screen::start(world, &["trust", "--session", session, name])?;
    screen.shows("[y/N]")?;
    screen.keys(b"y\r")?;
    ensure!(screen.ended()?.success());
    Ok(String::from_utf8_lossy(&screen.shown()).into_owned())
}

/// R-3, R-15, R-23, corner 2, and the names of the JSON.
#[test]
fn sessions_in_different_projects_see_different_commands() -> Result<()> {
    let world = World::new()?;
    let a = project(&world, "a", &[("deploy", "echo a"), ("test", "echo t")])?;
    std::fs::write(a.join("Makefile"), ".PHONY: test\ntest: ## Runs the tests\n\t@echo made\n")?;
    let b = project(&world, "b", &[("deploy", "echo b")])?;
    let (one, other, none) = (session_in(&world, &a)?, session_in(&world, &b)?, session_in(&world, world.outside())?);
    ensure!(
        of_project(&world, &one)? == ["project:deploy", "project:test", "make:test"],
        "{:?}",
        of_project(&world, &one)
    );
    ensure!(of_project(&world, &other)? == ["project:deploy"]);
    ensure!(of_project(&world, &none)?.is_empty());
    let all = commands(&world, &["--session", &one])?;
    let made = all.iter().find(|entry| entry["qualified_name"] == "make:test").context("it is listed")?;
    let state = if Path::new("/usr/bin/make").exists() { "ready" } else { "unavailable" };
    let expected = serde_json::json!({
        "name": "test", "qualified_name": "make:test", "kind": "task", "source": "make", "scope": "project",
        "description": "Runs the tests", "trust": "pending", "state": state, "shadowed_by": null,
    });
    ensure!(*made == expected, "{made}");
    let ambiguous = world.run(&["which", "--session", &one, "test"])?;
    let said = String::from_utf8_lossy(&ambiguous.stderr);
    ensure!(ambiguous.status.code() == Some(1) && said.contains("make:test, project:test"), "{said}");
    let near = world.run(&["which", "--session", &one, "deplyo"])?;
    ensure!(String::from_utf8_lossy(&near.stderr).contains("did you mean deploy?"));
    let which: Value = serde_json::from_str(&world.ok(&["which", "--session", &other, "deploy", "--json"])?)?;
    ensure!(which["runs"] == "echo b" && which["trust"] == "pending", "{which}");
    world.ok(&["kill", &one])?;
    ensure!(of_project(&world, &one)?.is_empty());
    ensure!(of_project(&world, &other)? == ["project:deploy"]);
    Ok(())
}

/// A shell that goes elsewhere sees what is there: the daemon reads that from its marks.
#[test]
fn commands_follow_the_shell_into_another_directory() -> Result<()> {
    let world = World::new()?;
    let a = project(&world, "a", &[("only-a", "echo a")])?;
    let b = project(&world, "b", &[("only-b", "echo b")])?;
    let mut screen = Screen::start(&world, &["start", "-n", "work", "--", "/bin/bash"])?;
    screen.keys(format!("cd {}; echo in-$((1+1))\r", a.join(".shellkeep").display()).as_bytes())?;
    screen.shows("in-2")?;
    eventually("the first project is seen", || Ok((of_project(&world, "work")? == ["project:only-a"]).then_some(())))?;
    // From within, without any name: what was done at the prompt before is known.
    let program = world.program().display();
    screen.keys(format!("cd {}\r{program} commands only\r", b.display()).as_bytes())?;
    screen.shows("only-b")?;
    screen.keys(format!("cd /\r{program} commands only; echo done-$((2+1))\r").as_bytes())?;
    screen.shows("done-3")?;
    eventually("nothing is left of it", || Ok(of_project(&world, "work")?.is_empty().then_some(())))?;
    screen.keys(b"exit\r")?;
    screen.ended()?;
    Ok(())
}

/// Trust: never a silent yes, bound to content, a change is shown, taken back.
#[test]
fn a_projects_command_runs_only_as_the_user_has_seen_it() -> Result<()> {
    let world = World::new()?;
    let root = project(&world, "p", &[("hello", "echo hello from $PWD; echo $SECRET; exit 5")])?;
    let session = session_in(&world, &root)?;
    let run = || {
        let mut command = world.command(["run", "--session", &session, "hello"]);
        command.env("SECRET", "must-not-be-seen").output()
    };
    let refused = run()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && refused.stdout.is_empty(), "{said}");
    ensure!(said.contains("not trusted") && said.contains("shellkeep trust project:hello"), "{said}");
    let shown = trust(&world, &session, "hello")?;
    ensure!(shown.contains("runs: echo hello from"), "{shown}");
    let ran = run()?;
    ensure!(ran.status.code() == Some(5), "{}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
    ensure!(String::from_utf8_lossy(&ran.stdout) == format!("hello from {}\n\n", root.display()));
    // Another daemon still knows.
    world.kill_daemon()?;
    ensure!(run()?.status.code() == Some(5));
    write(&root, "hello", "echo goodbye")?;
    ensure!(run()?.status.code() == Some(1));
    let shown = trust(&world, &session, "hello")?;
    ensure!(
        shown.contains("has changed") && shown.contains("- runs: echo hello") && shown.contains("+ runs: echo goodbye"),
        "{shown}"
    );
    ensure!(run()?.stdout == b"goodbye\n");
    ensure!(world.ok(&["trust", "--list"])?.contains("project:hello"));
    world.ok(&["trust", "--session", &session, "--revoke", "project:hello"])?;
    ensure!(run()?.status.code() == Some(1));
    Ok(())
}

/// Saying nothing is saying no.
#[test]
fn who_just_presses_enter_has_not_agreed() -> Result<()> {
    let world = World::new()?;
    let root = project(&world, "p", &[("hello", "echo ran-$((40+2))")])?;
    let session = session_in(&world, &root)?;
    let mut screen = Screen::start(&world, &["run", "--session", &session, "hello"])?;
    screen.shows("[y/N]")?;
    screen.keys(b"\r")?;
    ensure!(screen.ended()?.code() == Some(1));
    ensure!(!String::from_utf8_lossy(&screen.shown()).contains("ran-42"));
    let mut screen = Screen::start(&world, &["run", "--session", &session, "hello"])?;
    screen.shows("[y/N]")?;
    screen.keys(b"y\r")?;
    screen.shows("ran-42")?;
    ensure!(screen.ended()?.success());
    Ok(())
}

/// Corner 4, and Ctrl-C: whoever ends it, nothing of it is left.
#[test]
fn a_running_command_ends_with_ctrl_c_and_with_its_session() -> Result<()> {
    let world = World::new()?;
    let root = project(&world, "p", &[("serve", "echo up; echo $$ > pid; exec sleep 600")])?;
    let session = session_in(&world, &root)?;
    trust(&world, &session, "serve")?;
    let pid = || {
        let read = std::fs::read_to_string(root.join("pid")).unwrap_or_default();
        Ok(read.trim().parse::<i32>().ok())
    };
    let mut screen = Screen::start(&world, &["run", "--session", &session, "serve"])?;
    screen.shows("up")?;
    let first = eventually("it says who it is", pid)?;
    screen.keys(b"\x03")?;
    ensure!(screen.ended()?.code() == Some(130));
    ensure!(!torture::world::is_alive(first));
    std::fs::remove_file(root.join("pid"))?;
    let mut screen = Screen::start(&world, &["run", "--session", &session, "serve"])?;
    let second = eventually("it says who it is", pid)?;
    world.ok(&["kill", &session])?;
    ensure!(screen.ended()?.code() == Some(1));
    let said = std::fs::read_to_string(world.stderr_of_screens())?;
    ensure!(said.contains("its session has ended"), "{said}");
    torture::world::gone(second)?;
    Ok(())
}

/// Corner 7: what ran is never run again by itself, and whoever waits is told.
#[test]
fn who_follows_a_command_is_told_when_its_daemon_dies() -> Result<()> {
    let world = World::new()?;
    let root = project(&world, "p", &[("serve", "echo up; echo $$ > pid; exec sleep 600")])?;
    let session = session_in(&world, &root)?;
    trust(&world, &session, "serve")?;
    let mut screen = Screen::start(&world, &["run", "--session", &session, "serve"])?;
    let pid = eventually("it says who it is", || {
        Ok(std::fs::read_to_string(root.join("pid")).ok().and_then(|text| text.trim().parse::<i32>().ok()))
    })?;
    let old = world.kill_daemon()?;
    ensure!(screen.ended()?.code() != Some(0));
    torture::world::gone(pid)?; // it does not outlive what ran it
    world.daemon_other_than(Some(old))?;
    eventually("the session's commands are back", || {
        Ok((of_project(&world, &session)? == ["project:serve"]).then_some(()))
    })?;
    Ok(())
}

/// R-13, R-14, R-30: a bad file hides no good one, and reloading says so.
#[test]
fn reload_counts_and_tells_what_it_did_not_understand() -> Result<()> {
    let world = World::new()?;
    let root = project(&world, "p", &[("good", "echo g")])?;
    std::fs::write(root.join(".shellkeep/commands/bad.toml"), "command = [unclosed")?;
    let session = session_in(&world, &root)?;
    ensure!(of_project(&world, &session)? == ["project:good"]);
    let reloaded = world.run(&["reload", "--session", &session])?;
    ensure!(reloaded.status.success());
    ensure!(String::from_utf8_lossy(&reloaded.stdout).contains("1 here"), "{reloaded:?}");
    ensure!(String::from_utf8_lossy(&reloaded.stderr).contains("bad.toml"), "{reloaded:?}");
    let text = world.ok(&["run", "--session", &session, "reload-remote"])?;
    ensure!(text.contains("1 of this session") && text.contains("warning:"), "{text}");
    ensure!(world.ok(&["run", "--session", &session, "pwd"])? == format!("{}\n", root.display()));
    Ok(())
}
