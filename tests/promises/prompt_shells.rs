//! Kept shells of the tests about the prompt: their start-up files, and commands to find there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;
use torture::screen::Screen;

use crate::world::{World, eventually, skipped};

/// What the prompt of each shell is here.
pub(crate) const PROMPT: &str = "READY>";

/// What Alt-m sends.
pub(crate) const ALT_M: &[u8] = b"\x1bm";

/// The shells that are there.
pub(crate) fn shells() -> impl Iterator<Item = &'static str> {
    ["bash", "zsh", "fish"].into_iter().filter(|shell| {
        let is_there = Path::new("/usr/bin").join(shell).exists();
        if !is_there {
            skipped(shell);
        }
        is_there
    })
}

/// Writes `text` to a file below the world's user's home.
pub(crate) fn write(world: &World, name: &str, text: &str) -> Result<()> {
    let path = world.outside().join(name);
    std::fs::create_dir_all(path.parent().context("a file lies in a directory")?)?;
    Ok(std::fs::write(path, text)?)
}

/// A command of the user's own, which is trusted.
pub(crate) fn own(world: &World, name: &str, line: &str) -> Result<()> {
    write(world, &format!("home/config/commands/{name}.toml"), &command(name, line))
}

fn command(name: &str, line: &str) -> String {
    format!("description = \"Does {name}\"\ncommand = '''{line}'''\n")
}

/// A project with one command of our own format, which nobody has agreed to.
pub(crate) fn project(world: &World, name: &str, line: &str) -> Result<PathBuf> {
    write(world, &format!("work/.shellkeep/commands/{name}.toml"), &command(name, line))?;
    Ok(world.outside().canonicalize()?.join("work"))
}

/// Makes the shells' start-up files, with `more` at the end of the one of `shell`, and "shellkeep" a name of the program.
pub(crate) fn start_files(world: &World, shell: &str, more: &str) -> Result<()> {
    let bin = world.outside().join("bin");
    std::fs::create_dir_all(&bin)?;
    if !bin.join("shellkeep").exists() {
        std::os::unix::fs::symlink(world.program(), bin.join("shellkeep"))?;
    }
    match shell {
        "bash" => write(world, ".bashrc", &format!("PS1='{PROMPT}'; PATH=$HOME/bin:$PATH\n{more}\n")),
        "zsh" => write(world, ".zshrc", &format!("PS1='{PROMPT}'; PATH=$HOME/bin:$PATH\n{more}\n")),
        _ => {
            let prompt = format!("function fish_prompt; echo -n '{PROMPT}'; end; function fish_greeting; end");
            write(world, ".config/fish/config.fish", &format!("{prompt}\nset -gx PATH $HOME/bin $PATH\n{more}\n"))
        }
    }
}

/// A kept shell called "work" at its first prompt.
pub(crate) fn kept(world: &World, shell: &str, more: &str) -> Result<Screen> {
    start_files(world, shell, more)?;
    let screen = Screen::start(world, &["start", "-n", "work", "--", &format!("/usr/bin/{shell}")])?;
    screen.shows(PROMPT)?;
    Ok(screen)
}

/// What a person sees on 80 columns and 24 rows: a full-screen view draws only what has changed.
fn seen(shown: &str) -> String {
    let Ok(mut terminal) = avt::Terminal::new(80, 24) else { return String::new() };
    terminal.feed(shown);
    terminal.screen().text().join("\n")
}

/// Waits until `text` was shown so many times, as bytes or as a person reads it.
pub(crate) fn shows_times(screen: &Screen, text: &str, times: usize) -> Result<()> {
    let count = || {
        let shown = String::from_utf8_lossy(&screen.shown()).into_owned();
        shown.matches(text).count().max(seen(&shown).matches(text).count())
    };
    let waited = eventually("the text is shown so often", || Ok((count() >= times).then_some(())));
    waited.with_context(|| {
        let shown = String::from_utf8_lossy(&screen.shown()).into_owned();
        format!("{text:?} in {shown:?}, which looks like\n{}", seen(&shown))
    })
}

/// Waits until `text` is shown, and says what was if it is not.
pub(crate) fn shows(screen: &Screen, text: &str) -> Result<()> {
    shows_times(screen, text, 1)
}

/// The commands that the session is known for, as typed, with their status.
pub(crate) fn history(world: &World) -> Result<Vec<(String, Option<i64>)>> {
    let all: Vec<Value> = serde_json::from_str(&world.ok(&["history", "work", "--json"])?)?;
    let row = |row: &Value| (row["command"].as_str().unwrap_or_default().to_owned(), row["exit_code"].as_i64());
    Ok(all.iter().map(row).collect())
}
