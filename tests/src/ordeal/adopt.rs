//! Spools without keepers, one of them damaged, and several daemons that find them at once.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{Run, Table};
use crate::record::same;
use crate::world::{World, eventually, gone, signal};

/// Daemons started at once.
const DAEMONS: usize = 3;

/// Spools that are damaged, and what their segment holds then: nothing that says whose it is.
const BAD: usize = 2;
const DAMAGE: [u8; 4096] = [0xa5; 4096];

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
    ensure!(left.len() > BAD, "there must be more spools than the {BAD} that are damaged");
    // The oldest and the newest, so that one of them is met before others in whatever order a directory is read.
    let bad = [left.remove(0).0, left.remove(left.len() - 1).0];
    let spools = world.home().join("state/spool");
    let mut damaged = Vec::new();
    for session in &bad {
        let mut files = std::fs::read_dir(spools.join(session))?.flatten().map(|entry| entry.path());
        let segment = files.find(|path| !path.ends_with("lock")).context("a spool has a segment")?;
        std::fs::write(&segment, DAMAGE)?;
        damaged.push(segment);
    }
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
    eventually("only the bad spools are left", || {
        let names = std::fs::read_dir(&spools)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok((names.collect::<BTreeSet<_>>() == bad.iter().cloned().collect()).then_some(()))
    })?;
    for segment in damaged {
        ensure!(std::fs::read(&segment)? == DAMAGE, "a bad spool was changed");
    }
    let mut table = Table::default();
    table.add("spools adopted", format_args!("{}, each once and whole, by one of {DAEMONS} daemons", left.len()));
    table.add("bad spools", format_args!("{BAD}, left as they were"));
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
