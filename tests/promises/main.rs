//! What shellkeep promises, one file per promise.

mod simulation;
