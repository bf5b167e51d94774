# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_nunbird_global_optspecs
    string join \n h/help
end

function __fish_nunbird_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_nunbird_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_nunbird_using_subcommand
    set -l cmd (__fish_nunbird_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c nunbird -n "__fish_nunbird_needs_command" -s h -l help -d 'Print help'
complete -c nunbird -n "__fish_nunbird_needs_command" -f -a "exec" -d 'Runs one job of a .gitlab-ci.yml by hand, as yourself'
complete -c nunbird -n "__fish_nunbird_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l file -d 'The file, from the top of the project' -r -F
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l image -d 'Run in this image in place of the job\'s' -r
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l engine -d 'podman, apptainer, charliecloud, or the path of a description; default: the first on the PATH that can do it' -r
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l executor -d 'Run the script in an allocation: slurm, pbs, lsf, flux, gridengine, htcondor, cobalt, or the path of a description; shell for none' -r
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l as-rule -d 'Run the job as this rule or profile of the site\'s configuration runs CI jobs: its container, scheduler, environment and limits' -r
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l configuration -d 'The site\'s configuration' -r -F
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l variables -d 'Variables of yours, a line NAME=value or `file NAME=PATH` each; no other account may read the file' -r -F
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l variable -d 'One variable, over those of the file; other users of this host see the command line' -r
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l file-variable -d 'One variable whose value is the path of a private copy of this file, as GitLab\'s of type File' -r
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l directory -d 'Where copies of the tree are made, in place of ~/.nunbird; nodes of a scheduler must see it' -r -f -a "(__fish_complete_directories)"
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l artifacts -d 'Copy the job\'s artifacts into this directory' -r -f -a "(__fish_complete_directories)"
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l completions -d 'Print completions' -r -f -a "bash\t''
elvish\t''
fish\t''
powershell\t''
zsh\t''"
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l list -d 'Print the jobs with their stage and image, and whether a pipeline of this commit would have them'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l no-container -d 'Pass over the job\'s image and services: run with this host\'s software'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l committed -d 'Take the files of the commit, without changes that are not committed'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l shell-on-failure -d 'After a script that failed, open a prompt with its variables, in its directory and its container'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l keep -d 'Leave the job\'s directory where it is, for `nunbird exec enter`'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l ignore-remote-includes -d 'Run without an `include:` of another project or host, which cannot be had offline'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -l man -d 'Print the man page'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -s V -l version -d 'Print version'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and not __fish_seen_subcommand_from enter" -a "enter" -d 'Open a prompt in what `--keep` has left of a job, list what there is, or remove it'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and __fish_seen_subcommand_from enter" -l variables -d 'Variables of yours, a line NAME=value or `file NAME=PATH` each; no other account may read the file' -r -F
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and __fish_seen_subcommand_from enter" -l variable -d 'One variable, over those of the file; other users of this host see the command line' -r
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and __fish_seen_subcommand_from enter" -l file-variable -d 'One variable whose value is the path of a private copy of this file, as GitLab\'s of type File' -r
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and __fish_seen_subcommand_from enter" -l directory -d 'Where copies of the tree are made, in place of ~/.nunbird; nodes of a scheduler must see it' -r -f -a "(__fish_complete_directories)"
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and __fish_seen_subcommand_from enter" -l list -d 'Print what is kept, with its age and size'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and __fish_seen_subcommand_from enter" -l remove -d 'Remove it, and open no prompt'
complete -c nunbird -n "__fish_nunbird_using_subcommand exec; and __fish_seen_subcommand_from enter" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbird -n "__fish_nunbird_using_subcommand help; and not __fish_seen_subcommand_from exec help" -f -a "exec" -d 'Runs one job of a .gitlab-ci.yml by hand, as yourself'
complete -c nunbird -n "__fish_nunbird_using_subcommand help; and not __fish_seen_subcommand_from exec help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbird -n "__fish_nunbird_using_subcommand help; and __fish_seen_subcommand_from exec" -f -a "enter" -d 'Open a prompt in what `--keep` has left of a job, list what there is, or remove it'
