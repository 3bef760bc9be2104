//! `shellkeep`: the command line, the terminal and the keeper.

mod browse;
pub mod cli;
pub mod cmd;
pub mod config;
pub mod daemon_link;
pub mod diagnostics;
pub mod export;
pub mod input;
pub mod keeper;
pub mod keepers;
mod keys;
pub mod launch;
pub mod link;
pub mod names;
mod palette;
pub mod places;
pub mod recording;
pub mod replay;
pub mod report;
pub mod shell_integration;
pub mod stdout;
pub mod systemd;
pub mod terminal;
mod tools;
