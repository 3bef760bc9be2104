
# Names of commands and sessions: asked for when Tab is pressed. Everything else as above.
__shellkeep_names() {
    local name said status=0 names=() shown=()
    said=$(command shellkeep complete --shell bash --line "$COMP_LINE" --point "$COMP_POINT" \
        --breaks "$COMP_WORDBREAKS" 2>/dev/null) || status=$?
    if ((status == 10)); then # an argument of a command: with nothing said bash completes files
        COMPREPLY=()
        return
    elif ((status != 0)); then
        _shellkeep "$@"
        return
    fi
    # What the names are quoted for is known already, and none is a file.
    compopt +o default +o bashdefault -o nosort 2>/dev/null
    while IFS=$'\t' read -r name said; do
        [[ -n $name ]] || continue
        names+=("$name")
        shown+=("$name${said:+  ($said)}")
    done <<<"$said"
    # 63: they are only listed, so that what they are can stand behind them.
    if [[ $COMP_TYPE == 63 && ${#names[@]} -gt 1 ]]; then
        COMPREPLY=("${shown[@]}")
    else
        COMPREPLY=("${names[@]}")
    fi
}
if [[ ${BASH_VERSINFO[0]} -gt 4 || ${BASH_VERSINFO[0]} -eq 4 && ${BASH_VERSINFO[1]} -ge 4 ]]; then
    complete -F __shellkeep_names -o nosort -o bashdefault -o default shellkeep
fi
