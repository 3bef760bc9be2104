//! Keeper and daemon cores keep every record through every order of faults, and the simulation can tell.

use torture::sim::{self, BUGS, Bug};

/// Histories per run of the suite.
const SEEDS: u64 = 1_000;

/// Histories within which a planted bug must show.
const SEEDS_TO_FIND_A_BUG: u64 = 300;

#[test]
fn a_thousand_histories_of_faults_lose_double_and_reorder_nothing() {
    let violations: Vec<String> = (0..SEEDS).filter_map(|seed| sim::run(seed, Bug::None, false).err()).collect();
    assert!(
        violations.is_empty(),
        "{} histories broke a promise; replay one with `cargo run -rp torture -- sim --seed N`:\n{}",
        violations.len(),
        violations.join("\n")
    );
}

#[test]
fn every_planted_bug_is_found() {
    for bug in BUGS {
        let found = (0..SEEDS_TO_FIND_A_BUG).any(|seed| sim::run(seed, bug, false).is_err());
        assert!(found, "{} went unnoticed in {SEEDS_TO_FIND_A_BUG} histories", bug.name());
    }
}
