//! What the registry promises of packages, with real ones on a real disk.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::view::{Preferences, Resolved};
use super::*;
use crate::packages::Wishes;

/// Far above what anything here takes.
const SOON: Duration = Duration::from_secs(20);

/// What the change of a package may take until the registry has it. The quickest of some tries counts: a loaded machine is no failure.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A user's data, a registry, and what tells it.
struct Home {
    directory: tempfile::TempDir,
    registry: Arc<CommandRegistry>,
    installed: Arc<Installed>,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = Arc::new(CommandRegistry::new(1, Preferences::default()));
        // Above it there is nothing yet.
        let installed = Installed::new(Arc::clone(&registry), &directory.path().join("data/pkgs"));
        installed.start().unwrap();
        Self { directory, registry, installed }
    }

    /// As another process has it.
    fn packages(&self) -> Packages {
        std::fs::create_dir_all(self.directory.path().join("data")).unwrap();
        Packages::new(&self.directory.path().join("data/pkgs"))
    }

    fn fetched(&self, name: &str, version: &str) -> crate::packages::Fetched {
        let at = self.directory.path().join(format!("{name}-{version}"));
        std::fs::create_dir_all(&at).unwrap();
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"{version}\"\ndescription = \"d\"\n[[command]]\nname = \"{name}\"\npath = \"x\"\n"
        );
        std::fs::write(at.join("package.toml"), manifest).unwrap();
        std::fs::write(at.join("x"), format!("#!/bin/sh\necho {version}\n")).unwrap();
        std::fs::set_permissions(at.join("x"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        self.packages().fetch_path(&at, &|_, _| ()).unwrap()
    }

    fn install(&self, name: &str) {
        self.packages().install(self.fetched(name, "1.0.0"), &Wishes::default(), &|_| ()).unwrap();
    }

    fn of_packages(&self) -> Vec<Arc<super::super::Entry>> {
        let all = self.registry.get_all();
        all.entries().filter(|entry| entry.kind == Kind::Package).cloned().collect()
    }

    /// Waits for nothing but changes.
    fn until(&self, names: &[&str]) -> Duration {
        let began = Instant::now();
        loop {
            let there = self.of_packages();
            if there.iter().map(|entry| &*entry.name).eq(names.iter().copied()) {
                return began.elapsed();
            }
            assert!(began.elapsed() < SOON, "waited in vain for {names:?}: {there:?}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.installed.stop();
    }
}

fn found(registry: &CommandRegistry, name: &str) -> Option<Arc<super::super::Entry>> {
    let view = registry.get_all();
    match view.resolve(name) {
        Resolved::Found(entry) => Some(Arc::clone(entry)),
        _ => None,
    }
}

/// P-19, P-2, P-3: whoever makes the change. The directory of packages comes only with the first one.
#[test]
fn p19_what_another_process_installs_or_removes_is_in_the_registry_at_once() {
    let home = Home::new();
    let mut quickest = SOON;
    for _ in 0..4 {
        home.install("one");
        let came = home.until(&["one"]);
        home.packages().remove("one", false).unwrap();
        quickest = quickest.min(came.max(home.until(&[])));
    }
    assert!(quickest < AT_ONCE, "{quickest:?}");
    // The directory goes and comes back.
    home.install("one");
    home.until(&["one"]);
    std::fs::rename(home.directory.path().join("data/pkgs"), home.directory.path().join("away")).unwrap();
    home.until(&[]);
    std::fs::rename(home.directory.path().join("away"), home.directory.path().join("data/pkgs")).unwrap();
    home.until(&["one"]);
    home.install("two");
    home.until(&["one", "two"]);
}

/// P-7.
#[test]
fn p7_a_refresh_is_a_diff_and_builtins_stay() {
    let home = Home::new();
    home.install("one");
    home.until(&["one"]);
    let (one, builtin) = (found(&home.registry, "one").unwrap(), found(&home.registry, "cd").unwrap());
    home.install("two");
    home.until(&["one", "two"]);
    assert!(Arc::ptr_eq(&one, &found(&home.registry, "one").unwrap()));
    let two = found(&home.registry, "two").unwrap();
    home.packages().remove("one", false).unwrap();
    home.until(&["two"]);
    assert!(Arc::ptr_eq(&two, &found(&home.registry, "two").unwrap()));
    assert!(Arc::ptr_eq(&builtin, &found(&home.registry, "cd").unwrap()));
    // Nothing new: nothing is told.
    let rev = home.registry.get_all().revision();
    home.installed.refresh();
    assert_eq!(home.registry.get_all().revision(), rev);
    home.registry.clear_source(SOURCE);
    assert!(found(&home.registry, "two").is_none() && found(&home.registry, "cd").is_some());
}

/// 4.1: whose it is, what it runs, and another digest with another release.
#[test]
fn an_entry_says_its_package_its_program_and_what_decides() {
    let home = Home::new();
    home.install("one");
    home.until(&["one"]);
    let one = found(&home.registry, "one").unwrap();
    let program = one.path.clone().unwrap();
    assert_eq!((&*one.owner, &*one.qualified_name, one.installed), ("one", "one:one", Some(1)));
    assert!(Path::new(&*program).starts_with(home.directory.path().join("data/pkgs/store")));
    home.packages().upgrade(home.fetched("one", "2.0.0"), &|_| ()).unwrap();
    let began = Instant::now();
    while found(&home.registry, "one").is_none_or(|now| now.digest == one.digest) {
        assert!(began.elapsed() < SOON);
        std::thread::yield_now();
    }
    assert_ne!(found(&home.registry, "one").unwrap().path, one.path);
}

/// 4.4.6: as long as an execution holds it, its files stay; then they go without another operation.
#[test]
fn p28_files_of_a_removed_package_stay_until_the_last_lease_ends() {
    let home = Home::new();
    home.install("one");
    home.until(&["one"]);
    let one = found(&home.registry, "one").unwrap();
    let Exec::Spawn(spawn) = &one.exec else { panic!("{one:?}") };
    let held = spawn.hold().unwrap();
    home.packages().remove("one", false).unwrap();
    home.until(&[]);
    let store = || std::fs::read_dir(home.directory.path().join("data/pkgs/store")).unwrap().count();
    assert_eq!(store(), 1);
    assert!(spawn.hold().is_err(), "nothing begins of what is gone");
    drop(held);
    let began = Instant::now();
    while store() > 0 {
        assert!(began.elapsed() < SOON, "still there");
        std::thread::yield_now();
    }
}

/// P-29's part here: what cannot be read takes nothing away.
#[test]
fn a_database_that_cannot_be_read_leaves_the_list_and_says_so() {
    let home = Home::new();
    home.install("one");
    home.until(&["one"]);
    let file = home.packages().watched();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"version\": 1", "\"version\": 99", 1)).unwrap();
    let began = Instant::now();
    while !home.registry.get_all().diagnostics().any(|told| told.message.contains("newer shellkeep")) {
        assert!(began.elapsed() < SOON);
        std::thread::yield_now();
    }
    assert!(found(&home.registry, "one").is_some());
    std::fs::write(&file, text).unwrap();
    while home.registry.get_all().diagnostics().count() > 0 {
        assert!(began.elapsed() < SOON);
        std::thread::yield_now();
    }
}
