//! Torture: real processes in a private home, broken in one way after the other, compared byte by byte.
//!
//! Promise: the first violation ends the run with a sentence that names it; what was killed at random is killed alike
//! with the same seed, as far as the machine's own timing allows; nothing is left behind. One file per way to suffer.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use indicatif::{ProgressBar, ProgressStyle};

use crate::world::World;

pub mod adopt;
pub mod chatter;
pub mod kill;
pub mod log;
pub mod sockrm;
pub mod stop;

/// One run: what it is made with.
#[derive(Debug, Clone)]
pub struct Run {
    /// The program to torture; the one beside the running test if `None`.
    pub program: Option<PathBuf>,
    /// Where chance begins.
    pub seed: u64,
    /// Rounds, as the run understands them.
    pub n: u32,
    /// Leave the home where it is, to be looked at afterwards.
    pub keep: bool,
}

impl Run {
    /// A small one, for the suite.
    pub fn small(n: u32) -> Self {
        Self { program: None, seed: u64::from(n), n, keep: false }
    }

    /// A home of its own.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn world(&self) -> Result<World> {
        let mut world = self.program.as_ref().map_or_else(World::new, |program| World::of(program))?;
        world.keep_files(self.keep);
        Ok(world)
    }

    /// Its chance.
    pub fn rng(&self) -> Rng {
        Rng::with_seed(self.seed)
    }

    /// Shows how far it is; nothing where nobody looks.
    pub fn progress(&self, what: &str) -> ProgressBar {
        let bar = ProgressBar::new(self.n.into());
        let style = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {what}, {{per_sec}}"));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    }
}

/// A span of time from which chance picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Every {
    /// Shortest, in milliseconds.
    pub from_ms: u64,
    /// Longest, in milliseconds.
    pub to_ms: u64,
}

impl std::str::FromStr for Every {
    type Err = anyhow::Error;

    /// `1..8`, in milliseconds.
    fn from_str(text: &str) -> Result<Self> {
        let (from, to) = text.split_once("..").context("a span is written 1..8, in milliseconds")?;
        let (from_ms, to_ms) = (from.parse()?, to.trim_end_matches("ms").parse()?);
        anyhow::ensure!(from_ms <= to_ms, "a span begins before it ends");
        Ok(Self { from_ms, to_ms })
    }
}

impl Every {
    /// Moves the moment of what comes next.
    pub fn wait(self, rng: &mut Rng) {
        // To hit another moment each time: this is the torture, no wait for an event.
        std::thread::sleep(Duration::from_micros(rng.u64(self.from_ms * 1000..=self.to_ms * 1000)));
    }
}

/// What came of a run, for people.
#[derive(Debug, Default)]
pub struct Table(Vec<(&'static str, String)>);

impl Table {
    /// One more line.
    pub fn add(&mut self, what: &'static str, value: impl fmt::Display) {
        self.0.push((what, value.to_string()));
    }

    /// The shortest, the middle and the longest of some times.
    pub fn add_times(&mut self, what: &'static str, times: &mut [Duration]) {
        times.sort_unstable();
        let ms = |at: usize| times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        let (p50, p99, worst) = (ms(times.len() / 2), ms(times.len() * 99 / 100), ms(times.len().saturating_sub(1)));
        self.add(what, format_args!("{p50:.2} ms (median), {p99:.2} ms (p99), {worst:.2} ms (worst)"));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, value)| writeln!(f, "{what:<30}{value}"))
    }
}
