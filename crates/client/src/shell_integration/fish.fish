# Marks for a kept fish: where prompts and commands begin and end (OSC 133) and the directory (OSC 7).
#
# Lies among the vendors' files in a directory that XDG_DATA_DIRS names, and gives that variable back first. Forks
# nothing, neither here nor later. Everything here is called __shellkeep_*.

if set -q SHELLKEEP_XDG_DATA_DIRS
    set -gx XDG_DATA_DIRS $SHELLKEEP_XDG_DATA_DIRS
else
    set -e XDG_DATA_DIRS
end
set -g __shellkeep_nonce $SHELLKEEP_MARKS
set -e SHELLKEEP_XDG_DATA_DIRS SHELLKEEP_MARKS SHELLKEEP_MARKS_FILE

if status is-interactive
    function __shellkeep_preexec --on-event fish_preexec
        set -l line (string escape --style=url -- (string sub --length 32768 -- $argv[1] | string collect))
        builtin printf '\e]133;C;sk=%s;cmdline_url=%s\a' $__shellkeep_nonce "$line"
    end

    function __shellkeep_postexec --on-event fish_postexec
        builtin printf '\e]133;D;%s;sk=%s\a' $status $__shellkeep_nonce
    end

    function __shellkeep_prompt --on-event fish_prompt
        set -l directory (string escape --style=url -- $PWD)
        builtin printf '\e]7;file://%s%s\a\e]133;A;sk=%s\a' $hostname "$directory" $__shellkeep_nonce
    end
end
