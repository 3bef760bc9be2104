//! The server's process: started for one contestant, kept on its core, asked for its CPU time, gone with its starter.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;

use super::{Contestant, on_this_thread, ours, peer_tarpc, peer_tonic, peer_ttrpc, raw, raw_tokio};
use crate::machine;
use crate::scratch::Scratch;

/// What the child says once clients can connect.
const READY: &str = "ready";

/// What the child is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long, value_enum)]
    contestant: Contestant,
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    core: Option<usize>,
}

/// A server in a process of its own. Ended on drop; it also ends by itself when this process is gone.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    /// A line asks for the CPU time; the end of it ends the child.
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    socket: PathBuf,
    /// Holds the socket; removed with this.
    _directory: Scratch,
}

impl Server {
    /// Starts one and waits until it listens.
    pub(super) fn start(contestant: Contestant, core: Option<usize>) -> anyhow::Result<Self> {
        let directory = Scratch::new()?;
        let socket = directory.path().join("sock");
        let name = contestant.to_possible_value().context("a contestant without a name")?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve-transport")
            .args(["--contestant", name.get_name(), "--socket"])
            .arg(&socket)
            .args(core.map(|core| format!("--core={core}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stdin = stdin.context("the server has no stdin")?;
        let stdout = BufReader::new(stdout.context("the server has no stdout")?);
        let mut server = Self { child, stdin, stdout, socket, _directory: directory };
        let line = server.line()?;
        ensure!(line == READY, "the server said \"{line}\" instead of \"{READY}\"");
        Ok(server)
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// CPU time that it has taken since its start.
    pub(super) fn cpu_time(&mut self) -> anyhow::Result<Duration> {
        writeln!(self.stdin)?;
        let line = self.line()?;
        let nanos = line.parse().with_context(|| format!("the server said \"{line}\" instead of its CPU time"))?;
        Ok(Duration::from_nanos(nanos))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the server has gone");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's whole life.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    args.core.map_or(Ok(()), machine::pin)?;
    let socket = &args.socket;
    match args.contestant {
        Contestant::RawBlocking => raw::serve(socket, obey),
        Contestant::RawTokio => on_this_thread(raw_tokio::serve(socket, obey)),
        Contestant::Ours => on_this_thread(ours::serve(socket, obey)),
        Contestant::Tarpc => on_this_thread(peer_tarpc::serve(socket, obey)),
        Contestant::Tonic => on_this_thread(peer_tonic::serve(socket, obey)),
        Contestant::Ttrpc => on_this_thread(peer_ttrpc::serve(socket, obey)),
    }
}

/// Says that clients may come; then answers each line on stdin with the CPU time, and ends the process with stdin.
#[allow(clippy::print_stdout)] // the pipe to the starter
fn obey() {
    println!("{READY}");
    std::thread::spawn(|| {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            println!("{}", machine::cpu_time().as_nanos());
        }
        std::process::exit(0);
    });
}
