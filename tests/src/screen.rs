//! A terminal of a test: a PTY whose far side a program has, and every byte that was shown on it.
//!
//! Promise: what was shown stays known whoever is killed. The program's stderr goes to a file of the world, so that only the
//! session's own output is on the screen.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize};

use crate::world::{World, eventually};

/// A program on a PTY of its own.
#[derive(Debug)]
pub struct Screen {
    master: File,
    /// Held so that the PTY lives on, and its modes with it, when the program has gone.
    far_side: Option<OwnedFd>,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Nobody reads what is shown while this is held.
    reading: Arc<Mutex<()>>,
    reader: Option<JoinHandle<()>>,
}

impl Screen {
    /// Starts shellkeep with these arguments in a new terminal.
    ///
    /// # Errors
    /// If the system gives no PTY, or the program does not start.
    pub fn start(world: &World, args: &[&str]) -> Result<Self> {
        Self::of(world, world.program(), args)
    }

    /// Starts any program in a new terminal.
    ///
    /// # Errors
    /// If the system gives no PTY, or the program does not start.
    pub fn of(world: &World, program: &Path, args: &[&str]) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let far_side = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        rustix::termios::tcsetwinsize(&master, Winsize { ws_col: 80, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 })?;
        let sealed = world.command(args);
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program).args(args).current_dir(world.outside());
        command.env_clear().envs(sealed.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
            .stdin(far_side.try_clone()?)
            .stdout(far_side.try_clone()?)
            .stderr(File::create(world.stderr_of_screens())?);
        let child = command.spawn().context("setsid starts")?;
        let master = File::from(master);
        let (shown, reading) = (Arc::default(), Arc::default());
        let reader = std::thread::spawn({
            let (mut master, shown, reading) = (master.try_clone()?, Arc::clone(&shown), Arc::clone(&reading));
            move || capture(&mut master, &shown, &reading)
        });
        Ok(Self { master, far_side: Some(far_side), child, shown, reading, reader: Some(reader) })
    }

    /// Process id of the terminal.
    ///
    /// # Errors
    /// Never on a system whose process ids fit.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id())?)
    }

    /// Everything shown so far.
    pub fn shown(&self) -> Vec<u8> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does something while nobody reads what is shown, as if the terminal hung: soon it takes nothing any more.
    ///
    /// # Errors
    /// What `act` says.
    pub fn stuck(&self, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let _nobody_reads = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        act()
    }

    /// Waits until `text` is on the screen.
    ///
    /// # Errors
    /// If it never is.
    pub fn shows(&self, text: &str) -> Result<()> {
        let text = text.as_bytes();
        eventually("the text is shown", || Ok(self.shown().windows(text.len()).any(|part| part == text).then_some(())))
    }

    /// Types.
    ///
    /// # Errors
    /// If the terminal takes nothing.
    pub fn keys(&mut self, keys: &[u8]) -> Result<()> {
        Ok(self.master.write_all(keys)?)
    }

    /// The window gets another size.
    ///
    /// # Errors
    /// If the terminal cannot have it.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(&self.master, size)?)
    }

    /// Whether the terminal edits and echoes lines, as it does for a shell.
    ///
    /// # Errors
    /// If its modes cannot be read.
    pub fn is_cooked(&self) -> Result<bool> {
        let modes = rustix::termios::tcgetattr(&self.master)?.local_modes;
        Ok(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG))
    }

    /// Waits until the terminal has ended.
    ///
    /// # Errors
    /// If it does not.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        eventually("the terminal ends", || Ok(self.child.try_wait()?))
    }

    /// Waits until nobody has the PTY any more; returns everything that was shown.
    ///
    /// # Errors
    /// If somebody keeps it.
    pub fn closed(mut self) -> Result<Vec<u8>> {
        self.ended()?;
        self.far_side = None;
        if let Some(reader) = self.reader.take() {
            eventually("nobody has the terminal any more", || Ok(reader.is_finished().then_some(())))?;
        }
        Ok(self.shown())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.far_side = None;
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Reads until the far side is closed by all who had it.
fn capture(master: &mut File, shown: &Mutex<Vec<u8>>, reading: &Mutex<()>) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = master.read(&mut bytes) {
        drop(reading.lock().unwrap_or_else(PoisonError::into_inner));
        shown.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..count]);
    }
}
