//! The index: which packages there are to install, from a directory or an address, and as it was last seen.
//!
//! Promise: an entry that gets past here has names that are safe and a path inside the index; the rest is left out and counted. What was
//! seen once can be searched without a network. Knows no store.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use reqwest::Url;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::disk;
use super::fetch::{Fetched, OnFetch, spool};
use super::http::{self, HttpError};
use super::intake::{PACKED_BYTES_MAX, hex};
use super::manifest::platform;
use super::names::{TEXT_BYTES_MAX, is_command_name, is_package_name, is_unprintable, path_fault};
use super::provides;

/// Name of the file in the index's directory.
pub(super) const FILE: &str = "index.json";
/// Largest index that is read.
pub(super) const BYTES_MAX: u64 = 16 << 20;
/// Releases in an index; those beyond are left out.
const RELEASES_MAX: usize = 100_000;
/// Indexes that are remembered; the one not seen for longest goes first.
const CACHED_MAX: usize = 8;
/// Digits in the name of a remembered index.
const CACHE_DIGITS: usize = 16;
/// Form of the file.
const VERSION: u32 = 1;
/// How alike two names must be for the one to be taken for the other, mistyped.
const NEAR: f64 = 0.7;

/// Why an index cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It is neither a directory nor an address that is spoken here.
    #[error("\"{0}\" is no index: a directory, or an address with file:, http: or https:")]
    Source(String),
    /// It is not there, or cannot be read.
    #[error("cannot read {what}: {source}")]
    Read {
        /// Which file.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// What is fetched cannot be put down here.
    #[error("cannot write in {}: {source}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no index.
    #[error("{what} is no index: {why}")]
    Form {
        /// Which file.
        what: String,
        /// In the words of the parser.
        why: String,
    },
    /// It cannot be fetched.
    #[error("cannot fetch {what}: {source}")]
    Http {
        /// Which address.
        what: String,
        /// Why.
        source: HttpError,
    },
}

impl IndexError {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Read { what, source } if source.kind() == io::ErrorKind::NotFound && what.ends_with(FILE) => {
                let directory = what.strip_suffix(FILE).unwrap_or(what);
                Some(format!("\"shellkeep pkg index {directory}\" makes one of the archives there"))
            }
            Self::Http { what, source: HttpError::Status(status) } if status.is_client_error() => {
                let index =
                    format!("an index's address is that of the directory that has {FILE}: is it the right one?");
                let archive = "\"shellkeep pkg update\" looks at the index anew, which may name another archive";
                Some(if what.ends_with(FILE) { index } else { archive.to_owned() })
            }
            Self::Write { path, source } => super::error::of_the_system(source, path),
            Self::Http { .. } => Some("try again; what is installed works without".to_owned()),
            _ => None,
        }
    }
}

/// Where an index is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory here.
    Directory(PathBuf),
    /// An address of its directory, with a `/` at the end.
    Http(Url),
}

impl Source {
    /// From what the user says: a path, `file:` or `http(s):`.
    ///
    /// # Errors
    /// [`IndexError::Source`].
    pub fn parse(text: &str) -> Result<Self, IndexError> {
        let bad = || IndexError::Source(text.to_owned());
        let is_address = ["file:", "http:", "https:"].iter().any(|scheme| text.starts_with(scheme));
        if !is_address {
            let is_other = text.is_empty() || text.contains("://");
            return if is_other {
                Err(bad())
            } else {
                Ok(Self::Directory(std::path::absolute(text).map_err(|_| bad())?))
            };
        }
        let mut url = Url::parse(text).map_err(|_| bad())?;
        url.set_fragment(None);
        let path = url.path().strip_suffix(FILE).unwrap_or(url.path()).to_owned();
        url.set_path(&if path.ends_with('/') { path } else { format!("{path}/") });
        if url.scheme() == "file" {
            Ok(Self::Directory(url.to_file_path().map_err(|()| bad())?))
        } else {
            Ok(Self::Http(url))
        }
    }

    /// Whether somebody between could change what it says.
    pub fn is_unprotected(&self) -> bool {
        matches!(self, Self::Http(url) if url.scheme() == "http" && !http::is_loopback(url))
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Http(url) => write!(f, "{url}"),
        }
    }
}

/// One release that an index has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Name of the package.
    pub name: String,
    /// Strict semver.
    pub version: Version,
    /// One line.
    #[serde(default)]
    pub description: String,
    /// Names of its commands.
    pub commands: Vec<String>,
    /// The archive, relative to the index.
    pub path: String,
    /// Of the archive, 64 hexadecimal digits.
    pub sha256: String,
    /// Of the archive, in bytes.
    pub size: u64,
    /// Versions of shellkeep that it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<VersionReq>,
    /// Machines that it is for; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// SPDX, or whatever it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Where to read on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
}

impl Listed {
    /// Whether it runs here, as far as it says.
    fn fits_here(&self) -> bool {
        let own = Version::parse(env!("CARGO_PKG_VERSION"));
        let is_new_enough = self.requires.as_ref().is_none_or(|needed| own.is_ok_and(|own| needed.matches(&own)));
        is_new_enough && (self.platforms.is_empty() || self.platforms.contains(&platform()))
    }

    fn is_fine(&self) -> bool {
        let is_line = |text: &str| text.len() <= TEXT_BYTES_MAX && !text.chars().any(is_unprintable);
        is_package_name(&self.name)
            && is_line(&self.description)
            && [&self.license, &self.homepage].into_iter().flatten().all(|text| is_line(text))
            && self.commands.iter().all(|name| is_command_name(name))
            && path_fault(&self.path).is_none()
            && self.sha256.len() == 64
            && self.sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
            && self.size <= PACKED_BYTES_MAX
    }
}

/// The form of the file.
#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    packages: Vec<Box<RawValue>>,
}

/// What an index has, each package's newest release first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// By name.
    pub packages: BTreeMap<String, Vec<Listed>>,
    /// Entries that are not as they may be.
    pub left_out: usize,
}

impl Index {
    /// Of these releases.
    pub fn of(listed: Vec<Listed>) -> Self {
        let mut packages: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
        for one in listed {
            packages.entry(one.name.clone()).or_default().push(one);
        }
        for releases in packages.values_mut() {
            releases.sort_by(|one, other| other.version.cmp(&one.version));
        }
        Self { packages, left_out: 0 }
    }

    pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Self, IndexError> {
        let bad = |why: String| IndexError::Form { what: what.to_owned(), why };
        let saved: Saved = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        if saved.version != VERSION {
            return Err(bad(format!("its form {} is not known here", saved.version)));
        }
        let count = saved.packages.len();
        let entries = saved.packages.into_iter().take(RELEASES_MAX);
        let fine: Vec<Listed> =
            entries.filter_map(|one| serde_json::from_str(one.get()).ok()).filter(Listed::is_fine).collect();
        let left_out = count - fine.len();
        Ok(Self { left_out, ..Self::of(fine) })
    }

    /// The bytes of the file: the same index has the same.
    ///
    /// # Errors
    /// If it cannot be put into JSON.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let packages =
            self.packages.values().flatten().map(serde_json::value::to_raw_value).collect::<Result<_, _>>()?;
        let mut bytes = serde_json::to_vec_pretty(&Saved { version: VERSION, packages })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The release to take if no version is asked for: the newest that runs here and is no pre-release, else the newest.
    pub fn newest(&self, name: &str) -> Option<&Listed> {
        let all = self.packages.get(name)?;
        let is_stable = |one: &&Listed| one.version.pre.is_empty();
        let mut fitting = all.iter().filter(|one| one.fits_here());
        fitting.clone().find(is_stable).or_else(|| fitting.next()).or_else(|| all.first())
    }

    /// Packages in whose name, description or commands `text` is, in whatever case.
    pub fn search(&self, text: &str) -> Vec<&Listed> {
        let wanted = text.to_lowercase();
        let has = |text: &String| text.to_lowercase().contains(&wanted);
        let newest = self.packages.keys().filter_map(|name| self.newest(name));
        newest.filter(|one| has(&one.name) || has(&one.description) || one.commands.iter().any(has)).collect()
    }

    /// A package with nearly this name.
    pub fn near(&self, name: &str) -> Option<String> {
        near(name, self.packages.keys())
    }
}

/// The most alike of `names`, if one is.
pub(super) fn near<'a>(name: &str, names: impl Iterator<Item = &'a String>) -> Option<String> {
    let alike = names.map(|known| (strsim::jaro(known, name), known)).filter(|(alike, _)| *alike > NEAR);
    alike.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, known)| known.clone())
}

/// An index and how fresh it is.
#[derive(Debug, Clone)]
pub struct Held {
    /// It.
    pub index: Index,
    /// Where it is.
    pub source: Source,
    /// Why it could not be looked at anew, if so: then it is as it was last seen.
    pub stale: Option<String>,
    /// When it was last seen, if nobody was asked.
    pub seen: Option<SystemTime>,
}

/// How fresh an index must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As it is now, or an error.
    Now,
    /// As it is now; if it cannot be had, as it was last seen.
    NowIfPossible,
    /// As it was last seen, if it was; a directory is always looked at.
    Seen,
}

/// An index as it was last seen. The form of the file in `cache/`.
#[derive(Serialize, Deserialize)]
struct Cached {
    source: String,
    etag: Option<String>,
    /// The index's own bytes.
    index: String,
}

/// Reads the index at `source`, remembering it in the directory `cache`.
///
/// # Errors
/// See [`IndexError`]; with [`Freshness::Now`] also if only an old one can be had.
pub fn read(cache: &Path, source: &Source, freshness: Freshness) -> Result<Held, IndexError> {
    let held = |index, stale| Held { index, source: source.clone(), stale, seen: None };
    match source {
        Source::Directory(directory) => {
            let path = directory.join(FILE);
            let what = path.display().to_string();
            let unreadable = |source| IndexError::Read { what: what.clone(), source };
            let mut bytes = Vec::new();
            disk::open(&path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
            if bytes.len() as u64 > BYTES_MAX {
                return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
            }
            let index = Index::parse(&what, &bytes)?;
            remember(cache, source, None, &bytes);
            Ok(held(index, None))
        }
        Source::Http(url) => {
            let seen = recall(cache, source);
            if let (Freshness::Seen, Some((_, index))) = (freshness, &seen) {
                return Ok(Held { seen: last_seen(cache, source), ..held(index.clone(), None) });
            }
            match fetch(url, seen.as_ref().and_then(|(etag, _)| etag.as_deref())) {
                Ok(None) => {
                    touch(cache, source);
                    Ok(held(seen.map(|(_, index)| index).unwrap_or_default(), None))
                }
                Ok(Some((etag, bytes))) => {
                    let index = Index::parse(url.as_str(), &bytes)?;
                    remember(cache, source, etag, &bytes);
                    Ok(held(index, None))
                }
                Err(error) => match seen {
                    Some((_, index)) if freshness != Freshness::Now => Ok(held(index, Some(error.to_string()))),
                    _ => Err(error),
                },
            }
        }
    }
}

fn last_seen(cache: &Path, source: &Source) -> Option<SystemTime> {
    std::fs::metadata(cached_path(cache, source)).and_then(|meta| meta.modified()).ok()
}

/// It is still as it was: for [`last_seen`].
fn touch(cache: &Path, source: &Source) {
    let now = disk::open(&cached_path(cache, source)).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = now {
        tracing::debug!(%error, "that the index was seen is not remembered");
    }
}

/// The index at `source` as it was last seen here, without asking anybody: for what must be quick.
pub(super) fn seen(cache: &Path, source: &Source) -> Option<Index> {
    recall(cache, source).map(|(_, index)| index)
}

/// Its tag, and its bytes.
type Tagged = (Option<String>, Vec<u8>);

/// `None` if it is the one with this tag.
fn fetch(url: &Url, etag: Option<&str>) -> Result<Option<Tagged>, IndexError> {
    let failed = |source| IndexError::Http { what: format!("{url}{FILE}"), source };
    let at = url.join(FILE).map_err(|_| IndexError::Source(url.to_string()))?;
    let mut bytes = Vec::new();
    let got = http::get(&at, etag, BYTES_MAX, &mut |chunk, _total| {
        bytes.extend_from_slice(chunk);
        Ok(())
    });
    Ok(match got.map_err(failed)? {
        http::Got::NotModified => None,
        http::Got::Whole { etag } => Some((etag, bytes)),
    })
}

/// Gets a release's archive, whose SHA-256 must be what the index says.
///
/// # Errors
/// See [`IndexError`]; the checksum is looked at by whoever installs it.
pub(super) fn archive(
    staging: &Path,
    source: &Source,
    listed: &Listed,
    on_fetch: OnFetch<'_>,
) -> Result<Fetched, IndexError> {
    let (spooled, what) = match source {
        Source::Directory(directory) => {
            let path = directory.join(&listed.path);
            (spool::file(staging, &path, on_fetch)?, path.display().to_string())
        }
        Source::Http(url) => {
            let at = beneath(url, &listed.path).ok_or_else(|| IndexError::Source(url.to_string()))?;
            (spool::url(staging, &at, on_fetch)?, at.to_string())
        }
    };
    Ok(spooled.of_index(what, source, listed))
}

/// The address of a path in an index. Added name by name, so that it cannot lead to another place: joined, a path that begins like an
/// address would.
pub(super) fn beneath(url: &Url, path: &str) -> Option<Url> {
    let mut at = url.clone();
    at.set_query(None);
    at.path_segments_mut().ok()?.pop_if_empty().extend(path.split('/'));
    Some(at)
}

pub(super) fn cached_path(cache: &Path, source: &Source) -> PathBuf {
    let digest = hex(&Sha256::digest(source.to_string()));
    cache.join(format!("{}.json", &digest[..CACHE_DIGITS]))
}

fn recall(cache: &Path, source: &Source) -> Option<(Option<String>, Index)> {
    let mut bytes = Vec::new();
    disk::open(&cached_path(cache, source)).ok()?.take(BYTES_MAX * 2).read_to_end(&mut bytes).ok()?;
    let cached: Cached = serde_json::from_slice(&bytes).ok()?;
    let is_it = cached.source == source.to_string();
    let index = Index::parse("the cache", cached.index.as_bytes()).ok().filter(|_| is_it)?;
    Some((cached.etag, index))
}

/// A cache that cannot be written is none: the index was had all the same.
pub(super) fn remember(cache: &Path, source: &Source, etag: Option<String>, bytes: &[u8]) {
    let Ok(index) = String::from_utf8(bytes.to_vec()) else { return };
    let cached = Cached { source: source.to_string(), etag, index };
    let path = cached_path(cache, source);
    let written = serde_json::to_vec(&cached).map_err(io::Error::from).and_then(|bytes| {
        let names = provides::path(cache, source);
        if std::fs::read(&path).is_ok_and(|old| old == bytes) && names.exists() {
            touch(cache, source);
            return Ok(());
        }
        let index = Index::parse("the index", cached.index.as_bytes()).unwrap_or_default();
        replace(cache, &names, provides::lines(&index).as_bytes())?;
        replace(cache, &path, &bytes)
    });
    if let Err(error) = written {
        tracing::debug!(%error, "the index is not remembered");
    }
}

fn replace(cache: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let mut beside = tempfile::Builder::new().prefix(".new-").tempfile_in(cache)?;
    beside.write_all(bytes)?;
    beside.persist(path).map_err(|error| error.error)?;
    let kept = path.extension();
    let is_ours = |path: &Path| {
        let stem = path.file_stem().unwrap_or_default().as_encoded_bytes();
        path.extension() == kept && stem.len() == CACHE_DIGITS && stem.iter().all(u8::is_ascii_hexdigit)
    };
    let all = std::fs::read_dir(cache)?.flatten().filter(|entry| is_ours(&entry.path()));
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).ok());
    let too_many = all.len().saturating_sub(CACHED_MAX);
    all.iter().take(too_many).try_for_each(|entry| std::fs::remove_file(entry.path()))
}
