//! One process of a command: started, read, ended.
//!
//! Promise: it is in a process group of its own and dies with the daemon; its output is read only as fast as somebody takes it; it ends, at
//! the latest two seconds after it was told to. Owns its thread, which lives as long as the process: the system kills the process when the
//! thread that started it ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, kill_process_group, pidfd_open, setrlimit,
};
use shellkeep_protocol::registry::{ExecutionEvent, RegistryError};

use super::super::installed::Held;
use super::{Invocation, Stop};

/// How long a command may take to end after TERM.
const TERM_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long output may still come when its process has ended: of children that it left behind.
const DRAIN_WAIT_MAX: Duration = Duration::from_millis(200);

/// Most that is read at once.
const READ_BYTES: usize = 32 << 10;

/// Descriptors that a command may open unless it asks for more. The daemon's own limit is far higher, which slows down programs that
/// close all they might have.
const FILES_SOFT: u64 = 1_024;

/// What is started.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) argv: Vec<String>,
    pub(super) directory: std::path::PathBuf,
    pub(super) environment: Vec<(String, String)>,
    pub(super) stdin: Vec<u8>,
    /// Both its outputs are one, so that they keep their order.
    pub(super) merged: bool,
    pub(super) time_max: Duration,
    /// Until it has ended.
    pub(super) _held: Option<Held>,
}

/// Runs it to its end. Blocking.
pub(super) fn run(invocation: &Invocation, start: &Start) {
    let last = match spawn(start) {
        Ok(spawned) => match follow(invocation, spawned, start.time_max) {
            Ok(last) => last,
            Err(error) => ExecutionEvent::Error(system("cannot follow the command", &error)),
        },
        Err(error) => ExecutionEvent::Error(not_started(invocation, start, &error)),
    };
    invocation.stream.add(last);
}

fn system(what: &str, error: &std::io::Error) -> RegistryError {
    RegistryError::System { what: what.to_owned(), why: error.to_string() }
}

fn not_started(invocation: &Invocation, start: &Start, error: &std::io::Error) -> RegistryError {
    let program = start.argv.first().map(String::as_str).unwrap_or_default();
    if error.kind() == std::io::ErrorKind::NotFound && start.directory.is_dir() {
        let why = format!("\"{program}\" is not installed, or not in PATH");
        return RegistryError::Unavailable { entry: invocation.entry.qualified_name.to_string(), why };
    }
    system(&format!("cannot start {program} in {}", start.directory.display()), error)
}

/// The process, and where its outputs are read.
type Spawned = (Child, Option<OwnedFd>, Option<OwnedFd>);

fn spawn(start: &Start) -> std::io::Result<Spawned> {
    let (program, args) = start.argv.split_first().ok_or_else(|| std::io::Error::other("there is nothing to start"))?;
    let mut command = Command::new(program);
    command.args(args).current_dir(&start.directory).env_clear().envs(start.environment.iter().cloned());
    command.stdin(stdin(&start.stdin)?).process_group(0);
    prepare_child(&mut command);
    if start.merged {
        let (reader, writer) = std::io::pipe()?;
        let child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
        return Ok((child, Some(reader.into()), None));
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    Ok((child, stdout.map(OwnedFd::from), stderr.map(OwnedFd::from)))
}

/// All of it is in memory already: no thread has to write it.
fn stdin(bytes: &[u8]) -> std::io::Result<Stdio> {
    if bytes.is_empty() {
        return Ok(Stdio::null());
    }
    let mut file = std::fs::File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    std::io::Write::write_all(&mut file, bytes)?;
    std::io::Seek::rewind(&mut file)?;
    Ok(file.into())
}

/// A child dies with the thread that starts it, may open as many files as is usual, and leaves no core.
pub(in super::super) fn prepare_child(command: &mut Command) {
    let limit = getrlimit(Resource::Nofile);
    let files = Rlimit { current: limit.maximum.map_or(Some(FILES_SOFT), |most| Some(most.min(FILES_SOFT))), ..limit };
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        setrlimit(Resource::Nofile, files)?;
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        Ok(())
    };
    // SAFETY: between fork and exec this makes three system calls, allocates nothing and takes no lock.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Descriptors of a running command.
struct Running {
    child: Child,
    group: Pid,
    ended: OwnedFd,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// What a look at the descriptors has shown.
#[derive(Default)]
struct Ready {
    stdout: bool,
    stderr: bool,
    ended: bool,
}

fn follow(
    invocation: &Invocation,
    (mut child, stdout, stderr): Spawned,
    time_max: Duration,
) -> std::io::Result<ExecutionEvent> {
    let group = Pid::from_child(&child);
    let ended = match pidfd_open(group, PidfdFlags::empty()) {
        Ok(ended) => ended,
        Err(error) => {
            let _gone = kill_process_group(group, Signal::KILL);
            child.wait()?;
            return Err(error.into());
        }
    };
    invocation.takes_signals.store(true, Ordering::SeqCst);
    let mut running = Running { child, group, ended, stdout, stderr };
    let followed = running.follow(invocation, Instant::now() + time_max);
    if followed.is_err() {
        running.signal(Signal::KILL);
        running.child.wait()?;
    }
    let (status, stop) = followed?;
    Ok(last_event(status, stop, time_max))
}

fn last_event(status: ExitStatus, stop: Option<Stop>, time_max: Duration) -> ExecutionEvent {
    match stop {
        None => ExecutionEvent::Exit { code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) },
        Some(Stop::TimeOver) => {
            let after_ms = u64::try_from(time_max.as_millis()).unwrap_or(u64::MAX);
            ExecutionEvent::Error(RegistryError::Timeout { after_ms })
        }
        Some(stop) => ExecutionEvent::Error(stop.error()),
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        let _gone_already = kill_process_group(self.group, signal);
    }

    /// Reads until the process has ended, and stops it when that is wanted or its time is over.
    fn follow(&mut self, invocation: &Invocation, until: Instant) -> std::io::Result<(ExitStatus, Option<Stop>)> {
        let mut stopped: Option<(Stop, Instant)> = None;
        loop {
            let due = match (&stopped, invocation.orphan_due()) {
                (Some((_, kill_at)), _) => *kill_at,
                (None, Some(orphan_due)) => until.min(orphan_due),
                (None, None) => until,
            };
            let ready = self.wait(invocation, Some(due), invocation.stream.has_room())?;
            self.read(invocation, &ready)?;
            if invocation.interrupted.swap(false, Ordering::SeqCst) {
                self.signal(Signal::INT);
            }
            if ready.ended {
                if let Some((_, kill_at)) = &stopped {
                    // What it has started may need the rest of the time; the group is its own until its leader was waited for.
                    self.drain(invocation, *kill_at)?;
                    self.signal(Signal::KILL);
                }
                let status = self.child.wait()?;
                self.drain(invocation, Instant::now() + DRAIN_WAIT_MAX)?;
                return Ok((status, stopped.map(|(stop, _)| stop)));
            }
            let now = Instant::now();
            match &stopped {
                None => {
                    let over = (now >= until).then_some(Stop::TimeOver);
                    let alone = invocation.orphan_due().filter(|due| now >= *due).map(|_| Stop::Cancelled);
                    if let Some(stop) = invocation.stop_wanted().or(over).or(alone) {
                        self.signal(Signal::TERM);
                        stopped = Some((stop, now + TERM_WAIT_MAX));
                    }
                }
                Some((stop, kill_at)) if now >= *kill_at => {
                    self.signal(Signal::KILL);
                    stopped = Some((stop.clone(), now + TERM_WAIT_MAX));
                }
                Some(_) => {}
            }
        }
    }

    /// Waits for the first thing that happens; who asks for it may be woken for nothing.
    fn wait(&self, invocation: &Invocation, due: Option<Instant>, reads: bool) -> std::io::Result<Ready> {
        let outputs = [self.stdout.as_ref().map(AsFd::as_fd), self.stderr.as_ref().map(AsFd::as_fd)];
        let open: Vec<(usize, BorrowedFd<'_>)> =
            outputs.into_iter().enumerate().filter_map(|(nth, fd)| Some((nth, fd?))).filter(|_| reads).collect();
        let mut fds: Vec<PollFd<'_>> = vec![
            PollFd::from_borrowed_fd(self.ended.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(invocation.wake.as_fd(), PollFlags::IN),
        ];
        fds.extend(open.iter().map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let wait = due.map(|due| due.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let timeout = wait.and_then(|wait| rustix::event::Timespec::try_from(wait).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |at: usize| !fds[at].revents().is_empty();
        let mut seen = Ready { ended: is_ready(0), ..Ready::default() };
        for (at, (nth, _)) in open.iter().enumerate() {
            let flag = if *nth == 0 { &mut seen.stdout } else { &mut seen.stderr };
            *flag = is_ready(at + 2);
        }
        if is_ready(1) {
            let _was_woken = rustix::io::read(&invocation.wake, &mut [0; 8]);
        }
        Ok(seen)
    }

    fn read(&mut self, invocation: &Invocation, ready: &Ready) -> std::io::Result<()> {
        if ready.stdout {
            read_one(&mut self.stdout, |bytes| invocation.stream.add(ExecutionEvent::Stdout(bytes)))?;
        }
        if ready.stderr {
            read_one(&mut self.stderr, |bytes| invocation.stream.add(ExecutionEvent::Stderr(bytes)))?;
        }
        Ok(())
    }

    /// What still comes from the pipes. Children that were left behind may hold them open: they are not waited for any longer, nor is
    /// anybody who takes nothing.
    fn drain(&mut self, invocation: &Invocation, until: Instant) -> std::io::Result<()> {
        let is_open = |own: &Self| own.stdout.is_some() || own.stderr.is_some();
        while is_open(self) && invocation.stream.has_room() && Instant::now() < until {
            let mut fds: Vec<PollFd<'_>> = Vec::new();
            let outputs = [self.stdout.as_ref().map(AsFd::as_fd), self.stderr.as_ref().map(AsFd::as_fd)];
            fds.extend(outputs.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
            let wait = until.saturating_duration_since(Instant::now());
            let timeout = rustix::event::Timespec::try_from(wait).ok();
            if !matches!(poll(&mut fds, timeout.as_ref()), Ok(1..)) {
                return Ok(());
            }
            let is_ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut is_ready = is_ready.into_iter();
            let ready = Ready {
                stdout: self.stdout.is_some() && is_ready.next().unwrap_or(false),
                stderr: self.stderr.is_some() && is_ready.next().unwrap_or(false),
                ended: true,
            };
            self.read(invocation, &ready)?;
        }
        Ok(())
    }
}

/// Reads once what is there; closes at the end.
fn read_one(from: &mut Option<OwnedFd>, mut tell: impl FnMut(Vec<u8>)) -> std::io::Result<()> {
    let Some(reader) = from else { return Ok(()) };
    let mut bytes = vec![0; READ_BYTES];
    match rustix::io::read(&*reader, &mut bytes) {
        Ok(0) => *from = None,
        Ok(count) => {
            bytes.truncate(count);
            bytes.shrink_to_fit();
            tell(bytes);
        }
        Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
