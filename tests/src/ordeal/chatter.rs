//! The session that talks while it is tortured: numbered lines that anybody can say again.
//!
//! It is the session of `shellkeep demo`, which keeps a copy of what it printed and stops when told.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::world::World;

/// A session that prints until it is told to stop.
#[derive(Debug)]
pub struct Chatter {
    directory: PathBuf,
}

impl Chatter {
    /// One that works in a directory of its own, of this name.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn new(world: &World, name: &str) -> Result<Self> {
        let directory = world.outside().join(name);
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// Its command line, behind `start`'s options and `--`.
    ///
    /// # Errors
    /// If paths are no text.
    pub fn command(&self, world: &World) -> Result<[String; 4]> {
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is text");
        Ok([text(world.program())?, "demo".to_owned(), "--chatter".to_owned(), text(&self.directory)?])
    }

    /// Starts it without a terminal; returns the session's id.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(&self, world: &World) -> Result<String> {
        let command = self.command(world)?;
        let args: Vec<&str> =
            ["start", "--detached", "--"].into_iter().chain(command.iter().map(String::as_str)).collect();
        Ok(world.ok(&args)?.trim().to_owned())
    }

    /// Tells it to stop.
    ///
    /// # Errors
    /// If it cannot be told.
    pub fn stop(&self) -> Result<()> {
        Ok(std::fs::write(self.directory.join("stop"), "")?)
    }

    /// Everything that it printed, once it has ended by itself.
    ///
    /// # Errors
    /// If it has kept no copy.
    pub fn printed(&self) -> Result<Vec<u8>> {
        Ok(std::fs::read(self.directory.join("printed"))?)
    }
}

/// What any of them prints first, at least so many bytes of it.
pub fn beginning(bytes_min: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes_min + 64);
    for number in 1u64.. {
        if text.len() >= bytes_min {
            break;
        }
        // Writing into memory does not fail.
        let _ = write!(text, "\x1b[3{}mline {number} of a session that is kept\x1b[0m\r\n", number % 8);
    }
    text
}
