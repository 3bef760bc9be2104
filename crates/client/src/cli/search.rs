//! The arguments of `search`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::names::SessionRef;

/// Find text.
#[derive(Debug, Args)]
pub struct Search {
    /// The text, within one line; in any case, unless it has an upper-case letter
    #[arg(value_name = "TEXT", value_parser = text)]
    pub text: String,
    /// Only where no letter or digit stands beside it
    #[arg(short, long)]
    pub word: bool,
    /// Only in this session: name, id, beginning or end of an id, or "last"
    #[arg(short, long, value_name = "SESSION")]
    pub session: Option<SessionRef>,
    /// Only of commands that ran in this directory or below it
    #[arg(short = 'd', long = "dir", value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Only of commands that ended with this status
    #[arg(long, value_name = "STATUS", conflicts_with = "failed")]
    pub exit: Option<u8>,
    /// Only of commands that failed
    #[arg(long)]
    pub failed: bool,
    /// Only since then: 90s, 30m, 2h, 3d, 1w, 2026-11-20, "2026-11-20 14:00", or RFC 3339
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Only until then
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,
    /// Lines before and behind each
    #[arg(short = 'C', long, value_name = "LINES", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100))]
    pub context: u32,
    /// How many at the most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

fn text(text: &str) -> Result<String, String> {
    match text {
        "" => Err("nothing to look for".to_owned()),
        text if text.contains('\n') => Err("only what is within one line can be found".to_owned()),
        text if text.len() > shellkeep_protocol::query::SEARCH_TEXT_BYTES_MAX => Err("too long".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// A moment, said as one or as how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// Microseconds since the Unix epoch.
    pub us: u64,
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let zone = jiff::tz::TimeZone::system;
        let at = if let Some(ago) = ago(text) {
            jiff::Timestamp::now().checked_sub(ago).ok()
        } else if let Ok(at) = text.parse::<jiff::Timestamp>() {
            Some(at)
        } else if let Ok(at) = text.parse::<jiff::civil::DateTime>() {
            at.to_zoned(zone()).ok().map(|at| at.timestamp())
        } else {
            let date = text.parse::<jiff::civil::Date>().ok();
            date.and_then(|date| date.to_zoned(zone()).ok()).map(|at| at.timestamp())
        };
        let us = at.and_then(|at| u64::try_from(at.as_microsecond()).ok());
        us.map(|us| Self { us }).ok_or_else(|| "not a time: say 2h, 3d, 2026-11-20 or \"2026-11-20 14:00\"".to_owned())
    }
}

/// How long ago, as a number and a unit.
fn ago(text: &str) -> Option<jiff::SignedDuration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    Some(jiff::SignedDuration::from_secs(number.parse::<i64>().ok()?.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let now = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap();
        let hours_ago = |text: &str| (now + 1_000_000 - text.parse::<When>().unwrap().us) / 3_600_000_000;
        assert_eq!((hours_ago("2h"), hours_ago("2d"), hours_ago("120m"), hours_ago("1w")), (2, 48, 2, 168));
        assert_eq!("2026-11-20T14:00:00Z".parse::<When>().unwrap().us, 1_795_183_200_000_000);
        assert!("2026-11-20".parse::<When>().is_ok() && "2026-11-20 14:00".parse::<When>().is_ok());
        for wrong in ["", "2", "h", "2x", "-2h", "99999999999999999h", "yesterday"] {
            assert!(wrong.parse::<When>().is_err(), "{wrong}");
        }
    }
}
