//! The contracts that programs rely on: exit codes, JSON, what goes to stdout.

use anyhow::{Result, ensure};

use crate::world::World;

#[test]
fn the_status_of_the_command_is_the_status_of_start() -> Result<()> {
    let world = World::new()?;
    for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        let output = world.run(&["start", "--", "/bin/sh", "-c", script])?;
        ensure!(output.status.code() == Some(expected), "{script}: {:?}", output.status);
    }
    ensure!(world.run(&["start", "--", "/no/such/program"])?.status.code() == Some(127));
    ensure!(world.run(&["start", "--", "/etc/passwd"])?.status.code() == Some(126));
    Ok(())
}

#[test]
fn without_a_tty_the_raw_output_goes_to_stdout_and_is_recorded_alike() -> Result<()> {
    let world = World::new()?;
    let output = world.run(&["start", "--", "/bin/sh", "-c", "printf 'one\\ntwo\\033[1m'; test -t 1 && echo tty"])?;
    ensure!(output.stdout == b"one\r\ntwo\x1b[1mtty\r\n", "{:?}", String::from_utf8_lossy(&output.stdout));
    ensure!(world.output("last")? == output.stdout);
    Ok(())
}

#[test]
fn ls_shows_running_sessions_newest_first_and_all_of_them_on_demand() -> Result<()> {
    let world = World::new()?;
    ensure!(world.ok(&["ls", "--json"])?.trim() == "[]");
    let ended = world.session("exit 3")?;
    world.ended(&ended)?;
    let first = world.session("exec sleep 1000")?;
    let second = world.ok(&["start", "--detached", "-n", "build-7", "--", "sleep", "1000"])?;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&world.ok(&["ls", "--json"])?)?;
    let ids: Vec<_> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    ensure!(ids == [second.trim(), &first], "{ids:?}");
    ensure!(rows[0]["name"] == "build-7" && rows[0]["command"] == "sleep 1000", "{}", rows[0]);
    ensure!(rows[0]["state"] == "running" && rows[0]["attached"] == 0 && rows[0]["ended_at"].is_null());
    let row = world.listed(&ended)?;
    ensure!(row["state"] == "ended" && row["exit_code"] == 3 && row["ended_at"].is_string(), "{row}");
    world.ok(&["kill", "build-7"])?;
    ensure!(world.listed(second.trim())?["state"] == "ended");
    Ok(())
}

#[test]
fn the_daemons_life_has_its_exit_codes() -> Result<()> {
    let world = World::new()?;
    let status = world.run(&["daemon", "status", "--json"])?;
    ensure!(status.status.code() == Some(3) && status.stdout.is_empty(), "{status:?}");
    world.ok(&["daemon", "start"])?;
    let status: serde_json::Value = serde_json::from_str(&world.ok(&["daemon", "status", "--json"])?)?;
    let pid = world.daemon_pid();
    ensure!(status["pid"].as_i64() == pid.map(i64::from), "{status}");
    for key in ["version", "protocol", "socket", "uptime_s", "sessions", "storage"] {
        ensure!(!status[key].is_null(), "{key} is missing in {status}");
    }
    world.ok(&["daemon", "restart"])?;
    ensure!(world.daemon_pid().is_some() && world.daemon_pid() != pid);
    world.ok(&["daemon", "stop"])?;
    ensure!(world.run(&["daemon", "status"])?.status.code() == Some(3));
    ensure!(world.home().join("state/stopped").exists());
    Ok(())
}

#[test]
fn bad_input_is_one_clear_error_with_the_right_status() -> Result<()> {
    let world = World::new()?;
    for (args, code) in [
        (&["output", "no-such-session"][..], 1),
        (&["attach", "no-such-session"], 1),
        (&["kill", "0197c0de-0000-7000-8000-000000000000"], 1),
        (&["output", "../../etc"], 2),
        (&["start", "-n", "last", "--", "true"], 2),
        (&["no-such-command"], 2),
    ] {
        let output = world.run(args)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{args:?}: {:?}: {stderr}", output.status);
        ensure!(stderr.starts_with("error: ") && output.stdout.is_empty(), "{args:?}: {stderr}");
    }
    Ok(())
}

#[test]
fn a_home_of_three_hundred_characters_works() -> Result<()> {
    let world = World::with_home_of(300)?;
    ensure!(world.home().as_os_str().len() == 300);
    let session = world.session("stty -opost; echo far away")?;
    world.ended(&session)?;
    ensure!(world.output(&session)? == b"far away\n");
    Ok(())
}

#[test]
fn a_record_can_be_removed_only_when_its_session_has_ended() -> Result<()> {
    let world = World::new()?;
    let session = world.session("exec sleep 1000")?;
    world.listed(&session)?;
    ensure!(world.run(&["rm", &session])?.status.code() == Some(1));
    world.ok(&["kill", &session])?;
    world.ok(&["rm", &session])?;
    ensure!(world.run(&["output", &session])?.status.code() == Some(1));
    Ok(())
}
