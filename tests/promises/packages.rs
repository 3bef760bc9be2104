//! Packages through the program itself: what people type, what scripts read, and kill -9 at any moment.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::world::{World, skipped};

/// Kills of the loop; more with this variable (300 take a minute or two).
const KILLS: u32 = 20;
const KILLS_VARIABLE: &str = "SHELLKEEP_PKG_KILLS";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Our own packages and an index of them, by the one command that everybody uses for it.
fn shop(world: &World) -> Result<String> {
    let shop = world.outside().join("shop");
    let mut command = Command::new(root().join("scripts/packages"));
    command.arg(&shop).env("SHELLKEEP", world.program()).env("SHELLKEEP_HOME", world.outside().join("builder"));
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(shop.to_string_lossy().into_owned())
}

/// A package's directory with one command.
fn source(world: &World, name: &str, version: &str, command: &str) -> Result<String> {
    let at = world.outside().join(format!("{name}-{version}"));
    std::fs::create_dir_all(at.join("bin"))?;
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"{version}\"\ndescription = \"Says {name}\"\n[[command]]\nname = \"{command}\"\npath = \"bin/x\"\n"
    );
    std::fs::write(at.join("package.toml"), manifest)?;
    std::fs::write(at.join("bin/x"), format!("#!/bin/sh\necho {name} {version}\n"))?;
    std::fs::set_permissions(at.join("bin/x"), std::fs::Permissions::from_mode(0o755))?;
    Ok(at.to_string_lossy().into_owned())
}

fn json(world: &World, args: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&world.ok(args)?)?)
}

/// Status, what was said, and what came out.
fn refused(world: &World, args: &[&str]) -> Result<(i32, String, String)> {
    let output = world.run(args)?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes);
    Ok((output.status.code().context("a status")?, text(output.stderr)?, text(output.stdout)?))
}

fn bin(world: &World, command: &str) -> PathBuf {
    world.home().join("data/pkgs/bin").join(command)
}

#[test]
fn p14_every_verb_answers_with_none_and_with_some_installed_as_text_and_as_json() -> Result<()> {
    let world = World::new()?;
    let shop = shop(&world)?;
    assert_eq!(world.ok(&["pkg", "list"])?, "");
    assert_eq!(world.ok(&["pkg", "list", "--json"])?, "[]\n");
    assert_eq!(world.ok(&["pkg", "verify", "--json"])?, "[]\n");
    assert!(!world.home().join("data/pkgs").exists(), "asking makes nothing");
    let found = json(&world, &["pkg", "search", "DIRECTORY", "--index", &shop, "--json"])?;
    assert_eq!((found[0]["name"].as_str(), found[0]["installed"].is_null()), (Some("serve"), true));
    let all = json(&world, &["pkg", "search", "--index", &shop, "--json"])?;
    assert_eq!(all.as_array().map(Vec::len), Some(3));
    let (status, _, out) = refused(&world, &["pkg", "search", "no such thing", "--index", &shop, "--json"])?;
    assert_eq!((status, out.as_str()), (1, "[]\n"));
    let became = json(&world, &["pkg", "install", "all", "--index", &shop, "--json"])?;
    assert_eq!(became.as_array().map(Vec::len), Some(3));
    assert!(became.as_array().is_some_and(|all| all.iter().all(|one| one["result"] == "installed")));
    let listed = json(&world, &["pkg", "list", "--json"])?;
    let keys: Vec<&String> = listed[0].as_object().context("an object")?.keys().collect();
    assert_eq!(keys.len(), 5, "{keys:?}");
    assert_eq!(listed[0]["name"], "dotenv");
    assert_eq!(listed[0]["commands"][0], "dotenv");
    assert!(listed[0]["installed_at"].as_str().is_some_and(|at| at.ends_with('Z')));
    assert!(world.ok(&["pkg", "list"])?.starts_with("NAME      VERSION  COMMANDS  DESCRIPTION\n"));
    let info = json(&world, &["pkg", "info", "serve", "--index", &shop, "--json"])?;
    assert_eq!((info["version"].as_str(), info["available"][0].as_str()), (Some("0.1.0"), Some("0.1.0")));
    assert!(world.ok(&["pkg", "info", "serve"])?.contains("commands     serve\n"));
    let updated = json(&world, &["pkg", "update", "--index", &shop, "--json"])?;
    assert_eq!((updated["packages"].as_u64(), updated["upgradable"].as_array().map(Vec::len)), (Some(3), Some(0)));
    let upgraded = json(&world, &["pkg", "upgrade", "--index", &shop, "--json"])?;
    assert!(upgraded.as_array().is_some_and(|all| all.iter().all(|one| one["result"] == "current")));
    assert!(json(&world, &["pkg", "verify", "--json"])?[0]["ok"].as_bool() == Some(true));
    let removed = json(&world, &["pkg", "remove", "serve", "git-tidy", "--json"])?;
    assert_eq!(removed[1]["result"], "removed");
    assert_eq!(json(&world, &["pkg", "list", "--json"])?.as_array().map(Vec::len), Some(1));
    Ok(())
}

#[test]
fn p18_each_of_several_packages_is_told_by_itself_and_one_failure_is_status_1() -> Result<()> {
    let world = World::new()?;
    let shop = shop(&world)?;
    world.ok(&["pkg", "install", "serve", "--index", &shop])?;
    std::fs::write(Path::new(&shop).join("dotenv-0.1.0.tar.gz"), "another")?;
    let (status, said, out) = refused(&world, &["pkg", "install", "all", "--index", &shop, "--json"])?;
    let became: Value = serde_json::from_str(&out)?;
    let results: Vec<&str> =
        became.as_array().context("a list")?.iter().filter_map(|one| one["result"].as_str()).collect();
    assert_eq!((status, results), (1, vec!["failed", "installed", "skipped"]));
    assert!(said.contains("dotenv-0.1.0.tar.gz is not what the index"), "{said}");
    Ok(())
}

#[test]
fn p12_what_cannot_be_installed_has_its_status_its_reason_and_a_next_step_and_leaves_nothing() -> Result<()> {
    let world = World::new()?;
    let shop = shop(&world)?;
    let one = source(&world, "one", "1.0.0", "say")?;
    let two = source(&world, "two", "1.0.0", "say")?;
    let text = world.outside().join("text.tar.gz");
    std::fs::write(&text, "text")?;
    let text = text.to_string_lossy().into_owned();
    world.ok(&["pkg", "install", &one])?;
    let before = world.ok(&["pkg", "list", "--json"])?;
    let cases: &[(&[&str], i32, &str, &str)] = &[
        (&["pkg", "install"], 2, "required", ""),
        (&["pkg", "install", "Hello"], 2, "neither the name", "hint:"),
        (&["pkg", "install", "hello"], 1, "no index of packages is set", "--index"),
        (&["pkg", "install", "srve", "--index", &shop], 1, "no package \"srve\"", "did you mean \"serve\"?"),
        (&["pkg", "install", "serve@9.0.0", "--index", &shop], 1, "0.1.0 is", "serve@0.1.0"),
        (&["pkg", "install", "./nowhere"], 1, "No such file", ""),
        (&["pkg", "install", &text], 1, "neither a .tar.gz nor", "pkg build"),
        (&["pkg", "install", &one], 1, "one 1.0.0 is already installed", "pkg upgrade one"),
        (&["pkg", "install", &two], 1, "\"say\", which one has", "--as say="),
        (&["pkg", "install", &two, "--as", "a/b"], 2, "no name for a command", "--as"),
        (&["pkg", "install", &two, "--sha256", &"0".repeat(64)], 1, "is not what --sha256 says", ""),
        (&["pkg", "install", "x", "--index", "/nowhere"], 1, "/nowhere/index.json", "pkg index"),
        (&["pkg", "install", "x", "--index", "ftp://x"], 1, "is no index", ""),
        (&["pkg", "remove", "on"], 1, "on is not installed", "did you mean \"one\"?"),
        (&["pkg", "rollback", "one"], 1, "no earlier version", "hint:"),
        (&["pkg", "verify", "two"], 1, "two is not installed", "hint:"),
        (&["pkg", "info", "nothing"], 1, "no package \"nothing\"", "hint:"),
        (&["pkg", "build", &shop], 1, "no package.toml", ""),
    ];
    for (args, expected, words, hint) in cases {
        let (status, said, out) = refused(&world, args)?;
        assert_eq!((status, out.as_str()), (*expected, ""), "{args:?}: {said}");
        assert!(said.contains(words) && said.contains(hint), "{args:?}: {said}");
    }
    assert_eq!(world.ok(&["pkg", "list", "--json"])?, before);
    world.ok(&["pkg", "install", &two, "--as", "say2"])?;
    assert_eq!(Command::new(bin(&world, "say2")).output()?.stdout, b"two 1.0.0\n");
    Ok(())
}

#[test]
fn what_an_archive_or_an_index_says_never_reaches_the_terminal_as_it_is() -> Result<()> {
    let world = World::new()?;
    let evil = world.outside().join("evil");
    std::fs::create_dir_all(evil.join("bin"))?;
    std::fs::write(
        evil.join("package.toml"),
        "[package]\nname = \"e\"\nversion = \"1.0.0\"\ndescription = \"\\u001b[2J\"\n",
    )?;
    std::fs::write(evil.join("bin/\u{1b}[2J"), "")?;
    for args in [&["pkg", "install", "./evil"][..], &["pkg", "build", "evil"]] {
        let (status, said, _) = refused(&world, args)?;
        assert_eq!(status, 1);
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
    Ok(())
}

#[test]
fn p16_p27_upgrade_and_rollback_from_an_index_whatever_the_directory() -> Result<()> {
    let world = World::new()?;
    let shop = world.outside().join("own");
    std::fs::create_dir_all(&shop)?;
    let shop = shop.to_string_lossy().into_owned();
    let publish = |version: &str| -> Result<()> {
        let from = source(&world, "p", version, "say")?;
        world.ok(&["pkg", "build", &from, "--output", &shop, "--format", "zst"])?;
        world.ok(&["pkg", "index", &shop]).map(drop)
    };
    publish("1.0.0")?;
    let said =
        |world: &World| -> Result<String> { Ok(String::from_utf8(Command::new(bin(world, "say")).output()?.stdout)?) };
    let away = |args: &[&str]| -> Result<()> {
        let output = world.command(args).current_dir("/").env("SHELLKEEP_PKG_INDEX", &shop).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    away(&["pkg", "install", "p"])?;
    publish("1.1.0")?;
    away(&["pkg", "upgrade"])?;
    assert_eq!(said(&world)?, "p 1.1.0\n");
    away(&["pkg", "rollback", "p"])?;
    assert_eq!(said(&world)?, "p 1.0.0\n");
    away(&["pkg", "upgrade", "p"])?;
    assert_eq!(said(&world)?, "p 1.1.0\n");
    // What was installed from a path is not replaced by a stranger of the same name.
    away(&["pkg", "remove", "p"])?;
    world.ok(&["pkg", "install", &source(&world, "p", "0.1.0", "say")?])?;
    let skipped = json(&world, &["pkg", "upgrade", "--index", &shop, "--json"])?;
    assert_eq!((skipped[0]["result"].as_str(), said(&world)?.as_str()), (Some("skipped"), "p 0.1.0\n"));
    Ok(())
}

/// Directories of the store are read-only, which root does not notice.
#[test]
fn a_user_who_is_not_root_installs_upgrades_goes_back_and_removes() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        skipped("every other test runs as such a user");
        return Ok(());
    }
    let place = tempfile::Builder::new().prefix("sk-nobody-").tempdir()?;
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o777))?;
    let program = place.path().join("shellkeep");
    let world = World::new()?;
    std::fs::copy(world.program(), &program)?;
    let run = |args: &[&str]| -> Result<String> {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(args)
            .env_clear()
            .env("SHELLKEEP_HOME", place.path().join("home"))
            .env("PATH", "/usr/bin:/bin")
            .current_dir(place.path())
            .output()?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        let from = PathBuf::from(source(&world, "p", version, "say")?);
        let output = Command::new("cp").arg("-r").arg(&from).arg(place.path()).output()?;
        ensure!(output.status.success());
    }
    run(&["pkg", "install", "./p-1.0.0"])?;
    run(&["pkg", "upgrade", "./p-2.0.0"])?;
    run(&["pkg", "upgrade", "./p-3.0.0"])?;
    run(&["pkg", "rollback", "p"])?;
    assert!(run(&["pkg", "list"])?.contains("2.0.0"));
    run(&["pkg", "verify"])?;
    run(&["pkg", "remove", "p"])?;
    assert_eq!(run(&["pkg", "list", "--json"])?, "[]\n");
    for empty in ["store", "staging", "trash", "bin"] {
        assert_eq!(std::fs::read_dir(place.path().join("home/data/pkgs").join(empty))?.count(), 0, "{empty}");
    }
    Ok(())
}

/// P-21, with real processes: whatever moment it is, the old or the new state, and the next command works.
#[test]
fn p21_kill_9_at_any_moment_leaves_the_old_or_the_new_state() -> Result<()> {
    let world = World::new()?;
    let (one, two) = (source(&world, "p", "1.0.0", "say")?, source(&world, "p", "2.0.0", "say")?);
    for at in [&one, &two] {
        for n in 0..12 {
            std::fs::write(Path::new(at).join(format!("file-{n}")), format!("{at} {n}").repeat(200))?;
        }
    }
    let install: Vec<&str> = vec!["pkg", "install", &one];
    let steps: [(&[&str], &str, &str); 4] = [
        (&install, "", "1.0.0"),
        (&["pkg", "upgrade", &two], "1.0.0", "2.0.0"),
        (&["pkg", "rollback", "p"], "2.0.0", "1.0.0"),
        (&["pkg", "remove", "p"], "1.0.0", ""),
    ];
    let version = || -> Result<String> {
        let listed = json(&world, &["pkg", "list", "--json"])?;
        Ok(listed[0]["version"].as_str().unwrap_or_default().to_owned())
    };
    let kills = std::env::var(KILLS_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    // How long each step takes, as far as is known: it is killed at all moments from its beginning to about its end.
    let mut takes = [Duration::from_millis(20); 4];
    let (mut done, mut step) = (0, 0_u32);
    let (mut killed_before, mut killed_after) = (0, 0);
    while done < kills {
        let which = (step % 4) as usize;
        let (args, old, new) = steps[which];
        let mut child = world.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let moment = takes[which].mul_f64(f64::from(step * 37 % 100) / 100.0);
        std::thread::sleep(moment); // no event is waited for: a moment that nobody chose is what is tested
        if child.try_wait()?.is_none() {
            child.kill()?;
            done += 1;
            takes[which] = takes[which].mul_f64(1.05).min(Duration::from_secs(1));
        } else {
            takes[which] = moment.mul_f64(0.9).max(Duration::from_millis(1));
        }
        child.wait()?;
        let now = version()?;
        assert!(now == old || now == new, "kill {done} of {args:?}: {now:?}");
        world.ok(&["pkg", "verify"])?;
        let output = Command::new(bin(&world, "say")).output().ok().map(|output| output.stdout);
        let expected = (!now.is_empty()).then(|| format!("p {now}\n").into_bytes());
        assert_eq!(output, expected, "kill {done} of {args:?}");
        if now == old && old != new {
            killed_before += 1;
            world.ok(args)?;
        } else {
            killed_after += 1;
        }
        assert_eq!(version()?, new, "{args:?} after a kill");
        step += 1;
        anyhow::ensure!(step < kills * 4, "{step} tries, and only {done} were still there to be killed");
    }
    for empty in ["staging", "trash"] {
        assert_eq!(std::fs::read_dir(world.home().join("data/pkgs").join(empty))?.count(), 0, "{empty}");
    }
    assert!(killed_before > 0, "{killed_before} before their commit, {killed_after} after");
    Ok(())
}

#[test]
fn our_own_packages_do_what_they_say() -> Result<()> {
    let world = World::new()?;
    let shop = shop(&world)?;
    world.ok(&["pkg", "install", "all", "--index", &shop])?;
    let at = world.outside().join("project");
    std::fs::create_dir_all(&at)?;
    std::fs::write(
        at.join(".env"),
        "# a comment\nexport A=1\nB = \"two \\\"words\\\"\\n$HOME `id`\" # yes\nC='it''s'\nD=$(touch ran); x\r\n",
    )?;
    let dotenv = |args: &[&str]| Command::new(bin(&world, "dotenv")).args(args).current_dir(&at).output();
    let refused = dotenv(&["env"])?;
    assert!(String::from_utf8_lossy(&refused.stderr).contains(".env:4: something stands behind"), "{refused:?}");
    let text = std::fs::read_to_string(at.join(".env"))?.replace("C='it''s'", "C=\"it's\"");
    std::fs::write(at.join(".env"), text)?;
    let got = dotenv(&["sh", "-c", "printf '%s|' \"$A\" \"$B\" \"$C\" \"$D\""])?;
    assert_eq!(String::from_utf8_lossy(&got.stdout), "1|two \"words\"\n$HOME `id`|it's|$(touch ran); x|");
    assert!(!at.join("ran").exists());
    git_tidy(&world, &at)?;
    serve(&world, &at)
}

fn git_tidy(world: &World, at: &Path) -> Result<()> {
    let git = |args: &[&str]| -> Result<()> {
        let all = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"];
        let output =
            Command::new("git").args(all).args(args).current_dir(at).env("GIT_CONFIG_GLOBAL", "/dev/null").output();
        let output = output.context("git")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    if Command::new("git").arg("--version").output().is_err() {
        skipped("there is no git");
        return Ok(());
    }
    git(&["init", "-q"])?;
    git(&["commit", "-q", "--allow-empty", "-m", "one"])?;
    git(&["branch", "done"])?;
    git(&["checkout", "-q", "-b", "open"])?;
    git(&["commit", "-q", "--allow-empty", "-m", "two"])?;
    git(&["checkout", "-q", "main"])?;
    let tidy = |args: &[&str]| Command::new(bin(world, "git-tidy")).args(args).current_dir(at).output();
    assert_eq!(String::from_utf8(tidy(&[])?.stdout)?, "merged   done\n");
    assert!(String::from_utf8(tidy(&["--delete"])?.stdout)?.starts_with("deleted  done"));
    assert_eq!(String::from_utf8(tidy(&[])?.stdout)?, "");
    Ok(())
}

fn serve(world: &World, at: &Path) -> Result<()> {
    use std::io::{BufRead as _, Read as _, Write as _};
    if Command::new("python3").arg("--version").output().is_err() {
        skipped("there is no python3");
        return Ok(());
    }
    std::fs::write(at.join("hello.txt"), "served")?;
    let mut child = Command::new(bin(world, "serve"))
        .args(["-p", "0", "."])
        .current_dir(at)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.as_mut().context("its output")?).read_line(&mut line)?;
    let port = line.split("port ").nth(1).and_then(|rest| rest.split(' ').next()).context("a port")?;
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.write_all(b"GET /hello.txt HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    child.kill()?;
    child.wait()?;
    assert!(answer.ends_with("served"), "{answer}");
    Ok(())
}
