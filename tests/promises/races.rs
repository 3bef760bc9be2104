//! Killed exactly there: a process stops at a named point, is killed, and what comes of it is compared byte by byte.
//!
//! The points are those of `shellkeep_journal::hook`; a random kill meets them once in thousands.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use shellkeep_journal::hook::Point;
use torture::record::same;
use torture::screen::Screen;

use crate::world::{World, eventually, gone, signal};

/// Output that fills one segment of a log, so that it is sealed, and some more.
const SEAL_LINES: u32 = 1_300_000;

/// A session that prints `first`, then, once the file `go` is there, runs `then`.
fn in_two_steps(world: &World, first: &str, then: &str) -> String {
    let go = world.outside().join("go");
    format!("stty -opost; echo {first}; while [ ! -e {} ]; do sleep 0.005; done; {then}", go.display())
}

fn go(world: &World) -> Result<()> {
    Ok(std::fs::write(world.outside().join("go"), "")?)
}

/// What the record must be when nothing was lost, doubled or foreign.
fn is_whole(world: &World, session: &str, expected: &[u8]) -> Result<()> {
    let recorded = world.output(session)?;
    same("the record", expected, &recorded)?;
    world.ok(&["verify", session])?;
    ensure!(world.listed(session)?["gaps"] == 0);
    Ok(())
}

fn spools_are_gone(world: &World) -> Result<()> {
    eventually("the spool is gone", || {
        Ok((std::fs::read_dir(world.home().join("state/spool"))?.count() == 0).then_some(()))
    })
}

/// Nothing was told to the keeper, or nothing was known of the log: it sends again, and the log keeps it once.
#[test]
fn a_daemon_killed_between_doing_and_telling_keeps_everything_once() -> Result<()> {
    let world = World::new()?;
    let (copy, stop) = (world.outside().join("copy"), world.outside().join("stop"));
    let session = world.session(&format!(
        "stty -opost; i=0; while [ ! -e {} ]; do i=$((i+1)); echo line $i; sleep 0.002; done | tee {}",
        stop.display(),
        copy.display()
    ))?;
    for point in [Point::DaemonWrote, Point::DaemonSynced, Point::DaemonGranted, Point::DaemonLocked] {
        let trap = world.trap(point)?;
        if matches!(point, Point::DaemonGranted | Point::DaemonLocked) {
            world.kill_daemon()?; // the next one comes there
        }
        let killed = trap.kill()?;
        world.daemon_other_than(Some(killed))?;
    }
    std::fs::write(&stop, "")?;
    let row = world.ended(&session)?;
    ensure!(row["exit_code"] == 0, "{row}");
    is_whole(&world, &session, &std::fs::read(&copy)?)
}

/// However late it comes, and whoever started it: what was stopped on purpose stays stopped until it is needed.
#[test]
fn a_daemon_that_was_on_its_way_when_it_was_stopped_does_not_come() -> Result<()> {
    let world = World::new()?;
    let trap = world.trap(Point::DaemonStarting)?;
    let session = world.session("exec sleep 1000")?;
    let on_its_way = trap.caught()?;
    world.ok(&["daemon", "stop"])?;
    drop(trap);
    gone(on_its_way)?;
    ensure!(world.run(&["daemon", "status"])?.status.code() == Some(3), "it came all the same");
    ensure!(world.listed(&session)?["state"] == "running", "the next command that needs it brings it");
    Ok(())
}

/// Both files of the segment are there: one of them counts, and it is read once.
#[test]
fn a_daemon_killed_while_it_seals_a_segment_keeps_it_once() -> Result<()> {
    let world = World::new()?;
    let trap = world.trap(Point::DaemonSealed)?;
    let session = world.session(&format!("stty -opost; seq {SEAL_LINES}; exec sleep 1000"))?;
    trap.kill()?;
    let expected: String = (1..=SEAL_LINES).fold(String::new(), |mut text, n| {
        text.push_str(&n.to_string());
        text.push('\n');
        text
    });
    eventually("all is recorded", || Ok((world.listed(&session)?["output_bytes"] == expected.len()).then_some(())))?;
    is_whole(&world, &session, expected.as_bytes())
}

/// Compressing and waiting for the disk is for a thread of its own.
#[test]
fn whatever_is_printed_is_recorded_while_a_segment_is_sealed() -> Result<()> {
    let world = World::new()?;
    let trap = world.trap(Point::DaemonSealed)?;
    let own = world.session(&format!("stty -opost; seq {SEAL_LINES}; exec sleep 1000"))?;
    trap.caught()?;
    let other = world.session("stty -opost; echo other-$((1+1)); exec sleep 1000")?;
    eventually("the other is recorded", || Ok(world.output(&other)?.ends_with(b"other-2\n").then_some(())))?;
    let all = (1..=u64::from(SEAL_LINES)).map(|n| u64::from(n.ilog10()) + 2).sum::<u64>();
    eventually("all of its own is recorded", || Ok((world.listed(&own)?["output_bytes"] == all).then_some(())))?;
    let log = world.home().join("state/log").join(&own);
    // A stop ends by itself after a minute: nothing was recorded beside it then.
    ensure!(
        log.join("00000001.seg").exists() && log.join("00000001.zseg").exists(),
        "it is being sealed all the while"
    );
    drop(trap);
    eventually("the original is gone", || Ok((!log.join("00000001.seg").exists()).then_some(())))
}

/// Nobody writes to such a log any more: it must not wait for a next sync.
#[test]
fn what_a_dead_keeper_leaves_is_compressed_too() -> Result<()> {
    let world = World::new()?;
    world.ok(&["daemon", "stop"])?;
    let done = world.home().join("done");
    let session = world.session(&format!("stty -opost; seq {SEAL_LINES}; : >{}; exec sleep 1000", done.display()))?;
    eventually("all is printed", || Ok(done.exists().then_some(())))?;
    let keeper = shellkeep::keepers::all(&world.places()).first().map_or(0, |keeper| keeper.info.keeper_pid);
    let keeper = i32::try_from(keeper)?;
    signal(keeper, Signal::KILL)?;
    gone(keeper)?;
    world.ok(&["daemon", "start"])?;
    eventually("a full segment is compressed", || {
        Ok(world.home().join("state/log").join(&session).join("00000001.zseg").exists().then_some(()))
    })
}

/// The spool is still there, and so is all of it in the log: adopted again, it adds nothing.
#[test]
fn a_daemon_killed_after_adopting_adopts_again_and_adds_nothing() -> Result<()> {
    let world = World::new()?;
    world.ok(&["daemon", "stop"])?;
    let session = world.session("stty -opost; echo adopt $((40+2)); exec sleep 1000")?;
    let spool = world.home().join("state/spool").join(&session);
    eventually("the output is in the spool", || {
        let segments = std::fs::read_dir(&spool)?.flatten().map(|entry| std::fs::read(entry.path()));
        Ok(segments.flatten().any(|bytes| bytes.windows(8).any(|part| part == b"adopt 42")).then_some(()))
    })?;
    let keeper = shellkeep::keepers::all(&world.places()).first().map_or(0, |keeper| keeper.info.keeper_pid);
    let keeper = i32::try_from(keeper)?;
    signal(keeper, Signal::KILL)?;
    gone(keeper)?;
    for _ in 0..2 {
        let trap = world.trap(Point::DaemonAdopted)?;
        let mut daemon = world.command(["daemon", "run"]).spawn()?;
        let killed = trap.kill()?;
        ensure!(killed == i32::try_from(daemon.id())?);
        daemon.wait()?;
        ensure!(spool.exists());
    }
    ensure!(world.ended(&session)?["state"] == "lost");
    is_whole(&world, &session, b"adopt 42\n")?;
    spools_are_gone(&world)
}

/// R1: what the keeper has not shown yet may be recorded; what it has shown must be.
#[test]
fn a_keeper_killed_before_it_shows_has_recorded_more_than_was_seen() -> Result<()> {
    let world = World::new()?;
    let script = in_two_steps(&world, "shown", "echo only spooled; exec sleep 1000");
    let screen = Screen::start(&world, &["start", "-n", "race", "--", "/bin/sh", "-c", &script])?;
    screen.shows("shown\n")?;
    let session = world.listed_by_name("race")?;
    let trap = world.trap(Point::KeeperSpooled)?;
    go(&world)?;
    trap.kill()?;
    ensure!(world.ended(&session)?["state"] == "lost");
    let shown = screen.closed()?;
    ensure!(shown == b"shown\n", "{:?}", String::from_utf8_lossy(&shown));
    is_whole(&world, &session, b"shown\nonly spooled\n")?;
    spools_are_gone(&world)
}

/// The daemon has it durable, the spool still has it too: it is adopted, and is in the log once.
#[test]
fn a_keeper_killed_before_it_trims_doubles_nothing() -> Result<()> {
    for with_daemon in [false, true] {
        let world = World::new()?;
        let trap = world.trap(Point::KeeperToldDurable)?;
        let session = world.session("stty -opost; echo once; exec sleep 1000")?;
        trap.caught()?;
        if with_daemon {
            world.kill_daemon()?;
        }
        trap.kill()?;
        ensure!(world.ended(&session)?["state"] == "lost");
        is_whole(&world, &session, b"once\n")?;
        spools_are_gone(&world)?;
    }
    Ok(())
}

/// The record is complete without the keeper's last word: the status is in it.
#[test]
fn a_keeper_killed_before_it_says_the_end_leaves_an_ended_session_with_its_status() -> Result<()> {
    let world = World::new()?;
    let script = in_two_steps(&world, "before", "echo after; exit 7");
    let mut screen = Screen::start(&world, &["start", "-n", "race", "--", "/bin/sh", "-c", &script])?;
    screen.shows("before\n")?;
    let session = world.listed_by_name("race")?;
    let trap = world.trap(Point::KeeperEnding)?;
    go(&world)?;
    trap.caught()?;
    ensure!(screen.ended()?.code() == Some(7), "the terminal has the status before the daemon hears of the end");
    trap.kill()?;
    let row = world.ended(&session)?;
    ensure!(row["state"] == "ended" && row["exit_code"] == 7, "{row}");
    is_whole(&world, &session, b"before\nafter\n")?;
    spools_are_gone(&world)
}

/// The tty is lent to the keeper already: it is given back as it was, and the session goes on.
#[test]
fn a_terminal_killed_right_after_it_lent_its_tty_costs_neither_tty_nor_session() -> Result<()> {
    let world = World::new()?;
    let trap = world.trap(Point::TerminalHanded)?;
    let script = in_two_steps(&world, "hello", "echo goodbye");
    let screen = Screen::start(&world, &["start", "-n", "race", "--", "/bin/sh", "-c", &script])?;
    ensure!(trap.caught()? == screen.pid()? && !screen.is_cooked()?);
    trap.kill()?;
    eventually("the tty is as it was", || Ok(screen.is_cooked()?.then_some(())))?;
    let session = world.listed_by_name("race")?;
    let mut again = Screen::start(&world, &["attach", "race"])?;
    eventually("the session has its new terminal", || Ok((world.listed(&session)?["attached"] == 1).then_some(())))?;
    go(&world)?;
    ensure!(again.ended()?.success());
    ensure!(again.shown().ends_with(b"goodbye\n"));
    is_whole(&world, &session, b"hello\ngoodbye\n")
}
