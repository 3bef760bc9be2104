//! The promises of a journal, one file per kind of weather. The real journal runs on `FaultyStorage` or on the real disk.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers outside of `#[test]` functions
#![allow(clippy::cast_possible_truncation)] // sizes of tests

mod damage;
mod doubt;
mod faults;
mod journal;
mod kit;
mod reader;
mod real;
mod record;
mod sealed;
