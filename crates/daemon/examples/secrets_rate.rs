//! How fast text without secrets is looked through: `cargo run -rp shellkeep-daemon --example secrets_rate`.
#![allow(clippy::print_stdout)] // that is what it is for

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use shellkeep_daemon::index::secrets::{PatternError, Secrets};

/// Lines that are looked at.
const LINES: u32 = 400_000;

fn main() -> Result<(), PatternError> {
    let mut text = String::new();
    for number in 0..LINES {
        let end = if number % 3 == 0 { "2026-11-21T10:00:00Z INFO key value" } else { "ok" };
        let path = format!("crates/daemon/src/part{number}.rs:{number}");
        let _infallible = writeln!(text, "{path}: warning: unused variable `x{number}` in fn {end}");
    }
    let secrets = Secrets::new(&[])?;
    let report = |what: &str, took: Duration| {
        println!("{what}: {} MB/s", text.len() as u128 / took.as_micros().max(1));
    };
    let start = Instant::now();
    for block in text.as_bytes().chunks(256 << 10) {
        black_box(secrets.may_be_in(block));
    }
    report("blocks", start.elapsed());
    let mut lines = secrets.lines();
    let start = Instant::now();
    for line in text.lines() {
        black_box(lines.line(line));
    }
    report("line by line", start.elapsed());
    let coloured = text.replace("warning", "\x1b[33mwarning\x1b[0m");
    for (what, raw) in [("stream", &text), ("stream, coloured", &coloured)] {
        let mut stream = secrets.stream(80);
        let start = Instant::now();
        raw.as_bytes().chunks(16 << 10).for_each(|piece| stream.feed((), piece, |(), bytes| drop(black_box(bytes))));
        stream.finish(|(), bytes| drop(black_box(bytes)));
        report(what, start.elapsed());
    }
    Ok(())
}
