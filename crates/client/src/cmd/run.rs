//! `shellkeep run`: runs a command of the session, with its output here.
//!
//! Promise: what the user agreed to is what runs; its output comes as it prints it, its status is ours, Ctrl-C reaches it as it would in the
//! shell, and a second one ends it; a daemon that goes away meanwhile is told, never waited for in vain.

use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{
    Ask, ClientEffect, ExecuteCommand, ExecutionEvent, InvocationId, Kind, RegistryError, STDIN_BYTES_MAX, Told,
    is_passed,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::commands::{refused, session, unexpected, unknown};
use super::note::{Noted, Outside};
use super::trust;
use crate::cli::{self, DaemonVerb};
use crate::daemon_link::DaemonLink;
use crate::places::Places;
use crate::report::{self, Exit, Failure, Outcome, printable_line};

/// How long one question for what it has done waits.
const FOLLOW_WAIT_MS: u32 = 30_000;

/// Times that a lost connection to the daemon is made again.
const RECONNECTS_MAX: u32 = 3;

/// Status of a command whose time is over, as `timeout` of coreutils has it.
const TIME_OVER: u8 = 124;

/// How long a command may go on after Ctrl-C before it is said that another one ends it.
const STUBBORN_AFTER: Duration = Duration::from_secs(1);

/// Status of a command that a signal has ended: this and the signal's number.
const SIGNALLED: i32 = 128;

/// What may be missing to a command that has failed.
const WITHOUT_TERMINAL: &str = "it had no terminal and of your variables only PATH, HOME, LANG, LC_*, TMPDIR and TERM (\"--env NAME\" \
                                passes one more); if it needs one, type it yourself";

/// Runs it to its end.
///
/// # Errors
/// If it does not run, and why.
pub(super) fn run(places: &Places, args: &cli::Run) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = session(places, &link, args.session.as_ref())?;
    let execute = execute(session, args)?;
    let is_asking = Arc::new(AtomicBool::new(false));
    let (signals, interrupts) = signals(&is_asking)?;
    let hints = !args.stdin && std::io::stderr().is_terminal();
    let ended = begin(&link, execute, &args.name, &is_asking).map(|(invocation, typed)| {
        // From here on it runs: it is the session's, whatever comes of it.
        let outside = Outside::begin(places, session, &args.name, &args.args);
        let typed = typed.filter(|_| hints);
        let mut following =
            Following { places, link, invocation, typed, from: 0, interrupts, ended_by: None, is_told: false };
        (outside, following.follow(), following.link)
    });
    signals.close();
    let (outside, followed, link) = ended?;
    let exit = match &followed {
        Ok(Ended::With(code)) => Some(*code),
        Ok(Ended::By(signal)) => Some(status(SIGNALLED + signal)),
        Ok(Ended::Here(_)) | Err(_) => None,
    };
    if let Ok(Ended::Here(outcome)) = followed {
        return outcome;
    }
    let missing = match outside.map(|outside| outside.ended(places, &link, exit)) {
        Some(Noted::TooOld) => Some("is of an older version"),
        Some(Noted::Failed) => Some("does not answer"),
        Some(Noted::Yes) | None => None,
    };
    if let Some(why) = missing {
        report::notice(format_args!("the session's record does not have it: its keeper {why}"));
    }
    match followed? {
        Ended::By(signal) => Ok(die_of(signal)),
        _ => Ok(ExitCode::from(exit.unwrap_or_default())),
    }
}

fn execute(session: Option<SessionId>, args: &cli::Run) -> Result<ExecuteCommand, Failure> {
    let mut stdin = Vec::new();
    if args.stdin {
        let limit = STDIN_BYTES_MAX as u64 + 1;
        let read = std::io::stdin().lock().take(limit).read_to_end(&mut stdin);
        read.map_err(|error| Failure::refused(format_args!("cannot read standard input: {error}")))?;
        if stdin.len() > STDIN_BYTES_MAX {
            return Err(Failure::refused("standard input has more than 1 MiB"));
        }
    }
    let cwd = std::env::current_dir().ok().and_then(|cwd| cwd.into_os_string().into_string().ok());
    Ok(ExecuteCommand {
        session,
        command: args.name.clone(),
        args: args.args.clone(),
        digest: None,
        stdin,
        env: asked_environment(),
        merged: outputs_are_one(),
        given: args.env.iter().map(|given| given_variable(given)).collect::<Result<_, _>>()?,
        cwd,
        time_max_ms: args.time_limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
    })
}

/// Whether both our outputs go to the same place, as at a terminal: then what comes has to keep its order.
fn outputs_are_one() -> bool {
    let stats = (rustix::fs::fstat(rustix::stdio::stdout()), rustix::fs::fstat(rustix::stdio::stderr()));
    let (Ok(out), Ok(err)) = stats else { return false };
    (out.st_dev, out.st_ino, out.st_rdev) == (err.st_dev, err.st_ino, err.st_rdev)
}

/// `NAME=VALUE` as it is, `NAME` with the value that it has here.
fn given_variable(given: &str) -> Result<(String, String), Failure> {
    if let Some((name, value)) = given.split_once('=') {
        return Ok((name.to_owned(), value.to_owned()));
    }
    match std::env::var(given) {
        Ok(value) => Ok((given.to_owned(), value)),
        Err(_) => Err(Failure::usage(format_args!("the variable \"{given}\" is not set here, or is not UTF-8"))
            .with_hint(format_args!("\"--env {given}=VALUE\" gives it one"))),
    }
}

/// Of our environment what a command may get.
pub(super) fn asked_environment() -> Vec<(String, String)> {
    let all = std::env::vars_os();
    let texts = all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(name, _)| is_passed(name)).collect()
}

/// What has begun, and the line that does the same.
type Begun = (InvocationId, Option<String>);

/// Begins; asks the user first if that is needed, and then runs just what was shown.
fn begin(
    link: &DaemonLink,
    mut execute: ExecuteCommand,
    typed: &str,
    is_asking: &AtomicBool,
) -> Result<Begun, Failure> {
    let session = execute.session;
    let question = match link.ask_commands(&Ask::Execute(execute.clone()))? {
        Ok(Told::Accepted { invocation, line, .. }) => return Ok((invocation, line)),
        Ok(_) => return Err(unexpected()),
        Err(RegistryError::NotTrusted(question)) => question,
        Err(error) => return Err(unknown(link, session, &error)),
    };
    let entry = &question.entry;
    if entry.kind == Kind::McpServer {
        return Err(Failure::refused(format_args!(
            "{} is a server, which offers commands and is none",
            entry.qualified_name
        ))
        .with_hint(format_args!(
            "\"shellkeep trust {}\" starts it, then \"shellkeep commands {}\" lists them",
            entry.qualified_name, entry.name
        )));
    }
    trust::check_can_run(entry)?;
    is_asking.store(true, Ordering::SeqCst);
    let agreed = trust::agreed(link, session, &question);
    is_asking.store(false, Ordering::SeqCst);
    if !agreed? {
        return Err(trust::declined(entry, &format!("shellkeep run {typed}")));
    }
    execute.command.clone_from(&entry.id);
    execute.digest = Some(entry.digest);
    match link.ask_commands(&Ask::Execute(execute))? {
        Ok(Told::Accepted { invocation, line, .. }) => Ok((invocation, line)),
        Ok(_) => Err(unexpected()),
        Err(error) => Err(refused(&error)),
    }
}

/// Signals that are meant for the command, as they come. While the user is asked they end us, as they end any program.
fn signals(is_asking: &Arc<AtomicBool>) -> Result<(signal_hook::iterator::Handle, UnboundedReceiver<i32>), Failure> {
    let failed = |error: std::io::Error| Failure::refused(format_args!("cannot handle signals: {error}"));
    for signal in MEANT {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(is_asking)).map_err(failed)?;
    }
    let mut signals = signal_hook::iterator::Signals::new(MEANT).map_err(failed)?;
    let handle = signals.handle();
    let (tell, told) = unbounded_channel(); // a signal each, typed by a person
    let forward = move || signals.forever().for_each(|signal| _ = tell.send(signal)); // nobody listens any more at the end
    std::thread::Builder::new().name("signals".into()).spawn(forward).map_err(failed)?;
    Ok((handle, told))
}

/// Those that are passed on.
const MEANT: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// How a command ended.
enum Ended {
    /// With this status.
    With(u8),
    /// By a signal that its user sent.
    By(i32),
    /// By what this program was to do itself, and no command of the session.
    Here(Outcome),
}

/// A command whose output is shown.
struct Following<'a> {
    places: &'a Places,
    link: DaemonLink,
    invocation: InvocationId,
    /// What does the same when it is typed, for who may have to.
    typed: Option<String>,
    /// Events that were shown.
    from: u64,
    interrupts: UnboundedReceiver<i32>,
    /// The last signal that was passed on.
    ended_by: Option<i32>,
    /// The user knows that it goes on all the same.
    is_told: bool,
}

impl Following<'_> {
    fn follow(&mut self) -> Result<Ended, Failure> {
        let mut reconnects = 0;
        loop {
            let wait = self
                .ended_by
                .map_or(FOLLOW_WAIT_MS, |_| STUBBORN_AFTER.as_millis().try_into().unwrap_or(FOLLOW_WAIT_MS));
            let ask = Ask::Follow { invocation: self.invocation, from: self.from, wait_ms: wait };
            let mut signal = None;
            let interrupts = &mut self.interrupts;
            let answer = self.link.ask_commands_unless(&ask, async { signal = interrupts.recv().await });
            let told = match answer {
                Ok(None) => {
                    let Some(signal) = signal else { return Err(Failure::bug(&"no signal can come any more")) };
                    self.pass_on(signal)?;
                    continue;
                }
                Ok(Some(told)) => told.map_err(|error| refused(&error))?,
                Err(_) => {
                    // The daemon may live: what it ran goes on for a while, to be followed again.
                    reconnects += 1;
                    let link = DaemonLink::running(self.places)?.filter(|_| reconnects <= RECONNECTS_MAX);
                    self.link = link.ok_or_else(|| refused(&RegistryError::Interrupted))?;
                    continue;
                }
            };
            let Told::Events { events, next, is_last } = told else { return Err(unexpected()) };
            self.from = next;
            for event in events {
                if let Some(ended) = self.show(event)? {
                    return Ok(ended);
                }
            }
            if is_last {
                return Err(Failure::bug(&"a command ended without an end"));
            }
        }
    }

    /// Ctrl-C once is INT, which the command may take as it likes; again, or any other signal, is its end.
    fn pass_on(&mut self, signal: i32) -> Result<(), Failure> {
        let invocation = self.invocation;
        let is_first = self.ended_by.replace(signal).is_none();
        let ask = if is_first && signal == SIGINT { Ask::Interrupt { invocation } } else { Ask::Cancel { invocation } };
        drop(self.link.ask_commands(&ask)?); // it may have ended just now: then its end is what comes next
        Ok(())
    }

    /// Shows one event; the status if it was the last.
    fn show(&mut self, event: ExecutionEvent) -> Result<Option<Ended>, Failure> {
        match event {
            ExecutionEvent::Stdout(bytes) => write(&mut std::io::stdout().lock(), &bytes)?,
            ExecutionEvent::Stderr(bytes) => write(&mut std::io::stderr().lock(), &bytes)?,
            ExecutionEvent::Prompt { text } => {
                let end = if text.ends_with('\n') { "" } else { "\n" };
                // An agent gets it as it is; a terminal would act on it.
                let text = if std::io::stdout().is_terminal() { visible(&text) } else { text };
                report::result(&format!("{text}{end}"))?;
            }
            ExecutionEvent::Progress { .. } => self.tell_that_it_goes_on(),
            ExecutionEvent::Client(effect) => return Ok(Some(Ended::Here(self.take_effect(&effect)))),
            ExecutionEvent::Exit { code } => {
                if let Some(signal) = self.ended_by.filter(|signal| code == SIGNALLED + signal) {
                    return Ok(Some(Ended::By(signal)));
                }
                if let Some(line) = self.typed.as_ref().filter(|_| code != 0) {
                    report::hint(format_args!("{WITHOUT_TERMINAL}: {line}"));
                }
                return Ok(Some(Ended::With(status(code))));
            }
            ExecutionEvent::Error(RegistryError::Cancelled) if self.ended_by.is_some() => {
                return Ok(self.ended_by.map(Ended::By));
            }
            ExecutionEvent::Error(error @ RegistryError::Timeout { .. }) => {
                report::failure(&Failure::refused(&error).with_hint("\"--time-limit\" gives it more"));
                return Ok(Some(Ended::With(TIME_OVER)));
            }
            ExecutionEvent::Error(error) => return Err(refused(&error)),
        }
        Ok(None)
    }

    /// Once, to somebody who pressed Ctrl-C in vain.
    fn tell_that_it_goes_on(&mut self) {
        if self.ended_by == Some(SIGINT) && !std::mem::replace(&mut self.is_told, true) {
            report::notice("it goes on after Ctrl-C; once more ends it");
        }
    }

    fn take_effect(&self, effect: &ClientEffect) -> Outcome {
        let own =
            |what: &str| Failure::refused(format_args!("only your shell can do that: type \"{what}\" at its prompt"));
        match effect {
            ClientEffect::ChangeDirectory(directory) => Err(own(&format!("cd {directory}"))),
            ClientEffect::Exit => Err(own("exit")),
            ClientEffect::StopDaemon => {
                let stopped = super::daemon::steer(self.places, &DaemonVerb::Stop)?;
                report::notice("the daemon is stopped; sessions go on, and the next command that needs it starts it");
                Ok(stopped)
            }
            ClientEffect::Packages(words) => super::pkg::run_words(self.places, words),
        }
    }
}

/// Of the same signal as the command, as a shell expects it: a loop in which we run ends too.
fn die_of(signal: i32) -> ExitCode {
    let _not_dead = signal_hook::low_level::emulate_default_handler(signal);
    ExitCode::from(status(SIGNALLED + signal))
}

/// Text of a project without what a terminal would act on.
fn visible(text: &str) -> String {
    text.lines().map(|line| printable_line(line) + "\n").collect()
}

/// What a command prints goes on as it is: it is as if it ran here.
fn write(to: &mut impl std::io::Write, bytes: &[u8]) -> Result<(), Failure> {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::refused(format_args!("cannot write its output: {error}")))
        }
        _ => Ok(()),
    }
}

fn status(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(Exit::Refused as u8)
}
