//! The keeper: the small, boring, long-lived process that owns a session's PTY and hands its records to the daemon.
//!
//! Promises that the session outlives the terminal it was started from: the keeper has its own session, holds nothing
//! of its caller, and ends when its command has ended and everybody was told. Knows no command line.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use shellkeep_protocol::attach::{ATTACH_VERSIONS, FromKeeper, FromTerminal, Launch};
use shellkeep_protocol::ids::WriterId;
use shellkeep_protocol::session::Attrs;

use self::asking::Asking;
use self::attach::Connection;
use self::core::KeeperCore;
use self::disk::Plan;
use self::environment::Environment;
use self::pty::{Inheritance, Pty};
use self::recorder::Recorder;
use self::server::{ServeError, Server};
use self::session::{Identity, Session};
use self::shipper::{Shipper, ShipperConfig, StartDaemon};
use self::sink::Sink;
use self::spool::Spool;
use crate::link::{self, LinkError, Receiver, Sender};
use crate::places::Places;

pub mod agent;
pub mod asking;
pub mod attach;
pub mod core;
pub mod disk;
pub mod environment;
pub mod output;
pub mod pty;
pub mod recorder;
pub mod ring;
pub mod server;
pub mod session;
pub mod shipper;
pub mod sink;
pub mod spool;
pub mod spool_reader;
pub mod terminal;

/// How long the record may take to become durable after the command's end. Then the spool stays for adoption.
const DURABLE_WAIT_MAX: Duration = Duration::from_secs(2);
/// The same where the daemon is elsewhere, and nobody here would adopt the spool: until it comes back, within reason.
const FOREIGN_WAIT_MAX: Duration = Duration::from_hours(30 * 24);
/// How long those who asked for the end may take to hear of it.
const WITNESS_WAIT_MAX: Duration = Duration::from_secs(1);
/// Descriptors that every program has.
const STANDARD_DESCRIPTORS: i32 = 3;

/// Lives as the keeper of one session: the hidden subcommand `shellkeep keeper`, whose standard input is the socket
/// of the process that starts it.
pub fn run() -> ExitCode {
    let Ok((socket, umask)) = leave_caller() else { return ExitCode::FAILURE };
    match keep(socket, umask) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE, // the caller has seen the connection end, and nobody else is there
    }
}

/// Gives up everything of the caller but its directory, which the command still needs.
fn leave_caller() -> std::io::Result<(UnixStream, Mode)> {
    // Fails only for a leader of a process group, which the caller does not make us.
    let _leader = rustix::process::setsid();
    close_inherited()?;
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), STANDARD_DESCRIPTORS)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    let umask = rustix::process::umask(Mode::from_raw_mode(0o077));
    pty::survive_full_files();
    Ok((UnixStream::from(socket), umask))
}

/// Closes what the caller had open and passed on without meaning to.
#[allow(unsafe_code)]
fn close_inherited() -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
    let mut space = [std::mem::MaybeUninit::uninit(); 2048];
    let mut entries = rustix::fs::RawDir::new(&directory, &mut space);
    let mut open = Vec::new();
    while let Some(entry) = entries.next() {
        open.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
    }
    for descriptor in open {
        if descriptor < STANDARD_DESCRIPTORS || descriptor == directory.as_raw_fd() {
            continue;
        }
        // SAFETY: this is the first thing the process does, in its only thread; nothing in it owns a descriptor but
        // the three standard ones and the directory, which are left out.
        unsafe { rustix::io::close(descriptor) };
    }
    Ok(())
}

/// A session about to be born, and the one who waits for it.
struct Birth {
    sender: Sender,
    receiver: Receiver,
    launch: Launch,
    sink: Option<Sink>,
    places: Places,
    umask: Mode,
}

fn keep(socket: UnixStream, umask: Mode) -> Result<(), LinkError> {
    let (sender, mut receiver) = link::split(socket);
    receiver.set_wait(Some(attach::FIRST_WORD_WAIT_MAX))?;
    sender.set_wait(Some(attach::ANSWER_WAIT_MAX))?;
    sender.hello()?;
    receiver.hello()?;
    let FromTerminal::Launch(launch) = receiver.from_terminal()? else {
        return Err(LinkError::Foreign("a keeper is born with a launch".to_owned()));
    };
    let places = match Places::from_env() {
        Ok(places) => places,
        Err(error) => return refuse(&sender, &error.to_string()),
    };
    let sink = match &launch.attach {
        Some(attach) => Some(attach::sink(attach, &mut receiver, &sender)?),
        None => None,
    };
    Birth { sender, receiver, launch: *launch, sink, places, umask }.live()
}

/// Nothing was started: the caller may still do it plainly.
fn refuse(sender: &Sender, reason: &str) -> Result<(), LinkError> {
    sender.to_terminal(&FromKeeper::Refused { reason: reason.to_owned() }, &[])
}

impl Birth {
    /// Starts the command, keeps it until it ends, and tells everybody.
    fn live(self) -> Result<(), LinkError> {
        let modes = self.sink.as_ref().and_then(Sink::modes_before);
        let pty = match Pty::open(modes, self.launch.size.unwrap_or(pty::SIZE_DEFAULT)) {
            Ok(pty) => pty,
            Err(error) => return refuse(&self.sender, &format!("cannot open a PTY: {error}")),
        };
        let tty = pty.device()?;
        if let Some(sink) = &self.sink {
            // Before the start: the terminal sets its modes while the command starts.
            let direct = !self.launch.record_input && !sink.is_relay();
            let master = pty.master.as_fd().try_clone_to_owned()?;
            let master = Arc::new(std::fs::File::from(master));
            attach::welcome(&self.sender, self.launch.session, self.launch.name.clone(), direct.then_some(&master))?;
        }
        // Before the start too: the command may look for its own session as the first thing it does.
        let reachable = Server::bind(self.places.clone(), self.launch.session);
        let environment = Environment::of(&self.launch, &self.places);
        let core_limit = pty::forbid_core();
        let with =
            Inheritance { umask: self.umask, oom_score: pty::oom_score(), core_limit, environment: &environment };
        pty::spare_from_oom();
        let (master, child) = match pty.spawn(&self.launch, &with) {
            Ok(started) => started,
            Err(error) => {
                environment.files.remove();
                if pty::is_scarcity(&error.source) {
                    return refuse(&self.sender, &format!("the keeper cannot start a process: {}", error.source));
                }
                let reason = format!("{}: {}", String::from_utf8_lossy(&self.launch.program), error.source);
                return self.sender.to_terminal(&FromKeeper::StartFailed { status: error.status, reason }, &[]);
            }
        };
        let identity = self.identity(tty, environment);
        let _stays = rustix::process::chdir("/");
        self.keep(identity, master, child, reachable)
    }

    fn keep(
        self,
        identity: Identity,
        master: std::fs::File,
        child: pty::Child,
        (server, unreachable): (Server, Option<ServeError>),
    ) -> Result<(), LinkError> {
        let attrs = self.attrs(&identity, child.pid());
        // Without randomness there is no writer that could be told from others: then nothing is shipped or adopted.
        let writer = WriterId::random().ok();
        let plan = writer.and_then(|writer| self.spool_plan(&attrs, writer));
        let spool = Arc::new(Spool::new(plan, self.launch.when_full));
        let recorder =
            Arc::new(Recorder::new(Arc::clone(&spool), self.launch.record_input.then(|| Asking::new(identity.marks))));
        let shipper = writer.and_then(|writer| self.shipper(attrs, writer, &spool));
        let drain = Drain { is_foreign: self.places.foreign_socket.is_some(), stopped: self.places.stopped() };
        let place = server.place();
        let session = Session::new(identity, master, child, recorder, spool);
        if let Some(shipper) = shipper {
            let _only_once = session.shipper.set(Box::new(shipper));
        }
        // The caller may be dead by now: the session lives without it.
        let _told = self.sender.to_terminal(&FromKeeper::Started, &[]);
        if let Some(error) = unreachable {
            let notice = format!("this session cannot be attached from elsewhere: {error}");
            let _told = self.sender.to_terminal(&FromKeeper::Notice(notice), &[]);
        }
        let attach = self.launch.attach.as_ref();
        let patience = attach.and_then(|attach| attach.patience_ms).map(|ms| Duration::from_millis(ms.into()));
        let terminal = self.sink.map(|sink| session.add(sink, &self.sender, patience, *ATTACH_VERSIONS.end()));
        let attached = terminal.is_some();
        let connection = Connection::born(Arc::clone(&session), self.sender, self.receiver, terminal);
        spawn("attach", move || if attached { connection.serve_attached() } else { connection.serve() })?;
        let serving = Arc::clone(&session);
        spawn("server", move || server.run(&serving))?;
        let reading = Arc::clone(&session);
        spawn("pty", move || reading.read_pty())?;
        finish(&session, &drain);
        place.lock().give_up();
        Ok(())
    }

    /// How to make the spool; `None` if there is nowhere to.
    fn spool_plan(&self, attrs: &Attrs, writer: WriterId) -> Option<Plan> {
        let identity = shellkeep_journal::Identity {
            session: *self.launch.session.as_bytes(),
            store: [0; 16], // a spool is no store
            writer: *writer.as_bytes(),
            epoch: 0,
            attrs: spool::encode_attrs(self.launch.session, attrs),
        };
        let spools = self.places.prepare_spools().ok()?;
        Some(Plan { spools, identity, bytes_max: self.launch.spool_bytes_max })
    }

    /// What a daemon is told about the session. The environment is not part of it: it holds secrets.
    fn attrs(&self, identity: &Identity, pid: u32) -> Attrs {
        let size = self.launch.size.unwrap_or(pty::SIZE_DEFAULT);
        Attrs {
            name: identity.name.clone(),
            command: identity.command.clone(),
            cwd: identity.directory.clone(),
            started_at_us: identity.started_at_us,
            pid,
            keeper_pid: std::process::id(),
            term: std::env::var("TERM").unwrap_or_default(),
            size: (size.cols, size.rows),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            parent: None,
            attached: u32::from(self.sink.is_some()),
            keeper_version: env!("CARGO_PKG_VERSION").to_owned(),
            marks: identity.marks,
        }
    }

    /// What hands the record to the daemon; without it everything stays in the spool.
    fn shipper(&self, attrs: Attrs, writer: WriterId, spool: &Arc<Spool>) -> Option<Shipper> {
        let places = self.places.clone();
        let start_daemon: Option<StartDaemon> = match places.foreign_socket {
            Some(_) => None, // another machine's or container's daemon is not ours to start
            None => Some(Box::new(move || crate::launch::daemon_for_keeper(&places))),
        };
        let config = ShipperConfig {
            socket: self.places.daemon_socket(),
            other_sockets: self.places.daemon_sockets().split_off(1),
            spool: Arc::clone(spool),
            core: KeeperCore::new(self.launch.session, writer),
            attrs: Arc::new(parking_lot::Mutex::new(attrs)),
            start_daemon,
        };
        Shipper::start(config).ok()
    }

    fn identity(&self, tty: u64, environment: Environment) -> Identity {
        let launch = &self.launch;
        let command = std::iter::once(&launch.program).chain(&launch.args);
        Identity {
            session: launch.session,
            name: launch.name.clone(),
            command: command.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
            directory: std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned(),
            started_at_us: spool::now_us(),
            tty,
            marks: environment.marks,
            files: environment.files,
        }
    }
}

/// How long the record may take to get out of here.
struct Drain {
    /// The daemon is elsewhere, and nobody here would adopt the spool.
    is_foreign: bool,
    /// The file that says that no daemon shall run.
    stopped: PathBuf,
}

impl Drain {
    fn wait(&self, is_connected: bool, is_in_memory: bool) -> Duration {
        match (self.is_foreign, is_connected) {
            // Nobody could adopt what is only here: stay until a daemon or the disk takes it.
            (true, _) => FOREIGN_WAIT_MAX,
            _ if is_in_memory => FOREIGN_WAIT_MAX,
            (false, false) if self.stopped.exists() => Duration::ZERO, // stopped on purpose: adopted when it is back
            (false, _) => DURABLE_WAIT_MAX,
        }
    }
}

/// Waits for the end and tells everybody.
fn finish(session: &Arc<Session>, drain: &Drain) {
    let exit = session.wait_for_end();
    if let Some(complaint) = session.spool.complaint() {
        session.notify(&complaint);
    }
    session.tell_terminals(exit);
    let is_in_memory = session.spool.is_in_memory();
    if let Some(shipper) = session.shipper.get()
        && shipper.finish(exit, drain.wait(shipper.is_connected(), is_in_memory))
    {
        session.spool.remove();
    }
    session.wait_for_witnesses(WITNESS_WAIT_MAX);
    session.identity.files.remove();
}

/// A thread with the small stack that everything in the keeper gets by with.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), LinkError> {
    const STACK_BYTES: usize = 128 << 10;
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run)?;
    Ok(())
}

/// The program that this process runs, to be run again as a keeper: also when its file was replaced meanwhile.
pub fn program() -> &'static Path {
    Path::new("/proc/self/exe")
}

/// A pair of connected sockets that no other program inherits by accident.
///
/// # Errors
/// When descriptors run out.
pub fn socket_pair() -> std::io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((ours, theirs.into()))
}
