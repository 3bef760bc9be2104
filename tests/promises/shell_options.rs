//! Whatever their user has set, shells go on, and nothing of ours is seen in them.

use anyhow::{Result, ensure};

use crate::packages_shells::{Shell, shop};
use crate::prompt_shells::{PROMPT, history, kept, shells, shows, shows_times};
use crate::world::World;

/// Names that scripts use, made readonly; and what a shell can be told to do otherwise.
fn settings(shell: &str) -> &'static [&'static str] {
    match shell {
        "bash" => &[
            "readonly said answer status=1 file text=2 entry name revision=3 word chosen before keymap number character code",
            "readonly HISTTIMEFORMAT='%F ' LC_ALL=C.UTF-8 PS0 PS1 PATH",
            "set -k",
            "set -u",
            "set -o noglob",
            "shopt -s failglob nullglob nocasematch extglob",
            "set -o noclobber; IFS=er",
            "trap 'echo wrong' ERR; set -E",
            "set -T; trap ': \"$BASH_COMMAND\"' DEBUG",
            "set +eEkTux +o noglob; set -e",
        ],
        "zsh" => &[
            "readonly said answer=1 file text=2 line name revision=3 word chosen keymap names lines",
            "setopt ksh_arrays sh_word_split glob_subst",
            "setopt null_glob no_unset",
            "setopt warn_create_global warn_nested_var",
            "setopt no_clobber ksh_glob complete_aliases; IFS=er",
            "trap 'echo wrong' ZERR",
            "setopt err_exit",
        ],
        _ => &["set -g said 1; set -g file 2; set -g name 3; set -g revision 4; set -g answer 5"],
    }
}

#[test]
fn prompts_hints_tab_and_pkg_go_on_and_are_silent_under_all_options() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        shop(&world, &[("box", &["tool-of-box"]), ("crate", &["tool-of-crate"])])?;
        let more = if shell == "zsh" { "autoload -Uz compinit; compinit" } else { "" };
        let mut one = Shell::open(&world, shell, "work", more)?;
        for setting in settings(shell) {
            one.says(setting, &[], 0)?;
            one.says("true", &[], 0)?;
            one.says("pkg list --json", &["[]"], 0)?;
            if !setting.contains("set -e") && !setting.contains("err_exit") {
                let hint = "command not found: tool-of-box (install with: pkg install box)";
                let said = one.run("tool-of-box")?;
                let lines: Vec<&str> = said.0.iter().map(String::as_str).filter(|line| *line != "wrong").collect();
                ensure!(lines == [hint] && said.1 == 127, "{shell}: {setting}: {said:?}");
            }
            for (keys, expected) in [
                ("pkg inst\tbo\t", "installed box 1.0.0: tool-of-box"),
                ("tool-of-b\t --o\t", "tool-of-box 1.0.0 --of-1.0.0"),
                ("pkg rem\tbo\t", "removed box 1.0.0"),
            ] {
                let said = one.type_line(&format!("{keys}\r"))?;
                ensure!(said.0 == [expected] && said.1 == 0, "{shell}: {setting}: {keys:?}: {said:?}");
            }
        }
        let told = history(&world)?;
        ensure!(
            told.iter().filter(|(line, status)| line == "true" && *status == Some(0)).count() == settings(shell).len()
        );
        let shown = one.shown();
        ensure!(!shown.contains("__shellkeep") && !shown.contains("readonly var"), "{shell}: {shown:?}");
    }
    Ok(())
}

/// What a line leaves for the next one.
#[test]
fn what_a_command_leaves_for_the_next_line_is_left() -> Result<()> {
    for shell in shells() {
        let world = World::new()?;
        let mut one = Shell::open(&world, shell, "work", "")?;
        let (line, look) = match shell {
            "bash" => ("false | (exit 3)", "echo \"$? ${PIPESTATUS[*]}\""),
            "zsh" => ("false | (exit 3)", "echo \"$? $pipestatus\""),
            _ => ("false | sh -c 'exit 3'", "echo $status $pipestatus"),
        };
        one.says(line, &[], 3)?;
        one.says(look, &["3 1 3"], 0)?;
        if shell != "fish" {
            one.says("true last", &[], 0)?;
            one.says("echo $_", &["last"], 0)?;
        }
    }
    Ok(())
}

/// A restricted shell may redirect nothing: it is left alone.
#[test]
fn a_restricted_bash_says_nothing_of_ours() -> Result<()> {
    let world = World::new()?;
    let mut screen = kept(&world, "bash", "")?;
    for (line, prompts) in [("set -r", 2), ("echo a-$((40+2))", 3), ("false", 4)] {
        screen.keys(format!("{line}\r").as_bytes())?;
        shows_times(&screen, PROMPT, prompts)?;
    }
    screen.keys(b"echo status-$?\r")?;
    shows(&screen, "status-1")?;
    let shown = String::from_utf8_lossy(&screen.shown()).into_owned();
    ensure!(!shown.contains("restricted"), "{shown:?}");
    Ok(())
}
