//! `shellkeep start`: a kept session here. Never the reason that a command does not start: without a keeper it is
//! executed plainly, after one notice.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde_bytes::ByteBuf;
use shellkeep_protocol::attach::{FromKeeper, FromTerminal, Launch, WhenFull};
use shellkeep_protocol::ids::SessionId;

use super::attach::{PATIENCE_MS, Shown, controlling_tty, finish, lent, request, run_terminal, screens};
use crate::cli::Start;
use crate::config::{self, Settings};
use crate::keeper;
use crate::keepers;
use crate::link::{self, LinkError, Receiver, Sender};
use crate::names::SessionName;
use crate::places::Places;
use crate::report::{self, Failure, Outcome};
use crate::stdout;
use crate::terminal::{self, End, Terminal};

/// How long a new keeper may take to greet, and to start the command. Then the command is started plainly.
const BIRTH_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long another start may hold the right to choose a name.
const NAME_WAIT_MAX: Duration = Duration::from_secs(5);
/// Time between two tries to get that right.
const NAME_RETRY: Duration = Duration::from_millis(5);
/// Most bytes of a session's spool on disk.
const SPOOL_BYTES_MAX: u64 = 1 << 30;
/// Shell of a user whose environment names none.
const SHELL_DEFAULT: &str = "/bin/sh";
/// Status of a shell that finds no such program.
const STATUS_MISSING: u8 = 127;
/// Status of a shell that may not execute the program.
const STATUS_NOT_EXECUTABLE: u8 = 126;

/// Set for a login shell that could not be kept, so that its profile does not try for ever.
const NOT_KEPT: &str = "SHELLKEEP_NOT_KEPT";

/// What to execute.
struct Program {
    path: OsString,
    arg0: Option<OsString>,
    args: Vec<OsString>,
}

pub(super) fn run(args: &Start) -> Outcome {
    let program = program(args);
    let places = match Places::from_env() {
        Ok(places) => places,
        Err(error) if args.detached => return Err(error.into()),
        Err(error) => return Ok(plainly(&program, &error)),
    };
    if !args.nested && is_inside(&places).is_some() && args.login {
        return Ok(program.plain_shell()); // its profile says so for every login shell, kept ones too
    }
    if !args.nested {
        refuse_inside(&places)?;
    }
    let has_tty = !args.detached && terminal::has_tty();
    if has_tty && !terminal::wait_for_foreground() {
        return Ok(plainly(&program, &"this process cannot get into the foreground of its terminal"));
    }
    let directory = match places.prepare_keeper_directory() {
        Ok(directory) => directory,
        Err(error) if args.detached => return Err(error.into()),
        Err(error) => return Ok(plainly(&program, &format_args!("{error}; {}", error.hint()))),
    };
    if has_tty {
        super::first_run::notice(&places);
    }
    let name_right = match &args.name {
        Some(name) => Some(reserve(&places, &directory, name)?),
        None => None,
    };
    let settings = Settings::load_or_default(&places);
    let launch = launch(args, &program, has_tty, settings.as_ref());
    let session = launch.session;
    let (sender, mut receiver) = match birth() {
        Ok(link) => link,
        Err(error) if args.detached => {
            return Err(Failure::refused(format_args!("cannot have a keeper: {error}")));
        }
        Err(error) => return Ok(plainly(&program, &error)),
    };
    match sender.to_keeper(&FromTerminal::Launch(Box::new(launch)), lent(has_tty)) {
        Ok(()) if args.detached => return detached(receiver, session),
        Err(error) if args.detached => {
            return Err(Failure::refused(format_args!("the keeper of {session} has failed: {error}")));
        }
        _ => {} // a keeper that hears nothing says nothing
    }
    // A keeper greets before it starts the command, and starts nothing once its caller is gone.
    let master = match receiver.from_keeper() {
        Ok(FromKeeper::Attached { direct_input: true, .. }) => receiver.take_descriptor().map(File::from),
        Ok(FromKeeper::Attached { .. }) => None,
        Ok(FromKeeper::Refused { reason }) => return Ok(plainly(&program, &reason)),
        Ok(other) => return Err(Failure::refused(format_args!("the keeper of {session} answered {other:?}"))),
        Err(error) => return Ok(plainly(&program, &format_args!("the keeper has failed: {error}"))),
    };
    let keys = args.detach_key.keys(settings.as_ref());
    let screens = Some(screens(places.clone(), session));
    let terminal = Terminal { sender, receiver, master, has_tty, keys, is_starter: true, screens, name_right };
    match run_terminal(terminal)? {
        End::NotKept(reason) => Ok(plainly(&program, &reason)),
        end => finish(end, &Shown { session, name: args.name.as_ref().map(SessionName::as_str) }),
    }
}

/// Waits until the session exists, and says which it is.
fn detached(mut receiver: Receiver, session: SessionId) -> Outcome {
    match receiver.from_keeper() {
        Ok(FromKeeper::Started) => {
            if !stdout::is_closed() {
                report::result(&format!("{session}\n"))?; // else the session was wanted, and not its name
            }
            Ok(ExitCode::SUCCESS)
        }
        Ok(FromKeeper::StartFailed { status, reason }) => {
            report::failure(&Failure::refused(format_args!("cannot start the command: {reason}")));
            Ok(ExitCode::from(status))
        }
        Ok(other) => Err(Failure::refused(format_args!("the keeper answered {other:?}"))),
        Err(error) => Err(Failure::refused(format_args!("the keeper of {session} has failed: {error}"))),
    }
}

fn program(args: &Start) -> Program {
    let mut words = args.cmd.iter().cloned();
    if let Some(program) = words.next() {
        return Program { path: program, arg0: None, args: words.collect() };
    }
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let path = shell.unwrap_or_else(|| SHELL_DEFAULT.into());
    // Source: login(1): a name that begins with a dash makes a login shell.
    let login_name = args.login.then(|| {
        let mut name = OsString::from("-");
        name.push(Path::new(&path).file_name().unwrap_or(&path));
        name
    });
    Program { path, arg0: login_name, args: Vec::new() }
}

fn launch(args: &Start, program: &Program, has_tty: bool, settings: Option<&Settings>) -> Launch {
    let bytes = |text: &OsStr| ByteBuf::from(text.as_bytes());
    // A pipe is never left behind: who reads it wants every byte, and may take its time.
    let patience_ms = has_tty.then_some(PATIENCE_MS);
    Launch {
        session: SessionId::new(),
        name: args.name.as_ref().map(|name| name.as_str().to_owned()),
        program: bytes(&program.path),
        arg0: program.arg0.clone().map(|arg0| ByteBuf::from(arg0.into_vec())),
        args: program.args.iter().map(|arg| bytes(arg)).collect(),
        record_input: args.record_input,
        marks: settings.is_none_or(|settings| settings.keeper.marks),
        when_full: match settings.map(|settings| settings.keeper.when_full) {
            Some(config::WhenFull::Block) => WhenFull::Block,
            Some(config::WhenFull::Gap) | None => WhenFull::Gap,
        },
        spool_bytes_max: settings.map_or(SPOOL_BYTES_MAX, |settings| settings.keeper.spool_bytes_max.0),
        size: terminal::size(),
        attach: (!args.detached).then(|| request(has_tty, patience_ms)),
    }
}

/// Refuses a session inside a session.
fn refuse_inside(places: &Places) -> Result<(), Failure> {
    let Some(around) = is_inside(places) else { return Ok(()) };
    Err(Failure::refused(format_args!("this is session {around} already"))
        .with_hint("--nested starts one inside it all the same"))
}

/// The session whose PTY this is. The variable alone does not count: tmux keeps it for ever.
pub(super) fn is_inside(places: &Places) -> Option<SessionId> {
    let (around, tty) = (keepers::around_us()?, controlling_tty()?);
    keepers::by_id(places, around).is_some_and(|keeper| keeper.info.tty == tty).then_some(around)
}

/// Takes the right to start a session of this name; held until the descriptor closes.
fn reserve(places: &Places, directory: &Path, name: &SessionName) -> Result<OwnedFd, Failure> {
    let failed = |errno: rustix::io::Errno| Failure::refused(format_args!("cannot reserve the name {name}: {errno}"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let right = rustix::fs::open(directory, flags, Mode::empty()).map_err(failed)?;
    let deadline = Instant::now() + NAME_WAIT_MAX;
    while let Err(errno) = rustix::fs::flock(&right, FlockOperation::NonBlockingLockExclusive) {
        if errno != rustix::io::Errno::WOULDBLOCK {
            return Err(failed(errno));
        }
        if Instant::now() > deadline {
            return Err(Failure::refused(format_args!(
                "cannot reserve the name {name}: too many are being started now"
            ))
            .with_hint("try again, or leave out --name"));
        }
        std::thread::sleep(NAME_RETRY);
    }
    let taken = keepers::running(places).into_iter().find(|other| other.info.name.as_deref() == Some(name.as_str()));
    match taken {
        None => Ok(right),
        Some(other) => Err(Failure::refused(format_args!("session {} is called {name} already", other.info.session))
            .with_hint(format_args!("\"shellkeep attach {name}\" shows it"))),
    }
}

/// Starts a keeper and greets it. Nothing of the command has happened when this fails.
fn birth() -> Result<(Sender, Receiver), LinkError> {
    let (ours, theirs) = keeper::socket_pair()?;
    // Dropped unwaited: the keeper outlives this process, or is reaped with it.
    Command::new(keeper::program())
        .arg0("shellkeep")
        .arg("keeper")
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let (sender, mut receiver) = link::split(ours);
    receiver.set_wait(Some(BIRTH_WAIT_MAX))?;
    sender.hello()?;
    receiver.hello()?;
    Ok((sender, receiver))
}

/// Executes the command without keeping it.
fn plainly(program: &Program, why: &dyn std::fmt::Display) -> ExitCode {
    // A login shell reads the profile that may have brought us here: the second time it is none any more, and says nothing.
    if program.is_login() && std::env::var_os(NOT_KEPT).is_some() {
        return program.plain_shell();
    }
    report::notice(format_args!("not kept: {why}"));
    let mut command = Command::new(&program.path);
    command.args(&program.args);
    if let Some(arg0) = &program.arg0 {
        command.arg0(arg0).env(NOT_KEPT, "1");
    }
    program.execute(command)
}

impl Program {
    /// Whether it is the user's shell as a login shell.
    fn is_login(&self) -> bool {
        self.arg0.is_some()
    }

    /// Becomes the user's shell, and no login shell.
    fn plain_shell(&self) -> ExitCode {
        self.execute(Command::new(&self.path))
    }

    fn execute(&self, mut command: Command) -> ExitCode {
        let error = command.exec();
        let name = self.path.to_string_lossy();
        report::failure(&Failure::refused(format_args!("cannot start {name}: {error}")));
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        ExitCode::from(if missing { STATUS_MISSING } else { STATUS_NOT_EXECUTABLE })
    }
}
