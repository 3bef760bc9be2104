//! `daemon run|start|stop|restart|status|install`: the daemon's life, as a person steers it.
//!
//! Promise: `stop` is remembered, so that no keeper starts what was stopped on purpose; nothing waits without a bound.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;
use shellkeep_daemon::lock::{Lock, LockError};
use shellkeep_daemon::{Config, Listener};
use shellkeep_journal::hook::{self, Point};
use shellkeep_protocol::query::{Query, Reply};
use shellkeep_transport::CancellationToken;

use crate::cli::DaemonVerb;
use crate::config::Settings;
use crate::daemon_link::{DaemonLink, STATUS_WAIT_MAX, in_the_way, no_daemon};
use crate::places::{Places, prepare};
use crate::report::{self, Exit, Failure, Outcome};
use crate::{diagnostics, keepers, launch, systemd};

/// How long a daemon may take to end after TERM; then it is killed, which loses nothing.
const TERM_WAIT_MAX: Duration = Duration::from_secs(5);

/// Pause between two looks at a daemon that is about to listen.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long a thread that answered a query waits for the next one. Its end is a wakeup: let it be close to the work.
const THREAD_KEEP_ALIVE: Duration = Duration::from_millis(100);

/// How long a killed process may take to be gone.
const KILL_WAIT_MAX: Duration = Duration::from_secs(5);

/// `shellkeep daemon VERB`.
///
/// # Errors
/// Those of the verb.
pub(crate) fn steer(places: &Places, verb: &DaemonVerb) -> Outcome {
    match verb {
        DaemonVerb::Run => run(places),
        DaemonVerb::Start => start(places),
        DaemonVerb::Stop => stop(places),
        DaemonVerb::Restart => restart(places),
        DaemonVerb::Status { json } => status(places, *json),
        DaemonVerb::Install => install(places),
    }
}

/// `shellkeep daemon run`: is the daemon, in the foreground.
///
/// # Errors
/// Status 75 if another daemon runs; 1 if the places cannot be used.
pub(crate) fn run(places: &Places) -> Outcome {
    prepare(&places.state)?;
    prepare(&places.run)?;
    hook::pause(Point::DaemonStarting);
    let lock = match Lock::take(&places.lock()) {
        Ok(lock) => lock,
        Err(error @ LockError::Held { .. }) => {
            return Err(Failure { message: error.to_string(), hint: None, exit: Exit::Locked });
        }
        Err(error) => return Err(Failure::refused(error)),
    };
    // Not before the lock is held: `daemon stop` writes the file, and then looks for a holder.
    if std::env::var_os(launch::UNLESS_STOPPED).is_some() && places.stopped().exists() {
        return Ok(ExitCode::SUCCESS);
    }
    if let Err(failure) = diagnostics::start(places, "daemon") {
        report::notice(failure.message); // a full disk must not keep a daemon from starting
    }
    hook::pause(Point::DaemonLocked);
    if let Err(error) = touch(&places.stopped_reserve()) {
        tracing::warn!(%error, "should the disk become full, the daemon cannot be stopped for good");
    }
    let ran = serve(places);
    if let Err(failure) = &ran {
        // Whoever starts a daemon in the background sees no stderr of it.
        tracing::error!(message = failure.message, hint = failure.hint, "the daemon cannot run");
    }
    drop(lock); // not before the last write
    ran
}

/// The daemon's life, from its settings on. The caller holds the lock.
fn serve(places: &Places) -> Outcome {
    let settings = Settings::load(places)?;
    raise_descriptor_limit();
    crate::keeper::pty::survive_full_files();
    let _before = crate::keeper::pty::forbid_core();
    let config = Config {
        places: shellkeep_daemon::Places {
            socket: places.run.join("daemon.sock"),
            socket_fallback: places.run_fallback.as_ref().map(|run| run.join("daemon.sock")),
            lock: places.lock(),
            logs: places.logs(),
            spools: places.spools(),
            keepers: places.keeper_directories(),
            index: places.state.join("index"),
            registry: places.registry(),
            packages: places.packages(),
            config: places.config.clone(),
            home: std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()),
        },
        retention: settings.retention(),
        preferences: settings.preferences(),
        secrets: settings.secrets().map_err(Failure::refused)?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    for directory in [&config.places.logs, &config.places.spools] {
        prepare(directory)?;
    }
    let listener = systemd::inherited_listener().map_or(Listener::Own, Listener::Inherited);
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone()).map_err(|error| Failure::refused(format_args!("cannot handle signals: {error}")))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().thread_keep_alive(THREAD_KEEP_ALIVE).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::refused(format_args!("no runtime: {error}")))?;
    let poked = places.clone();
    let on_serving = move || drop(std::thread::Builder::new().name("poke".into()).spawn(move || keepers::poke(&poked)));
    let ran = runtime.block_on(shellkeep_daemon::run(config, listener, stop, on_serving));
    ran.map(|()| ExitCode::SUCCESS).map_err(Failure::refused)
}

/// TERM and INT end the daemon in good order. The thread sleeps until one comes.
fn stop_on_signals(stop: CancellationToken) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            tracing::info!(signal, "told to stop");
            stop.cancel();
        }
    })?;
    Ok(())
}

/// One descriptor per connection and per log: as many as the system lets us have.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit on descriptors");
    }
}

/// `shellkeep daemon start`: returns once it answers.
///
/// # Errors
/// Status 3 if it does not.
pub(crate) fn start(places: &Places) -> Outcome {
    if systemd::is_managed(places) {
        let _ = std::fs::remove_file(places.stopped());
        return systemd::control("start");
    }
    let link = DaemonLink::reach(places)?;
    // Connected is not yet serving: ask.
    link.ask_within(&Query::Status, STATUS_WAIT_MAX)?;
    Ok(ExitCode::SUCCESS)
}

/// `shellkeep daemon stop`: returns when it is gone. Stays stopped until a command or `daemon start` needs it.
///
/// # Errors
/// If it cannot be remembered, or the process does not end.
pub(crate) fn stop(places: &Places) -> Outcome {
    prepare(&places.state)?;
    remember_stopped(places)?;
    if systemd::is_managed(places) {
        return systemd::control("stop");
    }
    end(places)?;
    Ok(ExitCode::SUCCESS)
}

/// `shellkeep daemon restart`: also of one that hangs.
///
/// # Errors
/// As `stop` and `start`.
pub(crate) fn restart(places: &Places) -> Outcome {
    Settings::load(places)?; // before the old one ends: the new one would refuse them
    if systemd::is_managed(places) {
        return systemd::control("restart");
    }
    prepare(&places.state)?;
    remember_stopped(places)?; // no keeper comes first with the old program
    end(places)?;
    start(places)
}

/// `state/stopped`, durable before the signal. On a full disk a file that was kept for it takes its name.
fn remember_stopped(places: &Places) -> Result<(), Failure> {
    let path = places.stopped();
    let written = touch(&path).or_else(|error| {
        let renamed = std::fs::rename(places.stopped_reserve(), &path);
        renamed.and_then(|()| touch(&path)).map_err(|_| error)
    });
    written.map_err(|error| Failure::refused(format_args!("cannot write {}: {error}", path.display())))
}

/// Makes an empty file of ours, and makes it durable.
fn touch(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)?;
    file.sync_all()
}

/// TERM, and KILL when that is not enough. Returns when no daemon holds the lock.
fn end(places: &Places) -> Result<(), Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::refused(format_args!("cannot {what}: {error}"));
    let lock = places.lock();
    let holder = Lock::holder(&lock).map_err(|error| failed("read the daemon's lock", &error))?;
    // A lock that somebody has removed or emptied says nothing; the daemon itself does.
    let Some(pid) = holder.or_else(|| said_by_daemon(places)) else { return Ok(()) };
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Err(failed("stop the daemon", &format_args!("{} names no process", lock.display())));
    };
    let Ok(handle) = pidfd_open(process, PidfdFlags::empty()) else { return Ok(()) }; // it has just ended
    // The id may be another process's by now: only the lock, or the daemon, says whose it is.
    if Lock::holder(&lock).ok().flatten().or_else(|| said_by_daemon(places)) != Some(pid) {
        return Ok(());
    }
    for (signal, wait) in [(Signal::TERM, TERM_WAIT_MAX), (Signal::KILL, KILL_WAIT_MAX)] {
        pidfd_send_signal(&handle, signal).map_err(|error| failed(&format!("signal process {pid}"), &error))?;
        let mut fds = [PollFd::new(&handle, PollFlags::IN)];
        let wait = rustix::time::Timespec::try_from(wait).ok();
        if poll(&mut fds, wait.as_ref()).is_ok_and(|ready| ready > 0) {
            return Ok(());
        }
    }
    Err(failed("stop the daemon", &format_args!("process {pid} does not end")))
}

fn unanswered(holder: Option<u32>) -> Failure {
    match holder {
        Some(pid) => no_daemon(format_args!("the daemon (process {pid}) does not answer"))
            .with_hint("\"shellkeep daemon restart\" replaces it; sessions go on meanwhile"),
        None => no_daemon("no daemon is running").with_hint("\"shellkeep daemon start\" starts one"),
    }
}

/// The process that answers at the daemon's socket.
fn said_by_daemon(places: &Places) -> Option<u32> {
    let link = DaemonLink::running(places).ok().flatten()?;
    match link.ask_within(&Query::Status, STATUS_WAIT_MAX) {
        Ok(Reply::Status(status)) if places.foreign_socket.is_none() => Some(status.pid),
        _ => None,
    }
}

/// `daemon status --json`. The names are a contract.
#[derive(Debug, Serialize)]
struct StatusJson {
    pid: u32,
    version: String,
    protocol: u16,
    socket: String,
    uptime_s: u64,
    sessions: u64,
    storage: u64,
}

/// `shellkeep daemon status`: never starts one; 3 and nothing on stdout if none answers.
///
/// # Errors
/// Status 3.
pub(crate) fn status(places: &Places, json: bool) -> Outcome {
    let begun = Instant::now();
    let link = loop {
        let link = DaemonLink::running(places)?;
        let holder = Lock::holder(&places.lock()).ok().flatten();
        if link.is_none() && holder.is_some() && begun.elapsed() < STATUS_WAIT_MAX {
            std::thread::sleep(LOOK_EVERY); // it has the lock, and is about to listen
            continue;
        }
        break link.ok_or(holder);
    };
    let link = link.map_err(|holder| match in_the_way(places) {
        Some(failure) => failure,
        None => unanswered(holder),
    })?;
    let Reply::Status(status) = link.ask_within(&Query::Status, STATUS_WAIT_MAX)? else {
        return Err(Failure::bug(&"the daemon answered another question"));
    };
    let text = if json {
        let shown = StatusJson {
            pid: status.pid,
            version: status.version,
            protocol: status.protocol,
            socket: status.socket,
            uptime_s: status.uptime_s,
            sessions: status.sessions,
            storage: status.storage_bytes,
        };
        report::json(&shown)?
    } else {
        format!(
            "running as process {} for {} s, version {}\nsocket    {}\nsessions  {}\nstorage   {}\n",
            status.pid,
            status.uptime_s,
            status.version,
            report::printable(&status.socket),
            status.sessions,
            report::size(status.storage_bytes),
        )
    };
    report::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// `shellkeep daemon install`: systemd user units, socket-activated.
///
/// # Errors
/// If they cannot be written.
pub(crate) fn install(places: &Places) -> Outcome {
    let written: Vec<PathBuf> = systemd::install(places)?;
    for path in written {
        report::notice(format_args!("wrote {}", path.display()));
    }
    report::notice("now: systemctl --user daemon-reload && systemctl --user enable --now shellkeep.socket");
    Ok(ExitCode::SUCCESS)
}

/// Runs a program and says whether it succeeded.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    let quiet = Command::new(program)
        .args(args)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}
