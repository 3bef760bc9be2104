//! What a person is told, and shown, when something is as it seldom is.

use anyhow::{Result, ensure};
use torture::screen::Screen;

use crate::world::{World, eventually};

#[test]
fn a_second_terminal_of_a_paused_session_shows_all_and_nothing_is_recorded() -> Result<()> {
    let world = World::new()?;
    let mut first = Screen::start(&world, &["start", "-n", "pair", "--", "/bin/sh", "-c", "echo begun; exec cat"])?;
    first.shows("begun")?;
    world.ok(&["pause", "pair"])?;
    ensure!(world.ok(&["ls"])?.contains("not recorded"));
    let mut second = Screen::start(&world, &["attach", "pair"])?;
    let session = world.listed_by_name("pair")?;
    eventually("both are attached", || Ok((world.listed(&session)?["attached"] == 2).then_some(())))?;
    first.keys(b"from the first\r")?;
    second.shows("from the first\r\nfrom the first")?;
    second.keys(b"from the second\r")?;
    for screen in [&first, &second] {
        screen.shows("from the second\r\nfrom the second")?;
    }
    world.ok(&["resume", "pair"])?;
    second.keys(b"and after\r")?;
    for screen in [&first, &second] {
        screen.shows("and after\r\nand after")?;
    }
    first.keys(b"\x04")?;
    first.ended()?;
    second.ended()?;
    world.ended(&session)?;
    let recorded = String::from_utf8_lossy(&world.output(&session)?).into_owned();
    ensure!(recorded.contains("begun") && recorded.contains("and after\r\nand after"), "{recorded:?}");
    ensure!(!recorded.contains("from the"), "{recorded:?}");
    Ok(())
}

#[test]
fn something_foreign_at_the_sockets_place_is_named_with_what_to_do() -> Result<()> {
    let world = World::new()?;
    world.ok(&["daemon", "start"])?;
    world.ok(&["daemon", "stop"])?;
    std::fs::create_dir(world.home().join("run/daemon.sock"))?;
    let verified = world.run(&["verify"])?;
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    ensure!(verified.status.code() == Some(3) && verified.stdout.is_empty(), "{verified:?}");
    ensure!(said.contains("daemon.sock is a directory") && said.contains("move it away"), "{said}");
    let doctor = world.run(&["doctor"])?;
    ensure!(doctor.status.code() == Some(1), "{doctor:?}");
    ensure!(String::from_utf8_lossy(&doctor.stdout).contains("is a directory"), "{doctor:?}");
    Ok(())
}

/// Whatever needs a daemon says so, not only `doctor`.
#[test]
fn a_setting_that_keeps_the_daemon_from_starting_is_named_with_what_was_meant() -> Result<()> {
    let world = World::new()?;
    std::fs::create_dir_all(world.home().join("config"))?;
    std::fs::write(world.home().join("config/config.toml"), "[daemon]\nage_day_max = 3\n")?;
    let listed = world.run(&["ls"])?;
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    ensure!(listed.status.code() == Some(3) && listed.stdout.is_empty(), "{listed:?}");
    ensure!(said.contains("config.toml") && said.contains("age_day_max") && said.contains("age_days_max"), "{said}");
    Ok(())
}

/// What a keeper has left and the daemon cannot take is no whole record.
#[test]
fn a_spool_that_was_not_taken_over_is_told_by_verify() -> Result<()> {
    let world = World::new()?;
    let session = world.session("echo kept")?;
    world.ended(&session)?;
    ensure!(world.run(&["verify"])?.status.success());
    let orphan = "0197c0de-0000-7000-8000-000000000000";
    let spool = world.home().join("state/spool").join(orphan);
    std::fs::create_dir_all(&spool)?;
    std::fs::write(spool.join("lock"), "")?;
    std::fs::write(spool.join("00000001.seg"), "no segment at all")?;
    let verified = eventually("it is told", || {
        let verified = world.run(&["verify"])?;
        Ok((verified.status.code() == Some(1)).then_some(verified))
    })?;
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    ensure!(said.contains(&format!("{orphan}  NOT whole")) && said.contains("was not taken over"), "{said}");
    ensure!(said.contains(&format!("{session}  whole")), "{said}");
    ensure!(spool.join("00000001.seg").exists(), "and nothing of it was touched");
    Ok(())
}

#[test]
fn the_manual_page_has_every_command_with_its_examples() -> Result<()> {
    let world = World::new()?;
    let page = world.ok(&["man"])?;
    let help = world.ok(&["--help"])?;
    let listed = help.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
    let commands: Vec<_> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split(' ').next())
        .collect();
    ensure!(commands.len() > 20, "{help}");
    for command in commands.into_iter().filter(|command| *command != "help") {
        ensure!(page.contains(&format!(".SS \\&shellkeep {command}\n")), "{command} is missing");
    }
    ensure!(page.contains("shellkeep daemon restart") && page.contains("shellkeep start \\-n build\\-7"), "{page}");
    Ok(())
}
