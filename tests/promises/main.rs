//! What shellkeep promises, one file per promise.

mod attach;
mod behind;
mod completion;
mod contracts;
mod daemon_faults;
mod damage;
mod day;
mod fallback;
mod hostile;
mod house;
mod kills;
mod mcp;
mod not_found;
mod palette;
mod places;
mod prompt_shells;
mod races;
mod registry;
mod retention;
mod search;
mod secrets;
mod simulation;
mod syscalls;
mod torture;
mod words;
mod world;
