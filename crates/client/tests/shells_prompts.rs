//! Prompts and hooks that people have: with each of them the list is what was typed, and outputs are the commands' own.
#![allow(clippy::expect_used, clippy::panic)] // a test fails by panicking

mod world;

use world::World;

/// What is typed, its status, and what it prints, in any of the shells.
const LINES: [(&str, u64, &str); 7] = [
    ("echo one", 0, "one\r\n"),
    ("sh -c 'exit 3'", 3, ""),
    ("cd /usr", 0, ""),
    ("false", 1, ""),
    ("printf x", 0, "x"),
    ("cat /dev/null; echo 'two  %; three'", 0, "two  %; three\r\n"),
    ("sh -c 'echo seven; exit 7'", 7, "seven\r\n"),
];

/// What a hook prints may count to the command before it, where it runs before ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hooks {
    Silent,
    Print,
}

fn lists_what_was_typed(shell: &str, file: &str, start_up: &str, hooks: Hooks) {
    let world = World::with_daemon();
    let path = world.path().join(file);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    std::fs::write(path, start_up).expect("written");
    let mut tty = world.terminal(["start", "-n", "told", "--", shell]);
    let prompt = |tty: &mut world::Tty| {
        tty.expect("]133;A;sk=");
        tty.expect("READY>");
    };
    prompt(&mut tty);
    for (line, _, _) in LINES {
        tty.keys(format!("{line}\r"));
        prompt(&mut tty);
    }
    tty.keys("\r");
    prompt(&mut tty);
    tty.keys("exit 9\r");
    assert_eq!(tty.wait().code(), Some(9), "{start_up}");
    let output = world.run(["history", "told", "--json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let told: Vec<_> = rows.iter().map(|row| (row["command"].as_str(), row["exit_code"].as_u64())).collect();
    let typed: Vec<_> = LINES.iter().map(|(line, exit, _)| (Some(*line), Some(*exit))).collect();
    assert_eq!(told[..told.len() - 1], typed, "{shell}: {start_up}");
    assert_eq!(told.last().and_then(|last| last.0), Some("exit 9"), "{shell}: {start_up}");
    for (index, (line, _, printed)) in LINES.iter().enumerate() {
        let cwd = &rows[index]["cwd"];
        assert_eq!(cwd == "/usr", index > 2, "{cwd}");
        // By its length, and once as the user reads it.
        if hooks == Hooks::Silent {
            assert_eq!(rows[index]["output_bytes"], printed.len(), "{shell}: {line}: {start_up}");
        }
        if index == 4 {
            let output = world.run(["output", "told", "--command", "5"]).stdout;
            let output = String::from_utf8_lossy(&output).into_owned();
            assert!(output.starts_with(printed), "{shell}: {output:?}");
        }
    }
}

fn bash(start_up: &str) {
    lists_what_was_typed("bash", ".bashrc", start_up, Hooks::Silent);
}

fn zsh(start_up: &str) {
    lists_what_was_typed("zsh", ".zshrc", start_up, Hooks::Silent);
}

fn fish(start_up: &str) {
    lists_what_was_typed("fish", ".config/fish/config.fish", start_up, Hooks::Silent);
}

#[test]
fn bash_with_a_prompt_command_that_is_a_string() {
    bash("PS1='READY>'; PROMPT_COMMAND='history -a; echo -ne \"\\033]0;title\\007\"'");
    // As oh-my-bash and its like: the prompt is made anew each time, from the status.
    bash(
        "pc() { local e=$?; PS1=\"\\[\\e[31m\\]$e\\[\\e[0m\\] READY>\"; }; PROMPT_COMMAND='pc;'; \
         shopt -s histappend; HISTCONTROL=ignorespace:erasedups; HISTTIMEFORMAT='%F %T '",
    );
}

#[test]
fn bash_with_prompt_commands_in_an_array() {
    bash("PS1='none'; f() { PS1='READY>'; }; g() { return 3; }; PROMPT_COMMAND=(f g 'true; false')");
}

/// Does with `PROMPT_COMMAND` and the DEBUG trap what bash-preexec does, which looks for itself in the first element alone.
const PREEXEC: &str = r#"
bp_set() { return "${1:-0}"; }
bp_precmd() { bp_last=$?; local f; for f in "${precmd_functions[@]}"; do bp_set $bp_last; $f; done; bp_set $bp_last; }
bp_mode() { bp_on=1; }
bp_pre() {
    [[ -n $COMP_LINE || -z $bp_on ]] && return
    [[ " ${PROMPT_COMMAND[*]} " == *"$BASH_COMMAND"* ]] && return
    bp_on=
    local f
    for f in "${preexec_functions[@]}"; do $f "$BASH_COMMAND"; done
}
bp_install() {
    [[ ${PROMPT_COMMAND[*]:-} == *bp_precmd* ]] && return 1
    local before=${PROMPT_COMMAND:-}
    before=${before//trap - DEBUG; bp_install/:}
    trap 'bp_pre "$_"' DEBUG
    PROMPT_COMMAND=bp_precmd
    PROMPT_COMMAND+=$'\n'$before
    PROMPT_COMMAND+=(bp_mode)
    bp_precmd
    bp_mode
}
PROMPT_COMMAND='trap - DEBUG; bp_install'
before() { echo "[before $1]" >>"$HOME/seen"; }
after() { echo "[after $?]" >>"$HOME/seen"; }
preexec_functions+=(before)
precmd_functions+=(after)
PS1='READY>'
"#;

#[test]
fn bash_with_bash_preexec() {
    let world = World::with_daemon();
    bash(PREEXEC);
    // And its own hooks go on: with the command, and with the status.
    std::fs::write(world.path().join(".bashrc"), PREEXEC).expect("written");
    let mut tty = world.terminal(["start", "--", "bash"]);
    for line in ["true", "sh -c 'exit 5'", "echo last", "exit"] {
        tty.expect("]133;B;");
        tty.keys(format!("{line}\r"));
    }
    tty.wait();
    let seen = std::fs::read_to_string(world.path().join("seen")).expect("hooks ran");
    for told in
        ["[before true]\n[after 0]\n", "[before sh -c 'exit 5']\n[after 5]\n", "[before echo last]\n[after 0]\n"]
    {
        assert!(seen.contains(told), "{seen}");
    }
}

#[test]
fn bash_with_a_debug_trap_and_a_ps0_of_the_users() {
    bash("PS1='READY>'; trap 'last=$BASH_COMMAND' DEBUG; pc() { said=$last; }; PROMPT_COMMAND=pc");
    lists_what_was_typed("bash", ".bashrc", "PS1='READY>'; PS0='[ps0 \\t]'; PS2=x; PS4=y", Hooks::Print);
}

#[test]
fn bash_with_odd_options() {
    bash("set -u; PS1='READY>'");
    bash("set -o vi; set -o noclobber -o pipefail -o allexport; shopt -s extglob nullglob failglob; PS1='READY>'");
    bash("IFS=1; PS1='READY>'; unset HISTFILE; HISTSIZE=0");
    bash("set +o history; PS1='READY>'");
}

#[test]
fn zsh_with_hooks_a_right_prompt_and_an_asynchronous_redraw() {
    // As powerlevel10k and its like do it.
    zsh("setopt prompt_subst; autoload -Uz add-zsh-hook vcs_info; pr() { PROMPT='READY>'; RPROMPT='%F{green}%T%f' }\n\
         add-zsh-hook precmd pr; pe() { : }; add-zsh-hook preexec pe\n\
         async() { local l; read -u $1 l; zle -F $1; exec {1}<&-; zle && zle reset-prompt }\n\
         pr2() { exec {fd}< <(echo x); zle -F $fd async }; add-zsh-hook precmd pr2\n");
}

#[test]
fn zsh_with_a_transient_prompt_and_vi_mode() {
    zsh("PS1='READY>'; zle-line-finish() { PS1='> '; zle reset-prompt; PS1='READY>' }; zle -N zle-line-finish\n");
    zsh("bindkey -v; PS1='READY>'; zle-keymap-select() { zle reset-prompt }; zle -N zle-keymap-select\n\
         zle-line-init() { zle reset-prompt }; zle -N zle-line-init\n");
}

#[test]
fn zsh_with_a_precmd_that_prints() {
    zsh("precmd() { print -P '[%?]' }; PS1='READY>'\n");
}

#[test]
fn zsh_with_odd_options() {
    zsh("setopt no_unset warn_create_global err_return typeset_silent; PS1='READY>'\n");
    zsh("setopt ksh_arrays sh_word_split glob_subst null_glob extended_glob; PS1='READY>'\n");
    zsh("setopt sh_glob csh_null_glob no_multibyte octal_zeroes no_prompt_percent prompt_bang; PS1='READY>'\n");
}

#[test]
fn zsh_with_other_marks_of_a_line_without_end() {
    zsh("unsetopt prompt_sp; PS1='READY>'\n");
    zsh("PROMPT_EOL_MARK='%F{red}<-%f'; PS1='READY>'\n");
    zsh("PROMPT_EOL_MARK=''; PS1='READY>'\n");
}

#[test]
fn fish_with_a_right_prompt_and_a_prompt_of_several_lines() {
    fish(
        "function fish_prompt; set -l s $status; echo; echo \"[$s]\"; echo -n 'READY>'; end\n\
          function fish_right_prompt; echo right; end; function fish_greeting; end\n",
    );
    fish("function fish_prompt; echo -n 'READY>'; end; function fish_title; end; function fish_greeting; end\n");
}

#[test]
fn fish_with_handlers_of_the_users() {
    fish(
        "function fish_prompt; echo -n 'READY>'; end; function fish_greeting; end\n\
          function a --on-event fish_postexec; echo post; end; function b --on-event fish_preexec; echo pre; end\n\
          function c --on-event fish_prompt; false; end\n",
    );
}

#[test]
fn fish_in_vi_mode() {
    fish(
        "fish_vi_key_bindings; function fish_prompt; echo -n 'READY>'; end; function fish_greeting; end\n\
          function fish_mode_prompt; end\n",
    );
}
