//! `shellkeep pkg`: packages of commands.
//!
//! Promise: of several packages each is told by itself, and the status is 1 if one failed. Everything is done in this process, under the
//! packages' own lock: no daemon is needed, and it sees the change by itself.

mod bar;
mod change;
mod make;
mod show;

use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use shellkeep_daemon::packages::{Freshness, Held, PackageError, Packages, Source};

use clap::Parser as _;

use crate::cli::{Cli, Command, IndexPlace, PkgVerb};
use crate::config::Settings;
use crate::places::{self, Places};
use crate::report::{self, Exit, Failure, Outcome};

pub(super) fn run(places: &Places, verb: &PkgVerb) -> Outcome {
    let packages = Packages::new(&places.packages());
    if matches!(verb, PkgVerb::Install(_) | PkgVerb::Update(_) | PkgVerb::Search(_) | PkgVerb::Upgrade(_)) {
        places::prepare(&places.data)?;
    }
    let here = Here { places, packages };
    match verb {
        PkgVerb::Install(args) => change::install(&here, args),
        PkgVerb::Upgrade(args) => change::upgrade(&here, args),
        PkgVerb::Remove(args) => change::remove(&here, args),
        PkgVerb::Rollback(args) => change::rollback(&here, args),
        PkgVerb::List(args) => show::list(&here, args.json),
        PkgVerb::Info(args) => show::info(&here, args),
        PkgVerb::Search(args) => show::search(&here, args),
        PkgVerb::Update(args) => show::update(&here, args),
        PkgVerb::Verify(args) => show::verify(&here, args),
        PkgVerb::Build(args) => make::build(args),
        PkgVerb::Index(args) => make::index(args),
    }
}

/// The same with what somebody has typed behind `pkg`.
pub(super) fn run_words(places: &Places, words: &[String]) -> Outcome {
    let words = ["shellkeep", "pkg"].into_iter().chain(words.iter().map(String::as_str));
    match Cli::try_parse_from(words).map(|cli| cli.command) {
        Ok(Some(Command::Pkg(args))) => run(places, &args.verb),
        Ok(_) => Err(Failure::usage("it is no command of packages")),
        Err(error) => Ok(super::say_usage(&error, None)),
    }
}

/// How long an index that nobody was asked about counts as it is.
const INDEX_FRESH: Duration = Duration::from_hours(24);

/// One user's packages, and where new ones are looked for.
struct Here<'a> {
    places: &'a Places,
    packages: Packages,
}

impl Here<'_> {
    /// The index that the command line, the environment or the settings name.
    fn source(&self, said: &IndexPlace) -> Result<Source, Failure> {
        let said = said.place.clone().filter(|place| !place.is_empty());
        let place = match said {
            Some(place) => place,
            None => Settings::load(self.places)?.packages.index,
        };
        if place.is_empty() {
            return Err(failed(&PackageError::NoIndex));
        }
        Source::parse(&place).map_err(|error| failed(&error.into()))
    }

    fn index(&self, said: &IndexPlace, freshness: Freshness) -> Result<Held, Failure> {
        let source = self.source(said)?;
        if source.is_unprotected() {
            report::notice(format_args!("{source} is not protected on its way here: whoever is between can change it"));
        }
        let held = self.packages.read_index(&source, freshness).map_err(|error| failed(&error))?;
        if let Some(why) = &held.stale {
            report::notice(format_args!("the index is as it was last seen: {why}"));
        }
        if let Some(seen) = held.seen.filter(|seen| seen.elapsed().is_ok_and(|age| age > INDEX_FRESH)) {
            let us =
                seen.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
            report::notice(format_args!(
                "the index is as it was seen at {}; \"shellkeep pkg update\" looks at it anew",
                super::local_time(us)
            ));
        }
        if held.index.left_out > 0 {
            report::notice(format_args!(
                "left out of the index, because they are not as they may be: {}",
                held.index.left_out
            ));
        }
        Ok(held)
    }
}

/// What went wrong, with what to do now.
fn failed(error: &PackageError) -> Failure {
    let failure = match error {
        PackageError::NoSpec(_) | PackageError::Rename(_) => Failure::usage(error),
        _ => Failure::refused(error),
    };
    match error.hint() {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

fn told(notes: &[String]) {
    for note in notes {
        report::notice(note);
    }
}

/// 0, or 1 if something of it failed.
fn status(all_is_well: bool) -> ExitCode {
    if all_is_well { ExitCode::SUCCESS } else { ExitCode::from(Exit::Refused as u8) }
}
