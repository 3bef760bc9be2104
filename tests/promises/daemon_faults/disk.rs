//! The disk under the log, or under the spool, is full, read-only, or fails.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use shellkeep_journal::hook::Point;

use super::{Mount, Talker, Traced, at_rest, diagnostics, is_root, logs, told};
use crate::world::{World, eventually};

/// F14: the session goes on, the daemon says `Busy` and can be restarted without a byte or an inode free; when there is
/// room the record is complete.
#[test]
fn a_full_disk_under_the_log_stops_nobody_and_costs_nothing() -> Result<()> {
    if !is_root("a full disk under the log") {
        return Ok(());
    }
    let world = World::new()?;
    let mount = Mount::new(&logs(&world), "size=1m,nr_inodes=24")?;
    let mut talker = Talker::start(&world)?;
    talker.say(10_000)?;
    talker.recorded()?;
    talker.say(3 << 20)?;
    talker.said()?;
    told(&world, "no space left")?;
    ensure!(world.listed(&talker.id)?["state"] == "running");
    mount.fill(24)?;
    let old = world.kill_daemon()?;
    let new = world.daemon_other_than(Some(old))?;
    talker.say(10_000)?;
    talker.said()?;
    eventually("the new daemon serves", || Ok(world.run(&["daemon", "status"])?.status.success().then_some(())))?;
    mount.remount("size=64m,nr_inodes=0")?;
    talker.recorded()?;
    talker.whole()?;
    ensure!(world.daemon_pid() == Some(new), "a full disk is no reason to die");
    Ok(())
}

/// F25: over a read-only disk a daemon starts and says `Busy`; it resumes when it may write.
#[test]
fn a_read_only_disk_is_waited_for() -> Result<()> {
    if !is_root("a read-only disk") {
        return Ok(());
    }
    let world = World::new()?;
    let mount = Mount::new(&logs(&world), "size=64m")?;
    let mut talker = Talker::start(&world)?;
    talker.say(10_000)?;
    talker.recorded()?;
    world.ok(&["daemon", "stop"])?;
    mount.remount("ro")?;
    world.ok(&["daemon", "start"])?;
    talker.say(10_000)?;
    talker.said()?;
    told(&world, "Read-only file system")?;
    ensure!(world.listed(&talker.id)?["state"] == "running", "what is there can be read");
    let daemon = world.daemon_pid();
    mount.remount("rw")?;
    talker.recorded()?;
    talker.whole()?;
    ensure!(world.daemon_pid() == daemon);
    Ok(())
}

/// F15: no daemon, and no room for the spool either: the newest records stay in memory, the rest is a gap.
#[test]
fn without_any_room_for_the_spool_the_oldest_become_a_gap() -> Result<()> {
    if !is_root("a full disk under the spool") {
        return Ok(());
    }
    let world = World::new()?;
    let _mount = Mount::new(&world.home().join("state/spool"), "size=64k")?;
    let mut talker = Talker::start(&world)?;
    talker.say(1000)?;
    talker.recorded()?;
    world.ok(&["daemon", "stop"])?;
    talker.say(12 << 20)?;
    talker.said()?;
    world.ok(&["daemon", "start"])?;
    let printed = std::fs::read(&talker.copy)?;
    let recorded = eventually("the newest records are there", || {
        let output = world.run(&["output", &talker.id])?.stdout;
        Ok((output.len() > 1 << 20 && printed.ends_with(&output[output.len() - 100_000..])).then_some(output))
    })?;
    ensure!(recorded.len() < printed.len() && recorded[..1000] == printed[..1000]);
    let row = world.listed(&talker.id)?;
    ensure!(row["gaps"].as_u64() > Some(0), "{row}");
    ensure!(row["output_bytes"].as_u64() == Some(talker.told), "the gap says how much is missing: {row}");
    ensure!(world.run(&["verify", &talker.id])?.status.code() == Some(1));
    talker.end()?;
    ensure!(world.ended(&talker.id)?["state"] == "ended", "the shell lives");
    Ok(())
}

/// F15 with `block`: the session waits, and nothing is lost.
#[test]
fn told_to_block_a_session_waits_for_room_and_loses_nothing() -> Result<()> {
    if !is_root("a full disk under the spool") {
        return Ok(());
    }
    let world = World::new()?;
    std::fs::create_dir_all(world.home().join("config"))?;
    std::fs::write(world.home().join("config/config.toml"), "[keeper]\nwhen_full = \"block\"\n")?;
    let _mount = Mount::new(&world.home().join("state/spool"), "size=64k")?;
    let mut talker = Talker::start(&world)?;
    talker.say(1000)?;
    talker.recorded()?;
    world.ok(&["daemon", "stop"])?;
    talker.say(12 << 20)?;
    let said = at_rest(Duration::from_millis(300), || talker.said_bytes())?;
    ensure!(said > 1 << 20 && said < 10 << 20, "{said} bytes were let through");
    world.ok(&["daemon", "start"])?;
    talker.recorded()?;
    talker.whole()
}

/// F16: now and then a sync of a thread fails, one of a log too: the daemon goes on by itself.
#[test]
fn single_failed_syncs_cost_nothing() -> Result<()> {
    let world = World::new()?;
    let mut talker = Talker::start(&world)?;
    let traced = Traced::start(&world, &["fdatasync:error=EIO:when=2+5"])?;
    // How many syncs it takes depends on how many threads they are shared out among.
    eventually("a sync has failed", || {
        talker.say(50_000)?;
        talker.recorded()?;
        Ok(diagnostics(&world).contains("a sync failed").then_some(()))
    })
    .with_context(|| diagnostics(&world))?;
    ensure!(world.daemon_pid().is_some());
    talker.whole()?;
    traced.heal()?;
    talker.say(50_000)?;
    talker.recorded()?;
    talker.whole()
}

/// F16: as long as every sync fails nothing is granted; after it the record is complete, and the disk is not full of tries.
#[test]
fn a_disk_that_fails_every_sync_is_waited_for() -> Result<()> {
    let world = World::new()?;
    let mut talker = Talker::start(&world)?;
    talker.say(50_000)?;
    talker.recorded()?;
    let traced = Traced::start(&world, &["fdatasync:error=EIO"])?;
    talker.say(3 << 20)?;
    talker.said()?;
    told(&world, "sync failed")?;
    // Several tries, whose pauses grow.
    std::thread::sleep(Duration::from_millis(600)); // lets the tries happen that must leave nothing behind
    ensure!(segments(&talker) <= 3, "{} segments", segments(&talker));
    traced.heal()?;
    talker.recorded()?;
    talker.whole()
}

/// Three faults in a row: a sync fails, no segment can be begun, and the daemon dies. What the next daemon finds is not
/// believed, because the file says so.
#[test]
fn a_sync_that_failed_before_the_daemon_died_is_not_believed_by_the_next() -> Result<()> {
    if !is_root("a full disk under the log") {
        return Ok(());
    }
    let world = World::new()?;
    let mount = Mount::new(&logs(&world), "size=1m")?;
    let mut talker = Talker::start(&world)?;
    talker.say(50_000)?;
    talker.recorded()?;
    mount.fill(0)?;
    let traced = Traced::start(&world, &["fdatasync:error=EIO"])?;
    told(&world, "sync failed")?;
    let doubtful = eventually("the file is marked", || {
        let marked = std::fs::read_dir(talker.log())?.flatten().find(|entry| is_marked(&entry.path()));
        Ok(marked.map(|entry| entry.path()))
    })?;
    drop(traced);
    std::fs::remove_file(mount.0.join("filler"))?;
    world.ok(&["daemon", "start"])?;
    talker.say(1000)?;
    talker.recorded()?;
    talker.whole()?;
    told(&world, "a sync of this log had failed")?;
    ensure!(segments(&talker) == 2 && !is_marked(&doubtful), "it was copied, and the doubt is settled");
    Ok(())
}

/// F17: interrupted calls are repeated at the right place.
#[test]
fn interrupted_calls_are_repeated() -> Result<()> {
    let world = World::new()?;
    let mut talker = Talker::start(&world)?;
    let traced = Traced::start(&world, &["pwrite64:error=EINTR:when=2+3", "fdatasync:error=EINTR:when=1+2"])?;
    for _ in 0..4 {
        talker.say(200_000)?;
        talker.said()?;
    }
    talker.recorded()?;
    talker.whole()?;
    let told = diagnostics(&world);
    ensure!(!told.contains("Interrupted"), "not one call was given up for it: {told}");
    traced.heal()?;
    talker.recorded()?;
    talker.whole()
}

/// Full segments are sealed while the daemon records, and it is killed in the middle of that.
#[test]
fn a_daemon_killed_while_it_seals_loses_nothing() -> Result<()> {
    let world = World::new()?;
    std::fs::create_dir_all(world.home().join("config"))?;
    std::fs::write(world.home().join("config/config.toml"), "[daemon]\nsession_bytes_max = \"16 MiB\"\n")?;
    let mut talker = Talker::start(&world)?;
    for _ in 0..4 {
        let trap = world.trap(Point::DaemonSealed)?;
        talker.say(3 << 20)?;
        let sealing = trap.kill()?;
        world.daemon_other_than(Some(sealing))?;
        talker.said()?;
        talker.recorded()?;
    }
    // Compressed, the whole of it stays under the limit.
    talker.whole()?;
    ensure!(sealed(&talker) > 0);
    Ok(())
}

fn segments(talker: &Talker<'_>) -> usize {
    std::fs::read_dir(talker.log()).map_or(0, Iterator::count)
}

fn sealed(talker: &Talker<'_>) -> usize {
    let entries = std::fs::read_dir(talker.log()).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "zseg")).count()
}

fn is_marked(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o200 == 0)
}
