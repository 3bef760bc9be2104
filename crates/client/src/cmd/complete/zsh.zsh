# Names of commands and sessions: asked for when Tab is pressed. Everything else as above.
functions[__shellkeep_rest]=$functions[_shellkeep]
__shellkeep_names() {
    local said line
    local -i answer=0
    local -a lines names
    said="$(command shellkeep complete --shell zsh --line "${(j: :)words[1,CURRENT-1]} ${(q)${(Q)PREFIX}}" 2>/dev/null)" || answer=$?
    if ((answer == 10)); then # an argument of a command
        _files
        return 0
    elif ((answer != 0)); then
        return 1
    fi
    lines=("${(@f)said}")
    for line in "$lines[@]"; do
        [[ -n $line ]] || continue
        names+=("${${${line%%$'\t'*}//\\/\\\\}//:/\\:}:${line#*$'\t'}")
    done
    _describe -V 'name' names
    return 0
}
_shellkeep() {
    __shellkeep_names || __shellkeep_rest "$@"
}
