# Tab behind `pkg`. fish looks here before it looks at its own, which are for another `pkg`.
if builtin test "$__shellkeep_pkg" = pkg
    $__shellkeep_program completions fish | source
else
    for __shellkeep_directory in $fish_complete_path
        if builtin test -r $__shellkeep_directory/pkg.fish -a $__shellkeep_directory/pkg.fish != (status filename)
            source $__shellkeep_directory/pkg.fish
            break
        end
    end
end
