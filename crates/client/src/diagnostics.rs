//! Diagnostics: what the program says of itself, in a file of bounded size per process kind. Never what a user typed or saw.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::places::{Places, prepare};
use crate::report::Failure;

/// Size at which a file is put aside as `NAME.old`, which replaces the one before: twice this is the most on disk.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Sends `tracing` events to `state/diagnostics/NAME.txt` from now on. `SHELLKEEP_DIAGNOSTICS` sets the level.
///
/// # Errors
/// If the directory cannot be used.
pub fn start(places: &Places, name: &str) -> Result<(), Failure> {
    let directory = places.diagnostics();
    prepare(&directory)?;
    let path = directory.join(format!("{name}.txt"));
    let file = BoundedFile::open(path.clone())
        .map_err(|error| Failure::refused(format_args!("cannot write {}: {error}", path.display())))?;
    let level = tracing_subscriber::EnvFilter::try_from_env("SHELLKEEP_DIAGNOSTICS");
    let level = level.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // It says what servers of tools send, word for word; that belongs into no diagnostics, whatever the level.
    let level = match "rmcp=off".parse() {
        Ok(silence) => level.add_directive(silence),
        Err(_) => level,
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(level).with_ansi(false).with_writer(file);
    let _ = subscriber.try_init(); // one per process; a second start would be a bug, but a harmless one
    Ok(())
}

/// A file that is put aside when it is full.
#[derive(Clone)]
struct BoundedFile(Arc<Mutex<Open>>);

struct Open {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl BoundedFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Open { path, file, bytes }))))
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = flags.bits().cast_signed();
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

impl Write for &BoundedFile {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut open_file = self.0.lock();
        if open_file.bytes + event.len() as u64 > FILE_BYTES_MAX {
            std::fs::rename(&open_file.path, open_file.path.with_extension("old.txt"))?;
            open_file.file = open(&open_file.path)?;
            open_file.bytes = 0;
        }
        let written = open_file.file.write(event)?;
        open_file.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for BoundedFile {
    type Writer = BoundedHandle;

    fn make_writer(&'a self) -> BoundedHandle {
        BoundedHandle(self.clone())
    }
}

/// One event's way into the file.
struct BoundedHandle(BoundedFile);

impl Write for BoundedHandle {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        (&self.0).write(event)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
