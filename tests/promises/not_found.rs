//! Names that a shell does not find: what the session's commands know of them is said, and nothing that was not agreed to runs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use torture::screen::Screen;

use crate::prompt_shells::{PROMPT, history, kept, own, project, shells, shows, shows_times, write};
use crate::world::{World, eventually, signal};

/// How often what is quick is tried.
const TRIES: usize = 4;

fn text(screen: &Screen) -> String {
    String::from_utf8_lossy(&screen.shown()).into_owned()
}

/// Types a line and waits for the prompt behind it, the `prompts`th.
fn line(screen: &mut Screen, line: &str, prompts: usize) -> Result<()> {
    screen.keys(format!("{line}\r").as_bytes())?;
    shows_times(screen, PROMPT, prompts)
}

fn prompts(screen: &Screen) -> usize {
    text(screen).matches(PROMPT).count()
}

fn status_of(shell: &str) -> &'static str {
    if shell == "fish" { "echo status-$status" } else { "echo status-$?" }
}

#[test]
fn a_name_that_the_registry_knows_is_said() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        let root = project(&world, "deploy", "touch must-not-be")?;
        own(&world, "mine", "true")?;
        let mut screen = kept(&world, shell, "")?;
        line(&mut screen, &format!("cd {}", root.display()), 2)?;
        let seen = world.ok(&["commands", "--session", "work"])?; // waits until the directory was looked at
        ensure!(seen.contains("deploy"), "{seen}");
        screen.keys(b"deploy now\r")?;
        shows(&screen, "\"deploy\" is a command of this project, not trusted yet: shellkeep run deploy")?;
        let status = status_of(shell);
        screen.keys(format!("mine; {status}\r").as_bytes())?;
        shows(&screen, "\"mine\" is a command of yours: shellkeep run mine")?;
        shows(&screen, "status-127")?;
        screen.keys(b"deplyo\r")?;
        shows(&screen, "called nearly so: shellkeep run deploy")?;
        screen.keys(format!("nosuchthing; echo done-1; {status}\r").as_bytes())?;
        shows(&screen, "status-0")?;
        let shown = text(&screen);
        ensure!(shown.contains("command not found: nosuchthing"), "{shown:?}");
        screen.keys(b"exit\r")?;
        screen.ended()?;
        ensure!(!root.join("must-not-be").exists());
        // What the hook does is no command of the session's.
        let told: Vec<String> = history(&world)?.into_iter().map(|(command, _)| command).collect();
        ensure!(told.len() == 6 && told[1] == "deploy now", "{told:?}");
    }
    Ok(())
}

/// Names come from pasted text too: what a terminal would act on is not sent to it.
#[test]
fn a_name_that_a_terminal_would_act_on_is_shown_harmlessly() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        let mut screen = kept(&world, shell, "")?;
        for (at, (octal, expected)) in [
            (r"a\033]0;evil\007b", "command not found: a\\u{1b}]0;evil\\u{7}b"),
            (r"a\342\200\256b", "command not found: a\\u{202e}b"),
            (r"a\302\233b", "command not found: a\\u{9b}b"),
            (r"\303\244", "command not found: \u{e4}"),
        ]
        .into_iter()
        .enumerate()
        {
            let run = match shell {
                "fish" => format!("set x (printf '{octal}'); $x"),
                _ => format!("x=$(printf '{octal}'); \"$x\""),
            };
            line(&mut screen, &run, at + 2)?;
            shows(&screen, expected)?;
        }
        let shown = text(&screen);
        ensure!(!shown.contains(";evil\x07") && !shown.contains(['\u{202e}', '\u{9b}']), "{shell}: {shown:?}");
        screen.keys(b"exit\r")?;
        screen.ended()?;
    }
    Ok(())
}

#[test]
fn the_handler_that_was_there_is_called_and_its_status_kept() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        own(&world, "mine", "true")?;
        let handler = match shell {
            "bash" => "command_not_found_handle() { echo before-$1-$2; return 41; }",
            "zsh" => "command_not_found_handler() { echo before-$1-$2; return 41 }",
            _ => "function fish_command_not_found; echo before-$argv[1]-$argv[2]; end",
        };
        let mut screen = kept(&world, shell, handler)?;
        ensure!(world.ok(&["commands", "--session", "work"])?.contains("mine"));
        screen.keys(format!("mine now; {}\r", status_of(shell)).as_bytes())?;
        shows(&screen, "before-mine-now")?;
        shows(&screen, "\"mine\" is a command of yours")?;
        shows(&screen, if shell == "fish" { "status-127" } else { "status-41" })?;
        ensure!(!text(&screen).contains("command not found"), "{:?}", text(&screen));
        screen.keys(b"exit\r")?;
        screen.ended()?;
    }
    Ok(())
}

/// Only with the user's own word in the settings, and only what was agreed to.
#[test]
fn a_trusted_command_runs_by_its_name_if_the_user_wants_that() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        write(&world, "home/config/config.toml", "[commands]\nrun_not_found = true\n")?;
        own(&world, "mine", "echo ran-$((40+2)); exit 5")?;
        let root = project(&world, "deploy", "touch must-not-be")?;
        let mut screen = kept(&world, shell, "")?;
        line(&mut screen, &format!("cd {}", root.display()), 2)?;
        ensure!(world.ok(&["commands", "--session", "work"])?.contains("deploy"));
        screen.keys(format!("mine; {}\r", status_of(shell)).as_bytes())?;
        shows(&screen, "ran-42")?;
        shows(&screen, if shell == "fish" { "status-127" } else { "status-5" })?; // fish keeps its own
        let before = prompts(&screen);
        screen.keys(b"deploy\r")?;
        shows(&screen, "not trusted yet")?;
        shows_times(&screen, PROMPT, before + 1)?;
        ensure!(!text(&screen).contains("[y/N]") && !root.join("must-not-be").exists());
        screen.keys(b"exit\r")?;
        screen.ended()?;
    }
    Ok(())
}

/// Corner 10: a shell remembers where a program lies until commands of all sessions come or go, and only until then.
#[test]
fn shells_forget_where_programs_lie_when_commands_come_or_go() -> Result<()> {
    for shell in shells().filter(|shell| *shell != "fish") {
        let world = World::new()?;
        let tool = |place: &str| -> Result<()> {
            let file = format!("{place}/some-tool");
            crate::prompt_shells::write(&world, &file, &format!("#!/bin/sh\necho of-{place}-$((40+2))\n"))?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            Ok(std::fs::set_permissions(world.outside().join(file), mode)?)
        };
        tool("late")?;
        std::fs::create_dir_all(world.outside().join("early"))?;
        let mut screen = kept(&world, shell, "PATH=$HOME/early:$HOME/late:$PATH")?;
        let revision = || Ok(std::fs::read_to_string(world.home().join("state/registry/revision")).ok());
        let first = eventually("the daemon has said what there is", revision)?;
        line(&mut screen, "some-tool", 2)?;
        line(&mut screen, "some-tool", 3)?;
        tool("early")?;
        line(&mut screen, "some-tool", 4)?;
        ensure!(text(&screen).matches("of-late-42").count() == 3, "{shell}: {}", text(&screen));
        own(&world, "newcomer", "true")?;
        eventually("the daemon says another word", || Ok(revision()?.filter(|now| *now != first)))?;
        line(&mut screen, "", 5)?;
        line(&mut screen, "some-tool", 6)?;
        ensure!(text(&screen).matches("of-early-42").count() == 1, "{shell}: {}", text(&screen));
        ensure!(text(&screen).matches("of-late-42").count() == 3, "{shell}: {}", text(&screen));
        screen.keys(b"exit\r")?;
        screen.ended()?;
    }
    Ok(())
}

/// Whatever state the daemon is in, a mistyped name costs no wait that a person would notice.
#[test]
fn a_daemon_that_hangs_or_is_not_there_is_not_waited_for() -> Result<()> {
    let world = World::new()?;
    own(&world, "mine", "true")?;
    let hint = || -> Result<(Option<i32>, usize, Duration)> {
        let begun = Instant::now();
        let output = world.run(&["hint", "mine"])?;
        Ok((output.status.code(), output.stdout.len() + output.stderr.len(), begun.elapsed()))
    };
    let (status, bytes, _) = hint()?;
    ensure!((status, bytes) == (Some(1), 0), "without a daemon: {status:?}, {bytes} bytes");
    ensure!(world.daemon_pid().is_none(), "a hint starts no daemon");
    ensure!(world.ok(&["commands"])?.contains("mine"));
    ensure!(world.ok(&["hint", "mine"])?.contains("of yours"));
    let daemon = world.daemon_other_than(None)?;
    signal(daemon, Signal::STOP)?;
    let list = || -> Result<(Option<i32>, usize, Duration)> {
        let begun = Instant::now();
        let output = world.run(&["complete", "--shell", "bash", "--line", "shellkeep run m"])?;
        Ok((output.status.code(), output.stdout.len() + output.stderr.len(), begun.elapsed()))
    };
    // Their bounds are 50 and 100 ms. The quickest of some: a loaded machine is no failure.
    let hints = (0..TRIES).map(|_| hint()).collect::<Result<Vec<_>>>()?;
    let lists = (0..TRIES).map(|_| list()).collect::<Result<Vec<_>>>()?;
    signal(daemon, Signal::CONT)?;
    for (all, status) in [(hints, 1), (lists, 0)] {
        ensure!(all.iter().all(|(code, bytes, _)| (*code, *bytes) == (Some(status), 0)), "{all:?}");
        let quickest = all.iter().map(|(_, _, took)| *took).min();
        ensure!(quickest < Some(Duration::from_millis(400)), "{all:?}");
    }
    Ok(())
}
