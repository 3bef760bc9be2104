//! Somebody was at the log: it is deleted, cut, replaced, moved away, with the daemon alive or dead.

use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, ensure};
use shellkeep_journal::hook::Point;

use super::{Talker, diagnostics, logs, told};
use crate::world::{World, eventually};

/// F25: found at the next write or sync; the session goes on with what is there then, from what its keeper still has.
#[test]
fn a_log_that_is_deleted_cut_or_replaced_is_healed_without_a_restart() -> Result<()> {
    let world = World::new()?;
    let mut other = Talker::start(&world)?;
    other.say(10_000)?;
    for what in ["directory deleted", "file deleted", "file cut", "file replaced", "moved away", "directory replaced"] {
        let mut talker = Talker::start(&world)?;
        talker.say(20_000)?;
        talker.recorded()?;
        other.recorded()?;
        let daemon = world.daemon_pid();
        let (log, segment) = (talker.log(), talker.log().join("00000001.seg"));
        match what {
            "directory deleted" => std::fs::remove_dir_all(&log)?,
            "file deleted" => std::fs::remove_file(&segment)?,
            "file cut" => std::fs::OpenOptions::new().write(true).open(&segment)?.set_len(5_000)?,
            "file replaced" => {
                std::fs::remove_file(&segment)?;
                std::fs::write(&segment, vec![0; 100_000])?;
            }
            "moved away" => std::fs::rename(&log, world.outside().join(&talker.id))?,
            _ => {
                std::fs::rename(&log, world.outside().join(&talker.id))?;
                copy_log(&other.log(), &log)?;
            }
        }
        talker.say(20_000)?;
        talker.recorded().context(what)?;
        talker.whole().context(what)?;
        ensure!(world.daemon_pid() == daemon, "{what}: the daemon goes on");
        ensure!(diagnostics(&world).contains(&talker.id), "{what}: {}", diagnostics(&world));
        other.say(10_000)?;
        other.recorded()?;
        other.whole()?;
    }
    told(&world, "was deleted, cut or replaced")
}

/// What the keeper had given away for durable is gone with the log: a gap, and not silence.
#[test]
fn what_only_the_deleted_log_had_becomes_a_gap_that_says_so() -> Result<()> {
    let world = World::new()?;
    let mut talker = Talker::start(&world)?;
    talker.say(14 << 20)?;
    talker.recorded()?;
    eventually("the keeper has given something away", || {
        let spool = std::fs::read_dir(world.home().join("state/spool").join(&talker.id))?.flatten();
        Ok((!spool.map(|entry| entry.file_name()).any(|name| name == "00000001.seg")).then_some(()))
    })?;
    std::fs::remove_dir_all(talker.log())?;
    talker.say(1000)?;
    talker.said()?;
    let printed = std::fs::read(&talker.copy)?;
    let recorded = eventually("the record goes on", || {
        let output = world.run(&["output", &talker.id])?.stdout;
        Ok((output.len() > 1000 && printed.ends_with(&output)).then_some(output))
    })?;
    let row = world.listed(&talker.id)?;
    ensure!(row["gaps"] == 1 && row["output_bytes"].as_u64() == Some(talker.told), "{row}");
    let verified = world.run(&["verify", &talker.id])?;
    let missing = printed.len() - recorded.len();
    let text = String::from_utf8_lossy(&verified.stdout).into_owned() + &String::from_utf8_lossy(&verified.stderr);
    ensure!(verified.status.code() == Some(1) && missing > 0, "{text}");
    Ok(())
}

/// F20: what was not synced is gone from the log's end, or from its middle; the keeper still has it and sends it again.
/// A sync whose end nobody hears of keeps all that is said from being called durable: that alone can a power loss take.
#[test]
fn a_hole_that_a_power_loss_left_is_filled_from_the_spool() -> Result<()> {
    for middle in [false, true] {
        let world = World::new()?;
        let mut talker = Talker::start(&world)?;
        let synced = world.trap(Point::DaemonSynced)?;
        for _ in 0..20 {
            talker.say(3000)?;
            talker.recorded()?;
        }
        let locked = world.trap(Point::DaemonLocked)?;
        let killed = synced.kill()?;
        let next = locked.caught()?; // it has read nothing yet
        let file = std::fs::OpenOptions::new().write(true).open(talker.log().join("00000001.seg"))?;
        let len = file.metadata()?.len();
        if middle {
            file.write_all_at(&[0; 7000], len / 2)?;
        } else {
            file.set_len(len - 10_000)?;
        }
        ensure!(next != killed);
        drop(locked);
        talker.say(3000)?;
        talker.recorded()?;
        talker.whole().with_context(|| format!("in the middle: {middle}"))?;
    }
    Ok(())
}

/// A log that is put aside does not come back as a session, and goes with `rm`.
#[test]
fn what_was_put_aside_goes_with_its_session() -> Result<()> {
    let world = World::new()?;
    let mut talker = Talker::start(&world)?;
    talker.say(20_000)?;
    talker.recorded()?;
    std::fs::write(talker.log().join("00000001.seg"), vec![0; 100_000])?;
    talker.say(20_000)?;
    talker.recorded()?;
    let aside = logs(&world).join(format!(".lost-{}", talker.id));
    ensure!(aside.is_dir(), "{}", diagnostics(&world));
    talker.end()?;
    world.ended(&talker.id)?;
    world.ok(&["rm", &talker.id])?;
    ensure!(!aside.exists());
    ensure!(world.ok(&["ls", "--all", "--json"])?.trim() == "[]");
    Ok(())
}

fn copy_log(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)?.flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
