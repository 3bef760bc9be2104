//! What is typed at a prompt for a secret is nowhere on the disk, with `--record-input` too; what is typed around it is.
//! What is printed and secret is in the record and nowhere else.

mod printed;
mod programs;
mod shells;

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::termios::LocalModes;
use shellkeep_journal::storage::RealStorage;
use shellkeep_journal::{Item, Reader, RecordKind, Start};
use torture::screen::Screen;

use self::programs::{Asks, CORE, MORE};
use crate::world::{World, eventually};

/// A word that is nowhere else.
fn token(kind: &str) -> String {
    format!("{kind}{:016x}", fastrand::u64(..))
}

/// Files below `directory` in which `token` stands, as bytes.
pub(crate) fn files_with(directory: &Path, token: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let is = |is_it: fn(&std::fs::FileType) -> bool| entry.file_type().is_ok_and(|kind| is_it(&kind));
        if is(std::fs::FileType::is_dir) {
            found.extend(files_with(&path, token));
        } else if is(std::fs::FileType::is_file) {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(token.len()).any(|part| part == token.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// Payloads of every record of a kind, or of all, in a journal; sealed segments unpacked.
pub(crate) fn payloads(journal: &Path, kind: Option<RecordKind>) -> Result<Vec<u8>> {
    let mut reader = Reader::open(Arc::new(RealStorage), journal, Start::Oldest)?;
    let mut all = Vec::new();
    while let Some(item) = reader.next()? {
        if let Item::Record(record) = item
            && kind.is_none_or(|kind| kind == record.header.kind)
        {
            all.extend_from_slice(record.payload);
        }
    }
    Ok(all)
}

/// Waits until the session's terminal reads a line that it does not show.
fn hides_what_is_typed(world: &World, name: &str) -> Result<()> {
    let session = world.listed_by_name(name)?;
    let pid = world.listed(&session)?["pid"].as_u64().context("a process")?;
    eventually("the program asks for a secret", || {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let tty = rustix::fs::open(format!("/proc/{pid}/fd/2"), flags, Mode::empty())?;
        let modes = rustix::termios::tcgetattr(&tty)?.local_modes;
        Ok((!modes.contains(LocalModes::ECHO)).then_some(()))
    })
}

/// Runs a program that asks, between two questions that are none; then looks for what was typed.
fn asked_by(world: &World, asks: &Asks) -> Result<()> {
    let (before, secret, after) = (token("before"), token("secret"), token("after"));
    let script = format!(
        "trap : INT; T={}; mkdir -p $T/{name}; cd $T/{name}; printf 'who? '; read who; {}; stty sane; printf 'more? '; read more",
        world.outside().display(),
        asks.script,
        name = asks.name
    );
    let screen =
        &mut Screen::start(world, &["start", "--record-input", "-n", asks.name, "--", "/bin/sh", "-c", &script])?;
    screen.shows("who? ")?;
    screen.keys(format!("{before}\r").as_bytes())?;
    for (index, prompt) in asks.prompts.iter().enumerate() {
        eventually(&format!("{prompt} for the {}. time", index + 1), || {
            let shown = String::from_utf8_lossy(&screen.shown()).into_owned();
            let times = asks.prompts[..=index].iter().filter(|other| *other == prompt).count();
            Ok((shown.matches(prompt).count() >= times).then_some(()))
        })
        .with_context(|| String::from_utf8_lossy(&screen.shown()).into_owned())?;
        hides_what_is_typed(world, asks.name)?;
        screen.keys(format!("{secret}\r").as_bytes())?;
    }
    // Some ask again when they do not like it: they are told to stop, until they do.
    let mut looks = 0_u32;
    eventually("the program ends", || {
        looks += 1;
        if looks.is_multiple_of(200) {
            screen.keys(b"\x03")?;
        }
        Ok(String::from_utf8_lossy(&screen.shown()).contains("more? ").then_some(()))
    })?;
    let spooled = files_with(world.home(), &secret);
    ensure!(spooled.is_empty(), "{}: while it runs: {spooled:?}", asks.name);
    screen.keys(format!("{after}\r").as_bytes())?;
    screen.ended()?;
    let session = world.listed_by_name(asks.name)?;
    world.ended(&session)?;
    let log = world.home().join("state/log").join(&session);
    let typed = String::from_utf8_lossy(&payloads(&log, Some(RecordKind::Input))?).into_owned();
    ensure!(
        typed.contains(&before) && typed.contains(&after),
        "{}: what is no secret is recorded: {typed:?}",
        asks.name
    );
    let all = payloads(&log, None)?;
    ensure!(!all.windows(secret.len()).any(|part| part == secret.as_bytes()), "{}: in the record", asks.name);
    let found = files_with(world.outside(), &secret);
    ensure!(found.is_empty(), "{}: {found:?}", asks.name);
    Ok(())
}

fn nobody_keeps_what_is_asked_by(all: &[Asks]) -> Result<()> {
    let world = World::new()?;
    let server = crate::day::Sshd::start(world.outside());
    if let Some(server) = &server {
        std::fs::write(world.outside().join("ssh"), server.with_password())?;
    }
    let mut wrong = Vec::new();
    for asks in all {
        let missing: Vec<_> = asks.needs.iter().filter(|program| !crate::day::is_there(program)).collect();
        if !missing.is_empty() || asks.name == "ssh" && server.is_none() {
            let _ = writeln!(std::io::stderr(), "passed over: {}, for want of {missing:?}", asks.name);
            continue;
        }
        if let Err(error) = asked_by(&world, asks) {
            wrong.push(format!("{}: {error:#}", asks.name));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

#[test]
fn a_secret_that_is_typed_at_a_prompt_is_nowhere() -> Result<()> {
    nobody_keeps_what_is_asked_by(CORE)
}

/// Those that are not on every machine.
#[test]
fn nor_at_the_prompts_of_many_other_programs() -> Result<()> {
    nobody_keeps_what_is_asked_by(MORE)
}

/// A full-screen program has echo off all the time; what is typed there is no secret.
#[test]
fn what_is_typed_into_an_editor_is_recorded() -> Result<()> {
    let world = World::new()?;
    let typed = token("typed");
    // It says itself that it reads: before, the shell would still be who has the terminal.
    let script = "stty raw -echo; perl -e '$|=1; print \"up\"; read STDIN, $x, 28'; stty sane";
    let screen = &mut Screen::start(&world, &["start", "--record-input", "-n", "raw", "--", "/bin/sh", "-c", script])?;
    screen.shows("up")?;
    screen.keys(format!("{typed}{:>7}", "").as_bytes())?;
    screen.ended()?;
    let session = world.listed_by_name("raw")?;
    world.ended(&session)?;
    let input = payloads(&world.home().join("state/log").join(&session), Some(RecordKind::Input))?;
    ensure!(String::from_utf8_lossy(&input).contains(&typed), "{:?}", String::from_utf8_lossy(&input));
    Ok(())
}
