
# Names of commands and sessions: asked for when Tab is pressed. Everything else as above.
function __shellkeep_names
    set -g __shellkeep_said (command shellkeep complete --shell fish --line (commandline -cp | string collect) 2>/dev/null)
end
complete -c shellkeep -k -f -n __shellkeep_names -a '(printf "%s\n" $__shellkeep_said)'
