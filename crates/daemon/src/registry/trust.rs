//! What the user has agreed to run, and as it was then.
//!
//! Promise: agreement is to one command of one project as it is, by a digest over all that decides what runs; whatever cannot be read
//! means no. A record is durable before anything runs because of it. No file of a project has a say in it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shellkeep_protocol::registry::{ALL_OF, Digest, Trust, TrustRecord};

use super::entry::{Entry, Exec, words};
use super::sources::{self, Content};

/// Agreements that are kept; beyond that the oldest goes, and is asked for again.
pub const RECORDS_MAX: usize = 10_000;

/// Lines that say what runs, and bytes of them. What is behind counts in the digest all the same.
const RUNS_LINES_MAX: usize = 2_000;
const RUNS_BYTES_MAX: usize = 64 << 10;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Name of the file.
const FILE: &str = "trust.json";

/// The form of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: u32,
    records: Vec<SavedRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SavedRecord {
    root: String,
    entry: String,
    /// 64 hexadecimal digits.
    digest: String,
    at_us: u64,
    runs: Vec<String>,
}

/// All agreements.
#[derive(Debug)]
pub struct TrustStore {
    path: PathBuf,
    records: BTreeMap<(String, String), TrustRecord>,
}

impl TrustStore {
    /// Those of the file in `directory`; none if there is no file, or it cannot be read, which is said.
    pub fn load(directory: &Path) -> Self {
        let path = directory.join(FILE);
        let records = read(&path).unwrap_or_else(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "what was agreed to cannot be read; it is asked for again");
            }
            BTreeMap::new()
        });
        Self { path, records }
    }

    /// Whether this command of this project may run as it is. What the user's home alone says of a project is agreed to by that.
    pub fn of(&self, root: &Path, entry: &Entry) -> Trust {
        if entry.is_own() {
            return Trust::Trusted;
        }
        let (id, decides) = entry.agreed_as();
        match self.records.get(&key(root, id)) {
            Some(record) if record.digest == decides => Trust::Trusted,
            _ => Trust::Pending,
        }
    }

    /// What was agreed to of this command, be it another by now.
    pub fn before(&self, root: &Path, entry: &str) -> Option<&TrustRecord> {
        self.records.get(&key(root, entry))
    }

    /// All, by project.
    pub fn all(&self) -> impl Iterator<Item = &TrustRecord> {
        self.records.values()
    }

    /// The user agrees. On the disk when this returns.
    ///
    /// # Errors
    /// If it cannot be written; then it is not agreed to.
    pub fn agree(&mut self, root: &Path, entry: &Entry, now_us: u64) -> std::io::Result<()> {
        let record = TrustRecord {
            root: root.to_string_lossy().into_owned(),
            entry: entry.id.to_string(),
            digest: entry.decides,
            at_us: now_us,
            runs: runs(entry),
        };
        let mut records = self.records.clone();
        records.insert(key(root, &entry.id), record);
        if records.len() > RECORDS_MAX
            && let Some(oldest) = records.iter().min_by_key(|(_, record)| record.at_us).map(|(key, _)| key.clone())
        {
            records.remove(&oldest);
        }
        write(&self.path, &records)?;
        self.records = records;
        Ok(())
    }

    /// Takes back what `is_meant` says; returns those.
    ///
    /// # Errors
    /// If it cannot be written. In this daemon's life it is taken back all the same.
    pub fn revoke(&mut self, is_meant: impl Fn(&TrustRecord) -> bool) -> std::io::Result<Vec<TrustRecord>> {
        let gone: Vec<TrustRecord> = self.records.values().filter(|record| is_meant(record)).cloned().collect();
        if gone.is_empty() {
            return Ok(gone);
        }
        self.records.retain(|_, record| !is_meant(record));
        write(&self.path, &self.records).map(|()| gone)
    }
}

fn key(root: &Path, entry: &str) -> (String, String) {
    (root.to_string_lossy().into_owned(), entry.to_owned())
}

/// All that decides what a command does, line by line, for people.
pub fn runs(entry: &Entry) -> Vec<String> {
    let Exec::Found(item) = &entry.exec else { return vec![format!("runs: {}", entry.runs())] };
    let mut lines = vec![format!("file: {}", item.file.display())];
    let environment = |lines: &mut Vec<String>, env: &[(String, String)]| {
        lines.extend(env.iter().map(|(name, value)| format!("env: {name}={value}")));
    };
    match &item.exec {
        sources::Exec::Program(program) => {
            lines.push(place(program.dir.as_deref()));
            environment(&mut lines, &program.env);
            lines.push(format!("runs: {}", words(&program.argv)));
            lines.extend(item.own.lines().map(|line| format!("does: {line}")));
        }
        sources::Exec::Line(line) => {
            lines.push(place(line.dir.as_deref()));
            environment(&mut lines, &line.env);
            lines.extend(line.text.lines().map(|line| format!("runs: {line}")));
        }
        sources::Exec::Prompt(prompt) => lines.extend(prompt.text.lines().map(|line| format!("says: {line}"))),
        sources::Exec::McpServer(server) => match &server.transport {
            sources::Transport::Stdio { env, .. } => {
                lines.push(place(server.dir.as_deref()));
                environment(&mut lines, env);
                lines.push(format!("starts: {}", line(entry)));
            }
            sources::Transport::Http { headers, .. } | sources::Transport::Sse { headers, .. } => {
                lines.push(format!("talks to: {}", line(entry)));
                lines.extend(headers.iter().map(|(name, value)| format!("sends: {name}: {value}")));
            }
        },
        sources::Exec::Nothing => {}
    }
    if let sources::Exec::McpServer(server) = &item.exec {
        lines.extend(server.variables.iter().map(|name| format!("gets your variable: {name}")));
    }
    for evidence in &item.evidence {
        match &evidence.content {
            Content::Bytes(held) => {
                let text = String::from_utf8_lossy(held.bytes());
                lines.push(format!("{ALL_OF}{}:", evidence.what));
                lines.extend(text.lines().map(|line| format!("  {line}")));
            }
            Content::TooLarge { bytes } => lines.push(format!("{ALL_OF}{}: {bytes} bytes", evidence.what)),
        }
    }
    bounded(lines)
}

/// What runs without any arguments, as it is; in a line if it is one.
pub fn line(entry: &Entry) -> String {
    let Exec::Found(item) = &entry.exec else { return entry.runs() };
    match &item.exec {
        sources::Exec::Program(program) => words(&program.argv),
        sources::Exec::Line(line) => line.text.clone(),
        sources::Exec::McpServer(server) => match &server.transport {
            sources::Transport::Stdio { command, args, .. } => words(&[std::slice::from_ref(command), args].concat()),
            sources::Transport::Http { url, .. } | sources::Transport::Sse { url, .. } => url.clone(),
        },
        sources::Exec::Prompt(_) | sources::Exec::Nothing => entry.runs(),
    }
}

fn place(directory: Option<&Path>) -> String {
    directory
        .map_or_else(|| "in: the session's directory".to_owned(), |directory| format!("in: {}", directory.display()))
}

fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let mut bytes = 0;
    let fits = lines.iter().take(RUNS_LINES_MAX).take_while(|line| {
        bytes += line.len();
        bytes <= RUNS_BYTES_MAX
    });
    let count = fits.count();
    if count < lines.len() {
        let more = format!("… and {} more lines, which count all the same", lines.len() - count);
        lines.truncate(count);
        lines.push(more);
    }
    lines
}

fn read(path: &Path) -> std::io::Result<BTreeMap<(String, String), TrustRecord>> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    let saved: Saved = serde_json::from_slice(&std::fs::read(path)?)?;
    if saved.version != 1 {
        return Err(std::io::Error::other(format!("version {} is not known", saved.version)));
    }
    let record = |saved: SavedRecord| {
        let digest = digest(&saved.digest)?;
        let SavedRecord { root, entry, at_us, runs, .. } = saved;
        Some(((root.clone(), entry.clone()), TrustRecord { root, entry, digest, at_us, runs }))
    };
    Ok(saved.records.into_iter().filter_map(record).collect())
}

fn digest(hex: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    Some(Digest(digest))
}

/// The whole file, beside the old one, synced, then in its place.
fn write(path: &Path, records: &BTreeMap<(String, String), TrustRecord>) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let record = |record: &TrustRecord| SavedRecord {
        root: record.root.clone(),
        entry: record.entry.clone(),
        digest: record.digest.to_string(),
        at_us: record.at_us,
        runs: record.runs.clone(),
    };
    let saved = Saved { version: 1, records: records.values().map(record).collect() };
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let beside = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&serde_json::to_vec(&saved)?)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use shellkeep_protocol::registry::{Kind, Scope};

    use super::super::{Draft, Slice};
    use super::*;

    fn entry(decides: &str) -> Entry {
        let draft = Draft {
            decides: decides.as_bytes().to_vec(),
            ..Draft::new("t", "just", Kind::Task, Scope::Project, Exec::Nothing)
        };
        Slice::new("s", vec![draft], Vec::new()).entries()[0].as_ref().clone()
    }

    #[test]
    fn agreement_is_to_the_content_in_one_root_and_outlives_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let (root, other) = (Path::new("/a"), Path::new("/b"));
        let mut trust = TrustStore::load(directory.path());
        assert_eq!(trust.of(root, &entry("one")), Trust::Pending);
        trust.agree(root, &entry("one"), 5).unwrap();
        for trust in [&trust, &TrustStore::load(directory.path())] {
            assert_eq!(trust.of(root, &entry("one")), Trust::Trusted);
            assert_eq!(trust.of(root, &entry("two")), Trust::Pending, "it has changed");
            assert_eq!(trust.of(other, &entry("one")), Trust::Pending, "another worktree");
            assert_eq!(trust.before(root, "project/just/t").map(|record| record.at_us), Some(5));
        }
        assert_eq!(trust.revoke(|record| record.root == "/a").unwrap().len(), 1);
        assert_eq!(TrustStore::load(directory.path()).of(root, &entry("one")), Trust::Pending);
    }

    #[test]
    fn what_cannot_be_read_means_no() {
        let directory = tempfile::tempdir().unwrap();
        let mut trust = TrustStore::load(directory.path());
        trust.agree(Path::new("/a"), &entry("one"), 5).unwrap();
        let path = directory.path().join(FILE);
        let good = std::fs::read_to_string(&path).unwrap();
        for bad in ["", "[]", "{}", &good.replace("\"version\":1", "\"version\":9"), &good[..good.len() - 3]] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(TrustStore::load(directory.path()).of(Path::new("/a"), &entry("one")), Trust::Pending, "{bad}");
        }
    }
}
