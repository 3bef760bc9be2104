
# Names of commands, sessions and packages: asked for when Tab is pressed. Everything else as above.
__shellkeep_names() {
    { local - && builtin set +eEkTux; } 2>/dev/null
    local __shellkeep_name __shellkeep_said __shellkeep_status=0 __shellkeep_all=() __shellkeep_shown=()
    __shellkeep_said=$(command "${__shellkeep_program:-shellkeep}" complete --shell bash --line "$COMP_LINE" \
        --point "$COMP_POINT" --breaks "$COMP_WORDBREAKS" 2>/dev/null) || __shellkeep_status=$?
    if ((__shellkeep_status == 10)); then # an argument of a command: with nothing said bash completes files
        COMPREPLY=()
        return
    elif ((__shellkeep_status != 0)); then
        _shellkeep "$@"
        return
    fi
    # What the names are quoted for is known already, and none is a file.
    compopt +o default +o bashdefault -o nosort 2>/dev/null
    while IFS=$'\t' read -r __shellkeep_name __shellkeep_said; do
        [[ -n $__shellkeep_name ]] || continue
        __shellkeep_all+=("$__shellkeep_name")
        __shellkeep_shown+=("$__shellkeep_name${__shellkeep_said:+  ($__shellkeep_said)}")
    done <<<"$__shellkeep_said"
    # 63: they are only listed, so that what they are can stand behind them.
    if [[ $COMP_TYPE == 63 && ${#__shellkeep_all[@]} -gt 1 ]]; then
        COMPREPLY=("${__shellkeep_shown[@]}")
    else
        COMPREPLY=("${__shellkeep_all[@]}")
    fi
}
if [[ ${BASH_VERSINFO[0]} -gt 4 || ${BASH_VERSINFO[0]} -eq 4 && ${BASH_VERSINFO[1]} -ge 4 ]]; then
    complete -F __shellkeep_names -o nosort -o bashdefault -o default shellkeep
fi
