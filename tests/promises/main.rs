//! What shellkeep promises, one file per promise.

mod contracts;
mod daemon_faults;
mod house;
mod kills;
mod places;
mod simulation;
mod world;
