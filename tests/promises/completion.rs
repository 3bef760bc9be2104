//! Tab in bash, zsh and fish: names of commands and sessions, whatever characters they have.

use anyhow::{Result, ensure};

use crate::prompt_shells::{history, kept, own, shells, shows, write};
use crate::world::World;

/// How each shell takes the completions up.
fn sourced(world: &World, shell: &str) -> Result<&'static str> {
    write(world, "completions", &world.ok(&["completions", shell])?)?;
    Ok(match shell {
        "zsh" => "autoload -Uz compinit; compinit -D; source ~/completions",
        _ => "source ~/completions",
    })
}

/// Each line is typed with a Tab at `^`, and must then do what it says.
#[test]
fn tab_completes_names_of_commands_with_colons_and_quotes() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        own(&world, "deploy-all", "echo ran-deploy-$((40+2))")?;
        own(&world, "it's$1", "echo ran-quote-$((40+2))")?;
        write(&world, "package.txt", "")?;
        let more = sourced(&world, shell)?;
        let mut screen = kept(&world, shell, more)?;
        ensure!(world.ok(&["commands", "--session", "work"])?.contains("deploy-all"));
        let lines: &[(&str, &str)] = &[
            ("shellkeep run dep\t\r", "ran-deploy-42"),
            ("true; shellkeep run user:dep\t\r", "ran-deploy-42"),
            ("shellkeep run 'user:dep\t\r", "ran-deploy-42"),
            ("shellkeep run it\t\r", "ran-quote-42"),
            ("shellkeep run \"it\t\r", "ran-quote-42"),
            ("shellkeep output --plain wo\t | head -c 0 && echo out-''work\r", "out-work"),
            ("shellkeep run deploy-all pack\t\r", "deploy-42 package.txt"),
            ("shellkeep reind\t --help | grep -c Examples\r", "1\r\n"),
        ];
        for (at, (line, shown)) in lines.iter().enumerate() {
            let before = String::from_utf8_lossy(&screen.shown()).matches(shown).count();
            screen.keys(line.as_bytes())?;
            crate::prompt_shells::shows_times(&screen, shown, before + 1)
                .map_err(|error| error.context(format!("{shell}: line {at}: {line:?}")))?;
        }
        shows(&screen, "ran-quote-42")?;
        screen.keys(b"exit\r")?;
        screen.ended()?;
        let told = history(&world)?;
        ensure!(told.iter().all(|(command, status)| command == "exit" || *status == Some(0)), "{shell}: {told:?}");
    }
    Ok(())
}

/// What a shell is told, by the place of the cursor; files and options are none of ours.
#[test]
fn names_are_told_by_place_and_quoted_for_bash() -> Result<()> {
    let world = World::new()?;
    own(&world, "it's", "true")?;
    own(&world, "build", "true")?;
    let session = world.session("exec sleep 600")?;
    ensure!(world.ok(&["commands"])?.contains("build"));
    let told =
        |shell: &str, line: &str| world.run(&["complete", "--shell", shell, "--breaks", " :'\"=", "--line", line]);
    let said = |shell, line| -> Result<String> { Ok(String::from_utf8(told(shell, line)?.stdout)?) };
    ensure!(said("bash", "shellkeep run bui")? == "build\tDoes build\n", "{}", said("bash", "shellkeep run bui")?);
    ensure!(said("bash", "shellkeep run user:bui")? == "build\tDoes build\n");
    ensure!(said("zsh", "shellkeep run user:bui")? == "user:build\tDoes build\n");
    ensure!(said("bash", "shellkeep run it")?.starts_with("it\\'s\t"));
    ensure!(said("bash", "shellkeep run 'it")?.starts_with("it'\\''s\t"));
    ensure!(said("fish", "shellkeep run it")?.starts_with("it's\t"));
    ensure!(said("bash", "shellkeep kill ")?.contains(&format!("{session}\truns: /bin/sh")));
    ensure!(said("bash", "shellkeep run --session=la")?.starts_with("last\t"));
    // What belongs to an agent, a server itself, and what only a shell can do is known to `which`, and not offered to `run`.
    let root = crate::prompt_shells::project(&world, "bundle", "true")?;
    write(&world, "work/.claude/agents/build-agent.md", "---\nname: bu-agent\ndescription: Builds\n---\nBuild.\n")?;
    write(&world, "work/.mcp.json", r#"{"mcpServers":{"bu-server":{"command":"x"}}}"#)?;
    let mut start = world.command(["start", "--detached", "--", "/bin/sleep", "600"]);
    let inside = String::from_utf8(start.current_dir(root).output()?.stdout)?;
    let inside = inside.trim();
    ensure!(world.ok(&["commands", "--session", inside])?.contains("bu-agent"));
    let offered = |line: &str| -> Result<Vec<String>> {
        let mut complete = world.command(["complete", "--shell", "fish", "--line", line]);
        let said = String::from_utf8(complete.env("SHELLKEEP_SESSION", inside).output()?.stdout)?;
        let mut names: Vec<String> =
            said.lines().filter_map(|line| Some(line.split_once('\t')?.0.to_owned())).collect();
        names.sort();
        Ok(names)
    };
    ensure!(offered("shellkeep run bu")? == ["build", "bundle"], "{:?}", offered("shellkeep run bu")?);
    ensure!(offered("shellkeep which bu")? == ["bu-agent", "bu-server", "build", "bundle"]);
    for line in ["shellkeep ", "shellkeep run --st", "shellkeep daemon "] {
        ensure!(told("bash", line)?.status.code() == Some(1), "{line}");
    }
    // What a command is given: files, which the shell knows.
    ensure!(told("bash", "shellkeep run build x")?.status.code() == Some(10));
    // shellkeep's own are names that the shell has.
    ensure!(!said("bash", "shellkeep run ")?.contains("exit-daemon"));
    Ok(())
}
