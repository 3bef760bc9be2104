//! The queries of people's commands: `ls`, `output`, `tail`, `verify`, `rm`, `search`, `reindex`,
//! `daemon status`.
//!
//! Both ends must be of one version: a command asks a daemon of its own build, or is told to restart the other one.

use serde::{Deserialize, Serialize};
use shellkeep_journal::Seq;

use crate::attach::Recording;
use crate::ids::SessionId;
use crate::session::{Attrs, ExitStatus, GapReason};

/// Version of [`Query`] and [`Reply`]. Raised with every change of either.
pub const QUERY_VERSION: u16 = 2;

/// Most bytes of records in one [`Chunk`].
pub const CHUNK_BYTES_MAX: u32 = 1 << 20;

/// Longest that [`Query::Read`] may wait for more, in milliseconds.
pub const READ_WAIT_MS_MAX: u32 = 60_000;

/// Sessions in one [`Reply::Sessions`]; more come with the next page.
pub const SESSIONS_PAGE_MAX: usize = 1_000;

/// Commands in one [`Reply::History`], and bytes of their texts; more come with the next page.
pub const HISTORY_PAGE_MAX: usize = 1_000;
/// See [`HISTORY_PAGE_MAX`].
pub const HISTORY_PAGE_BYTES_MAX: usize = 1 << 20;

/// Longest that [`Query::Screen`] may wait, in milliseconds.
pub const SCREEN_WAIT_MS_MAX: u32 = 5_000;

/// Hits in one [`Reply::Found`], and bytes of their texts; more come with the next page.
pub const FOUND_PAGE_MAX: u32 = 1_000;
/// See [`FOUND_PAGE_MAX`].
pub const FOUND_PAGE_BYTES_MAX: usize = 1 << 20;

/// Most lines that are shown before and behind a hit.
pub const CONTEXT_LINES_MAX: u32 = 100;

/// Longest text that can be looked for, in bytes.
pub const SEARCH_TEXT_BYTES_MAX: usize = 4 << 10;

/// What a command asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// How the daemon is. Answered by [`Reply::Status`].
    Status,
    /// Which sessions there are, newest first, behind `after` if given. Spools of dead keepers are adopted first.
    /// Answered by [`Reply::Sessions`].
    Sessions {
        /// Ended ones too.
        ended: bool,
        /// The last session of the page before.
        after: Option<SessionId>,
    },
    /// Records from `from` on. Answered by [`Reply::Chunk`], at once if there is anything, else when there is or the
    /// wait is over.
    Read {
        /// Whose.
        session: SessionId,
        /// First record wanted.
        from: Seq,
        /// How much at the most; at least one item is given. At most [`CHUNK_BYTES_MAX`].
        bytes_max: u32,
        /// How long to wait for more when there is nothing, in milliseconds. At most [`READ_WAIT_MS_MAX`].
        wait_ms: u32,
    },
    /// Reads all of a session's log and checks it. Answered by [`Reply::Verified`].
    Verify {
        /// Whose.
        session: SessionId,
    },
    /// Commands of a session, as its shell marked them. Answered by [`Reply::History`].
    History {
        /// Whose.
        session: SessionId,
        /// Only those behind this number; 0 for all.
        after: u64,
    },
    /// Removes the record of an ended session. Answered by [`Reply::Removed`].
    Remove {
        /// Whose.
        session: SessionId,
    },
    /// What the session's terminal shows. Answered by [`Reply::Screen`], at the latest when the wait is over.
    Screen {
        /// Whose.
        session: SessionId,
        /// At least this much of its output must be in it, in bytes from the session's start.
        at_least: u64,
        /// Columns of the window that will show it.
        cols: u16,
        /// Rows of it.
        rows: u16,
        /// How long to wait for that output, in milliseconds. At most [`SCREEN_WAIT_MS_MAX`].
        wait_ms: u32,
    },
    /// Waits until the logs have what keepers had, so that what is asked next is answered with all of it. Answered by
    /// [`Reply::CaughtUp`], after a bounded time in any case.
    CatchUp {
        /// Sessions, and how many bytes of output each had.
        goals: Vec<(SessionId, u64)>,
    },
    /// Text in output and in command lines. Answered by [`Reply::Found`].
    Search(Search),
    /// Throws the index away and builds it from the logs. Answered by [`Reply::Index`], at once.
    Reindex,
    /// How the index is. Answered by [`Reply::Index`].
    Index,
}

/// What is looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// The text, within one line. Without an upper-case letter it is found in any case. At most
    /// [`SEARCH_TEXT_BYTES_MAX`].
    pub text: String,
    /// Only where no letter or digit stands beside it.
    pub word: bool,
    /// Only in this session.
    pub session: Option<SessionId>,
    /// Only of commands that ran in this directory or below it.
    pub directory: Option<String>,
    /// Only of commands that ended so.
    pub ended: Option<Ended>,
    /// Only what was printed at this time or later, in microseconds since the Unix epoch.
    pub since_us: Option<u64>,
    /// Only what was printed before.
    pub until_us: Option<u64>,
    /// Lines before and behind each hit. At most [`CONTEXT_LINES_MAX`].
    pub context: u32,
    /// Hits wanted. At most [`FOUND_PAGE_MAX`].
    pub limit: u32,
    /// Behind this one, which the page before gave.
    pub after: Option<Cursor>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// With this status.
    With(u8),
    /// With any status but 0.
    Failed,
}

/// A place among all lines of all sessions, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// Time of the line, in microseconds since the Unix epoch.
    pub time_us: u64,
    /// Its session.
    pub session: SessionId,
    /// Its number in the session, from 0.
    pub line: u64,
}

/// What the daemon answers to a [`Query`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// How the daemon is.
    Status(Status),
    /// One page of sessions; empty when there are no more.
    Sessions(Vec<SessionInfo>),
    /// Records.
    Chunk(Chunk),
    /// What is wrong with a log.
    Verified(Verified),
    /// One page of commands.
    History(History),
    /// What was waited for has come, or is late.
    CaughtUp {
        /// Everything has come.
        all: bool,
    },
    /// One page of hits.
    Found(Found),
    /// How the index is.
    Index(IndexState),
    /// The record is gone.
    Removed {
        /// Bytes of disk that were freed.
        freed_bytes: u64,
    },
    /// It was not done.
    Failed(Failure),
    /// The screen; `None` if it is not known, or not as far as was asked.
    Screen(Option<Screen>),
}

/// What a session's terminal shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screen {
    /// Bytes of output from the session's start that are in it: what is shown next is the byte behind them.
    pub offset: u64,
    /// Nothing was missing in them. If something was, programs should be asked to draw anew.
    pub is_exact: bool,
    /// What to write to a terminal, whatever it shows now. Nothing in it makes it answer.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Why a query could not be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Failure {
    /// No such session is recorded.
    #[error("no such session is recorded")]
    UnknownSession,
    /// The session still runs.
    #[error("the session is still running")]
    StillRunning,
    /// The storage failed.
    #[error("{path}: {why}")]
    Storage {
        /// Where.
        path: String,
        /// What the system said.
        why: String,
    },
    /// The query was not understood.
    #[error("the daemon did not understand the query: {why}")]
    Invalid {
        /// Why.
        why: String,
    },
}

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its process.
    pub pid: u32,
    /// Version of its program.
    pub version: String,
    /// Newest version of the session conversation that it speaks.
    pub protocol: u16,
    /// Path of its socket.
    pub socket: String,
    /// Seconds since it began to serve.
    pub uptime_s: u64,
    /// Sessions whose keeper is connected.
    pub sessions: u64,
    /// Bytes of logs on the disk.
    pub storage_bytes: u64,
}

/// What became of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    /// Its keeper lives, as far as this daemon can see.
    Running,
    /// Its command ended and said how.
    Ended,
    /// Its keeper ended without saying how.
    Lost,
}

/// One session as the daemon knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Identity.
    pub session: SessionId,
    /// What it is, as its keeper last said.
    pub attrs: Attrs,
    /// What became of it.
    pub state: SessionState,
    /// Whether its keeper is connected now.
    pub connected: bool,
    /// Microseconds since the Unix epoch of its last record, once it has ended or is lost.
    pub ended_at_us: Option<u64>,
    /// How the command ended.
    pub exit: Option<ExitStatus>,
    /// Bytes of output so far, lost ones included.
    pub output_bytes: u64,
    /// Gaps in the record, damaged places included.
    pub gaps: u64,
}

/// Records of one session, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// What was found. In the last chunk, damage that no record lies in.
    pub items: Vec<Item>,
    /// Where to read on.
    pub next: Seq,
    /// Nothing will follow: the command has ended, or the session is lost, and this is the end of it.
    pub is_last: bool,
}

/// One thing found in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// What the command printed.
    Output {
        /// Microseconds since the Unix epoch.
        time_us: u64,
        /// Place of the first of them among all output of the session.
        offset: u64,
        /// The bytes, as the PTY gave them.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Records known to be lost.
    Gap {
        /// First.
        from: Seq,
        /// Last.
        to: Seq,
        /// Bytes of output in them.
        output_bytes: u64,
        /// Why.
        reason: GapReason,
    },
    /// A place of the log that cannot be read.
    Damage {
        /// First record that may be meant.
        from: Seq,
        /// Last record that may be meant.
        to: Seq,
        /// Where and what.
        what: String,
    },
    /// Records that were removed by the limits on age and size: no loss.
    Pruned {
        /// First.
        from: Seq,
        /// Last.
        to: Seq,
        /// Bytes of output from the session's start to behind the last.
        output_offset_after: u64,
    },
    /// The command ended.
    Exit {
        /// Microseconds since the Unix epoch.
        time_us: u64,
        /// How.
        exit: ExitStatus,
    },
    /// The window has another size from here on.
    Resize {
        /// Microseconds since the Unix epoch.
        time_us: u64,
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// What was typed, in a session that records it; empty where a secret was typed.
    Input {
        /// Microseconds since the Unix epoch.
        time_us: u64,
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Recording was paused, or went on: no loss, but not all that was printed is here.
    Recording {
        /// Microseconds since the Unix epoch.
        time_us: u64,
        /// How it is from here on.
        recording: Recording,
    },
}

/// Commands of a session, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// One page; more may come behind its last.
    pub commands: Vec<CommandInfo>,
    /// Bytes of output that were read for it, from the session's start.
    pub output_bytes: u64,
    /// There are no more.
    pub is_last: bool,
}

/// One command of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandInfo {
    /// Its number in the session, from 1.
    pub id: u64,
    /// The line as typed; empty while a shell that tells it only afterwards runs it.
    pub line: String,
    /// Directory in which it began.
    pub cwd: String,
    /// Microseconds since the Unix epoch.
    pub started_at_us: u64,
    /// The same; `None` while it runs, or if its end was never told.
    pub ended_at_us: Option<u64>,
    /// Its status.
    pub exit: Option<u8>,
    /// Record in which its output begins.
    pub first_seq: Seq,
    /// Offset of its first byte of output among all output of the session.
    pub output_from: u64,
    /// Offset behind its last one.
    pub output_to: u64,
}

/// What was found, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// One page.
    pub hits: Vec<Hit>,
    /// Where to go on; `None` if there is nothing more. A page may have fewer hits than were wanted, or none, and yet not
    /// be the last: then looking took its time.
    pub next: Option<Cursor>,
    /// How the index was.
    pub index: IndexState,
    /// It did not have all that was recorded when this was asked.
    pub is_behind: bool,
}

/// One line that has the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// Where it is among all lines.
    pub at: Cursor,
    /// Record in which it begins.
    pub seq: Seq,
    /// Name of the session.
    pub name: Option<String>,
    /// The command that printed it, if its shell said.
    pub command: Option<CommandInfo>,
    /// It is a line of the command itself.
    pub is_command: bool,
    /// The line, without control characters.
    pub line: String,
    /// Lines before it.
    pub before: Vec<String>,
    /// Lines behind it.
    pub behind: Vec<String>,
}

/// How the index is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexState {
    /// Why it could not be written, when it was last tried.
    pub trouble: Option<String>,
    /// All logs are being read.
    pub is_building: bool,
    /// Bytes of output that this takes.
    pub total_bytes: u64,
    /// Bytes of output that were read for it.
    pub done_bytes: u64,
}

/// The result of reading a whole log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Records that were read and found whole.
    pub records: u64,
    /// Bytes of output in them.
    pub output_bytes: u64,
    /// Damage and gaps, in order; empty if all is well. At most [`FINDINGS_MAX`].
    pub findings: Vec<Item>,
}

/// Findings reported for one log; the rest is counted by whoever asks again after a repair.
pub const FINDINGS_MAX: usize = 1_000;
