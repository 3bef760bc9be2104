//! What programs print, and what things are called, is hostile: nothing of it acts on the terminal of whoever lists it, and
//! what was removed is gone.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use torture::screen::Screen;

use crate::secrets::files_with;
use crate::world::{World, eventually};

/// Everything at once: clipboard, link, title, answers, C1, order of text, overwriting.
const HOSTILE: &str = "\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://evil\x1b\\\x1b]0;title\x07\x1b[21t\x1bP$qm\x1b\\\u{9b}31m\u{9d}x\u{9c}\
    \u{202e}live\u{2066}\u{200f}\u{61c}\x7f\x08\r\x00";

/// The same for names, which have no NUL and no slash.
const NAME: &str = "d\x1b]52;c;ZXZpbA==\x07\u{9b}31m\u{202e}x\x7f\r\n\ty";

/// The first character of `text` that a terminal would act on.
fn acting(text: &[u8]) -> Option<(usize, char)> {
    let is_reordering =
        |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_bad = |c: char| c.is_control() && c != '\n' && c != '\t' || is_reordering(c);
    String::from_utf8_lossy(text).char_indices().find(|(_, c)| is_bad(*c))
}

/// A session with hostile words in its command line, a hostile directory, and output that is.
fn hostile_session(world: &World) -> Result<String> {
    let directory = world.outside().join(NAME);
    std::fs::create_dir_all(&directory)?;
    std::fs::write(world.outside().join("hostile"), HOSTILE)?;
    let script = format!(
        "cat {0}/hostile; printf '\\033]52;c;'; head -c 10485760 /dev/zero | tr '\\0' A; cat {0}/hostile",
        world.outside().display()
    );
    let mut command =
        world.command(["start", "--detached", "--", "/bin/sh", "-c", &script, HOSTILE.trim_end_matches('\0')]);
    let output = command.current_dir(&directory).env("EVIL", HOSTILE.trim_end_matches('\0')).output()?;
    ensure!(output.status.success(), "{output:?}");
    let session = String::from_utf8(output.stdout)?.trim().to_owned();
    world.ended(&session)?;
    Ok(session)
}

#[test]
fn no_list_and_no_text_acts_on_the_terminal() -> Result<()> {
    let world = World::new()?;
    let session = hostile_session(&world)?;
    world.ok(&["start", "--detached", "-n", "runs", "--", "sh", "-c", "exec sleep 1000", NAME])?;
    for args in [
        &["ls"][..],
        &["ls", "--all"],
        &["ls", "--all", "--json"],
        &["history", &session],
        &["history", &session, "--json"],
        &["output", &session, "--plain"],
        &["output", &session, "--command", "1"],
        &["verify"],
        &["verify", &session],
        &["doctor"],
        &["daemon", "status"],
        &["daemon", "status", "--json"],
        &["config", "show"],
    ] {
        let output = world.run(args)?;
        for (what, text) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let found = acting(text);
            ensure!(
                found.is_none(),
                "{args:?}: {what}: {found:?}: {}",
                String::from_utf8_lossy(&text[..text.len().min(2000)])
            );
        }
    }
    // They are told all the same, as escapes.
    let listed = world.listed(&session)?;
    ensure!(listed["cwd"].as_str().is_some_and(|cwd| cwd.contains(NAME)), "{listed}");
    ensure!(world.ok(&["ls", "--all"])?.contains("\\u{1b}]52"), "the command line is shown");
    Ok(())
}

/// A shell that goes into a hostile directory, and a command line with a hostile name in it.
#[test]
fn no_command_list_acts_on_the_terminal() -> Result<()> {
    let world = World::new()?;
    std::fs::create_dir(world.outside().join(NAME))?;
    std::fs::write(world.outside().join(".bashrc"), "PS1='READY>'\n")?;
    let screen = &mut Screen::start(&world, &["start", "-n", "typed", "--", "bash"])?;
    screen.shows("READY>")?;
    // Ctrl-V takes what follows as it is.
    let mut keys = "cd d*/; echo '".to_owned();
    for character in "\x1b]52;c;x\x07\u{7f}\r".chars() {
        write!(keys, "\x16{character}")?;
    }
    keys.push_str("\u{9b}\u{202e}' >/dev/null; echo do''ne\r");
    screen.keys(keys.as_bytes())?;
    screen.shows("done")?;
    screen.keys(b"true\r")?;
    screen.keys(b"exit\r")?;
    screen.ended()?;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&world.ok(&["history", "typed", "--json"])?)?;
    let line = rows[0]["command"].as_str().context("a command line")?;
    ensure!(line.contains("\x1b]52;c;x\x07") && line.contains('\u{202e}'), "the line is as it was typed: {line:?}");
    ensure!(rows[1]["cwd"].as_str().is_some_and(|cwd| cwd.ends_with(NAME)), "{:?}", rows[1]);
    for args in [&["history", "typed"][..], &["history", "typed", "--json"]] {
        let output = world.run(args)?;
        ensure!(acting(&output.stdout).is_none(), "{args:?}: {:?}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

#[test]
fn no_error_acts_on_the_terminal() -> Result<()> {
    let world = World::new()?;
    let name = NAME.trim_end_matches('\0');
    for args in [
        &["output", name][..],
        &["attach", name],
        &["kill", name],
        &["rm", name],
        &["history", name],
        &["verify", name],
        &["tail", name],
        &["pause", name],
        &["start", "-n", name, "--", "true"],
        &[name],
        &["ls", name],
        &["start", "--", name],
        &["start", "--detached", "--", name],
    ] {
        let output = world.run(args)?;
        ensure!(!output.status.success(), "{args:?}");
        let found = acting(&output.stderr).or_else(|| acting(&output.stdout));
        ensure!(found.is_none(), "{args:?}: {found:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // Everything lies in a directory of such a name.
    for hostile in [world.outside().join(NAME), world.outside().join(NAME).join("not/there")] {
        for args in [
            &["doctor"][..],
            &["ls"],
            &["verify"],
            &["daemon", "status"],
            &["config", "show"],
            &["config", "path"],
            &["first", "last"],
        ] {
            std::fs::create_dir_all(world.outside().join(NAME).join("config"))?;
            std::fs::write(world.outside().join(NAME).join("config/config.toml"), "[keepr]\n")?;
            let output = world.command(args).env("SHELLKEEP_HOME", &hostile).output()?;
            let found = acting(&output.stderr).or_else(|| acting(&output.stdout));
            ensure!(found.is_none(), "{args:?}: {found:?}: {output:?}");
        }
        let stopped = world.command(["daemon", "stop"]).env("SHELLKEEP_HOME", &hostile).output()?;
        ensure!(acting(&stopped.stderr).is_none(), "{stopped:?}");
    }
    Ok(())
}

/// The shell's environment is the shell's: nothing of ours writes it down.
#[test]
fn a_secret_of_the_environment_is_nowhere() -> Result<()> {
    let world = World::new()?;
    let secret = format!("canary{:016x}", fastrand::u64(..));
    // Where no process may dump core anyway, nothing would be proved; only root may raise the upper limit.
    let before = getrlimit(Resource::Core);
    let _if_allowed = setrlimit(Resource::Core, Rlimit { current: None, maximum: None })
        .or_else(|_| setrlimit(Resource::Core, Rlimit { current: before.maximum, ..before }));
    let mut command = world.command([
        "start",
        "--detached",
        "-n",
        "env",
        "--",
        "/bin/sh",
        "-c",
        "test -n \"$SECRET_X\" && echo up; exec sleep 1000",
    ]);
    let output = command.env("SECRET_X", &secret).output()?;
    ensure!(output.status.success(), "{output:?}");
    let session = String::from_utf8(output.stdout)?.trim().to_owned();
    eventually("it has its environment", || Ok((world.output(&session)? == b"up\r\n").then_some(())))?;
    let daemon = world.daemon_other_than(None)?;
    let keeper = world.keeper_pid(&session)?;
    for pid in world.processes() {
        let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
        ensure!(!line.windows(secret.len()).any(|part| part == secret.as_bytes()), "{pid}");
    }
    for pid in [daemon, keeper] {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("a limit of cores")?;
        ensure!(core.split_whitespace().nth(4) == Some("0"), "process {pid} may dump core: {core}");
    }
    ensure!(files_with(world.outside(), &secret).is_empty(), "{:?}", files_with(world.outside(), &secret));
    world.ok(&["kill", "env"])?;
    ensure!(files_with(world.outside(), &secret).is_empty(), "{:?}", files_with(world.outside(), &secret));
    Ok(())
}

fn damaged_tail(log: &Path, secret: &str) -> Result<()> {
    let segments = std::fs::read_dir(log)?.flatten().map(|entry| entry.path());
    let mut segments: Vec<_> =
        segments.filter(|path| path.extension().is_some_and(|kind| kind.as_bytes() == b"seg")).collect();
    segments.sort();
    let newest = segments.last().context("a segment that is not sealed")?;
    let mut file = std::fs::OpenOptions::new().append(true).open(newest)?;
    Ok(file.write_all(format!("torn {secret}").as_bytes())?)
}

/// The index follows the logs, so what it had goes soon after.
fn nothing_is_left(world: &World, secret: &str) -> Result<()> {
    let state = world.home().join("state");
    let gone = eventually("nothing of it is left", || Ok(files_with(&state, secret).is_empty().then_some(())));
    gone.with_context(|| format!("{:?}", files_with(&state, secret)))
}

/// Text that is indexed, torn tails that were set aside, logs that were put aside: all of it goes with the session.
#[test]
fn what_was_removed_is_nowhere() -> Result<()> {
    let world = World::new()?;
    let secret = format!("gone{:016x}", fastrand::u64(..));
    let other = format!("stays{:016x}", fastrand::u64(..));
    let live = world.session(&format!("echo {other}; exec sleep 1000"))?;
    let session = world.session(&format!("echo {secret}; exec sleep 1000"))?;
    eventually("it is recorded", || Ok((!world.output(&session)?.is_empty()).then_some(())))?;
    let log = world.home().join("state/log").join(&session);
    ensure!(!files_with(&log, &secret).is_empty(), "it can be found at all");
    // The daemon dies in the middle of a write; the next one sets the torn part aside.
    world.kill_daemon()?;
    world.ok(&["daemon", "stop"])?;
    damaged_tail(&log, &secret)?;
    world.ok(&["daemon", "start"])?;
    eventually("the torn tail is set aside", || {
        let torn = std::fs::read_dir(&log)?
            .flatten()
            .any(|entry| entry.path().extension().is_some_and(|kind| kind.as_bytes() == b"torn"));
        world.run(&["output", &session])?;
        Ok(torn.then_some(()))
    })?;
    // And one that was put aside as a whole.
    let aside = world.home().join("state/log").join(format!(".lost-{session}"));
    std::fs::create_dir(&aside)?;
    std::fs::write(aside.join("00000001.seg"), &secret)?;
    world.ok(&["kill", &session])?;
    world.ok(&["rm", &session])?;
    ensure!(!log.exists() && !aside.exists());
    nothing_is_left(&world, &secret)?;
    ensure!(!files_with(&world.home().join("state/log").join(&live), &other).is_empty(), "the other session stays");
    Ok(())
}

/// What goes over the limit goes for real, with the torn tails of its own.
#[test]
fn what_is_over_the_limit_is_nowhere() -> Result<()> {
    let world = World::new()?;
    std::fs::create_dir_all(world.home().join("config"))?;
    std::fs::write(world.home().join("config/config.toml"), "[daemon]\ntotal_bytes_max = \"20 MiB\"\n")?;
    let secret = format!("gone{:016x}", fastrand::u64(..));
    let session = world.session(&format!("echo {secret}"))?;
    world.ended(&session)?;
    let log = world.home().join("state/log").join(&session);
    ensure!(log.exists());
    std::fs::write(log.join("00000001.torn"), &secret)?;
    // Nothing that could be packed.
    let big = world.session("head -c 30000000 /dev/urandom; sleep 1000")?;
    eventually("the oldest session has gone", || {
        world.listed(&big)?;
        Ok((!log.exists()).then_some(()))
    })?;
    nothing_is_left(&world, &secret)?;
    Ok(())
}
