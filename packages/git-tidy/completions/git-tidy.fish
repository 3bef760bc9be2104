complete -c git-tidy -f -l delete -d "Delete the merged ones"
complete -c git-tidy -f -l into -x -a "(git for-each-ref --format='%(refname:short)' refs/heads 2>/dev/null)" -d "Merged into this branch"
complete -c git-tidy -f -s h -l help -d Help
