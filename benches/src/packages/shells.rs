//! Open shells, in all of which a line is typed at once: a program that was there before, and one of a package that was installed
//! this moment.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use super::{done, source};
use crate::home::Home;
use crate::pty::tty::Tty;
use crate::report;
use crate::scratch::Scratch;

/// How long one of so many shells may take to its first prompt, or to what is typed.
const START_WAIT_MAX: Duration = Duration::from_mins(1);
/// What the shells' prompt is.
const PROMPT: &[u8] = b"ready>";
/// Prints its arguments and starts no shell: what is measured is when it runs.
const PROGRAM: &str = "/bin/echo";

/// One round, from the first key typed; for the package, from the end of `pkg install`.
#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names)] // the unit comes last
pub(super) struct Sample {
    pub(super) first_ms: f64,
    pub(super) all_ms: f64,
    pub(super) floor_first_ms: f64,
    pub(super) floor_all_ms: f64,
}

/// All rounds.
pub(super) fn measure(home: &Home, sessions: u16, rounds: u32) -> anyhow::Result<Vec<Sample>> {
    report::note(&format!("{sessions} shells"));
    let place = Scratch::new()?;
    std::fs::write(place.path().join(".bashrc"), "PS1='ready>'\n")?;
    let bin = place.path().join("bin");
    std::fs::create_dir(&bin)?;
    std::fs::copy(PROGRAM, bin.join("floor"))?;
    let path = std::env::join_paths(
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).chain([bin.clone()]),
    )?;
    let mut shells = Vec::new();
    for _ in 0..sessions {
        let mut command = home.command();
        command.args(["start", "--", "bash"]);
        command.env("HOME", place.path()).env("PATH", &path).env("TERM", "xterm-256color");
        let shell = Tty::start(command)?;
        shell.read_until_within(PROMPT, START_WAIT_MAX).context("a shell has no prompt")?;
        shells.push(shell);
    }
    let mut samples = Vec::new();
    for round in 0..rounds {
        let name = format!("bench-{round}");
        let from = place.path().join(&name);
        source(&from, &name, Path::new(PROGRAM))?;
        // What is typed does not have what is printed in it.
        let (floor_first_ms, floor_all_ms) = typed(
            &shells,
            &format!("floor floor-$(({round}+1000))\r"),
            &format!("floor-{}", round + 1000),
            Instant::now(),
        )?;
        done(home.command().args(["pkg", "install"]).arg(&from))?;
        let (first_ms, all_ms) = typed(
            &shells,
            &format!("{name} pkg-$(({round}+1000))\r"),
            &format!("pkg-{}", round + 1000),
            Instant::now(),
        )?;
        samples.push(Sample { first_ms, all_ms, floor_first_ms, floor_all_ms });
    }
    for shell in shells {
        shell.write(b"exit\r")?;
        shell.end()?;
    }
    Ok(samples)
}

/// Until the first and the last of all has printed it and is at its prompt again, in milliseconds.
fn typed(shells: &[Tty], line: &str, printed: &str, began: Instant) -> anyhow::Result<(f64, f64)> {
    for shell in shells {
        shell.write(line.as_bytes())?;
    }
    let mut times = Vec::new();
    for shell in shells {
        times.push(printed_at(shell, format!("{printed}\r\n").as_bytes())?.duration_since(began).as_secs_f64() * 1e3);
    }
    Ok((times.first().copied().unwrap_or(0.0), times.last().copied().unwrap_or(0.0)))
}

/// When a shell has printed it; returns at the prompt behind that.
fn printed_at(shell: &Tty, printed: &[u8]) -> anyhow::Result<Instant> {
    let until = Instant::now() + START_WAIT_MAX;
    let (mut seen, mut chunk, mut at) = (Vec::new(), [0; 4096], None);
    let find = |seen: &[u8], text: &[u8]| seen.windows(text.len()).position(|window| window == text);
    loop {
        let count = shell.read(&mut chunk, until)?;
        ensure!(count > 0, "a shell has ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&chunk[..count]);
        if let Some(found) = find(&seen, printed) {
            let at = *at.get_or_insert_with(Instant::now);
            if find(&seen[found..], PROMPT).is_some() {
                return Ok(at);
            }
        }
    }
}
