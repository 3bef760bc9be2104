//! Limits by size and age: what is over them goes, the disk is free again, and nobody takes it for damage or loss.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::world::{World, eventually};

/// A world whose daemon has these settings.
fn world(daemon: &str) -> Result<World> {
    let world = World::new()?;
    std::fs::create_dir_all(world.home().join("config"))?;
    std::fs::write(world.home().join("config/config.toml"), format!("[daemon]\n{daemon}\n"))?;
    Ok(world)
}

/// Bytes that a directory really takes on the disk.
fn on_disk(path: &Path) -> Result<u64> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(0) };
    let mut bytes = found.blocks() * 512;
    if found.is_dir() {
        for entry in std::fs::read_dir(path)?.flatten() {
            bytes += on_disk(&entry.path())?;
        }
    }
    Ok(bytes)
}

/// Prints a word, then so many MiB that no compression makes smaller, then another word.
fn talk(first: &str, mib: u32, last: &str) -> String {
    format!("stty -opost; echo {first}; head -c {}m /dev/urandom | base64; echo {last}", mib * 3 / 4)
}

fn found(world: &World, text: &str) -> Result<usize> {
    let output = world.run(&["search", "--json", text])?;
    Ok(serde_json::from_slice::<Vec<serde_json::Value>>(&output.stdout)?.len())
}

/// Per session: the front of a running one goes while it prints, the end stays, and what is left is whole.
#[test]
fn a_session_over_its_share_loses_its_oldest_output_and_the_disk_has_it_back() -> Result<()> {
    let world = world("session_bytes_max = \"4 MiB\"")?;
    let id = world.session(&format!("{}; exec sleep 1000", talk("the-first-word", 12, "the-last-word")))?;
    let log = world.home().join("state/log").join(&id);
    eventually("all of it is recorded", || Ok((found(&world, "the-last-word")? > 0).then_some(())))?;
    eventually("the log is within its share", || Ok((on_disk(&log)? < 5 << 20).then_some(())))?;
    let row = world.listed(&id)?;
    ensure!(row["gaps"] == 0 && row["state"] == "running", "pruned is no gap: {row}");
    ensure!(row["output_bytes"].as_u64() > Some(10 << 20), "what was printed is still counted: {row}");
    world.ok(&["verify", &id])?;
    let kept = world.output(&id)?;
    ensure!(kept.len() > 1 << 20 && kept.ends_with(b"the-last-word\n"), "{} bytes", kept.len());
    eventually("the index has let it go", || Ok((found(&world, "the-first-word")? == 0).then_some(())))
}

/// In all: whole ended sessions go, the oldest first, and never one that runs.
#[test]
fn over_the_total_the_oldest_ended_sessions_go_and_running_ones_stay() -> Result<()> {
    let world = world("total_bytes_max = \"8 MiB\"")?;
    let running = world.session("echo it-runs; exec sleep 1000")?;
    let mut ended = Vec::new();
    for n in 0..4 {
        let id = world.session(&talk(&format!("word-of-{n}"), 4, "end"))?;
        world.ended(&id)?;
        ended.push(id);
    }
    let logs = world.home().join("state/log");
    eventually("the total is kept", || Ok((on_disk(&logs)? < 9 << 20).then_some(())))?;
    ensure!(!logs.join(&ended[0]).exists() && logs.join(&ended[3]).exists() && logs.join(&running).exists());
    let gone = world.run(&["output", &ended[0]])?;
    ensure!(gone.status.code() == Some(1) && !gone.stderr.is_empty(), "{gone:?}");
    eventually("the index has let it go", || Ok((found(&world, "word-of-0")? == 0).then_some(())))?;
    ensure!(found(&world, "word-of-3")? > 0 && found(&world, "it-runs")? > 0);
    ensure!(world.listed(&running)?["state"] == "running");
    world.ok(&["verify"])?;
    Ok(())
}

/// By age: with 0 days an ended session is too old when the daemon next looks.
#[test]
fn a_session_past_its_days_is_removed_and_a_running_one_is_not() -> Result<()> {
    let world = world("age_days_max = 0")?;
    let running = world.session("echo it-runs; exec sleep 1000")?;
    let old = world.session("echo it-ended")?;
    world.ended(&old)?;
    world.ok(&["daemon", "restart"])?;
    let logs = world.home().join("state/log");
    eventually("it is gone", || Ok((!logs.join(&old).exists()).then_some(())))?;
    eventually("the index has let it go", || Ok((found(&world, "it-ended")? == 0).then_some(())))?;
    ensure!(found(&world, "it-runs")? > 0 && world.listed(&running)?["state"] == "running");
    Ok(())
}
