//! What the user has agreed to run, and as it was then.
//!
//! Promise: agreement is to one command of one project as it is, by a digest over all that decides what runs; whatever cannot be read
//! means no. A record is durable before anything runs because of it. No file of a project has a say in it.

mod lines;

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shellkeep_protocol::registry::{Digest, Trust, TrustRecord};

use super::entry::{Entry, Exec};
use lines::{LISTED_BYTES_MAX, RUNS_LINES_MAX, bounded, bytes, forget_lines};
pub use lines::{line, runs};

/// Agreements that are kept; beyond that the oldest goes, and is asked for again.
pub const RECORDS_MAX: usize = 10_000;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// How long agreement lasts that cannot be remembered: who was asked runs it at once.
const ONCE_FOR: Duration = Duration::from_secs(10);

/// Such agreements that are open; beyond that the oldest goes.
const ONCE_MAX: usize = 64;

/// Name of the file, and where one goes that cannot be read.
const FILE: &str = "trust.json";
const FILE_DAMAGED: &str = "trust.json.damaged";

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
    once: VecDeque<Once>,
    /// What the user should know of the file.
    told: Option<String>,
}

/// Agreement to one execution.
#[derive(Debug)]
struct Once {
    key: (String, String),
    digest: Digest,
    until: Instant,
}

impl TrustStore {
    /// Those of the file in `directory`; none if there is no file. One that cannot be read is set aside, which is said.
    pub fn load(directory: &Path) -> Self {
        let path = directory.join(FILE);
        let mut told = None;
        let records = read(&path).unwrap_or_else(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                let aside = directory.join(FILE_DAMAGED);
                let kept = std::fs::rename(&path, &aside);
                let kept = kept.map_or_else(|_| "it is in the way".to_owned(), |()| format!("it is {} now", aside.display()));
                tracing::warn!(path = %path.display(), %error, kept, "what was agreed to cannot be read; it is asked for again");
                told = Some(format!("what was agreed to cannot be read ({error}) and is asked for again; {kept}"));
            }
            BTreeMap::new()
        });
        Self { path, records, once: VecDeque::new(), told }
    }

    /// What the user should know of the file.
    pub fn told(&self) -> Option<&str> {
        self.told.as_deref()
    }

    /// Whether this command of this project may run as it is. What the user's home alone says of a project is agreed to by that.
    pub fn of(&self, root: &Path, entry: &Entry) -> Trust {
        if entry.is_own() {
            return Trust::Trusted;
        }
        let (id, decides) = entry.agreed_as();
        match self.records.get(&key(root, id)) {
            Some(record) if record.digest == decides && unread(entry).is_none() => Trust::Trusted,
            _ => Trust::Pending,
        }
    }

    /// What was agreed to of this command, be it another by now.
    pub fn before(&self, root: &Path, entry: &str) -> Option<&TrustRecord> {
        self.records.get(&key(root, entry))
    }

    /// All, by project.
    pub fn records(&self) -> impl Iterator<Item = &TrustRecord> {
        self.records.values()
    }

    /// All, by project, with as many of their lines as fit into an answer.
    pub fn all(&self) -> Vec<TrustRecord> {
        let mut left = LISTED_BYTES_MAX;
        let listed = |record: &TrustRecord| {
            let runs = bounded(record.runs.clone(), RUNS_LINES_MAX, left / 2);
            left = left.saturating_sub(bytes(&runs));
            TrustRecord { runs, root: record.root.clone(), entry: record.entry.clone(), ..*record }
        };
        self.records.values().map(listed).collect()
    }

    /// The user agrees to one execution of what cannot be remembered.
    pub fn agree_once(&mut self, root: &Path, entry: &Entry) {
        if self.once.len() == ONCE_MAX {
            self.once.pop_front();
        }
        self.once.push_back(Once {
            key: key(root, &entry.id),
            digest: entry.decides,
            until: Instant::now() + ONCE_FOR,
        });
    }

    /// Whether the user has just agreed to this one execution, which uses that up.
    pub fn take_once(&mut self, root: &Path, entry: &Entry) -> bool {
        let now = Instant::now();
        self.once.retain(|once| once.until > now);
        let key = key(root, &entry.id);
        let at = self.once.iter().position(|once| once.key == key && once.digest == entry.decides);
        at.and_then(|at| self.once.remove(at)).is_some()
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
        forget_lines(&mut records);
        write(&self.path, &records)?;
        self.records = records;
        Ok(())
    }

    /// Takes back what `is_meant` says; returns those.
    ///
    /// # Errors
    /// If it cannot be written: then the file is removed and all is taken back, lest this comes again with the next daemon.
    pub fn revoke(&mut self, is_meant: impl Fn(&TrustRecord) -> bool) -> std::io::Result<Vec<TrustRecord>> {
        self.once.retain(|once| {
            let (root, entry) = once.key.clone();
            !is_meant(&TrustRecord { root, entry, digest: once.digest, at_us: 0, runs: Vec::new() })
        });
        let gone: Vec<TrustRecord> = self.records.values().filter(|record| is_meant(record)).cloned().collect();
        if gone.is_empty() {
            return Ok(gone);
        }
        self.records.retain(|_, record| !is_meant(record));
        let Err(error) = write(&self.path, &self.records) else { return Ok(gone) };
        self.records.clear();
        let removed = std::fs::remove_file(&self.path);
        Err(std::io::Error::other(match removed {
            Ok(()) => format!("{error}; so that it does not come back all agreements are taken back"),
            Err(other) if other.kind() == std::io::ErrorKind::NotFound => error.to_string(),
            Err(other) => format!(
                "{error}, and it cannot be removed either: {other}; it comes back when the daemon is started again"
            ),
        }))
    }
}

/// The reason why agreement to a command cannot be remembered, if there is one.
pub fn unread(entry: &Entry) -> Option<String> {
    let Exec::Found(item) = &entry.exec else { return None };
    item.unread().next().map(|(what, why)| format!("{what}: {why}"))
}

fn key(root: &Path, entry: &str) -> (String, String) {
    (root.to_string_lossy().into_owned(), entry.to_owned())
}

/// Neither a link nor anything but a file, and no more of it than there may be.
fn read(path: &Path) -> std::io::Result<BTreeMap<(String, String), TrustRecord>> {
    use std::io::Read as _;

    use rustix::fs::{FileType, Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    let saved: Saved = serde_json::from_slice(&text)?;
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
    // Whatever a crash or somebody else has left there is not written into.
    let _may_be_absent = std::fs::remove_file(&beside);
    let written =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).and_then(|mut file| {
            file.write_all(&serde_json::to_vec(&saved)?)?;
            file.sync_all()
        });
    if let Err(error) = written.and_then(|()| std::fs::rename(&beside, path)) {
        let _may_be_absent = std::fs::remove_file(&beside);
        return Err(error);
    }
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use shellkeep_protocol::registry::{Kind, Scope};

    use super::super::{Draft, Slice};
    use super::lines::{ALL_RUNS_BYTES_MAX, RUNS_BYTES_MAX};
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

    /// A link to `/dev/zero` would fill the memory, a FIFO would never end, and the next agreement would write over a damaged file.
    #[test]
    fn a_file_that_cannot_be_read_is_set_aside_and_told_and_nobody_waits_for_it() {
        use std::os::unix::fs::symlink;
        let plant: [fn(&Path); 4] = [
            |path| symlink("/dev/zero", path).unwrap(),
            |path| symlink("elsewhere.json", path).unwrap(),
            |path| {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            },
            |path| std::fs::write(path, "{\"version\":1,\"records\":[{").unwrap(),
        ];
        for plant in plant {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("elsewhere.json"), r#"{"version":1,"records":[]}"#).unwrap();
            plant(&directory.path().join(FILE));
            // What a crash has left is in nobody's way.
            symlink("/dev/full", directory.path().join("trust.new")).unwrap();
            let mut trust = TrustStore::load(directory.path());
            assert!(trust.told().is_some_and(|told| told.contains(FILE_DAMAGED)));
            assert!(directory.path().join(FILE_DAMAGED).symlink_metadata().is_ok());
            trust.agree(Path::new("/a"), &entry("one"), 5).unwrap();
            let again = TrustStore::load(directory.path());
            assert_eq!((again.of(Path::new("/a"), &entry("one")), again.told()), (Trust::Trusted, None));
        }
    }

    /// The disk is full, and the daemon is started again.
    #[test]
    fn what_is_taken_back_stays_taken_back_also_if_it_cannot_be_saved() {
        let directory = tempfile::tempdir().unwrap();
        let mut trust = TrustStore::load(directory.path());
        for (number, name) in ["one", "two"].into_iter().enumerate() {
            trust.agree(Path::new(&format!("/{name}")), &entry(name), number as u64).unwrap();
        }
        // A directory is in the place of what is written beside: nothing can be saved.
        std::fs::create_dir(directory.path().join("trust.new")).unwrap();
        let error = trust.revoke(|record| record.root == "/one").unwrap_err();
        assert!(error.to_string().contains("all agreements are taken back"), "{error}");
        for trust in [&trust, &TrustStore::load(directory.path())] {
            assert_eq!(trust.of(Path::new("/one"), &entry("one")), Trust::Pending);
            assert_eq!(trust.records().count(), 0);
        }
    }

    #[test]
    fn agreement_to_one_execution_is_for_that_one_as_it_was_shown() {
        let directory = tempfile::tempdir().unwrap();
        let mut trust = TrustStore::load(directory.path());
        let root = Path::new("/a");
        trust.agree_once(root, &entry("one"));
        assert!(!trust.take_once(root, &entry("two")) && !trust.take_once(Path::new("/b"), &entry("one")));
        assert_eq!(trust.of(root, &entry("one")), Trust::Pending);
        assert!(trust.take_once(root, &entry("one")));
        assert!(!trust.take_once(root, &entry("one")), "it is used up");
        for _ in 0..ONCE_MAX * 2 {
            trust.agree_once(root, &entry("one"));
        }
        assert_eq!(trust.once.len(), ONCE_MAX);
        trust.revoke(|record| record.root == "/a").unwrap();
        assert!(!trust.take_once(root, &entry("one")));
    }

    /// Behind line 2,000, behind 64 KiB, and behind all that a record holds.
    #[test]
    fn a_change_is_among_what_is_handed_over_wherever_it_is() {
        for (count, at) in [(10, 9), (2_500, 2_400), (5_000, 4_999), (60_000, 59_000)] {
            let line = |number: usize| format!("  the line of the number {number}");
            let all: Vec<String> = (0..count).map(line).collect();
            let mut changed = all.clone();
            changed[at].push('!');
            let kept = |lines| bounded(lines, RUNS_LINES_MAX, RUNS_BYTES_MAX);
            let (before, now) = (kept(all), kept(changed));
            assert_ne!(before, now, "{count}");
            assert!(now.iter().any(|line| line.ends_with('!')) || count == 60_000);
            assert!(bytes(&now) <= RUNS_BYTES_MAX + 200);
        }
    }

    #[test]
    fn the_lines_of_all_records_are_bounded_and_the_oldest_lose_theirs() {
        let record = |at_us: u64| {
            let runs = (0..RUNS_LINES_MAX).map(|number| format!("{number:010}")).collect();
            let key = ("/a".to_owned(), format!("{at_us:04}"));
            (key.clone(), TrustRecord { root: key.0, entry: key.1, digest: Digest([0; 32]), at_us, runs })
        };
        let mut records: BTreeMap<_, _> = (0..200).map(record).collect();
        forget_lines(&mut records);
        let all: usize = records.values().map(|record| bytes(&record.runs)).sum();
        assert!(all <= ALL_RUNS_BYTES_MAX);
        let lines: Vec<usize> = records.values().map(|record| record.runs.len()).collect();
        assert!(lines[0] == 1 && lines[199] == RUNS_LINES_MAX && lines.is_sorted());
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
