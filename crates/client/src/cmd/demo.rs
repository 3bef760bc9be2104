//! `shellkeep demo`: kills the daemon over and over under a session that prints, then compares every byte.
//!
//! Everything real: processes, PTY, sockets, files, in a home of its own that is removed. `--sabotage` leaves one record
//! out of what is read back, to show that the comparison can fail. Promise: nothing it started is left behind.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use shellkeep_daemon::lock::Lock;
use shellkeep_protocol::query::Query;

use crate::cli::Demo;
use crate::daemon_link::{DaemonLink, STATUS_WAIT_MAX};
use crate::keepers;
use crate::places::Places;
use crate::report::{self, Failure, Outcome};

/// Kills unless told otherwise.
pub const KILLS_DEFAULT: u32 = 200;

/// The longest that any step may take before the demo gives up.
const STEP_WAIT_MAX: Duration = Duration::from_secs(20);

/// Pause between two looks at a state that sends no event.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// Kills come this long after the daemon serves again: while it registers, streams, syncs. Milliseconds.
const KILL_AFTER_MS: std::ops::Range<u64> = 0..25;

/// What came of it.
struct Played {
    kills: u32,
    printed: Vec<u8>,
    recorded: Vec<u8>,
    reconnects: Vec<Duration>,
}

/// `shellkeep demo`.
///
/// # Errors
/// If a step fails. Lost or doubled output is no error of the demo but its result: status 1.
pub(crate) fn run(options: &Demo) -> Outcome {
    if let Some(directory) = &options.chatter {
        return chatter(directory);
    }
    let home =
        tempfile::Builder::new().prefix("shellkeep-demo-").tempdir().map_err(|error| failed("make a home", &error))?;
    let world = World { places: Places::under(home.path()), home: home.path().to_owned() };
    let outcome = world.play(options);
    world.clean_up();
    let result = outcome?;
    let (text, is_whole) = table(&result, options);
    report::result(&text)?;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The session of the demo: prints numbered lines until the file `stop` appears, and keeps a copy of what it printed.
///
/// # Errors
/// If it cannot print.
fn chatter(directory: &Path) -> Outcome {
    let copy = File::create(directory.join("printed")).map_err(|error| failed("keep a copy", &error))?;
    let mut copy = BufWriter::new(copy);
    raw_output();
    let mut out = std::io::stdout().lock();
    let mut number = 0u64;
    while !directory.join("stop").exists() {
        for _ in 0..64 {
            number += 1;
            let line = format!("\x1b[3{}mline {number} of a session that is kept\x1b[0m\r\n", number % 8);
            out.write_all(line.as_bytes())
                .and_then(|()| copy.write_all(line.as_bytes()))
                .map_err(|e| failed("print", &e))?;
        }
        out.flush().map_err(|error| failed("print", &error))?;
        std::thread::sleep(Duration::from_millis(2)); // a busy program, not a flood: the kills are the point
    }
    copy.flush().map_err(|error| failed("keep a copy", &error))?;
    Ok(ExitCode::SUCCESS)
}

/// The terminal would turn each line feed into two bytes: what is printed shall be what is recorded.
fn raw_output() {
    if let Ok(mut modes) = rustix::termios::tcgetattr(std::io::stdout()) {
        modes.output_modes &= !rustix::termios::OutputModes::OPOST;
        let _ = rustix::termios::tcsetattr(std::io::stdout(), rustix::termios::OptionalActions::Now, &modes);
    }
}

struct World {
    places: Places,
    home: PathBuf,
}

impl World {
    fn play(&self, options: &Demo) -> Result<Played, Failure> {
        report::notice(format_args!(
            "a session prints, and the daemon that records it is killed {} times",
            options.kills
        ));
        let home = self.home.display().to_string();
        let session = self.shellkeep(&["start", "--detached", "--", &program()?, "demo", "--chatter", &home])?;
        let session = session.trim().to_owned();
        let bar = indicatif::ProgressBar::new(options.kills.into());
        let style = indicatif::ProgressStyle::with_template("{bar:40} {pos}/{len} kills  {msg}");
        bar.set_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()));
        let mut reconnects = Vec::new();
        let mut rng = fastrand::Rng::new();
        for _ in 0..options.kills {
            reconnects.push(self.kill_once()?);
            bar.inc(1);
            bar.set_message(format!("back in {:.1} ms", reconnects.last().map_or(0.0, |r| r.as_secs_f64() * 1e3)));
            std::thread::sleep(Duration::from_millis(rng.u64(KILL_AFTER_MS))); // to hit other moments each time
        }
        bar.finish_and_clear();
        std::fs::write(self.home.join("stop"), "").map_err(|error| failed("stop the session", &error))?;
        self.until("the session ends", || Ok(keepers::all(&self.places).is_empty().then_some(())))?;
        let printed = std::fs::read(self.home.join("printed")).map_err(|error| failed("read the copy", &error))?;
        let mut recorded = self.output(&["output", &session])?;
        if options.sabotage {
            leave_one_out(&mut recorded);
        }
        Ok(Played { kills: options.kills, printed, recorded, reconnects })
    }

    /// Kills the daemon and waits until another one has the session; returns how long that took.
    fn kill_once(&self) -> Result<Duration, Failure> {
        let lock = self.places.lock();
        let holder = || Ok(Lock::holder(&lock).ok().flatten());
        let old = self.until("a daemon runs", holder)?;
        let pid =
            i32::try_from(old).ok().and_then(Pid::from_raw).ok_or_else(|| failed("kill the daemon", &"no process"))?;
        kill_process(pid, Signal::KILL).map_err(|error| failed("kill the daemon", &error))?;
        let killed = Instant::now();
        self.until("the session is recorded again", || {
            if holder()?.is_none_or(|pid| pid == old) {
                return Ok(None);
            }
            let Some(link) = DaemonLink::running(&self.places)? else { return Ok(None) };
            let status = link.ask_within(&Query::Status, STATUS_WAIT_MAX);
            let has_session = |status| matches!(status, shellkeep_protocol::query::Reply::Status(s) if s.sessions > 0);
            Ok(status.is_ok_and(has_session).then_some(()))
        })?;
        Ok(killed.elapsed())
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Result<Option<T>, Failure>) -> Result<T, Failure> {
        let until = Instant::now() + STEP_WAIT_MAX;
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if Instant::now() > until {
                return Err(Failure::refused(format_args!("demo: not within {} s: {what}", STEP_WAIT_MAX.as_secs()))
                    .with_hint(format_args!("diagnostics were in {}", self.places.diagnostics().display())));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn output(&self, args: &[&str]) -> Result<Vec<u8>, Failure> {
        let mut command = Command::new(program()?);
        command
            .args(args)
            .env("SHELLKEEP_HOME", &self.home)
            .env_remove("SHELLKEEP_SOCKET")
            .env_remove("SHELLKEEP_SESSION");
        let output = command.stdin(Stdio::null()).output().map_err(|error| failed("start shellkeep", &error))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(failed(args[0], &String::from_utf8_lossy(&output.stderr).trim()))
    }

    fn shellkeep(&self, args: &[&str]) -> Result<String, Failure> {
        Ok(String::from_utf8_lossy(&self.output(args)?).into_owned())
    }

    /// Ends whatever is left: sessions first, then the daemon, which a keeper would start again.
    fn clean_up(&self) {
        for keeper in keepers::all(&self.places) {
            let _ = self.shellkeep(&["kill", &keeper.info.session.to_string()]);
        }
        let _ = self.until("all keepers are gone", || Ok(keepers::all(&self.places).is_empty().then_some(())));
        let _ = super::daemon::stop(&self.places);
    }
}

/// `--sabotage`: takes one line out of the middle of what was read back, as if its record were lost.
fn leave_one_out(recorded: &mut Vec<u8>) {
    let middle = recorded.len() / 2;
    let line_end = |from: usize| recorded[from..].iter().position(|byte| *byte == b'\n').map(|at| from + at + 1);
    if let Some(from) = line_end(middle)
        && let Some(to) = line_end(from)
    {
        recorded.drain(from..to);
    }
}

/// Counts what is missing and what is there twice, line by line.
fn compare(printed: &[u8], recorded: &[u8]) -> (u64, u64) {
    let mut lines: BTreeMap<&[u8], i64> = BTreeMap::new();
    for line in printed.split_inclusive(|byte| *byte == b'\n') {
        *lines.entry(line).or_default() += 1;
    }
    for line in recorded.split_inclusive(|byte| *byte == b'\n') {
        *lines.entry(line).or_default() -= 1;
    }
    let sum = |sign: i64| {
        let bytes = |(line, count): (&&[u8], &i64)| line.len() as u64 * (count * sign).max(0).unsigned_abs();
        lines.iter().map(bytes).sum()
    };
    (sum(1), sum(-1))
}

fn table(result: &Played, options: &Demo) -> (String, bool) {
    let (lost, doubled) = compare(&result.printed, &result.recorded);
    let same = result.printed == result.recorded;
    let mut sorted = result.reconnects.clone();
    sorted.sort_unstable();
    let ms = |at: usize| sorted.get(at).map_or(0.0, |duration| duration.as_secs_f64() * 1e3);
    let verdict = match (same, options.sabotage) {
        (true, false) => "the record is complete to the byte",
        (true, true) => "the sabotage went unnoticed: this demo proves nothing",
        (false, true) => "one record was left out on purpose, and it shows",
        (false, false) => "THE RECORD IS NOT WHAT WAS PRINTED",
    };
    let text = format!(
        "daemon killed       {} times\nprinted             {} bytes\nrecorded            {} bytes\nlost                {lost} bytes\ndoubled             {doubled} bytes\nrecorded again in   {:.1} ms (median), {:.1} ms (worst)\n\n{verdict}\n",
        result.kills,
        result.printed.len(),
        result.recorded.len(),
        ms(sorted.len() / 2),
        ms(sorted.len().saturating_sub(1)),
    );
    (text, same && !options.sabotage)
}

fn program() -> Result<String, Failure> {
    let path = crate::launch::installed_program().map_err(|error| failed("find this program", &error))?;
    Ok(path.display().to_string())
}

fn failed(what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::refused(format_args!("demo: cannot {what}: {why}"))
}
