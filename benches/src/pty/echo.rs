//! From a key to its return, through a program in raw mode that gives back what it gets.
//!
//! All contestants of a round stand ready at once and take turns window by window, so that a slow moment hits all.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::{Args, Contestant, Entrant, KEEPER_END_WAIT_MAX, Stage, child, daemons};
use crate::stats::{float, median, nanos, percentile};
use crate::{process, report};

/// Keys of a window that are not counted: everything is loaded and awake after them.
const WARM_UP_KEYS: u32 = 5;
/// Pause between two keys: a person's program is asleep again by then.
const KEY_PAUSE: Duration = Duration::from_millis(2);
/// What is typed.
const KEY: u8 = b'k';

/// One window of keys.
#[derive(Debug, Clone, Copy, Serialize)]
struct Window {
    p50_us: f64,
    p99_us: f64,
}

/// One contestant.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    pub(super) contestant: Contestant,
    /// In order of the rounds.
    windows: Vec<Window>,
    /// Medians of the windows' own differences to the floor's window just before or after.
    pub(super) added_p50_us: f64,
    pub(super) added_p99_us: f64,
}

/// All rounds.
pub(super) fn measure(stage: &Stage, entrants: &mut [Entrant], args: &Args) -> anyhow::Result<Vec<Cell>> {
    let mut windows = vec![Vec::new(); entrants.len()];
    let program = stage.own(&["pty-echo".as_ref()]);
    for round in 0..args.rounds as usize {
        let session = format!("echo-{round}");
        let mut ttys = Vec::new();
        for entrant in &*entrants {
            if let Some(home) = &entrant.home {
                home.before_turn()?;
            }
            let tty = stage.start(entrant, &program, &session)?;
            tty.read_until(child::READY).with_context(|| format!("echo through {}", entrant.contestant.name()))?;
            ttys.push(tty);
        }
        for window in 0..args.windows as usize {
            for turn in 0..ttys.len() {
                let who = (round + window + turn) % ttys.len();
                let name = entrants[who].contestant.name();
                windows[who].push(one(&ttys[who], args.keys).with_context(|| format!("echo through {name}"))?);
            }
        }
        for (tty, entrant) in ttys.into_iter().zip(&*entrants) {
            tty.write(&[child::END_KEY])?;
            tty.end().with_context(|| format!("the end of {}", entrant.contestant.name()))?;
        }
        process::wait_for_orphans(&daemons(entrants), KEEPER_END_WAIT_MAX)?;
        for home in entrants.iter_mut().filter_map(|entrant| entrant.home.as_mut()) {
            home.after_turn()?;
            home.take_record(&session)?;
            stage.on_their_core(|| home.after_reading())?;
        }
    }
    let added = |who: usize, of: fn(&Window) -> f64| {
        let pairs = windows[who].iter().zip(&windows[0]);
        median(pairs.map(|(own, floor): (&Window, &Window)| of(own) - of(floor)))
    };
    let cells = entrants.iter().enumerate().map(|(who, entrant)| Cell {
        contestant: entrant.contestant,
        windows: windows[who].clone(),
        added_p50_us: added(who, |window| window.p50_us),
        added_p99_us: added(who, |window| window.p99_us),
    });
    Ok(cells.collect())
}

fn one(tty: &super::Tty, keys: u32) -> anyhow::Result<Window> {
    let mut times = Vec::new();
    for key in 0..WARM_UP_KEYS + keys {
        std::thread::sleep(KEY_PAUSE);
        let time = tty.echo(KEY)?;
        if key >= WARM_UP_KEYS {
            times.push(nanos(time));
        }
    }
    times.sort_unstable();
    let micros = |percent| float(percentile(&times, percent)) / 1e3;
    Ok(Window { p50_us: micros(50), p99_us: micros(99) })
}

/// The table.
pub(super) fn print(title: &str, keys: u32, cells: &[Cell]) {
    if cells.is_empty() {
        return;
    }
    let headings = ["contestant", "p50 µs", "p99 µs", "added p50 µs", "added p99 µs"];
    let row = |cell: &Cell| {
        let middle = |of: fn(&Window) -> f64| median(cell.windows.iter().map(of));
        vec![
            cell.contestant.name().to_owned(),
            format!("{:.0}", middle(|window| window.p50_us)),
            format!("{:.0}", middle(|window| window.p99_us)),
            format!("{:+.0}", cell.added_p50_us),
            format!("{:+.0}", cell.added_p99_us),
        ]
    };
    let rows: Vec<_> = cells.iter().map(row).collect();
    report::table(&format!("echo of a key: {keys} keys per round, {title}"), &headings, 1, &rows);
}
