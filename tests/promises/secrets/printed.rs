//! Secrets of known shapes that were printed or typed: in the record as they were, in no index and in no list.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use torture::screen::Screen;

use super::{files_with, token};
use crate::world::{World, eventually};

fn settings(world: &World, text: &str) -> Result<()> {
    std::fs::create_dir_all(world.home().join("config"))?;
    Ok(std::fs::write(world.home().join("config/config.toml"), text)?)
}

fn hits(world: &World, text: &str) -> Result<Vec<Value>> {
    let output = world.run(&["search", "--json", "--limit", "500", text])?;
    serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Files of the index with any part of `secret`. What a terminal shows again on attach belongs to the record.
fn indexed(world: &World, secret: &str) -> Vec<String> {
    let found = files_with(&world.home().join("state/index"), secret);
    found.into_iter().filter(|file| !Path::new(file).parent().is_some_and(|at| at.ends_with("screens"))).collect()
}

fn commands(world: &World) -> Result<String> {
    world.ok(&["history", "leaky", "--json"])
}

/// Of each kind: what is printed, what is typed, and what of both is secret.
fn kinds() -> Vec<(String, String, String)> {
    let word = |length: usize| {
        let digits: String = std::iter::repeat_with(|| format!("{:016X}", fastrand::u64(..))).take(3).collect();
        format!("Zq{}", &digits[..length - 2])
    };
    let github = format!("{}_{}", "ghp", word(36));
    let amazon = format!("{}{}", "AKIA", word(16).to_uppercase());
    let (password, staff) = (word(12), format!("{:06}", fastrand::u32(100_000..1_000_000)));
    let (address, key) = (word(10), word(40));
    let pem = format!("-----BEGIN RSA PRIVATE KEY-----\n{key}\n{key}\n-----END RSA PRIVATE KEY-----");
    vec![
        (format!("token {github} end"), format!(": export GH={github}"), github),
        (format!("id {amazon} end"), format!(": {amazon}"), amazon),
        (format!("password={password}"), format!(": --password={password}"), password),
        (format!("staff-{staff} is it"), format!(": staff-{staff}"), staff),
        (format!("https://me:{address}@h/x"), format!(": https://me:{address}@h/x"), address),
        (pem, ": nothing".to_owned(), key),
    ]
}

/// Through the index and past it, while the screen shows them, and when the daemon has died.
#[test]
fn what_is_printed_or_typed_and_secret_is_found_nowhere_but_in_the_record() -> Result<()> {
    let world = World::new()?;
    settings(&world, "[privacy]\npatterns = ['staff-([0-9]{6})']\n")?;
    std::fs::write(world.outside().join(".bashrc"), "PS1='READY>'\n")?;
    let kinds = kinds();
    let mut text = String::new();
    kinds.iter().try_for_each(|(printed, ..)| writeln!(text, "{printed}"))?;
    std::fs::write(world.outside().join("printed"), text)?;
    let screen = &mut Screen::start(&world, &["start", "-n", "leaky", "--", "bash"])?;
    screen.shows("READY>")?;
    screen.keys(b"cat printed; echo printed-''all\r")?;
    screen.shows("printed-all")?;
    for (_, typed, _) in &kinds {
        screen.keys(format!("{typed}\r").as_bytes())?;
    }
    screen.keys(b"echo typed-''all\r")?;
    screen.shows("typed-all")?;
    let session = world.listed_by_name("leaky")?;
    let nowhere = |when: &str| -> Result<()> {
        let listed = commands(&world)?;
        let rows: Vec<Value> = serde_json::from_str(&listed)?;
        let is_once = rows.iter().zip(1..).all(|(row, number)| row["id"] == number);
        ensure!(is_once && rows.len() >= kinds.len() + 2, "{when}: each command once: {listed}");
        for (_, typed, secret) in &kinds {
            for part in [secret.as_str(), &secret[..6], &secret[secret.len() - 6..]] {
                ensure!(hits(&world, part)?.is_empty(), "{when}: {part} is found: {:?}", hits(&world, part)?);
                ensure!(!listed.contains(part), "{when}: {part} is listed: {listed}");
                ensure!(indexed(&world, part).is_empty(), "{when}: {part}: {:?}", indexed(&world, part));
            }
            ensure!(listed.contains(&typed.replace(secret, "[redacted]")), "{when}: {typed}: {listed}");
        }
        let shown = hits(&world, "[redacted]")?;
        let of = |kind: &str| shown.iter().filter(|hit| hit["kind"] == kind).count();
        ensure!(of("command") == 5 && of("output") >= 7, "{when}: {shown:?}");
        Ok(())
    };
    eventually("the last command is listed", || Ok(commands(&world)?.contains("typed-").then_some(())))?;
    nowhere("at the prompt")?;
    let unread = commands(&world)?;
    let pid = world.kill_daemon()?;
    world.daemon_other_than(Some(pid))?;
    nowhere("after the daemon's death")?;
    ensure!(commands(&world)? == unread, "another list: {}", commands(&world)?);
    screen.keys(b"exit\r")?;
    screen.ended()?;
    world.ended(&session)?;
    nowhere("at the end")?;
    let raw = String::from_utf8_lossy(&world.output(&session)?).into_owned();
    for (printed, _, secret) in &kinds {
        ensure!(raw.contains(secret) && raw.contains(&printed.replace('\n', "\r\n")), "the record keeps {printed}");
    }
    Ok(())
}

/// What was indexed with other patterns is indexed again.
#[test]
fn other_patterns_count_for_what_was_recorded_before_too() -> Result<()> {
    let world = World::new()?;
    let (one, other) = (token("alpha-"), token("beta-"));
    settings(&world, "[privacy]\npatterns = ['alpha-[0-9a-f]+']\n")?;
    let session = world.session(&format!("echo first {one}; echo second {other}"))?;
    world.ended(&session)?;
    ensure!(hits(&world, &one)?.is_empty() && hits(&world, &other)?.len() == 1);
    for (text, counts) in [
        ("[privacy]\npatterns = ['beta-[0-9a-f]+']\n", (1, 0)),
        ("[privacy]\nredact = false\npatterns = ['beta-[0-9a-f]+']\n", (1, 1)),
    ] {
        settings(&world, text)?;
        world.ok(&["daemon", "restart"])?;
        eventually("it is read again", || {
            Ok(((hits(&world, &one)?.len(), hits(&world, &other)?.len()) == counts).then_some(()))
        })
        .with_context(|| text.to_owned())?;
        ensure!(indexed(&world, &other).is_empty() || counts.1 == 1);
    }
    Ok(())
}
