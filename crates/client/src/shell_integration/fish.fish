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
    # Raised at each prompt and at each line that is executed: a mark that is shown again, from the record, has an old one.
    # Its last digits are taken off a list: capturing what `math` prints each time costs as much as all else here.
    set -g __shellkeep_hundreds 0
    set -g __shellkeep_ahead
    set -g __shellkeep_number
    function __shellkeep_raise
        set -e __shellkeep_ahead[1]
        if not set -q __shellkeep_ahead[1]
            set -g __shellkeep_hundreds (builtin math $__shellkeep_hundreds + 1)
            for tens in 0 1 2 3 4 5 6 7 8 9 # two braces would not come in order
                set -ga __shellkeep_ahead $tens{0,1,2,3,4,5,6,7,8,9}
            end
        end
        set -g __shellkeep_number $__shellkeep_hundreds$__shellkeep_ahead[1]
    end

    function __shellkeep_last
        function __shellkeep_preexec --on-event fish_preexec
            set -l line (string escape --style=url -- (string sub --length 32768 -- $argv[1] | string collect))
            __shellkeep_raise
            # lead: what fish prints before the command does, up to the next carriage return, is none of the command's.
            builtin printf '\e]133;C;sk=%s;sn=%s;lead;cmdline_url=%s\a' \
                $__shellkeep_nonce $__shellkeep_number "$line"
        end
    end

    function __shellkeep_postexec --on-event fish_postexec
        builtin printf '\e]133;D;%s;sk=%s;sn=%s\a' $status $__shellkeep_nonce $__shellkeep_number
    end

    function __shellkeep_prompt --on-event fish_prompt
        # Made at the first prompt, and so called behind the user's own: what those print is not the command's.
        functions -q __shellkeep_preexec; or __shellkeep_last
        if builtin test "$PWD" != "$__shellkeep_directory"
            set -g __shellkeep_directory $PWD
            set -g __shellkeep_url (string escape --style=url -- $PWD)
        end
        __shellkeep_raise
        builtin printf '\e]7;file://%s%s\a\e]133;A;sk=%s;sn=%s\a' \
            $hostname "$__shellkeep_url" $__shellkeep_nonce $__shellkeep_number
    end
end
