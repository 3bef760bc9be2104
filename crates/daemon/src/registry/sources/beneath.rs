//! Opening what lies beneath a directory, and nothing else.
//!
//! Promise: what leads out (a link, `..`, a mount) is found by its name alone: it is neither opened nor asked anything, so that a mount
//! that never answers holds up nobody. What comes back is a handle that cannot be read from, so that special files are not disturbed.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Links on the way to one file, as the kernel has it.
const LINKS_MAX: usize = 40;

/// Times that a path is opened while others rename what is on the way.
const TRIES_MAX: usize = 16;

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Why a path is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) enum Refusal {
    /// It is not there, or a link to what is not there.
    Absent,
    /// It leads out of the base; how.
    Outside(String),
    /// It is there, and cannot be had.
    Other(String),
    /// It was not tried: a limit, which is told once.
    Limit(&'static str),
}

/// Whether other mounts beneath a directory belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) enum Mounts {
    /// The user has mounted them in their home.
    Follow,
    /// They lead out.
    Refuse,
}

/// A directory that things are opened beneath.
pub(in crate::registry) struct Beneath {
    /// Canonical.
    base: PathBuf,
    /// Nothing if it cannot be opened any more.
    dir: Option<OwnedFd>,
    mounts: Mounts,
    /// The kernel resolves beneath a directory by itself (Linux 5.6). Tests take that away.
    pub(in crate::registry) has_openat2: bool,
}

impl Beneath {
    pub(in crate::registry) fn new(base: &Path, mounts: Mounts) -> Self {
        let dir = rustix::fs::open(base, HANDLE | OFlags::DIRECTORY, Mode::empty()).ok();
        Self { base: base.to_owned(), dir, mounts, has_openat2: true }
    }

    /// A handle on what a path leads to, from the base or absolute, and what it is.
    pub(in crate::registry) fn open(&self, path: &Path) -> Result<(OwnedFd, FileType), Refusal> {
        let Some(dir) = self.dir.as_ref().map(OwnedFd::as_fd) else {
            return Err(Refusal::Other("its directory cannot be opened".to_owned()));
        };
        let relative =
            if path.is_absolute() { path.strip_prefix(&self.base).map_err(|_| outside(None))? } else { path };
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let fd = match self.at_once(dir, relative) {
            // Maybe a link that is absolute and leads back in, which the kernel takes for one that leads out.
            Err(Errno::XDEV | Errno::NOSYS | Errno::PERM) => self.walk(dir, relative)?,
            outcome => outcome.map_err(refusal)?,
        };
        let stat = rustix::fs::fstat(&fd).map_err(refusal)?;
        Ok((fd, FileType::from_raw_mode(stat.st_mode)))
    }

    fn resolve(&self) -> ResolveFlags {
        let flags = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if self.mounts == Mounts::Refuse { flags | ResolveFlags::NO_XDEV } else { flags }
    }

    fn at_once(&self, dir: BorrowedFd<'_>, relative: &Path) -> Result<OwnedFd, Errno> {
        if !self.has_openat2 {
            return Err(Errno::NOSYS);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match rustix::fs::openat2(dir, relative, HANDLE, Mode::empty(), self.resolve()) {
                Err(Errno::AGAIN) if tries < TRIES_MAX => {}
                outcome => return outcome,
            }
        }
    }

    /// Step by step, each one a single name in a directory that is known to be beneath.
    fn walk(&self, dir: BorrowedFd<'_>, relative: &Path) -> Result<OwnedFd, Refusal> {
        let mut above: Vec<OwnedFd> = Vec::new();
        let mut left: VecDeque<OsString> = names(relative);
        let (mut links, mut by) = (0, None);
        while let Some(name) = left.pop_front() {
            if name == ".." {
                above.pop().ok_or_else(|| outside(by.as_ref()))?;
                continue;
            }
            let parent = above.last().map_or(dir, |fd| fd.as_fd());
            let fd = self.step(parent, &name)?;
            let stat = rustix::fs::fstat(&fd).map_err(refusal)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                above.push(fd);
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(Refusal::Other("its links lead round".to_owned()));
            }
            let target = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(refusal)?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            by = Some((name, target.clone()));
            let target = if target.is_absolute() {
                above.clear();
                target.strip_prefix(&self.base).map_err(|_| outside(by.as_ref()))?
            } else {
                &target
            };
            for name in names(target).into_iter().rev() {
                left.push_front(name);
            }
        }
        match above.pop() {
            Some(fd) => Ok(fd),
            None => rustix::io::dup(dir).map_err(refusal),
        }
    }

    fn step(&self, parent: BorrowedFd<'_>, name: &OsString) -> Result<OwnedFd, Refusal> {
        let on_other_mount = || Refusal::Outside("it lies on another mount".to_owned());
        let flags = HANDLE | OFlags::NOFOLLOW;
        if self.has_openat2 {
            match rustix::fs::openat2(parent, name, flags, Mode::empty(), self.resolve()) {
                Err(Errno::XDEV) => return Err(on_other_mount()),
                Err(Errno::NOSYS | Errno::PERM) => {}
                outcome => return outcome.map_err(refusal),
            }
        }
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(refusal)?;
        // Asked of the handle and not of what it is a handle on, which may never answer.
        if self.mounts == Mounts::Refuse && mount_of(fd.as_fd())? != mount_of(parent)? {
            return Err(on_other_mount());
        }
        Ok(fd)
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

fn mount_of(fd: BorrowedFd<'_>) -> Result<String, Refusal> {
    let other = |error: &dyn std::fmt::Display| Refusal::Other(error.to_string());
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).map_err(|error| other(&error))?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    mount.map(|mount| mount.trim().to_owned()).ok_or_else(|| other(&"the kernel does not tell its mount"))
}

fn outside(by: Option<&(OsString, PathBuf)>) -> Refusal {
    let by = by.map(|(name, target)| format!(": {} is a link to {}", Path::new(name).display(), target.display()));
    Refusal::Outside(format!("it leads out of its place{}", by.unwrap_or_default()))
}

fn refusal(error: Errno) -> Refusal {
    match error {
        // Nothing can have a name that is too long, or no name.
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::INVAL => Refusal::Absent,
        Errno::LOOP => Refusal::Other("its links lead round, or to what is no path".to_owned()),
        error => Refusal::Other(error.to_string()),
    }
}

/// Path under which what a handle is on can be opened for reading.
pub(in crate::registry) fn path_of(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// With the kernel's help and without it.
    #[test]
    fn what_lies_beneath_is_opened_and_what_leads_out_is_not() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().canonicalize().unwrap().join("base");
        fs::create_dir_all(base.join("sub/deep")).unwrap();
        fs::write(base.join("sub/file"), "x").unwrap();
        fs::write(place.path().join("out"), "x").unwrap();
        symlink(base.join("sub"), base.join("absolute")).unwrap();
        symlink("sub/../sub/file", base.join("relative")).unwrap();
        symlink("../out", base.join("leaves")).unwrap();
        symlink("/proc/self/cwd/x", base.join("magic")).unwrap();
        symlink("/proc", base.join("elsewhere")).unwrap();
        symlink("ring", base.join("ring")).unwrap();
        symlink("nowhere", base.join("broken")).unwrap();
        for has_openat2 in [true, false] {
            let beneath = Beneath { has_openat2, ..Beneath::new(&base, Mounts::Refuse) };
            let kind = |path: &str| beneath.open(Path::new(path)).map(|(_, kind)| kind);
            for file in ["sub/file", "absolute/file", "relative", "sub/deep/../file", "./sub/./file"] {
                assert_eq!(kind(file), Ok(FileType::RegularFile), "{file}");
            }
            assert_eq!(kind(""), Ok(FileType::Directory));
            assert_eq!(kind(base.join("sub/file").to_str().unwrap()), Ok(FileType::RegularFile));
            for out in ["leaves", "magic", "elsewhere/self", "../out", "/etc/passwd", "sub/../../out"] {
                assert!(matches!(kind(out), Err(Refusal::Outside(_))), "{out}: {:?}", kind(out));
            }
            for absent in ["broken", "none", "sub/file/x", "a\0b"] {
                assert_eq!(kind(absent), Err(Refusal::Absent), "{absent}");
            }
            assert!(matches!(kind("ring"), Err(Refusal::Other(_))));
        }
    }

    /// `/proc` is a mount everywhere: beneath `/` it is another one.
    #[test]
    fn another_mount_leads_out_of_a_project_and_not_of_a_home() {
        for has_openat2 in [true, false] {
            let open = |mounts| {
                Beneath { has_openat2, ..Beneath::new(Path::new("/"), mounts) }
                    .open(Path::new("proc/version"))
                    .map(|_| ())
            };
            assert_eq!(open(Mounts::Refuse), Err(Refusal::Outside("it lies on another mount".to_owned())));
            assert_eq!(open(Mounts::Follow), Ok(()));
        }
    }
}
