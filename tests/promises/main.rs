//! What shellkeep promises, one file per promise.

mod attach;
mod contracts;
mod daemon_faults;
mod damage;
mod fallback;
mod house;
mod kills;
mod places;
mod races;
mod simulation;
mod syscalls;
mod torture;
mod world;
