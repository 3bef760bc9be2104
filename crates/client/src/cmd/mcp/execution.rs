//! Running one command for an agent, to its end, with its output in memory.

use std::fmt::Write as _;

use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::registry::{
    Ask, EntryInfo, ExecuteCommand, ExecutionEvent, InvocationId, RegistryError, STDIN_BYTES_MAX, Told, TrustQuestion,
};
use shellkeep_transport::CancellationToken;

use super::super::note::Outside;
use super::super::run::asked_environment;
use crate::daemon_link::DaemonLink;
use crate::places::Places;
use crate::report::Exit;

/// What an agent is given of each of the two outputs; the rest is left out, and that is said.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// How long one question for what it has done waits.
const FOLLOW_WAIT_MS: u32 = 30_000;

/// Lines of what would run that an agent is told.
const RUNS_LINES_MAX: usize = 40;

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) stdout: Text,
    pub(super) stderr: Text,
    /// Texts for an agent.
    pub(super) prompts: Vec<String>,
    /// `None` if it came to nothing, which `stderr` says.
    pub(super) status: Option<i32>,
}

/// Output, up to the bound.
#[derive(Debug, Default)]
pub(super) struct Text {
    bytes: Vec<u8>,
    left_out: usize,
}

impl Text {
    fn add(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(OUTPUT_BYTES_MAX.saturating_sub(self.bytes.len()));
        self.bytes.extend_from_slice(&bytes[..fits]);
        self.left_out += bytes.len() - fits;
    }

    /// All of it, with a line of how much is missing.
    pub(super) fn shown(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.left_out > 0 {
            let _infallible = writeln!(text, "\n[{} more bytes are left out]", self.left_out);
        }
        text
    }
}

/// Runs it. Blocking; ends soon when `cancel` is.
pub(super) fn run(
    places: &Places,
    session: Option<SessionId>,
    entry: &EntryInfo,
    args: Vec<String>,
    stdin: Vec<u8>,
    cancel: &CancellationToken,
) -> Done {
    let mut done = Done::default();
    let called = session.map(|session| Outside::called(session, &entry.qualified_name, &args));
    let followed = begin(places, session, entry, args, stdin).and_then(|(link, invocation)| {
        let followed = follow(&link, invocation, cancel, &mut done);
        let exit = done.status.map(|status| u8::try_from(status).unwrap_or(Exit::Refused as u8));
        let _as_far_as_its_keeper_takes_it = called.map(|called| called.ended(places, &link, exit));
        followed
    });
    if let Err(why) = followed {
        done.stderr.add(why.as_bytes());
    }
    done
}

fn begin(
    places: &Places,
    session: Option<SessionId>,
    entry: &EntryInfo,
    args: Vec<String>,
    stdin: Vec<u8>,
) -> Result<(DaemonLink, InvocationId), String> {
    if stdin.len() > STDIN_BYTES_MAX {
        return Err("stdin has more than 1 MiB".to_owned());
    }
    let link = DaemonLink::reach(places).map_err(|failure| failure.message)?;
    let execute = ExecuteCommand {
        session,
        command: entry.id.clone(),
        args,
        stdin,
        env: asked_environment(),
        cwd: std::env::current_dir().ok().and_then(|cwd| cwd.into_os_string().into_string().ok()),
        ..ExecuteCommand::default()
    };
    match link.ask_commands(&Ask::Execute(execute)).map_err(|failure| failure.message)? {
        Ok(Told::Accepted { invocation, .. }) => Ok((link, invocation)),
        Ok(_) => Err("the daemon answered another question".to_owned()),
        Err(RegistryError::NotTrusted(question)) => Err(not_trusted(&question)),
        Err(error) => Err(error.to_string()),
    }
}

/// Takes what it does into `done`, to its end.
fn follow(
    link: &DaemonLink,
    invocation: InvocationId,
    cancel: &CancellationToken,
    done: &mut Done,
) -> Result<(), String> {
    let (mut from, mut is_cancelled) = (0, false);
    loop {
        let ask = Ask::Follow { invocation, from, wait_ms: FOLLOW_WAIT_MS };
        let cancelled = async { if is_cancelled { std::future::pending().await } else { cancel.cancelled().await } };
        let told = match link.ask_commands_unless(&ask, cancelled).map_err(|failure| failure.message)? {
            None => {
                is_cancelled = true;
                let _ended_already = stop(link, invocation);
                continue;
            }
            Some(told) => told.map_err(|error| error.to_string())?,
        };
        let Told::Events { events, next, is_last } = told else {
            return Err("the daemon answered another question".to_owned());
        };
        from = next;
        for event in events {
            match event {
                ExecutionEvent::Stdout(bytes) => done.stdout.add(&bytes),
                ExecutionEvent::Stderr(bytes) => done.stderr.add(&bytes),
                ExecutionEvent::Prompt { text } => done.prompts.push(text),
                ExecutionEvent::Exit { code } => done.status = Some(code),
                ExecutionEvent::Error(error) => return Err(error.to_string()),
                ExecutionEvent::Client(_) => return Err("only a shell can do that".to_owned()),
                ExecutionEvent::Progress { .. } => {}
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

fn stop(link: &DaemonLink, invocation: InvocationId) -> Option<Told> {
    link.ask_commands(&Ask::Cancel { invocation }).ok()?.ok()
}

/// What an agent is told instead of a yes: what would run, and who can agree to it.
fn not_trusted(question: &TrustQuestion) -> String {
    let name = &question.entry.qualified_name;
    let changed =
        if question.before.is_some() { "has changed since the user agreed to it" } else { "is not trusted yet" };
    let mut text = format!(
        "{name} {changed}, and only the user can agree to it: \"shellkeep trust {name}\" at a terminal.\nThis is what it would run:\n"
    );
    for line in question.runs.iter().take(RUNS_LINES_MAX) {
        let _infallible = writeln!(text, "  {line}");
    }
    if question.runs.len() > RUNS_LINES_MAX {
        let _infallible = writeln!(text, "  … and {} more lines", question.runs.len() - RUNS_LINES_MAX);
    }
    text
}
