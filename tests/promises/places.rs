//! Sockets and directories: what vanishes is made again, what is not ours is left alone and named.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};

use crate::world::{World, eventually};

/// F10: the socket's file is deleted; the daemon binds again, and nobody restarts it for that.
#[test]
fn a_deleted_socket_is_bound_again_by_the_same_daemon() -> Result<()> {
    let world = World::new()?;
    world.ok(&["daemon", "start"])?;
    let daemon = world.daemon_pid();
    for _ in 0..20 {
        std::fs::remove_file(world.home().join("run/daemon.sock"))?;
        eventually("the daemon answers again", || {
            Ok(world.run(&["daemon", "status"])?.status.success().then_some(()))
        })?;
    }
    ensure!(world.daemon_pid() == daemon);
    Ok(())
}

/// F10: the whole runtime directory vanishes under a living session, as at a logout.
#[test]
fn a_vanished_runtime_directory_costs_neither_the_session_nor_its_record() -> Result<()> {
    let world = World::new()?;
    let go = world.outside().join("go");
    let script = format!("stty -opost; echo before; while [ ! -e {} ]; do sleep 0.01; done; echo after", go.display());
    let session = world.session(&script)?;
    eventually("the first line is recorded", || Ok((world.output(&session)? == b"before\n").then_some(())))?;
    // Renamed first: in its place it would be bound again while it is being emptied.
    std::fs::rename(world.home().join("run"), world.outside().join("gone"))?;
    std::fs::remove_dir_all(world.outside().join("gone"))?;
    eventually("the session can be listed again", || {
        Ok(world.listed(&session).ok().filter(|row| row["state"] == "running"))
    })?;
    std::fs::write(&go, "")?;
    world.ended(&session)?;
    ensure!(world.output(&session)? == b"before\nafter\n");
    Ok(())
}

/// F10 and F11: what is at the socket's path and is no dead socket of ours is named and never touched.
#[test]
fn a_foreign_object_at_the_sockets_path_is_never_unlinked() -> Result<()> {
    let world = World::new()?;
    world.ok(&["daemon", "start"])?;
    world.ok(&["daemon", "stop"])?;
    let socket = world.home().join("run/daemon.sock");
    std::fs::write(&socket, "mine")?;
    let run = world.run(&["daemon", "run"])?;
    let stderr = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.code() == Some(1) && stderr.contains("daemon.sock"), "{:?} {stderr}", run.status);
    ensure!(world.run(&["ls"])?.status.code() == Some(3));
    ensure!(std::fs::read(&socket)? == b"mine");
    // The shell starts all the same.
    ensure!(world.ok(&["start", "--", "/bin/echo", "still here"])? == "still here\r\n");
    Ok(())
}

/// F12 and S2: a directory that others can write to is refused, with path and mode.
#[test]
fn a_directory_that_others_may_write_to_is_refused_by_name() -> Result<()> {
    let world = World::new()?;
    let run = world.home().join("run");
    std::fs::create_dir_all(&run)?;
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o777))?;
    let output = world.run(&["daemon", "run"])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{:?} {stderr}", output.status);
    ensure!(stderr.contains(&*run.to_string_lossy()) && stderr.contains("777"), "{stderr}");
    Ok(())
}

/// S1: whatever the umask, nothing that we make can be read by others.
#[test]
fn everything_that_is_made_is_private_under_any_umask() -> Result<()> {
    let world = World::new()?;
    let script = format!("umask 000; exec {} start --detached -- /bin/echo secret", world.program().display());
    let mut shell = world.command([""; 0]);
    shell = {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", &script]).env_clear().envs(shell.get_envs().filter_map(|(k, v)| Some((k, v?))));
        command
    };
    ensure!(shell.current_dir(world.outside()).status()?.success());
    let session = world.ok(&["ls", "--all", "--json"])?;
    ensure!(session.contains("secret"), "{session}");
    let mut all = vec![world.home().to_owned()];
    while let Some(path) = all.pop() {
        let found = std::fs::symlink_metadata(&path)?;
        let for_others = found.permissions().mode() & 0o077;
        ensure!(for_others == 0, "{}: {:o}", path.display(), found.permissions().mode());
        if found.is_dir() {
            all.extend(std::fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
        }
    }
    Ok(())
}

/// Without any daemon a session runs, and what it printed is recorded when one comes.
#[test]
fn a_session_without_any_daemon_is_recorded_later() -> Result<()> {
    let world = World::new()?;
    world.ok(&["daemon", "stop"])?;
    let session = world.session("stty -opost; echo nobody listens")?;
    eventually("the keeper is gone", || Ok(world.processes().is_empty().then_some(())))?;
    ensure!(world.daemon_pid().is_none(), "a keeper started what was stopped on purpose");
    ensure!(world.output(&session)? == b"nobody listens\n");
    ensure!(world.listed(&session)?["state"] == "ended");
    Ok(())
}
