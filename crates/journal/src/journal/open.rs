//! The beginning of a journal and its end: made aside and published, opened again after whatever happened, removed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chain::{Position, Seq};
use crate::error::JournalError;
use crate::recover::{Finding, Recovery, Scan, TailFate, scan};
use crate::segment::{FileKind, Identity, SegmentHeader};
use crate::storage::{OpenMode, Storage, StorageFile, read_full_at, uninterrupted, write_all_at};

use super::sync::{SyncState, WrittenFile};
use super::{
    Active, Durability, Journal, Mark, Options, SEGMENT_BYTES_RANGE, Segment, check_attrs, create_over, make_segment,
};

/// Most bytes of a torn tail that are set aside; what is beyond is cut off with it.
pub const TORN_BYTES_MAX: u64 = 2 << 20;

/// Torn tails that are kept per journal; the oldest go first.
pub const TORN_FILES_MAX: usize = 4;

/// Ordinal of a journal's first segment.
const FIRST_ORDINAL: u32 = 1;

/// A journal that nobody can see yet: its directory is `.new-NAME` until it is published.
///
/// Between the two the maker may put files of its own beside it, such as a lock that it holds.
#[derive(Debug)]
pub struct NewJournal {
    storage: Arc<dyn Storage>,
    parent: PathBuf,
    name: String,
    aside: PathBuf,
    options: Options,
    identity: Identity,
    file: Box<dyn StorageFile>,
    len: u64,
}

impl NewJournal {
    /// Makes the directory `.new-NAME` in `parent`, replacing what an earlier attempt left behind, with the first segment.
    ///
    /// # Errors
    /// `NoSpace` and `Io`; `AttrsTooLarge`. What was made is removed again as far as possible.
    pub fn prepare(
        storage: Arc<dyn Storage>,
        parent: &Path,
        name: &str,
        identity: Identity,
        options: Options,
    ) -> Result<Self, JournalError> {
        check_name(parent, name)?;
        check_attrs(&identity.attrs)?;
        let aside = parent.join(format!(".new-{name}"));
        remove_dir_all(&*storage, &aside)?;
        uninterrupted(|| storage.create_dir(&aside)).map_err(|e| JournalError::of(&aside, "make", e))?;
        let header = SegmentHeader {
            sealed: false,
            ordinal: FIRST_ORDINAL,
            identity: identity.clone(),
            first: Position::START,
            time_before: 0,
        };
        match make_segment(&*storage, &aside, &header) {
            Ok((file, len)) => Ok(Self {
                storage,
                parent: parent.to_owned(),
                name: name.to_owned(),
                aside,
                options,
                identity,
                file,
                len,
            }),
            Err(error) => {
                _ = remove_dir_all(&*storage, &aside); // best effort: the next attempt replaces it
                Err(error)
            }
        }
    }

    /// The directory as long as nobody can see it.
    pub fn dir(&self) -> &Path {
        &self.aside
    }

    /// Gives the journal its name. With [`Durability::Synced`] it is durable then.
    ///
    /// # Errors
    /// `Exists` if there is a journal of this name. `NoSpace` and `Io`: if only the last sync failed, the journal is
    /// there and can be opened. Else what was made is removed again as far as possible.
    pub fn publish(self) -> Result<Journal, JournalError> {
        let dir = self.parent.join(&self.name);
        let synced = self.options.durability == Durability::Synced;
        let publish = || {
            if synced {
                uninterrupted(|| self.file.sync())?;
                uninterrupted(|| self.storage.sync_dir(&self.aside))?;
            }
            uninterrupted(|| self.storage.rename(&self.aside, &dir))
        };
        if let Err(source) = publish() {
            _ = remove_dir_all(&*self.storage, &self.aside); // best effort: the next attempt replaces it
            return Err(match source.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => JournalError::Exists { path: dir },
                _ => JournalError::of(&dir, "publish", source),
            });
        }
        if synced {
            let result = uninterrupted(|| self.storage.sync_dir(&self.parent));
            result.map_err(|e| JournalError::of(&self.parent, "sync", e))?;
        }
        let path = dir.join(FileKind::Plain.name(FIRST_ORDINAL));
        let file = Arc::new(WrittenFile::new(self.file.into(), path));
        let mut syncs = SyncState::new(Seq::NONE);
        if synced {
            syncs.published(FIRST_ORDINAL, &file, self.len);
        }
        let first = Position::START;
        let segment = Segment {
            ordinal: FIRST_ORDINAL,
            sealed: false,
            first,
            time_before: 0,
            len: self.len,
            clean: true,
            unsealable: false,
        };
        let marks = vec![Mark { place: first, time: 0, at: self.len }];
        Ok(Journal {
            storage: self.storage,
            dir,
            options: self.options.within_bounds(),
            identity: self.identity,
            segments: vec![segment],
            active: Some(Active { file, len: self.len, must_cut: false, has_records: false, marks }),
            end: first,
            last_time_us: 0,
            last_ordinal: FIRST_ORDINAL,
            dropped_unsynced: false,
            buf: Vec::new(),
            syncs,
        })
    }
}

impl Options {
    fn within_bounds(mut self) -> Self {
        let (least, most) = (*SEGMENT_BYTES_RANGE.start(), *SEGMENT_BYTES_RANGE.end());
        self.segment_bytes_max = self.segment_bytes_max.clamp(least, most);
        self
    }
}

impl Journal {
    /// Makes a journal: [`NewJournal::prepare`] and [`NewJournal::publish`] in one.
    ///
    /// # Errors
    /// As those two.
    pub fn create(
        storage: Arc<dyn Storage>,
        parent: &Path,
        name: &str,
        identity: Identity,
        options: Options,
    ) -> Result<Self, JournalError> {
        NewJournal::prepare(storage, parent, name, identity, options)?.publish()
    }

    /// Opens a journal to go on with it: recovers, sets a torn tail aside, clears what unfinished work left behind.
    ///
    /// Needs no free space. Only sealed segments count as durable until a ticket has synced; make one at once.
    ///
    /// # Errors
    /// `NotFound`; `NoIdentity` if no segment has a readable header; `Version`; `Io` if a file cannot be read.
    pub fn open(storage: Arc<dyn Storage>, dir: &Path, options: Options) -> Result<(Self, Recovery), JournalError> {
        let mut scan = scan(&*storage, dir)?;
        let Some(identity) = scan.recovery.identity.clone() else {
            return Err(JournalError::NoIdentity { path: dir.to_owned() });
        };
        tidy(&*storage, dir, &scan);
        let options = options.within_bounds();
        // A segment is sealed when it is durable, and with it all before: in doubt is what comes behind the last of them.
        let unproved = scan.segments.iter().rev().take_while(|segment| !segment.sealed);
        let unproved = unproved.map(|segment| segment.first.next_seq).min();
        let mut syncs = SyncState::new(unproved.unwrap_or(scan.recovery.end.next_seq).prev());
        if options.durability == Durability::Synced {
            syncs.found_journal();
            for segment in scan.segments.iter().filter(|segment| !segment.sealed) {
                // Behind the last sealed segment only: what lies before one was durable.
                let doubtful = segment.doubtful && unproved.is_some_and(|seq| segment.first.next_seq >= seq);
                syncs.found_file(segment.ordinal, segment.first.next_seq, segment.len, doubtful);
            }
        }
        let active = reopen_last(&*storage, dir, &mut scan, options, &mut syncs)?;
        let segments = scan.segments.iter().map(|segment| Segment {
            ordinal: segment.ordinal,
            sealed: segment.sealed,
            first: segment.first,
            time_before: segment.time_before,
            len: segment.len,
            clean: segment.clean,
            unsealable: false,
        });
        let journal = Self {
            segments: segments.collect(),
            storage,
            dir: dir.to_owned(),
            options,
            identity,
            active,
            end: scan.recovery.end,
            last_time_us: scan.recovery.last_time_us,
            last_ordinal: scan.last_ordinal,
            dropped_unsynced: true,
            buf: Vec::new(),
            syncs,
        };
        Ok((journal, scan.recovery))
    }

    /// Removes the journal with everything in its directory.
    ///
    /// # Errors
    /// As [`remove_journal`].
    pub fn remove(self) -> Result<(), JournalError> {
        let Self { storage, dir, .. } = self;
        let (parent, name) = (dir.parent().unwrap_or(Path::new("")), dir.file_name().and_then(|name| name.to_str()));
        let name = name.ok_or_else(|| JournalError::NotFound { path: dir.clone() })?;
        remove_journal(&*storage, parent, name)
    }
}

/// Removes the journal `name` in `parent`: renames it to `.del-NAME` first, so that half of it is never taken for a
/// journal. To be repeated after a crash; it is no error if nothing is there any more.
///
/// # Errors
/// `Io` if something in the directory cannot be removed, for example a directory that is not ours.
pub fn remove_journal(storage: &dyn Storage, parent: &Path, name: &str) -> Result<(), JournalError> {
    check_name(parent, name)?;
    let (dir, aside) = (parent.join(name), parent.join(format!(".del-{name}")));
    remove_dir_all(storage, &aside)?;
    match uninterrupted(|| storage.rename(&dir, &aside)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(JournalError::of(&dir, "remove", error)),
        Ok(()) => remove_dir_all(storage, &aside),
    }
}

/// Names come from ids; anything that could leave the parent directory is a bug or an attack.
fn check_name(parent: &Path, name: &str) -> Result<(), JournalError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(JournalError::of(parent, "name a journal", io::ErrorKind::InvalidInput.into()));
    }
    Ok(())
}

/// Removes a directory of plain files; fine if there is none.
fn remove_dir_all(storage: &dyn Storage, dir: &Path) -> Result<(), JournalError> {
    let remove = || {
        for entry in uninterrupted(|| storage.list(dir))? {
            match uninterrupted(|| storage.remove(&dir.join(&entry.name))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        uninterrupted(|| storage.remove_dir(dir))
    };
    match remove() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| JournalError::of(dir, "remove", error)),
    }
}

/// Clears what unfinished work left behind. All of it is in the way of nobody, so errors are not worth a failed start.
fn tidy(storage: &dyn Storage, dir: &Path, scan: &Scan) {
    let remove = |name: &str| _ = uninterrupted(|| storage.remove(&dir.join(name)));
    scan.listing.unfinished.iter().for_each(|name| remove(name));
    for segment in &scan.segments {
        let presence = scan.listing.segments.get(&segment.ordinal).copied().unwrap_or_default();
        // The copy must have its name for good before the original goes.
        if segment.sealed && presence.plain && uninterrupted(|| storage.sync_dir(dir)).is_ok() {
            remove(&FileKind::Plain.name(segment.ordinal));
        } else if !segment.sealed && presence.sealed {
            remove(&FileKind::Sealed.name(segment.ordinal));
        }
    }
    for segment in &scan.useless {
        if segment.len == 0 || set_aside(storage, dir, segment.ordinal, &*segment.file, 0..segment.len).is_ok() {
            remove(&FileKind::Plain.name(segment.ordinal));
        }
    }
    let surplus = scan.listing.torn.len().saturating_sub(TORN_FILES_MAX - 1);
    scan.listing.torn[..surplus].iter().for_each(|ordinal| remove(&FileKind::Torn.name(*ordinal)));
}

/// Copies bytes of a segment to its `.torn` file.
fn set_aside(
    storage: &dyn Storage,
    dir: &Path,
    ordinal: u32,
    file: &dyn StorageFile,
    bytes: std::ops::Range<u64>,
) -> io::Result<()> {
    let len = (bytes.end - bytes.start).min(TORN_BYTES_MAX);
    let mut content = vec![0; usize::try_from(len).unwrap_or(0)];
    let got = read_full_at(file, &mut content, bytes.start)?;
    let path = dir.join(FileKind::Torn.name(ordinal));
    let result = create_over(storage, &path).and_then(|file| write_all_at(&*file, &content[..got], 0));
    if result.is_err() {
        _ = uninterrupted(|| storage.remove(&path)); // half a copy only takes space
    }
    result
}

/// Opens the last segment to append to it, its torn tail set aside; `None` if the next record must begin another one.
fn reopen_last(
    storage: &dyn Storage,
    dir: &Path,
    scan: &mut Scan,
    options: Options,
    syncs: &mut SyncState,
) -> Result<Option<Active>, JournalError> {
    let Some(last) = scan.segments.last_mut().filter(|last| !last.sealed && last.clean && !last.doubtful) else {
        return Ok(None);
    };
    let path = dir.join(FileKind::Plain.name(last.ordinal));
    let file = match uninterrupted(|| storage.open(&path, OpenMode::Write)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(None), // has other names: theirs, not ours
        Err(error) => return Err(JournalError::of(&path, "open", error)),
    };
    let torn = scan.recovery.findings.iter_mut().rev().find_map(|finding| match finding {
        Finding::TornTail { bytes, fate, .. } => Some((bytes.clone(), fate)),
        _ => None,
    });
    if let Some((bytes, fate)) = torn {
        let cut = set_aside(storage, dir, last.ordinal, &*file, bytes.clone());
        if cut.and_then(|()| uninterrupted(|| file.set_len(bytes.start))).is_err() {
            *fate = TailFate::Left;
            last.clean = false;
            return Ok(None);
        }
        *fate = TailFate::SetAside;
        scan.recovery.bytes_on_disk -= bytes.end - bytes.start;
        last.len = last.good_end;
    }
    let file = Arc::new(WrittenFile::new(file.into(), path));
    if options.durability == Durability::Synced {
        syncs.reopen_last(&file, last.good_end);
    }
    let good_end = last.good_end;
    let time = scan.recovery.last_time_us;
    let marks = vec![Mark { place: scan.recovery.end, time, at: good_end }];
    let empty = last.empty;
    Ok(Some(Active { file, len: good_end, must_cut: false, has_records: !empty, marks }))
}
