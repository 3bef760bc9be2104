//! The log itself suffers: wiped, set back to an old copy, cut or deleted under the daemon that writes it.
//!
//! What the keeper still has is sent again; what is gone is named by the log. Silence is the violation.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::chatter::Chatter;
use super::{Every, Run, Table};
use crate::record::{Beside, beside};
use crate::world::{World, eventually};

/// How long the session prints between two blows.
const BETWEEN: Every = Every { from_ms: 20, to_ms: 250 };

/// Lines printed before the first blow: some segments of a log and of a spool, so that there is something that the
/// keeper has given away, and that only the log has.
const FLOOD_LINES: u32 = 1_300_000;

/// A session that prints while its log suffers.
struct Victim {
    world: World,
    chatter: Chatter,
    /// What was printed before the chatter.
    flood: PathBuf,
    session: String,
}

impl Victim {
    fn new(run: &Run) -> Result<Self> {
        let world = run.world()?;
        let chatter = Chatter::new(&world, "chatter")?;
        let flood = world.outside().join("flood");
        let talk = format!("'{}'", chatter.command(&world)?.join("' '")); // the program's path may have a space
        let script = format!("stty -opost; seq {FLOOD_LINES} | tee {}; exec {talk}", flood.display());
        let session = world.session(&script)?;
        let spool = world.home().join("state/spool").join(&session);
        eventually("the keeper has given the flood away", || {
            let is_over = world.listed(&session)?["output_bytes"].as_u64() > Some(u64::from(FLOOD_LINES) * 7);
            let segments = std::fs::read_dir(&spool)?.count() - 1; // beside the lock
            Ok((is_over && segments == 1).then_some(()))
        })?;
        Ok(Self { world, chatter, flood, session })
    }

    fn logs(&self) -> PathBuf {
        self.world.home().join("state/log")
    }

    /// Does something to the logs while no daemon runs.
    fn without_daemon(&self, act: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.world.ok(&["daemon", "stop"])?;
        act(&self.logs())?;
        self.world.ok(&["daemon", "start"])?;
        Ok(())
    }

    /// Ends the session and lays its log beside what it printed.
    fn end(self, what: &'static str, run: &Run) -> Result<Table> {
        self.chatter.stop()?;
        let row = self.world.ended(&self.session)?;
        ensure!(row["exit_code"] == 0, "the session did not end well: {row}");
        eventually("the keeper has gone", || {
            Ok(shellkeep::keepers::all(&self.world.places()).is_empty().then_some(()))
        })?;
        let _adopted = self.world.output(&self.session)?; // what the keeper could not hand over in time
        let printed = [std::fs::read(&self.flood)?, self.chatter.printed()?].concat();
        let Beside { kept_bytes, lost_bytes, holes } = beside(&self.logs().join(&self.session), &printed)?;
        let verified = self.world.run(&["verify", &self.session])?.status;
        ensure!(verified.success() == (holes == 0), "{holes} holes, and verify says {verified}");
        ensure!(kept_bytes > 0, "nothing at all was recorded");
        let mut table = Table::default();
        table.add(what, format_args!("{} times", run.n));
        table.add("printed", format_args!("{} bytes", printed.len()));
        table.add("in the log, as printed", format_args!("{kept_bytes} bytes"));
        table.add("lost, and said so", format_args!("{lost_bytes} bytes in {holes} places"));
        Ok(table)
    }
}

/// F4: all logs are removed while no daemon runs.
///
/// # Errors
/// The first violation.
pub fn wipe(run: &Run) -> Result<Table> {
    let victim = Victim::new(run)?;
    let (mut rng, bar) = (run.rng(), run.progress("wipes"));
    for _ in 0..run.n {
        BETWEEN.wait(&mut rng);
        victim.without_daemon(|logs| Ok(std::fs::remove_dir_all(logs)?))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    victim.end("log wiped", run)
}

/// F5: logs are set back to an old copy.
///
/// # Errors
/// The first violation.
pub fn rollback(run: &Run) -> Result<Table> {
    let victim = Victim::new(run)?;
    let (mut rng, bar) = (run.rng(), run.progress("rollbacks"));
    let copy = victim.world.outside().join("backup");
    for _ in 0..run.n {
        BETWEEN.wait(&mut rng);
        victim.without_daemon(|logs| copy_tree(logs, &copy))?;
        BETWEEN.wait(&mut rng);
        victim.without_daemon(|logs| {
            std::fs::remove_dir_all(logs)?;
            Ok(std::fs::rename(&copy, logs)?)
        })?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    victim.end("log set back", run)
}

/// F25: the newest segment is cut or deleted under the daemon.
///
/// # Errors
/// The first violation.
pub fn yank(run: &Run) -> Result<Table> {
    let victim = Victim::new(run)?;
    let (mut rng, bar) = (run.rng(), run.progress("yanks"));
    for _ in 0..run.n {
        BETWEEN.wait(&mut rng);
        let log = victim.logs().join(&victim.session);
        let mut segments: Vec<_> = std::fs::read_dir(&log)?.flatten().map(|entry| entry.path()).collect();
        segments.sort();
        if let Some(newest) = segments.last() {
            if rng.bool() {
                std::fs::remove_file(newest)?;
            } else {
                let file = std::fs::OpenOptions::new().write(true).open(newest)?;
                file.set_len(rng.u64(0..=file.metadata()?.len()))?;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    BETWEEN.wait(&mut rng);
    victim.end("newest segment cut or deleted", run)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(to)?; // as the daemon demands
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}
