# Marks for a kept bash: where prompts and commands begin and end (OSC 133) and the directory (OSC 7).
#
# Read as $ENV by `bash --posix`, which reads no other start-up file; so it makes an ordinary bash of it first and reads
# what bash would have read. Forks nothing, neither here nor later. Everything here is called __shellkeep_*, also what is local: a
# name that the user has made readonly could not be. What bash calls begins by leaving the user's options aside, unseen under `set -x`.

builtin set +o posix
builtin shopt -u inherit_errexit 2>/dev/null # posix mode switches it on, leaving it does not switch it off
builtin unset -v ENV
if [[ -n ${SHELLKEEP_ENV+set} ]]; then
    builtin export ENV="$SHELLKEEP_ENV"
fi
__shellkeep_nonce=$SHELLKEEP_MARKS
__shellkeep_file=$SHELLKEEP_MARKS_FILE
__shellkeep_program=$SHELLKEEP_PROGRAM
__shellkeep_key=$SHELLKEEP_PALETTE_KEY
__shellkeep_revision_file=$SHELLKEEP_REVISION_FILE
__shellkeep_revision=- # not looked at yet
__shellkeep_packages=$SHELLKEEP_PACKAGES
__shellkeep_pkg='shellkeep pkg' # how it is called here
__shellkeep_completed=()
__shellkeep_tab_before=
builtin unset -v SHELLKEEP_ENV SHELLKEEP_MARKS SHELLKEEP_MARKS_FILE SHELLKEEP_PROGRAM SHELLKEEP_PALETTE_KEY SHELLKEEP_REVISION_FILE SHELLKEEP_PACKAGES
if [[ $HISTFILE == "$HOME/.sh_history" ]]; then
    HISTFILE=$HOME/.bash_history # posix mode has another one
fi

# Defined before the user's files are read: their aliases do not reach into functions that are there already.
# In a list, so that the status which it hands on neither wakes the user's ERR trap nor, under `set -e`, ends the shell. A restricted
# shell, which may redirect nothing, calls another function, that does nothing.
__shellkeep_first='"__shellkeep_done${-//[!r]/}" && :'
__shellkeep_last='"__shellkeep_prompt${-//[!r]/}"'
__shellkeep_ran=0
# Raised at each prompt and at each line that is executed: a mark that is shown again, from the record, has an old one.
__shellkeep_number=0
__shellkeep_seen=
__shellkeep_line=
__shellkeep_directory=
# A shell inside that has these prompts from the environment says 0, which counts as nothing.
__shellkeep_b="\\[\\e]133;B;sk=$__shellkeep_nonce;sn="'${__shellkeep_number-0}\a\]'
# Printed between the command line and its output. The arithmetic notes, without a fork, that a command runs.
__shellkeep_c="\\e]133;C;sk=$__shellkeep_nonce;sn=\$((\$\$-$$?0:(__shellkeep_ran=1,__shellkeep_number+=1)))\\a"

# Percent-encodes what a terminal would take for the end of the mark, or of a part of it.
__shellkeep_encode() {
    { local LC_ALL=C; } 2>/dev/null # the user's may be readonly
    local __shellkeep_text=${1//%/%25} __shellkeep_character __shellkeep_code
    __shellkeep_text=${__shellkeep_text//;/%3B}
    while [[ $__shellkeep_text == *[[:cntrl:]]* ]]; do
        __shellkeep_character=${__shellkeep_text#"${__shellkeep_text%%[[:cntrl:]]*}"}
        __shellkeep_character=${__shellkeep_character:0:1}
        builtin printf -v __shellkeep_code '%%%02X' "'$__shellkeep_character"
        __shellkeep_text=${__shellkeep_text//"$__shellkeep_character"/$__shellkeep_code}
    done
    __shellkeep_line=$__shellkeep_text
}

# The newest entry of the history, by way of a file: capturing what a builtin prints would fork. One that was there
# before is either the same line again or one that the user's settings keep out of the history: `same_url` then.
__shellkeep_entry() {
    local __shellkeep_entry='' __shellkeep_count __shellkeep_newest=(builtin history 1)
    __shellkeep_line=
    {
        local HISTTIMEFORMAT='' || __shellkeep_newest=(builtin fc -l -1 -1) # the user's is readonly: what shows no times then
        "${__shellkeep_newest[@]}" >|"$__shellkeep_file" && IFS= builtin read -r -d '' __shellkeep_entry <"$__shellkeep_file"
    } 2>/dev/null
    while [[ $__shellkeep_entry == *$'\n' ]]; do # a here-document brings one of its own
        __shellkeep_entry=${__shellkeep_entry%$'\n'}
    done
    __shellkeep_entry=${__shellkeep_entry#"${__shellkeep_entry%%[![:space:]]*}"}
    __shellkeep_count=${__shellkeep_entry%%[!0-9]*}
    __shellkeep_entry=${__shellkeep_entry#"$__shellkeep_count"}
    __shellkeep_entry=${__shellkeep_entry:2:32768}
    if [[ -z $__shellkeep_count ]]; then
        builtin return
    fi
    __shellkeep_encode "$__shellkeep_entry"
    if [[ $__shellkeep_count:$__shellkeep_entry == "$__shellkeep_seen" ]]; then
        __shellkeep_line=";same_url=$__shellkeep_line"
    else
        __shellkeep_line=";cmdline_url=$__shellkeep_line"
    fi
    __shellkeep_seen=$__shellkeep_count:$__shellkeep_entry
}

# Before the user's own prompt commands: the command has ended.
__shellkeep_done() {
    { builtin set -- "${1-$?}" && local - && builtin set +eEkTux; } 2>/dev/null
    if ((__shellkeep_ran)); then
        __shellkeep_ran=0
        __shellkeep_entry
        builtin printf '\e]133;D;%s;sk=%s;sn=%s%s\a' "$1" "$__shellkeep_nonce" "$__shellkeep_number" "$__shellkeep_line"
    fi
    builtin return "$1" # for the user's prompt commands, which may look at it
}

__shellkeep_doner() {
    builtin return "$?"
}

# What lies in the packages' directory may be gone when it is typed next, and bash would look nowhere else for it: that is never
# remembered. All places are forgotten, with what completes packages' commands, when commands of all sessions have come or gone.
__shellkeep_forget() {
    local __shellkeep_now='' __shellkeep_name
    if [[ -n $__shellkeep_packages && ${BASH_CMDS[*]-} == *"$__shellkeep_packages/bin/"* ]]; then
        for __shellkeep_name in "${!BASH_CMDS[@]}"; do
            if [[ ${BASH_CMDS[$__shellkeep_name]-} == "$__shellkeep_packages/bin/"* ]]; then
                builtin hash -d "$__shellkeep_name"
            fi
        done
    fi
    if [[ -r $__shellkeep_revision_file ]]; then
        IFS= builtin read -r __shellkeep_now <"$__shellkeep_revision_file"
    fi
    if [[ $__shellkeep_now != "$__shellkeep_revision" ]]; then
        if [[ $__shellkeep_revision != - ]]; then
            builtin hash -r
            for __shellkeep_name in "${__shellkeep_completed[@]}"; do
                builtin complete -r -- "$__shellkeep_name"
            done
            __shellkeep_completed=()
            __shellkeep_take_tab # completions of the user's may have come later
        fi
        __shellkeep_revision=$__shellkeep_now
    fi
}

# After them: the prompt begins, and says where it ends.
__shellkeep_prompt() {
    { builtin set -- "$?" && local - && builtin set +eEkTux; } 2>/dev/null
    if ((__shellkeep_ran)); then # somebody has taken the other hook away
        __shellkeep_done "$1" && :
    fi
    if [[ $PS1 != *"$__shellkeep_b" && ${PS1@a} != *r* ]]; then
        PS1=${PS1//"$__shellkeep_b"/}$__shellkeep_b
    fi
    if [[ ${PS0@a} == *r* ]]; then
        : # readonly: the user wants it as it is
    elif builtin shopt -q promptvars; then
        [[ $PS0 == *"$__shellkeep_c"* ]] || PS0=$PS0$__shellkeep_c
    else
        PS0=${PS0//"$__shellkeep_c"/} # it would be printed as it stands
    fi
    if [[ $PWD != "$__shellkeep_directory" ]]; then
        __shellkeep_directory=$PWD
        __shellkeep_encode "$PWD"
        builtin printf '\e]7;file://%s%s\a' "$HOSTNAME" "$__shellkeep_line"
    fi
    __shellkeep_forget 2>/dev/null
    ((__shellkeep_number += 1))
    builtin printf '\e]133;A;sk=%s;sn=%s\a' "$__shellkeep_nonce" "$__shellkeep_number"
}

__shellkeep_promptr() {
    :
}

# Whether a name means the program of a package: no alias, function or builtin, and nobody else's program.
__shellkeep_is_of_package() {
    local __shellkeep_text=
    {
        builtin type -t -- "$1"
        builtin type -P -- "$1"
    } >|"$__shellkeep_file"
    IFS= builtin read -r -d '' __shellkeep_text <"$__shellkeep_file"
    __shellkeep_text=${__shellkeep_text%$'\n'}
    [[ $__shellkeep_text == file$'\n'* && ${__shellkeep_text#*$'\n'} -ef $__shellkeep_packages/bin/$1 ]]
}

# Reads what a package brings to complete its command.
__shellkeep_bring() {
    { local - && builtin set +eEkTux; } 2>/dev/null
    [[ -n $1 && $1 != */* && -r $__shellkeep_packages/completions/bash/$1 ]] || builtin return
    __shellkeep_is_of_package "$1" || builtin return
    builtin source "$__shellkeep_packages/completions/bash/$1"
    builtin complete -p -- "$1" &>/dev/null && __shellkeep_completed+=("$1")
}

# Tab behind a command of which nothing is known: what its package brings, else what was asked before.
__shellkeep_tab() {
    if __shellkeep_bring "$1"; then
        builtin return 124 # once more, with that
    elif [[ -n $__shellkeep_tab_before ]]; then
        "$__shellkeep_tab_before" "$@"
    fi
}

# Tab behind `pkg`: what the program knows of its own command line, which is read when it is asked for.
__shellkeep_tab_pkg() {
    builtin declare -F __shellkeep_names >/dev/null || builtin eval "$("$__shellkeep_program" completions bash 2>/dev/null)"
    ! builtin declare -F __shellkeep_names >/dev/null || __shellkeep_names "$@"
}

# What completes commands of which nothing is known is ours, with a function that was there behind it. Words or a program of the
# user's in that place stay.
__shellkeep_take_tab() {
    local __shellkeep_text=
    builtin complete -p -D 2>/dev/null >|"$__shellkeep_file"
    IFS= builtin read -r -d '' __shellkeep_text <"$__shellkeep_file"
    case $__shellkeep_text in
    *' -F __shellkeep_tab '*) ;;
    *' -F '*)
        __shellkeep_tab_before=${__shellkeep_text##* -F }
        __shellkeep_tab_before=${__shellkeep_tab_before%%[[:space:]]*}
        builtin eval "${__shellkeep_text/" -F $__shellkeep_tab_before"/ -F __shellkeep_tab}"
        ;;
    '') builtin complete -o bashdefault -o default -F __shellkeep_tab -D ;;
    esac
}

# A name that bash does not find: that a package has it, or else what was said before shellkeep was there, and then what shellkeep
# knows of it. In a process of its own, as bash has it; a command that exists never comes here.
__shellkeep_not_found() {
    { local - && builtin set +eEkTux; } 2>/dev/null
    local __shellkeep_said __shellkeep_answer __shellkeep_status=127 __shellkeep_shown=${1//[[:cntrl:]]/?}
    __shellkeep_said=$(builtin exec "$__shellkeep_program" hint --pkg "$__shellkeep_pkg" -- "$1" 2>/dev/null)
    __shellkeep_answer=$?
    if ((__shellkeep_answer == 10)); then # the user wants that, and has agreed to this one
        builtin exec "$__shellkeep_program" run -- "$@"
    elif ((__shellkeep_answer == 11)); then # nobody knows better
        builtin printf '%s\n' "$__shellkeep_said" >&2
        builtin return 127
    elif ((__shellkeep_answer == 12)); then # a terminal would act on it as it is
        __shellkeep_shown=$__shellkeep_said
    fi
    if builtin declare -F __shellkeep_not_found_before >/dev/null; then
        __shellkeep_not_found_before "$@"
        __shellkeep_status=$?
    else
        builtin printf 'command not found: %s\n' "$__shellkeep_shown" >&2
    fi
    if [[ $__shellkeep_answer == 0 && -n $__shellkeep_said ]]; then
        builtin printf '%s\n' "$__shellkeep_said" >&2
    fi
    builtin return "$__shellkeep_status"
}

# The word before the cursor is looked for, and what is chosen is put in its place.
__shellkeep_palette() {
    { local - && builtin set +eEkTux; } 2>/dev/null
    local __shellkeep_before=${READLINE_LINE:0:READLINE_POINT} __shellkeep_word __shellkeep_chosen
    __shellkeep_word=${__shellkeep_before##*[[:space:]]}
    if __shellkeep_chosen=$(builtin exec "$__shellkeep_program" palette "--query=$__shellkeep_word" </dev/tty); then
        # No second space before one that stands there.
        if [[ ${READLINE_LINE:READLINE_POINT} == [[:space:]]* ]]; then __shellkeep_chosen=${__shellkeep_chosen% }; fi
        __shellkeep_before=${__shellkeep_before:0:${#__shellkeep_before}-${#__shellkeep_word}}$__shellkeep_chosen
        READLINE_LINE=$__shellkeep_before${READLINE_LINE:READLINE_POINT}
        READLINE_POINT=${#__shellkeep_before}
    fi
}

# Behind the user's files: what they have defined and bound stays. What a builtin lists goes by way of a file, without a fork.
__shellkeep_extend() {
    { local - && builtin set +eEkTux; } 2>/dev/null
    local __shellkeep_text='' __shellkeep_keymap
    if builtin declare -F command_not_found_handle >/dev/null; then
        builtin declare -f command_not_found_handle >|"$__shellkeep_file" &&
            IFS= builtin read -r -d '' __shellkeep_text <"$__shellkeep_file"
        builtin eval "__shellkeep_not_found_before${__shellkeep_text#command_not_found_handle}"
    fi
    command_not_found_handle() {
        __shellkeep_not_found "$@"
    }
    # Behind all others, so that a package takes nobody's name; and also where the user's files have set another path.
    if [[ -n $__shellkeep_packages && :$PATH: != *":$__shellkeep_packages/bin:"* && ${PATH@a} != *r* ]]; then
        PATH=$PATH:$__shellkeep_packages/bin
    fi
    if ! builtin type pkg &>/dev/null; then
        __shellkeep_pkg=pkg
        pkg() {
            "$__shellkeep_program" pkg "$@"
        }
        if ! builtin complete -p pkg &>/dev/null; then
            builtin complete -F __shellkeep_tab_pkg -o nosort -o bashdefault -o default pkg
        fi
    fi
    __shellkeep_take_tab
    if [[ -z $__shellkeep_key ]]; then
        builtin return
    fi
    for __shellkeep_keymap in emacs-standard vi-insert vi-command; do
        __shellkeep_text=
        {
            builtin bind -m "$__shellkeep_keymap" -p
            builtin bind -m "$__shellkeep_keymap" -s
            builtin bind -m "$__shellkeep_keymap" -X
        } >|"$__shellkeep_file"
        IFS= builtin read -r -d '' __shellkeep_text <"$__shellkeep_file"
        if [[ -n $__shellkeep_text && $__shellkeep_text != *"\"$__shellkeep_key\""* ]]; then
            builtin bind -m "$__shellkeep_keymap" -x "\"$__shellkeep_key\": __shellkeep_palette"
        fi
    done
}

# What bash would have read. Outside of any function, where `declare` means what it says.
if builtin shopt -q login_shell; then
    if [[ -r /etc/profile ]]; then
        builtin source /etc/profile
    fi
    for __shellkeep_start in ~/.bash_profile ~/.bash_login ~/.profile; do
        if [[ -r $__shellkeep_start ]]; then
            builtin source "$__shellkeep_start"
            builtin break
        fi
    done
else
    # Where it lies was decided when bash was built.
    for __shellkeep_start in /etc/bash.bashrc /etc/bash/bashrc; do
        if [[ -r $__shellkeep_start ]]; then
            builtin source "$__shellkeep_start"
            builtin break
        fi
    done
    if [[ -r ~/.bashrc ]]; then
        builtin source ~/.bashrc
    fi
fi
builtin unset -v __shellkeep_start

# Under `set -u` of the user's too.
if [[ -n ${PROMPT_COMMAND+set} && ${PROMPT_COMMAND@a} == *r* ]]; then
    : # readonly: the user wants it as it is
elif ((BASH_VERSINFO[0] > 5 || BASH_VERSINFO[0] == 5 && BASH_VERSINFO[1] >= 1)); then
    # The first one stays the user's and has ours in it: bash-preexec and its like look for themselves there alone.
    PROMPT_COMMAND[0]=$__shellkeep_first$'\n'${PROMPT_COMMAND-}
    PROMPT_COMMAND+=("$__shellkeep_last")
elif ((BASH_VERSINFO[0] == 5 || BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] >= 4)); then
    PROMPT_COMMAND=$__shellkeep_first$'\n'${PROMPT_COMMAND-}$'\n'$__shellkeep_last
fi

if [[ -n $__shellkeep_program && $- != *r* ]] && ((BASH_VERSINFO[0] > 4 || BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] >= 4)); then
    __shellkeep_extend 2>/dev/null && :
fi
