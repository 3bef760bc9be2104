//! Why a journal could not do what it was asked: one variant for each thing that a caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::chain::Seq;
use crate::record::RecordError;
use crate::segment::ATTRS_BYTES_MAX;
use crate::storage::is_no_space;

/// Why a journal could not do what it was asked. After any of them the journal is as it was before the call.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk is full; the same call may succeed later.
    #[error("{}: no space left while {doing}", path.display())]
    NoSpace {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
    },
    /// The system refused.
    #[error("{}: {doing} failed: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is no journal here.
    #[error("{}: there is no journal", path.display())]
    NotFound {
        /// The directory.
        path: PathBuf,
    },
    /// There is a journal already.
    #[error("{}: exists already", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// No segment has a readable header, so nobody knows whose journal this is; its records can still be read.
    #[error("{}: no segment has a readable header", path.display())]
    NoIdentity {
        /// The directory.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error("{}: format version {version} is newer than this program", path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// The bytes to append are no records, or not the next ones.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// More bytes in one append than are ever written at once.
    #[error("{len} bytes are too many for one append, the limit is {}", crate::journal::BATCH_BYTES_MAX)]
    BatchTooLarge {
        /// Their number.
        len: usize,
    },
    /// Too long to be kept with a grant.
    #[error("attrs of {len} bytes are too long, the limit is {ATTRS_BYTES_MAX}")]
    AttrsTooLarge {
        /// Their length.
        len: usize,
    },
    /// A sync failed or found its file cut or deleted: the file is never used again. Go on with `new_segment_from`.
    #[error("a sync failed; the journal goes on only in a new segment")]
    Distrusted,
    /// The segment that takes records was deleted, cut or replaced under its writer. Open the journal again: what it still
    /// holds is known only then.
    #[error("{}: was deleted, cut or replaced", path.display())]
    Vanished {
        /// The segment.
        path: PathBuf,
    },
    /// Records before this number are in a file that may not be trusted and were never made durable.
    #[error("cannot go on from record {seq}: durable only up to {durable}")]
    NotDurable {
        /// The number asked for.
        seq: Seq,
        /// The last durable record.
        durable: Seq,
    },
    /// No record begins or ends at this number, so its chain is not known.
    #[error("record {seq} cannot be found")]
    NoSuchPlace {
        /// The number asked for.
        seq: Seq,
    },
    /// All ordinals are used.
    #[error("{}: no segment names are left", path.display())]
    Exhausted {
        /// The directory.
        path: PathBuf,
    },
    /// The directory changed at every look; the reader gave up for now.
    #[error("{}: changes faster than it can be read", path.display())]
    Unsettled {
        /// The directory.
        path: PathBuf,
    },
}

impl JournalError {
    /// Whether what is on disk is not what was written, so that the journal must be opened again, or made anew.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Vanished { .. } | Self::NotFound { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether this says nothing about the journal: the same call may succeed once descriptors or memory are free again,
    /// or the directory is at rest.
    pub fn is_passing(&self) -> bool {
        use rustix::io::Errno;
        match self {
            Self::Io { source, .. } => {
                let errno = Errno::from_io_error(source);
                matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN | Errno::INTR))
            }
            Self::Unsettled { .. } => true,
            _ => false,
        }
    }

    /// Tells a full disk from all else.
    pub(crate) fn of(path: &Path, doing: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_no_space(&source) { Self::NoSpace { path, doing } } else { Self::Io { path, doing, source } }
    }
}
