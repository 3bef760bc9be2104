//! Making packages: an archive from a directory, an index from a directory of archives.
//!
//! Promise: the same files give the same archive, byte for byte; what is built is read back under the rules of installing before it
//! counts. Nothing of the user's directory is changed.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use semver::Version;

use super::archive;
use super::error::PackageError;
use super::fetch::spool;
use super::index::{self, Index, Listed};
use super::intake::{Discard, Item, Taken};
use super::manifest;
use super::{directory, disk};

/// Levels of compression: archives are made once and fetched often.
const GZIP_LEVEL: u32 = 9;
const ZSTD_LEVEL: i32 = 19;
/// Archives in one directory.
const ARCHIVES_MAX: usize = 10_000;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `.tar.gz`
    Gzip,
    /// `.tar.zst`
    Zstd,
}

impl Compression {
    /// End of the name.
    pub fn end(self) -> &'static str {
        match self {
            Self::Gzip => ".tar.gz",
            Self::Zstd => ".tar.zst",
        }
    }
}

/// An archive that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The package.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// The archive.
    pub path: PathBuf,
    /// Of the archive, 64 hexadecimal digits.
    pub sha256: String,
    /// Of the archive, in bytes.
    pub size: u64,
}

/// What became of an index.
#[derive(Debug)]
pub struct Indexed {
    /// The file.
    pub path: PathBuf,
    /// What it has.
    pub index: Index,
    /// Archives that are not in it, and why.
    pub failed: Vec<(PathBuf, String)>,
}

/// Makes the archive of the package in `from`; its name is `NAME-VERSION.tar.gz` or the like, in the directory `to`.
///
/// # Errors
/// If it is no package, or cannot be read or written.
pub fn build(from: &Path, to: &Path, compression: Compression) -> Result<Built, PackageError> {
    let refused = |source| PackageError::Directory { path: from.to_owned(), source };
    let taken = directory::read(from, &mut Discard).map_err(refused)?;
    let name = format!("{}-{}{}", taken.manifest.name, taken.manifest.version, compression.end());
    let path = to.join(&name);
    let failed = || PackageError::io("write", &path);
    let mut beside = tempfile::Builder::new().prefix(".build-").tempfile_in(to).map_err(failed())?;
    let file = beside.as_file_mut();
    match compression {
        Compression::Gzip => {
            let mut out = flate2::GzBuilder::new().write(&mut *file, flate2::Compression::new(GZIP_LEVEL));
            tar(from, &taken, &mut out)?;
            out.finish().map_err(failed())?;
        }
        Compression::Zstd => {
            let mut out = zstd::stream::write::Encoder::new(&mut *file, ZSTD_LEVEL).map_err(failed())?;
            tar(from, &taken, &mut out)?;
            out.finish().map_err(failed())?;
        }
    }
    let read_back = archive::unpack(&mut file.try_clone().map_err(failed())?, &mut Discard, &|_| ());
    read_back.map_err(|source| PackageError::Archive { what: name, source })?;
    let readable = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    file.set_permissions(readable).and_then(|()| file.sync_all()).map_err(failed())?;
    beside.persist(&path).map_err(|error| failed()(error.error))?;
    let listed = inspect(&path)?;
    Ok(Built { name: listed.name, version: listed.version, path, sha256: listed.sha256, size: listed.size })
}

/// Makes or refreshes the index of the archives in `directory`.
///
/// # Errors
/// If the directory cannot be read or written. An archive that is refused is said, and left out.
pub fn index(directory: &Path, on_archive: &dyn Fn(usize, usize)) -> Result<Indexed, PackageError> {
    let unreadable = || PackageError::io("read", directory);
    let mut archives = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable())? {
        let entry = entry.map_err(unreadable())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_archive = [".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| name.ends_with(end));
        if is_archive && !name.starts_with('.') {
            archives.push(entry.path());
        }
    }
    if archives.len() > ARCHIVES_MAX {
        return Err(unreadable()(io::Error::other(format!("it has more than {ARCHIVES_MAX} archives"))));
    }
    archives.sort();
    let (mut all, mut failed): (Vec<Listed>, Vec<(PathBuf, String)>) = (Vec::new(), Vec::new());
    for (done, path) in archives.iter().enumerate() {
        on_archive(done, archives.len());
        match inspect(path) {
            Ok(listed) => match all.iter().find(|one| one.name == listed.name && one.version == listed.version) {
                Some(twin) => failed.push((path.clone(), format!("it is the same version as {}", twin.path))),
                None => all.push(listed),
            },
            Err(error) => failed.push((path.clone(), error.to_string())),
        }
    }
    let path = directory.join(index::FILE);
    let index = Index::of(all);
    let written = index.to_bytes().and_then(|bytes| {
        let mut beside = tempfile::Builder::new().prefix(".index-").tempfile_in(directory)?;
        beside.write_all(&bytes)?;
        let readable = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        beside.as_file().set_permissions(readable)?;
        beside.as_file().sync_all()?;
        beside.persist(&path).map_err(|error| error.error)
    });
    written.map_err(PackageError::io("write", &path))?;
    Ok(Indexed { path, index, failed })
}

/// What an index says of an archive, which must be one that could be installed somewhere.
fn inspect(path: &Path) -> Result<Listed, PackageError> {
    let what = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let fetched = spool::file(&std::env::temp_dir(), path, &|_, _| ())?;
    let (mut file, sha256) = fetched.into_parts();
    let size = file.metadata().map_err(PackageError::io("read", path))?.len();
    let taken = archive::unpack(&mut file, &mut Discard, &|_| ())
        .map_err(|source| PackageError::Archive { what: what.clone(), source })?;
    let manifest = taken.manifest;
    Ok(Listed {
        name: manifest.name,
        version: manifest.version,
        description: manifest.description,
        commands: manifest.commands.into_iter().map(|command| command.name).collect(),
        path: what,
        sha256,
        size,
        requires: manifest.requires,
        platforms: manifest.platforms,
        license: manifest.license,
        homepage: manifest.homepage,
    })
}

/// Everything of a package as a tar: by name, of nobody, from no time. The manifest gets `[files]` if it has none.
fn tar(from: &Path, taken: &Taken, out: &mut dyn Write) -> Result<(), PackageError> {
    let mut builder = tar::Builder::new(out);
    for (path, item) in &taken.items {
        let at = from.join(path);
        let failed = || PackageError::io("pack", &at);
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        match item {
            Item::Link { link } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                builder.append_link(&mut header, path, link).map_err(failed())?;
            }
            Item::File { executable, .. } => {
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                if path == manifest::FILE && taken.manifest.files.is_none() {
                    let bytes = with_files(&at, taken).map_err(failed())?;
                    header.set_size(bytes.len() as u64);
                    builder.append_data(&mut header, path, bytes.as_slice()).map_err(failed())?;
                } else {
                    let file: File = disk::open(&at).map_err(failed())?;
                    header.set_size(file.metadata().map_err(failed())?.len());
                    builder.append_data(&mut header, path, file).map_err(failed())?;
                }
            }
        }
    }
    builder.finish().map_err(PackageError::io("pack", from))
}

/// The manifest as it is, with the checksums of all other files behind it.
fn with_files(at: &Path, taken: &Taken) -> io::Result<Vec<u8>> {
    let mut text = std::fs::read_to_string(at)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str("\n[files]\n");
    for (path, item) in &taken.items {
        if let Item::File { sha256, .. } = item
            && path != manifest::FILE
        {
            text.extend([format!("{} = \"sha256:{sha256}\"\n", toml::Value::String(path.clone()))]);
        }
    }
    Ok(text.into_bytes())
}
