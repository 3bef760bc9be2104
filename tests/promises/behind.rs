//! A terminal that hangs is left behind, and on its return shows what the session shows: by what it missed if that is
//! little, else by the daemon's screen, else because the program is asked to draw.

use anyhow::{Context as _, Result, ensure};
use shellkeep_daemon::screen::{Screen as Emulated, Window};
use torture::screen::Screen;

use crate::world::{World, eventually};

const WINDOW: Window = Window { cols: 80, rows: 24 };
/// Output that a terminal is given when it returns, in bytes. Source: `CATCH_UP_BYTES_MAX` of the keeper.
const GIVEN_BYTES_MAX: usize = 1 << 20;
/// What the session shows at last.
const END: &str = "\x1b[31mthe end\x1b[m";

/// A session that prints some numbers when Enter is typed, and draws anew when it is asked to.
fn session(world: &World, numbers: u32) -> Result<String> {
    let script = format!(
        "trap 'echo drawn-anew' WINCH; stty -echo; echo ready; until read x; do :; done; seq 1000001 {}; printf '\\033[31mthe end\\033[m'; \
         while :; do sleep 0.05; done",
        1_000_000 + numbers
    );
    world.session(&script)
}

fn emulated(bytes: &[u8]) -> Emulated {
    let mut screen = Emulated::new(WINDOW);
    screen.feed_whole(bytes);
    screen
}

/// Attaches a terminal that leads and one that hangs while the session prints; the latter, on its return. `before` is
/// done just before that.
fn left_behind(world: &World, session: &str, before: impl FnOnce() -> Result<()>) -> Result<(Screen, Vec<u8>)> {
    eventually("it runs", || Ok(world.output(session)?.starts_with(b"ready").then_some(())))?;
    let mut leads = Screen::start(world, &["attach", session])?;
    leads.shows("ready")?;
    let hangs = Screen::start(world, &["attach", session])?;
    hangs.shows("ready")?;
    eventually("both are shown the session", || Ok((world.listed(session)?["attached"] == 2).then_some(())))?;
    let (mut shown, mut recorded) = (0, Vec::new());
    hangs.stuck(|| {
        shown = hangs.shown().len();
        leads.keys(b"\n")?;
        leads.shows(END)?;
        recorded = eventually("all is recorded", || {
            Ok(Some(world.output(session)?).filter(|output| output.ends_with(END.as_bytes())))
        })?;
        before()
    })?;
    // It stays attached, and whoever leads is not to be asked what it was shown.
    drop(leads);
    let missed = recorded.len() - recorded.len().min(shown);
    ensure!(missed > GIVEN_BYTES_MAX / 2, "nothing was missed: {missed} bytes");
    Ok((hangs, recorded))
}

#[test]
fn a_terminal_that_missed_little_is_given_every_byte_of_it() -> Result<()> {
    let world = World::new()?;
    let session = session(&world, 90_000)?;
    let (hangs, recorded) = left_behind(&world, &session, || Ok(()))?;
    hangs.shows(END)?;
    let shown = hangs.shown();
    let printed = &recorded[recorded.windows(7).position(|part| part == b"1000001").context("numbers")?..];
    ensure!(printed.len() > GIVEN_BYTES_MAX / 2 && printed.len() < GIVEN_BYTES_MAX, "{} bytes", printed.len());
    ensure!(shown.ends_with(printed), "shown: {} bytes, printed: {} bytes", shown.len(), printed.len());
    world.ok(&["kill", &session])?;
    Ok(())
}

#[test]
fn a_terminal_that_missed_much_is_shown_the_screen() -> Result<()> {
    let world = World::new()?;
    let session = session(&world, 500_000)?;
    let (hangs, recorded) = left_behind(&world, &session, || Ok(()))?;
    let wanted = emulated(&recorded);
    let same =
        eventually("the screen is shown", || Ok((emulated(&hangs.shown()).grid() == wanted.grid()).then_some(())));
    let shown = hangs.shown();
    same.map_err(|error| error.context(format!("{:?} for {:?}", emulated(&shown).grid(), wanted.grid())))?;
    ensure!(shown.len() < recorded.len() / 2, "{} bytes of {} were shown", shown.len(), recorded.len());
    let drawn = world.output(&session)?.len() - recorded.len();
    ensure!(drawn == 0, "the program was made to draw, {drawn} bytes");
    world.ok(&["kill", &session])?;
    Ok(())
}

#[test]
fn a_terminal_that_missed_much_is_drawn_for_when_nobody_knows_the_screen() -> Result<()> {
    let world = World::new()?;
    let session = session(&world, 500_000)?;
    let (hangs, recorded) = left_behind(&world, &session, || world.ok(&["daemon", "stop"]).map(drop))?;
    hangs.shows("drawn-anew")?;
    let shown = hangs.shown();
    ensure!(shown.len() < recorded.len() / 2, "{} bytes of {} were shown", shown.len(), recorded.len());
    world.ok(&["kill", &session])?;
    Ok(())
}
