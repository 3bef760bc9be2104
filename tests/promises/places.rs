//! Sockets and directories: what vanishes is made again, what is not ours is left alone and named.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};

use anyhow::{Result, ensure};
use torture::ordeal::sockrm::Object;

use crate::world::{World, eventually, gone, skipped};

/// The user that owns nothing.
const NOBODY: u32 = 65534;

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
    for object in Object::ALL.into_iter().filter(|object| object.is_foreign()) {
        object.make(&socket)?;
        let before = std::fs::symlink_metadata(&socket)?;
        // The keeper of the last round tries too, and holds the lock while it fails.
        let run = eventually("nobody else tries", || {
            let run = world.run(&["daemon", "run"])?;
            Ok((run.status.code() != Some(75)).then_some(run))
        })?;
        let stderr = String::from_utf8_lossy(&run.stderr);
        ensure!(
            run.status.code() == Some(1) && stderr.contains("daemon.sock"),
            "{object:?}: {:?} {stderr}",
            run.status
        );
        ensure!(world.run(&["ls"])?.status.code() == Some(3), "{object:?}");
        // The shell starts all the same.
        ensure!(world.ok(&["start", "--", "/bin/echo", "still here"])? == "still here\r\n", "{object:?}");
        let after = std::fs::symlink_metadata(&socket)?;
        ensure!((before.ino(), before.mtime()) == (after.ino(), after.mtime()), "{object:?} was touched");
        object.take_away(&socket)?;
    }
    world.ok(&["daemon", "start"]).map(drop)
}

/// F11: a killed daemon leaves its socket, on which nobody listens. The next one takes the path over, and whoever was
/// connected comes back by itself.
#[test]
fn a_stale_socket_is_replaced_and_everybody_comes_back() -> Result<()> {
    let world = World::new()?;
    let go = world.outside().join("go");
    let script = format!("stty -opost; echo one; while [ ! -e {} ]; do sleep 0.01; done; echo two", go.display());
    let session = world.session(&script)?;
    eventually("it is recorded", || Ok((world.output(&session)? == b"one\n").then_some(())))?;
    std::fs::write(world.home().join("state/stopped"), "")?; // the keeper starts none
    let old = world.kill_daemon()?;
    gone(old)?;
    let socket = world.home().join("run/daemon.sock");
    let refused = std::os::unix::net::UnixStream::connect(&socket).err().map(|error| error.kind());
    ensure!(
        refused == Some(std::io::ErrorKind::ConnectionRefused),
        "a killed daemon leaves a stale socket: {refused:?}"
    );
    world.ok(&["daemon", "start"])?;
    eventually("the keeper is back", || Ok((world.listed(&session)?["connected"] == true).then_some(())))?;
    std::fs::write(&go, "")?;
    world.ended(&session)?;
    ensure!(world.output(&session)? == b"one\ntwo\n");
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

/// S2: a directory that somebody else has made first, or that is a link, is refused, and nothing is put into it.
#[test]
fn a_directory_of_another_user_or_behind_a_link_is_refused_by_name() -> Result<()> {
    for place in ["run", "state"] {
        let world = World::new()?;
        let path = world.home().join(place);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let elsewhere = world.outside().join("elsewhere");
        std::fs::rename(&path, &elsewhere)?;
        std::os::unix::fs::symlink(&elsewhere, &path)?;
        let refused = |why: &str| -> Result<()> {
            let run = world.run(&["daemon", "run"])?;
            let stderr = String::from_utf8_lossy(&run.stderr);
            ensure!(run.status.code() == Some(1), "{place}: {:?} {stderr}", run.status);
            ensure!(stderr.contains(&*path.to_string_lossy()) && stderr.contains(why), "{stderr}");
            // The shell starts all the same, kept or not.
            ensure!(world.ok(&["start", "--", "/bin/echo", "still here"])?.trim_end() == "still here", "{place}");
            let found: Vec<_> = std::fs::read_dir(&elsewhere)?.flatten().map(|entry| entry.file_name()).collect();
            ensure!(found.is_empty(), "{place}: {found:?} was put there");
            Ok(())
        };
        refused("symlink")?;
        std::fs::remove_file(&path)?;
        std::fs::rename(&elsewhere, &path)?;
        if !rustix::process::geteuid().is_root() {
            skipped("only root can give a directory away");
            continue;
        }
        std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY))?;
        std::os::unix::fs::symlink(&path, &elsewhere)?; // to look into it by the same name as above
        refused(&format!("user {NOBODY}"))?;
    }
    Ok(())
}

/// S1: whatever the umask, nothing that we make can be read by others.
#[test]
fn everything_that_is_made_is_private_under_any_umask() -> Result<()> {
    let world = World::new()?;
    let script = format!("umask 000; exec '{}' start --detached -- /bin/echo secret", world.program().display());
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
