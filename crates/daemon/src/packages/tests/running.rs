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
    let program = home.packages.layout().bin.join("a");
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
    for (script, says) in [(SCRIPT, "still here with it\n"), (CLOSED, "still here\n")] {
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
    for script in [SCRIPT, CLOSED] {
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
