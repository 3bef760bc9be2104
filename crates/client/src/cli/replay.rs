//! `shellkeep replay`: what can be said to it.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::names::SessionRef;

/// What stands under the help.
pub(super) const HELP: &str = "Keys:\n  space      pause, or go on\n  .          one step, while paused\n  \
right, n   next command\n  left, p    this command from its start, or the one before\n  +, >, up   faster\n  \
-, <, down slower\n  ?          these keys\n  q, Ctrl-C  quit\n\nA line below the recording says where it is; without \
room for one, it is shown while paused.\nWhat would ask the terminal something, or change it for longer than the replay \
(its clipboard, title, colours,\nmouse, scrollback, images), is left out. Into a pipe the recording goes with its timing, \
without keys.\n\nExamples:\n  shellkeep replay last --speed 2 --idle-limit 1\n  shellkeep replay build-7 --from 3";

/// Greatest and smallest speed.
const SPEED_MAX: f64 = 1000.0;
const SPEED_MIN: f64 = 0.01;

/// Longest idle limit that means anything, in seconds.
const IDLE_SECONDS_MAX: f64 = 86_400.0;

/// Play a session here.
#[derive(Debug, Args)]
pub struct Replay {
    /// Name, id, beginning or end of an id, or "last"; inside a session it may be left out
    pub session: Option<SessionRef>,
    /// How many times faster than it was; 0.5 is half as fast
    #[arg(short, long, value_name = "X", default_value = "1")]
    pub speed: Speed,
    /// Longest pause, in seconds of the recording
    #[arg(short, long, value_name = "S")]
    pub idle_limit: Option<IdleLimit>,
    /// Begin with the command of this number in `history`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub from: Option<u64>,
}

/// A speed: a positive number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed(pub f64);

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim_end_matches(['x', '\u{d7}']).parse() {
            Ok(speed) if (SPEED_MIN..=SPEED_MAX).contains(&speed) => Ok(Self(speed)),
            _ => Err(format!("a speed is a number from {SPEED_MIN} to {SPEED_MAX}")),
        }
    }
}

/// The longest pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleLimit(pub Duration);

impl FromStr for IdleLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim_end_matches('s').parse() {
            Ok(seconds) if (0.0..=IDLE_SECONDS_MAX).contains(&seconds) => Ok(Self(Duration::from_secs_f64(seconds))),
            _ => Err(format!("a limit is a number of seconds from 0 to {IDLE_SECONDS_MAX}")),
        }
    }
}
