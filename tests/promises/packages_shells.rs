//! Packages in shells that are open already: commands that come and go at once, and the word about those that are not there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use torture::screen::Screen;

use crate::prompt_shells::{PROMPT, shells, start_files, write};
use crate::world::{World, eventually, is_alive};

/// How often what is quick is tried.
const TRIES: usize = 4;

/// How soon a session may see a change that was made in another. The quickest of some tries counts: a loaded machine is no failure.
const AT_ONCE: Duration = Duration::from_millis(400);

/// A kept shell, and what it says.
pub(crate) struct Shell {
    screen: Screen,
    name: &'static str,
}

impl Shell {
    /// At its first prompt, with `more` at the end of its start-up file.
    pub(crate) fn open(world: &World, shell: &'static str, session: &str, more: &str) -> Result<Self> {
        let more = if shell == "zsh" { format!("{more}\nPROMPT_EOL_MARK=") } else { more.to_owned() };
        start_files(world, shell, &more)?;
        let screen = Screen::start(world, &["start", "-n", session, "--", &format!("/usr/bin/{shell}")])?;
        screen.shows(PROMPT)?;
        Ok(Self { screen, name: shell })
    }

    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen.shown()).into_owned()
    }

    /// Types a line at the prompt; what it printed, line by line, and its status.
    pub(crate) fn run(&mut self, line: &str) -> Result<(Vec<String>, i32)> {
        self.type_line(&format!("{line}\r"))
    }

    /// The same with the keys that end the line.
    pub(crate) fn type_line(&mut self, keys: &str) -> Result<(Vec<String>, i32)> {
        let from = self.screen.shown().len();
        self.screen.keys(keys.as_bytes())?;
        let told = eventually("the command ends", || {
            let shown = String::from_utf8_lossy(&self.screen.shown()[from..]).into_owned();
            let end = shown.find("\x1b]133;D;").filter(|end| {
                let behind = &shown[*end..];
                behind.contains("\x1b]133;A;") && behind.contains(PROMPT)
            });
            let begin = shown.find("\x1b]133;C;");
            Ok(begin.zip(end).map(|(begin, end)| (shown[begin..end].to_owned(), shown[end..].to_owned())))
        });
        let (output, rest) = told.with_context(|| format!("{}: {keys:?}: {:?}", self.name, self.shown()))?;
        let (mark, output) = output.split_once('\x07').context("a mark has an end")?;
        // What fish prints first, up to there, is none of the command's.
        let lead = if mark.contains(";lead") { output.find('\r').unwrap_or(0) } else { 0 };
        let output = &output[lead..];
        // A bar is drawn and taken away where a loaded machine takes its time.
        let is_said = |line: &String| !line.is_empty() && !line.contains(['█', '░']);
        let lines = output.split(['\r', '\n']).map(plain).filter(is_said).collect();
        let status = rest.trim_start_matches("\x1b]133;D;").split(';').next().unwrap_or_default();
        Ok((lines, status.parse()?))
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Types keys that list something, of which `text` is a part.
    pub(crate) fn list(&mut self, keys: &str, text: &str) -> Result<()> {
        self.screen.keys(keys.as_bytes())?;
        crate::prompt_shells::shows(&self.screen, text)
    }

    /// What it prints, and that it is done.
    pub(crate) fn says(&mut self, line: &str, expected: &[&str], status: i32) -> Result<()> {
        let said = self.run(line)?;
        ensure!(said.0 == expected && said.1 == status, "{}: {line}: {said:?}, not {expected:?}", self.name);
        Ok(())
    }
}

/// Without what moves the cursor or colours.
fn plain(line: &str) -> String {
    let (mut text, mut rest) = (String::new(), line.chars());
    while let Some(character) = rest.next() {
        if character == '\x1b' {
            let is_csi = rest.next() == Some('[');
            while is_csi && rest.next().is_some_and(|next| !next.is_ascii_alphabetic()) {}
        } else if !character.is_control() {
            text.push(character);
        }
    }
    text.trim().to_owned()
}

/// A package's directory with commands that say what they are, and completions for all shells, which note in a file that they were read.
pub(crate) fn source(world: &World, name: &str, version: &str, commands: &[&str]) -> Result<String> {
    let at = world.outside().join(format!("from/{name}-{version}"));
    let mut manifest =
        format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\ndescription = \"Says {name}\"\n");
    for command in commands {
        let file = |name: &str, text: String| write(world, &format!("from/{}/{name}", at_name(&at)), &text);
        file(&format!("bin/{command}"), format!("#!/bin/sh\necho {command} {version} \"$@\"\n"))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(at.join("bin").join(command), mode)?;
        let read = format!("echo {command} >>$HOME/read\n");
        file(&format!("c/{command}.bash"), format!("{read}complete -W --of-{version} {command}\n"))?;
        file(&format!("c/_{command}"), format!("#compdef {command}\n{read}compadd -- --of-{version}\n"))?;
        file(&format!("c/{command}.fish"), format!("{read}complete -c {command} -f -a --of-{version}\n"))?;
        manifest.extend([format!(
            "[[command]]\nname = \"{command}\"\npath = \"bin/{command}\"\n\
             completions = {{ bash = \"c/{command}.bash\", zsh = \"c/_{command}\", fish = \"c/{command}.fish\" }}\n"
        )]);
    }
    write(world, &format!("from/{}/package.toml", at_name(&at)), &manifest)?;
    Ok(at.to_string_lossy().into_owned())
}

fn at_name(at: &Path) -> String {
    at.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// An index of packages, which the settings name.
pub(crate) fn shop(world: &World, packages: &[(&str, &[&str])]) -> Result<PathBuf> {
    let shop = world.outside().join("shop");
    std::fs::create_dir_all(&shop)?;
    let place = shop.to_string_lossy().into_owned();
    for (name, commands) in packages {
        world.ok(&["pkg", "build", &source(world, name, "1.0.0", commands)?, "--output", &place])?;
    }
    world.ok(&["pkg", "index", &place])?;
    write(world, "home/config/config.toml", &format!("[packages]\nindex = \"{place}\"\n"))?;
    Ok(shop)
}

pub(crate) fn names(world: &World, session: Option<&str>, of: &str) -> Result<Vec<String>> {
    let mut args = vec!["commands", "--json"];
    args.extend(session.iter().flat_map(|session| ["--session", *session]));
    let all: Vec<Value> = serde_json::from_str(&world.ok(&args)?)?;
    let meant = all.iter().filter(|entry| of.is_empty() || entry["kind"] == of);
    let mut names: Vec<String> = meant.filter_map(|entry| Some(entry["name"].as_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// P-1.
#[test]
fn p1_with_nothing_installed_there_are_only_the_builtins_and_pkg() -> Result<()> {
    let world = World::new()?;
    let session = world.session("exec sleep 600")?;
    let builtins = ["cd", "exit", "exit-daemon", "pkg", "pwd", "reload-remote"];
    ensure!(names(&world, None, "")? == builtins, "{:?}", names(&world, None, "")?);
    ensure!(names(&world, Some(&session), "")? == builtins);
    // It is run as the others are.
    ensure!(world.ok(&["run", "pkg", "list", "--json"])? == "[]\n");
    Ok(())
}

/// P-2, P-3: in shells that were open before, one of which remembers where the program lay.
#[test]
fn p2_p3_what_is_installed_runs_at_once_in_every_open_shell_and_what_is_removed_is_gone() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        shop(&world, &[("p", &["say-it"])])?;
        let mut one = Shell::open(&world, shell, "one", "")?;
        let mut other = Shell::open(&world, shell, "other", "")?;
        other.says("say-it", &["command not found: say-it (install with: pkg install p)"], 127)?;
        one.says("pkg install p", &["installed p 1.0.0: say-it"], 0)?;
        other.says("say-it a b", &["say-it 1.0.0 a b"], 0)?;
        other.says("say-it", &["say-it 1.0.0"], 0)?;
        ensure!(names(&world, Some("other"), "package")? == ["say-it"]);
        ensure!(world.ok(&["run", "--session", "one", "say-it", "x"])? == "say-it 1.0.0 x\n");
        one.says("pkg remove p", &["removed p 1.0.0"], 0)?;
        for shell in [&mut other, &mut one] {
            shell.says("say-it", &["command not found: say-it (install with: pkg install p)"], 127)?;
        }
        ensure!(names(&world, Some("other"), "package")?.is_empty());
    }
    Ok(())
}

/// P-4.
#[test]
fn p4_a_restarted_daemon_knows_what_is_installed_and_not_what_was_removed_meanwhile() -> Result<()> {
    let world = World::new()?;
    world.ok(&["pkg", "install", &source(&world, "one", "1.0.0", &["one"])?])?;
    world.ok(&["pkg", "install", &source(&world, "two", "1.0.0", &["two"])?])?;
    let session = world.session("exec sleep 600")?;
    ensure!(names(&world, Some(&session), "package")? == ["one", "two"]);
    let killed = world.kill_daemon()?;
    world.daemon_other_than(Some(killed))?;
    ensure!(names(&world, Some(&session), "package")? == ["one", "two"]);
    world.ok(&["daemon", "stop"])?;
    world.ok(&["pkg", "remove", "one"])?;
    ensure!(names(&world, Some(&session), "package")? == ["two"]);
    Ok(())
}

/// 4.4.1 and 4.4.2, with real packages.
#[test]
fn names_go_to_the_user_then_to_the_package_that_came_first_then_to_the_project() -> Result<()> {
    let world = World::new()?;
    world.ok(&["pkg", "install", &source(&world, "later", "1.0.0", &["say"])?])?;
    world.ok(&["pkg", "install", &source(&world, "early", "1.0.0", &["say"])?, "--no-bin"])?;
    let which = || -> Result<Value> { Ok(serde_json::from_str(&world.ok(&["which", "say", "--json"])?)?) };
    ensure!(which()?["id"] == "user/later/say", "{}", which()?);
    ensure!(world.ok(&["run", "early:say"])? == "say 1.0.0\n");
    let root = crate::prompt_shells::project(&world, "say", "echo of the project")?;
    let mut start = world.command(["start", "--detached", "-n", "in", "--", "/bin/sleep", "600"]);
    ensure!(start.current_dir(root).output()?.status.success());
    ensure!(world.ok(&["commands", "--session", "in"])?.contains("not trusted"));
    ensure!(world.ok(&["run", "--session", "in", "say"])? == "say 1.0.0\n");
    crate::prompt_shells::own(&world, "say", "echo mine")?;
    world.ok(&["reload"])?;
    ensure!(world.ok(&["run", "--session", "in", "say"])? == "mine\n");
    Ok(())
}

/// P-6: to the letter, on standard error; what the user has for that is asked where we know nothing.
#[test]
fn p6_an_uninstalled_command_is_said_to_the_letter_with_status_127() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        shop(&world, &[("ls", &["ls-of-shop"]), ("box", &["tool-of-box"])])?;
        let mut one = Shell::open(&world, shell, "one", "")?;
        for (name, expected) in [
            ("ls-of-shop -l", "command not found: ls-of-shop (install with: pkg install ls)\n"),
            ("tool-of-box", "command not found: tool-of-box (install with: pkg install box)\n"),
            ("nobody-has-it", "command not found: nobody-has-it\n"),
            (
                "tool-of-bxo",
                "command not found: tool-of-bxo\ndid you mean: tool-of-box (install with: pkg install box)\n",
            ),
        ] {
            let lines: Vec<&str> = expected.lines().collect();
            one.says(name, &lines, 127)?;
            // fish redirects nothing of what it says itself of a command.
            if shell != "fish" {
                one.says(&format!("{name} 2>err"), &[], 127)?;
                let said = std::fs::read_to_string(world.outside().join("err"))?;
                ensure!(said == expected, "{shell}: {said:?}, not {expected:?}");
            }
        }
        // What is said can be typed.
        one.says("pkg install box", &["installed box 1.0.0: tool-of-box"], 0)?;
        one.says("tool-of-bxo", &["command not found: tool-of-bxo", "did you mean: tool-of-box"], 127)?;
    }
    Ok(())
}

/// P-6: ours answers where it knows a package, else theirs.
#[test]
fn p6_the_users_own_handler_answers_where_no_package_is_known() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        shop(&world, &[("box", &["tool-of-box"])])?;
        let handler = match shell {
            "bash" => "command_not_found_handle() { echo before-$1; return 41; }",
            "zsh" => "command_not_found_handler() { echo before-$1; return 41 }",
            _ => "function fish_command_not_found; echo before-$argv[1]; end",
        };
        let mut one = Shell::open(&world, shell, "one", handler)?;
        one.says("tool-of-box", &["command not found: tool-of-box (install with: pkg install box)"], 127)?;
        one.says("nobody-has-it", &["before-nobody-has-it"], if shell == "fish" { 127 } else { 41 })?;
    }
    Ok(())
}

/// The function is the user's if there is one: then the hint says another way.
#[test]
fn a_pkg_of_the_users_own_stays() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        shop(&world, &[("box", &["tool-of-box"])])?;
        let own = if shell == "fish" { "function pkg; echo mine; end" } else { "alias pkg='echo mine'" };
        let mut one = Shell::open(&world, shell, "one", own)?;
        one.says("pkg", &["mine"], 0)?;
        one.says("tool-of-box", &["command not found: tool-of-box (install with: shellkeep pkg install box)"], 127)?;
        one.says("shellkeep pkg install box", &["installed box 1.0.0: tool-of-box"], 0)?;
        one.says("tool-of-box", &["tool-of-box 1.0.0"], 0)?;
    }
    Ok(())
}

/// P-8.
#[test]
fn p8_removing_what_is_not_there_is_told_and_changes_nothing() -> Result<()> {
    let world = World::new()?;
    world.ok(&["pkg", "install", &source(&world, "one", "1.0.0", &["one"])?])?;
    ensure!(names(&world, None, "package")? == ["one"]);
    let output = world.run(&["pkg", "remove", "two"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && said.contains("two is not installed"), "{said}");
    ensure!(names(&world, None, "package")? == ["one"]);
    Ok(())
}

/// P-9.
#[test]
fn p9_help_tells_how_to_install() -> Result<()> {
    let world = World::new()?;
    ensure!(world.ok(&["--help"])?.contains("pkg"));
    for args in [&["pkg", "--help"][..], &["pkg", "install", "--help"]] {
        ensure!(world.ok(args)?.contains("shellkeep pkg install hello"), "{args:?}");
    }
    for shell in shells() {
        let mut one = Shell::open(&world, shell, shell, "")?;
        let (lines, status) = one.run("pkg install --help")?;
        ensure!(status == 0 && lines.iter().any(|line| line.contains("shellkeep pkg install hello")), "{lines:?}");
    }
    Ok(())
}

/// P-19: a job in the background of one shell, a pipeline, another process; all other shells have it.
#[test]
fn p19_whoever_installs_and_however_all_live_sessions_have_it_at_once() -> Result<()> {
    let world = World::new()?;
    let mut all = Vec::new();
    for shell in shells() {
        all.push(Shell::open(&world, shell, &format!("in-{shell}"), "")?);
    }
    let count = all.len();
    for at in 0..count {
        let (back, piped) = (format!("back{at}"), format!("piped{at}"));
        let (back, piped) = (
            source(&world, &back, "1.0.0", &[&format!("of-{back}")])?,
            source(&world, &piped, "1.0.0", &[&format!("of-{piped}")])?,
        );
        all[at].run(&format!("pkg install {piped} | cat"))?;
        all[at].run(&format!("pkg install {back} >/dev/null 2>&1 &"))?; // the shell says itself when it is done
        eventually("it is installed", || {
            Ok(names(&world, None, "package")?.contains(&format!("of-back{at}")).then_some(()))
        })?;
        for other in &mut all {
            for name in [format!("of-piped{at}"), format!("of-back{at}")] {
                let (said, status) = other.run(&name)?;
                ensure!(status == 0 && said.first() == Some(&format!("{name} 1.0.0")), "{name}: {said:?}");
            }
        }
    }
    // From the end of another process to what a session is told; with the start of the process that asks.
    let mut quickest = Duration::MAX;
    for n in 0..TRIES {
        let name = format!("quick{n}");
        let from = source(&world, &name, "1.0.0", &[&name])?;
        world.ok(&["pkg", "install", &from])?;
        let began = Instant::now();
        while !world.run(&["which", "--session", "in-bash", &name])?.status.success() {}
        quickest = quickest.min(began.elapsed());
    }
    ensure!(quickest < AT_ONCE, "{quickest:?}");
    Ok(())
}

/// P-28: unregistered at once, while what runs goes on with its files.
#[test]
fn p28_what_runs_of_a_removed_package_goes_on_and_force_ends_it() -> Result<()> {
    let world = World::new()?;
    let at = source(&world, "slow", "1.0.0", &["slow"])?;
    let script = "#!/bin/sh\necho $$ >\"$1\"\nwhile [ ! -e \"$1.go\" ]; do sleep 0.02; done\ncat \"${0%/*}/../package.toml\" | head -n 1\n";
    write(&world, "from/slow-1.0.0/bin/slow", script)?;
    let store = world.home().join("data/pkgs/store");
    let left = || -> Result<usize> { Ok(std::fs::read_dir(&store)?.count()) };
    for force in [false, true] {
        world.ok(&["pkg", "install", &at])?;
        ensure!(names(&world, None, "package")? == ["slow"]);
        let file = world.outside().join(format!("pid-{force}"));
        let path = std::fs::read_dir(&store)?.flatten().next().context("a release")?.path().join("bin/slow");
        ensure!(path.exists());
        let run =
            world.command(["run", "slow", &file.to_string_lossy()]).stdout(std::process::Stdio::piped()).spawn()?;
        let pid: i32 = eventually("it runs", || {
            Ok(std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()))
        })?;
        let words: &[&str] = if force { &["pkg", "remove", "slow", "--force"] } else { &["pkg", "remove", "slow"] };
        world.ok(words)?;
        eventually("it is unregistered", || Ok(names(&world, None, "package")?.is_empty().then_some(())))?;
        if force {
            crate::world::gone(pid)?;
            ensure!(run.wait_with_output()?.status.code() == Some(137));
        } else {
            ensure!(is_alive(pid) && left()? == 1);
            write(&world, &format!("pid-{force}.go"), "")?;
            let output = run.wait_with_output()?;
            ensure!(output.status.success(), "{output:?}");
        }
        eventually("its files are gone when it has ended", || Ok((left()? == 0).then_some(())))?;
    }
    Ok(())
}

/// P-31: from what lies here; whoever listens at the index's address is never asked.
#[test]
fn p31_the_hint_asks_no_network_and_is_no_wait() -> Result<()> {
    let world = World::new()?;
    let shop = shop(&world, &[("box", &["tool-of-box", "dotting"])])?;
    let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}/", server.local_addr()?);
    let serving = {
        let server = server.try_clone()?;
        let index = std::fs::read(shop.join("index.json"))?;
        std::thread::spawn(move || -> Result<()> {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = server.accept()?;
            let mut asked = [0; 4096];
            let _count = stream.read(&mut asked)?;
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", index.len())?;
            Ok(stream.write_all(&index)?)
        })
    };
    let hint = |name: &str| -> Result<(Option<i32>, String, Duration)> {
        let mut command = world.command(["hint", "--", name]);
        let began = Instant::now();
        let output = command.env("SHELLKEEP_PKG_INDEX", &address).output()?;
        Ok((output.status.code(), String::from_utf8(output.stdout)?, began.elapsed()))
    };
    ensure!(hint("tool-of-box")?.0 == Some(1), "it was never looked at");
    world.ok(&["pkg", "update", "--index", &address])?;
    serving.join().map_err(|_| anyhow::anyhow!("the server fell"))??;
    server.set_nonblocking(true)?;
    let all = (0..TRIES).map(|_| hint("tool-of-box")).collect::<Result<Vec<_>>>()?;
    let expected = "command not found: tool-of-box (install with: pkg install box)\n";
    ensure!(all.iter().all(|(status, said, _)| (*status, said.as_str()) == (Some(11), expected)), "{all:?}");
    ensure!(all.iter().map(|(.., took)| *took).min() < Some(AT_ONCE), "{all:?}");
    ensure!(hint("dottign")?.1 == "did you mean: dotting (install with: pkg install box)\n");
    ensure!(hint("dxttxgx")?.0 == Some(1));
    ensure!(
        server.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "the network was asked"
    );
    Ok(())
}

/// 4.4.3: a shell that marks nothing, and what is no shell, have the commands by their path; a name of the system's stays its own.
#[test]
fn commands_are_behind_all_others_on_the_path_of_every_session() -> Result<()> {
    let world = World::new()?;
    world.ok(&["pkg", "install", &source(&world, "p", "1.0.0", &["say-it", "true"])?])?;
    let session = world.session("say-it; true; exec env")?;
    world.ended(&session)?;
    let output = String::from_utf8(world.output(&session)?)?;
    ensure!(output.starts_with("say-it 1.0.0\r\n") && !output.contains("true 1.0.0"), "{output}");
    let bin = world.home().join("data/pkgs/bin");
    ensure!(output.contains(&format!("PATH=/usr/local/bin:/usr/bin:/bin:{}\r\n", bin.display())), "{output}");
    for shell in shells() {
        // Also where the user's own files set a path without it, and once only.
        let more = if shell == "fish" { "set -gx PATH /usr/bin /bin" } else { "PATH=/usr/bin:/bin" };
        let mut one = Shell::open(&world, shell, shell, more)?;
        one.says("say-it", &["say-it 1.0.0"], 0)?;
        let (lines, _) = one.run("printenv PATH")?;
        let path = lines.join("");
        ensure!(path.matches("pkgs/bin").count() == 1 && path.ends_with("pkgs/bin"), "{shell}: {path}");
    }
    Ok(())
}
