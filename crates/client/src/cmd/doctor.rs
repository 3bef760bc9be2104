//! `doctor`: looks for what is wrong with this installation, and says what to do.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use shellkeep_daemon::lock::Lock;
use shellkeep_protocol::registry::{Ask, Told};

use crate::config::Settings;
use crate::daemon_link::{DaemonLink, in_the_way};
use crate::keepers;
use crate::places::{Places, prepare};
use crate::report::{self, Outcome};

/// Less room than this is worth a word: a busy session fills it within a minute.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// How long the daemon may take to look at the directory of the session around us, and then to answer.
const COMMANDS_WAIT_MAX: Duration = Duration::from_secs(3);

/// Checks places, settings, the daemon and keepers; status 1 if something is wrong. Changes nothing but makes missing
/// directories.
///
/// # Errors
/// None of its own: what is wrong is the result.
pub(crate) fn run(places: &Places) -> Outcome {
    let mut is_well = true;
    let mut say = |what: &str, found: Result<String, String>| {
        let (mark, text) = match found {
            Ok(text) => ("ok   ", text),
            Err(text) => {
                is_well = false;
                ("WRONG", text)
            }
        };
        report::result(&format!("{mark}  {what}: {}\n", report::printable(&text)))
    };
    for (what, path) in [("sockets", &places.run), ("state", &places.state)] {
        let found = prepare(path).map_err(|error| format!("{error}; {}", error.hint()));
        say(what, found.map(|()| path.display().to_string()))?;
    }
    say("space", space(&places.state))?;
    let settings = Settings::load(places).map_err(|failure| failure.message);
    say("settings", settings.map(|_| places.config_file().display().to_string()))?;
    if let Some(failure) = in_the_way(places) {
        say("socket", Err(failure.message))?;
    }
    let daemon = match (DaemonLink::running(places), Lock::holder(&places.lock())) {
        (Ok(Some(_)), Ok(Some(pid))) => Ok(format!("answers, process {pid}")),
        (_, Ok(None)) => Ok("not running; the next command starts it".to_owned()),
        (_, Ok(Some(pid))) => Err(format!("process {pid} does not answer; try \"shellkeep daemon restart\"")),
        (_, Err(error)) => Err(format!("{}: {error}", places.lock().display())),
    };
    say("daemon", daemon)?;
    for told in about_commands(places) {
        report::result(&format!("note   commands: {}\n", report::printable(&told)))?;
    }
    let running = keepers::running(places);
    let alone = running.iter().filter(|keeper| !keeper.info.connected).count();
    say("sessions", Ok(format!("{} running, {alone} of them not connected to a daemon", running.len())))?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a running daemon knows to be wrong with sources of commands, names that differ only in case among it. That is of
/// a project's files, not of this installation: it is told, and makes nothing wrong.
fn about_commands(places: &Places) -> Vec<String> {
    let session = keepers::around_us();
    let wait_ms = u32::try_from(COMMANDS_WAIT_MAX.as_millis()).unwrap_or(u32::MAX);
    let ask = |ask: &Ask| DaemonLink::ask_commands_running(places, ask, COMMANDS_WAIT_MAX * 2);
    let _looked_at_as_far_as_it_went = ask(&Ask::Settle { session, here: super::commands::here(session), wait_ms });
    match ask(&Ask::Diagnostics { session }) {
        Some(Ok(Told::Diagnostics(all))) => all.iter().map(super::reload::told).collect(),
        _ => Vec::new(),
    }
}

/// Whether records find room.
fn space(state: &Path) -> Result<String, String> {
    let found = rustix::fs::statvfs(state).map_err(|errno| format!("{}: {errno}", state.display()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let shown = format!("{} free for records", report::size(free));
    let low = |what: &str| Err(format!("{shown}{what}; make room, or remove sessions with \"shellkeep rm\""));
    match (free < FREE_BYTES_MIN, found.f_files > 0 && found.f_favail == 0) {
        (true, _) => low(""),
        (false, true) => low(", but no free inode"),
        (false, false) => Ok(shown),
    }
}
