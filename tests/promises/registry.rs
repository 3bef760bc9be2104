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
    let is_there = Path::new("/usr/bin/make").exists();
    let state = if is_there { "ready" } else { "unavailable" };
    let why = if is_there { Value::Null } else { made["why"].clone() };
    let expected = serde_json::json!({
        "name": "test", "qualified_name": "make:test", "kind": "task", "source": "make", "scope": "project",
        "description": "Runs the tests", "trust": "pending", "state": state, "why": why, "shadowed_by": null,
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
    screen.keys(format!("cd {}\r'{program}' commands only\r", b.display()).as_bytes())?;
    screen.shows("only-b")?;
    // On one line: no prompt has said where the shell is now, and a command of the same name may be there.
    screen.keys(format!("cd {}; '{program}' commands only; echo mid-$((1+2))\r", a.display()).as_bytes())?;
    screen.shows("Does only-a")?;
    screen.shows("mid-3")?;
    // Only for as long as it is so: the shell itself has not moved here.
    screen.keys(format!("(cd {}; '{program}' commands only; echo sub-$((2+2)))\r", b.display()).as_bytes())?;
    screen.shows("sub-4")?;
    eventually("it is where its shell is", || Ok((of_project(&world, "work")? == ["project:only-a"]).then_some(())))?;
    screen.keys(format!("cd /\r'{program}' commands only; echo done-$((2+1))\r").as_bytes())?;
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

/// It died of INT, as a loop of the shell expects of whoever the user has interrupted.
fn was_interrupted(status: std::process::ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(2)
}

/// A question that is left is a no, and a command that ignores Ctrl-C ends with the second one.
#[test]
fn ctrl_c_leaves_the_question_and_reaches_the_command_like_any_other() -> Result<()> {
    let world = World::new()?;
    let line = "trap '' INT TERM; echo $$ > pid; echo up; sleep 600; sleep 600";
    let root = project(&world, "p", &[("stubborn", line)])?;
    let session = session_in(&world, &root)?;
    let mut screen = Screen::start(&world, &["run", "--session", &session, "stubborn"])?;
    screen.shows("[y/N]")?;
    screen.keys(b"\x03")?;
    ensure!(was_interrupted(screen.ended()?));
    ensure!(!root.join("pid").exists() && world.ok(&["trust", "--list"])?.is_empty());
    trust(&world, &session, "stubborn")?;
    let mut screen = Screen::start(&world, &["run", "--session", &session, "stubborn"])?;
    screen.shows("up")?;
    let pid: i32 = std::fs::read_to_string(root.join("pid"))?.trim().parse()?;
    screen.keys(b"\x03")?;
    eventually("it is said that it goes on", || {
        let told = std::fs::read_to_string(world.stderr_of_screens()).unwrap_or_default();
        Ok(told.contains("once more ends it").then_some(()))
    })
    .or_else(|_| screen.shows("once more ends it"))?;
    ensure!(torture::world::is_alive(pid));
    screen.keys(b"\x03")?;
    ensure!(was_interrupted(screen.ended()?));
    ensure!(!torture::world::is_alive(pid));
    Ok(())
}

/// Number, line, status and whether it has ended.
type Row = (u64, String, Option<u64>, bool);

/// Each command that a session's record has.
fn recorded(world: &World, session: &str) -> Result<Vec<Row>> {
    let all: Vec<Value> = serde_json::from_str(&world.ok(&["history", session, "--json"])?)?;
    let of = |one: &Value| {
        let line = one["command"].as_str().unwrap_or_default().to_owned();
        (one["id"].as_u64().unwrap_or(0), line, one["exit_code"].as_u64(), one["duration_ms"].is_u64())
    };
    Ok(all.iter().map(of).collect())
}

/// What is run for a session from elsewhere is a command of it, in its record, as what is typed in it is.
#[test]
fn what_is_run_for_a_session_from_elsewhere_is_in_its_record() -> Result<()> {
    let world = World::new()?;
    let root = project(&world, "p", &[("hello", "echo hello; exit 5"), ("slow", "sleep 600")])?;
    let session = session_in(&world, &root)?;
    ensure!(recorded(&world, &session)?.is_empty());
    let run = |args: &[&str]| world.run(&[&["run", "--session", &session], args].concat());
    ensure!(run(&["hello"])?.status.code() == Some(1), "nobody has agreed to it");
    ensure!(recorded(&world, &session)?.is_empty(), "what never ran is no command");
    trust(&world, &session, "hello")?;
    trust(&world, &session, "slow")?;
    ensure!(run(&["hello", "a b", "it's"])?.status.code() == Some(5));
    ensure!(run(&["--time-limit", "1s", "slow"])?.status.code() == Some(124));
    let expected = [
        (1, r"shellkeep run hello a\ b it\'s".to_owned(), Some(5), true),
        (2, "shellkeep run slow".to_owned(), Some(124), true),
    ];
    ensure!(recorded(&world, &session)? == expected, "{:?}", recorded(&world, &session)?);
    let all: Value = serde_json::from_str(&world.ok(&["history", &session, "--json"])?)?;
    ensure!(all[0]["cwd"] == root.to_string_lossy().as_ref() && all[0]["output_bytes"] == 0, "{all}");
    ensure!(world.ok(&["output", &session])?.is_empty(), "what it printed is not what the session printed");
    // Nothing during a pause, and behind it again.
    world.ok(&["pause", &session])?;
    ensure!(run(&["hello"])?.status.code() == Some(5));
    world.ok(&["resume", &session])?;
    ensure!(recorded(&world, &session)? == expected);
    // It is of the log: another daemon, and an index that is made anew, give the same; so does the record of a session that has ended.
    world.kill_daemon()?;
    world.ok(&["reindex"])?;
    ensure!(recorded(&world, &session)? == expected);
    ensure!(world.ok(&["search", "shellkeep run slow"])?.contains("shellkeep run slow"));
    world.ok(&["verify", &session])?;
    world.ok(&["kill", &session])?;
    ensure!(recorded(&world, &session)? == expected);
    Ok(())
}

/// What is typed in the session is marked by its shell, and counts once; what is run beside it comes behind what had begun.
#[test]
fn what_is_typed_counts_once_also_while_another_is_run_from_elsewhere() -> Result<()> {
    let world = World::new()?;
    let root = project(&world, "p", &[("hello", "echo said-$((40+2))")])?;
    let mut screen = Screen::start(&world, &["start", "-n", "work", "--", "/bin/bash"])?;
    let program = world.program().display();
    screen.keys(format!("cd {}; echo in-$((1+1))\r", root.display()).as_bytes())?;
    screen.shows("in-2")?;
    trust(&world, "work", "hello")?;
    screen.keys(format!("'{program}' run hello; cat\r").as_bytes())?;
    screen.shows("said-42")?;
    ensure!(world.ok(&["run", "--session", "work", "hello"])? == "said-42\n");
    let lines = |all: &[Row]| -> Vec<(u64, bool, bool)> {
        all.iter().map(|(id, line, _, has_ended)| (*id, line.starts_with("shellkeep run"), *has_ended)).collect()
    };
    let seen = recorded(&world, "work")?;
    ensure!(lines(&seen) == [(1, false, true), (2, false, false), (3, true, true)], "{seen:?}");
    screen.keys(b"\x04")?;
    screen.keys(b"echo behind-$((1+1))\r")?;
    screen.shows("behind-2")?;
    let seen =
        eventually("all have ended", || Ok(Some(recorded(&world, "work")?).filter(|all| all.len() == 4 && all[3].3)))?;
    let expected = [(1, false, true), (2, false, true), (3, true, true), (4, false, true)];
    ensure!(lines(&seen) == expected && seen[3].1 == "echo behind-$((1+1))", "{seen:?}");
    ensure!(world.ok(&["output", "work", "--command", "4", "--plain"])?.trim() == "behind-2");
    world.ok(&["reindex"])?;
    ensure!(lines(&recorded(&world, "work")?) == expected);
    screen.keys(b"exit\r")?;
    screen.ended()?;
    Ok(())
}

/// R-34.
#[test]
fn names_that_differ_in_case_are_two_commands_and_doctor_says_so() -> Result<()> {
    let world = World::new()?;
    let root = project(&world, "p", &[("Deploy", "echo large"), ("deploy", "echo small")])?;
    std::fs::write(root.join(".shellkeep/commands/bad.toml"), "command = [unclosed")?;
    let session = session_in(&world, &root)?;
    trust(&world, &session, "Deploy")?;
    let ran = |name: &str| world.run(&["run", "--session", &session, name]);
    ensure!(ran("Deploy")?.stdout == b"large\n");
    let other = ran("deploy")?;
    ensure!(other.status.code() == Some(1) && other.stdout.is_empty(), "to agree to one is not to agree to the other");
    trust(&world, &session, "deploy")?;
    ensure!(ran("deploy")?.stdout == b"small\n");
    let wrong = ran("DEPLOY")?;
    let said = String::from_utf8_lossy(&wrong.stderr);
    ensure!(wrong.status.code() == Some(1) && said.contains("did you mean Deploy, deploy?"), "{said}");
    let doctor = world.command(["doctor"]).env("SHELLKEEP_SESSION", &session).current_dir(&root).output()?;
    let said = String::from_utf8_lossy(&doctor.stdout);
    ensure!(said.contains("commands: names: these differ only in case: Deploy, deploy"), "{said}");
    ensure!(said.contains("bad.toml"), "{said}");
    ensure!(doctor.status.success(), "a project's files make no installation wrong: {said}");
    ensure!(!world.ok(&["doctor"])?.contains("differ only in case"), "elsewhere they are nobody's matter");
    Ok(())
}

/// What cannot run says why, also to programs.
#[test]
fn what_cannot_run_says_why() -> Result<()> {
    let world = World::new()?;
    let root = project(&world, "p", &[])?;
    std::fs::create_dir_all(root.join(".claude/agents"))?;
    std::fs::write(
        root.join(".claude/agents/critic.md"),
        "---\nname: critic\ndescription: Criticises\n---\nBe strict.\n",
    )?;
    let session = session_in(&world, &root)?;
    let all = commands(&world, &["--session", &session])?;
    let critic = all.iter().find(|entry| entry["name"] == "critic").context("it is listed")?;
    let why = "it belongs to an agent, which runs it by itself";
    ensure!(critic["state"] == "unavailable" && critic["why"] == why, "{critic}");
    ensure!(world.ok(&["commands", "--session", &session])?.contains(why));
    let which: Value = serde_json::from_str(&world.ok(&["which", "--session", &session, "critic", "--json"])?)?;
    ensure!(which["why"] == why, "{which}");
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
    ensure!(was_interrupted(screen.ended()?));
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
