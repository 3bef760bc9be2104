
# Names of commands, sessions and packages: asked for when Tab is pressed. Everything else as above.
function __shellkeep_names
    set -q __shellkeep_program; or set -l __shellkeep_program shellkeep
    set -l line (commandline -cp | string collect)
    set -g __shellkeep_said (command $__shellkeep_program complete --shell fish --line "$line" 2>/dev/null)
end
complete -c shellkeep -k -f -n __shellkeep_names -a '(printf "%s\n" $__shellkeep_said)'
if test "$__shellkeep_pkg" = pkg # a kept fish has it as a function
    complete -c pkg -k -f -n __shellkeep_names -a '(printf "%s\n" $__shellkeep_said)'
end
