//! `shellkeep`: the command line, the terminal and the keeper.

pub mod keeper;
