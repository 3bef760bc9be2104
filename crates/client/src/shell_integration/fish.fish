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
set -g __shellkeep_program $SHELLKEEP_PROGRAM
set -g __shellkeep_key $SHELLKEEP_PALETTE_KEY
set -g __shellkeep_revision_file $SHELLKEEP_REVISION_FILE
set -g __shellkeep_packages $SHELLKEEP_PACKAGES
set -g __shellkeep_pkg shellkeep pkg # how it is called here
set -e SHELLKEEP_XDG_DATA_DIRS SHELLKEEP_MARKS SHELLKEEP_MARKS_FILE SHELLKEEP_PROGRAM SHELLKEEP_PALETTE_KEY
set -e SHELLKEEP_REVISION_FILE SHELLKEEP_PACKAGES
set -g __shellkeep_completions $__shellkeep_packages/completions/fish

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

    # Behind what the user and this machine have of their own, and before what fish brings for programs that may have the same name. And
    # here, where nothing was read yet: when this list changes, fish forgets what it has read, and reads it no more.
    if builtin test -n "$__shellkeep_packages"
        set -l own
        set -l others
        for directory in $fish_complete_path
            if builtin test -z "$others"; and string match --quiet --regex "^($__fish_config_dir|$__fish_sysconf_dir)/" $directory
                set -a own $directory
            else
                set -a others $directory
            end
        end
        set -g fish_complete_path $own $__shellkeep_packages/completions/fish-asks $others
    end

    # fish wants what completes a command, which is asked for once. From then on it is ours to look after, if it is a package's.
    function __shellkeep_asked
        set -l name (string replace --regex '^.*/(.*)\.fish$' '$1' -- $argv[1])
        if not contains -- $name $__shellkeep_names
            set -ga __shellkeep_names $name
            __shellkeep_complete $name; and return
            set -l at (contains --index -- $__shellkeep_packages/completions/fish-asks $fish_complete_path)
            for directory in $fish_complete_path[$at..]
                if builtin test -r $directory/$name.fish -a $directory/$name.fish != $argv[1]
                    source $directory/$name.fish
                    return
                end
            end
        end
    end

    # Reads what the package brings to complete its command; false if the name means something else here, or is completed already.
    function __shellkeep_complete --argument-names __shellkeep_name
        set -l file (builtin realpath -- $__shellkeep_completions/$__shellkeep_name.fish 2>/dev/null)
        set -l program (builtin realpath -- $__shellkeep_packages/bin/$__shellkeep_name 2>/dev/null)
        if builtin test -r "$file" -a -x "$program"
            and not functions --query -- $__shellkeep_name
            and not builtin --query -- $__shellkeep_name
            and builtin test "$(builtin realpath -- (command --search -- $__shellkeep_name) 2>/dev/null)" = "$program"
            and builtin test -z "$(complete --command $__shellkeep_name)"
            set -g __shellkeep_file_(string escape --style=var -- $__shellkeep_name) $file
            source $file
            return 0
        end
        return 1
    end

    # Commands of all sessions have come or gone: what completes those of packages may be another, or none.
    function __shellkeep_forget
        set -l revision
        if builtin test -r "$__shellkeep_revision_file"
            builtin read revision <$__shellkeep_revision_file
        end
        builtin test "$revision" = "$__shellkeep_revision"; and return
        set -g __shellkeep_revision $revision
        for name in $__shellkeep_names
            set -l known __shellkeep_file_(string escape --style=var -- $name)
            if set -q $known
                builtin test "$(builtin realpath -- $__shellkeep_completions/$name.fish 2>/dev/null)" = "$$known"; and continue
                complete --erase --command $name
                set -e $known
            end
            __shellkeep_complete $name
        end
    end

    # A name that fish does not find: that a package has it, or else what was said before shellkeep was there, and then what
    # shellkeep knows of it. A command that exists never comes here.
    function __shellkeep_not_found
        set -l shown (string replace --all --regex '[[:cntrl:]]' '?' -- $argv[1] | string collect)
        set -l said ($__shellkeep_program hint --pkg "$__shellkeep_pkg" -- $argv[1] 2>/dev/null)
        set -l answer $status
        if builtin test $answer -eq 10 # the user wants that, and has agreed to this one
            $__shellkeep_program run -- $argv
            return
        end
        if builtin test $answer -eq 11 # nobody knows better
            builtin printf '%s\n' $said >&2
            return 127
        end
        if builtin test $answer -eq 12 # a terminal would act on it as it is
            set shown $said
        end
        if functions -q __shellkeep_not_found_before
            __shellkeep_not_found_before $argv
        else
            builtin printf 'command not found: %s\n' "$shown" >&2
        end
        if builtin test $answer -eq 0 -a -n "$said"
            builtin printf '%s\n' $said >&2
        end
        return 127
    end

    # The word before the cursor is looked for, and what is chosen is put in its place.
    function __shellkeep_palette
        set -l word (commandline --current-token --cut-at-cursor)
        set -l chosen ($__shellkeep_program palette --query="$word" </dev/tty)
        if builtin test $status -eq 0 -a -n "$chosen"
            # No second space before one that stands there.
            set -l behind (string sub --start (builtin math (commandline --cursor) + 1) -- (commandline | string collect))
            if string match --quiet --regex '^\s' -- "$behind"
                set chosen (string replace --regex ' $' '' -- $chosen)
            end
            if builtin test -n "$word"
                set -l begin (builtin math (commandline --cursor) - (string length -- "$word"))
                set -l rest (string sub --start (builtin math (string length -- "$word") + 1) -- (commandline --current-token))
                commandline --current-token --replace -- "$chosen$rest"
                commandline --cursor (builtin math $begin + (string length -- "$chosen"))
            else
                commandline --insert -- "$chosen"
            end
        end
        commandline --function repaint
    end

    # At the first prompt, behind the user's files: what they have defined and bound stays.
    function __shellkeep_extend
        # fish's own that knows no more than that there is none is nobody's.
        if functions -q fish_command_not_found
            if not string match --quiet -- "$__fish_data_dir/*" (functions --details fish_command_not_found)
                or not functions fish_command_not_found | string match --quiet '*__fish_default_command_not_found_handler*'
                functions --copy fish_command_not_found __shellkeep_not_found_before
            end
        end
        function fish_command_not_found
            __shellkeep_not_found $argv
        end
        # Behind all others, so that a package takes nobody's name; and also where the user's files have set another path.
        if builtin test -n "$__shellkeep_packages"; and not contains -- $__shellkeep_packages/bin $PATH
            set -gx PATH $PATH $__shellkeep_packages/bin
        end
        if not type --query pkg
            set -g __shellkeep_pkg pkg
            function pkg --description 'Install and manage packages of commands'
                $__shellkeep_program pkg $argv
            end
        end
        if builtin test -n "$__shellkeep_key"
            for mode in default insert
                if not bind --user --mode $mode $__shellkeep_key >/dev/null 2>&1
                    and not bind --preset --mode $mode $__shellkeep_key >/dev/null 2>&1
                    bind --mode $mode $__shellkeep_key __shellkeep_palette
                end
            end
        end
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
        if not functions -q __shellkeep_preexec
            __shellkeep_last
            builtin test -n "$__shellkeep_program"; and __shellkeep_extend
        end
        builtin test -n "$__shellkeep_packages"; and __shellkeep_forget
        if builtin test "$PWD" != "$__shellkeep_directory"
            set -g __shellkeep_directory $PWD
            set -g __shellkeep_url (string escape --style=url -- $PWD)
        end
        __shellkeep_raise
        builtin printf '\e]7;file://%s%s\a\e]133;A;sk=%s;sn=%s\a' \
            $hostname "$__shellkeep_url" $__shellkeep_nonce $__shellkeep_number
    end
end
