//! `shellkeep replay`: a record played in this terminal, or into a pipe.

use std::io;
use std::process::ExitCode;

use super::recorded::find;
use crate::cli::Replay;
use crate::daemon_link::DaemonLink;
use crate::keeper::spool::now_us;
use crate::places::Places;
use crate::recording::{Recording, asking};
use crate::replay::Console;
use crate::replay::console::{Stream, Tty};
use crate::replay::player::{End, Player, Stop};
use crate::report::{self, Failure, Outcome};
use crate::terminal::{has_tty, size, wait_for_foreground};

/// Plays what `args` ask for.
///
/// # Errors
/// If the daemon cannot be had, there is no such session or command, or the terminal cannot be used.
pub(crate) fn run(places: &Places, args: &Replay) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = find(places, &link, args.session.as_ref())?;
    let recording = Recording::open(places, &link, session)?;
    let from = args.from.map(|id| recording.place_of(id)).transpose()?;
    if !has_tty() {
        return ended(play(&mut Stream, &link, &recording, args, from));
    }
    if !wait_for_foreground() {
        return Err(Failure::refused("this process cannot come to the foreground of its terminal"));
    }
    tell_of_small_window(&recording);
    let mut tty = Tty::enter().map_err(|error| Failure::refused(format_args!("cannot use this terminal: {error}")))?;
    let played = play(&mut tty, &link, &recording, args, from);
    tty.leave();
    ended(played)
}

fn play<C: Console>(
    console: &mut C,
    link: &DaemonLink,
    recording: &Recording,
    args: &Replay,
    from: Option<usize>,
) -> Result<End, Stop> {
    let ask = asking(link, recording.info.session);
    let idle_limit = args.idle_limit.map(|limit| limit.0);
    Player::new(console, recording, ask, end_us(recording), args.speed.0, idle_limit).play(from)
}

fn ended(played: Result<End, Stop>) -> Outcome {
    match played {
        Ok(End::Over) => Ok(ExitCode::SUCCESS),
        Ok(End::Signalled(signal)) => Ok(ExitCode::from(128u8.saturating_add(signal))),
        Err(Stop::Show(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(Stop::Show(error)) => Err(Failure::refused(format_args!("cannot write the recording: {error}"))),
        Err(Stop::Record(failure)) => Err(failure),
    }
}

/// When the recording ends, as far as that is known without reading all of it.
fn end_us(recording: &Recording) -> u64 {
    let of_commands = recording.commands.last().map(|last| last.ended_at_us.unwrap_or(last.started_at_us));
    recording.info.ended_at_us.or(of_commands).unwrap_or_else(now_us)
}

/// Said before it begins, so that it stands above the recording afterwards.
fn tell_of_small_window(recording: &Recording) {
    let (cols, rows) = recording.info.attrs.size;
    if let Some(window) = size().filter(|window| window.cols < cols || window.rows < rows) {
        report::notice(format_args!(
            "the recording is {cols} columns by {rows} rows, this window {} by {}: full-screen programs will not look right",
            window.cols, window.rows
        ));
    }
}
