//! What shellkeep promises, one file per promise.

mod house;
mod simulation;
