//! Every input that fuzzing has found worth keeping, replayed: see `fuzz/README.md`.
#![allow(unreachable_pub)] // what is judged is shared with the fuzzer
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::print_stdout)] // and says where

#[path = "../fuzz/judge.rs"]
mod judge;

use std::path::Path;

/// Judges each file of one target's corpus, and says how many there were.
fn replay(target: &str, judge: fn(&[u8])) -> usize {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in &files {
        println!("{}", file.display()); // shown only if it fails
        judge(&std::fs::read(file).unwrap());
    }
    files.len()
}

#[test]
fn the_corpus_of_frames_holds() {
    assert!(replay("frames", judge::frames) > 10);
}

#[test]
fn the_corpus_of_first_frames_holds() {
    assert!(replay("hello", judge::hello) > 5);
}

#[test]
fn the_corpus_of_messages_holds() {
    assert!(replay("codec", judge::codec) > 5);
}
