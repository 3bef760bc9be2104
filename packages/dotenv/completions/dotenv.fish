complete -c dotenv -s f -l file -r -d "The file with the variables"
complete -c dotenv -s h -l help -d Help
complete -c dotenv -a "(__fish_complete_subcommand)"
