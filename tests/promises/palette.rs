//! The palette: a command of the session is found by a few letters and put into the user's line, and nothing else changes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use torture::screen::Screen;

use crate::prompt_shells::{ALT_M, PROMPT, history, kept, own, project, shells, shows, shows_times, write};
use crate::world::{World, signal};

const ENTER_SCREEN: &str = "\x1b[?1049h";
const LEAVE_SCREEN: &str = "\x1b[?1049l";

fn text(screen: &Screen) -> String {
    String::from_utf8_lossy(&screen.shown()).into_owned()
}

/// The word before the cursor is looked for, what is chosen stands in its place, what is behind stays, and marks tell the whole.
fn inserted(shell: &str, more: &str) -> Result<()> {
    let world = World::new()?;
    own(&world, "deploy", "echo ran-$((40+2))")?;
    let mut screen = kept(&world, shell, more)?;
    screen.keys("é dep; echo end-''ok".as_bytes())?;
    screen.keys(b"\x01")?; // to the beginning of the line
    screen.keys("\x1b[C".repeat(5).as_bytes())?;
    screen.keys(ALT_M)?;
    shows(&screen, ENTER_SCREEN)?;
    shows(&screen, "Does deploy")?;
    screen.keys(b"\r")?;
    shows(&screen, LEAVE_SCREEN)?;
    // Esc leaves the line as it is.
    screen.keys(ALT_M)?;
    shows_times(&screen, ENTER_SCREEN, 2)?;
    screen.keys(b"\x1b")?;
    shows_times(&screen, LEAVE_SCREEN, 2)?;
    screen.keys(b"\x01\x1b[C\x1b[C\x7f\x7f\r")?; // without the first word
    shows(&screen, "ran-42")?;
    shows(&screen, "end-ok")?;
    screen.keys(b"exit\r")?;
    screen.ended()?;
    let told = history(&world)?;
    ensure!(told[0] == ("shellkeep run user:deploy ; echo end-''ok".to_owned(), Some(0)), "{shell}: {told:?}");
    Ok(())
}

/// Where a space stands already, no second one comes.
#[test]
fn what_stands_behind_the_cursor_is_one_space_away() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        own(&world, "deploy", "echo ran-$((40+2))")?;
        let mut screen = kept(&world, shell, "")?;
        screen.keys(b"dep behind\x01")?;
        screen.keys("\x1b[C".repeat(3).as_bytes())?;
        screen.keys(ALT_M)?;
        shows(&screen, "Does deploy")?;
        screen.keys(b"\r")?;
        shows(&screen, LEAVE_SCREEN)?;
        screen.keys(b"\r")?;
        shows(&screen, "ran-42 behind")?;
        screen.keys(b"exit\r")?;
        screen.ended()?;
        let told = history(&world)?;
        ensure!(told[0].0 == "shellkeep run user:deploy behind", "{shell}: {told:?}");
    }
    Ok(())
}

#[test]
fn what_is_chosen_stands_in_the_line_at_the_cursor() -> Result<()> {
    shells().try_for_each(|shell| inserted(shell, ""))
}

/// In vi's insert mode too, where the cursor keys work as well.
#[test]
fn it_opens_in_vi_mode() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        own(&world, "deploy", "echo ran-$((40+2))")?;
        let vi = match shell {
            "bash" => "set -o vi",
            "zsh" => "bindkey -v",
            _ => "fish_vi_key_bindings",
        };
        let mut screen = kept(&world, shell, vi)?;
        screen.keys(b"dep")?;
        screen.keys(ALT_M)?;
        shows(&screen, "Does deploy")?;
        screen.keys(b"\r")?;
        shows(&screen, LEAVE_SCREEN)?;
        screen.keys(b"\r")?;
        shows(&screen, "ran-42")?;
        screen.keys(b"exit\r")?;
        screen.ended()?;
    }
    Ok(())
}

#[test]
fn the_users_own_binding_of_the_key_stays() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        let bound = match shell {
            "bash" => "bind '\"\\em\": \"echo own-$((40+2))\"'",
            "zsh" => "bindkey -s '^[m' 'echo own-$((40+2))'",
            _ => "bind \\em 'commandline --insert \"echo own-(math 40 + 2)\"'",
        };
        let mut screen = kept(&world, shell, bound)?;
        screen.keys(ALT_M)?;
        shows(&screen, "echo own-")?;
        screen.keys(b"\r")?;
        shows(&screen, "own-42")?;
        ensure!(!text(&screen).contains(ENTER_SCREEN), "{shell}");
        screen.keys(b"exit\r")?;
        screen.ended()?;
    }
    Ok(())
}

#[test]
fn the_settings_name_another_key_or_none() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        own(&world, "deploy", "true")?;
        write(&world, "home/config/config.toml", "[palette]\nkey = \"ctrl-x p\"\n")?;
        let mut screen = kept(&world, shell, "")?;
        screen.keys(b"\x18p")?;
        shows(&screen, "Does deploy")?;
        screen.keys(b"\x1b")?;
        shows(&screen, LEAVE_SCREEN)?;
        screen.keys(b"exit\r")?;
        screen.ended()?;
        write(&world, "home/config/config.toml", "[palette]\nkey = \"off\"\n")?;
        let mut screen = kept(&world, shell, "")?;
        screen.keys(b"echo \x18p\r")?;
        shows_times(&screen, PROMPT, 2)?;
        ensure!(!text(&screen).contains(ENTER_SCREEN), "{shell}");
        screen.keys(b"exit\r")?;
        screen.ended()?;
    }
    Ok(())
}

/// The same name twice is told apart, what was not agreed to says so, and choosing it runs nothing.
#[test]
fn a_command_that_nobody_has_agreed_to_is_marked_and_only_inserted() -> Result<()> {
    let world = World::new()?;
    own(&world, "deploy", "echo mine")?;
    let root = project(&world, "deploy", "touch must-not-be")?;
    write(&world, "work/Makefile", ".PHONY: deploy\ndeploy: ## Makes it\n\ttouch must-not-be\n")?;
    let mut screen = kept(&world, "bash", "")?;
    screen.keys(format!("cd {}\r", root.display()).as_bytes())?;
    shows_times(&screen, PROMPT, 2)?;
    let mut palette = Screen::start(&world, &["palette", "--session", "work", "--query", "deploy"])?;
    for part in ["user:", "project:", "make:", "? ", "not trusted yet: running"] {
        if part == "not trusted yet: running" {
            palette.keys(b"\x1b[B")?;
        }
        shows(&palette, part)?;
    }
    palette.keys(b"\r")?;
    ensure!(palette.ended()?.success());
    let shown = text(&palette);
    let (_, behind) = shown.rsplit_once(LEAVE_SCREEN).unwrap_or_default();
    ensure!(behind.contains("shellkeep run ") && behind.contains(":deploy \r\n"), "{behind:?}");
    ensure!(!behind.contains("user:") && !root.join("must-not-be").exists(), "{behind:?}");
    Ok(())
}

/// A command that comes while it is open is there, without a key.
#[test]
fn a_new_command_appears_in_an_open_palette() -> Result<()> {
    let world = World::new()?;
    own(&world, "first", "true")?;
    let mut palette = Screen::start(&world, &["palette"])?;
    shows(&palette, "Does first")?;
    own(&world, "second", "true")?;
    shows(&palette, "Does second")?;
    // Also from a daemon that came up since.
    world.kill_daemon()?;
    shows(&palette, "no daemon answers")?;
    world.ok(&["daemon", "start"])?;
    own(&world, "third", "true")?;
    shows(&palette, "Does third")?;
    palette.keys(b"\x1b")?;
    palette.ended()?;
    Ok(())
}

#[test]
fn every_way_out_gives_the_terminal_back() -> Result<()> {
    let world = World::new()?;
    own(&world, "deploy", "true")?;
    let ended = |act: &dyn Fn(&mut Screen) -> Result<()>, status: i32| -> Result<()> {
        let mut palette = Screen::start(&world, &["palette", "--query", "dep"])?;
        shows(&palette, "Does deploy")?;
        ensure!(!palette.is_cooked()?);
        act(&mut palette)?;
        ensure!(palette.ended()?.code() == Some(status), "{status}");
        ensure!(palette.is_cooked()?);
        shows(&palette, LEAVE_SCREEN)?;
        let shown = text(&palette);
        let (_, behind) = shown.rsplit_once(LEAVE_SCREEN).unwrap_or_default();
        ensure!(behind.contains("shellkeep run") == (status == 0), "{status}: {behind:?}");
        Ok(())
    };
    ended(&|palette| palette.keys(b"\r"), 0)?;
    ended(&|palette| palette.keys(b"\x1b"), 130)?;
    ended(&|palette| palette.keys(b"\x03"), 130)?;
    for (sent, number) in [(Signal::TERM, 15), (Signal::HUP, 1), (Signal::INT, 2)] {
        ended(&|palette| signal(palette.pid()?, sent), 128 + number)?;
    }
    Ok(())
}

#[test]
fn tiny_windows_wide_characters_and_resizing_are_no_trouble() -> Result<()> {
    let world = World::new()?;
    own(&world, "日本語コマンドの名前", "true")?;
    own(&world, "deploy", "true")?;
    let mut palette = Screen::start(&world, &["palette"])?;
    shows(&palette, "Does deploy")?;
    for (times, (columns, rows)) in [(20, 5), (40, 10), (1, 1), (3, 2), (200, 60), (20, 5)].into_iter().enumerate() {
        palette.resize(columns, rows)?;
        palette.keys(if times % 2 == 0 { "日本".as_bytes() } else { b"\x15" })?;
    }
    palette.resize(80, 24)?;
    palette.keys("\x15日本\r".as_bytes())?; // before it is found
    shows(&palette, LEAVE_SCREEN)?;
    ensure!(palette.ended()?.success());
    shows(&palette, "shellkeep run user:日本語コマンドの名前 ")
}

#[test]
fn without_colours_marks_say_all() -> Result<()> {
    let world = World::new()?;
    project(&world, "deploy", "true")?;
    own(&world, "mine", "true")?;
    let coloured = |screen: &Screen| {
        let shown = text(screen);
        let sequences = shown.split("\x1b[").filter_map(|part| part.split_once('m')).map(|(numbers, _)| numbers);
        let numbers = sequences.flat_map(|numbers| numbers.split(';')).filter_map(|number| number.parse::<u8>().ok());
        numbers.into_iter().any(|number| (30..=38).contains(&number) || (40..=48).contains(&number))
    };
    let mut palette = Screen::start(&world, &["palette"])?;
    shows(&palette, "Does mine")?;
    palette.keys(b"\x1b")?;
    palette.ended()?;
    ensure!(coloured(&palette));
    let program = world.program().display().to_string();
    let script = format!("NO_COLOR=1 exec '{program}' palette");
    let mut palette = Screen::of(&world, std::path::Path::new("/bin/sh"), &["-c", &script])?;
    shows(&palette, "Does mine")?;
    palette.keys(b"\x1b")?;
    palette.ended()?;
    let shown = text(&palette);
    ensure!(!coloured(&palette), "{shown:?}");
    // Nor is a colour asked for and taken out on its way, which would take reversed and bold with it.
    let is_reset = |part: &str| part.trim_start_matches(';').strip_prefix('m').is_some_and(|behind| !behind.is_empty());
    ensure!(!shown.split("\x1b[").any(is_reset), "{shown:?}");
    Ok(())
}

#[test]
fn without_a_daemon_or_a_terminal_it_says_so_in_a_line() -> Result<()> {
    let world = World::new()?;
    let program = world.program().display().to_string();
    let script = format!("SHELLKEEP_SOCKET=/nonexistent/s '{program}' palette 2>&1; echo status-$?");
    let screen = Screen::of(&world, std::path::Path::new("/bin/sh"), &["-c", &script])?;
    shows(&screen, "status-3")?;
    let shown = text(&screen);
    ensure!(shown.contains("no daemon answers") && !shown.contains(ENTER_SCREEN), "{shown:?}");
    let begun = Instant::now();
    let mut command = std::process::Command::new("setsid");
    let sealed = world.command(["palette"]);
    command.arg("--wait").arg(world.program()).arg("palette").env_clear();
    command.envs(sealed.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let refused = command.stdin(std::process::Stdio::null()).output()?;
    ensure!(refused.status.code() == Some(2) && begun.elapsed() < Duration::from_secs(10), "{refused:?}");
    ensure!(String::from_utf8_lossy(&refused.stderr).contains("needs a terminal"), "{refused:?}");
    Ok(())
}
