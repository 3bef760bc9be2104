//! A day of work in each shell: what was typed is the list, and each command's output is its own.
//!
//! Commands are typed through a real PTY in a seeded order; each step waits for the shell's next prompt.

mod model;
mod steps;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use torture::screen::Screen;

pub(crate) use self::model::Sshd;
use self::model::{Act, Expected, Out, Shell, Step};
use crate::world::{World, eventually};

/// Commands of a day.
const COMMANDS_MIN: usize = 300;

/// Of these many the output is read with `output --command N`, as a user would; of the others from the whole.
const READ_EACH: usize = 31;

/// What every prompt shows.
const READY: &str = "READY>";

/// A shell at work on a screen.
struct Typist {
    screen: Screen,
    at: usize,
}

impl Typist {
    /// Waits until `text` is shown behind what was waited for before.
    fn sees(&mut self, text: &str) -> Result<()> {
        let found = eventually(&format!("{text:?} is shown"), || {
            let shown = self.screen.shown();
            let place = shown[self.at..].windows(text.len()).position(|part| part == text.as_bytes());
            Ok(place.map(|place| self.at + place + text.len()))
        });
        let shown = self.screen.shown();
        self.at = found.with_context(|| format!("{:?}", String::from_utf8_lossy(&shown[self.at..])))?;
        Ok(())
    }

    fn prompt(&mut self) -> Result<()> {
        self.sees("\x1b]133;A;sk=")?;
        self.sees(READY)
    }

    fn act(&mut self, step: &Step) -> Result<()> {
        for act in &step.acts {
            match act {
                Act::Type(keys) => self.screen.keys(keys.as_bytes())?,
                Act::See(text) => self.sees(text)?,
                Act::Size(columns) => self.screen.resize(*columns, 24)?,
                Act::Interrupt => self.interrupt()?,
            }
        }
        if step.marks_prompt { self.prompt() } else { Ok(()) }
    }

    /// Ctrl-C at a prompt. fish may miss one that comes while it draws.
    fn interrupt(&mut self) -> Result<()> {
        let mut looks = 0_u32;
        let begun = self.at;
        eventually("Ctrl-C brings another prompt", || {
            if looks.is_multiple_of(100) {
                self.screen.keys(b"\x03")?;
            }
            looks += 1;
            let shown = self.screen.shown();
            Ok(shown[begun..].windows(READY.len()).any(|part| part == READY.as_bytes()).then_some(()))
        })?;
        self.sees(READY)
    }
}

/// Writes the user's own files.
fn furnish(world: &World, shell: Shell) -> Result<()> {
    let home = world.outside();
    let (file, text) = shell.start_up();
    let file = home.join(file);
    std::fs::create_dir_all(file.parent().context("a parent")?)?;
    std::fs::write(file, text)?;
    // Shells inside show the same prompt.
    for other in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let (file, text) = other.start_up();
        let file = home.join(file);
        std::fs::create_dir_all(file.parent().context("a parent")?)?;
        std::fs::write(file, text)?;
    }
    for directory in ["a b", "ünï", "globs"] {
        std::fs::create_dir(home.join(directory))?;
    }
    std::fs::write(home.join("unique-file"), "u\n")?;
    std::fs::write(home.join("forged"), model::FORGED)?;
    for file in ["x1", "x2", "x3"] {
        std::fs::write(home.join("globs").join(file), "")?;
    }
    Ok(())
}

fn a_day_in(shell: Shell) -> Result<()> {
    let world = World::new()?;
    furnish(&world, shell)?;
    let sshd = Sshd::start(world.outside());
    let steps = steps::of_a_day(shell, world.outside(), sshd.as_ref(), COMMANDS_MIN);
    let screen = Screen::start(&world, &["start", "-n", "day", "--", shell.name()])?;
    let mut typist = Typist { screen, at: 0 };
    typist.prompt()?;
    for (number, step) in steps.iter().enumerate() {
        typist.act(step).with_context(|| format!("step {number}: {step:?}"))?;
    }
    typist.screen.keys(b"exit 7\r")?;
    let status = typist.screen.ended()?;
    ensure!(status.code() == Some(7), "{status:?}");
    drop(sshd);
    let expected: Vec<&Expected> = steps.iter().flat_map(|step| &step.commands).collect();
    ensure!(expected.len() >= COMMANDS_MIN, "only {} commands", expected.len());
    compare(&world, &expected)
}

fn compare(world: &World, expected: &[&Expected]) -> Result<()> {
    let listed: Vec<serde_json::Value> = serde_json::from_str(&world.ok(&["history", "day", "--json"])?)?;
    let mut wrong = Vec::new();
    for (index, (row, wanted)) in listed.iter().zip(expected).enumerate() {
        let is_as_typed = row["command"] == wanted.line.as_str()
            && row["cwd"] == wanted.cwd.as_str()
            && wanted.exit.is_none_or(|exit| row["exit_code"] == exit)
            && row["id"] == index + 1;
        // Not that they are in order: a clock may be set back meanwhile, and then the record says what it said.
        let is_in_time = row["started_at"].is_string() && row["duration_ms"].as_u64().is_some_and(|took| took < 20_000);
        if !is_as_typed || !is_in_time {
            wrong.push(format!("{row}\n  typed: {wanted:?}"));
            break; // all that follow are shifted
        }
        let output_bytes = row["output_bytes"].as_u64();
        let length = if let Out::Is(text) = &wanted.out { Some(text.len() as u64) } else { None };
        if length.is_some_and(|length| output_bytes != Some(length)) || index.is_multiple_of(READ_EACH) || wanted.is_odd
        {
            let output = world.run(&["output", "day", "--command", &(index + 1).to_string()])?.stdout;
            if !wanted.out.is(&output) {
                wrong.push(format!("{row}\n  typed: {wanted:?}\n  output: {:?}", String::from_utf8_lossy(&output)));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(listed.len() == expected.len() + 1, "{} listed, {} typed", listed.len(), expected.len());
    let last = listed.last().map(|row| row["command"].clone());
    ensure!(last == Some("exit 7".into()), "{last:?}");
    Ok(())
}

/// Whether a program is there; a step that needs one that is not is left out.
pub(crate) fn is_there(program: &str) -> bool {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().any(|directory| Path::new(directory).join(program).exists())
}

#[test]
fn a_day_in_bash_is_listed_as_it_was_typed() -> Result<()> {
    a_day_in(Shell::Bash)
}

#[test]
fn a_day_in_zsh_is_listed_as_it_was_typed() -> Result<()> {
    a_day_in(Shell::Zsh)
}

#[test]
fn a_day_in_fish_is_listed_as_it_was_typed() -> Result<()> {
    a_day_in(Shell::Fish)
}
