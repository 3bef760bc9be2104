//! What runs of a package that is removed, 4.4 corner 6.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use super::*;

/// Says that it is ready, waits for a line, and then reads what lies beside it.
const SCRIPT: &str = r#"#!/bin/sh
own=$(dirname "$(readlink -f "$0")")
echo ready
read line
echo "$line" $(cat "$own/beside")
"#;
/// The same without a descriptor of itself: awk has read all of it when it begins. What lies beside it is nothing to it.
const CLOSED: &str = "#!/usr/bin/awk -f\nBEGIN { print \"ready\"; fflush(); getline; print }\n";

/// Its interpreter is told by a wrapper where to look, and runs nothing that lies there.
const TOLD: &str = r#"#!/bin/sh
OWN=$(dirname "$(readlink -f "$0")") exec awk 'BEGIN { print "ready"; fflush(); getline; print $0, "with it" }'
"#;
/// What stands before it is an argument of its interpreter's, and no option.
const DIVIDED: &str = "#!/usr/bin/env -S awk -v x=1 -f\nBEGIN { print \"ready\"; fflush(); getline; print }\n";

/// A package whose command is `script`.
fn of_script(home: &Home, script: &str) -> PathBuf {
    let from = home.source("p", "1.0.0", &["a"]);
    fs::write(from.join("bin/a"), script).unwrap();
    fs::write(from.join("bin/beside"), "with it\n").unwrap();
    home.install(&from).unwrap();
    from
}

/// Its command, which is at work.
fn begun(home: &Home) -> Child {
    begun_as(&home.packages.layout().bin.join("a"))
}

fn begun_as(program: &Path) -> Child {
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    child
}

fn ended(mut child: Child) -> String {
    child.stdin.take().unwrap().write_all(b"still here\n").unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn what_runs_of_a_removed_package_goes_on_with_its_files_which_go_when_it_has_ended() {
    let of_itself = "still here\n";
    for (script, says) in
        [(SCRIPT, "still here with it\n"), (CLOSED, of_itself), (TOLD, "still here with it\n"), (DIVIDED, of_itself)]
    {
        let home = Home::new();
        of_script(&home, script);
        let child = begun(&home);
        home.packages.remove("p", false).unwrap();
        assert_eq!((home.in_bin().len(), home.in_store().len()), (0, 1), "it still runs");
        home.packages.look().unwrap();
        assert_eq!(home.in_store().len(), 1, "it still runs");
        assert_eq!(ended(child), says);
        assert!(home.packages.has_removed());
        whole(&home.packages);
        assert!(!home.packages.has_removed());
    }
}

#[test]
fn a_lease_keeps_the_files_of_a_removed_package_and_nothing_else_has_to_be_told_of_it() {
    let home = Home::new();
    of_script(&home, SCRIPT);
    let lease = Lease::take(&home.packages.commands().unwrap().commands[0].program).unwrap();
    home.packages.remove("p", false).unwrap();
    assert_eq!(home.in_store().len(), 1);
    drop(lease);
    whole(&home.packages);
}

#[test]
fn a_removed_package_that_still_runs_does_not_come_back_with_a_database_that_is_built_anew() {
    let home = Home::new();
    of_script(&home, SCRIPT);
    let child = begun(&home);
    home.packages.remove("p", false).unwrap();
    for name in ["pkgdb.json", "pkgdb.json.bak"] {
        fs::write(home.packages.layout().root.join(name), "{").unwrap();
    }
    assert_eq!(home.packages.look().unwrap().db.packages.len(), 0);
    assert_eq!(ended(child), "still here with it\n");
    whole(&home.packages);
}

#[test]
fn a_package_comes_back_while_it_still_runs_from_before() {
    let home = Home::new();
    let from = of_script(&home, SCRIPT);
    let child = begun(&home);
    home.packages.remove("p", false).unwrap();
    home.install(&from).unwrap();
    assert_eq!(ended(child), "still here with it\n");
    assert_eq!(whole(&home.packages).len(), 1);
}

#[test]
fn removing_with_force_ends_what_runs_of_the_package_and_nobody_who_reads_there() {
    for script in [SCRIPT, CLOSED, DIVIDED] {
        let home = Home::new();
        of_script(&home, script);
        let mut child = begun(&home);
        let program = home.packages.commands().unwrap().commands[0].program.clone();
        let open = fs::File::open(program.with_file_name("beside")).unwrap();
        let readers = [
            Command::new("sleep").arg("60").stdin(open).spawn(),
            Command::new("tail").arg("-f").arg(&program).stdout(Stdio::null()).spawn(),
        ];
        let changed = home.packages.remove("p", true).unwrap();
        assert_eq!(changed.notes, ["processes ended: 1"]);
        assert!(!child.wait().unwrap().success());
        for mut reader in readers.map(Result::unwrap) {
            assert_eq!(reader.try_wait().unwrap(), None);
            reader.kill().unwrap();
            reader.wait().unwrap();
        }
        whole(&home.packages);
    }
}

#[test]
fn a_command_that_is_called_by_a_link_of_the_users_is_known_too() {
    let home = Home::new();
    of_script(&home, CLOSED);
    let link = home.directory.path().join("mine");
    std::os::unix::fs::symlink(home.packages.layout().bin.join("a"), &link).unwrap();
    let child = begun_as(&link);
    home.packages.remove("p", false).unwrap();
    assert_eq!(home.in_store().len(), 1);
    assert_eq!(ended(child), "still here\n");
    whole(&home.packages);
}

#[test]
fn force_ends_what_only_an_earlier_version_has_and_nothing_of_another_package() {
    let home = Home::new();
    of_script(&home, CLOSED);
    let mut old = begun(&home);
    home.upgrade(&home.source("p", "2.0.0", &["b"])).unwrap();
    let from = home.source("q", "1.0.0", &["a"]);
    fs::write(from.join("bin/a"), SCRIPT).unwrap();
    fs::write(from.join("bin/beside"), "of q\n").unwrap();
    home.install(&from).unwrap();
    let other = begun(&home);
    // A third has that name too, and is in nobody's path.
    let fetched = home.packages.fetch_path(&home.source("r", "1.0.0", &["a"]), &|_, _| ()).unwrap();
    home.packages.install(fetched, &Wishes { rename: Vec::new(), no_bin: true }, &|_| ()).unwrap();
    assert_eq!(home.packages.remove("r", true).unwrap().notes, [""; 0]);
    home.packages.remove("p", true).unwrap();
    assert_eq!(ended(other), "still here of q\n");
    old.kill().unwrap();
    old.wait().unwrap();
    whole(&home.packages);
}

/// Modes are the user's: they say nothing of what is installed.
#[test]
fn a_store_that_its_user_has_closed_for_others_is_installed_all_the_same() {
    let home = Home::new();
    of_script(&home, CLOSED);
    let at = home.packages.layout().store.join(&home.in_store()[0]);
    fs::set_permissions(&at, fs::Permissions::from_mode(0o500)).unwrap();
    assert!(!home.packages.is_removed(&at.join("bin/a")));
    for name in ["pkgdb.json", "pkgdb.json.bak"] {
        fs::remove_file(home.packages.layout().root.join(name)).unwrap();
    }
    assert_eq!(home.packages.look().unwrap().db.packages.len(), 1);
}

/// A program finds what lies beside it at each moment, whatever is done to its package.
#[test]
fn what_runs_misses_nothing_while_its_package_is_removed_and_comes_back() {
    let home = Home::new();
    let from = of_script(&home, SCRIPT);
    let child = begun(&home);
    let beside = fs::canonicalize(home.packages.layout().bin.join("a")).unwrap().with_file_name("beside");
    let (is_over, watch) = std::sync::mpsc::channel::<()>();
    let missed = std::thread::spawn(move || {
        let mut missed = 0_u32;
        while watch.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            missed += u32::from(!beside.exists());
        }
        missed
    });
    for _ in 0..20 {
        home.packages.remove("p", false).unwrap();
        home.install(&from).unwrap();
    }
    drop(is_over);
    assert_eq!(missed.join().unwrap(), 0);
    assert_eq!(ended(child), "still here with it\n");
    whole(&home.packages);
}

/// What was in the place of a release before it came back is used by whoever began then, and looks for its files by that path.
#[test]
fn what_runs_since_before_its_package_came_back_keeps_its_files_when_that_is_removed() {
    for force in [false, true] {
        let home = Home::new();
        let from = home.source("p", "1.0.0", &["a"]);
        fs::remove_file(from.join("bin/a")).unwrap();
        fs::copy(fs::canonicalize("/bin/sh").unwrap(), from.join("bin/a")).unwrap();
        fs::set_permissions(from.join("bin/a"), fs::Permissions::from_mode(0o755)).unwrap();
        home.install(&from).unwrap();
        let mut program = Command::new(home.packages.layout().bin.join("a"));
        program.args(["-c", "echo ready; read line; echo \"$line\""]);
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        home.packages.remove("p", false).unwrap();
        home.install(&from).unwrap();
        let notes = home.packages.remove("p", force).unwrap().notes;
        if force {
            assert_eq!(notes, ["processes ended: 1"]);
            assert!(!child.wait().unwrap().success());
        } else {
            assert_eq!(home.in_store().len(), 1, "it still runs");
            assert_eq!(ended(child), "still here\n");
            home.packages.look().unwrap(); // what it used, and then what kept that
        }
        whole(&home.packages);
    }
}
