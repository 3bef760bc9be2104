//! The floor: blocking sockets, nothing but `read` and `write`.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use anyhow::ensure;

use super::echo::{ANSWER_BYTES, Echo, READ_BYTES, requests};
use super::{Discipline, Load, Run};
use crate::stats::nanos;

/// Answers one client after the other until the process is ended. `ready` is called once clients can connect.
pub(super) fn serve(socket: &Path, ready: impl FnOnce()) -> anyhow::Result<()> {
    let listener = UnixListener::bind(socket)?;
    ready();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let (mut stream, _) = listener.accept()?;
        let (mut echo, mut answers) = (Echo::default(), Vec::new());
        loop {
            let bytes = stream.read(&mut buffer)?;
            if bytes == 0 {
                break;
            }
            echo.feed(&buffer[..bytes], &mut answers);
            if !answers.is_empty() {
                stream.write_all(&answers)?;
                answers.clear();
            }
        }
    }
}

/// Puts the load on the server.
pub(super) fn drive(socket: &Path, load: Load, calls: u64) -> anyhow::Result<Run> {
    let mut stream = UnixStream::connect(socket)?;
    match load.discipline {
        Discipline::Batch => batches(&mut stream, load, calls),
        Discipline::Window => window(&mut stream, load, calls),
    }
}

fn batches(stream: &mut UnixStream, load: Load, calls: u64) -> anyhow::Result<Run> {
    let batch = requests(load.payload_bytes, load.in_flight);
    let mut answers = vec![0; load.in_flight * ANSWER_BYTES];
    let mut run = Run::default();
    let started = Instant::now();
    for _ in 0..calls / load.in_flight as u64 {
        let asked = Instant::now();
        stream.write_all(&batch)?;
        stream.read_exact(&mut answers)?;
        if load.in_flight == 1 {
            run.latencies_ns.push(nanos(asked.elapsed()));
        }
    }
    run.elapsed = started.elapsed();
    Ok(run)
}

fn window(stream: &mut UnixStream, load: Load, calls: u64) -> anyhow::Result<Run> {
    let request = requests(load.payload_bytes, 1);
    let mut buffer = vec![0; READ_BYTES];
    let (mut sent, mut answered_bytes) = (0, 0);
    let started = Instant::now();
    while answered_bytes < calls * ANSWER_BYTES as u64 {
        while sent < calls && sent - answered_bytes / (ANSWER_BYTES as u64) < load.in_flight as u64 {
            stream.write_all(&request)?;
            sent += 1;
        }
        let bytes = stream.read(&mut buffer)?;
        ensure!(bytes > 0, "the server has gone");
        answered_bytes += bytes as u64;
    }
    Ok(Run { elapsed: started.elapsed(), latencies_ns: Vec::new() })
}
