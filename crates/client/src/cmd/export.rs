//! `shellkeep export`: finds the record, the form and the place to write to, and brings them together.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use shellkeep_daemon::index::plain::SIZE_DEFAULT;
use shellkeep_daemon::index::secrets::Secrets;
use shellkeep_protocol::query::{CommandInfo, Item, SessionInfo};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::output::notice_of;
use super::recorded::find;
use crate::cli::{Export, Format};
use crate::config::Settings;
use crate::daemon_link::DaemonLink;
use crate::export::cast::{Cast, Version};
use crate::export::html::Page;
use crate::export::json::Document;
use crate::export::passage::Passage;
use crate::export::redaction::Redaction;
use crate::export::text::Text;
use crate::export::{Event, Subject, Writer};
use crate::places::Places;
use crate::recording::{Moment, Reading, Recording, What, asking};
use crate::report::{self, Failure, Outcome};
use crate::stdout;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

/// Records shorter than this many bytes are exported before a bar would be read.
const BAR_FROM_BYTES: u64 = 16 << 20;

/// Status of a program that an interrupt ended, as shells count it.
const INTERRUPTED: u8 = 130;

type Out = BufWriter<Box<dyn Write>>;

/// Writes the export that `args` ask for.
///
/// # Errors
/// If the daemon cannot be had, there is no such session or command, or the place takes no more.
pub(super) fn run(places: &Places, args: &Export) -> Outcome {
    let link = DaemonLink::reach(places)?;
    let session = find(places, &link, args.session.as_ref())?;
    let recording = Recording::open(places, &link, session)?;
    let only = args.command.map(|id| recording.place_of(id)).transpose()?;
    let secrets = Settings::load(places)?.secrets().map_err(Failure::refused)?;
    let target = Target::open(args.output.as_deref())?;
    let bar = bar(&recording, &target);
    let is_stopped = interrupts(&target)?;
    let mut ask = asking(&link, session);
    let mut reading =
        recording.read(|from| if is_stopped.load(Ordering::Relaxed) { Err(stopped()) } else { ask(from) });
    let written = write(&recording, &mut reading, only, args.format, secrets, &target, &bar);
    bar.finish_and_clear();
    match written {
        _ if is_stopped.load(Ordering::Relaxed) => Ok(ExitCode::from(INTERRUPTED)), // what was written beside goes
        Err(Stop::Failed(failure)) => Err(failure),
        Err(Stop::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(Stop::Write(error)) => Err(target.failure(&error)),
        Ok(()) => {
            target.keep()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Set once a signal asks for the end. Only where a file would be left behind.
fn interrupts(target: &Target) -> Result<Arc<AtomicBool>, Failure> {
    let is_stopped = Arc::new(AtomicBool::new(false));
    if matches!(target, Target::File(..)) {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let caught = signal_hook::flag::register(signal, Arc::clone(&is_stopped));
            caught.map_err(|error| Failure::refused(format_args!("cannot catch signals: {error}")))?;
        }
    }
    Ok(is_stopped)
}

fn stopped() -> Failure {
    Failure::refused("interrupted")
}

/// Why writing stopped.
enum Stop {
    Failed(Failure),
    Write(io::Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

fn write<F>(
    recording: &Recording,
    reading: &mut Reading<F>,
    only: Option<usize>,
    format: Format,
    secrets: Arc<Secrets>,
    target: &Target,
    bar: &ProgressBar,
) -> Result<(), Stop>
where
    F: FnMut(shellkeep_journal::Seq) -> Result<shellkeep_protocol::query::Chunk, Failure>,
{
    let mut size = recording.info.attrs.size;
    if let Some(wanted) = only {
        // What came before matters only for the size of the window.
        loop {
            match reading.next()?.map(|moment| moment.what) {
                Some(What::Begins(place)) if place == wanted => break,
                Some(What::Resized(cols, rows)) => size = (cols, rows),
                Some(What::Output(bytes)) => bar.inc(bytes.len() as u64),
                Some(_) => {}
                None => return Err(Failure::bug(&"a command that was listed is not in the record").into()),
            }
        }
    }
    let mut redaction = Redaction::new(secrets, size.0);
    let mut writer = writer(&subject(recording, only, size, &redaction), format, target.out()?)?;
    if only.is_some() {
        writer.take(recording.commands[only.unwrap_or(0)].started_at_us, Event::Begins(0))?;
    }
    let (mut output, mut input) = (Passage::default(), Passage::default());
    let mut time_us = recording.info.attrs.started_at_us;
    let mut missing = 0;
    while let Some(moment) = reading.next()? {
        time_us = moment.time_us;
        if let What::Told(item @ (Item::Damage { .. } | Item::Gap { .. })) = &moment.what {
            missing += 1;
            if missing == 1 {
                report::notice(notice_of(recording.info.session, item)); // the export says of each
            }
        }
        let is_end = only.is_some() && matches!(moment.what, What::Ends(_));
        if let What::Output(bytes) = &moment.what {
            bar.inc(bytes.len() as u64);
        }
        for moment in redaction.take(moment) {
            pass(&mut *writer, moment, &mut output, &mut input, only.is_some())?;
        }
        if is_end {
            break;
        }
    }
    for moment in redaction.finish(time_us) {
        pass(&mut *writer, moment, &mut output, &mut input, only.is_some())?;
    }
    let rest = output.rest();
    writer.take(time_us, Event::Output(rest))?;
    writer.finish()?.flush()?;
    Ok(())
}

/// Gives a moment to the form; recorded bytes on the way become text.
fn pass(
    writer: &mut dyn Writer<Out>,
    Moment { time_us, what }: Moment,
    output: &mut Passage,
    input: &mut Passage,
    is_part: bool,
) -> io::Result<()> {
    let event = match what {
        What::Output(bytes) => Event::Output(output.text(&bytes)),
        What::Input(bytes) => Event::Input(input.text(&bytes)),
        What::Resized(cols, rows) => Event::Resized(clamped((cols, rows)).0, clamped((cols, rows)).1),
        What::Begins(place) => Event::Begins(if is_part { 0 } else { place }),
        What::Ends(place) => Event::Ends(if is_part { 0 } else { place }),
        What::Told(item) => {
            writer.take(time_us, Event::Output(output.rest()))?; // what follows is not its other half
            Event::Told(item)
        }
        What::Exited(exit) => Event::Exited(exit),
    };
    writer.take(time_us, event)
}

fn writer(subject: &Subject, format: Format, out: Out) -> io::Result<Box<dyn Writer<Out>>> {
    Ok(match format {
        Format::Cast => Box::new(Cast::begin(out, Version::Three, subject)?),
        Format::Cast2 => Box::new(Cast::begin(out, Version::Two, subject)?),
        Format::Txt => Box::new(Text::begin(out, subject)?),
        Format::Json => Box::new(Document::begin(out, subject)?),
        Format::Html => Box::new(Page::begin(out, subject)?),
    })
}

fn subject(recording: &Recording, only: Option<usize>, size: (u16, u16), redaction: &Redaction) -> Subject {
    let line = |text: &str| redaction.line(text).into_owned();
    let passed =
        |command: &CommandInfo| CommandInfo { line: line(&command.line), cwd: line(&command.cwd), ..command.clone() };
    let commands = match only {
        Some(place) => vec![passed(&recording.commands[place])],
        None => recording.commands.iter().map(passed).collect(),
    };
    let mut attrs = recording.info.attrs.clone();
    attrs.command = attrs.command.iter().map(|word| line(word)).collect();
    attrs.cwd = line(&attrs.cwd);
    attrs.name = attrs.name.as_deref().map(line);
    let begun = only.map_or(attrs.started_at_us, |place| recording.commands[place].started_at_us);
    Subject {
        session: SessionInfo { attrs, ..recording.info.clone() },
        commands,
        is_part: only.is_some(),
        size: clamped(size),
        started_at_us: begun,
    }
}

/// A window of no size shows what one of the usual size would.
fn clamped((cols, rows): (u16, u16)) -> (u16, u16) {
    let or = |value, default| if value == 0 { default } else { value };
    (or(cols, SIZE_DEFAULT.0), or(rows, SIZE_DEFAULT.1))
}

/// Where the export goes.
enum Target {
    Stdout,
    /// A pipe or a device: written to as it is.
    Special(PathBuf),
    /// Written beside, then put in its place.
    File(tempfile::NamedTempFile, PathBuf),
}

impl Target {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Ok(Self::Stdout) };
        let failed = |error: io::Error| Failure::refused(format_args!("cannot write {}: {error}", path.display()));
        // A link stays, and what it means is replaced.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
            Ok(found) if !found.is_file() => return Ok(Self::Special(path)),
            _ => {}
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut beside = tempfile::Builder::new();
        // As any file of the user's: the umask decides who else may read it.
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666);
        let file = beside.prefix(".shellkeep-export-").permissions(mode).tempfile_in(directory).map_err(failed)?;
        Ok(Self::File(file, path))
    }

    fn out(&self) -> io::Result<Out> {
        let out: Box<dyn Write> = match self {
            Self::Stdout => Box::new(stdout::open()?),
            Self::Special(path) => Box::new(File::options().write(true).open(path)?),
            Self::File(file, _) => Box::new(file.as_file().try_clone()?),
        };
        Ok(BufWriter::with_capacity(BUFFER_BYTES, out))
    }

    /// The export is whole: it takes its place.
    fn keep(self) -> Result<(), Failure> {
        if let Self::File(file, path) = self {
            let failed = |error: io::Error| Failure::refused(format_args!("cannot write {}: {error}", path.display()));
            file.as_file().sync_all().map_err(failed)?;
            file.persist(&path).map_err(|error| failed(error.error))?;
        }
        Ok(())
    }

    fn failure(&self, error: &io::Error) -> Failure {
        match self {
            Self::Stdout => stdout::failure(error),
            Self::Special(path) | Self::File(_, path) => {
                Failure::refused(format_args!("cannot write {}: {error}", path.display()))
            }
        }
    }
}

/// How far it is, where somebody waits for it and nothing else is printed.
fn bar(recording: &Recording, target: &Target) -> ProgressBar {
    let is_seen = io::stderr().is_terminal() && !(matches!(target, Target::Stdout) && io::stdout().is_terminal());
    if !is_seen || recording.output_bytes < BAR_FROM_BYTES {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {binary_bytes}/{binary_total_bytes}  {eta}");
    ProgressBar::new(recording.output_bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
