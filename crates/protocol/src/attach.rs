//! The attach conversation, terminal ↔ keeper: one kept shell and the terminals that look at it.
//!
//! Spoken over the keeper's own socket, in frames, without the daemon: it works when nothing else does. Each end's
//! first frame is a [`Hello`]; the highest version that both know is spoken from then on. A terminal may send its first
//! message behind its Hello without waiting, if that message did not change since version 1: `Info`, `Attach`,
//! `Detach`, `DetachAll`, `Kill`, `Poke` and `Record` never do, because keepers live for months. Descriptors travel beside
//! [`FromTerminal::Attach`] (the tty, for output) and [`FromKeeper::Attached`] (the PTY's master, for input).
//! Source: docs/wire.md, "Attach conversation".

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::ids::SessionId;
use crate::session::ExitStatus;

/// Versions of the attach conversation that this build speaks.
/// Version 2 added [`FromTerminal::Where`], [`FromTerminal::ResumeAt`], [`FromKeeper::At`] and [`FromKeeper::Behind`];
/// version 3 [`FromTerminal::Note`] and [`FromKeeper::Noted`].
pub const ATTACH_VERSIONS: std::ops::RangeInclusive<u16> = 1..=3;

/// From this version on a terminal may bring the session's screen along.
pub const ATTACH_VERSION_SCREEN: u16 = 2;

/// From this version on a keeper takes annotations.
pub const ATTACH_VERSION_NOTES: u16 = 3;

/// First bytes of the conversation, so that a terminal at the wrong socket is told so instead of misread.
pub const ATTACH_MAGIC: [u8; 4] = *b"SKat";

/// Longest frame body of this conversation. A longer prefix closes the connection before anything is allocated.
/// Arguments of a command are the largest thing in it; the system allows 2 MiB of them.
pub const ATTACH_FRAME_BYTES_MAX: u32 = 3 << 20;

/// Most bytes of input or output in one message.
pub const ATTACH_CHUNK_BYTES_MAX: usize = 16 << 10;

/// Most bytes of a screen.
pub const ATTACH_SCREEN_BYTES_MAX: usize = 2 << 20;

const _: () = assert!(ATTACH_CHUNK_BYTES_MAX < ATTACH_FRAME_BYTES_MAX as usize);
const _: () = assert!(ATTACH_SCREEN_BYTES_MAX < ATTACH_FRAME_BYTES_MAX as usize);

/// First message of each end. Its layout never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`ATTACH_MAGIC`].
    pub magic: [u8; 4],
    /// Oldest version that the sender speaks.
    pub oldest: u16,
    /// Newest version that the sender speaks.
    pub newest: u16,
}

impl Hello {
    /// What this build says.
    pub const OURS: Self =
        Self { magic: ATTACH_MAGIC, oldest: *ATTACH_VERSIONS.start(), newest: *ATTACH_VERSIONS.end() };

    /// The version that both ends speak, if there is one and the other end is a keeper or a terminal at all.
    #[must_use]
    pub fn common(self) -> Option<u16> {
        let newest = self.newest.min(Self::OURS.newest);
        (self.magic == ATTACH_MAGIC && newest >= self.oldest && newest >= Self::OURS.oldest).then_some(newest)
    }
}

/// A window: columns and rows, and its size in pixels (0 if unknown). All zero is a size too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Size {
    /// Characters across.
    pub cols: u16,
    /// Lines.
    pub rows: u16,
    /// Pixels across.
    pub x_pixels: u16,
    /// Pixels down.
    pub y_pixels: u16,
}

/// What a terminal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromTerminal<'a> {
    /// Who are you? → [`FromKeeper::Info`].
    Info,
    /// Show the session here → [`FromKeeper::Attached`]. Output starts with [`Self::Resume`], so that the terminal
    /// has set its modes first.
    Attach(Attach),
    /// Start the command. Only on the connection that the keeper was born with, and first → `Attached` if that was
    /// asked for, then [`FromKeeper::Started`] or [`FromKeeper::StartFailed`].
    Launch(Box<Launch>),
    /// The window changed.
    Resize(Size),
    /// Typed bytes, when they do not go straight to the PTY.
    Input(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
    /// The input ended: the command sees one end-of-file character.
    EndOfInput,
    /// A signal for the command.
    Signal(CommandSignal),
    /// Show nothing until `Resume` → [`FromKeeper::Paused`].
    Pause,
    /// Go on showing, in a window of this size.
    Resume(Size),
    /// Let this terminal go → [`FromKeeper::Released`] when everything shown has left the keeper.
    Detach,
    /// Let all terminals go → [`FromKeeper::Detached`].
    DetachAll,
    /// End the command: HUP, after 2 s KILL → [`FromKeeper::Killed`] when it has ended.
    Kill,
    /// The daemon is up: dial it now → [`FromKeeper::Poked`].
    Poke,
    /// Pause the recording, or go on with it → [`FromKeeper::Recording`].
    Record(Recording),
    /// How far is the output? → [`FromKeeper::At`]. Since version 2.
    Where,
    /// As `Resume`, but on a screen of its own. Since version 2.
    ResumeAt(ResumeAt<'a>),
    /// Record this annotation → [`FromKeeper::Noted`]. A payload as [`crate::annotation`] has it. Since version 3.
    Note(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
}

/// How a terminal that was paused wants to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeAt<'a> {
    /// Its window.
    pub size: Size,
    /// What it is shown first; `None` if the screen is not known: then programs are asked to draw it anew.
    #[serde(borrow)]
    pub screen: Option<Screen<'a>>,
}

/// A session's screen, as its daemon knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screen<'a> {
    /// Bytes of recorded output that are in it: what follows on it is the byte behind them.
    pub offset: u64,
    /// Nothing was missing in them; else programs are asked to draw anew all the same.
    pub is_exact: bool,
    /// What makes any terminal show it; at most [`ATTACH_SCREEN_BYTES_MAX`].
    #[serde(borrow, with = "serde_bytes")]
    pub bytes: &'a [u8],
}

/// Whether what the session prints and is typed is recorded. Each change of it is a mark in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Recording {
    /// Nothing is recorded until it goes on.
    Paused,
    /// Everything is.
    #[default]
    On,
}

/// How a terminal wants to see the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Its window.
    pub size: Option<Size>,
    /// Whether the terminal's tty travels beside this message; else output comes as [`FromKeeper::Output`].
    pub tty: bool,
    /// The terminal's `SSH_AUTH_SOCK`, for the session's stable link; empty if it has none.
    pub ssh_auth_sock: ByteBuf,
    /// How long a terminal that accepts nothing may hold the session up, in milliseconds; for ever if `None`.
    pub patience_ms: Option<u32>,
}

/// The command to start and how to keep it. Everything else (environment, directory, umask, limits) the keeper
/// inherits from the process that starts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The identity that the session gets.
    pub session: SessionId,
    /// The user's name for it.
    pub name: Option<String>,
    /// The program, found in `PATH` unless it has a slash.
    pub program: ByteBuf,
    /// What the program sees as its own name, if not `program`: `-bash` makes a login shell.
    pub arg0: Option<ByteBuf>,
    /// Its arguments.
    pub args: Vec<ByteBuf>,
    /// Whether typed bytes are recorded.
    pub record_input: bool,
    /// Whether the command, if it is a shell that can, is made to mark its commands.
    pub marks: bool,
    /// What happens when the spool is full and no daemon takes records.
    pub when_full: WhenFull,
    /// Most bytes of the spool on disk.
    pub spool_bytes_max: u64,
    /// Window of the session if it is not attached at once.
    pub size: Option<Size>,
    /// Show it to the one who launches.
    pub attach: Option<Attach>,
}

/// What a full spool does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum WhenFull {
    /// The oldest records go, and a gap is recorded.
    #[default]
    Gap,
    /// The command waits until a daemon has taken some.
    Block,
}

/// A signal that a terminal without a tty passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandSignal {
    /// `SIGINT`, to what runs in the foreground.
    Interrupt,
    /// `SIGTERM`, to the command.
    Terminate,
    /// `SIGHUP`, to the command.
    HangUp,
}

/// What a keeper says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeeper<'a> {
    /// The answer to `Info`.
    Info(Box<Info>),
    /// The answer to `Attach`.
    Attached {
        /// The session that is shown.
        session: SessionId,
        /// Its name.
        name: Option<String>,
        /// Whether the PTY's master travels beside this message; else input goes as [`FromTerminal::Input`].
        direct_input: bool,
    },
    /// The command runs.
    Started,
    /// The command could not be started; the keeper ends.
    StartFailed {
        /// 127 if there is no such program, else 126.
        status: u8,
        /// Why, for people.
        reason: String,
    },
    /// The request is not possible now.
    Refused {
        /// Why, for people.
        reason: String,
    },
    /// Output, when it cannot be written to the terminal's tty by the keeper.
    Output(#[serde(borrow, with = "serde_bytes")] &'a [u8]),
    /// The answer to `Pause`: nothing more is shown.
    Paused,
    /// The terminal is let go, and everything shown has left the keeper.
    Released,
    /// The answer to `DetachAll`.
    Detached {
        /// How many terminals were let go.
        terminals: u32,
    },
    /// The command has ended, and everything it printed has left the keeper.
    Ended(ExitStatus),
    /// The answer to `Kill`.
    Killed(ExitStatus),
    /// The answer to `Poke`.
    Poked,
    /// Something that the user should know, one line.
    Notice(String),
    /// The answer to `Record`: how it is now.
    Recording(Recording),
    /// The answer to `Where`. Since version 2.
    At {
        /// Bytes of recorded output so far; `None` while recording is paused: then no record tells the screen.
        offset: Option<u64>,
    },
    /// The terminal took nothing for so long that it missed more than it will be given: it is paused until it says
    /// `ResumeAt`. Since version 2.
    Behind,
    /// The answer to `Note`. Since version 3.
    Noted {
        /// The record's number; `None` if it was not recorded: recording is paused, the command has ended, or it is too long.
        seq: Option<u64>,
    },
}

/// What a keeper knows about its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The session.
    pub session: SessionId,
    /// The user's name for it.
    pub name: Option<String>,
    /// Program and arguments; lossy where they are not UTF-8.
    pub command: Vec<String>,
    /// Directory of the command now; where it started once that cannot be told.
    pub cwd: String,
    /// Microseconds since the Unix epoch.
    pub started_at_us: u64,
    /// The command; 0 before it was started.
    pub pid: u32,
    /// The keeper.
    pub keeper_pid: u32,
    /// Device number of the session's PTY, as in `stat`.
    pub tty: u64,
    /// Its window.
    pub size: Size,
    /// Terminals attached now.
    pub attached: u32,
    /// Whether a daemon takes records now.
    pub connected: bool,
    /// Bytes of output so far.
    pub output_bytes: u64,
    /// How the command ended, in the short time before the keeper ends too.
    pub exit: Option<ExitStatus>,
    /// Version of the keeper's program.
    pub keeper_version: String,
    /// Whether it records now.
    pub recording: Recording,
}

/// Bytes of a resize record's payload.
pub const SIZE_PAYLOAD_BYTES: usize = 8;

impl Size {
    /// The payload of a resize record: columns, rows, pixels across, pixels down, each a little-endian `u16`.
    #[must_use]
    pub fn to_payload(self) -> [u8; SIZE_PAYLOAD_BYTES] {
        let mut bytes = [0; SIZE_PAYLOAD_BYTES];
        let fields = [self.cols, self.rows, self.x_pixels, self.y_pixels];
        for (place, field) in bytes.chunks_exact_mut(2).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// Reads a resize record's payload; `None` if it is too short. A longer one is of a later version.
    #[must_use]
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE_PAYLOAD_BYTES] = payload.first_chunk()?;
        let field = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Some(Self { cols: field(0), rows: field(2), x_pixels: field(4), y_pixels: field(6) })
    }
}

/// The payload of an exit record: 0 and the code, or 1 and the signal.
#[must_use]
pub const fn exit_payload(exit: ExitStatus) -> [u8; 2] {
    match exit {
        ExitStatus::Code(code) => [0, code],
        ExitStatus::Signal(signal) => [1, signal],
    }
}

/// Reads an exit record's payload; `None` if it says nothing known.
#[must_use]
pub fn exit_from_payload(payload: &[u8]) -> Option<ExitStatus> {
    match payload.first_chunk()? {
        [0, code] => Some(ExitStatus::Code(*code)),
        [1, signal] => Some(ExitStatus::Signal(*signal)),
        _ => None,
    }
}

impl Recording {
    /// The payload of the mark that says so: 1 for a pause, 2 for going on. Other first bytes are marks of other kinds.
    #[must_use]
    pub const fn to_payload(self) -> [u8; 1] {
        match self {
            Self::Paused => [1],
            Self::On => [2],
        }
    }

    /// Reads a mark's payload; `None` if it says something else.
    #[must_use]
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        match payload.first()? {
            1 => Some(Self::Paused),
            2 => Some(Self::On),
            _ => None,
        }
    }
}

/// The payload of an input record whose bytes were left out, because the program had asked for something secret.
pub const MASKED_INPUT_PAYLOAD: &[u8] = b"";
