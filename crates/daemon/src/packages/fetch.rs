//! From what the user says to a package that can be unpacked: a name, a path or an address.
//!
//! Promise: what is unpacked is what was checked: an archive is first copied to a file without a name, so nothing that changes it
//! meanwhile counts, and nothing is left behind whatever happens.

use std::fs::File;
use std::path::{Path, PathBuf};

use reqwest::Url;
use semver::Version;

use super::db::Origin;
use super::index::{Listed, Source};
use super::names::{NAME_BYTES_MAX, is_package_name};

/// Called with the bytes that were fetched, and how many there are if that is known.
pub type OnFetch<'a> = &'a dyn Fn(u64, Option<u64>);

/// What the user asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// A package of the index.
    Named {
        /// Its name.
        name: String,
        /// This version and no other.
        version: Option<Version>,
    },
    /// An archive, or a directory with a manifest.
    Path(PathBuf),
    /// An archive elsewhere.
    Url(Url),
    /// Every package of the index.
    All,
}

impl Spec {
    /// From one word: an address, a path (with a `/` or the end of an archive's name), else `NAME[@VERSION]`; `None` if it is none of them.
    pub fn parse(word: &str) -> Option<Self> {
        let is_address = ["http://", "https://", "file:"].iter().any(|scheme| word.starts_with(scheme));
        if is_address {
            let url = Url::parse(word).ok()?;
            return if url.scheme() == "file" { url.to_file_path().ok().map(Self::Path) } else { Some(Self::Url(url)) };
        }
        let is_archive = [".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| word.ends_with(end));
        if word.contains('/') || is_archive || word == "." || word == ".." {
            return std::path::absolute(word).ok().map(Self::Path);
        }
        if word == super::names::ALL {
            return Some(Self::All);
        }
        let (name, version) = match word.split_once('@') {
            Some((name, version)) if version.len() <= NAME_BYTES_MAX => (name, Some(Version::parse(version).ok()?)),
            Some(_) => return None,
            None => (word, None),
        };
        is_package_name(name).then(|| Self::Named { name: name.to_owned(), version })
    }
}

/// A package that is at hand.
#[derive(Debug)]
pub struct Fetched {
    pub(super) content: Content,
    /// For messages: a path or an address.
    pub(super) what: String,
    pub(super) origin: Origin,
    /// What it must be, and who says so.
    pub(super) promised: Option<Promised>,
    /// Of the archive.
    pub(super) sha256: Option<String>,
}

/// The files.
#[derive(Debug)]
pub(super) enum Content {
    /// In an archive without a name.
    Archive(File),
    /// In a directory of the user's.
    Directory(PathBuf),
}

/// What somebody said of a package before it was there.
#[derive(Debug, Default)]
pub(super) struct Promised {
    pub(super) by: String,
    pub(super) sha256: String,
    pub(super) name: Option<String>,
    pub(super) version: Option<Version>,
}

impl Promised {
    /// Name and version, if both are known.
    pub(super) fn release(&self) -> Option<(&str, &Version)> {
        Some((self.name.as_deref()?, self.version.as_ref()?))
    }
}

impl Fetched {
    /// Its archive must have this SHA-256, as the user says.
    #[must_use]
    pub fn promised(mut self, sha256: &str) -> Self {
        self.promised = Some(Promised { by: "--sha256".to_owned(), sha256: sha256.to_owned(), ..Promised::default() });
        self
    }
}

/// Copies to files without names.
pub(super) mod spool {
    use std::io::{self, Read as _, Write as _};

    use sha2::{Digest as _, Sha256};

    use super::{Content, Fetched, File, Listed, OnFetch, Origin, Path, Promised, Source, Url};
    use crate::packages::disk;
    use crate::packages::http::{self, HttpError};
    use crate::packages::index::IndexError;
    use crate::packages::intake::{PACKED_BYTES_MAX, hex};

    /// Bytes that are copied at once.
    const CHUNK_BYTES: usize = 64 << 10;

    /// An archive in a file of ours.
    #[derive(Debug)]
    pub(in crate::packages) struct Spooled {
        file: File,
        sha256: String,
    }

    impl Spooled {
        pub(in crate::packages) fn into_parts(self) -> (File, String) {
            (self.file, self.sha256)
        }

        pub(in crate::packages) fn of_index(self, what: String, source: &Source, listed: &Listed) -> Fetched {
            let promised = Promised {
                by: format!("the index {source}"),
                sha256: listed.sha256.clone(),
                name: Some(listed.name.clone()),
                version: Some(listed.version.clone()),
            };
            self.of(what, Origin::Index { source: source.to_string() }, Some(promised))
        }

        pub(in crate::packages) fn of(self, what: String, origin: Origin, promised: Option<Promised>) -> Fetched {
            Fetched { content: Content::Archive(self.file), what, origin, promised, sha256: Some(self.sha256) }
        }
    }

    /// An archive here.
    pub(in crate::packages) fn file(staging: &Path, path: &Path, on_fetch: OnFetch<'_>) -> Result<Spooled, IndexError> {
        let unreadable = |source| IndexError::Read { what: path.display().to_string(), source };
        let mut from = disk::open(path).map_err(unreadable)?;
        let total = from.metadata().map_err(unreadable)?.len();
        let mut to = tempfile::tempfile_in(staging).map_err(unwritable(staging))?;
        let (mut hash, mut chunk, mut got) = (Sha256::new(), vec![0; CHUNK_BYTES], 0);
        loop {
            let count = from.read(&mut chunk).map_err(unreadable)?;
            if count == 0 {
                return Ok(Spooled { file: to, sha256: hex(&hash.finalize()) });
            }
            got += count as u64;
            if got > PACKED_BYTES_MAX {
                return Err(unreadable(io::Error::other(format!("it has more than {PACKED_BYTES_MAX} bytes"))));
            }
            hash.update(&chunk[..count]);
            to.write_all(&chunk[..count]).map_err(unwritable(staging))?;
            on_fetch(got, Some(total));
        }
    }

    /// An archive elsewhere.
    pub(in crate::packages) fn url(staging: &Path, url: &Url, on_fetch: OnFetch<'_>) -> Result<Spooled, IndexError> {
        let failed = |source: HttpError| match source {
            HttpError::Io(source) => unwritable(staging)(source),
            source => IndexError::Http { what: url.to_string(), source },
        };
        let mut to = tempfile::tempfile_in(staging).map_err(unwritable(staging))?;
        let (mut hash, mut got) = (Sha256::new(), 0);
        let fetched = http::get(url, None, PACKED_BYTES_MAX, &mut |piece, total| {
            got += piece.len() as u64;
            hash.update(piece);
            on_fetch(got, total);
            to.write_all(piece)
        });
        fetched.map_err(failed)?;
        Ok(Spooled { file: to, sha256: hex(&hash.finalize()) })
    }

    fn unwritable(staging: &Path) -> impl Fn(io::Error) -> IndexError {
        |source| IndexError::Write { path: staging.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_a_word_is_a_name_a_path_or_an_address() {
        let named = |name: &str, version: Option<&str>| {
            Some(Spec::Named { name: name.to_owned(), version: version.map(|version| version.parse().unwrap()) })
        };
        assert_eq!(Spec::parse("hello"), named("hello", None));
        assert_eq!(Spec::parse("hello@1.2.0-rc.1"), named("hello", Some("1.2.0-rc.1")));
        assert_eq!(Spec::parse("all"), Some(Spec::All));
        assert!(matches!(Spec::parse("./hello"), Some(Spec::Path(_))));
        assert!(matches!(Spec::parse("hello-1.0.0.tar.gz"), Some(Spec::Path(_))));
        assert_eq!(Spec::parse("file:///a/b.tar.zst"), Some(Spec::Path("/a/b.tar.zst".into())));
        assert!(matches!(Spec::parse("https://example.org/x.tar.gz"), Some(Spec::Url(_))));
        for bad in ["", "Hello", "hello@", "hello@1", "hello@1.0.0@2.0.0", "-x", "ftp:x"] {
            assert_eq!(Spec::parse(bad), None, "{bad}");
        }
    }
}
