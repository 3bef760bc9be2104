//! Servers of tools: started only by the user's word, listed, called, and gone when they should be; and the session's commands as such a
//! server for agents.
//!
//! The real server needs node and what `scripts/test` installs from npm; without it those tests say so and are passed over.

mod export;
mod real;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use torture::screen::Screen;

use crate::world::{World, eventually};

/// A server in plain shell. Its tools: `one` says its word again, `grow` adds a tool and tells, `die` ends it, `wait` never answers and
/// notes when it is cancelled, `env` says what it was given.
const SERVER: &str = r#"
cd "$1" || exit 9
echo $$ >> started
tool() { printf '{"name":"%s","description":"Does %s","inputSchema":{"type":"object","properties":{"word":{"type":"string"}}%s}}' "$1" "$1" "$2"; }
tools="$(tool one ',"required":["word"]'),$(tool grow),$(tool die),$(tool wait),$(tool env)"
answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
text() { answer "{\"content\":[{\"type\":\"text\",\"text\":\"$1\"}],\"isError\":${2:-false}}"; }
while read -r line; do
    id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
    case "$line" in
    *'"method":"initialize"'*) answer '{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"t","version":"1"}}' ;;
    *'"method":"tools/list"'*) answer "{\"tools\":[$tools]}" ;;
    *'"name":"one"'*) text "word: $(printf '%s' "$line" | sed -n 's/.*"word":"\([^"]*\)".*/\1/p')" ;;
    *'"name":"grow"'*) tools="$tools,$(tool two)"; text grown; echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}' ;;
    *'"name":"env"'*) text "$TOKEN/$SECRET/$SHELLKEEP_SESSION" true ;;
    *'"name":"die"'*) echo 'going down' >&2; exit 3 ;;
    *'"name":"wait"'*) echo waits > waits ;;
    *notifications/cancelled*) echo cancelled > cancelled ;;
    esac
done
"#;

/// A project below the home with these servers, and a session in it.
fn project(world: &World, servers: &Value) -> Result<(PathBuf, String)> {
    let root = world.outside().canonicalize()?.join("work/p");
    std::fs::create_dir_all(&root)?;
    std::fs::write(root.join("server.sh"), SERVER)?;
    describe(&root, servers)?;
    // What servers may get of variables is what the daemon was started with: here, by us and not by the keeper.
    let mut daemon = world.command(["daemon", "start"]);
    let output = daemon.env("TOKEN", "from-my-shell").env("SECRET", "x").output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut command = world.command(["start", "--detached", "--", "/bin/sleep", "600"]);
    let output = command.current_dir(&root).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok((root, String::from_utf8(output.stdout)?.trim().to_owned()))
}

fn describe(root: &Path, servers: &Value) -> Result<()> {
    Ok(std::fs::write(root.join(".mcp.json"), json!({"mcpServers": servers}).to_string())?)
}

/// The server in shell, as a file describes it.
fn in_shell(root_of: &World) -> Result<Value> {
    let root = root_of.outside().canonicalize()?.join("work/p");
    Ok(json!({"command": "sh", "args": ["server.sh", root], "env": {"TOKEN": "${TOKEN:-none}"}}))
}

/// Shows the question at a terminal, and says yes; what was shown.
fn trust(world: &World, session: &str, name: &str) -> Result<String> {
    let mut screen = Screen::start(world, &["trust", "--session", session, name])?;
    screen.shows("[y/N]")?;
    screen.keys(b"y\r")?;
    ensure!(screen.ended()?.success());
    Ok(String::from_utf8_lossy(&screen.shown()).into_owned())
}

fn commands(world: &World, session: &str) -> Result<Vec<Value>> {
    let text = world.ok(&["commands", "--json", "--session", session])?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// State and trust of one entry, if it is listed.
fn state(world: &World, session: &str, name: &str) -> Result<Option<(String, String)>> {
    let all = commands(world, session)?;
    let found = all.iter().find(|entry| entry["qualified_name"] == name);
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    Ok(found.map(|entry| (text(entry, "state"), text(entry, "trust"))))
}

fn is_ready(world: &World, session: &str, name: &str) -> Result<()> {
    eventually(&format!("{name} is ready"), || {
        Ok(state(world, session, name)?.filter(|(state, _)| state == "ready").map(|_| ()))
    })
}

/// What `run` printed, which must go well.
fn run(world: &World, session: &str, args: &[&str]) -> Result<String> {
    world.ok(&[&["run", "--session", session], args].concat())
}

/// What `run` said on its standard error, and its status.
fn refused(world: &World, session: &str, args: &[&str]) -> Result<(String, i32)> {
    let output = world.run(&[&["run", "--session", session], args].concat())?;
    ensure!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok((String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code().unwrap_or(-1)))
}

/// Pids that servers have written when they were started.
fn started(root: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(root.join("started")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Whether the daemon has a thread for servers.
fn has_thread(world: &World) -> Result<bool> {
    let pid = world.daemon_pid().context("a daemon runs")?;
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    let mut names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    Ok(names.any(|name| name.trim() == "mcp"))
}

/// Corner 9, and the threat that a server runs because of a name: trust is what starts it, ends it, and is bound to what it is.
#[test]
fn a_projects_server_runs_only_as_the_user_has_seen_it_and_as_long() -> Result<()> {
    let world = World::new()?;
    let server = in_shell(&world)?;
    let (root, session) = project(&world, &json!({"shelly": server}))?;
    ensure!(state(&world, &session, "mcp:shelly")? == Some(("ready".into(), "pending".into())));
    world.ok(&["reload", "--session", &session])?;
    let (said, status) = refused(&world, &session, &["shelly:one", "word=x"])?;
    ensure!(status == 1 && said.contains("there is no command"), "{said}");
    ensure!(started(&root).is_empty() && !has_thread(&world)?, "it was started before anybody agreed");
    let shown = trust(&world, &session, "mcp:shelly")?;
    ensure!(shown.contains("starts: sh server.sh") && shown.contains("gets your variable: TOKEN"), "{shown}");
    // At once: who asks waits for what is being started.
    ensure!(run(&world, &session, &["shelly:one", "word=hello"])? == "word: hello\n");
    let [first] = started(&root)[..] else { anyhow::bail!("started: {:?}", started(&root)) };
    // Another command line asks again, with what is different, and ends the one that runs.
    let mut other = server.clone();
    other["env"]["MORE"] = "1".into();
    describe(&root, &json!({"shelly": other}))?;
    torture::world::gone(first)?;
    eventually("its tools are gone", || Ok(state(&world, &session, "shelly:one")?.is_none().then_some(())))?;
    ensure!(state(&world, &session, "mcp:shelly")? == Some(("ready".into(), "pending".into())));
    let shown = trust(&world, &session, "mcp:shelly")?;
    ensure!(shown.contains("has changed") && shown.contains("+ env: MORE=1"), "{shown}");
    ensure!(run(&world, &session, &["shelly:one", "word=again"])? == "word: again\n");
    let [_, second] = started(&root)[..] else { anyhow::bail!("started: {:?}", started(&root)) };
    // Taken back: nothing of it is seen or runs, nor the thread.
    world.ok(&["trust", "--session", &session, "--revoke", "mcp:shelly"])?;
    ensure!(state(&world, &session, "shelly:one")?.is_none());
    torture::world::gone(second)?;
    eventually("its thread ends", || Ok((!has_thread(&world)?).then_some(())))
}

/// R-20 and corner 11, as far as nobody has to wait for a minute.
#[test]
fn tools_are_listed_called_cancelled_and_come_back_when_their_server_dies() -> Result<()> {
    let world = World::new()?;
    let (root, session) = project(&world, &json!({"shelly": in_shell(&world)?}))?;
    trust(&world, &session, "mcp:shelly")?;
    is_ready(&world, &session, "shelly:one")?;
    for args in [["mcp__shelly__one", "a b"], ["one", "word=a b"], ["shelly:one", r#"{"word":"a b"}"#]] {
        ensure!(run(&world, &session, &args)? == "word: a b\n", "{args:?}");
    }
    ensure!(run(&world, &session, &["shelly:one", "--json", r#"{"word":"j"}"#])? == "word: j\n");
    let (said, status) = refused(&world, &session, &["shelly:one"])?;
    ensure!(status == 1 && said.contains("word is missing; it takes word=TEXT"), "{said}");
    let (said, _) = refused(&world, &session, &["shelly:one", "wrod=x", "y=z"])?;
    ensure!(said.contains("did you mean word?"), "{said}");
    // An error of the tool is its text and status 1; a server gets the variables that were agreed to, and no session.
    let (said, status) = refused(&world, &session, &["shelly:env"])?;
    ensure!(status == 1 && said == "from-my-shell//\n", "{said}");
    ensure!(run(&world, &session, &["shelly:grow"])? == "grown\n");
    is_ready(&world, &session, "shelly:two")?;
    // Reloading looks at files; what the server said stays (R-14).
    world.ok(&["reload", "--session", &session])?;
    is_ready(&world, &session, "shelly:two")?;
    let mut screen = Screen::start(&world, &["run", "--session", &session, "shelly:wait"])?;
    eventually("the call is there", || Ok(root.join("waits").exists().then_some(())))?;
    screen.keys(b"\x03")?;
    ensure!(std::os::unix::process::ExitStatusExt::signal(&screen.ended()?) == Some(2));
    eventually("the server was told", || Ok(root.join("cancelled").exists().then_some(())))?;
    let late = world.run(&["run", "--session", &session, "--time-limit", "1s", "shelly:wait"])?;
    ensure!(late.status.code() == Some(124), "{late:?}");
    let (said, _) = refused(&world, &session, &["shelly:die"])?;
    ensure!(said.contains("unavailable"), "{said}");
    let gone = eventually("its tools are away", || {
        let all = commands(&world, &session)?;
        Ok(all.into_iter().find(|entry| entry["qualified_name"] == "shelly:two" && entry["state"] != "ready"))
    });
    ensure!(gone.is_ok(), "they stay to be seen, and not as if they could run");
    is_ready(&world, &session, "shelly:one")?;
    ensure!(run(&world, &session, &["shelly:one", "word=back"])? == "word: back\n");
    ensure!(started(&root).len() == 2);
    Ok(())
}

/// The user's own need no question, wherever their home says it; what a project says of them does, and nothing of it starts before.
#[test]
fn the_users_own_servers_run_unasked_and_a_project_adds_none_to_them() -> Result<()> {
    let world = World::new()?;
    let home = world.outside().canonicalize()?;
    let root = home.join("work/p");
    let write = |path: &str, text: String| -> Result<()> {
        let path = home.join(path);
        std::fs::create_dir_all(path.parent().context("it is in a directory")?)?;
        Ok(std::fs::write(path, text)?)
    };
    // Each notes its start in a directory of its own.
    let server = |name: &str| -> Result<Value> {
        let place = home.join("of").join(name);
        std::fs::create_dir_all(&place)?;
        Ok(json!({"command": "sh", "args": [root.join("server.sh"), place]}))
    };
    let starts = |name: &str| started(&home.join("of").join(name)).len();
    let mut installed = json!({"version": 2, "plugins": {}});
    for name in ["kit", "asked"] {
        let path = home.join("plugins").join(name);
        write(&format!("plugins/{name}/.mcp.json"), json!({"mcpServers": {"s": server(name)?}}).to_string())?;
        installed["plugins"][format!("{name}@m")] = json!([{"scope": "user", "version": "1.0.0", "installPath": path}]);
    }
    write(".claude/plugins/installed_plugins.json", installed.to_string())?;
    write(".claude/settings.json", json!({"enabledPlugins": {"kit@m": true}}).to_string())?;
    let servers = json!({"mcpServers": {"mine": server("mine")?, "both": server("both")?},
        "projects": {root.to_string_lossy(): {"mcpServers": {"both": server("both-here")?, "here": server("here")?}}}});
    write(".claude.json", servers.to_string())?;
    write("work/p/.claude/settings.json", json!({"enabledPlugins": {"asked@m": true}}).to_string())?;
    let (_, inside) = project(&world, &json!({"here": server("of-the-project")?}))?;
    let outside = world.session("exec sleep 600")?;
    for name in ["mine:one", "both:one", "kit:s:one", "here:one"] {
        is_ready(&world, &inside, name)?;
        ensure!(run(&world, &inside, &[name, "word=w"])? == "word: w\n", "{name}");
    }
    let shown = |session: &str, name: &str| state(&world, session, name);
    ensure!(shown(&inside, "mcp:here")? == Some(("ready".into(), "trusted".into())));
    ensure!(shown(&inside, "plugin:asked:s")? == Some(("ready".into(), "pending".into())));
    ensure!(run(&world, &outside, &["mine:one", "word=w"])? == "word: w\n");
    ensure!(shown(&outside, "mcp:here")?.is_none() && shown(&outside, "here:one")?.is_none());
    let (said, _) = refused(&world, &inside, &["asked:s:one", "word=w"])?;
    ensure!(said.contains("there is no command"), "{said}");
    ensure!(starts("asked") == 0 && starts("of-the-project") == 0, "nobody has agreed to these");
    // One for all sessions, however many there are; and of one name the nearest is meant.
    ensure!(["mine", "both", "kit", "here", "both-here"].map(starts) == [1; 5]);
    let both: Value = serde_json::from_str(&world.ok(&["which", "--session", &inside, "mcp:both", "--json"])?)?;
    ensure!(
        both["scope"] == "project" && both["runs"].as_str().is_some_and(|runs| runs.contains("both-here")),
        "{both}"
    );
    trust(&world, &inside, "plugin:asked:s")?;
    is_ready(&world, &inside, "asked:s:one")?;
    ensure!(starts("asked") == 1);
    Ok(())
}

/// A host that dies of its servers, or fills its disk with their noise, is no host.
#[test]
fn servers_that_print_garbage_flood_or_never_answer_harm_no_others() -> Result<()> {
    let world = World::new()?;
    let bad = |script: &str| json!({"command": "sh", "args": ["-c", script]});
    let servers = json!({
        "good": in_shell(&world)?,
        "garbage": bad("while :; do echo 'this is no message'; done"),
        "flood": bad("yes 'noise on standard error' >&2"),
        "endless": bad("tr '\\0' '{' < /dev/zero"),
        "silent": bad("sleep 600"),
        "missing": {"command": "no-such-server"},
    });
    let (_, session) = project(&world, &servers)?;
    for name in ["garbage", "flood", "endless", "silent", "missing", "good"] {
        trust(&world, &session, &format!("mcp:{name}"))?;
    }
    ensure!(run(&world, &session, &["good:one", "word=fine"])? == "word: fine\n");
    for name in ["mcp:garbage", "mcp:endless", "mcp:missing"] {
        eventually(&format!("{name} is seen to be bad"), || {
            Ok(state(&world, &session, name)?.filter(|(state, _)| state == "unavailable").map(|_| ()))
        })?;
    }
    let why = world.ok(&["which", "--session", &session, "mcp:missing"])?;
    ensure!(why.contains("no-such-server") && why.contains("not installed"), "{why}");
    ensure!(run(&world, &session, &["good:one", "word=still"])? == "word: still\n");
    let pid = world.daemon_pid().context("a daemon runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("it has a size")?;
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse()?;
    ensure!(resident < 64 << 10, "the daemon holds {resident} KiB");
    let diagnostics = std::fs::metadata(world.home().join("state/diagnostics/daemon.txt"))?.len();
    ensure!(diagnostics < 64 << 10, "{diagnostics} bytes of diagnostics");
    Ok(())
}

/// Says so when something is missing that these tests run beside.
fn passed_over(what: &str, test: &str) {
    let _ = writeln!(std::io::stderr(), "passed over, it needs {what}: {test}");
}
