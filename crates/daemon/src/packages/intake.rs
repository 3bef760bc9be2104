//! What is let into a package, from whatever it comes: names, kinds, sizes, each checked before a byte of it is written.
//!
//! Promise: nothing is written through a link, twice, or outside; links are handed on last, after all files, and lead inside. Each
//! limit is a named constant and an error of its own. Knows neither archives nor where the files go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::manifest::{self, Manifest, ManifestError, Use};
use super::names::{link_fault, path_fault};

/// Largest archive.
pub(super) const PACKED_BYTES_MAX: u64 = 64 << 20;
/// Bytes of all files of a package together.
pub(super) const UNPACKED_BYTES_MAX: u64 = 512 << 20;
/// How many times larger than its archive a package may be, once it has [`RATIO_FREE_BYTES`].
pub(super) const RATIO_MAX: u64 = 200;
/// Below that a package may be of nothing but zeros.
pub(super) const RATIO_FREE_BYTES: u64 = 4 << 20;
/// Files, directories and links of one package.
pub(super) const ENTRIES_MAX: usize = 20_000;
/// Name that is ours in each package's directory: what was installed, see [`super::db`].
pub(super) const RECEIPT: &str = ".shellkeep.json";

/// Set-user-id, set-group-id and sticky.
const SPECIAL_MODES: u32 = 0o7000;
const EXECUTABLE_MODES: u32 = 0o111;

/// Why something is not let in.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// It may not be called so.
    #[error("\"{path}\" {why}")]
    Path {
        /// As it is called, without what a terminal acts on.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Too much of something.
    #[error("it has more than {max} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// It grows too much when it is unpacked.
    #[error("it becomes more than {RATIO_MAX} times as large as its archive")]
    Ratio,
    /// It has no manifest.
    #[error("it has no {} at its root{}", manifest::FILE, .nested.as_ref().map_or_else(String::new, |at| format!(", but {at}")))]
    NoManifest {
        /// Where there is one.
        nested: Option<String>,
    },
    /// Its manifest, or what is to be there because of it.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// One file or link of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Item {
    /// A regular file.
    File {
        /// Of its bytes, 64 hexadecimal digits.
        sha256: String,
        /// Its size in bytes.
        size: u64,
        /// Whether it is a program.
        executable: bool,
    },
    /// A symlink.
    Link {
        /// Where it leads, as it is written in it.
        link: String,
    },
}

/// Everything in a package, by path.
pub type Items = BTreeMap<String, Item>;

/// A package that was let in, with all that is known of it.
#[derive(Debug)]
pub(super) struct Taken {
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its files and links.
    pub items: Items,
    /// SHA-256 over `items`, 64 hexadecimal digits: the same files have the same, however they were packed.
    pub digest: String,
}

/// Takes what is let in.
pub(super) trait Sink {
    /// A new directory, whose parent was named before.
    fn directory(&mut self, path: &str) -> std::io::Result<()>;
    /// A new file, in a directory that was named before; then its bytes, then its end.
    fn begin(&mut self, path: &str, executable: bool) -> std::io::Result<()>;
    /// The next bytes of the file that was begun.
    fn data(&mut self, bytes: &[u8]) -> std::io::Result<()>;
    /// It is whole.
    fn end(&mut self) -> std::io::Result<()>;
    /// A link; they come last.
    fn link(&mut self, path: &str, target: &str) -> std::io::Result<()>;
}

/// Takes nothing: for looking at a package.
#[derive(Debug)]
pub(super) struct Discard;

impl Sink for Discard {
    fn directory(&mut self, _path: &str) -> std::io::Result<()> {
        Ok(())
    }
    fn begin(&mut self, _path: &str, _executable: bool) -> std::io::Result<()> {
        Ok(())
    }
    fn data(&mut self, _bytes: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
    fn end(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    fn link(&mut self, _path: &str, _target: &str) -> std::io::Result<()> {
        Ok(())
    }
}

/// The file that is being taken.
struct Open {
    path: String,
    executable: bool,
    hash: Sha256,
    size: u64,
    /// Its bytes, if it is the manifest.
    kept: Option<Vec<u8>>,
}

/// One package on its way in.
pub(super) struct Intake<'a> {
    sink: &'a mut dyn Sink,
    /// Bytes of the archive; `None` if there is none.
    packed: Option<u64>,
    /// Names in lower case → as they are, and whether they are directories.
    seen: BTreeMap<String, (String, bool)>,
    items: Items,
    bytes: u64,
    open: Option<Open>,
    manifest: Option<(&'static str, Vec<u8>)>,
    nested_manifest: Option<String>,
}

/// An error of the intake, or of the disk behind it.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// Not let in.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// It cannot be written where it goes.
    #[error("cannot write it: {0}")]
    Sink(std::io::Error),
}

impl<'a> Intake<'a> {
    pub(super) fn new(sink: &'a mut dyn Sink, packed: Option<u64>) -> Self {
        Self {
            sink,
            packed,
            seen: BTreeMap::new(),
            items: Items::new(),
            bytes: 0,
            open: None,
            manifest: None,
            nested_manifest: None,
        }
    }

    /// A directory, which may be named again.
    pub(super) fn directory(&mut self, path: &str, mode: u32) -> Result<(), TakeError> {
        check(path, mode)?;
        self.parents(path)?;
        self.one_directory(path)
    }

    /// A file of `size` bytes, whose bytes come next.
    pub(super) fn begin(&mut self, path: &str, mode: u32, size: u64) -> Result<(), TakeError> {
        check(path, mode)?;
        self.parents(path)?;
        self.claim(path, false)?;
        let manifest = [manifest::FILE, manifest::JSHELL_FILE].into_iter().find(|name| *name == path);
        if manifest.is_some() && size > manifest::BYTES_MAX {
            return Err(IntakeError::TooMuch { what: "bytes of manifest", max: manifest::BYTES_MAX }.into());
        }
        self.room(size)?;
        if self.nested_manifest.is_none() && path.ends_with("/package.toml") {
            self.nested_manifest = Some(path.to_owned());
        }
        let executable = mode & EXECUTABLE_MODES != 0;
        self.sink.begin(path, executable).map_err(TakeError::Sink)?;
        let kept = manifest.map(|_| Vec::new());
        self.open = Some(Open { path: path.to_owned(), executable, hash: Sha256::new(), size: 0, kept });
        Ok(())
    }

    /// The next bytes of the file that was begun.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), TakeError> {
        self.room(bytes.len() as u64)?;
        self.bytes += bytes.len() as u64;
        if let Some(open) = &mut self.open {
            open.hash.update(bytes);
            open.size += bytes.len() as u64;
            if let Some(kept) = &mut open.kept {
                kept.extend_from_slice(bytes);
            }
        }
        self.sink.data(bytes).map_err(TakeError::Sink)
    }

    /// The file that was begun is whole.
    pub(super) fn end(&mut self) -> Result<(), TakeError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        self.sink.end().map_err(TakeError::Sink)?;
        let item = Item::File { sha256: hex(&open.hash.finalize()), size: open.size, executable: open.executable };
        if let Some(kept) = open.kept {
            // package.toml counts where both are.
            let is_ours = open.path == manifest::FILE;
            if is_ours || self.manifest.is_none() {
                self.manifest = Some((if is_ours { manifest::FILE } else { manifest::JSHELL_FILE }, kept));
            }
        }
        self.items.insert(open.path, item);
        Ok(())
    }

    /// A link. It is made when everything else is there.
    pub(super) fn link(&mut self, path: &str, target: &str) -> Result<(), TakeError> {
        check(path, 0)?;
        if let Some(why) = link_fault(path, target) {
            return Err(IntakeError::Path { path: shown(path), why }.into());
        }
        self.parents(path)?;
        self.claim(path, false)?;
        self.items.insert(path.to_owned(), Item::Link { link: target.to_owned() });
        Ok(())
    }

    /// Everything was handed in: makes the links and reads the manifest.
    pub(super) fn finish(self) -> Result<Taken, TakeError> {
        for (path, item) in &self.items {
            if let Item::Link { link } = item {
                self.sink.link(path, link).map_err(TakeError::Sink)?;
            }
        }
        let manifest = match &self.manifest {
            None => return Err(IntakeError::NoManifest { nested: self.nested_manifest.as_deref().map(shown) }.into()),
            Some((manifest::FILE, bytes)) => Manifest::from_toml(bytes).map_err(IntakeError::Manifest)?,
            Some((_, bytes)) => Manifest::from_jshell(bytes).map_err(IntakeError::Manifest)?,
        };
        agree(&manifest, &self.items).map_err(IntakeError::Manifest)?;
        let digest = digest(&self.items);
        Ok(Taken { manifest, items: self.items, digest })
    }

    /// What was handed in, whether it is a package or not.
    pub(super) fn into_items(self) -> Items {
        self.items
    }

    /// All directories above `path`, which the archive need not name.
    fn parents(&mut self, path: &str) -> Result<(), TakeError> {
        for (at, _) in path.match_indices('/') {
            self.one_directory(&path[..at])?;
        }
        Ok(())
    }

    fn one_directory(&mut self, path: &str) -> Result<(), TakeError> {
        match self.seen.get(&folded(path)) {
            Some((known, true)) if known == path => Ok(()),
            _ => {
                self.claim(path, true)?;
                self.sink.directory(path).map_err(TakeError::Sink)
            }
        }
    }

    /// Nothing else has this name, in whatever case, and there is room for one more.
    fn claim(&mut self, path: &str, is_directory: bool) -> Result<(), TakeError> {
        if self.seen.len() >= ENTRIES_MAX {
            return Err(IntakeError::TooMuch { what: "entries", max: ENTRIES_MAX as u64 }.into());
        }
        match self.seen.entry(folded(path)) {
            std::collections::btree_map::Entry::Occupied(taken) => {
                let why = match taken.get() {
                    (known, _) if known != path => "differs from another only in case",
                    (_, false) if is_directory => "is a file or link, and something is to be in it",
                    _ => "is there twice",
                };
                Err(IntakeError::Path { path: shown(path), why }.into())
            }
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert((path.to_owned(), is_directory));
                Ok(())
            }
        }
    }

    fn room(&self, more: u64) -> Result<(), TakeError> {
        let bytes = self.bytes.saturating_add(more);
        if bytes > UNPACKED_BYTES_MAX {
            return Err(IntakeError::TooMuch { what: "bytes unpacked", max: UNPACKED_BYTES_MAX }.into());
        }
        match self.packed {
            Some(packed) if bytes > RATIO_FREE_BYTES.max(packed.saturating_mul(RATIO_MAX)) => {
                Err(IntakeError::Ratio.into())
            }
            _ => Ok(()),
        }
    }
}

fn check(path: &str, mode: u32) -> Result<(), IntakeError> {
    let refuse = |why| Err(IntakeError::Path { path: shown(path), why });
    if let Some(why) = path_fault(path) {
        return refuse(why);
    }
    if mode & SPECIAL_MODES != 0 {
        return refuse("is set-user-id, set-group-id or sticky");
    }
    if path.split('/').next() == Some(RECEIPT) {
        return refuse("is a name of shellkeep's own");
    }
    Ok(())
}

/// What the manifest names is there and can be used so, and `[files]` says what is there.
fn agree(manifest: &Manifest, items: &Items) -> Result<(), ManifestError> {
    for (key, path, purpose) in manifest.named_files() {
        let missing = |why| ManifestError::Missing { key: key.clone(), path: path.to_owned(), why };
        match (items.get(path), purpose) {
            (Some(Item::File { executable: false, .. }), Use::Program) => {
                return Err(missing("is not executable (chmod +x)"));
            }
            (Some(Item::File { .. }), _) => {}
            (Some(Item::Link { .. }), _) => return Err(missing("is a link; name the file itself")),
            (None, _) => return Err(missing("is not in the package")),
        }
    }
    let Some(files) = &manifest.files else { return Ok(()) };
    let complaint = |path: &str, why| Err(ManifestError::Files { path: shown(path), why });
    for (path, item) in items {
        match (item, files.get(path)) {
            (Item::File { sha256, .. }, Some(said)) if said.strip_prefix("sha256:") != Some(sha256) => {
                return complaint(path, "is not what [files] of its manifest says");
            }
            (Item::File { .. }, None) if path != manifest::FILE => {
                return complaint(path, "is not in [files] of its manifest");
            }
            _ => {}
        }
    }
    let is_there = |path: &&String| matches!(items.get(*path), Some(Item::File { .. }));
    files
        .keys()
        .find(|path| !is_there(path))
        .map_or(Ok(()), |path| complaint(path, "is in [files], and not in the package"))
}

/// SHA-256 over what is in a package.
pub(super) fn digest(items: &Items) -> String {
    // Of a map of strings and numbers: it has one form, and can always be put into JSON.
    hex(&Sha256::digest(serde_json::to_vec(items).unwrap_or_default()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn folded(path: &str) -> String {
    path.to_lowercase()
}

/// A foreign name for a message.
pub(super) fn shown(path: &str) -> String {
    const CHARACTERS_MAX: usize = 120;
    let mut text: String = path.chars().take(CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if path.chars().nth(CHARACTERS_MAX).is_some() {
        text.push('…');
    }
    text
}
