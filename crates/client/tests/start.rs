//! What `shellkeep start` promises to whoever typed it.

// Helpers outside of `#[test]` functions panic like the tests that they belong to.
#![allow(clippy::expect_used, clippy::panic)]

mod world;

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use rustix::process::Signal;
use world::{World, is_alive, signal, wait_until};

#[test]
fn the_status_of_the_command_is_the_status_of_start() {
    let world = World::new();
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        let mut tty = world.terminal(["start", "--", "sh", "-c", script]);
        assert_eq!(tty.wait().code(), Some(status), "{script}");
        assert!(tty.is_cooked());
        let output = world.run(["start", "--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(status), "{script} without a tty");
    }
    world.no_session_is_left();
}

#[test]
fn a_missing_program_gives_127_and_one_that_is_not_executable_126() {
    let world = World::new();
    for (program, status) in [("no-such-program", 127), ("/etc/passwd", 126), ("/", 126)] {
        let output = world.run(["start", "--", program]);
        assert_eq!(output.status.code(), Some(status), "{program}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
        assert_eq!(world.terminal(["start", "--", program]).wait().code(), Some(status));
    }
}

#[test]
fn without_a_tty_there_is_still_a_pty_and_its_raw_bytes_go_to_stdout() {
    let world = World::new();
    let output = world.run(["start", "--", "sh", "-c", "test -t 0 && test -t 1 && printf 'a\\nb\\033[1m'"]);
    assert_eq!(output.stdout, b"a\r\nb\x1b[1m");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_end_of_piped_input_is_one_end_of_file() {
    let world = World::new();
    // The second `cat` would see an end too if there were two; the first may see one line before echo is off.
    let script = "stty -echo; cat; echo then; timeout --foreground 0.2 cat; echo second=$?";
    let output = world.run_with_input(["start", "--", "sh", "-c", script], b"one\ntwo\n");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("one\r\ntwo\r\nthen\r\nsecond=124"), "{text:?}");
}

#[test]
fn a_closed_pipe_ends_the_command_like_any_in_a_pipeline() {
    let world = World::new();
    let mut child = world
        .command(["start", "--", "yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let status = child.wait().expect("ends");
    assert_eq!(status.code(), Some(0), "a broken pipe is success");
    world.no_session_is_left();
}

#[test]
fn term_and_int_go_to_the_command_when_there_is_no_tty() {
    let world = World::new();
    for (name, sent, status) in [("TERM", Signal::TERM, 31), ("INT", Signal::INT, 32)] {
        let script = format!(
            "trap 'exit {status}' {name}; echo ready > {}/{name}; while :; do sleep 0.01; done",
            world.path().display()
        );
        let mut child = world
            .command(["start", "--", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        let ready = world.path().join(name);
        wait_until("the trap is set", || ready.exists());
        signal(child.id(), sent);
        assert_eq!(child.wait().expect("ends").code(), Some(status), "{name}");
    }
}

#[test]
fn detached_prints_the_id_alone_and_holds_nothing_of_its_caller() {
    let world = World::new();
    let id = world.detached("bg", "sleep 600");
    assert_eq!(id.len(), 36);
    let info = world.info();
    assert_eq!(info.session.to_string(), id);
    assert_eq!(std::fs::read_link(format!("/proc/{}/cwd", info.keeper_pid)).expect("cwd").to_str(), Some("/"));
    for entry in std::fs::read_dir(format!("/proc/{}/fd", info.keeper_pid)).expect("descriptors").flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        assert!(!target.starts_with("pipe:"), "{target}");
    }
    assert!(world.run(["kill", "bg"]).status.success());
}

#[test]
fn the_command_inherits_descriptors_0_to_2_and_the_callers_umask() {
    let world = World::new();
    let script = format!(
        "umask 027; exec 5</etc/passwd; exec '{}' start -- sh -c 'ls /proc/self/fd | wc -l; umask; echo $SHELLKEEP_SESSION:$TERM'",
        world::PROGRAM
    );
    let words = ["sh", "-c", &script].map(Into::into);
    let mut tty = world.any_on_terminal(&words, 80, 24);
    tty.wait();
    let text = String::from_utf8_lossy(&tty.seen).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["4", "0027"], "0 to 2 and the one that lists them: {text:?}");
    assert!(lines[2].len() == 36 + 1 + 5 && lines[2].ends_with(":xterm"), "{text:?}");
}

#[test]
fn the_keeper_leaves_no_core_file_and_the_command_may() {
    let world = World::new();
    let script = format!("ulimit -S -c 77; exec '{}' start --detached -- sleep 600", world::PROGRAM);
    assert!(world.any_on_terminal(&["sh", "-c", &script].map(Into::into), 80, 24).wait().success());
    let limit = |pid: u32| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
        let core = limits.lines().find(|line| line.starts_with("Max core")).expect("a line on core files").to_owned();
        core.split_whitespace().nth(4).expect("the soft limit").to_owned()
    };
    let info = world.info();
    assert_eq!(limit(info.keeper_pid), "0");
    assert_ne!(limit(info.pid), "0");
}

#[test]
fn nothing_is_open_to_others_whatever_the_umask() {
    let world = World::new();
    let script = format!("umask 000; exec '{}' start --detached --record-input -- sleep 600", world::PROGRAM);
    let words = ["sh", "-c", &script].map(Into::into);
    let status = world.any_on_terminal(&words, 80, 24).wait();
    assert!(status.success());
    let listed = std::process::Command::new("find")
        .arg(world.path())
        .args(["-mindepth", "1", "-perm", "/077", "!", "-name", "stopped", "!", "-name", "noticed", "!", "-type", "l"])
        .output()
        .expect("find");
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "");
}

#[test]
fn names_are_unique_among_running_sessions_and_hostile_ones_are_usage_errors() {
    let world = World::new();
    world.detached("build-7", "sleep 600");
    let again = world.run(["start", "-n", "build-7", "--", "true"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("hint: "), "{again:?}");
    for hostile in ["../../x", "a/b", "last", "", "0197c0de-0000", &"x".repeat(65)] {
        let output = world.run(["start", "-n", hostile, "--", "true"]);
        assert_eq!(output.status.code(), Some(2), "{hostile:?}: {output:?}");
        let output = world.run(["attach", &format!("{hostile}/")]);
        assert_eq!(output.status.code(), Some(2), "{hostile:?}: {output:?}");
    }
    assert!(world.run(["kill", "build-7"]).status.success());
    assert_eq!(world.run(["start", "-n", "build-7", "--", "true"]).status.code(), Some(0));
}

#[test]
fn only_one_of_many_at_once_gets_the_name() {
    let world = World::new();
    let children: Vec<_> = (0..6)
        .map(|_| {
            world
                .command(["start", "--detached", "-n", "same", "--", "sleep", "600"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("starts")
        })
        .collect();
    let won = children
        .into_iter()
        .map(|mut child| child.wait().expect("ends"))
        .filter(std::process::ExitStatus::success)
        .count();
    assert_eq!(won, 1);
    assert_eq!(world.socket_list().len(), 1);
}

#[test]
fn a_session_inside_a_session_is_refused_unless_asked_for() {
    let world = World::new();
    let inner = format!(
        "'{p}' start -- true; echo first=$?; '{p}' start --nested -- sh -c 'exit 5'; echo second=$?",
        p = world::PROGRAM
    );
    let mut tty = world.terminal(["start", "--", "sh", "-c", &inner]);
    tty.expect("first=1");
    tty.expect("second=5");
    // The variable alone, as an old tmux server hands it on, does not count.
    let id = world.detached("other", "sleep 600");
    let script = format!("SHELLKEEP_SESSION={id} '{}' start -- sh -c 'exit 6'", world::PROGRAM);
    let status = world.any_on_terminal(&["sh", "-c", &script].map(Into::into), 80, 24).wait();
    assert_eq!(status.code(), Some(6));
}

#[test]
fn without_a_keeper_the_command_runs_plainly_after_one_notice() {
    let world = World::new();
    let run = world.path().join("run");
    std::fs::create_dir(&run).expect("made");
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o777)).expect("opened");
    let output = world.run(["start", "--", "sh", "-c", "test -t 0 || echo plain; exit 9"]);
    assert_eq!(output.status.code(), Some(9));
    assert_eq!(output.stdout, b"plain\n");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("0777") && said.contains("chmod 700"), "{said}");
}

#[test]
fn a_login_shell_is_started_under_a_name_with_a_dash() {
    let world = World::new();
    let mut tty = world.terminal(["start", "--login"]);
    tty.keys("echo name=$0\n");
    tty.expect("name=-sh");
    tty.keys("exit 4\n");
    assert_eq!(tty.wait().code(), Some(4));
}

#[test]
fn a_window_of_no_size_works() {
    let world = World::new();
    let mut tty = world.terminal_sized(["start", "--", "sh", "-c", "stty size; exit 3"], 0, 0);
    assert_eq!(tty.wait().code(), Some(3));
    assert!(tty.seen.starts_with(b"0 0"), "{:?}", String::from_utf8_lossy(&tty.seen));
}

#[test]
fn kill_hangs_up_then_kills_and_returns_when_it_has_ended() {
    let world = World::new();
    world.detached("soft", "trap 'exit 3' HUP; while :; do sleep 0.01; done");
    let pid = world.info().pid;
    assert!(world.run(["kill", "soft"]).status.success());
    assert!(!is_alive(pid));
    world.no_session_is_left();
    let marker = world.path().join("trapped");
    world.detached("hard", &format!("trap '' HUP; touch {}; while :; do sleep 0.01; done", marker.display()));
    wait_until("HUP is ignored", || marker.exists());
    let pid = world.info().pid;
    let before = std::time::Instant::now();
    assert!(world.run(["kill", "hard"]).status.success());
    assert!(!is_alive(pid) && before.elapsed() >= std::time::Duration::from_secs(2));
    assert_eq!(world.run(["kill", "hard"]).status.code(), Some(1), "it has ended");
}

#[test]
fn a_keeper_that_fails_at_birth_is_no_reason_that_the_command_does_not_start() {
    let world = World::new();
    // A home that keepers cannot find is one way to fail after the greeting; nothing of the command has happened then.
    let output = world.command(["start", "--", "echo", "all the same"]).env("SHELLKEEP_HOME", "/proc/none").output();
    let output = output.expect("runs");
    assert_eq!(output.stdout, b"all the same\n", "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "one notice: {said}");
    assert!(said.contains("/proc/none") && said.contains("SHELLKEEP_HOME"), "{said}");
}

#[test]
fn a_session_attached_in_a_pipeline_is_not_ended_by_its_pipe_or_its_signals() {
    let world = World::new();
    let ready = world.path().join("ready");
    let line = format!("stty -echo; : >{}; read line; echo \"got $line\"; exec sleep 600", ready.display());
    let id = world.detached("bg", &line);
    wait_until("it echoes nothing", || ready.exists());
    // The end of input ends nothing: what comes is still shown.
    let mut child = world
        .command(["attach", "bg"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    wait_until("it is attached", || world.info().attached == 1);
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), b"one\n").expect("typed");
    let mut seen = [0; 9];
    std::io::Read::read_exact(child.stdout.as_mut().expect("stdout"), &mut seen).expect("shown");
    assert_eq!(&seen, b"got one\r\n");
    signal(child.id(), Signal::TERM);
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    wait_until("the terminal is let go", || world.info().attached == 0);
    assert_eq!(world.info().session.to_string(), id);
    assert!(world.info().exit.is_none());
    // Killed from elsewhere, whoever looks on is told.
    let mut watching = world.command(["attach", "bg"]);
    watching.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let watching = watching.spawn().expect("starts");
    wait_until("it is attached", || world.info().attached == 1);
    assert_eq!(world.run(["kill", "bg"]).status.code(), Some(0));
    let output = watching.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(129), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("shellkeep kill"), "{output:?}");
}

/// Keys to a login shell on a terminal whose profile starts a kept one; returns what was seen and the status.
fn log_in(world: &World, profile: &str, home: &str) -> (String, Option<i32>) {
    // By its path: the system's own profile sets another PATH.
    let profile = profile.replace("shellkeep ", &format!("'{}' ", world::PROGRAM));
    std::fs::write(world.path().join(".profile"), profile).expect("written");
    let script = format!("SHELLKEEP_HOME={home} SHELL=/bin/bash exec bash -l");
    let mut tty = world.any_on_terminal(&["sh", "-c", &script].map(Into::into), 80, 24);
    tty.keys("echo al''ive; exit 3\r");
    let mut seen = tty.expect("alive\r\n");
    let status = tty.wait().code();
    seen.extend_from_slice(&tty.seen);
    (String::from_utf8_lossy(&seen).into_owned(), status)
}

#[test]
fn a_login_profile_that_starts_a_kept_shell_never_locks_its_user_out() {
    const GUARDED: &str =
        "[ -z \"$SHELLKEEP_SESSION\" ] && shellkeep --version >/dev/null 2>&1 && exec shellkeep start --login\n";
    for profile in [GUARDED, "exec shellkeep start --login\n"] {
        let world = World::new();
        let (seen, status) = log_in(&world, profile, &world.path().display().to_string());
        assert_eq!(status, Some(3), "kept: {seen}");
        let (seen, status) = log_in(&world, profile, "/proc/none");
        assert_eq!(status, Some(3), "not kept: {seen}");
        assert_eq!(seen.matches("not kept").count(), 1, "one notice: {seen}");
    }
}

#[test]
fn a_shell_with_tight_limits_is_kept_or_starts_plainly() {
    let world = World::new();
    for limit in ["-f 100", "-f 0", "-n 10", "-n 6"] {
        let script = format!("ulimit {limit}; exec '{}' start -- sh -c 'seq 50000; exit 6'", world::PROGRAM);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]).env("SHELLKEEP_HOME", world.path()).stdin(Stdio::null());
        let output = command.output().expect("runs");
        assert_eq!(output.status.code(), Some(6), "{limit}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!((text.lines().count(), text.lines().last()), (50_000, Some("50000")), "{limit}");
    }
}

#[test]
fn a_daemon_whose_lock_was_removed_or_emptied_is_stopped_all_the_same() {
    for spoil in
        [|lock: &std::path::Path| std::fs::remove_file(lock), |lock: &std::path::Path| std::fs::write(lock, "")]
    {
        let world = World::with_daemon();
        assert!(world.run(["daemon", "start"]).status.success());
        let status = world.run(["daemon", "status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
        let pid = u32::try_from(status["pid"].as_u64().expect("a pid")).expect("a pid");
        spoil(&world.path().join("state/lock")).expect("spoilt");
        let output = world.run(["daemon", "stop"]);
        assert!(output.status.success(), "{output:?}");
        assert!(!world::is_alive(pid));
    }
}
