//! From the start of a command to the first byte of its program, as a person waits for a prompt.

use std::ffi::OsString;
use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;

use super::{Args, Contestant, Entrant, KEEPER_END_WAIT_MAX, Stage, daemons};
use crate::stats::median;
use crate::{process, report};

/// Says the prompt, and ends with a line. A shell, because that is what starts.
const PROGRAM: [&str; 3] = ["/bin/sh", "-c", "printf '<prompt>'; read line"];
const PROMPT: &[u8] = b"<prompt>";

/// One contestant.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    pub(super) contestant: Contestant,
    /// In order of the rounds: the median of each.
    rounds_ms: Vec<f64>,
    /// Median of the rounds' differences to the floor.
    pub(super) added_ms: f64,
}

/// All rounds.
pub(super) fn measure(stage: &Stage, entrants: &mut [Entrant], args: &Args) -> anyhow::Result<Vec<Cell>> {
    let mut rounds = vec![Vec::new(); entrants.len()];
    for round in 0..args.rounds {
        let mut times = vec![Vec::new(); entrants.len()];
        for start in 0..args.starts {
            for who in 0..entrants.len() {
                let name = entrants[who].contestant.name();
                let session = format!("start-{round}-{start}");
                let ms = one(stage, entrants, who, &session).with_context(|| format!("start of {name}"))?;
                times[who].push(ms);
            }
        }
        for (round, times) in rounds.iter_mut().zip(times) {
            round.push(median(times));
        }
    }
    let cells = entrants.iter().enumerate().map(|(who, entrant)| Cell {
        contestant: entrant.contestant,
        rounds_ms: rounds[who].clone(),
        added_ms: median(rounds[who].iter().zip(&rounds[0]).map(|(own, floor)| own - floor)),
    });
    Ok(cells.collect())
}

fn one(stage: &Stage, entrants: &mut [Entrant], who: usize, session: &str) -> anyhow::Result<f64> {
    if let Some(home) = &entrants[who].home {
        home.before_turn()?;
    }
    let program = PROGRAM.map(OsString::from);
    let begun = Instant::now();
    let tty = stage.start(&entrants[who], &program, session)?;
    tty.read_until(PROMPT)?;
    let time = begun.elapsed();
    tty.write(b"\n")?;
    tty.end()?;
    let alone = entrants[who].contestant == Contestant::KeptAlone;
    if let (true, Some(home)) = (alone, &mut entrants[who].home) {
        home.start_daemon()?;
    }
    process::wait_for_orphans(&daemons(entrants), KEEPER_END_WAIT_MAX)?;
    if let Some(home) = &mut entrants[who].home {
        home.after_turn()?;
        if alone {
            home.end_daemon()?;
        }
        stage.on_their_core(|| home.after_reading())?;
    }
    Ok(time.as_secs_f64() * 1e3)
}

/// The table.
pub(super) fn print(title: &str, starts: u32, cells: &[Cell]) {
    if cells.is_empty() {
        return;
    }
    let row = |cell: &Cell| {
        let middle = median(cell.rounds_ms.iter().copied());
        vec![cell.contestant.name().to_owned(), format!("{middle:.2}"), format!("{:+.2}", cell.added_ms)]
    };
    let rows: Vec<_> = cells.iter().map(row).collect();
    let title = format!("start to the first prompt: {starts} starts per round, {title}");
    report::table(&title, &["contestant", "ms", "added ms"], 1, &rows);
}
