//! The sealed world of each test, and what tests wait with.

pub(crate) use torture::world::*;
