//! End-to-end machinery: the simulation and the torture runs.

pub mod sim;
