//! How often and how lately commands were run, for searching.
//!
//! Promise: bounded, and what was used least goes first. Saving it is its caller's.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Commands that are remembered.
pub const USED_MAX: usize = 2_000;

/// Time in which the worth of a use halves.
const HALF_LIFE_US: f64 = 7.0 * 24.0 * 3600.0 * 1e6;

/// The highest bonus, in points of the matcher: less than what a better place of the letters brings.
const BONUS_MAX: f64 = 24.0;

/// Uses of one command.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Used {
    /// Worth of all uses at `at_us`.
    worth: f64,
    /// Microseconds since the Unix epoch of the last use.
    at_us: u64,
}

/// Uses of all commands, by id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    used: HashMap<String, Used>,
}

impl Usage {
    /// A command was run.
    pub fn note(&mut self, id: &str, now_us: u64) {
        let worth = self.worth(id, now_us) + 1.0;
        self.used.insert(id.to_owned(), Used { worth, at_us: now_us });
        if self.used.len() > USED_MAX {
            let worth = |used: &Used| decayed(*used, now_us);
            let least = self.used.iter().min_by(|(one_id, one), (other_id, other)| {
                worth(one).total_cmp(&worth(other)).then(one_id.cmp(other_id))
            });
            if let Some(id) = least.map(|(id, _)| id.clone()) {
                self.used.remove(&id);
            }
        }
    }

    fn worth(&self, id: &str, now_us: u64) -> f64 {
        self.used.get(id).map_or(0.0, |used| decayed(*used, now_us))
    }

    /// What being used is worth when names match alike, of each id that was used.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and BONUS_MAX
    pub fn bonuses(&self, now_us: u64) -> impl Iterator<Item = (&str, u32)> {
        let bonus = move |used: &Used| (4.0 * decayed(*used, now_us).ln_1p() * 2.0).min(BONUS_MAX) as u32;
        self.used.iter().map(move |(id, used)| (id.as_str(), bonus(used)))
    }
}

#[allow(clippy::cast_precision_loss)] // days are counted
fn decayed(used: Used, now_us: u64) -> f64 {
    let age = now_us.saturating_sub(used.at_us) as f64;
    used.worth * (-age / HALF_LIFE_US).exp2()
}
