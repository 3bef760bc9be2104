//! What was printed is found: soon, wholly, and not once it is removed; and whatever befalls the index, recording goes on.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use torture::screen::Screen;

use crate::world::{World, eventually};

/// What `search --json` says.
fn found(world: &World, args: &[&str]) -> Result<Vec<Value>> {
    let output = world.run(&[&["search", "--json", "--limit", "5000"], args].concat())?;
    let hits: Vec<Value> =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    ensure!(output.status.code() == Some(i32::from(hits.is_empty())), "{}", output.status);
    Ok(hits)
}

fn lines(hits: &[Value]) -> Vec<&str> {
    hits.iter().filter_map(|hit| hit["line"].as_str()).collect()
}

/// Without a wait of the caller's: the answer has what was printed before the question.
#[test]
fn what_was_just_printed_is_found_as_it_was_last_seen() -> Result<()> {
    let world = World::new()?;
    let script =
        r"printf 'load 10%%\rload 99%%\rload done\n\033[31mRed Alert\033[0m\n\033[?1049hediting\033[?1049l'; sleep 600";
    let session = world.session(script)?;
    eventually("it is printed", || Ok(world.output(&session)?.ends_with(b"1049l").then_some(())))?;
    let hits = found(&world, &["load"])?;
    ensure!(lines(&hits) == ["load done"], "{hits:?}");
    ensure!(hits[0]["session"] == session.as_str() && hits[0]["seq"].as_u64() > Some(0), "{hits:?}");
    ensure!(hits[0]["command_id"].is_null() && hits[0]["command"].is_null(), "{hits:?}");
    ensure!(lines(&found(&world, &["red alert"])?) == ["Red Alert"]);
    for nothing in
        [&["red Alert"][..], &["editing"], &["99%"], &["load", "--session", "01a1fdee-64e3-7214-a4ff-faf6ed7049fd"]]
    {
        ensure!(found(&world, nothing)?.is_empty(), "{nothing:?}");
    }
    Ok(())
}

/// The index stands aside for a flood; who searches for its end waits, and is not told that there is nothing.
#[test]
fn the_end_of_a_burst_is_found_by_who_asks_at_once() -> Result<()> {
    let world = World::new()?;
    let script = "yes 'an ordinary line of a burst' | head -n 1500000; echo needle-at-the-end; exec sleep 1000";
    let session = world.ok(&["start", "--detached", "--", "/bin/sh", "-c", script])?;
    let session = session.trim();
    let all = 1_500_000 * "an ordinary line of a burst\r\n".len() as u64 + "needle-at-the-end\r\n".len() as u64;
    eventually("it was printed", || Ok((world.listed(session)?["output_bytes"] == all).then_some(())))?;
    let hits = found(&world, &["needle-at-the-end"])?;
    ensure!(lines(&hits) == ["needle-at-the-end"], "{hits:?}");
    world.ok(&["kill", session])?;
    Ok(())
}

#[test]
fn a_hit_tells_the_command_and_filters_ask_for_it() -> Result<()> {
    let world = World::new()?;
    std::fs::create_dir(world.outside().join("sub"))?;
    let mut screen = Screen::start(&world, &["start", "-n", "work", "--", "/bin/bash"])?;
    for line in ["echo first-$((40+2)); false", "cd sub", "echo second-$((40+3)); (exit 7)", "echo last-$((40+4))"] {
        screen.keys(format!("{line}\r").as_bytes())?;
    }
    screen.shows("last-44")?;
    let hits = eventually("the last command has ended", || {
        let hits = found(&world, &["d-43"])?;
        Ok((hits.len() == 1 && hits[0]["exit_code"] == 7).then_some(hits))
    })?;
    ensure!(hits[0]["line"] == "second-43" && hits[0]["command_id"] == 3, "{hits:?}");
    ensure!(hits[0]["command"] == "echo second-$((40+3)); (exit 7)" && hits[0]["session_name"] == "work", "{hits:?}");
    let typed = found(&world, &["second-$((", "--failed"])?;
    ensure!(typed.len() == 1 && typed[0]["kind"] == "command", "the command, and not the prompt besides: {typed:?}");
    ensure!(lines(&found(&world, &["d-4", "--exit", "7"])?) == ["second-43"]);
    ensure!(found(&world, &["t-4", "--exit", "7"])?.is_empty() && found(&world, &["t-4", "--exit", "1"])?.len() == 1);
    let below = world.outside().join("sub");
    let below = found(&world, &["nd-4", "--dir", below.to_str().context("a path")?, "--since", "1h"])?;
    ensure!(lines(&below).contains(&"second-43") && !lines(&below).contains(&"first-42"), "{below:?}");
    ensure!(found(&world, &["t-4", "--until", "1h"])?.is_empty());
    let shown = world.ok(&["search", "second-43", "-C", "1"])?;
    ensure!(shown.starts_with("work #3  ") && shown.contains("status 7  $ echo second"), "{shown}");
    screen.keys(b"exit\r")?;
    screen.ended()?;
    Ok(())
}

/// A shell, and what its user has in the file that it reads first.
const SHELLS: [(&str, &str, &str); 3] = [
    ("bash", ".bashrc", "PS1='READY> '\n"),
    ("zsh", ".zshrc", "PS1='READY> '\n"),
    ("fish", ".config/fish/config.fish", "function fish_prompt; echo -n 'READY> '; end; function fish_greeting; end\n"),
];

/// Types commands at a shell, one prompt after the other, and leaves with status 3. False if there is no such shell.
fn typed_at(world: &World, (shell, file, text): (&str, &str, &str), commands: &[&str]) -> Result<bool> {
    if !std::path::Path::new("/usr/bin").join(shell).exists() && !std::path::Path::new("/bin").join(shell).exists() {
        writeln!(std::io::stderr(), "no {shell} here: passed over")?;
        return Ok(false);
    }
    let file = world.outside().join(file);
    std::fs::create_dir_all(file.parent().context("a parent")?)?;
    std::fs::write(file, text)?;
    let mut screen = Screen::start(world, &["start", "-n", shell, "--", shell])?;
    let prompts = |screen: &Screen| {
        let shown = String::from_utf8_lossy(&screen.shown()).into_owned();
        shown.split("\x1b]133;A;sk=").skip(1).filter(|prompt| prompt.contains("READY> ")).count()
    };
    for (number, line) in commands.iter().enumerate() {
        eventually("the prompt is there", || Ok((prompts(&screen) > number).then_some(())))?;
        screen.keys(line.as_bytes())?;
        screen.keys(b"\r")?;
        if line.starts_with("less") {
            screen.shows("paged 9")?;
            screen.keys(b"q")?;
        }
    }
    eventually("the prompt is there", || Ok((prompts(&screen) > commands.len()).then_some(())))?;
    screen.keys(b"exit 3\r")?;
    ensure!(screen.ended()?.code() == Some(3));
    Ok(true)
}

/// Whatever a pager showed in between, whatever the shell prints around commands, and from the index as from the log.
#[test]
fn a_line_is_found_as_its_own_commands_and_with_its_neighbours_in_each_shell() -> Result<()> {
    let commands = [
        "sh -c 'echo needle; exit 4'",
        "less pages",
        "seq 100 105",
        "printf 'no%s' end-here",
        "echo 'AAA\nBBB'",
        "seq 200 205",
    ];
    for shell in SHELLS {
        let world = World::new()?;
        let pages: String = (1..=500).map(|page| format!("paged {page}\n")).collect::<Vec<_>>().concat();
        std::fs::write(world.outside().join("pages"), pages)?;
        if !typed_at(&world, shell, &commands)? {
            continue;
        }
        for round in ["as it grew", "built anew"] {
            let what = format!("{} {round}", shell.0);
            let needle = found(&world, &["needle"])?;
            let needle = needle.iter().find(|hit| hit["kind"] == "output").context("a hit")?;
            ensure!(needle["command_id"] == 1 && needle["exit_code"] == 4, "{what}: {needle}");
            ensure!(found(&world, &["READY"])?.is_empty(), "{what}: prompts are no output");
            let open = found(&world, &["noend-here"])?;
            ensure!(lines(&open) == ["noend-here"] && open[0]["command_id"] == 4, "{what}: {open:?}");
            for (text, id, before, behind) in [
                ("102", 3, &["100", "101"][..], &["103", "104"][..]),
                ("202", 6, &["200", "201"], &["203", "204"]),
                ("BBB", 5, &["AAA"], &[]),
                ("needle", 1, &[], &[]),
            ] {
                let hits = found(&world, &[text, "-C", "2"])?;
                let hit = hits.iter().find(|hit| hit["kind"] == "output").with_context(|| what.clone())?;
                let texts = |name: &str| serde_json::from_value::<Vec<String>>(hit[name].clone());
                ensure!(hit["command_id"] == id, "{what}: {hit}");
                ensure!(texts("before")? == before && texts("after")? == behind, "{what}: {hit}");
            }
            let typed = found(&world, &["seq 200", "-C", "2"])?;
            ensure!(typed.len() == 1 && typed[0]["after"] == serde_json::json!(["200", "201"]), "{what}: {typed:?}");
            let listed: Vec<Value> = serde_json::from_str(&world.ok(&["history", shell.0, "--json"])?)?;
            let last = listed.last().context("commands")?;
            ensure!(last["command"] == "exit 3" && last["exit_code"] == 3, "{what}: {last}");
            ensure!(last["duration_ms"].is_u64(), "{what}: {last}");
            world.ok(&["reindex"])?;
        }
    }
    Ok(())
}

/// Who searches twice would find their first search else, before what they look for.
#[test]
fn what_was_printed_from_the_record_is_found_only_as_its_own_commands() -> Result<()> {
    let world = World::new()?;
    let program = world.outside().join("shellkeep");
    std::os::unix::fs::symlink(world.program(), &program)?;
    let program = program.display();
    let look = format!("'{program}' search 42-needle");
    // Behind a look another command has a line that is nowhere else.
    let both = format!("'{program}' output --command 1; echo $((40 + 2))-needle-too");
    let copy = format!("'{program}' output --command 1");
    let commands = ["echo $((40 + 2))-needle", &both, &look, &copy, "echo 42-needle"];
    typed_at(&world, SHELLS[0], &commands)?;
    let hits = found(&world, &["42-needle"])?;
    let mut hits: Vec<_> = hits.iter().map(|hit| (hit["command_id"].as_u64(), hit["kind"].as_str())).collect();
    hits.sort_unstable(); // of the newest command nobody promises which line of both is indexed first
    let expected = [(1, "output"), (2, "output"), (2, "output"), (3, "command"), (5, "command"), (5, "output")];
    let expected = expected.map(|(id, kind)| (Some(id), Some(kind)));
    ensure!(hits == expected, "{hits:?}");
    let printed = world.ok(&["output", "bash", "--command", "3"])?;
    ensure!(printed.contains("42-needle"), "the search itself has found it: {printed}");
    Ok(())
}

/// Also when nothing was indexed: the log alone tells the same.
#[test]
fn what_ran_at_the_end_of_a_session_has_ended_with_it() -> Result<()> {
    for shell in SHELLS.into_iter().filter(|shell| shell.0 != "fish") {
        let world = World::new()?;
        if !typed_at(&world, shell, &["true"])? {
            continue;
        }
        // The terminal has the status before the record has the end.
        let listed = eventually("the last command has ended", || {
            let listed = world.ok(&["history", shell.0, "--json"])?;
            let all: Vec<Value> = serde_json::from_str(&listed)?;
            Ok((all[1]["exit_code"] == 3 && all[1]["duration_ms"].is_u64()).then_some(listed))
        })?;
        world.ok(&["daemon", "stop"])?;
        let index = world.home().join("state/index");
        if index.exists() {
            std::fs::remove_dir_all(&index)?; // else the daemon was stopped before it had made one
        }
        std::fs::write(&index, "in the way")?;
        ensure!(world.ok(&["history", shell.0, "--json"])? == listed, "{}", shell.0);
    }
    Ok(())
}

/// Source: `spec/reliability.md`, S11.
#[test]
fn no_control_character_of_a_record_is_ever_printed() -> Result<()> {
    let world = World::new()?;
    let hostile = r"printf 'trap \033]52;c;aGk=\007 \033P$q\033\\ \302\233 31m \177 \342\200\256 \033]8;;http://x\007link \002 end\n'; sleep 600";
    let session = world.session(hostile)?;
    eventually("it is printed", || Ok(world.output(&session)?.ends_with(b"end\r\n").then_some(())))?;
    for args in [&["search", "trap"][..], &["search", "trap", "--json"], &["search", "e", "-C", "5"]] {
        let shown = world.ok(args)?;
        ensure!(shown.contains("trap"), "{shown:?}");
        let bad =
            shown.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}' && !args.contains(&"--json"));
        ensure!(bad.is_none(), "{args:?}: {bad:?} in {shown:?}");
    }
    Ok(())
}

/// The index goes on where its last transaction ended, and says everything once.
#[test]
fn killed_at_any_time_the_index_has_everything_once() -> Result<()> {
    let world = World::new()?;
    let session = world.session("i=0; while [ $i -lt 3000 ]; do echo number-$i-end; i=$((i+1)); done; sleep 600")?;
    for _ in 0..5 {
        found(&world, &["number-1-end"])?; // indexes what there is
        let old = world.kill_daemon()?;
        world.daemon_other_than(Some(old))?;
    }
    eventually("all is printed", || {
        let output = world.output(&session)?;
        Ok(memmem(&output, b"number-2999-end").then_some(()))
    })?;
    for number in [0, 1, 1500, 2998, 2999] {
        let hits = found(&world, &[&format!("number-{number}-end")])?;
        ensure!(hits.len() == 1, "{number}: {hits:?}");
    }
    ensure!(found(&world, &["number-"])?.len() == 3000);
    Ok(())
}

#[test]
fn what_is_built_anew_finds_the_same() -> Result<()> {
    let world = World::new()?;
    for number in 0..3 {
        let session = world.session(&format!("seq 1 2000 | sed 's/^/session-{number}-line-/'"))?;
        world.ended(&session)?;
    }
    let running = world.session("echo session-9-line-1; sleep 600")?;
    eventually("it is printed", || Ok((!world.output(&running)?.is_empty()).then_some(())))?;
    let before = found(&world, &["line-1"])?;
    ensure!(before.len() == 3 * 1111 + 1, "{}", before.len());
    world.ok(&["reindex"])?;
    ensure!(found(&world, &["line-1"])? == before);
    let pid = world.kill_daemon()?;
    world.daemon_other_than(Some(pid))?;
    world.command(["reindex"]).spawn()?.kill()?; // may or may not have asked
    ensure!(world.run(&["reindex"])?.status.success());
    ensure!(found(&world, &["line-1"])? == before);
    Ok(())
}

/// Source: `spec/reliability.md`, S16.
#[test]
fn a_removed_record_is_found_nowhere_in_the_state() -> Result<()> {
    let world = World::new()?;
    let token = "xylophone-quagmire";
    let session = world.session(&format!("for i in 1 2 3; do echo {token}-$i; done"))?;
    let kept = world.session("echo kept-lines")?;
    world.ended(&session)?;
    world.ended(&kept)?;
    ensure!(found(&world, &[token])?.len() == 3);
    world.ok(&["rm", &session])?;
    ensure!(found(&world, &[token])?.is_empty() && found(&world, &["kept-lines"])?.len() == 1);
    let mut looked = 0;
    let mut directories = vec![world.home().join("state")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)?.flatten() {
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else if entry.file_type()?.is_file() {
                looked += 1;
                let bytes = std::fs::read(entry.path())?;
                ensure!(!memmem(&bytes, token.as_bytes()), "{}", entry.path().display());
            }
        }
    }
    ensure!(looked > 3, "{looked}");
    Ok(())
}

#[test]
fn whatever_befalls_the_index_recording_goes_on_and_search_says_so() -> Result<()> {
    let world = World::new()?;
    let index = world.home().join("state/index");
    let session = world.session("echo before; while sleep 0.2; do echo tick; done")?;
    eventually("it is found", || Ok((!found(&world, &["before"])?.is_empty()).then_some(())))?;
    // Something else where the index belongs: as good as a directory that cannot be written, which root can always.
    std::fs::rename(&index, world.outside().join("away"))?;
    std::fs::write(&index, "in the way")?;
    eventually("search says what is wrong", || {
        let said = world.run(&["search", "before"])?;
        let said = String::from_utf8(said.stderr)?;
        Ok((said.contains("index") && said.contains("recording goes on")).then_some(()))
    })?;
    let recorded = world.output(&session)?.len();
    eventually("recording goes on", || Ok((world.output(&session)?.len() > recorded).then_some(())))?;
    ensure!(world.ok(&["history", &session, "--json"])? == "[]\n");
    std::fs::remove_file(&index)?;
    eventually("indexing resumes", || Ok((found(&world, &["before"])?.len() == 1).then_some(())))?;
    // A damaged file is built anew.
    let file = index.join("index.db");
    let pid = world.kill_daemon()?;
    std::fs::write(&file, vec![b'x'; 50_000])?;
    world.daemon_other_than(Some(pid))?;
    eventually("it is found again", || Ok((found(&world, &["before"])?.len() == 1).then_some(())))?;
    let mode = |path: &std::path::Path| std::fs::metadata(path).map(|found| found.permissions().mode() & 0o777);
    ensure!((mode(&file)?, mode(&index)?) == (0o600, 0o700));
    Ok(())
}

fn memmem(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// The index is a cache: without it, or with a damaged one, the records are read again, and nobody is told "nowhere".
#[test]
fn a_lost_or_damaged_index_is_found_out_by_searching_and_built_anew() -> Result<()> {
    let world = World::new()?;
    world.session("echo needle in hay; sleep 600")?;
    eventually("it is found", || Ok((found(&world, &["needle"])?.len() == 1).then_some(())))?;
    let (directory, file) = (world.home().join("state/index"), world.home().join("state/index/index.db"));
    let cut = |len| move |file: &Path| std::fs::OpenOptions::new().write(true).open(file)?.set_len(len);
    let (page, part) = (cut(8192), cut(100));
    let losses: [(&str, &dyn Fn() -> std::io::Result<()>); 6] = [
        ("emptied", &|| std::fs::write(&file, "")),
        ("deleted", &|| std::fs::remove_file(&file)),
        ("deleted with its directory", &|| std::fs::remove_dir_all(&directory)),
        ("cut to its first page", &|| page(&file)),
        ("cut to a part of it", &|| part(&file)),
        ("overwritten", &|| std::fs::write(&file, vec![b'x'; std::fs::metadata(&file)?.len().try_into().unwrap_or(0)])),
    ];
    for (what, lose) in losses {
        lose()?;
        let search = world.run(&["search", "needle", "--json"])?;
        let (hits, said) = (String::from_utf8(search.stdout)?, String::from_utf8(search.stderr)?);
        ensure!(hits.contains("needle in hay") || said.contains("still being read"), "{what}: {hits}{said}");
        eventually("it is found again", || Ok((found(&world, &["needle"])?.len() == 1).then_some(())))?;
    }
    Ok(())
}

/// What stands where the index belongs is told by its path, and advice fits what is wrong.
#[test]
fn what_is_in_the_way_of_the_index_is_named_with_what_to_do() -> Result<()> {
    let world = World::new()?;
    world.session("echo needle in hay; sleep 600")?;
    eventually("it is found", || Ok((found(&world, &["needle"])?.len() == 1).then_some(())))?;
    let file = world.home().join("state/index/index.db");
    std::fs::remove_file(&file)?;
    std::fs::create_dir(&file)?;
    for command in [&["search", "needle"][..], &["reindex"]] {
        let refused = world.run(command)?;
        let said = String::from_utf8(refused.stderr)?;
        ensure!(refused.status.code() == Some(1) && said.contains("index.db"), "{command:?}: {said}");
        ensure!(said.contains("\"shellkeep reindex\"") && !said.contains("make room"), "{command:?}: {said}");
        ensure!(said.contains("recording goes on"), "{command:?}: {said}");
    }
    std::fs::remove_dir(&file)?;
    world.ok(&["reindex"])?;
    ensure!(found(&world, &["needle"])?.len() == 1);
    Ok(())
}
