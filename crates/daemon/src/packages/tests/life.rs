//! Packages come, go, change and come back.

use super::*;

#[test]
fn p5_a_missing_database_is_an_empty_one_and_reading_it_makes_nothing() {
    let home = Home::new();
    assert_eq!(home.packages.look().unwrap().db, Db::default());
    assert_eq!(home.packages.commands().unwrap(), PackageCommands::default());
    assert_eq!(names(home.directory.path()), [""; 0]);
}

#[test]
fn p10_a_directory_and_an_archive_of_either_kind_are_installed_from_any_path() {
    for kind in [None, Some(Compression::Gzip), Some(Compression::Zstd)] {
        let home = Home::new();
        let mut from = home.source("hello", "1.2.0", &["hello", "hallo"]);
        if let Some(compression) = kind {
            from = build(&from, home.directory.path(), compression).unwrap().path;
        }
        let changed = home.install(&from).unwrap();
        assert_eq!((changed.name.as_str(), changed.commands), ("hello", vec!["hello".to_owned(), "hallo".to_owned()]));
        assert_eq!(home.run("hello").as_deref(), Some("hello 1.2.0\n"));
        assert_eq!(home.run("hallo").as_deref(), Some("hello 1.2.0\n"));
        let commands = home.packages.commands().unwrap().commands;
        let (shell, completion) = &commands[0].completions[0];
        assert_eq!((*shell, fs::read_to_string(completion).unwrap().as_str()), ("bash", "complete\n"));
        whole(&home.packages);
    }
}

#[test]
fn what_is_installed_is_read_only_and_nobody_elses() {
    let home = Home::new();
    let from = home.source("hello", "1.0.0", &["hello"]);
    fs::set_permissions(from.join("package.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    home.install(&from).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let store = home.packages.layout().store.join(&home.in_store()[0]);
    assert_eq!(mode(&home.packages.layout().root), 0o700);
    assert_eq!((mode(&store), mode(&store.join("bin"))), (0o555, 0o555));
    assert_eq!((mode(&store.join("bin/hello")), mode(&store.join("package.toml"))), (0o555, 0o444));
}

#[test]
fn p11_what_is_installed_already_is_an_error_with_its_version_and_changes_nothing() {
    let home = Home::new();
    home.install(&home.source("hello", "1.0.0", &["hello"])).unwrap();
    let before = whole(&home.packages);
    let error = home.install(&home.source("hello", "2.0.0", &["hello"])).unwrap_err();
    assert!(error.to_string().contains("hello 1.0.0 is already installed"), "{error}");
    assert_eq!(whole(&home.packages), before);
}

#[test]
fn p13_removing_one_package_leaves_the_others_and_it_can_come_back() {
    let home = Home::new();
    for name in ["a", "b", "c"] {
        home.install(&home.source(name, "1.0.0", &[name])).unwrap();
    }
    assert_eq!(home.packages.remove("b", false).unwrap().commands, ["b"]);
    assert_eq!(whole(&home.packages).keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!((home.run("b"), home.run("c").as_deref()), (None, Some("c 1.0.0\n")));
    home.install(&home.source("b", "1.0.0", &["b"])).unwrap();
    assert_eq!(whole(&home.packages).len(), 3);
}

#[test]
fn removing_what_is_not_installed_is_an_error_that_names_the_nearest() {
    let home = Home::new();
    home.install(&home.source("hello", "1.0.0", &["hello"])).unwrap();
    let error = home.packages.remove("helo", false).unwrap_err();
    assert_eq!(error.to_string(), "helo is not installed");
    assert_eq!(error.hint().unwrap(), "did you mean \"hello\"?");
}

#[test]
fn p26_a_command_that_another_package_has_refuses_the_install_and_as_or_no_bin_get_around_it() {
    let home = Home::new();
    home.install(&home.source("one", "1.0.0", &["say"])).unwrap();
    let from = home.source("two", "1.0.0", &["say"]);
    let error = home.install(&from).unwrap_err();
    assert!(error.to_string().contains("\"say\", which one has"), "{error}");
    assert!(error.hint().unwrap().contains("--as"), "{error:?}");
    assert_eq!(whole(&home.packages).len(), 1);
    let with = |wishes: Wishes| {
        let fetched = home.packages.fetch_path(&from, &|_, _| ()).unwrap();
        home.packages.install(fetched, &wishes, &|_| ())
    };
    for bad in ["a/b", "pkg", "x=y", "say=-x", ""] {
        assert!(
            matches!(with(Wishes { rename: vec![bad.into()], no_bin: false }), Err(PackageError::Rename(_))),
            "{bad}"
        );
    }
    with(Wishes { rename: vec!["say2".to_owned()], no_bin: false }).unwrap();
    assert_eq!((home.run("say").as_deref(), home.run("say2").as_deref()), (Some("one 1.0.0\n"), Some("two 1.0.0\n")));
    // The name outlives an upgrade.
    home.upgrade(&home.source("two", "2.0.0", &["say"])).unwrap();
    assert_eq!(home.run("say2").as_deref(), Some("two 2.0.0\n"));
    whole(&home.packages);
    home.packages.remove("two", false).unwrap();
    with(Wishes { rename: Vec::new(), no_bin: true }).unwrap();
    assert_eq!(home.in_bin(), ["say"]);
    let commands = home.packages.commands().unwrap().commands;
    let hidden = commands.iter().find(|command| command.package == "two").unwrap();
    assert_eq!((hidden.link.as_deref(), hidden.program.exists()), (None, true));
}

#[test]
fn p27_an_upgrade_keeps_the_release_before_and_rollback_goes_there_and_back() {
    let home = Home::new();
    for (version, commands) in [("1.0.0", vec!["a", "old"]), ("2.0.0", vec!["a"]), ("3.0.0", vec!["a", "new"])] {
        let from = home.source("p", version, &commands);
        if version == "1.0.0" {
            home.install(&from).unwrap()
        } else {
            home.upgrade(&from).unwrap()
        };
        assert_eq!(home.run("a").unwrap(), format!("p {version}\n"));
    }
    assert_eq!(home.in_store().len(), 2, "only the one before stays");
    assert_eq!(home.in_bin(), ["a", "new"]);
    let back = home.packages.rollback("p").unwrap();
    assert_eq!((back.version.to_string(), back.before.unwrap().to_string()), ("2.0.0".into(), "3.0.0".into()));
    assert_eq!((home.run("a").as_deref(), home.in_bin()), (Some("p 2.0.0\n"), vec!["a".to_owned()]));
    whole(&home.packages);
    home.packages.rollback("p").unwrap();
    assert_eq!(home.run("new").as_deref(), Some("p 3.0.0\n"));
    home.packages.rollback("p").unwrap();
    home.upgrade(&home.source("p", "3.0.0", &["a", "new"])).unwrap();
    assert_eq!(whole(&home.packages)["p"].0, "3.0.0");
}

#[test]
fn p27_an_upgrade_that_fails_keeps_the_old() {
    let home = Home::new();
    home.install(&home.source("p", "1.0.0", &["a"])).unwrap();
    home.install(&home.source("q", "1.0.0", &["b"])).unwrap();
    let before = whole(&home.packages);
    assert!(matches!(home.upgrade(&home.source("p", "2.0.0", &["a", "b"])), Err(PackageError::Conflict { .. })));
    let broken = home.source("p", "3.0.0", &["a"]);
    fs::remove_file(broken.join("bin/a")).unwrap();
    assert!(home.upgrade(&broken).is_err());
    assert!(matches!(home.upgrade(&home.source("p", "1.0.0", &["a"])), Err(PackageError::AlreadyInstalled { .. })));
    assert_eq!(whole(&home.packages), before);
    assert!(matches!(home.packages.rollback("p"), Err(PackageError::NoPrevious { .. })));
}

#[test]
fn p25_no_script_of_a_package_is_run_by_installing_or_removing_it() {
    let home = Home::new();
    let from = home.source("p", "1.0.0", &["a"]);
    for name in ["install.sh", "postinst", "preinst", "prerm", "Makefile", "configure", "setup.py"] {
        fs::write(from.join(name), format!("#!/bin/sh\ntouch {}/ran\n", home.directory.path().display())).unwrap();
        fs::set_permissions(from.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    home.install(&from).unwrap();
    home.packages.remove("p", false).unwrap();
    assert!(!home.directory.path().join("ran").exists());
}

#[test]
fn p17_what_was_built_into_the_package_itself_is_no_part_of_the_next() {
    let home = Home::new();
    let from = home.source("p", "1.0.0", &["a"]);
    fs::write(from.join("data-1.0.0.tar.gz"), "another's").unwrap();
    let one = build(&from, &from, Compression::Gzip).unwrap();
    build(&from, &from, Compression::Zstd).unwrap();
    assert_eq!(build(&from, &from, Compression::Gzip).unwrap(), one);
    home.install(&one.path).unwrap();
    let store = home.packages.layout().store.join(&home.in_store()[0]);
    assert_eq!(names(&store), [".shellkeep.json", "bin", "c", "data-1.0.0.tar.gz", "package.toml"]);
}

#[test]
fn p17_build_refuses_what_could_not_be_installed_and_gives_the_same_bytes_for_the_same_files() {
    let home = Home::new();
    let from = home.source("p", "1.0.0", &["a"]);
    fs::create_dir_all(from.join(".git")).unwrap();
    fs::write(from.join(".git/config"), "x").unwrap();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let one = build(&from, home.directory.path(), compression).unwrap();
        fs::set_permissions(from.join("c/a"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::File::options().write(true).open(from.join("bin/a")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(build(&from, home.directory.path(), compression).unwrap(), one);
    }
    fs::write(from.join("bin/a"), "").unwrap();
    fs::set_permissions(from.join("bin/a"), fs::Permissions::from_mode(0o644)).unwrap();
    let said = build(&from, home.directory.path(), Compression::Gzip).unwrap_err().to_string();
    assert!(said.contains("the program of a is bin/a, which is not executable"), "{said}");
    fs::remove_file(from.join("bin/a")).unwrap();
    let said = build(&from, home.directory.path(), Compression::Gzip).unwrap_err().to_string();
    assert!(said.contains("which is not in the package"), "{said}");
}

#[test]
fn p22_two_operations_at_once_go_one_after_the_other() {
    let home = Home::new();
    let sources: Vec<PathBuf> = (0..8).map(|n| home.source(&format!("p{n}"), "1.0.0", &[&format!("c{n}")])).collect();
    std::thread::scope(|scope| {
        for from in &sources {
            scope.spawn(|| home.install(from).unwrap());
        }
    });
    assert_eq!(whole(&home.packages).len(), 8);
}

#[test]
fn p22_waiting_too_long_says_who_works() {
    let home = Home::new();
    home.install(&home.source("p", "1.0.0", &["a"])).unwrap();
    let held = crate::lock::Lock::take(&home.packages.layout().lock).unwrap();
    let impatient = Packages::with(&home.packages.layout().root, Arc::new(RealDisk), Duration::from_millis(1));
    let error = impatient.remove("p", false).unwrap_err();
    assert!(matches!(error, PackageError::Busy { pid: Some(pid) } if pid == std::process::id()), "{error:?}");
    assert_eq!(state_of(&impatient.look().unwrap().db).len(), 1, "reading waits for nobody");
    drop(held);
    impatient.remove("p", false).unwrap();
}

#[test]
fn p30_verify_names_what_was_modified_removed_and_added() {
    let home = Home::new();
    home.install(&home.source("p", "1.0.0", &["a", "b"])).unwrap();
    let store = home.packages.layout().store.join(&home.in_store()[0]);
    for directory in ["", "bin", "c"] {
        fs::set_permissions(store.join(directory), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(store.join("bin/a"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(store.join("bin/a"), "#!/bin/sh\necho evil\n").unwrap();
    fs::set_permissions(store.join("bin/b"), fs::Permissions::from_mode(0o444)).unwrap();
    fs::remove_file(store.join("c/b")).unwrap();
    fs::write(store.join("bin/c"), "").unwrap();
    let verified = home.packages.verify(Some("p")).unwrap().remove(0);
    let faults: Vec<(&str, Fault)> = verified.faults.iter().map(|(path, fault)| (path.as_str(), *fault)).collect();
    let expected =
        [("bin/a", Fault::Modified), ("bin/b", Fault::Modified), ("c/b", Fault::Missing), ("bin/c", Fault::Added)];
    assert_eq!(faults, expected);
    fs::set_permissions(store.join(".shellkeep.json"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(store.join(".shellkeep.json"), "{}").unwrap();
    assert_eq!(home.packages.verify(None).unwrap()[0].faults, [(".shellkeep.json".to_owned(), Fault::Modified)]);
}

#[test]
fn jshells_packages_are_installed_too() {
    let home = Home::new();
    let from = home.directory.path().join("jshell");
    fs::create_dir_all(from.join("bin")).unwrap();
    fs::write(from.join("bin/greet"), "#!/bin/sh\necho greetings\n").unwrap();
    fs::set_permissions(from.join("bin/greet"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(from.join("pkg.json"), r#"{"name":"greet","version":"0.1.0","files":["bin/greet"]}"#).unwrap();
    home.install(&build(&from, home.directory.path(), Compression::Gzip).unwrap().path).unwrap();
    assert_eq!(home.run("greet").as_deref(), Some("greetings\n"));
    whole(&home.packages);
}

/// What completes a command comes and goes with it, for each shell under the name by which it looks for it.
#[test]
fn completions_are_linked_as_commands_are_and_renamed_ones_have_none() {
    let home = Home::new();
    let links = |shell| names(&home.packages.layout().completions.join(shell));
    home.install(&home.source("p", "1.0.0", &["say"])).unwrap();
    assert_eq!((links("bash"), links("zsh")), (vec!["say".to_owned()], Vec::new()));
    let file = home.packages.layout().completions.join("bash/say");
    assert!(fs::canonicalize(&file).unwrap().ends_with("c/say"));
    home.upgrade(&home.source("p", "2.0.0", &["tell"])).unwrap();
    assert_eq!(links("bash"), ["tell"]);
    home.packages.remove("p", false).unwrap();
    assert_eq!(links("bash"), [""; 0]);
    let fetched = home.packages.fetch_path(&home.source("q", "1.0.0", &["say"]), &|_, _| ()).unwrap();
    let wishes = Wishes { rename: vec!["other".to_owned()], no_bin: false };
    home.packages.install(fetched, &wishes, &|_| ()).unwrap();
    assert_eq!((home.in_bin(), links("bash")), (vec!["other".to_owned()], Vec::new()));
}

/// fish reads no file of a package by itself: all that it finds asks the shell.
#[test]
fn what_fish_finds_asks_the_shell_and_comes_and_goes_with_the_command() {
    let home = Home::new();
    let at = &home.packages.layout().completions;
    let source = home.source("p", "1.0.0", &["say"]);
    let manifest = fs::read_to_string(source.join("package.toml")).unwrap();
    fs::write(source.join("package.toml"), manifest.replace("bash =", "fish =")).unwrap();
    home.install(&source).unwrap();
    let asks = || (names(&at.join("fish")), names(&at.join("fish-asks")));
    assert_eq!(asks(), (vec!["say.fish".to_owned()], vec!["say.fish".to_owned()]));
    let text = || fs::read_to_string(at.join("fish-asks/say.fish")).unwrap();
    assert!(text().contains("__shellkeep_asked (status filename)"), "{}", text());
    // Whatever became of it; what others have put there stays.
    fs::write(at.join("ask.fish"), "echo other").unwrap();
    fs::write(at.join("fish-asks/theirs.fish"), "").unwrap();
    home.packages.look().unwrap();
    assert!(text().contains("__shellkeep_asked"), "{}", text());
    home.packages.remove("p", false).unwrap();
    assert_eq!(asks(), (Vec::new(), vec!["theirs.fish".to_owned()]));
}
