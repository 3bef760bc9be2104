//! A screen on the disk, so that a restarted daemon need not read a session from its start.
//!
//! Promises that a file that is damaged, of another version, or of another log is as good as none: the log is the
//! only truth, and which log is meant is proved by its chain. Never synced: losing one costs time and nothing else.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shellkeep_protocol::ids::SessionId;

use super::STATE_BYTES_MAX;

/// First bytes of a file, with the version of everything in it. Raised with every change of what a state holds.
const MAGIC: [u8; 8] = *b"SKscrn\0\x02";
/// Largest file.
const FILE_BYTES_MAX: usize = STATE_BYTES_MAX + 1024;

/// A screen and the place in the log to which it belongs.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Whose.
    pub session: SessionId,
    /// The last record that is in it.
    pub seq: u64,
    /// The chain behind that record: proof that a log is the one that was read.
    pub check: u32,
    /// Segment and byte where that record was: there it need not be sought. `None` where seeking is quick.
    pub place: Option<(u32, u64)>,
    /// Bytes of output from the session's start to behind it.
    pub offset: u64,
    /// Of the screen.
    #[serde(with = "serde_bytes")]
    pub state: Vec<u8>,
}

/// The directory of checkpoints, beside that of the logs.
pub fn directory(logs: &Path) -> PathBuf {
    logs.with_file_name("index").join("screens")
}

impl Checkpoint {
    /// Writes it in place of an older one.
    ///
    /// # Errors
    /// Of the file system; an older one stays then.
    pub fn save(&self, directory: &Path) -> std::io::Result<()> {
        let mut body = Vec::with_capacity(self.state.len() + 128);
        shellkeep_transport::encode_into(self, &mut body, FILE_BYTES_MAX).map_err(std::io::Error::other)?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(self.session.to_string());
        let new = path.with_extension("new");
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&MAGIC)?;
        file.write_all(&crc32c::crc32c(&body).to_le_bytes())?;
        file.write_all(&body)?;
        std::fs::rename(&new, &path)
    }

    /// Reads the one of a session; `None` if there is none that can be used.
    pub fn load(directory: &Path, session: SessionId) -> Option<Self> {
        let path = directory.join(session.to_string());
        if std::fs::symlink_metadata(&path).ok()?.len() > FILE_BYTES_MAX as u64 {
            return None;
        }
        let bytes = std::fs::read(path).ok()?;
        let (check, body) = bytes.strip_prefix(&MAGIC)?.split_first_chunk()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*check) {
            return None;
        }
        let found: Self = shellkeep_transport::decode(body).ok()?;
        (found.session == session).then_some(found)
    }
}

/// Whether there is one of a session.
pub fn exists(directory: &Path, session: SessionId) -> bool {
    directory.join(session.to_string()).exists()
}

/// Removes what is kept of a session.
pub fn remove(directory: &Path, session: SessionId) {
    let path = directory.join(session.to_string());
    let _none = std::fs::remove_file(&path);
    let _none = std::fs::remove_file(path.with_extension("new"));
}

/// Removes what is kept of sessions that have no log any more.
pub fn sweep(directory: &Path, logs: &Path) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let session = Path::new(&name).file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        let is_kept = session.is_some_and(|session: SessionId| logs.join(session.to_string()).is_dir());
        if !is_kept {
            let _gone = std::fs::remove_file(entry.path());
        }
    }
}
