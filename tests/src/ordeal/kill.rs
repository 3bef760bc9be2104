//! SIGKILL again and again: of the daemon, of the keeper, of both, of the terminal.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use rustix::process::Signal;

use super::chatter::{Chatter, beginning};
use super::{Every, Run, Table};
use crate::record::{grants, same};
use crate::screen::Screen;
use crate::world::{World, eventually, gone, is_alive, signal};

/// How long after a daemon is up everything that a dead keeper's terminal has shown must be in the record.
const ADOPTED_WITHIN: Duration = Duration::from_secs(2);

/// Kills between two looks at whether the shell is alive.
const LOOK_AT_SHELL_EVERY: u32 = 100;

/// Longest pause between the two kills of keeper and daemon.
const BETWEEN_BOTH: Every = Every { from_ms: 0, to_ms: 3 };

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The daemon, under one streaming session.
    Daemon,
    /// The keeper of one session after the other; the daemon lives, or is stopped on purpose.
    Keeper,
    /// Keeper and daemon, in either order.
    Both,
    /// One terminal after the other, of one session.
    Terminal,
}

/// F1 and F2.
///
/// # Errors
/// The first violation.
pub fn kill(run: &Run, who: Who, every: Every) -> Result<Table> {
    match who {
        Who::Daemon => daemon(run, every),
        Who::Keeper | Who::Both => keeper(run, who, every),
        Who::Terminal => terminal(run, every),
    }
}

fn is_running(world: &World, session: &str) -> Result<i32> {
    let row = world.listed(session)?;
    ensure!(row["state"] == "running", "the session has not survived: {row}");
    Ok(i32::try_from(row["pid"].as_i64().context("a running session has a process")?)?)
}

fn daemon(run: &Run, every: Every) -> Result<Table> {
    let world = run.world()?;
    let chatter = Chatter::new(&world, "chatter")?;
    let session = chatter.start(&world)?;
    let shell = is_running(&world, &session)?;
    let (mut rng, bar, begun) = (run.rng(), run.progress("kills"), Instant::now());
    let mut early = 0u32;
    let mut ours: Option<Child> = None;
    let mut kills = 0;
    while kills < run.n {
        every.wait(&mut rng);
        // The keeper starts daemons too, but only every second while they die young: ours come at once.
        match world.daemon_pid() {
            Some(pid) => {
                signal(pid, Signal::KILL)?;
                gone(pid)?;
                kills += 1;
                bar.inc(1);
            }
            None => early += u32::from(ours.is_some()), // killed before it had the lock
        }
        if let Some(mut child) = ours.take() {
            child.kill()?;
            child.wait()?;
        }
        ours = Some(world.command(["daemon", "run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        ensure!(
            kills % LOOK_AT_SHELL_EVERY != 0 || is_alive(shell),
            "the shell died with the daemon after {kills} kills"
        );
    }
    let took = begun.elapsed();
    bar.finish_and_clear();
    chatter.stop()?;
    // Much may wait in the spool after so many short-lived daemons: its end is the keeper's.
    eventually("the keeper has gone", || Ok(shellkeep::keepers::all(&world.places()).is_empty().then_some(())))?;
    let row = world.ended(&session)?;
    ensure!(row["exit_code"] == 0 && row["gaps"] == 0, "the session did not end well: {row}");
    let (printed, recorded) = (chatter.printed()?, world.run(&["output", &session])?);
    let said = String::from_utf8_lossy(&recorded.stderr);
    same("what was printed is not what was recorded", &printed, &recorded.stdout).with_context(|| said.into_owned())?;
    world.ok(&["verify", &session])?;
    if let Some(mut child) = ours {
        child.kill()?;
        child.wait()?;
    }
    let mut table = Table::default();
    table.add("daemon killed", format_args!("{kills} times, {:.0} a second", f64::from(kills) / took.as_secs_f64()));
    table.add("killed before its lock", format_args!("{early} times more"));
    table.add(
        "the session registered",
        format_args!("{} times", grants(&world.home().join("state/log").join(&session))?),
    );
    table.add("printed and recorded", format_args!("{} bytes, equal", printed.len()));
    let names = std::fs::read_dir(world.home().join("run"))?.flatten().map(|entry| entry.file_name());
    table.add("unfinished sockets left", names.filter(|name| name.as_encoded_bytes().starts_with(b".")).count());
    table.add("the shell", "lived, and ended with 0");
    Ok(table)
}

/// What one killed keeper left.
struct Left {
    shown: usize,
    recorded: usize,
    took: Duration,
}

fn keeper(run: &Run, who: Who, every: Every) -> Result<Table> {
    let world = run.world()?;
    world.ok(&["daemon", "start"])?;
    let (mut rng, bar) = (run.rng(), run.progress("kills"));
    let (mut shown, mut recorded, mut times) = (0u64, 0u64, Vec::new());
    for round in 0..run.n {
        let left = one_keeper(&world, who, every, &mut rng, round).with_context(|| format!("round {round}"))?;
        shown += left.shown as u64;
        recorded += left.recorded as u64;
        times.push(left.took);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut table = Table::default();
    table.add(
        if who == Who::Both { "keeper and daemon killed" } else { "keeper killed" },
        format_args!("{} times", run.n),
    );
    table.add("shown on terminals", format_args!("{shown} bytes, all of them recorded"));
    table.add("recorded", format_args!("{recorded} bytes, all of them as printed"));
    table.add_times("in the record within", &mut times);
    Ok(table)
}

fn one_keeper(world: &World, who: Who, every: Every, rng: &mut Rng, round: u32) -> Result<Left> {
    let chatter = Chatter::new(world, &format!("chatter-{round}"))?;
    let command = chatter.command(world)?;
    let args: Vec<&str> = ["start", "--"].into_iter().chain(command.iter().map(String::as_str)).collect();
    let screen = Screen::start(world, &args)?;
    eventually("something is shown", || Ok((!screen.shown().is_empty()).then_some(())))?;
    let keepers = shellkeep::keepers::running(&world.places());
    let keeper = &keepers.first().context("a session that shows something has a keeper")?.info;
    let (session, keeper) = (keeper.session.to_string(), i32::try_from(keeper.keeper_pid)?);
    every.wait(rng);
    match who {
        Who::Both if rng.bool() => {
            kill_daemon(world)?;
            BETWEEN_BOTH.wait(rng);
            signal(keeper, Signal::KILL)?;
        }
        Who::Both => {
            signal(keeper, Signal::KILL)?;
            BETWEEN_BOTH.wait(rng);
            kill_daemon(world)?;
        }
        _ => {
            if rng.u32(0..3) == 0 {
                world.ok(&["daemon", "stop"])?; // nobody is there, and nobody comes by itself
                every.wait(rng);
            }
            signal(keeper, Signal::KILL)?;
        }
    }
    gone(keeper)?;
    let shown = screen.closed()?;
    world.ok(&["daemon", "start"])?;
    let up = Instant::now();
    let recorded = world.output(&session)?;
    let took = up.elapsed();
    ensure!(recorded.len() >= shown.len(), "{} bytes were shown, {} are recorded", shown.len(), recorded.len());
    same("what was shown is not in the record", &shown, &recorded[..shown.len()])?;
    same("the record is not what was printed", &beginning(recorded.len())[..recorded.len()], &recorded)?;
    ensure!(took <= ADOPTED_WITHIN, "in the record only {took:?} after a daemon was up");
    let row = world.ended(&session)?;
    ensure!(row["state"] == "lost" && row["gaps"] == 0, "a session without its keeper is lost and whole: {row}");
    world.ok(&["rm", &session])?; // or the list grows with each round
    Ok(Left { shown: shown.len(), recorded: recorded.len(), took })
}

/// The daemon may be dead already.
fn kill_daemon(world: &World) -> Result<()> {
    match world.daemon_pid() {
        Some(pid) => signal(pid, Signal::KILL),
        None => Ok(()),
    }
}

fn terminal(run: &Run, every: Every) -> Result<Table> {
    let world = run.world()?;
    let chatter = Chatter::new(&world, "chatter")?;
    let session = chatter.start(&world)?;
    let shell = is_running(&world, &session)?;
    let (mut rng, bar) = (run.rng(), run.progress("kills"));
    let mut shown = Vec::new();
    for _ in 0..run.n {
        let screen = Screen::start(&world, &["attach", &session])?;
        if rng.u32(0..4) > 0 {
            eventually("something is shown", || Ok((!screen.shown().is_empty()).then_some(())))?;
        }
        every.wait(&mut rng);
        signal(screen.pid()?, Signal::KILL)?;
        eventually("the tty is as it was", || Ok(screen.is_cooked()?.then_some(())))?;
        shown.push(screen.closed()?);
        ensure!(is_alive(shell), "the shell died with its terminal");
        bar.inc(1);
    }
    bar.finish_and_clear();
    chatter.stop()?;
    let row = world.ended(&session)?;
    ensure!(row["exit_code"] == 0 && row["gaps"] == 0, "the session did not end well: {row}");
    let (printed, recorded) = (chatter.printed()?, world.output(&session)?);
    same("what was printed is not what was recorded", &printed, &recorded)?;
    let text = std::str::from_utf8(&printed)?;
    let mut live_bytes = 0;
    for (round, part) in shown.iter().enumerate() {
        // A write in progress ends on a tty that has its own modes again, which puts one more return before each line feed.
        let part = std::str::from_utf8(part)?.replace("\r\r\n", "\r\n");
        for live in without_screens(&part) {
            is_part_of(text, live).with_context(|| format!("terminal {round}"))?;
            live_bytes += live.len();
        }
    }
    ensure!(live_bytes > 0, "no terminal has shown anything but screens: this proves nothing");
    let mut table = Table::default();
    table.add("terminal killed", format_args!("{} times", run.n));
    table.add("shown live on terminals", format_args!("{live_bytes} bytes, each a part of the record"));
    table.add("printed and recorded", format_args!("{} bytes, equal", printed.len()));
    table.add("ttys", "each as before");
    Ok(table)
}

/// What a terminal has shown as it was printed, without the screens that it was given at first and where it was behind.
fn without_screens(shown: &str) -> impl Iterator<Item = &str> {
    const BEGIN: &str = "\x1b[?2026h";
    const END: &str = "\x1b[?2026l";
    let (first, screens) = shown.split_once(BEGIN).unwrap_or((shown, ""));
    let after = screens.split(BEGIN).map(|part| part.split_once(END).map_or("", |(_, live)| live));
    let is_cut_screen = |part: &str| BEGIN.starts_with(part);
    std::iter::once(first).chain(after).filter(move |part| !is_cut_screen(part))
}

/// What a terminal has shown is one piece of what was printed; the error tells where it leaves it.
fn is_part_of(printed: &str, shown: &str) -> Result<()> {
    /// Bytes shown on either side of the place.
    const AROUND: usize = 120;
    if printed.contains(shown) {
        return Ok(());
    }
    let (mut fits, mut too_long) = (0, shown.len());
    while too_long - fits > 1 {
        let middle = fits.midpoint(too_long);
        if printed.contains(shown.get(..middle).unwrap_or_default()) { fits = middle } else { too_long = middle }
    }
    let around = shown.get(fits.saturating_sub(AROUND)..shown.len().min(fits + AROUND)).unwrap_or_default();
    bail!("of {} bytes that were shown, the session has printed {fits} in one piece; then: {around:?}", shown.len());
}
