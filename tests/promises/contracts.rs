//! The contracts that programs rely on: exit codes, JSON, what goes to stdout.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use torture::screen::Screen;

use crate::world::{World, eventually, is_alive, signal};

#[test]
fn the_status_of_the_command_is_the_status_of_start() -> Result<()> {
    let world = World::new()?;
    for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        let output = world.run(&["start", "--", "/bin/sh", "-c", script])?;
        ensure!(output.status.code() == Some(expected), "{script}: {:?}", output.status);
    }
    ensure!(world.run(&["start", "--", "/no/such/program"])?.status.code() == Some(127));
    ensure!(world.run(&["start", "--", "/etc/passwd"])?.status.code() == Some(126));
    Ok(())
}

#[test]
fn without_a_tty_the_raw_output_goes_to_stdout_and_is_recorded_alike() -> Result<()> {
    let world = World::new()?;
    let output = world.run(&["start", "--", "/bin/sh", "-c", "printf 'one\\ntwo\\033[1m'; test -t 1 && echo tty"])?;
    ensure!(output.stdout == b"one\r\ntwo\x1b[1mtty\r\n", "{:?}", String::from_utf8_lossy(&output.stdout));
    ensure!(world.output("last")? == output.stdout);
    Ok(())
}

#[test]
fn ls_shows_running_sessions_newest_first_and_all_of_them_on_demand() -> Result<()> {
    let world = World::new()?;
    ensure!(world.ok(&["ls", "--json"])?.trim() == "[]");
    let ended = world.session("exit 3")?;
    world.ended(&ended)?;
    let first = world.session("exec sleep 1000")?;
    let second = world.ok(&["start", "--detached", "-n", "build-7", "--", "sleep", "1000"])?;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&world.ok(&["ls", "--json"])?)?;
    let ids: Vec<_> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    ensure!(ids == [second.trim(), &first], "{ids:?}");
    ensure!(rows[0]["name"] == "build-7" && rows[0]["command"] == "sleep 1000", "{}", rows[0]);
    ensure!(rows[0]["state"] == "running" && rows[0]["attached"] == 0 && rows[0]["ended_at"].is_null());
    let row = world.listed(&ended)?;
    ensure!(row["state"] == "ended" && row["exit_code"] == 3 && row["ended_at"].is_string(), "{row}");
    world.ok(&["kill", "build-7"])?;
    ensure!(world.listed(second.trim())?["state"] == "ended");
    Ok(())
}

#[test]
fn the_daemons_life_has_its_exit_codes() -> Result<()> {
    let world = World::new()?;
    let status = world.run(&["daemon", "status", "--json"])?;
    ensure!(status.status.code() == Some(3) && status.stdout.is_empty(), "{status:?}");
    world.ok(&["daemon", "start"])?;
    let status: serde_json::Value = serde_json::from_str(&world.ok(&["daemon", "status", "--json"])?)?;
    let pid = world.daemon_pid();
    ensure!(status["pid"].as_i64() == pid.map(i64::from), "{status}");
    for key in ["version", "protocol", "socket", "uptime_s", "sessions", "storage"] {
        ensure!(!status[key].is_null(), "{key} is missing in {status}");
    }
    world.ok(&["daemon", "restart"])?;
    ensure!(world.daemon_pid().is_some() && world.daemon_pid() != pid);
    world.ok(&["daemon", "stop"])?;
    ensure!(world.run(&["daemon", "status"])?.status.code() == Some(3));
    ensure!(world.home().join("state/stopped").exists());
    Ok(())
}

#[test]
fn bad_input_is_one_clear_error_with_the_right_status() -> Result<()> {
    let world = World::new()?;
    for (args, code) in [
        (&["output", "no-such-session"][..], 1),
        (&["attach", "no-such-session"], 1),
        (&["kill", "0197c0de-0000-7000-8000-000000000000"], 1),
        (&["output", "../../etc"], 2),
        (&["start", "-n", "last", "--", "true"], 2),
        (&["no-such-command"], 2),
    ] {
        let output = world.run(args)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{args:?}: {:?}: {stderr}", output.status);
        ensure!(stderr.starts_with("error: ") && output.stdout.is_empty(), "{args:?}: {stderr}");
    }
    Ok(())
}

#[test]
fn a_home_of_three_hundred_characters_works() -> Result<()> {
    let world = World::with_home_of(300)?;
    ensure!(world.home().as_os_str().len() == 300);
    let session = world.session("stty -opost; echo far away")?;
    world.ended(&session)?;
    ensure!(world.output(&session)? == b"far away\n");
    Ok(())
}

#[test]
fn a_record_can_be_removed_only_when_its_session_has_ended() -> Result<()> {
    let world = World::new()?;
    let session = world.session("exec sleep 1000")?;
    world.listed(&session)?;
    ensure!(world.run(&["rm", &session])?.status.code() == Some(1));
    world.ok(&["kill", &session])?;
    world.ok(&["rm", &session])?;
    ensure!(world.run(&["output", &session])?.status.code() == Some(1));
    Ok(())
}

/// The notice of the first session is for the person at the terminal: once, beside the session, with the way out.
#[test]
fn the_first_session_says_once_what_is_recorded_where_and_how_to_remove_it() -> Result<()> {
    let world = World::new()?;
    ensure!(world.run(&["start", "--", "/bin/true"])?.stderr.is_empty(), "a program needs no notice");
    for is_first in [true, false] {
        let mut screen = Screen::start(&world, &["start", "--", "/bin/echo", "mine"])?;
        ensure!(screen.ended()?.success());
        ensure!(screen.closed()? == b"mine\r\n", "the notice is beside the session, not in it");
        let said = std::fs::read_to_string(world.stderr_of_screens())?;
        let logs = world.home().join("state/log").display().to_string();
        let tells_all = said.contains("recorded in") && said.contains(&logs) && said.contains("shellkeep rm SESSION");
        ensure!(if is_first { tells_all } else { said.is_empty() }, "first: {is_first}: {said}");
    }
    Ok(())
}

/// Terminal and daemon are gone; the shell has its keeper, and that is all that it needs.
#[test]
fn a_shell_is_kept_alive_by_nothing_but_its_keeper() -> Result<()> {
    let world = World::new()?;
    let screen = Screen::start(&world, &["start", "-n", "kept", "--", "/bin/sh", "-c", "echo ready; exec cat"])?;
    screen.shows("ready")?;
    let session = world.listed_by_name("kept")?;
    let row = world.listed(&session)?;
    let (shell, keeper) = (row["pid"].as_i64().unwrap_or(0), world.keeper_pid(&session)?);
    let shell = i32::try_from(shell)?;
    world.ok(&["daemon", "stop"])?;
    signal(screen.pid()?, Signal::KILL)?;
    let _shown = screen.closed()?;
    eventually("only keeper and shell are left", || {
        let mut left = world.processes();
        left.sort_unstable();
        let mut expected = [shell, keeper];
        expected.sort_unstable();
        Ok((left == expected).then_some(()))
    })?;
    let mut again = Screen::start(&world, &["attach", "kept"])?;
    again.keys(b"still here\r")?;
    again.shows("still here\r\nstill here")?; // the tty's echo, then the program's
    signal(keeper, Signal::KILL)?;
    eventually("without its keeper the shell is hung up", || Ok((!is_alive(shell)).then_some(())))
}

/// What a user may ask systemd to run: the program as it is installed, its socket, and nothing that it does not need.
#[test]
fn install_writes_units_that_name_this_program_and_its_socket() -> Result<()> {
    let world = World::new()?;
    let config = world.outside().join("config with 100% blanks");
    let output = world.command(["daemon", "install"]).env("XDG_CONFIG_HOME", &config).output()?;
    ensure!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let units = config.join("systemd/user");
    let read = |name: &str| std::fs::read_to_string(units.join(name));
    let (socket, service) = (read("shellkeep.socket")?, read("shellkeep.service")?);
    let listens = format!("ListenStream={}\n", world.home().join("run/daemon.sock").display());
    for line in [&*listens, "SocketMode=0600\n", "DirectoryMode=0700\n", "WantedBy=sockets.target\n"] {
        ensure!(socket.contains(line), "{line} is not in\n{socket}");
    }
    let starts = format!("ExecStart=\"{}\" daemon run\n", world.program().display());
    let home = format!("Environment=\"SHELLKEEP_HOME={}\"\n", world.home().display());
    for line in
        [&*starts, &home, "Requires=shellkeep.socket\n", "NoNewPrivileges=yes\n", "MemoryMax=", "KillMode=process\n"]
    {
        ensure!(service.contains(line), "{line} is not in\n{service}");
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        stderr.contains(&*units.to_string_lossy()) && stderr.contains("systemctl --user enable --now shellkeep.socket")
    );
    // A path that systemd would read as something else is written so that it does not.
    let odd = world.outside().join("50% \"odd\" $HOME");
    std::fs::create_dir(&odd)?;
    std::fs::hard_link(world.program(), odd.join("shellkeep"))
        .or_else(|_| std::fs::copy(world.program(), odd.join("shellkeep")).map(drop))?;
    let mut command = std::process::Command::new(odd.join("shellkeep"));
    command.args(["daemon", "install"]).env_clear().env("HOME", world.outside()).env("XDG_CONFIG_HOME", &config);
    ensure!(command.output()?.status.success());
    let service = read("shellkeep.service")?;
    let escaped = world.outside().join("50%% \\\"odd\\\" $$HOME/shellkeep");
    ensure!(service.contains(&format!("ExecStart=\"{}\" daemon run\n", escaped.display())), "{service}");
    ensure!(!service.contains("SHELLKEEP_HOME"), "{service}");
    Ok(())
}

/// A result that nobody could get is no success; one that nobody wants any more is.
#[test]
fn without_a_stdout_a_result_is_an_error_and_a_reader_who_has_gone_is_none() -> Result<()> {
    let world = World::new()?;
    let session = world.session("echo needle in hay")?;
    world.ended(&session)?;
    let shell = |line: &str| {
        let program = world.command([""; 0]);
        let mut shell = std::process::Command::new("/bin/bash");
        shell.arg("-c").arg(line).env_clear().current_dir(world.outside());
        shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("SK", world.program());
        shell.output()
    };
    for what in ["output last", "output last --plain", "search needle", "search needle --json", "ls --all", "verify"] {
        let closed = shell(&format!("\"$SK\" {what} >&-"))?;
        let said = String::from_utf8_lossy(&closed.stderr);
        ensure!(closed.status.code() == Some(1) && said.contains("cannot write the result"), "{what}: {closed:?}");
        let broken = shell(&format!("\"$SK\" {what} | true; exit ${{PIPESTATUS[0]}}"))?;
        ensure!(broken.status.success(), "{what}: {broken:?}");
        ensure!(shell(&format!("\"$SK\" {what} >/dev/null"))?.status.success(), "{what}");
    }
    for form in ["cast", "txt", "json", "html"] {
        ensure!(shell(&format!("\"$SK\" export last --format {form} >&-"))?.status.code() == Some(1), "{form}");
        ensure!(shell(&format!("\"$SK\" export last --format {form} -o out >&-"))?.status.success(), "{form}");
    }
    ensure!(shell("\"$SK\" start --detached -- true >&-")?.status.success(), "the session was wanted, not its id");
    Ok(())
}
