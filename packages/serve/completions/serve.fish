complete -c serve -s p -l port -x -d "The port"
complete -c serve -s b -l bind -x -d "The address"
complete -c serve -s h -l help -d Help
complete -c serve -f -a "(__fish_complete_directories)"
