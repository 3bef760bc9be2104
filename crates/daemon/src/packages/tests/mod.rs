//! What packages promise, each by its line in the specification, on a real disk in a directory of its own.

mod cut;
mod damage;
mod hostile;
mod life;
mod lists;
mod running;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;

/// A user's data, with a place beside it for what is to be installed.
pub(super) struct Home {
    pub(super) directory: tempfile::TempDir,
    pub(super) packages: Packages,
}

impl Home {
    pub(super) fn new() -> Self {
        let directory = directory();
        let packages = Packages::with(&directory.path().join("pkgs"), Arc::new(RealDisk), Duration::from_secs(10));
        Self { directory, packages }
    }

    /// A package's directory with one command for each name.
    pub(super) fn source(&self, name: &str, version: &str, commands: &[&str]) -> PathBuf {
        let at = self.directory.path().join(format!("from-{name}-{version}"));
        fs::create_dir_all(at.join("bin")).unwrap();
        fs::create_dir_all(at.join("c")).unwrap();
        let mut manifest =
            format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\ndescription = \"Says {name}\"\n");
        for command in commands {
            let program = at.join("bin").join(command);
            fs::write(&program, format!("#!/bin/sh\necho {name} {version} \"$@\"\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            fs::write(at.join("c").join(command), "complete\n").unwrap();
            manifest.extend([format!(
                "[[command]]\nname = \"{command}\"\npath = \"bin/{command}\"\ncompletions = {{ bash = \"c/{command}\" }}\n"
            )]);
        }
        fs::write(at.join("package.toml"), manifest).unwrap();
        at
    }

    pub(super) fn install(&self, from: &Path) -> Result<Changed, PackageError> {
        install(&self.packages, from)
    }

    pub(super) fn upgrade(&self, from: &Path) -> Result<Changed, PackageError> {
        let fetched = self.packages.fetch_path(from, &|_, _| ())?;
        self.packages.upgrade(fetched, &|_| ())
    }

    /// What a command of `bin/` prints.
    pub(super) fn run(&self, command: &str) -> Option<String> {
        let output = std::process::Command::new(self.packages.layout().bin.join(command)).output().ok()?;
        Some(String::from_utf8(output.stdout).unwrap())
    }

    pub(super) fn in_bin(&self) -> Vec<String> {
        names(&self.packages.layout().bin)
    }

    pub(super) fn in_store(&self) -> Vec<String> {
        names(&self.packages.layout().store)
    }
}

/// In memory, where there is such a place: hundreds of these are made, and what a power cut leaves is not tested here.
pub(super) fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let fits = rustix::fs::statvfs(memory).is_ok_and(|found| found.f_bavail * found.f_frsize > 256 << 20);
    if fits { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

pub(super) fn install(packages: &Packages, from: &Path) -> Result<Changed, PackageError> {
    let fetched = packages.fetch_path(from, &|_, _| ())?;
    packages.install(fetched, &Wishes::default(), &|_| ())
}

pub(super) fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What is installed: package → version, version to go back to, commands.
pub(super) type State = BTreeMap<String, (String, Option<String>, Vec<String>)>;

pub(super) fn state_of(db: &Db) -> State {
    let of = |package: &Package| {
        let before = package.previous.as_ref().map(|release| release.version.to_string());
        let commands = package.commands().map(|(name, _)| name.to_owned()).collect();
        (package.name.clone(), (package.current.version.to_string(), before, commands))
    };
    db.packages.values().map(of).collect()
}

/// The state, which must be whole: database, copy, store, `bin/` and the files themselves say the same, and nothing lies about.
pub(super) fn whole(packages: &Packages) -> State {
    let look = packages.look().unwrap();
    let layout = packages.layout();
    for verified in packages.verify(None).unwrap() {
        assert_eq!(verified.faults, [], "{}", verified.name);
    }
    let mut directories: Vec<String> = look.db.directories().collect();
    directories.sort();
    assert_eq!(names(&layout.store), directories);
    for empty in [&layout.staging, &layout.trash] {
        assert_eq!(names(empty), [""; 0], "{}", empty.display());
    }
    let mut commands: Vec<String> = Vec::new();
    for command in packages.commands().unwrap().commands {
        let link = command.link.unwrap();
        assert_eq!(fs::canonicalize(&link).unwrap(), fs::canonicalize(&command.program).unwrap());
        commands.push(command.name);
    }
    commands.sort();
    assert_eq!(names(&layout.bin), commands);
    for file in names(&layout.root) {
        assert!(!file.contains("new"), "{file}");
    }
    state_of(&look.db)
}
