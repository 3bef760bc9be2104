//! How much a journal costs over the bare writes: 64 MiB in chunks of 4095 bytes, the most that a PTY gives at once,
//! appended one by one, against `pwrite` of the same chunks to a file; then sealing and reading back.
//!
//! `cargo run --release -p shellkeep-journal --example append_rate [DIRECTORY]`
#![allow(clippy::print_stdout, clippy::cast_precision_loss)] // a measurement for people

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use shellkeep_journal::storage::RealStorage;
use shellkeep_journal::{
    Durability, Identity, Item, Journal, JournalError, Options, Reader, RecordKind, Start, scan_read_only,
};

const TOTAL_BYTES: usize = 64 << 20;
const CHUNK_BYTES: usize = 4095;
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let home = tempfile::tempdir_in(parent)?;
    let text = coloured_log();
    let (mut raw, mut journal, mut recover, mut read) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut ratio = 0.0;
    for round in 0..ROUNDS {
        raw.push(seconds(|| bare_writes(home.path(), &text))?);
        let name = format!("round-{round}");
        let options = Options { durability: Durability::Unsynced, ..Options::default() };
        let mut made = Journal::create(Arc::new(RealStorage), home.path(), &name, identity(), options)?;
        journal.push(seconds(|| appends(&mut made, &text))?);
        recover.push(seconds(|| scan_read_only(&RealStorage, &home.path().join(&name)).map(drop))?);
        read.push(seconds(|| read_all(&home.path().join(&name)))?);
        if round == 0 {
            ratio = sealed_ratio(&mut made, &text)?;
        }
        made.remove()?;
    }
    let per_append = |time: f64| time * 1e9 / (TOTAL_BYTES as f64 / CHUNK_BYTES as f64);
    let (raw, journal, recover, read) = (median(raw), median(journal), median(recover), median(read));
    println!("pwrite   {:7.1} ms  {:6.0} ns per chunk", raw * 1e3, per_append(raw));
    println!(
        "append   {:7.1} ms  {:6.0} ns per chunk  {:.2} times pwrite",
        journal * 1e3,
        per_append(journal),
        journal / raw
    );
    println!("recover  {:7.1} ms", recover * 1e3);
    println!("read     {:7.1} ms", read * 1e3);
    println!("sealed   {ratio:.3} times the output's own zstd-3");
    Ok(())
}

fn identity() -> Identity {
    Identity { session: [1; 16], store: [2; 16], writer: [3; 16], epoch: 1, attrs: Vec::new() }
}

/// Lines as a build prints them: repetitive, coloured, with numbers that change.
fn coloured_log() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut text = Vec::with_capacity(TOTAL_BYTES + 200);
    while text.len() < TOTAL_BYTES {
        let (crate_number, time, hash) = (random.u16(0..500), random.f32() * 9.0, random.u64(..));
        text.extend_from_slice(
            format!(
                "\x1b[32m   Compiling\x1b[0m package-{crate_number} v0.{}.{} ({hash:016x}) in {time:.2}s\r\n",
                crate_number % 30,
                crate_number % 7
            )
            .as_bytes(),
        );
    }
    text.truncate(TOTAL_BYTES);
    text
}

fn seconds<E>(work: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn bare_writes(home: &Path, text: &[u8]) -> std::io::Result<()> {
    let path = home.join("raw");
    let file = std::fs::File::create(&path)?;
    let mut at = 0;
    for chunk in text.chunks(CHUNK_BYTES) {
        file.write_all_at(chunk, at)?;
        at += chunk.len() as u64;
    }
    std::fs::remove_file(path)
}

fn appends(journal: &mut Journal, text: &[u8]) -> Result<(), JournalError> {
    for (n, chunk) in text.chunks(CHUNK_BYTES).enumerate() {
        journal.append(RecordKind::Output, 1_700_000_000_000_000 + n as u64 * 130, chunk)?;
    }
    Ok(())
}

fn read_all(dir: &Path) -> Result<(), JournalError> {
    let mut reader = Reader::open(Arc::new(RealStorage), dir, Start::Oldest)?;
    while let Some(Item::Record(_)) = reader.next()? {}
    Ok(())
}

fn sealed_ratio(journal: &mut Journal, text: &[u8]) -> Result<f64, Box<dyn std::error::Error>> {
    journal.rotate()?;
    while journal.seal_oldest_full(journal.next_seq())?.is_some() {}
    Ok(journal.bytes_on_disk() as f64 / zstd::bulk::compress(text, 3)?.len() as f64)
}
