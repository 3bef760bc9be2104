//! The daemon is stopped, not dead: keys go on echoing, output goes on, memory stays, and all is there soon afterwards.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::chatter::Chatter;
use super::{Every, Run, Table};
use crate::record::{grants, same};
use crate::screen::Screen;
use crate::world::{World, eventually, signal};

/// Echo while the daemon is stopped, at the 99th percentile, beyond that of a bare PTY beside it: where others keep the
/// processors busy, both are late. Source: GOALS, F13.
const ECHO_P99_MAX: Duration = Duration::from_millis(5);

/// A keeper's memory while it keeps everything for itself, in KiB. Source: F13.
const KEEPER_KIB_MAX: u64 = 16 << 10;

/// How soon everything must be recorded once the daemon goes on.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(5);

/// Short stops, and what lies between them.
const STOPPED: Every = Every { from_ms: 0, to_ms: 50 };
const GOING: Every = Every { from_ms: 0, to_ms: 20 };

/// Pause between two keys.
const KEY_EVERY: Duration = Duration::from_millis(10);

/// Pause between two looks at the screen: part of what is measured.
const LOOK_EVERY: Duration = Duration::from_micros(50);

/// F13, `run.n` seconds long, while another session prints `bytes`.
///
/// # Errors
/// The first violation.
pub fn stop(run: &Run, bytes: u64) -> Result<Table> {
    let world = run.world()?;
    let mut bare = Screen::of(&world, Path::new("/bin/sh"), &["-c", "stty raw -echo; echo +; exec cat"])?;
    let mut typist =
        Screen::start(&world, &["start", "-n", "typist", "--", "/bin/sh", "-c", "stty raw -echo; echo +; exec cat"])?;
    bare.shows("+")?;
    typist.shows("+")?;
    let (go, done) = (world.outside().join("go"), world.outside().join("done"));
    let printer = world.session(&format!(
        "stty -opost; while [ ! -e {} ]; do sleep 0.01; done; yes 'a line of the flood' | head -c {bytes}; echo > {}; exec sleep 1000",
        go.display(),
        done.display()
    ))?;
    let keepers = [world.keeper_pid(&printer)?, world.keeper_pid(&world.listed_by_name("typist")?)?];
    let daemon = world.daemon_other_than(None)?;
    signal(daemon, Signal::STOP)?;
    std::fs::write(&go, "")?;
    let bar = run.progress("seconds");
    let until = Instant::now() + Duration::from_secs(run.n.into());
    let (mut echoes, mut floor, mut kib) = (Vec::new(), Vec::new(), 0);
    while Instant::now() < until || !done.exists() {
        echoes.push(echo(&mut typist)?);
        floor.push(echo(&mut bare)?);
        for keeper in keepers {
            kib = kib.max(resident_kib(keeper)?);
        }
        bar.set_position(u64::from(run.n).saturating_sub(until.saturating_duration_since(Instant::now()).as_secs()));
        std::thread::sleep(KEY_EVERY); // the rhythm of the typist
    }
    bar.finish_and_clear();
    ensure!(world.daemon_pid() == Some(daemon), "the stopped daemon was replaced");
    signal(daemon, Signal::CONT)?;
    let caught_up = caught_up(&world, &printer, bytes)?;
    let expected: Vec<u8> = b"a line of the flood\n".iter().copied().cycle().take(usize::try_from(bytes)?).collect();
    same("the flood", &expected, &world.output(&printer)?)?;
    let mut table = Table::default();
    table.add("daemon stopped", format_args!("{} s, {bytes} bytes printed meanwhile", run.n));
    table.add_times("echo", &mut echoes);
    table.add_times("echo of a bare PTY", &mut floor);
    table.add("largest keeper", format_args!("{kib} KiB"));
    table.add("caught up in", format_args!("{caught_up:.2?}"));
    let p99 = |sorted: &[Duration]| sorted[sorted.len() * 99 / 100];
    ensure!(p99(&echoes) <= p99(&floor) + ECHO_P99_MAX, "keys echoed too late:\n{table}");
    ensure!(kib <= KEEPER_KIB_MAX, "a keeper grew:\n{table}");
    ensure!(caught_up <= CAUGHT_UP_WITHIN, "caught up too late:\n{table}");
    Ok(table)
}

/// F13 in small pieces: `run.n` stops of the daemon, each too short to be noticed or just long enough.
///
/// # Errors
/// The first violation.
pub fn stutter(run: &Run) -> Result<Table> {
    let world = run.world()?;
    let chatter = Chatter::new(&world, "chatter")?;
    let session = chatter.start(&world)?;
    world.listed(&session)?;
    let daemon = world.daemon_other_than(None)?;
    let (mut rng, bar) = (run.rng(), run.progress("stops"));
    for _ in 0..run.n {
        signal(daemon, Signal::STOP)?;
        STOPPED.wait(&mut rng);
        signal(daemon, Signal::CONT)?;
        GOING.wait(&mut rng);
        bar.inc(1);
    }
    bar.finish_and_clear();
    ensure!(world.daemon_pid() == Some(daemon), "the stopped daemon was replaced");
    chatter.stop()?;
    let row = world.ended(&session)?;
    ensure!(row["exit_code"] == 0 && row["gaps"] == 0, "the session did not end well: {row}");
    let printed = chatter.printed()?;
    same("what was printed is not what was recorded", &printed, &world.output(&session)?)?;
    world.ok(&["verify", &session])?;
    let mut table = Table::default();
    table.add("daemon stopped", format_args!("{} times", run.n));
    table.add("printed and recorded", format_args!("{} bytes, equal", printed.len()));
    table.add("the session registered", format_args!("{} times", grants(&world.places().logs().join(&session))?));
    Ok(table)
}

/// Types a key and waits until it is shown.
fn echo(typist: &mut Screen) -> Result<Duration> {
    let before = typist.shown().len();
    let typed = Instant::now();
    typist.keys(b"k")?;
    while typist.shown().len() == before {
        ensure!(typed.elapsed() < crate::world::SOON, "a key was never echoed");
        std::thread::sleep(LOOK_EVERY); // finer than what is measured
    }
    Ok(typed.elapsed())
}

fn caught_up(world: &World, session: &str, bytes: u64) -> Result<Duration> {
    let since = Instant::now();
    eventually("the daemon has caught up", || Ok((world.listed(session)?["output_bytes"] == bytes).then_some(())))?;
    Ok(since.elapsed())
}

fn resident_kib(pid: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
