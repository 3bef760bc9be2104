//! A session whose commands print the session's own record, marks and all: its list is what was typed.
#![allow(clippy::expect_used, clippy::panic)] // a test fails by panicking

mod world;

use std::path::Path;
use std::time::{Duration, Instant};

use world::{PROGRAM, Tty, World};

/// Waits for the shell's next prompt and not for one that is printed again: that is no prompt behind a command's end.
fn prompt(tty: &mut Tty, word: &str) {
    tty.expect(word);
    tty.expect("READY>");
}

/// A job that prints the record's copy as soon as it is told to, and says when it has.
fn job(copy: &Path, go: &Path, done: &str) -> String {
    let (copy, go) = (copy.display(), go.display());
    format!("sh -c 'until test -e {go}; do sleep 0.02; done; cat {copy}; echo {done}' &")
}

/// A shell that is interrupted while it draws may draw no prompt, or not see it at all.
fn give_up_a_line(tty: &mut Tty) {
    tty.keys("Q");
    tty.expect("Q");
    let is_back = |tty: &Tty| tty.seen.windows(6).any(|window| window == b"READY>");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_back(tty) && Instant::now() < deadline {
        tty.keys("\x03");
        let again = Instant::now() + Duration::from_millis(500);
        while !is_back(tty) && tty.read_until(again) {}
    }
    tty.expect("READY>");
}

fn lists_what_was_typed(shell: &str, file: &str, start_up: &str) {
    let world = World::with_daemon();
    let path = world.path().join(file);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    std::fs::write(path, start_up).expect("written");
    let (raw, copy, go) = (world.path().join("raw"), world.path().join("copy"), world.path().join("go"));
    let mut tty = world.terminal(["start", "-n", "own", "--", shell]);
    tty.expect("READY>");
    // Each prints a word of its own at its end, in two parts: it is not in the line that is echoed.
    let mut typed: Vec<(String, u64)> = Vec::new();
    let mut run = |tty: &mut Tty, line: String, status: u64| {
        let marker = format!("w-{}-d", typed.len());
        let line = format!("{line}; echo w-{}''-d; sh -c 'exit {status}'", typed.len());
        tty.keys(format!("{line}\r"));
        typed.push((line, status));
        prompt(tty, &marker);
    };
    run(&mut tty, "echo one".to_owned(), 0);
    run(&mut tty, "false".to_owned(), 1);
    run(&mut tty, format!("'{PROGRAM}' output"), 3);
    run(&mut tty, format!("'{PROGRAM}' tail"), 0);
    run(&mut tty, format!("'{PROGRAM}' output own >{}", raw.display()), 0);
    run(&mut tty, format!("cat {0}; head -c 700 {0}", raw.display()), 4);
    run(&mut tty, format!("'{PROGRAM}' output own --command 3"), 0);
    run(&mut tty, "echo two".to_owned(), 0); // fish leaves the status as it is where a job begins
    // The same by a job at the prompt, with that prompt in it.
    let line = job(&copy, &go, "PRIN''TED");
    tty.keys(format!("{line}\r"));
    tty.expect("READY>");
    std::fs::write(&copy, world.run(["output", "own"]).stdout).expect("copied");
    std::fs::write(&go, "").expect("told");
    tty.expect("PRINTED");
    // And an empty line, one that is given up, and one drawn again.
    tty.keys("\r");
    tty.expect("READY>");
    run(&mut tty, "wait".to_owned(), 0); // a shell that has told of the job's end draws no prompt by itself any more
    give_up_a_line(&mut tty);
    tty.keys("\x0c");
    tty.expect("READY>");
    tty.keys("exit 0\r");
    assert_eq!(tty.wait().code(), Some(0));
    typed.insert(8, (line, 0));

    let output = world.run(["history", "own", "--json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let told: Vec<_> = rows.iter().map(|row| (row["command"].as_str(), row["exit_code"].as_u64())).collect();
    let expected: Vec<_> = typed.iter().map(|(line, status)| (Some(line.as_str()), Some(*status))).collect();
    assert_eq!(told[..told.len() - 1], expected, "{shell}");
    assert_eq!(told.last().and_then(|last| last.0), Some("exit 0"), "{shell}");
}

#[test]
fn bash_may_print_its_own_record() {
    lists_what_was_typed("bash", ".bashrc", "PS1='READY>'\n");
}

#[test]
fn zsh_may_print_its_own_record() {
    lists_what_was_typed("zsh", ".zshrc", "PS1='READY>'\n");
}

#[test]
fn fish_may_print_its_own_record() {
    lists_what_was_typed(
        "fish",
        ".config/fish/config.fish",
        "function fish_prompt; echo -n 'READY>'; end; function fish_greeting; end\n",
    );
}
