//! End-to-end machinery: the simulation, sealed worlds of real processes, and the torture runs over them.

pub mod ordeal;
pub mod record;
pub mod screen;
pub mod sim;
pub mod world;
