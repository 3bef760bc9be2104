//! P-29, P-15: a database that cannot be believed, and what is believed instead.

use super::*;

const DATABASE: &str = "pkgdb.json";
const COPY: &str = "pkgdb.json.bak";

/// A home with an upgraded package and another.
fn lived() -> Home {
    let home = Home::new();
    home.install(&home.source("p", "1.0.0", &["a"])).unwrap();
    home.upgrade(&home.source("p", "2.0.0", &["a"])).unwrap();
    home.install(&home.source("q", "1.0.0", &["x"])).unwrap();
    home
}

#[test]
fn p15_the_database_is_json_after_every_operation_with_its_copy_beside_it() {
    let home = Home::new();
    let from = home.source("p", "1.0.0", &["a"]);
    let manifest = fs::read_to_string(from.join("package.toml")).unwrap();
    fs::write(from.join("package.toml"), manifest.replace("Says p", r#"\"quoted\" \\ ünïcode ☃"#)).unwrap();
    let root = &home.packages.layout().root;
    let check = |count: usize| {
        let value: serde_json::Value = serde_json::from_slice(&fs::read(root.join(DATABASE)).unwrap()).unwrap();
        assert_eq!(value["packages"].as_array().unwrap().len(), count);
        assert_eq!(fs::read(root.join(DATABASE)).unwrap(), fs::read(root.join(COPY)).unwrap());
        value
    };
    home.install(&from).unwrap();
    assert_eq!(check(1)["packages"][0]["current"]["description"], "\"quoted\" \\ ünïcode ☃");
    home.upgrade(&home.source("p", "2.0.0", &["a"])).unwrap();
    check(1);
    home.packages.rollback("p").unwrap();
    check(1);
    home.packages.remove("p", false).unwrap();
    check(0);
}

#[test]
fn p29_a_damaged_database_comes_back_from_its_copy_and_says_so() {
    let home = lived();
    let state = whole(&home.packages);
    let path = home.packages.layout().root.join(DATABASE);
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    let at = good.windows(5).position(|five| five == b"1.0.0").unwrap();
    flipped[at] = b'9';
    for bad in [&b""[..], b"{", b"[]", b"{\"version\":1}", b"\0\0\0", &good[..good.len() / 2], &flipped] {
        fs::write(&path, bad).unwrap();
        // Whoever only reads is not fooled either.
        assert_eq!(home.packages.commands().unwrap().commands.len(), 2);
        let look = home.packages.look().unwrap();
        assert!(look.notes[0].contains("brought back from its copy"), "{:?}", look.notes);
        assert_eq!(whole(&home.packages), state);
        assert_eq!(fs::read(home.packages.layout().root.join("pkgdb.json.damaged")).unwrap(), bad);
    }
}

#[test]
fn p29_without_a_copy_it_is_built_anew_from_the_store() {
    let home = lived();
    let state = whole(&home.packages);
    for (database, copy) in [(Some("{"), Some("}")), (Some("{"), None), (None, Some("")), (None, None)] {
        for (name, content) in [(DATABASE, database), (COPY, copy)] {
            let path = home.packages.layout().root.join(name);
            match content {
                Some(content) => fs::write(path, content).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
        let look = home.packages.look().unwrap();
        assert!(look.notes[0].contains("brought back from the store"), "{:?}", look.notes);
        assert_eq!(whole(&home.packages), state);
        assert_eq!(home.run("a").as_deref(), Some("p 2.0.0\n"));
    }
}

#[test]
fn p29_a_release_whose_receipt_is_damaged_too_comes_back_by_its_manifest() {
    let home = Home::new();
    home.install(&home.source("p", "1.0.0", &["a"])).unwrap();
    let store = home.packages.layout().store.join(&home.in_store()[0]);
    fs::set_permissions(store.join(".shellkeep.json"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(store.join(".shellkeep.json"), "{").unwrap();
    for name in [DATABASE, COPY] {
        fs::write(home.packages.layout().root.join(name), "{").unwrap();
    }
    assert_eq!(state_of(&home.packages.look().unwrap().db)["p"].0, "1.0.0");
    assert_eq!(home.run("a").as_deref(), Some("p 1.0.0\n"));
}

#[test]
fn p29_a_copy_that_names_what_is_gone_gives_what_is_there() {
    let home = lived();
    let root = home.packages.layout().root.clone();
    let before = fs::read(root.join(COPY)).unwrap();
    home.packages.remove("q", false).unwrap();
    fs::write(root.join(COPY), before).unwrap();
    fs::write(root.join(DATABASE), "").unwrap();
    let look = home.packages.look().unwrap();
    assert!(look.notes.iter().any(|note| note.contains("q 1.0.0 is gone")), "{:?}", look.notes);
    assert_eq!(whole(&home.packages).keys().collect::<Vec<_>>(), ["p"]);
}

#[test]
fn a_database_of_a_newer_shellkeep_is_left_alone() {
    let home = lived();
    let path = home.packages.layout().root.join(DATABASE);
    let newer = fs::read_to_string(&path).unwrap().replacen("\"version\": 1", "\"version\": 2", 1);
    fs::write(&path, &newer).unwrap();
    for error in [home.packages.look().unwrap_err(), home.packages.remove("p", false).unwrap_err()] {
        assert!(error.to_string().contains("newer shellkeep"), "{error}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
    assert_eq!(home.run("a").as_deref(), Some("p 2.0.0\n"));
}

/// A user may mean well: `bin` as a link into a directory that is on the path anyway.
#[test]
fn what_lies_behind_a_link_in_our_place_is_never_touched() {
    let home = lived();
    let layout = home.packages.layout();
    for own in [&layout.bin, &layout.staging, &layout.trash, &layout.store, &layout.completions] {
        let theirs = home.directory.path().join("theirs");
        std::fs::create_dir_all(theirs.join("sub")).unwrap();
        std::fs::write(theirs.join("sub/deep"), "b").unwrap();
        std::fs::write(theirs.join("tool"), "a").unwrap();
        let aside = own.with_extension("aside");
        std::fs::rename(own, &aside).unwrap();
        std::os::unix::fs::symlink(&theirs, own).unwrap();
        let _refused_or_told = home.packages.look();
        let _refused_or_told = home.packages.remove("p", false);
        assert!(theirs.join("sub/deep").exists() && theirs.join("tool").exists(), "{}", own.display());
        assert!(!theirs.join("ask.fish").exists() && !theirs.join("bash").exists(), "{}", own.display());
        std::fs::remove_file(own).unwrap();
        std::fs::rename(aside, own).unwrap();
    }
}

/// Whatever somebody has put there, twice.
#[test]
fn p29_what_is_no_file_in_the_place_of_the_database_is_set_aside() {
    let home = lived();
    let state = whole(&home.packages);
    let path = home.packages.layout().root.join(DATABASE);
    let directory = |path: &Path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("x"), "").unwrap();
    };
    let link = |path: &Path| std::os::unix::fs::symlink("elsewhere", path).unwrap();
    let fifo = |path: &Path| rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
    let makes: [&dyn Fn(&Path); 4] = [&directory, &link, &fifo, &directory];
    for make in makes {
        fs::remove_file(&path).unwrap();
        make(&path);
        assert_eq!(home.packages.commands().unwrap().commands.len(), 2);
        let look = home.packages.look().unwrap();
        assert!(look.notes[0].contains("no regular file"), "{:?}", look.notes);
        assert_eq!(whole(&home.packages), state);
    }
}

/// Whoever only reads tells nobody that everything is gone.
#[test]
fn p29_what_cannot_be_read_is_not_nothing() {
    let home = lived();
    for name in [DATABASE, COPY] {
        fs::write(home.packages.layout().root.join(name), "{").unwrap();
    }
    assert!(matches!(home.packages.commands(), Err(DbError::Damaged(_))));
}

#[test]
fn a_copy_that_cannot_be_written_is_told_and_hinders_nothing() {
    let home = lived();
    let copy = home.packages.layout().root.join(COPY);
    fs::remove_file(&copy).unwrap();
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("x"), "").unwrap();
    let told = home.packages.remove("p", false).unwrap().notes;
    assert!(told.iter().any(|note| note.contains("the copy of the database")), "{told:?}");
    // It does not come back either, though it could not be thrown away.
    fs::write(home.packages.layout().root.join(DATABASE), "{").unwrap();
    assert!(!home.packages.look().unwrap().db.packages.contains_key("p"));
    home.install(&home.source("p", "2.0.0", &["a"])).unwrap();
    assert_eq!(home.run("a").as_deref(), Some("p 2.0.0\n"));
    fs::remove_dir_all(&copy).unwrap();
    whole(&home.packages);
}

#[test]
fn what_a_manifest_says_in_numbers_is_no_damage() {
    let home = Home::new();
    let from = home.source("p", "1.0.0", &["a"]);
    let manifest = fs::read_to_string(from.join("package.toml")).unwrap();
    let capabilities = "{ a = 1.5000000000000002, b = 2.2250738585072011e-308, c = -0.0, d = 0.1, e = 1e300, f = nan, g = 9007199254740993 }";
    let extension =
        format!("[extension]\nrun = {{ command = \"bin/a\" }}\nprotocol = 1\ncapabilities = {capabilities}\n");
    fs::write(from.join("package.toml"), manifest + &extension).unwrap();
    home.install(&from).unwrap();
    let look = home.packages.look().unwrap();
    assert_eq!(look.notes, [""; 0]);
    whole(&home.packages);
}

#[test]
fn what_somebody_else_has_put_into_bin_is_not_replaced_and_it_is_told() {
    let home = Home::new();
    home.packages.look().unwrap();
    home.install(&home.source("q", "1.0.0", &["x"])).unwrap();
    let theirs = home.packages.layout().bin.join("a");
    fs::write(&theirs, "theirs").unwrap();
    let told = home.install(&home.source("p", "1.0.0", &["a", "b"])).unwrap().notes;
    assert!(told.iter().any(|note| note.contains("a in ") && note.contains("is somebody else's")), "{told:?}");
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
    assert_eq!(home.run("b").as_deref(), Some("p 1.0.0\n"));
    fs::remove_file(&theirs).unwrap();
    whole(&home.packages);
}

#[test]
fn what_could_not_be_read_again_is_not_installed() {
    let home = Home::new();
    home.install(&home.source("q", "1.0.0", &["x"])).unwrap();
    let state = whole(&home.packages);
    let deep = (0..70).map(|_| "a").collect::<Vec<_>>().join(".");
    let nested = format!("[[extension.capabilities.{deep}]]\n");
    let raw = "capabilities = { x = { \"$serde_json::private::RawValue\" = \"[[1]]\" } }\n".to_owned();
    let pairs: Vec<String> =
        (1..41).map(|depth| format!("[[extension.capabilities{}]]\n", ".a".repeat(depth))).collect();
    for bad in [nested, raw, pairs.concat()] {
        let from = home.source("p", "1.0.0", &["a"]);
        let manifest = fs::read_to_string(from.join("package.toml")).unwrap();
        let extension = format!("[extension]\nrun = {{ command = \"bin/a\" }}\nprotocol = 1\n{bad}");
        fs::write(from.join("package.toml"), manifest + &extension).unwrap();
        let error = home.install(&from).unwrap_err().to_string();
        assert!(error.contains("extension"), "{error}");
        assert_eq!(whole(&home.packages), state);
    }
}

#[test]
fn what_others_have_put_where_links_are_made_hinders_nothing() {
    let home = Home::new();
    home.packages.look().unwrap();
    home.install(&home.source("q", "1.0.0", &["x"])).unwrap();
    for theirs in [".new", ".new.0", ".new.1"] {
        fs::write(home.packages.layout().bin.join(theirs), "").unwrap();
    }
    assert_eq!(home.install(&home.source("p", "1.0.0", &["a"])).unwrap().notes, [""; 0]);
    assert_eq!(home.run("a").as_deref(), Some("p 1.0.0\n"));
}
