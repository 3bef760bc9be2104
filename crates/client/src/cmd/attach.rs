//! `shellkeep attach`: shows a running session here, by the keeper alone; the daemon, if it answers, knows its screen.

use std::fmt;
use std::fs::File;
use std::process::ExitCode;
use std::time::Duration;

use serde_bytes::ByteBuf;
use shellkeep_protocol::attach::{ATTACH_VERSION_SCREEN, Attach as Request, FromKeeper, FromTerminal, Size};
use shellkeep_protocol::ids::SessionId;
use shellkeep_protocol::query::{Query, Reply};

use crate::cli::Attach;
use crate::config::Settings;
use crate::daemon_link::DaemonLink;
use crate::keepers;
use crate::link::LinkError;
use crate::places::Places;
use crate::report::{self, Exit, Failure, Outcome};
use crate::terminal::{self, End, Screens, Terminal};

/// How long a terminal that accepts nothing may hold a session up.
pub(super) const PATIENCE_MS: u32 = 10_000;
/// How long a daemon may take to tell the screen. Without it programs draw theirs anew, and nothing is lost.
const SCREEN_WAIT_MAX: Duration = Duration::from_millis(150);
/// What of that it may wait for output that is still on its way, in milliseconds.
const SCREEN_WAIT_MS: u32 = 120;
/// Status of a shell whose terminal was hung up, which is what a keeper's death does to its command.
const STATUS_HUNG_UP: u8 = 129;
/// What a shell adds to the number of a signal.
const STATUS_SIGNAL: u8 = 128;

pub(crate) fn run(args: &Attach) -> Outcome {
    let places = Places::from_env()?;
    let keeper = keepers::find(&places, args.session.as_ref())?;
    let info = &keeper.info;
    if controlling_tty().is_some_and(|tty| tty == info.tty) {
        return Err(Failure::refused(format_args!("session {} cannot be shown inside itself", info.session)));
    }
    let has_tty = terminal::has_tty();
    if has_tty && !terminal::wait_for_foreground() {
        return Err(Failure::refused("this process cannot get into the foreground of its terminal"));
    }
    let failed = |error: LinkError| Failure::refused(format_args!("cannot attach {}: {error}", info.session));
    let (sender, mut receiver) = keepers::dial(&keeper.socket).map_err(failed)?;
    let request = request(has_tty, Some(PATIENCE_MS));
    sender.to_keeper(&FromTerminal::Attach(request), lent(has_tty)).map_err(failed)?;
    let version = receiver.hello().map_err(failed)?;
    let master = match receiver.from_keeper().map_err(failed)? {
        FromKeeper::Attached { direct_input: true, .. } => receiver.take_descriptor().map(File::from),
        FromKeeper::Attached { .. } => None,
        FromKeeper::Refused { reason } => return Err(Failure::refused(reason)),
        other => return Err(Failure::refused(format_args!("the keeper answered {other:?}"))),
    };
    let keys = args.detach_key.keys(Settings::load_or_default(&places).as_ref());
    let screens = (version >= ATTACH_VERSION_SCREEN).then(|| screens(places.clone(), info.session));
    let terminal = Terminal { sender, receiver, master, has_tty, keys, is_starter: false, screens, name_right: None };
    show(terminal, &Shown { session: info.session, name: info.name.as_deref() })
}

/// Asks the daemon, if one runs and answers, what a session's terminal shows.
pub(super) fn screens(places: Places, session: SessionId) -> Screens {
    Box::new(move |at_least, size: Size| {
        let (cols, rows, wait_ms) = (size.cols, size.rows, SCREEN_WAIT_MS);
        let query = Query::Screen { session, at_least, cols, rows, wait_ms };
        match DaemonLink::ask_running(&places, &query, SCREEN_WAIT_MAX)? {
            Reply::Screen(screen) => screen,
            _ => None,
        }
    })
}

/// Which session is shown, in the words of its user.
pub(super) struct Shown<'a> {
    pub(super) session: SessionId,
    pub(super) name: Option<&'a str>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => self.session.fmt(f),
        }
    }
}

/// How this process wants to be shown a session.
pub(super) fn request(has_tty: bool, patience_ms: Option<u32>) -> Request {
    let agent = std::env::var_os("SSH_AUTH_SOCK").unwrap_or_default();
    Request {
        size: has_tty.then(terminal::size).flatten(),
        tty: has_tty,
        ssh_auth_sock: ByteBuf::from(std::os::unix::ffi::OsStringExt::into_vec(agent)),
        patience_ms,
    }
}

/// The descriptors that go beside a request: the tty, if there is one.
pub(super) fn lent(has_tty: bool) -> &'static [std::os::fd::BorrowedFd<'static>] {
    use std::sync::OnceLock;
    static TTY: OnceLock<[std::os::fd::BorrowedFd<'static>; 1]> = OnceLock::new();
    if has_tty { TTY.get_or_init(|| [rustix::stdio::stdout()]) } else { &[] }
}

/// Shows an attached session until it is over here, and says with which status to end.
pub(super) fn show(terminal: Terminal, session: &Shown<'_>) -> Outcome {
    finish(run_terminal(terminal)?, session)
}

/// Shows an attached session until it is over here.
pub(super) fn run_terminal(terminal: Terminal) -> Result<End, Failure> {
    terminal.run().map_err(|error| Failure::refused(format_args!("cannot use this terminal: {error}")))
}

/// Says how it came to its end, and with which status to end.
pub(super) fn finish(end: End, session: &Shown<'_>) -> Outcome {
    Ok(match end {
        End::Exited(exit) => ExitCode::from(exit.code()),
        End::Detached => {
            report::notice(format_args!("detached from {session}; \"shellkeep attach {session}\" comes back to it"));
            ExitCode::SUCCESS
        }
        End::Signalled(signal) => ExitCode::from(STATUS_SIGNAL.saturating_add(signal)),
        End::OutputClosed => ExitCode::SUCCESS,
        End::NotKept(reason) => return Err(Failure::refused(reason)),
        End::NotStarted { status, reason } => {
            let message = format!("cannot start the command: {reason}");
            report::failure(&Failure { message, hint: None, exit: Exit::Refused });
            ExitCode::from(status)
        }
        End::Lost(error) => {
            let message = format!("session {session} is lost: {error}");
            let failure = Failure::refused(message).with_hint("what it printed was recorded: \"shellkeep output\"");
            report::failure(&failure);
            ExitCode::from(STATUS_HUNG_UP)
        }
    })
}

/// Device number of the terminal that controls this process, if one does. Source: proc(5), `tty_nr`.
pub(super) fn controlling_tty() -> Option<u64> {
    const TTY_NR: usize = 7;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; what follows it does not.
    let (_, fields) = stat.rsplit_once(')')?;
    let number: u32 = fields.split_ascii_whitespace().nth(TTY_NR - 3)?.parse::<i64>().ok()?.try_into().ok()?;
    // The kernel's old encoding: minor in bits 31..20 and 7..0, major in bits 19..8.
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
    (number != 0).then(|| rustix::fs::makedev(major, minor))
}
