//! Tab behind commands of packages and behind `pkg`, in shells that are open already.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::packages_shells::{Shell, names, shop, source};
use crate::prompt_shells::{shells, write};
use crate::world::{World, eventually, skipped};

/// Types a line with a Tab in it, which must then print this.
fn tabbed(shell: &mut Shell, keys: &str, expected: &str) -> Result<()> {
    let (said, _) = shell.type_line(&format!("{keys}\r"))?;
    ensure!(said.iter().any(|line| line == expected), "{}: {keys:?}: {said:?}, not {expected:?}", shell.name());
    Ok(())
}

/// The word by which shells know that commands have come or gone, as soon as it is not `before`.
fn revised(world: &World, before: &str) -> Result<String> {
    eventually("shells are told", || {
        let now = std::fs::read_to_string(world.home().join("state/registry/revision")).unwrap_or_default();
        Ok((now != before).then_some(now))
    })
}

/// What makes a shell complete as most users have it.
fn usual(shell: &str) -> &'static str {
    if shell == "zsh" { "autoload -Uz compinit; compinit" } else { "" }
}

/// Names by PATH, arguments by what the package brings; in shells that were open before, and of the release that is installed.
#[test]
fn tab_completes_what_is_installed_in_an_open_shell_and_no_more_what_is_removed() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        let (one, two) = (source(&world, "p", "1.0.0", &["tell-it"])?, source(&world, "p", "2.0.0", &["tell-it"])?);
        let more = match shell {
            "zsh" => "autoload -Uz compinit; compinit -D",
            // What bash-completion does, for all that nobody else knows.
            "bash" => "_mine() { COMPREPLY=(of-mine-$2); }; complete -F _mine -D",
            _ => "",
        };
        let mut open = Shell::open(&world, shell, "one", more)?;
        let mut tabbed = |keys: &str, expected: &str| tabbed(&mut open, keys, expected);
        world.ok(&["pkg", "install", &one])?;
        // The name at the prompt that was there before, and its arguments.
        ensure!(names(&world, None, "package")? == ["tell-it"]);
        tabbed("tell-\t-x", "tell-it 1.0.0 -x")?;
        tabbed("tell-it --o\t", "tell-it 1.0.0 --of-1.0.0")?;
        if shell == "bash" {
            tabbed("printf ab\t", "of-mine-ab")?;
        }
        let first = revised(&world, "")?;
        world.ok(&["pkg", "upgrade", &two])?;
        let second = revised(&world, &first)?;
        tabbed("true; echo a", "a")?;
        tabbed("tell-it --o\t", "tell-it 2.0.0 --of-2.0.0")?;
        world.ok(&["pkg", "remove", "p"])?;
        revised(&world, &second)?;
        tabbed("echo b", "b")?;
        tabbed("echo tell-; : tell-\t -x", "tell-")?;
        tabbed("tell-it --o\t", "command not found: tell-it")?;
        let shown = open.shown();
        let last = shown.rsplit("tell-it --o").next().unwrap_or_default();
        ensure!(!last.starts_with("f-2"), "{shell}: {last:?}");
    }
    Ok(())
}

/// fish forgets for good what it has read of others when its list of their directories changes.
#[test]
fn what_completes_other_programs_outlives_all_packages() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        write(&world, ".config/fish/completions/other.fish", "complete -c other -f -a --of-other\n")?;
        let more = match shell {
            "fish" => "function other; echo other $argv; end",
            "zsh" => {
                "autoload -Uz compinit; compinit -D; other() { echo other $1 }; _o() { compadd -- --of-other }; compdef _o other"
            }
            _ => "other() { echo other $1; }; complete -W --of-other other",
        };
        let mut open = Shell::open(&world, shell, "one", more)?;
        tabbed(&mut open, "other --o\t", "other --of-other")?;
        let (mut told, mut words) = (revised(&world, "")?, Vec::new());
        for version in ["1.0.0", "2.0.0"] {
            words.push(source(&world, "p", version, &["tell-it"])?);
        }
        for args in [["install", &words[0]], ["upgrade", &words[1]], ["remove", "p"], ["install", &words[0]]] {
            world.ok(&["pkg", args[0], args[1]])?;
            told = revised(&world, &told)?;
            tabbed(&mut open, "true; echo a", "a")?;
            tabbed(&mut open, "other --o\t", "other --of-other")?;
        }
        // Nor is what came back looked for in vain.
        tabbed(&mut open, "tell-it --o\t", "tell-it 1.0.0 --of-1.0.0")?;
    }
    Ok(())
}

/// A completion file is a program of somebody's: it is read for the package's command and for nothing else of that name.
#[test]
fn what_a_package_completes_is_read_only_where_the_name_is_its_own() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        let commands = ["tell-it", "my-tool", "my-function", "my-alias", "disown", "my-words", "7it.x+", "zz++"];
        world.ok(&["pkg", "install", &source(&world, "p", "1.0.0", &commands)?])?;
        write(&world, "bin/my-tool", "#!/bin/sh\necho mine\n")?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(world.outside().join("bin/my-tool"), mode)?;
        let own = match shell {
            "fish" => {
                "function my-function; echo mine; end; alias my-alias 'echo mine'; complete -c my-words -f -a --of-mine"
            }
            "zsh" => {
                "my-function() { echo mine }; alias my-alias='echo mine'; _w() { compadd -- --of-mine }; compdef _w my-words"
            }
            _ => "my-function() { echo mine; }; alias my-alias='echo mine'; complete -W --of-mine my-words",
        };
        let mut open = Shell::open(&world, shell, "one", &format!("{}\n{own}", usual(shell)))?;
        for name in &commands[1..5] {
            open.type_line(&format!("{name} --o\t\r"))?;
        }
        tabbed(&mut open, "my-words --o\t", "my-words 1.0.0 --of-mine")?;
        let read = || std::fs::read_to_string(world.outside().join("read")).unwrap_or_default();
        ensure!(read().is_empty(), "{shell}: {}", read());
        tabbed(&mut open, "tell-it --o\t", "tell-it 1.0.0 --of-1.0.0")?;
        ensure!(read().lines().all(|line| line == "tell-it") && !read().is_empty(), "{shell}: {}", read());
        // Names are names, whatever they would be to the shell's arithmetic.
        tabbed(&mut open, "7it.x+ --o\t", "7it.x+ 1.0.0 --of-1.0.0")?;
        if shell != "fish" {
            open.says("zz=1", &[], 0)?;
            tabbed(&mut open, "zz++ --o\t", "zz++ 1.0.0 --of-1.0.0")?;
            open.says("echo $zz", &["1"], 0)?;
        }
    }
    Ok(())
}

/// fish brings completions for hundreds of programs: a package's command is not one of them, whatever it is called, and they are not lost.
#[test]
fn what_fish_brings_goes_behind_a_package_and_before_nothing() -> Result<()> {
    if !shells().any(|shell| shell == "fish") {
        return Ok(());
    }
    let is_plain = |name: &String| name.len() > 4 && name.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_here =
        |name: &String| ["/bin", "/usr/bin", "/sbin", "/usr/sbin"].iter().any(|at| Path::new(at).join(name).exists());
    let brought = std::fs::read_dir("/usr/share/fish/completions").into_iter().flatten().flatten();
    let brought = brought.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".fish").map(str::to_owned));
    let mut names: Vec<String> = brought.filter(|name| is_plain(name) && !is_here(name)).collect();
    names.sort();
    let [package, mine] = &names.get(..2).unwrap_or_default() else {
        skipped("fish brings no completions here");
        return Ok(());
    };
    let world = World::new()?;
    world.ok(&["pkg", "install", &source(&world, "p", "1.0.0", &[package, mine])?])?;
    write(&world, &format!("bin/{mine}"), "#!/bin/sh\necho mine\n")?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(world.outside().join("bin").join(mine), mode)?;
    let mut open = Shell::open(&world, "fish", "one", "")?;
    tabbed(&mut open, &format!("{package} --o\t"), &format!("{package} 1.0.0 --of-1.0.0"))?;
    let own = format!(
        "complete --do-complete '{mine} -' | grep -c of-1; complete -c {mine} | grep -vc of-1 | sed 's/^[1-9].*/some/'"
    );
    open.says(&own, &["0", "some"], 0)?;
    Ok(())
}

/// `pkg` is ours in the shell although shells know another; names are those of the index, and those that are installed.
#[test]
fn tab_completes_pkg_and_the_names_of_packages() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        shop(&world, &[("box", &["tool-of-box"]), ("crate", &["tool-of-crate"])])?;
        source(&world, "q", "1.0.0", &["q"])?;
        let mut open = Shell::open(&world, shell, "one", usual(shell))?;
        tabbed(&mut open, "pkg inst\tbo\t", "installed box 1.0.0: tool-of-box")?;
        tabbed(&mut open, "pkg install \t", "installed crate 1.0.0: tool-of-crate")?;
        // As soon as it is there, without a word of the user's.
        tabbed(&mut open, "tool-of-c\tx", "tool-of-crate 1.0.0 x")?;
        tabbed(&mut open, "pkg verify --j\tbo\t | cut -c 1-15", "[{\"name\":\"box\",")?;
        tabbed(&mut open, "pkg rem\tcr\t", "removed crate 1.0.0")?;
        tabbed(&mut open, "pkg build ./fr\tq\t >/dev/null && echo bu''ilt", "built")?;
        tabbed(&mut open, "pkg rem\t\t", "removed box 1.0.0")?;
        if shell == "bash" {
            open.says("complete -p pkg | grep -c __shellkeep", &["1"], 0)?;
        }
        let shown = open.shown();
        ensure!(!shown.contains("_pkg") && !shown.contains("manifest"), "{shell}: {shown:?}");
    }
    Ok(())
}

/// The same below the program's own name, where each word is offered what may stand there.
#[test]
fn tab_completes_shellkeep_pkg_with_what_may_stand_there_and_nothing_else() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        shop(&world, &[("box", &["tool-of-box"])])?;
        write(&world, "completions", &world.ok(&["completions", shell])?)?;
        let more = format!("{}\nsource ~/completions", usual(shell));
        let mut open = Shell::open(&world, shell, "one", &more)?;
        tabbed(&mut open, "shellkeep pkg inst\tbo\t", "installed box 1.0.0: tool-of-box")?;
        tabbed(&mut open, "shellkeep pkg rem\tb\t", "removed box 1.0.0")?;
        open.list("shellkeep pkg \t\t", "rollback")?;
        let shown = open.shown();
        ensure!(!shown.contains("detach"), "{shell}: the commands of shellkeep are no commands of pkg: {shown:?}");
    }
    Ok(())
}
