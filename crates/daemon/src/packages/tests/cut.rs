//! P-21: every operation, ended or failed at each of its steps.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// What happens at the chosen step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    /// The process ends there: nothing more happens, and a write has happened by half.
    Dies,
    /// The call fails; those after it do not.
    Fails,
    /// Nothing but that directories cannot change places here, as on some file systems.
    ExchangesNothing,
}

/// Counts the steps. Syncing is a step and nothing else: what a power cut leaves is not what is tested here.
#[derive(Debug)]
struct Stepped {
    at: u64,
    cut: Cut,
    step: AtomicU64,
}

impl Stepped {
    /// Reading changes nothing, so ending there is ending at the next change. Failing there is something of its own.
    fn look(&self) -> io::Result<()> {
        match self.cut {
            Cut::Fails | Cut::ExchangesNothing => self.step(),
            Cut::Dies if self.step.load(Ordering::Relaxed) > self.at => Err(io::Error::other("cut")),
            Cut::Dies => Ok(()),
        }
    }

    fn step(&self) -> io::Result<()> {
        let step = self.step.fetch_add(1, Ordering::Relaxed);
        let is_cut = step == self.at || (self.cut == Cut::Dies && step > self.at);
        if is_cut { Err(io::Error::other("cut")) } else { Ok(()) }
    }
}

impl Disk for Stepped {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| RealDisk.make_dir(path))
    }
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step().and_then(|()| RealDisk.create(path))
    }
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if self.step().is_err() {
            if self.step.load(Ordering::Relaxed) == self.at + 1 {
                RealDisk.write(file, &bytes[..bytes.len() / 2])?;
            }
            return Err(io::Error::other("cut"));
        }
        RealDisk.write(file, bytes)
    }
    fn sync(&self, _file: &File) -> io::Result<()> {
        self.step()
    }
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        self.step()
    }
    fn sync_fs(&self, _path: &Path) -> io::Result<()> {
        self.step()
    }
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.step().and_then(|()| RealDisk.set_mode(path, mode))
    }
    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| RealDisk.link(target, path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step().and_then(|()| RealDisk.rename(from, to))
    }
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        if self.cut == Cut::ExchangesNothing {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.step().and_then(|()| RealDisk.exchange(one, other))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| RealDisk.remove_file(path))
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step().and_then(|()| RealDisk.remove_dir(path))
    }
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        self.look().and_then(|()| RealDisk.read(path, bytes_max))
    }
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.look().and_then(|()| RealDisk.read_link(path))
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Found>> {
        self.look().and_then(|()| RealDisk.list(path))
    }
}

type Operation = fn(&Packages, &Path) -> Result<Changed, PackageError>;

/// A life of packages: what is there before, and the operation that is cut.
struct Scenario {
    name: &'static str,
    before: fn(&Packages, &Path),
    operation: Operation,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario { name: "the first install", before: |_, _| (), operation: |packages, from| put(packages, from, "p-1") },
    Scenario {
        name: "install beside another",
        before: |packages, from| drop(put(packages, from, "q-1").unwrap()),
        operation: |packages, from| put(packages, from, "p-1"),
    },
    Scenario {
        name: "upgrade",
        before: |packages, from| {
            put(packages, from, "p-1").unwrap();
            over(packages, from, "p-2").unwrap();
        },
        operation: |packages, from| over(packages, from, "p-3"),
    },
    Scenario {
        name: "rollback",
        before: |packages, from| {
            put(packages, from, "p-1").unwrap();
            over(packages, from, "p-2").unwrap();
        },
        operation: |packages, _| packages.rollback("p"),
    },
    Scenario {
        name: "remove",
        before: |packages, from| {
            put(packages, from, "p-1").unwrap();
            over(packages, from, "p-2").unwrap();
            put(packages, from, "q-1").unwrap();
        },
        operation: |packages, _| packages.remove("p", false),
    },
    Scenario {
        name: "install what still runs since it was removed",
        before: |packages, from| {
            put(packages, from, "p-1").unwrap();
            let _runs = running(packages);
            packages.remove("p", false).unwrap();
        },
        operation: |packages, from| {
            let _runs = running(packages);
            put(packages, from, "p-1")
        },
    },
];

/// As somebody who uses what lies in the store, if something does.
fn running(packages: &Packages) -> Option<File> {
    let store = &packages.layout().store;
    File::open(store.join(names(store).first()?)).ok()
}

fn put(packages: &Packages, from: &Path, which: &str) -> Result<Changed, PackageError> {
    install(packages, &from.join(format!("from-{which}.0.0")))
}

fn over(packages: &Packages, from: &Path, which: &str) -> Result<Changed, PackageError> {
    packages.upgrade(packages.fetch_path(&from.join(format!("from-{which}.0.0")), &|_, _| ())?, &|_| ())
}

/// A disk that is never cut, and does not sync either.
fn calm() -> Arc<dyn Disk> {
    Arc::new(Stepped { at: u64::MAX, cut: Cut::Fails, step: AtomicU64::new(0) })
}

fn packages_in(root: &Path, disk: Arc<dyn Disk>) -> Packages {
    Packages::with(root, disk, Duration::from_secs(10))
}

/// Cuts a scenario at each of its steps. Returns how many there are.
fn cut_everywhere(scenario: &Scenario, cut: Cut) -> u64 {
    let sources = Home::new();
    for (name, version, commands) in
        [("p", "1.0.0", ["a", "b"]), ("p", "2.0.0", ["a", "c"]), ("p", "3.0.0", ["a", "d"]), ("q", "1.0.0", ["x", "y"])]
    {
        sources.source(name, version, &commands);
    }
    let from = sources.directory.path();
    let (old, new) = {
        let home = directory();
        let packages = packages_in(&home.path().join("pkgs"), calm());
        (scenario.before)(&packages, from);
        let old = whole(&packages);
        (scenario.operation)(&packages, from).unwrap();
        (old, whole(&packages))
    };
    assert_ne!(old, new);
    for at in 0.. {
        let home = directory();
        let root = home.path().join("pkgs");
        (scenario.before)(&packages_in(&root, calm()), from);
        let disk = Arc::new(Stepped { at, cut, step: AtomicU64::new(0) });
        let outcome = (scenario.operation)(&packages_in(&root, Arc::clone(&disk) as Arc<dyn Disk>), from);
        if disk.step.load(Ordering::Relaxed) <= at {
            outcome.unwrap();
            return at;
        }
        let place = format!("{}, {cut:?} at step {at}", scenario.name);
        let after = packages_in(&root, calm());
        // Before anything is put in order, whoever only reads sees one of the two.
        let seen = after.commands().unwrap();
        let seen: Vec<&str> = seen.commands.iter().map(|command| command.name.as_str()).collect();
        let of = |state: &State| state.values().flat_map(|(_, _, commands)| commands.clone()).collect::<Vec<_>>();
        assert!(seen == of(&old) || seen == of(&new), "{place}: {seen:?}");
        let state = whole(&after);
        match (&outcome, cut) {
            (Ok(_), _) => assert_eq!(state, new, "{place}: it said that it was done"),
            (Err(_), Cut::Fails) => assert_eq!(state, old, "{place}: it said that it failed"),
            (Err(_), Cut::Dies | Cut::ExchangesNothing) => assert!(state == old || state == new, "{place}: {state:?}"),
        }
        // The next operation works: the same one, or another after it.
        if state == old {
            (scenario.operation)(&after, from).unwrap();
            assert_eq!(whole(&after), new, "{place}: once more");
        } else {
            sources.source("z", "1.0.0", &["z"]);
            put(&after, from, "z-1").unwrap();
            assert_eq!(whole(&after).len(), new.len() + 1, "{place}: another one");
        }
    }
    unreachable!("an operation has an end")
}

#[test]
fn p21_whatever_step_a_process_ends_at_leaves_the_old_or_the_new_state() {
    for scenario in &SCENARIOS {
        let steps = cut_everywhere(scenario, Cut::Dies);
        assert!(steps > 20, "{}: {steps} steps", scenario.name);
    }
}

#[test]
fn p21_whatever_call_fails_the_answer_is_true() {
    for scenario in &SCENARIOS {
        cut_everywhere(scenario, Cut::Fails);
    }
}

#[test]
fn where_directories_cannot_change_places_a_package_that_still_runs_comes_back_all_the_same() {
    let home = Home::new();
    let packages = packages_in(
        &home.packages.layout().root,
        Arc::new(Stepped { at: u64::MAX, cut: Cut::ExchangesNothing, step: AtomicU64::new(0) }),
    );
    let from = home.source("p", "1.0.0", &["a"]);
    install(&packages, &from).unwrap();
    let runs = running(&packages);
    packages.remove("p", false).unwrap();
    install(&packages, &from).unwrap();
    assert!(runs.is_some_and(|release| release.metadata().is_ok()));
    assert_eq!(whole(&packages).len(), 1);
}
