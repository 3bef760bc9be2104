//! The same bytes as the floor, through tokio: what any async transport pays before it has done anything.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::echo::{ANSWER_BYTES, Echo, READ_BYTES, requests};
use super::{Discipline, Load, Run};
use crate::stats::nanos;

/// Answers one client after the other until the process is ended. `ready` is called once clients can connect.
pub(super) async fn serve(socket: &Path, ready: impl FnOnce()) -> anyhow::Result<()> {
    let listener = UnixListener::bind(socket)?;
    ready();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let (mut stream, _) = listener.accept().await?;
        let (mut echo, mut answers) = (Echo::default(), Vec::new());
        loop {
            let bytes = stream.read(&mut buffer).await?;
            if bytes == 0 {
                break;
            }
            echo.feed(&buffer[..bytes], &mut answers);
            if !answers.is_empty() {
                stream.write_all(&answers).await?;
                answers.clear();
            }
        }
    }
}

/// Puts the load on the server.
pub(super) async fn drive(socket: &Path, load: Load, calls: u64) -> anyhow::Result<Run> {
    let mut stream = UnixStream::connect(socket).await?;
    match load.discipline {
        Discipline::Batch => batches(&mut stream, load, calls).await,
        Discipline::Window => window(&mut stream, load, calls).await,
    }
}

async fn batches(stream: &mut UnixStream, load: Load, calls: u64) -> anyhow::Result<Run> {
    let batch = requests(load.payload_bytes, load.in_flight);
    let mut answers = vec![0; load.in_flight * ANSWER_BYTES];
    let mut run = Run::default();
    let started = Instant::now();
    for _ in 0..calls / load.in_flight as u64 {
        let asked = Instant::now();
        stream.write_all(&batch).await?;
        stream.read_exact(&mut answers).await?;
        if load.in_flight == 1 {
            run.latencies_ns.push(nanos(asked.elapsed()));
        }
    }
    run.elapsed = started.elapsed();
    Ok(run)
}

async fn window(stream: &mut UnixStream, load: Load, calls: u64) -> anyhow::Result<Run> {
    let request = requests(load.payload_bytes, 1);
    let mut buffer = vec![0; READ_BYTES];
    let (mut sent, mut answered_bytes) = (0, 0);
    let started = Instant::now();
    while answered_bytes < calls * ANSWER_BYTES as u64 {
        while sent < calls && sent - answered_bytes / (ANSWER_BYTES as u64) < load.in_flight as u64 {
            stream.write_all(&request).await?;
            sent += 1;
        }
        let bytes = stream.read(&mut buffer).await?;
        ensure!(bytes > 0, "the server has gone");
        answered_bytes += bytes as u64;
    }
    Ok(Run { elapsed: started.elapsed(), latencies_ns: Vec::new() })
}
