# Marks for a kept zsh: where prompts and commands begin and end (OSC 133) and the directory (OSC 7).
#
# Lies as .zshenv in the directory that ZDOTDIR names; so it gives ZDOTDIR back first, and zsh finds the user's own
# files from there on. Forks nothing, neither here nor later. Everything here is called __shellkeep_*, also what is local: a name that the
# user has made readonly could not be.

if [[ -n ${SHELLKEEP_ZDOTDIR+set} ]]; then
    builtin export ZDOTDIR=$SHELLKEEP_ZDOTDIR
else
    builtin unset ZDOTDIR
fi
__shellkeep_nonce=$SHELLKEEP_MARKS
__shellkeep_file=$SHELLKEEP_MARKS_FILE
__shellkeep_program=$SHELLKEEP_PROGRAM
__shellkeep_key=$SHELLKEEP_PALETTE_KEY
__shellkeep_revision_file=$SHELLKEEP_REVISION_FILE
__shellkeep_packages=$SHELLKEEP_PACKAGES
__shellkeep_pkg='shellkeep pkg' # how it is called here
builtin unset SHELLKEEP_ZDOTDIR SHELLKEEP_MARKS SHELLKEEP_MARKS_FILE SHELLKEEP_PROGRAM SHELLKEEP_PALETTE_KEY SHELLKEEP_REVISION_FILE SHELLKEEP_PACKAGES

# Defined before the user's files are read: their aliases do not reach into functions that are there already.
typeset -gi __shellkeep_ran=0
# Raised at each prompt and at each line that is executed: a mark that is shown again, from the record, has an old one.
typeset -gi __shellkeep_number=0
typeset -g __shellkeep_text=
typeset -g __shellkeep_revision=- # not looked at yet
typeset -ga __shellkeep_completed
typeset -g __shellkeep_default_before= __shellkeep_command_before= __shellkeep_pkg_before=
typeset -g __shellkeep_b=$'%{\e]133;B;sk='$__shellkeep_nonce';sn=' __shellkeep_b_end=$'\a%}'

# Percent-encodes what a terminal would take for the end of the mark, or of a part of it; byte by byte, so that other bytes pass unchanged.
__shellkeep_encode() {
    builtin emulate -L zsh -o no_xtrace -o extended_glob -o no_multibyte
    local MATCH MBEGIN MEND
    __shellkeep_text=${1//(#m)[[:cntrl:]%;]/%${(l:2::0:)$(([##16]#MATCH))}}
}

__shellkeep_preexec() {
    builtin emulate -L zsh -o no_xtrace
    ((__shellkeep_ran = 1, __shellkeep_number += 1))
    __shellkeep_encode "${${1:-$3}[1,32768]}"
    builtin print -rn -- $'\e]133;C;sk='$__shellkeep_nonce';sn='$__shellkeep_number';cmdline_url='$__shellkeep_text$'\a'
}

# Before the user's own hooks: the command has ended.
__shellkeep_precmd() {
    local -i __shellkeep_status=$? __shellkeep_fills=0
    [[ -o prompt_sp && -o prompt_cr ]] && __shellkeep_fills=1
    builtin emulate -L zsh -o no_xtrace
    if [[ -n $__shellkeep_program ]]; then
        __shellkeep_extend 2>/dev/null
    fi
    if ((__shellkeep_ran)); then
        __shellkeep_ran=0
        __shellkeep_text=
        if ((__shellkeep_fills)); then
            # What zsh has printed behind the output, so that the prompt begins a line: it is none of the command's.
            __shellkeep_encode "${(%)${PROMPT_EOL_MARK-%B%S%#%s%b}}"
            __shellkeep_text=";fill=$__shellkeep_text"
        fi
        builtin print -rn -- $'\e]133;D;'$__shellkeep_status';sk='$__shellkeep_nonce';sn='$__shellkeep_number$__shellkeep_text$'\a'
    fi
    if ((${+_comps})) && [[ -n $__shellkeep_packages ]]; then
        __shellkeep_take_tab 2>/dev/null
    fi
    # Prompts are made by hooks that came later: ours that marks the prompt goes behind them.
    if [[ ${precmd_functions[-1]} != __shellkeep_prompt ]]; then
        precmd_functions=(${precmd_functions:#__shellkeep_prompt} __shellkeep_prompt)
    fi
}

# Commands of all sessions have come or gone: the places of programs that zsh remembers may be wrong, and what completes them.
__shellkeep_forget() {
    local __shellkeep_now=
    if [[ -r $__shellkeep_revision_file ]]; then
        IFS= builtin read -r __shellkeep_now <"$__shellkeep_revision_file"
    fi
    if [[ $__shellkeep_now != "$__shellkeep_revision" ]]; then
        if [[ $__shellkeep_revision != - ]]; then
            builtin rehash
            if ((${#__shellkeep_completed})); then
                builtin unfunction -- $__shellkeep_completed
                __shellkeep_completed=()
            fi
        fi
        __shellkeep_revision=$__shellkeep_now
    fi
}

# After them: the prompt begins, and says where it ends.
__shellkeep_prompt() {
    local __shellkeep_percent=0
    [[ -o prompt_percent ]] && __shellkeep_percent=1
    builtin emulate -L zsh -o no_xtrace
    __shellkeep_forget 2>/dev/null
    ((__shellkeep_number += 1))
    PS1=${PS1//"$__shellkeep_b"<->"$__shellkeep_b_end"/}
    ((__shellkeep_percent)) && PS1+=$__shellkeep_b$__shellkeep_number$__shellkeep_b_end
    __shellkeep_encode "$PWD"
    builtin print -rn -- $'\e]7;file://'$HOST$__shellkeep_text$'\a\e]133;A;sk='$__shellkeep_nonce';sn='$__shellkeep_number$'\a'
}

# What the completion system calls for commands, and for arguments of which nothing is known, asks us first; so does what it has for
# another `pkg` than ours. The functions are wrapped and not its tables, which it saves for other shells.
__shellkeep_take_tab() {
    builtin setopt no_aliases # what is defined here was read with them already
    if [[ -z $__shellkeep_default_before ]]; then
        __shellkeep_default_before=${_comps[-default-]}
        __shellkeep_wrap "$__shellkeep_default_before" __shellkeep_default_of_user '__shellkeep_tab_default "$@"'
    fi
    if [[ -z $__shellkeep_command_before ]]; then
        __shellkeep_command_before=${_comps[-command-]}
        __shellkeep_wrap "$__shellkeep_command_before" __shellkeep_command_of_user \
            '__shellkeep_forget 2>/dev/null; __shellkeep_command_of_user "$@"'
    fi
    if [[ -z $__shellkeep_pkg_before ]]; then
        __shellkeep_pkg_before=${_comps[pkg]}
        __shellkeep_wrap "$__shellkeep_pkg_before" __shellkeep_pkg_of_user '__shellkeep_tab_pkg || __shellkeep_pkg_of_user "$@"'
    fi
}

# Keeps what a function does under another name, and gives it another body.
__shellkeep_wrap() {
    if [[ -n $1 && -n ${functions[$1]} ]]; then
        builtin autoload +X -Uz -- "$1"
        functions[$2]=$functions[$1]
        functions[$1]=$3
    fi
}

# Whether a name means the program of a package: no alias, function or builtin, and nobody else's program.
__shellkeep_is_of_package() {
    ((!${+aliases[$1]} && !${+functions[$1]} && !${+builtins[$1]} && !${reswords[(Ie)$1]})) &&
        [[ ${commands[$1]} -ef $__shellkeep_packages/bin/$1 ]]
}

# Tab behind a command of which nothing is known: what its package brings, if it is still there, else what was asked before.
__shellkeep_tab_default() {
    local __shellkeep_directory=$__shellkeep_packages/completions/zsh __shellkeep_name=_$words[1]
    __shellkeep_tab_pkg && return
    __shellkeep_forget 2>/dev/null
    if [[ -n $words[1] && $words[1] != */* && -r $__shellkeep_directory/$__shellkeep_name ]] &&
        __shellkeep_is_of_package "$words[1]"; then
        if ((!${+functions[$__shellkeep_name]})); then
            () {
                local -a fpath=($__shellkeep_directory $fpath)
                builtin autoload +X -Uz $__shellkeep_name && __shellkeep_completed+=($__shellkeep_name)
            }
        fi
        local service=$words[1]
        $__shellkeep_name "$@" && return
    fi
    __shellkeep_default_of_user "$@"
}

# Tab behind our own `pkg`: what the program knows of its own command line, which is read when it is asked for; but not that the
# completion system is told of it, which would save that too.
__shellkeep_tab_pkg() {
    [[ $words[1] == pkg && $__shellkeep_pkg == pkg && ${functions[pkg]} == *__shellkeep_hint* ]] || return
    if ((!${+functions[__shellkeep_names]})); then
        builtin eval "${"$("$__shellkeep_hint" completions zsh 2>/dev/null)"%$'\nif '*}"
    fi
    if ((${+functions[__shellkeep_names]})); then
        __shellkeep_names
    fi
    return 0
}

# A name that zsh does not find: that a package has it, or else what was said before shellkeep was there, and then what shellkeep
# knows of it. In a process of its own, as zsh has it; a command that exists never comes here. With the user's options: their handler
# is called.
__shellkeep_not_found() {
    local __shellkeep_said __shellkeep_shown=${1//[[:cntrl:]]/?}
    local -i __shellkeep_answer=0 __shellkeep_status=127
    __shellkeep_said="$("$__shellkeep_hint" hint --pkg "$__shellkeep_pkg" -- "$1" 2>/dev/null)" || __shellkeep_answer=$?
    if ((__shellkeep_answer == 10)); then # the user wants that, and has agreed to this one
        "$__shellkeep_hint" run -- "$@"
        return $?
    fi
    if ((__shellkeep_answer == 11)); then # nobody knows better
        builtin print -ru2 -- "$__shellkeep_said"
        return 127
    fi
    if ((__shellkeep_answer == 12)); then # a terminal would act on it as it is
        __shellkeep_shown=$__shellkeep_said
    fi
    if ((${+functions[__shellkeep_not_found_before]})); then
        __shellkeep_status=0
        __shellkeep_not_found_before "$@" || __shellkeep_status=$?
    else
        builtin print -ru2 -- "command not found: $__shellkeep_shown"
    fi
    if ((__shellkeep_answer == 0)) && [[ -n $__shellkeep_said ]]; then
        builtin print -ru2 -- "$__shellkeep_said"
    fi
    return $__shellkeep_status
}

# The word before the cursor is looked for, and what is chosen is put in its place.
__shellkeep_palette() {
    builtin emulate -L zsh -o no_xtrace
    local __shellkeep_word=${LBUFFER##*[[:space:]]} __shellkeep_chosen
    if __shellkeep_chosen="$("$__shellkeep_hint" palette "--query=$__shellkeep_word" </dev/tty)"; then
        [[ $RBUFFER == [[:space:]]* ]] && __shellkeep_chosen=${__shellkeep_chosen% } # no second space before one that stands there
        LBUFFER=${LBUFFER[1,$((${#LBUFFER} - ${#__shellkeep_word}))]}$__shellkeep_chosen
    fi
    builtin zle reset-prompt
}

# At the first prompt, behind the user's files: what they have defined and bound stays. What a builtin lists goes by way of a
# file, without a fork.
__shellkeep_extend() {
    local __shellkeep_keymap __shellkeep_bound
    typeset -g __shellkeep_hint=$__shellkeep_program __shellkeep_program=
    if ((${+functions[command_not_found_handler]})); then
        functions[__shellkeep_not_found_before]=$functions[command_not_found_handler]
    fi
    command_not_found_handler() {
        __shellkeep_not_found "$@"
    }
    # Behind all others, so that a package takes nobody's name; and also where the user's files have set another path.
    if [[ -n $__shellkeep_packages && :$PATH: != *:"$__shellkeep_packages/bin":* ]]; then
        PATH=$PATH:$__shellkeep_packages/bin
    fi
    if ! builtin whence pkg >/dev/null; then
        __shellkeep_pkg=pkg
        pkg() {
            "$__shellkeep_hint" pkg "$@"
        }
    fi
    if [[ -z $__shellkeep_key ]]; then
        return
    fi
    builtin zle -N __shellkeep_palette
    for __shellkeep_keymap in emacs viins vicmd; do
        __shellkeep_bound=
        builtin bindkey -M $__shellkeep_keymap -- "$__shellkeep_key" >|"$__shellkeep_file" &&
            IFS= builtin read -r __shellkeep_bound <"$__shellkeep_file"
        if [[ $__shellkeep_bound == *' undefined-key' ]]; then
            builtin bindkey -M $__shellkeep_keymap -- "$__shellkeep_key" __shellkeep_palette
        fi
    done
}

if [[ -o interactive ]]; then
    typeset -ga precmd_functions preexec_functions
    precmd_functions+=(__shellkeep_precmd __shellkeep_prompt)
    preexec_functions+=(__shellkeep_preexec)
fi

if [[ -r ${ZDOTDIR-$HOME}/.zshenv ]]; then
    builtin source "${ZDOTDIR-$HOME}/.zshenv"
fi
