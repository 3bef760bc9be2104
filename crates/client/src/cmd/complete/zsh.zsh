# Names of commands, sessions and packages: asked for when Tab is pressed. Everything else as above.
functions[__shellkeep_rest]=$functions[_shellkeep]
__shellkeep_names() {
    local __shellkeep_said __shellkeep_line="${(j: :)words[1,CURRENT-1]} ${(q)${(Q)PREFIX}}"
    local -i __shellkeep_answer=0
    local -a __shellkeep_lines __shellkeep_all
    __shellkeep_said="$(command "${__shellkeep_hint:-shellkeep}" complete --shell zsh --line "$__shellkeep_line" 2>/dev/null)" ||
        __shellkeep_answer=$?
    if ((__shellkeep_answer == 10)); then # an argument of a command
        _files
        return 0
    elif ((__shellkeep_answer != 0)); then
        return 1
    fi
    __shellkeep_lines=("${(@f)__shellkeep_said}")
    for __shellkeep_line in "$__shellkeep_lines[@]"; do
        [[ -n $__shellkeep_line ]] || continue
        __shellkeep_all+=("${${${__shellkeep_line%%$'\t'*}//\\/\\\\}//:/\\:}:${__shellkeep_line#*$'\t'}")
    done
    _describe -V 'name' __shellkeep_all
    return 0
}
_shellkeep() {
    __shellkeep_names || __shellkeep_rest "$@"
}
