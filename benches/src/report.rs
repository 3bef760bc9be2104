//! Results as people read them, on stdout, and as programs do, in a file. Knows no measurement.
#![allow(clippy::print_stdout)] // a program for people at a terminal

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// Prints rows under headings; the first `left` columns are words, the others numbers and set to the right.
pub(crate) fn table(title: &str, headings: &[&str], left: usize, rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
        cells.chain(headings.get(column).copied()).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column < left { format!(" {cell:<width$} ") } else { format!(" {cell:>width$} ") }
        });
        println!("|{}|", cells.collect::<Vec<_>>().join("|"));
    };
    println!("\n{title}\n");
    line(headings);
    let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    line(&rules.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// Writes results to a file.
pub(crate) fn json(path: &Path, results: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(results).context("cannot put the results into JSON")?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// A line for whoever waits, on stderr.
#[allow(clippy::print_stderr)]
pub(crate) fn note(line: &str) {
    eprintln!("{line}");
}
