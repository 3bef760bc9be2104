//! What the marks of bash, zsh and fish promise: each command is told, and the user's shell is as it was.
#![allow(clippy::expect_used, clippy::panic)] // a test fails by panicking

mod world;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use shellkeep_journal::storage::RealStorage;
use shellkeep_journal::{Item, Reader, RecordKind, Start};
use world::{Tty, World};

/// What a shell said of its course: `A`, `B`, `C`, `D` and the rest of the mark, without the nonce.
fn marks(output: &[u8]) -> Vec<(char, String)> {
    let text = String::from_utf8_lossy(output).into_owned();
    let mut nonces: Vec<&str> = text.split(";sk=").skip(1).map(|rest| rest.get(..32).unwrap_or("short")).collect();
    nonces.dedup();
    assert_eq!(nonces.len(), 1, "one nonce in all marks: {nonces:?}");
    let of = |mark: &str| {
        let body = mark.split('\x07').next().unwrap_or_default().replace(&format!(";sk={}", nonces[0]), "");
        (body.chars().next().unwrap_or('?'), body.get(2..).unwrap_or_default().to_owned())
    };
    text.split("\x1b]133;").skip(1).map(of).collect()
}

/// Command lines as they were told, with the status of each.
fn commands(output: &[u8]) -> Vec<(String, String)> {
    let (mut all, mut line) = (Vec::new(), String::new());
    for (kind, rest) in marks(output) {
        let fields: Vec<&str> = rest.split(';').collect();
        let told = fields.iter().find_map(|field| field.split_once("_url=")).map(|(_, line)| decoded(line));
        match kind {
            'C' => line = told.unwrap_or_default(),
            'D' => all.push((told.unwrap_or_else(|| line.clone()), fields[0].to_owned())),
            _ => {}
        }
    }
    all
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let code = (*first == b'%').then(|| behind.get(..2)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn recorded(world: &World) -> Vec<u8> {
    let spools = world.path().join("state/spool");
    let directory = std::fs::read_dir(spools).expect("spools").flatten().next().expect("a spool").path();
    output_of(&directory)
}

fn output_of(directory: &Path) -> Vec<u8> {
    let mut reader = Reader::open(Arc::new(RealStorage), directory, Start::Oldest).expect("a journal");
    let mut all = Vec::new();
    while let Some(Item::Record(record)) = reader.next().expect("readable") {
        if record.header.kind == RecordKind::Output {
            all.extend_from_slice(record.payload);
        }
    }
    all
}

/// A shell on a terminal of its own, at its first prompt, which is `READY>`.
fn start(world: &World, words: &[&str]) -> Tty {
    let mut all = vec!["start"];
    all.extend_from_slice(words);
    let mut tty = world.terminal(all);
    tty.expect("READY>");
    tty
}

/// Types lines, each at a prompt.
fn type_lines(tty: &mut Tty, lines: &[&str]) {
    for line in lines {
        tty.keys(format!("{line}\r"));
        tty.expect("READY>");
    }
}

fn write_home(world: &World, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = world.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }
}

const BASHRC: &str = "PS1='READY>'; HISTCONTROL=ignoreboth; alias printf=false; set -o noclobber; x=from-bashrc\n";
const ZSHRC: &str = "PS1='READY>'; alias print=false; x=from-zshrc; setopt hist_ignore_space\n";
const FISH: &str = "set -g x from-config; function fish_prompt; echo -n 'READY>'; end; function fish_greeting; end\n";

/// Lines, and the status with which each ends, in any of the shells.
const LINES: [(&str, &str); 6] = [
    ("echo one; false", "1"),
    ("echo one; false", "1"),
    ("echo 'pct % and; semi'", "0"),
    ("cat /dev/null", "0"),
    ("echo $x", "0"),
    ("sh -c 'exit 42'", "42"),
];

fn told_as_typed(shell: &str, files: &[(&str, &str)]) {
    let world = World::new();
    write_home(&world, files);
    let mut tty = start(&world, &["--", shell]);
    let lines: Vec<&str> = LINES.iter().map(|(line, _)| *line).collect();
    type_lines(&mut tty, &lines);
    tty.keys("\r");
    tty.expect("READY>");
    type_lines(&mut tty, &["cd /usr/lib"]);
    tty.keys("exit 7\r");
    assert_eq!(tty.wait().code(), Some(7));
    let output = recorded(&world);
    let text = String::from_utf8_lossy(&output).into_owned();
    assert!(text.contains("from-"), "the user's own file was read: {text:?}");
    let mut expected: Vec<(String, String)> =
        LINES.iter().map(|(line, status)| ((*line).to_owned(), (*status).to_owned())).collect();
    expected.push(("cd /usr/lib".to_owned(), "0".to_owned()));
    let told = commands(&output);
    assert_eq!(told[..expected.len()], expected, "{text:?}");
    assert!(text.contains("\x1b]7;file://") && text.contains("/usr/lib\x07"), "{text:?}");
    // Nothing of ours is left in the runtime directory.
    world.no_session_is_left();
    let left: Vec<_> = std::fs::read_dir(world.path().join("run/k")).expect("listed").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn bash_tells_each_command_as_it_was_typed() {
    told_as_typed("bash", &[(".bashrc", BASHRC)]);
}

#[test]
fn zsh_tells_each_command_as_it_was_typed() {
    told_as_typed("zsh", &[(".zshrc", ZSHRC)]);
}

#[test]
fn fish_tells_each_command_as_it_was_typed() {
    told_as_typed("fish", &[(".config/fish/config.fish", FISH)]);
}

#[test]
fn what_was_put_into_the_environment_is_taken_out_again() {
    let files = [(".bashrc", BASHRC), (".zshrc", ZSHRC), (".config/fish/config.fish", FISH)];
    let ask =
        "env | grep -E '^(ENV|ZDOTDIR|XDG_DATA_DIRS|POSIXLY_CORRECT|SHELLKEEP_MARKS|SHELLKEEP_[EZX])'; echo E''ND";
    for shell in ["bash", "zsh", "fish"] {
        let world = World::new();
        write_home(&world, &files);
        let mut tty = start(&world, &["--", shell]);
        tty.keys(format!("{ask}\r"));
        let seen = String::from_utf8_lossy(&tty.expect("END")).into_owned();
        let answer = seen.rsplit("\x1b]133;C").next().and_then(|rest| rest.split_once('\x07'));
        let (_, answer) = answer.expect("a mark before the answer");
        assert!(!answer.contains('='), "{shell}: {answer:?}");
    }
}

#[test]
fn bash_is_an_ordinary_bash_interactive_or_login() {
    for (words, file, history) in [
        (&["--", "bash"][..], ".bashrc", ".bash_history"),
        (&["--", "bash", "--login"], ".bash_profile", ".bash_history"),
    ] {
        let world = World::new();
        write_home(&world, &[(file, BASHRC)]);
        let mut tty = start(&world, words);
        tty.keys("echo $SHELLOPTS-$x-$(shopt -p inherit_errexit)-$HISTFILE\r");
        let seen = String::from_utf8_lossy(&tty.expect("READY>")).into_owned();
        assert!(!seen.contains(":posix") && seen.contains("from-bashrc-shopt -u inherit_errexit-"), "{seen:?}");
        assert!(seen.contains(&format!("{}/{history}", world.path().display())), "{seen:?}");
    }
}

#[test]
fn with_norc_or_without_the_setting_there_are_no_marks() {
    let world = World::new();
    let mut tty = world.terminal(["start", "--", "bash", "--norc"]);
    tty.keys("echo a''b; exit\r");
    tty.expect("ab");
    tty.wait();
    assert!(!String::from_utf8_lossy(&tty.seen).contains("]133;"));
    let world = World::new();
    write_home(&world, &[(".bashrc", BASHRC), ("config/config.toml", "[keeper]\nmarks = false\n")]);
    let mut tty = start(&world, &["--", "bash"]);
    tty.keys("exit\r");
    tty.wait();
    assert!(!String::from_utf8_lossy(&tty.seen).contains("]133;"));
}

#[test]
fn hooks_that_were_there_go_on_and_see_the_status() {
    let world = World::new();
    let hooks = "PROMPT_COMMAND='echo \"[hook $?]\"'; PS0='[ps0]'; PS1='READY>'; trap 'echo \"[exit]\"' EXIT\n";
    write_home(&world, &[(".bashrc", hooks)]);
    let mut tty = start(&world, &["--", "bash"]);
    type_lines(&mut tty, &["(exit 9)", "PS1='READY>'", "PROMPT_COMMAND=true", "(exit 8)"]);
    tty.keys("exit\r");
    tty.expect("[exit]");
    tty.wait();
    let output = recorded(&world);
    let text = String::from_utf8_lossy(&output).into_owned();
    assert!(text.contains("[hook 9]") && text.contains("[ps0]"), "{text:?}");
    let told: Vec<(String, String)> = commands(&output);
    assert_eq!(told[0], ("(exit 9)".to_owned(), "9".to_owned()), "{text:?}");
    assert_eq!(told[3], ("(exit 8)".to_owned(), "8".to_owned()), "also after a hook was taken away: {text:?}");
}

#[test]
fn no_command_costs_a_fork() {
    for (shell, file, text) in
        [("bash", ".bashrc", BASHRC), ("zsh", ".zshrc", ZSHRC), ("fish", ".config/fish/config.fish", FISH)]
    {
        let world = World::new();
        write_home(&world, &[(file, text)]);
        let mut tty = start(&world, &["--", shell]);
        type_lines(&mut tty, &["cd /usr"]);
        let pid = world.info().pid.to_string();
        let seen = world.path().join("forks");
        let mut strace = Command::new("strace")
            .args(["-f", "-e", "trace=clone,clone3,fork,vfork", "-p", &pid, "-o"])
            .arg(&seen)
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace");
        let mut told = BufReader::new(strace.stderr.take().expect("stderr"));
        let mut line = String::new();
        told.read_line(&mut line).expect("attached");
        assert!(line.contains("attached"), "{line}");
        type_lines(&mut tty, &["cd /usr/lib", "cd /usr", "echo x >/dev/null"]);
        assert_eq!(forks(&seen), "", "{shell}");
        type_lines(&mut tty, &["cat /dev/null"]);
        tty.keys("exit\r");
        tty.wait();
        strace.wait().expect("strace ends with what it looks at");
        assert_ne!(forks(&seen), "", "{shell}: it would have seen one");
    }
}

/// New processes that strace saw; fish's own threads are none.
fn forks(seen: &Path) -> String {
    let all = std::fs::read_to_string(seen).expect("what strace saw");
    let is_fork = |line: &&str| line.contains('(') && !line.contains("CLONE_THREAD") && !line.contains("exited");
    all.lines().filter(is_fork).collect()
}

#[test]
fn history_and_output_give_each_command_its_own() {
    for (shell, file, text) in
        [("bash", ".bashrc", BASHRC), ("zsh", ".zshrc", ZSHRC), ("fish", ".config/fish/config.fish", FISH)]
    {
        let world = World::with_daemon();
        write_home(&world, &[(file, text)]);
        let mut tty = start(&world, &["-n", "told", "--", shell]);
        type_lines(&mut tty, &["cd /usr", "sh -c 'echo out; echo err >&2; exit 3'", "echo second"]);
        tty.keys("sleep 1000\r");
        let history = |of: &str| {
            let output = world.run(["history", of, "--json"]);
            assert!(output.status.success(), "{output:?}");
            serde_json::from_slice::<Vec<serde_json::Value>>(&output.stdout).expect("JSON")
        };
        world::wait_until("the last command began", || history("told").len() == 4);
        let all = history("told");
        let column = |name: &str| all.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
        assert_eq!(column("id"), [1, 2, 3, 4], "{shell}: {all:?}");
        assert_eq!(column("command")[1..3], ["sh -c 'echo out; echo err >&2; exit 3'", "echo second"], "{shell}");
        assert_eq!(column("exit_code")[..3], [0, 3, 0], "{shell}: {all:?}");
        assert!(all[3]["exit_code"].is_null() && all[3]["duration_ms"].is_null(), "{all:?}");
        assert_eq!(column("cwd")[1..], ["/usr", "/usr", "/usr"], "{shell}");
        let raw = world.run(["output", "told", "--command", "2"]).stdout;
        assert!(raw.windows(10).any(|bytes| bytes == b"out\r\nerr\r\n"), "{shell}: {raw:?}");
        let plain = world.run(["output", "told", "--command", "2", "--plain"]).stdout;
        assert_eq!(String::from_utf8_lossy(&plain).trim_end(), "out\nerr", "{shell}");
        let missing = world.run(["output", "told", "--command", "9"]);
        assert_eq!(missing.status.code(), Some(1), "{missing:?}");
        let whole = String::from_utf8_lossy(&world.run(["output", "told", "--plain"]).stdout).into_owned();
        assert!(whole.contains("READY>echo second\nsecond\n"), "{shell}: {whole}");
        tty.keys("\x03");
        tty.expect("READY>");
        tty.keys("exit\r");
        tty.wait();
        assert_eq!(history("told")[3]["command"], "sleep 1000");
    }
}

#[test]
fn the_users_err_trap_sees_each_failure_once() {
    let world = World::new();
    write_home(&world, &[(".bashrc", "PS1='READY>'; trap 'echo \"[err]\"' ERR\n")]);
    let mut tty = start(&world, &["--", "bash"]);
    tty.keys("false\r");
    let seen = String::from_utf8_lossy(&tty.expect("READY>")).into_owned();
    assert_eq!(seen.matches("[err]").count(), 1, "{seen:?}");
    tty.keys("exit\r");
    tty.wait();
}

#[test]
fn a_session_cannot_be_followed_inside_itself() {
    let world = World::with_daemon();
    write_home(&world, &[(".bashrc", BASHRC)]);
    let mut tty = start(&world, &["-n", "self", "--", "bash"]);
    tty.keys(format!("'{}' tail -f self; echo status=$?\r", world::PROGRAM));
    tty.expect("inside itself");
    tty.expect("status=1");
    tty.expect("READY>");
    tty.keys("exit\r");
    tty.wait();
}
