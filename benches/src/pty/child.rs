//! The programs under the contestants: one prints a file and says what CPU time that took it, one gives back each key.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::termios::{OptionalActions, OutputModes, tcgetattr, tcsetattr};

use crate::{machine, stats};

/// What the echoing program says first.
pub(super) const READY: &[u8] = b"<ready>";
/// The key that ends it.
pub(super) const END_KEY: u8 = 0x04;
/// Bytes of the log printed at a time: what `cat` and compilers write is of this size or less.
const PRINT_BYTES: usize = 64 << 10;

/// What the printing program is told.
#[derive(Debug, clap::Args)]
pub(crate) struct PrintArgs {
    /// What to print.
    log: PathBuf,
    /// Gets its CPU time in nanoseconds.
    report: PathBuf,
    /// Tell the terminal to leave the lines as they are.
    #[arg(long)]
    raw: bool,
}

/// Prints a file, as `cat` would.
pub(crate) fn print(args: &PrintArgs) -> anyhow::Result<()> {
    if args.raw {
        let mut modes = tcgetattr(rustix::stdio::stdout())?;
        modes.output_modes.remove(OutputModes::OPOST);
        tcsetattr(rustix::stdio::stdout(), OptionalActions::Now, &modes)?;
    }
    let (mut log, mut out) = (File::open(&args.log)?, std::io::stdout().lock());
    let mut chunk = vec![0; PRINT_BYTES];
    loop {
        let count = log.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        out.write_all(&chunk[..count])?;
    }
    out.flush()?;
    std::fs::write(&args.report, stats::nanos(machine::cpu_time()).to_string())?;
    Ok(())
}

/// What the printing program's report says.
pub(super) fn reported(report: &Path) -> anyhow::Result<std::time::Duration> {
    Ok(std::time::Duration::from_nanos(std::fs::read_to_string(report)?.parse()?))
}

/// Gives back each key, as an editor in raw mode would; ends with [`END_KEY`] or with its terminal.
pub(crate) fn echo() -> anyhow::Result<()> {
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let mut modes = tcgetattr(stdin)?;
    modes.make_raw();
    tcsetattr(stdin, OptionalActions::Now, &modes)?;
    rustix::io::write(stdout, READY)?;
    let mut key = [0; 1];
    while rustix::io::read(stdin, &mut key)? == 1 && key != [END_KEY] {
        rustix::io::write(stdout, &key)?;
    }
    Ok(())
}
