//! Without a runtime directory, and when it vanishes at a logout: sockets go to `/tmp/shellkeep-$UID`.
//!
//! That place is shared by everything of one user, so each test here is a user of its own. Only root can do that.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

use crate::world::{World, eventually, skipped};

/// Ids from here on belong to nobody on any machine that runs this.
const UID_FIRST: u32 = 1 << 30;

/// A user who exists for one test.
struct User {
    world: World,
    uid: u32,
    program: PathBuf,
    runtime: PathBuf,
}

impl User {
    /// `None`, and a word on why, where this cannot be had.
    fn new() -> Result<Option<Self>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            skipped("only root can be another user");
            return Ok(None);
        }
        let uid = UID_FIRST + std::process::id() * 4 + NEXT.fetch_add(1, Ordering::Relaxed);
        let world = World::new()?;
        // Where the tests are built, others may have no way in.
        let program = world.outside().join("shellkeep");
        std::fs::copy(world.program(), &program)?;
        let runtime = world.outside().join("runtime");
        std::fs::DirBuilder::new().mode(0o700).create(&runtime)?;
        for path in [world.outside(), &runtime, &program] {
            std::os::unix::fs::chown(path, Some(uid), Some(uid))?;
        }
        Ok(Some(Self { world, uid, program, runtime }))
    }

    fn fallback(&self) -> PathBuf {
        PathBuf::from(format!("/tmp/shellkeep-{}", self.uid))
    }

    /// Runs the program as this user, with this runtime directory.
    fn run(&self, runtime: Option<&Path>, args: &[&str]) -> Result<Output> {
        let sealed = self.world.command([""; 0]);
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.uid)).arg("--clear-groups");
        command.arg(&self.program).args(args).current_dir(self.world.outside());
        command.env_clear().envs(sealed.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env_remove("SHELLKEEP_HOME");
        if let Some(runtime) = runtime {
            command.env("XDG_RUNTIME_DIR", runtime);
        }
        Ok(command.output()?)
    }

    fn ok(&self, runtime: Option<&Path>, args: &[&str]) -> Result<String> {
        let output = self.run(runtime, args)?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn is_connected(&self, runtime: Option<&Path>) -> Result<bool> {
        let output = self.run(runtime, &["ls", "--json"])?;
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Ok(rows[0]["connected"] == true)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // Whoever still runs would bind there again.
        for pid in self.world.processes() {
            let _gone = crate::world::signal(pid, rustix::process::Signal::KILL);
        }
        let _nothing = std::fs::remove_dir_all(self.fallback());
    }
}

#[test]
fn without_a_runtime_directory_sockets_lie_in_a_private_place_in_tmp() -> Result<()> {
    let Some(user) = User::new()? else { return Ok(()) };
    let session =
        user.ok(None, &["start", "--detached", "--", "/bin/sh", "-c", "stty -opost; echo found; exec sleep 1000"])?;
    eventually("the keeper has its daemon", || Ok(user.is_connected(None)?.then_some(())))?;
    let place = std::fs::symlink_metadata(user.fallback())?;
    ensure!(place.is_dir() && place.uid() == user.uid && place.permissions().mode() & 0o777 == 0o700);
    ensure!(user.fallback().join("daemon.sock").exists());
    ensure!(user.fallback().join("k").join(format!("{}.sock", session.trim())).exists());
    ensure!(user.ok(None, &["output", session.trim()])? == "found\n");
    user.ok(None, &["kill", session.trim()])?;
    Ok(())
}

/// As at a logout that takes `/run/user/UID` along: commands find both in the one place or in the other.
#[test]
fn when_the_runtime_directory_goes_keeper_and_daemon_are_found_in_tmp() -> Result<()> {
    let Some(user) = User::new()? else { return Ok(()) };
    let runtime = user.runtime.clone();
    let session = user.ok(
        Some(&runtime),
        &["start", "--detached", "--", "/bin/sh", "-c", "stty -opost; echo kept; exec sleep 1000"],
    )?;
    eventually("the keeper has its daemon", || Ok(user.is_connected(Some(&runtime))?.then_some(())))?;
    ensure!(runtime.join("shellkeep/daemon.sock").exists() && !user.fallback().exists());
    // The directory above it cannot be made again by its user, as /run/user cannot.
    std::os::unix::fs::chown(user.world.outside(), Some(0), Some(0))?;
    std::fs::set_permissions(user.world.outside(), std::fs::Permissions::from_mode(0o755))?;
    // Emptied as logind does it; somebody may bind in it once more before it is gone.
    eventually("the runtime directory is gone", || {
        let _once_more = std::fs::remove_dir_all(&runtime);
        Ok((!runtime.exists()).then_some(()))
    })?;
    eventually("both are bound in the other place", || {
        let keeper = user.fallback().join("k").join(format!("{}.sock", session.trim()));
        Ok((keeper.exists() && user.fallback().join("daemon.sock").exists()).then_some(()))
    })?;
    for runtime in [Some(&*runtime), None] {
        eventually("the keeper has its daemon again", || Ok(user.is_connected(runtime)?.then_some(())))?;
        ensure!(user.ok(runtime, &["output", session.trim()])? == "kept\n");
    }
    user.ok(Some(&runtime), &["kill", session.trim()])?;
    Ok(())
}

/// S2: anybody may make that name in `/tmp` first.
#[test]
fn a_place_in_tmp_that_another_user_has_made_is_refused_and_the_command_runs_all_the_same() -> Result<()> {
    let Some(user) = User::new()? else { return Ok(()) };
    std::fs::DirBuilder::new().mode(0o777).create(user.fallback())?;
    std::fs::set_permissions(user.fallback(), std::fs::Permissions::from_mode(0o777))?;
    let output = user.run(None, &["start", "--", "/bin/echo", "not kept"])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && output.stdout == b"not kept\n", "{output:?}");
    ensure!(stderr.contains(&*user.fallback().to_string_lossy()) && stderr.contains("user 0"), "{stderr}");
    ensure!(std::fs::read_dir(user.fallback())?.count() == 0, "something was put there");
    Ok(())
}
