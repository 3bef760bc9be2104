//! The floor: bytes into a file, and a word back, on blocking sockets.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::READY_WAIT_MAX;
use crate::stats::nanos;

/// Bytes of a request beside its payload, and of the answer: about what ours have.
const AROUND_BYTES: usize = 96;
/// See [`AROUND_BYTES`].
const ANSWER_BYTES: usize = 32;
/// Pause between two looks whether the server listens.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The server's side.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; the file is made beside it.
    #[arg(long)]
    socket: PathBuf,
}

/// Answers one client after the other until the process is ended.
pub(crate) fn serve(args: &Args) -> anyhow::Result<()> {
    let file = std::fs::File::create(args.socket.with_extension("log"))?;
    let listener = UnixListener::bind(&args.socket)?;
    let mut at = 0;
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let bytes = stream.read(&mut buffer)?;
            if bytes == 0 {
                break;
            }
            file.write_all_at(&buffer[..bytes], at)?;
            at += bytes as u64;
            stream.write_all(&[0; ANSWER_BYTES])?;
        }
    }
}

/// So many of them, one after the other; what each took.
pub(super) fn drive(socket: &Path, payload_bytes: usize, count: u32) -> anyhow::Result<Vec<u64>> {
    let until = Instant::now() + READY_WAIT_MAX;
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) => {
                ensure!(Instant::now() < until, "the floor's server does not listen: {error}");
                std::thread::sleep(LOOK_EVERY);
            }
        }
    };
    let request = vec![b'q'; AROUND_BYTES + payload_bytes];
    let mut answer = [0; ANSWER_BYTES];
    let mut took = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let asked = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut answer).context("the floor's server has gone")?;
        took.push(nanos(asked.elapsed()));
    }
    Ok(took)
}
