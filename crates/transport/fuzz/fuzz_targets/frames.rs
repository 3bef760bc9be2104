#![no_main]

#[allow(dead_code)] // each target has its own part
#[path = "../judge.rs"]
mod judge;

libfuzzer_sys::fuzz_target!(|data: &[u8]| judge::frames(data));
