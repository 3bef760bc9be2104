//! What is removed, by limits or by hand: it is gone, stays gone, and is no gap.

use anyhow::{Result, ensure};
use shellkeep_journal::hook::Point;

use super::{Mount, Talker, at_rest, is_root, logs};
use crate::world::{World, eventually};

fn configure(world: &World, text: &str) -> Result<()> {
    std::fs::create_dir_all(world.home().join("config"))?;
    Ok(std::fs::write(world.home().join("config/config.toml"), text)?)
}

fn bytes_of(directory: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
}

fn bytes_of_all(world: &World) -> u64 {
    let logs = std::fs::read_dir(logs(world)).into_iter().flatten().flatten();
    logs.map(|log| bytes_of(&log.path())).sum()
}

/// By size, while the session runs: the oldest records go, and what begins the record then is no damage.
#[test]
fn a_running_session_stays_within_its_limit_and_its_record_is_whole() -> Result<()> {
    const LIMIT: u64 = 1 << 20;
    let world = World::new()?;
    configure(&world, "[daemon]\nsession_bytes_max = \"1 MiB\"\n")?;
    let mut talker = Talker::start(&world)?;
    for _ in 0..6 {
        talker.say(1 << 20)?;
        talker.said()?;
    }
    let printed = std::fs::read(&talker.copy)?;
    eventually("the newest output is there, and only that", || {
        let output = world.run(&["output", &talker.id])?.stdout;
        Ok((output.len() > 10_000 && output.len() < printed.len() && printed.ends_with(&output)).then_some(()))
    })?;
    let bytes = at_rest(std::time::Duration::from_millis(300), || Ok(bytes_of(&talker.log())))?;
    ensure!(bytes <= LIMIT + LIMIT / 4, "{bytes} bytes of disk");
    talker.whole()?;
    // The same after a restart, which looks at all of it again.
    world.ok(&["daemon", "restart"])?;
    talker.say(1000)?;
    talker.said()?;
    let printed = std::fs::read(&talker.copy)?;
    eventually("it goes on", || Ok(printed.ends_with(&world.run(&["output", &talker.id])?.stdout).then_some(())))?;
    talker.whole()
}

/// By size of all: the oldest ended sessions go, those that run stay.
#[test]
fn the_oldest_ended_sessions_go_when_all_have_too_much() -> Result<()> {
    let world = World::new()?;
    configure(&world, "[daemon]\ntotal_bytes_max = \"3 MiB\"\n")?;
    let mut running = Talker::start(&world)?;
    running.say(600_000)?;
    running.recorded()?;
    let mut ended = Vec::new();
    for _ in 0..6 {
        let mut talker = Talker::start(&world)?;
        talker.say(700_000)?;
        talker.recorded()?;
        talker.end()?;
        world.ended(&talker.id)?;
        ended.push(talker.id);
    }
    world.ok(&["daemon", "restart"])?;
    eventually("the total is kept", || Ok((bytes_of_all(&world) <= 3 << 20).then_some(())))?;
    let left: Vec<serde_json::Value> = serde_json::from_str(&world.ok(&["ls", "--all", "--json"])?)?;
    let left: Vec<&str> = left.iter().filter_map(|row| row["id"].as_str()).collect();
    ensure!(left.contains(&running.id.as_str()) && left.contains(&ended[5].as_str()), "{left:?}");
    ensure!(!left.contains(&ended[0].as_str()) && !left.contains(&ended[1].as_str()), "{left:?}");
    running.recorded()?;
    running.whole()
}

/// By size of all, when all of them run: each keeps its newest part.
#[test]
fn running_sessions_share_what_all_may_have() -> Result<()> {
    const LIMIT: u64 = 2 << 20;
    let world = World::new()?;
    configure(&world, "[daemon]\ntotal_bytes_max = \"2 MiB\"\n")?;
    let mut talkers = [Talker::start(&world)?, Talker::start(&world)?];
    for _ in 0..3 {
        for talker in &mut talkers {
            talker.say(1 << 20)?;
            talker.said()?;
        }
    }
    // Looked at again whenever so much more was written; until then it may be over by that.
    eventually("the total is kept", || Ok((bytes_of_all(&world) <= LIMIT + (1 << 20)).then_some(())))?;
    for talker in &talkers {
        let printed = std::fs::read(&talker.copy)?;
        eventually("the newest output is there", || {
            let output = world.run(&["output", &talker.id])?.stdout;
            Ok((output.len() > 10_000 && printed.ends_with(&output)).then_some(()))
        })?;
        talker.whole()?;
    }
    Ok(())
}

/// What is not durable yet stays, and is looked at again without anybody writing more.
#[test]
fn what_could_not_be_pruned_is_pruned_once_it_is_durable() -> Result<()> {
    const LIMIT: u64 = 2 << 20;
    let world = World::new()?;
    configure(&world, "[daemon]\ntotal_bytes_max = \"2 MiB\"\n")?;
    let mut talkers = [Talker::start(&world)?, Talker::start(&world)?];
    let trap = world.trap(Point::DaemonSynced)?;
    for talker in &mut talkers {
        talker.say(3 << 20)?;
    }
    trap.caught()?;
    for talker in &talkers {
        talker.recorded()?;
    }
    ensure!(bytes_of_all(&world) > LIMIT, "nothing of it is durable");
    drop(trap);
    eventually("the total is kept", || Ok((bytes_of_all(&world) <= LIMIT).then_some(())))
}

/// By age: what has ended goes, what runs stays however old it is.
#[test]
fn ended_sessions_go_when_they_are_old_enough() -> Result<()> {
    let world = World::new()?;
    let (mut old, mut running) = (Talker::start(&world)?, Talker::start(&world)?);
    for talker in [&mut old, &mut running] {
        talker.say(1000)?;
        talker.recorded()?;
    }
    let keeper = world.keeper_pid(&old.id)?;
    old.end()?;
    world.ended(&old.id)?;
    eventually(
        "its keeper is gone",
        || Ok((!std::path::Path::new(&format!("/proc/{keeper}")).exists()).then_some(())),
    )?;
    configure(&world, "[daemon]\nage_days_max = 0\n")?;
    world.ok(&["daemon", "restart"])?;
    eventually("the old one is gone", || Ok((!old.log().exists()).then_some(())))?;
    running.recorded()?;
    running.whole()
}

/// A spool that could not be adopted would bring the session back: `rm` takes it too.
#[test]
fn a_removed_session_does_not_come_back_from_its_spool() -> Result<()> {
    if !is_root("a full disk under the log") {
        return Ok(());
    }
    let world = World::new()?;
    let mount = Mount::new(&logs(&world), "size=256k")?;
    let mut talker = Talker::start(&world)?;
    talker.say(1000)?;
    talker.recorded()?;
    mount.fill(0)?;
    let keeper = world.keeper_pid(&talker.id)?;
    talker.say(100_000)?;
    talker.end()?;
    eventually(
        "the keeper is gone",
        || Ok((!std::path::Path::new(&format!("/proc/{keeper}")).exists()).then_some(())),
    )?;
    let spool = world.home().join("state/spool").join(&talker.id);
    ensure!(spool.is_dir(), "it waits to be adopted");

    // Something that is none of ours, and that nobody removes unasked.
    std::fs::create_dir(spool.join("theirs"))?;
    let refused = world.run(&["rm", &talker.id])?;
    let stderr = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(1) && stderr.contains("spool"), "{stderr}");
    ensure!(talker.log().exists(), "not half of it");

    let spools = world.home().join("state/spool");
    for entry in std::fs::read_dir(&spools)?.flatten() {
        let _ = std::fs::remove_dir(entry.path().join("theirs"));
    }
    world.ok(&["rm", &talker.id])?;
    std::fs::remove_file(mount.0.join("filler"))?;
    world.ok(&["daemon", "restart"])?;
    ensure!(world.ok(&["ls", "--all", "--json"])?.trim() == "[]", "it has not come back");
    ensure!(std::fs::read_dir(&spools)?.count() == 0 && !talker.log().exists());
    Ok(())
}

/// Who starts a daemon in the background sees no stderr of it: the reason is in the diagnostics too.
#[test]
fn bad_settings_are_told_readably_on_stderr_and_in_the_diagnostics() -> Result<()> {
    let world = World::new()?;
    for (text, told) in [
        ("[daemon]\nage_days_max = \n", "line 2, column"),
        ("[daemon]\nage_days_max = \"old\"\n", "age_days_max"),
        ("[daemon]\nage_day_max = 3\n", "age_day_max"),
    ] {
        configure(&world, text)?;
        let refused = world.run(&["daemon", "run"])?;
        let stderr = String::from_utf8(refused.stderr)?;
        let first = stderr.lines().next().unwrap_or_default();
        ensure!(refused.status.code() == Some(2) && first.contains(told) && first.contains("config.toml"), "{stderr}");
        ensure!(!stderr.contains("\\u{"), "{stderr}");
        let diagnostics = super::diagnostics(&world);
        ensure!(diagnostics.contains(told) && !diagnostics.contains("\\u{"), "{diagnostics}");
    }
    Ok(())
}
