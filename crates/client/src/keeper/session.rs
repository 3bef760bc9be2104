//! One kept session: the PTY's master, the record, and the terminals that look at it.
//!
//! Promises that terminals come and go without the command noticing, that its end is told to each of them once, and
//! that whoever waits for the end is woken. Knows no sockets and no messages but the end.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use shellkeep_journal::hook::{self, Point};
use shellkeep_protocol::attach::{ATTACH_VERSION_SCREEN, CommandSignal, FromKeeper, Info, Recording, ResumeAt, Size};
use shellkeep_protocol::ids::{MarksNonce, SessionId};
use shellkeep_protocol::resume::Retained as _;
use shellkeep_protocol::session::ExitStatus;

use super::environment::Files;
use super::output::{History, Output, Terms};
use super::pty::{self, Child};
use super::recorder::Recorder;
use super::sink::Sink;
use super::spool::Spool;
use super::terminal::Terminal;
use crate::input::Input;
use crate::link::Sender;

/// Most bytes in one record of output. Several reads go into one when more is waiting: a record costs a write.
const CHUNK_BYTES_MAX: usize = 32 << 10;
/// Bytes read from the PTY at once. A master gives at most 4095.
const READ_BYTES: usize = 4096;
/// A read of so many bytes is bulk: it is worth a look whether more is waiting. Less is shown at once.
const BULK_BYTES_MIN: usize = 2 << 10;
/// How long a command that was hung up may take to end before it is killed.
pub const KILL_AFTER: Duration = Duration::from_secs(2);
/// How long output may still come after the command has ended: only if a process that survived it keeps the PTY open.
const LAST_OUTPUT_WAIT_MAX: Duration = Duration::from_millis(500);
/// Time between the two sizes of a redraw, so that a program sees both.
const REDRAW_PAUSE: Duration = Duration::from_millis(20);

/// The part that hands records to the daemon, as the rest of the keeper sees it.
pub trait Shipper: Send + Sync {
    /// A daemon has come up: dial it now.
    fn poke(&self);
    /// Whether a daemon takes records now.
    fn is_connected(&self) -> bool;
    /// The record is complete. Waits until it is durable elsewhere, at the most `wait`; true if it is.
    fn finish(&self, exit: ExitStatus, wait: Duration) -> bool;
}

/// What a session is, fixed at its start.
#[derive(Debug)]
pub struct Identity {
    /// Its identity.
    pub session: SessionId,
    /// The user's name for it.
    pub name: Option<String>,
    /// Program and arguments, lossy.
    pub command: Vec<String>,
    /// Where it was started.
    pub directory: String,
    /// Microseconds since the Unix epoch.
    pub started_at_us: u64,
    /// Device number of the PTY.
    pub tty: u64,
    /// What the marks of its shell carry, if it was made to print any.
    pub marks: Option<MarksNonce>,
    /// What goes with the session.
    pub files: Files,
}

/// One kept session.
pub struct Session {
    /// What it is.
    pub identity: Identity,
    /// The PTY.
    pub master: Arc<File>,
    /// The command.
    pub child: Child,
    /// The way in.
    pub input: Input,
    /// The record's writer.
    pub recorder: Arc<Recorder>,
    /// The record.
    pub spool: Arc<Spool>,
    /// Ships the record, once it was set.
    pub shipper: OnceLock<Box<dyn Shipper>>,
    terminals: Mutex<Arc<[Arc<Terminal>]>>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// The PTY gives no more.
    drained: bool,
    /// The record is complete.
    exit: Option<ExitStatus>,
    /// Connections that still have to tell somebody about the end.
    witnesses: usize,
}

impl Session {
    /// A session around a running command.
    pub fn new(
        identity: Identity,
        master: File,
        child: Child,
        recorder: Arc<Recorder>,
        spool: Arc<Spool>,
    ) -> Arc<Self> {
        let master = Arc::new(master);
        Arc::new(Self {
            identity,
            input: Input::new(Arc::clone(&master)),
            master,
            child,
            recorder,
            spool,
            shipper: OnceLock::new(),
            terminals: Mutex::new(Arc::new([])),
            progress: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Reads the PTY until it ends: records each chunk, then shows it. Blocks; run it in its own thread.
    pub fn read_pty(&self) {
        let mut chunk = vec![0; CHUNK_BYTES_MAX];
        loop {
            let (count, ended) = self.read_chunk(&mut chunk);
            if count > 0 {
                let offset = self.recorder.output(&chunk[..count]);
                hook::pause(Point::KeeperSpooled);
                if count >= BULK_BYTES_MIN {
                    self.spool.wake(); // showing may have to wait for the terminal; shipping does not
                }
                let terminals = Arc::clone(&self.terminals.lock());
                // What is not recorded cannot be shown later: then nobody is left behind without having been waited for.
                let is_paused = self.recorder.recording() == Recording::Paused;
                for (at, terminal) in terminals.iter().enumerate() {
                    terminal.output.show(offset, &chunk[..count], at == 0 || is_paused);
                }
                self.spool.wake();
            }
            if ended {
                break;
            }
        }
        self.progress.lock().drained = true;
        self.changed.notify_all();
    }

    /// Waits for output, then takes what is there. True if there will be no more.
    fn read_chunk(&self, chunk: &mut [u8]) -> (usize, bool) {
        let mut filled = 0;
        loop {
            match (&*self.master).read(&mut chunk[filled..filled + READ_BYTES]) {
                Ok(count) if count > 0 => {
                    filled += count;
                    let more = count >= BULK_BYTES_MIN && filled + READ_BYTES <= chunk.len() && self.has_output();
                    if !more {
                        return (filled, false);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // EIO: the command's side is closed and everything it wrote was read.
                _ => return (filled, true),
            }
        }
    }

    /// Whether a read would return at once.
    fn has_output(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.master.as_fd(), PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Waits for the command's end, completes the record, and wakes everybody who waits for it. Run it in one thread.
    pub fn wait_for_end(&self) -> ExitStatus {
        let exit = self.child.wait();
        for terminal in self.terminals.lock().iter() {
            terminal.output.end();
        }
        let deadline = Instant::now() + LAST_OUTPUT_WAIT_MAX;
        let mut progress = self.progress.lock();
        while !progress.drained && !self.changed.wait_until(&mut progress, deadline).timed_out() {}
        drop(progress);
        self.recorder.exit(exit);
        self.progress.lock().exit = Some(exit);
        self.changed.notify_all();
        exit
    }

    /// Shows the session to one more terminal, from now on; paused at first.
    /// `version` is that of its conversation.
    pub fn add(
        self: &Arc<Self>,
        sink: Sink,
        sender: &Sender,
        patience: Option<Duration>,
        version: u16,
    ) -> Arc<Terminal> {
        let this = Arc::downgrade(self);
        let is_relay = sink.is_relay();
        let told = sender.clone();
        // It has gone or does not listen: its connection ends by itself.
        let tell: Arc<dyn Fn() + Send + Sync> = Arc::new(move || drop(told.to_terminal(&FromKeeper::Behind, &[])));
        let terms = Terms {
            patience,
            history: Arc::clone(&self.recorder) as Arc<dyn History>,
            redraw: Arc::new(move || this.upgrade().iter().for_each(|session| session.redraw())),
            behind: (version >= ATTACH_VERSION_SCREEN && !is_relay).then_some(tell),
        };
        let mut terminals = self.terminals.lock();
        // What was recorded by now and is still to be shown to the others is not shown to this one.
        let output = Output::new(sink, self.recorder.shown_end(), terms);
        let terminal = Arc::new(Terminal::new(output, sender.clone(), is_relay, patience));
        *terminals = terminals.iter().cloned().chain([Arc::clone(&terminal)]).collect();
        terminal
    }

    /// Forgets a terminal.
    pub fn remove(&self, terminal: &Arc<Terminal>) {
        let mut terminals = self.terminals.lock();
        *terminals = terminals.iter().filter(|other| !Arc::ptr_eq(other, terminal)).cloned().collect();
    }

    /// Lets all terminals go; returns how many there were.
    pub fn detach_all(&self) -> u32 {
        let terminals = std::mem::replace(&mut *self.terminals.lock(), Arc::new([]));
        let released = terminals.iter().filter(|terminal| terminal.release()).count();
        u32::try_from(released).unwrap_or(u32::MAX)
    }

    /// Tells all terminals something that the user should know.
    pub fn notify(&self, notice: &str) {
        let terminals = Arc::clone(&self.terminals.lock());
        for terminal in terminals.iter() {
            terminal.say(&FromKeeper::Notice(notice.to_owned()));
        }
    }

    /// Tells all terminals how the command ended, those that cannot hold us up first.
    pub fn tell_terminals(&self, exit: ExitStatus) {
        let terminals = Arc::clone(&self.terminals.lock());
        for relays in [false, true] {
            for terminal in terminals.iter().filter(|terminal| terminal.is_relay() == relays) {
                terminal.end(exit);
            }
        }
    }

    /// Points the session's stable link at the agent of the terminal attached last.
    pub fn point_agent_link(&self, agent: &[u8]) {
        let Some(link) = self.identity.files.agent_link.as_ref().filter(|_| !agent.is_empty()) else { return };
        super::agent::point(link, agent);
    }

    /// The window changed.
    pub fn resize(&self, size: Size) {
        if pty::size(&self.master) != size {
            self.recorder.resize(size);
            pty::resize(&self.master, size);
        }
    }

    /// Goes on showing the session to a terminal, on the screen that it brings along if there is one.
    pub fn resume_at(&self, terminal: &Terminal, resume: &ResumeAt<'_>) {
        let unchanged = pty::size(&self.master) == resume.size;
        self.resize(resume.size);
        let screen = resume.screen.as_ref().filter(|_| !terminal.is_relay());
        let place = screen.and_then(|screen| Some((screen, self.recorder.shown_at(screen.offset)?)));
        let place = place.filter(|(_, (offset, _))| *offset <= self.recorder.shown_end());
        let (came_in, is_exact) = match place {
            Some((screen, (offset, is_whole))) => {
                (terminal.output.resume_at(offset, screen.bytes), screen.is_exact && is_whole)
            }
            None => (false, false),
        };
        if !came_in {
            terminal.output.resume();
        }
        // Another size makes them draw by itself.
        if unchanged && !is_exact {
            self.redraw();
        }
    }

    /// Makes the programs draw their screen again: the only way to ask every one of them is a change of size.
    pub fn redraw(&self) {
        let size = pty::size(&self.master);
        pty::resize(&self.master, Size { rows: size.rows.wrapping_add(1), ..size });
        std::thread::sleep(REDRAW_PAUSE);
        pty::resize(&self.master, size);
    }

    /// Typed bytes that came through the keeper.
    pub fn type_in(&self, bytes: &[u8]) {
        self.recorder.input(&self.master, bytes);
        self.input.send(bytes);
    }

    /// Passes a terminal's signal on.
    pub fn signal(&self, signal: CommandSignal) {
        match signal {
            CommandSignal::Interrupt => self.child.signal_foreground(&self.master, Signal::INT),
            CommandSignal::Terminate => self.child.signal(Signal::TERM),
            CommandSignal::HangUp => self.hang_up(),
        }
    }

    fn hang_up(&self) {
        self.child.signal_foreground(&self.master, Signal::HUP);
        self.child.signal(Signal::HUP);
        self.child.signal(Signal::CONT); // a stopped one would not notice
    }

    /// Ends the command: HUP, then KILL. Returns when it has ended and the record is complete.
    pub fn kill(&self) -> ExitStatus {
        self.hang_up();
        let deadline = Instant::now() + KILL_AFTER;
        let mut progress = self.progress.lock();
        loop {
            if let Some(exit) = progress.exit {
                return exit;
            }
            if Instant::now() < deadline {
                self.changed.wait_until(&mut progress, deadline);
                continue;
            }
            self.child.signal_foreground(&self.master, Signal::KILL);
            self.child.signal(Signal::KILL);
            self.changed.wait(&mut progress); // ends: a killed process does, and the record follows
        }
    }

    /// Holds the keeper's end up until it is dropped, but no longer than the keeper waits for witnesses.
    pub fn witness(self: &Arc<Self>) -> Witness {
        self.progress.lock().witnesses += 1;
        Witness(Arc::downgrade(self))
    }

    /// Waits until no witness is left, at the most `wait`; for ever if `None`.
    pub fn wait_for_witnesses(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        let mut progress = self.progress.lock();
        while progress.witnesses > 0 && !self.changed.wait_until(&mut progress, deadline).timed_out() {}
    }

    /// How the command ended, once the record is complete.
    pub fn exit(&self) -> Option<ExitStatus> {
        self.progress.lock().exit
    }

    /// What the keeper says about its session.
    pub fn info(&self) -> Info {
        let identity = &self.identity;
        Info {
            session: identity.session,
            name: identity.name.clone(),
            command: identity.command.clone(),
            cwd: self.child.directory().unwrap_or_else(|| identity.directory.clone()),
            started_at_us: identity.started_at_us,
            pid: self.child.pid(),
            keeper_pid: std::process::id(),
            tty: identity.tty,
            size: pty::size(&self.master),
            attached: u32::try_from(self.terminals.lock().len()).unwrap_or(u32::MAX),
            connected: self.shipper.get().is_some_and(|shipper| shipper.is_connected()),
            output_bytes: self.spool.end().output_offset,
            exit: self.exit(),
            keeper_version: env!("CARGO_PKG_VERSION").to_owned(),
            recording: self.recorder.recording(),
        }
    }
}

/// Somebody who still has to be told about the end.
pub struct Witness(Weak<Session>);

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some(session) = self.0.upgrade() {
            session.progress.lock().witnesses -= 1;
            session.changed.notify_all();
        }
    }
}
