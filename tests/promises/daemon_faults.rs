//! The real daemon under real faults of its storage and its socket: sessions go on, and their records are complete when
//! the fault is over, or say what is missing.
//!
//! What needs root (mounts, another user) says so and is passed over without it.

mod disk;
mod log;
mod record_limits;
mod wire;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::world::{World, eventually};

/// A session that prints as much as it is told to, and keeps a copy.
struct Talker<'a> {
    world: &'a World,
    id: String,
    orders: std::fs::File,
    copy: PathBuf,
    told: u64,
}

impl<'a> Talker<'a> {
    fn start(world: &'a World) -> Result<Self> {
        let unique = std::fs::read_dir(world.outside())?.count();
        let (fifo, copy) =
            (world.outside().join(format!("orders-{unique}")), world.outside().join(format!("copy-{unique}")));
        ensure!(Command::new("mkfifo").arg(&fifo).status()?.success());
        std::fs::write(&copy, "")?;
        // Held open for reading and writing, so that neither end waits for the other.
        let orders = std::fs::OpenOptions::new().read(true).write(true).open(&fifo)?;
        let script = format!(
            "stty -opost; while read -r n; do [ \"$n\" = end ] && exit 0; \
             head -c \"$n\" /dev/urandom | base64 -w 63 | head -c \"$n\" | tee -a {copy}; done < {fifo}",
            copy = copy.display(),
            fifo = fifo.display()
        );
        let id = world.session(&script)?;
        Ok(Self { world, id, orders, copy, told: 0 })
    }

    /// Orders so many bytes of output.
    fn say(&mut self, bytes: u64) -> Result<()> {
        self.told += bytes;
        Ok(writeln!(self.orders, "{bytes}")?)
    }

    /// The command ends, which the daemon may hear later.
    fn end(&mut self) -> Result<()> {
        Ok(writeln!(self.orders, "end")?)
    }

    /// Waits until the session itself has printed everything: it goes on, whatever the daemon does.
    fn said(&self) -> Result<()> {
        eventually("the session goes on", || Ok((self.said_bytes()? == self.told).then_some(())))
    }

    fn said_bytes(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.copy)?.len())
    }

    /// Waits until the record is what the session printed, to the byte.
    fn recorded(&self) -> Result<()> {
        self.said()?;
        let printed = std::fs::read(&self.copy)?;
        let mut last = String::new();
        let outcome = eventually("the record is complete", || {
            let output = self.world.run(&["output", &self.id])?;
            last = format!(
                "{} of {} bytes, {}",
                output.stdout.len(),
                printed.len(),
                String::from_utf8_lossy(&output.stderr)
            );
            Ok((output.stdout == printed).then_some(()))
        });
        outcome.with_context(|| format!("recorded {last}; {}", diagnostics(self.world)))
    }

    /// The record has no gap and no damage.
    fn whole(&self) -> Result<()> {
        let row = self.world.listed(&self.id)?;
        let verified = self.world.run(&["verify", &self.id])?;
        let told = String::from_utf8_lossy(&verified.stdout);
        ensure!(row["gaps"] == 0 && verified.status.success(), "{row}\n{told}\n{}", diagnostics(self.world));
        Ok(())
    }

    fn log(&self) -> PathBuf {
        logs(self.world).join(&self.id)
    }
}

fn logs(world: &World) -> PathBuf {
    world.home().join("state/log")
}

/// What the daemon has said of itself, its end.
fn diagnostics(world: &World) -> String {
    let text = std::fs::read_to_string(world.home().join("state/diagnostics/daemon.txt")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn told(world: &World, what: &str) -> Result<()> {
    let told = || std::fs::read_to_string(world.home().join("state/diagnostics/daemon.txt")).unwrap_or_default();
    eventually(&format!("diagnostics say \"{what}\""), || Ok(told().contains(what).then_some(())))
}

/// Whether this test may mount and be another user.
fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let _ = writeln!(std::io::stderr(), "passed over, it needs root: {test}");
    }
    root
}

/// A file system in memory, gone when dropped. Drop it before the world.
struct Mount(PathBuf);

impl Mount {
    /// Makes `path` private and mounts there, with further options such as `size=1m`.
    fn new(path: &Path, options: &str) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let options = format!("mode=0700,{options}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).status()?;
        ensure!(status.success(), "mount at {}", path.display());
        Ok(Self(path.to_owned()))
    }

    fn remount(&self, options: &str) -> Result<()> {
        let options = format!("remount,{options}");
        ensure!(Command::new("mount").args(["-o", &options]).arg(&self.0).status()?.success(), "{options}");
        Ok(())
    }

    /// Takes all room: every byte and, with so many files, every inode.
    fn fill(&self, files: usize) -> Result<()> {
        let mut filler = std::fs::File::create(self.0.join("filler"))?;
        while filler.write_all(&[0; 4096]).is_ok() {}
        for n in 0..files {
            if std::fs::File::create(self.0.join(format!("filler-{n}"))).is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A daemon under strace, in place of the world's own, whose system calls fail as told. Killed when dropped.
struct Traced<'a> {
    world: &'a World,
    strace: Child,
}

impl<'a> Traced<'a> {
    /// Stops the world's daemon, on purpose, so that no keeper starts another one.
    fn start(world: &'a World, inject: &[&str]) -> Result<Self> {
        world.ok(&["daemon", "stop"])?;
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null"]);
        let calls: Vec<&str> = inject.iter().filter_map(|inject| inject.split(':').next()).collect();
        command.args(["-e", &format!("trace={}", calls.join(","))]);
        for inject in inject {
            command.args(["-e", &format!("inject={inject}")]);
        }
        command.arg(world.program()).args(["daemon", "run"]);
        for (key, value) in world.command(["--version"]).get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let strace = command.spawn()?;
        world.daemon_other_than(None)?;
        let traced = Self { world, strace };
        eventually("the traced daemon serves", || {
            Ok(traced.world.run(&["daemon", "status"])?.status.success().then_some(()))
        })?;
        Ok(traced)
    }

    /// The fault is over: this daemon dies, and an ordinary one comes.
    fn heal(mut self) -> Result<()> {
        self.end();
        self.world.ok(&["daemon", "start"])?;
        Ok(())
    }

    fn end(&mut self) {
        if let Some(pid) = self.world.daemon_pid() {
            let _ = crate::world::signal(pid, rustix::process::Signal::KILL);
        }
        let _ = self.strace.wait(); // it ends with what it traced
    }
}

impl Drop for Traced<'_> {
    fn drop(&mut self) {
        if self.strace.try_wait().ok().flatten().is_none() {
            self.end();
        }
    }
}

/// Waits until `look` has given the same for so long: something has come to a halt.
fn at_rest<T: PartialEq>(still: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let mut last = (look()?, Instant::now());
    eventually("it comes to rest", || {
        let now = look()?;
        if now != last.0 {
            last = (now, Instant::now());
        } else if last.1.elapsed() >= still {
            return Ok(Some(now));
        }
        Ok(None)
    })
}

/// Resident bytes of a process.
fn resident(pid: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Descriptors that a process has.
fn descriptors(pid: i32) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Processor time that a process has used, in hundredths of a second.
fn ticks(pid: i32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}
