//! Spools without keepers, one of them damaged, and several daemons that find them at once.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{Run, Table};
use crate::record::same;
use crate::world::{World, eventually, gone, signal};

/// Daemons started at once.
const DAEMONS: usize = 3;

/// Most lines that one of the sessions prints.
const LINES_MAX: u32 = 20_000;

/// F3: adopted once; a bad one is left alone, and the others are adopted all the same.
///
/// # Errors
/// The first violation.
pub fn adopt(run: &Run) -> Result<Table> {
    let world = run.world()?;
    world.ok(&["daemon", "stop"])?;
    let (mut rng, bar) = (run.rng(), run.progress("spools"));
    let mut left = Vec::new();
    for round in 0..run.n {
        left.push(orphan(&world, rng.u32(1..LINES_MAX)).with_context(|| format!("spool {round}"))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (bad, _) = left.pop().context("at least one spool")?;
    let spools = world.home().join("state/spool");
    let first = spools.join(&bad).join("00000001.seg");
    let segment =
        std::fs::read_dir(spools.join(&bad))?.flatten().map(|entry| entry.path()).find(|path| !path.ends_with("lock"));
    let segment = segment.with_context(|| format!("{} has no segment", first.display()))?;
    std::fs::write(&segment, vec![0xa5; 4096])?;
    let mut daemons = Vec::new();
    for _ in 0..DAEMONS {
        daemons.push(world.command(["daemon", "run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    }
    let winner = world.daemon_other_than(None)?;
    for mut daemon in daemons {
        if i32::try_from(daemon.id())? != winner {
            ensure!(daemon.wait()?.code() == Some(75), "a second daemon serves");
        }
    }
    for (session, expected) in &left {
        same("an adopted record", expected, &world.output(session)?).with_context(|| session.clone())?;
        ensure!(world.listed(session)?["state"] == "lost");
    }
    eventually("only the bad spool is left", || {
        let names: Vec<_> = std::fs::read_dir(&spools)?.flatten().map(|entry| entry.file_name()).collect();
        Ok((names == [bad.as_str()]).then_some(()))
    })?;
    ensure!(std::fs::read(&segment)? == [0xa5; 4096], "the bad spool was changed");
    let mut table = Table::default();
    table.add("spools adopted", format_args!("{}, each once and whole, by one of {DAEMONS} daemons", left.len()));
    table.add("bad spools", "1, left as it was");
    Ok(table)
}

/// A session whose keeper is killed while no daemon runs; its id and what it printed.
fn orphan(world: &World, lines: u32) -> Result<(String, Vec<u8>)> {
    let done = world.outside().join(format!("done-{lines}"));
    let _again = std::fs::remove_file(&done);
    let session = world.session(&format!("stty -opost; seq {lines}; echo > {}; exec sleep 1000", done.display()))?;
    eventually("it has printed", || Ok(done.exists().then_some(())))?;
    let expected: Vec<u8> = (1..=lines).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    let keeper = eventually("the keeper has recorded it", || {
        let keepers = shellkeep::keepers::running(&world.places());
        let keeper = keepers.into_iter().find(|keeper| keeper.info.session.to_string() == session);
        Ok(keeper.filter(|keeper| keeper.info.output_bytes == expected.len() as u64))
    })?;
    let pid = i32::try_from(keeper.info.keeper_pid)?;
    signal(pid, Signal::KILL)?;
    gone(pid)?;
    Ok((session, expected))
}
