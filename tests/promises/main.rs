//! What shellkeep promises, one file per promise.

mod contracts;
mod house;
mod kills;
mod simulation;
mod world;
