//! Shells that read a secret themselves, character by character: the terminal looks then as it does at a prompt.

use anyhow::{Result, ensure};
use shellkeep_journal::RecordKind;
use torture::screen::Screen;

use super::{files_with, hides_what_is_typed, payloads, token};
use crate::world::{World, eventually};

/// A shell of which the user's own files give a prompt. Named like the first word of `command`.
fn shell_in(world: &World, command: &str) -> Result<Screen> {
    let words: Vec<_> = command.split(' ').collect();
    let home = world.outside();
    std::fs::create_dir_all(home.join(".config/fish"))?;
    std::fs::write(home.join(".bashrc"), "PS1='READY>'\n")?;
    std::fs::write(home.join(".zshrc"), "PS1='READY>'\n")?;
    std::fs::write(home.join(".config/fish/config.fish"), "function fish_prompt; echo -n 'READY>'; end\n")?;
    let screen =
        Screen::start(world, &[&["start", "--record-input", "-n", words[0], "--"], words.as_slice()].concat())?;
    screen.shows(prompt_of(command))?;
    Ok(screen)
}

/// Without its files bash has a prompt of its own, and no marks.
fn prompt_of(command: &str) -> &'static str {
    if command.contains("--norc") { "bash-" } else { "READY>" }
}

/// Waits until `text` is shown behind `from`.
fn shows_behind(screen: &Screen, from: usize, text: &str) -> Result<()> {
    eventually(text, || {
        let shown = screen.shown();
        Ok(String::from_utf8_lossy(shown.get(from..).unwrap_or_default()).contains(text).then_some(()))
    })
}

/// Types `line`, which makes the shell ask, and the secret; then looks for both.
fn not_recorded(command: &str, line: &str) -> Result<()> {
    let shell = command.split(' ').next().unwrap_or_default();
    if !crate::day::is_there(shell) {
        return Ok(());
    }
    let world = World::new()?;
    let mut screen = shell_in(&world, command)?;
    let (secret, behind) = (token("secret"), token("behind"));
    screen.keys(format!("{line}\r").as_bytes())?;
    screen.shows("asking")?;
    hides_what_is_typed(&world, shell)?;
    let from = screen.shown().len();
    screen.keys(secret.as_bytes())?;
    screen.keys(b"\r")?;
    shows_behind(&screen, from, prompt_of(command))?;
    let spooled = files_with(world.home(), &secret);
    ensure!(spooled.is_empty(), "{line}: while it runs: {spooled:?}");
    screen.keys(format!("echo {behind}\r").as_bytes())?;
    shows_behind(&screen, from, &behind)?;
    screen.keys(b"exit\r")?;
    screen.ended()?;
    let session = world.listed_by_name(shell)?;
    world.ended(&session)?;
    let log = world.home().join("state/log").join(&session);
    let typed = String::from_utf8_lossy(&payloads(&log, Some(RecordKind::Input))?).into_owned();
    // A shell without marks is not recorded at its prompt either: that looks like its questions.
    let is_kept = typed.contains(line) && typed.contains(&behind);
    ensure!(is_kept == (prompt_of(command) == "READY>"), "{line}: what is no secret is recorded: {typed:?}");
    ensure!(!typed.contains(&secret[..4]), "{line}: {typed:?}");
    let found = files_with(world.outside(), &secret);
    ensure!(found.is_empty(), "{line}: {found:?}");
    Ok(())
}

#[test]
fn a_secret_that_a_shell_reads_itself_is_not_recorded() -> Result<()> {
    not_recorded("bash", "printf 'as%s\\n' king; read -rs x")?;
    not_recorded("bash", "printf 'as%s\\n' king; read -rsn 22 x; read -rst 0.01")?;
    not_recorded("bash", "printf 'as%s\\n' king; (read -rsn 22 x; read -rst 0.01)")?;
    not_recorded("zsh", "printf 'as%s\\n' king; read -rs x")?;
    not_recorded("zsh", "printf 'as%s\\n' king; read -rsk 22 x")?;
    not_recorded("fish", "printf 'as%s\\n' king; read -s x")
}

#[test]
fn nor_by_a_shell_that_marks_nothing_or_that_runs_in_the_kept_one() -> Result<()> {
    not_recorded("bash --norc", "printf 'as%s\\n' king; read -rsn 22 x; read -rst 0.01")?;
    not_recorded("bash", "bash -c 'printf as%s king; read -rsn 22 x; read -rst 0.01'")
}

/// The first process of a pipeline gives its group the name; when it has ended, the others still read.
#[test]
fn nor_behind_a_pipe_whose_first_process_has_ended() -> Result<()> {
    not_recorded(
        "bash",
        "true | { sleep 0.1; printf 'as%s\\n' king; read -rsn 22 x </dev/tty; read -rst 0.01 </dev/tty; }",
    )?;
    not_recorded("zsh", "true | { sleep 0.1; printf 'as%s\\n' king; read -rsk 22 x </dev/tty; }")
}

/// A program in the shell's place has marks of its own, or none: what is typed there is no secret.
#[test]
fn what_is_typed_into_another_program_in_the_shells_place_is_recorded() -> Result<()> {
    let world = World::new()?;
    let mut screen = shell_in(&world, "bash")?;
    let typed = token("typed");
    let from = screen.shown().len();
    screen.keys(b"stty raw -echo; exec perl -e '$|=1; print chr(117), chr(112); read STDIN, $x, 21'\r")?;
    shows_behind(&screen, from, "up")?;
    hides_what_is_typed(&world, "bash")?;
    screen.keys(typed.as_bytes())?;
    screen.ended()?;
    let session = world.listed_by_name("bash")?;
    world.ended(&session)?;
    let input = payloads(&world.home().join("state/log").join(&session), Some(RecordKind::Input))?;
    ensure!(String::from_utf8_lossy(&input).contains(&typed), "{:?}", String::from_utf8_lossy(&input));
    Ok(())
}
