//! Whoever is killed, and however often: what a session printed is in its record, once, in order.

use anyhow::{Result, ensure};
use rustix::fs::{AtFlags, Timespec, Timestamps};
use rustix::process::Signal;

use crate::world::{World, eventually, gone, signal};

/// Kills of the daemon in one test.
const KILLS: usize = 24;

/// A session that prints numbered lines, as fast as it can, until a file appears, and keeps a copy of them.
fn chatter(world: &World) -> String {
    let (copy, stop) = (world.outside().join("copy"), world.outside().join("stop"));
    format!(
        "stty -opost; i=0; while [ ! -e {stop} ]; do for n in 1 2 3 4 5 6 7 8 9; do i=$((i+1)); \
         echo \"line $i of the session\"; done; sleep 0.001; done | tee {copy}",
        copy = copy.display(),
        stop = stop.display()
    )
}

/// F1: the daemon is killed again and again while the session prints.
#[test]
fn a_daemon_killed_under_a_streaming_session_loses_and_doubles_nothing() -> Result<()> {
    let world = World::new()?;
    let session = world.session(&chatter(&world))?;
    for kill in 0..KILLS {
        let old = world.kill_daemon()?;
        world.daemon_other_than(Some(old))?;
        if kill % 4 > 0 {
            // One that dies before it has served anybody is started again later and later: let most of them live.
            eventually("it is recorded again", || Ok((world.listed(&session)?["connected"] == true).then_some(())))?;
        }
        // Killed at other moments each time: right after the lock, while it registers, while it streams.
        std::thread::sleep(std::time::Duration::from_millis(kill as u64 % 12)); // moves the moment of the kill
    }
    std::fs::write(world.outside().join("stop"), "")?;
    let row = world.ended(&session)?;
    ensure!(row["exit_code"] == 0 && row["gaps"] == 0, "{row}");
    let printed = std::fs::read(world.outside().join("copy"))?;
    let recorded = world.output(&session)?;
    ensure!(recorded == printed, "recorded {} bytes of {}", recorded.len(), printed.len());
    world.ok(&["verify", &session])?;
    Ok(())
}

/// F2 and F3: the keeper is killed, with the daemon and without; what it had numbered is adopted.
#[test]
fn what_a_killed_keeper_had_shown_is_adopted_and_the_session_is_lost() -> Result<()> {
    for with_daemon in [false, true] {
        let world = World::new()?;
        let session = world.session("stty -opost; echo before the end; exec sleep 1000")?;
        eventually("the output is recorded", || Ok((world.output(&session)? == b"before the end\n").then_some(())))?;
        let keeper = world.keeper_pid(&session)?;
        if with_daemon {
            world.kill_daemon()?;
        }
        signal(keeper, Signal::KILL)?;
        let row = world.ended(&session)?;
        ensure!(row["state"] == "lost", "{row}");
        ensure!(world.output(&session)? == b"before the end\n");
        eventually("the spool is gone", || {
            let left = std::fs::read_dir(world.home().join("state/spool"))?.count();
            Ok((left == 0).then_some(()))
        })?;
    }
    Ok(())
}

/// F13: a stopped daemon stops nobody, and catches up.
#[test]
fn a_stopped_daemon_does_not_stop_the_session_and_catches_up() -> Result<()> {
    let world = World::new()?;
    let (go, done) = (world.outside().join("go"), world.outside().join("done"));
    let script = format!(
        "stty -opost; echo ready; while [ ! -e {} ]; do sleep 0.01; done; seq 20000; echo > {}; exec sleep 1000",
        go.display(),
        done.display()
    );
    let session = world.session(&script)?;
    eventually("the session is ready", || Ok((world.output(&session)? == b"ready\n").then_some(())))?;
    let daemon = world.daemon_other_than(None)?;
    signal(daemon, Signal::STOP)?;
    std::fs::write(&go, "")?;
    eventually("the session went on under a stopped daemon", || Ok(done.exists().then_some(())))?;
    signal(daemon, Signal::CONT)?;
    let expected = "ready\n".to_owned() + &(1..=20_000).fold(String::new(), |text, n| text + &format!("{n}\n"));
    eventually("the daemon has caught up", || Ok((world.output(&session)? == expected.as_bytes()).then_some(())))?;
    ensure!(world.daemon_pid() == Some(daemon), "it was stopped, nobody may replace it");
    Ok(())
}

/// F6: of many daemons started at once one serves; the others say whose turn it is.
#[test]
fn of_eight_daemons_started_at_once_exactly_one_serves() -> Result<()> {
    let world = World::new()?;
    for _ in 0..5 {
        let mut started = Vec::new();
        for _ in 0..8 {
            started.push(world.command(["daemon", "run"]).stderr(std::process::Stdio::piped()).spawn()?);
        }
        let winner = world.daemon_other_than(None)?;
        for child in started {
            if i32::try_from(child.id())? == winner {
                continue;
            }
            let output = child.wait_with_output()?;
            let stderr = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(75) && stderr.contains(&winner.to_string()), "{stderr}");
        }
        world.ok(&["daemon", "status"])?;
        world.ok(&["daemon", "stop"])?;
        ensure!(world.daemon_pid().is_none());
    }
    Ok(())
}

/// F11: a daemon that was killed in the middle of a sync holds the lock until the disk is done. Whoever needs a daemon
/// meanwhile gets one all the same, and does not wait for one that will never answer.
#[test]
fn a_command_that_meets_a_dying_daemon_starts_the_next_one() -> Result<()> {
    let world = World::new()?;
    world.ok(&["daemon", "start"])?;
    world.ok(&["daemon", "stop"])?;
    let dying = shellkeep_daemon::lock::Lock::take(&world.places().lock())?;
    let list = world.command(["ls", "--json"]).stdout(std::process::Stdio::piped()).spawn()?;
    eventually("the command wants a daemon", || Ok((!world.home().join("state/stopped").exists()).then_some(())))?;
    // Time for its daemon to find the lock taken, which sends no event. Too short is no failure, only a weaker test.
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(dying);
    let output = list.wait_with_output()?;
    ensure!(output.status.success() && output.stdout == b"[]\n", "{output:?}");
    Ok(())
}

/// Between taking the lock and writing its id into it, a daemon stands behind the id of the one before. Nobody may take
/// that number for the daemon: it may be anybody's by now.
#[test]
fn the_id_of_a_dead_daemon_is_never_taken_for_the_living_one() -> Result<()> {
    let world = World::new()?;
    world.ok(&["daemon", "start"])?;
    world.ok(&["daemon", "stop"])?;
    let path = world.places().lock();
    let mut bystander = std::process::Command::new("sleep").arg("1000").spawn()?;
    std::fs::write(&path, format!("{}\n", bystander.id()))?;
    let holder = std::fs::File::options().write(true).open(&path)?;
    rustix::fs::flock(&holder, rustix::fs::FlockOperation::LockExclusive)?;
    let found = shellkeep_daemon::lock::Lock::holder(&path)?;
    bystander.kill()?;
    bystander.wait()?;
    ensure!(found.is_none(), "process {found:?} was taken for the daemon");
    Ok(())
}

/// Nobody will bind the socket of a killed keeper again; it goes with what its keeper left, not with the daemon's next start.
#[test]
fn the_socket_of_a_killed_keeper_goes_once_its_spool_is_adopted() -> Result<()> {
    let world = World::new()?;
    let session = world.session("echo shown; exec sleep 1000")?;
    eventually("it is recorded", || Ok((!world.output(&session)?.is_empty()).then_some(())))?;
    let socket = world.home().join("run/k").join(format!("{session}.sock"));
    // A young one may be one that is just being bound.
    let old = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
    let times = Timestamps { last_access: old, last_modification: old };
    rustix::fs::utimensat(rustix::fs::CWD, &socket, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    let daemon = world.daemon_pid();
    let keeper = world.keeper_pid(&session)?;
    signal(keeper, Signal::KILL)?;
    gone(keeper)?;
    eventually("the socket has gone", || Ok((!socket.exists()).then_some(())))?;
    ensure!(world.listed(&session)?["state"] == "lost" && world.daemon_pid() == daemon);
    Ok(())
}
