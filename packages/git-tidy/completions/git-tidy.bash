_git_tidy_alone() {
    local word=${COMP_WORDS[COMP_CWORD]}
    if [[ ${COMP_WORDS[COMP_CWORD - 1]} == --into ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(git for-each-ref --format='%(refname:short)' refs/heads 2>/dev/null)" -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -W "--delete --into --help" -- "$word")
    fi
}
complete -F _git_tidy_alone git-tidy
