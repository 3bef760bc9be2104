//! Deterministic simulation of keepers and daemon under every fault that DESIGN promises to survive.
//!
//! One seed is one history. A failing seed is replayed by `cargo run -rp torture -- sim --seed N`.

pub mod bugs;
mod check;
mod daemon;
mod disk;
mod keeper;
mod world;

pub use bugs::{BUGS, Bug};
pub use world::Tally;

use world::World;

/// Random events per seed.
pub const STEPS: u32 = 3_000;

/// Runs one history; `trace` prints each event on stderr.
///
/// # Errors
/// What was broken first, with the seed in it.
pub fn run(seed: u64, bug: Bug, trace: bool) -> Result<Tally, String> {
    let mut world = World::new(seed, bug, trace);
    for step in 0..STEPS {
        world.step();
        if let Some(violation) = world.violations.first() {
            return Err(format!("seed {seed}, step {step}: {violation}"));
        }
    }
    world.settle();
    match world.violations.first() {
        Some(violation) => Err(format!("seed {seed}, at the end: {violation}")),
        None => Ok(world.tally),
    }
}
