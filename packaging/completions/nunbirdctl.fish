# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_nunbirdctl_global_optspecs
    string join \n format= h/help V/version
end

function __fish_nunbirdctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_nunbirdctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_nunbirdctl_using_subcommand
    set -l cmd (__fish_nunbirdctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -s V -l version -d 'Print version'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "check" -d 'Read a configuration, run its tests and look at this host; print every finding'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "doctor" -d 'Do all that check does, and look at gitlab-runner\'s configuration, at systemd, space and kernel'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "explain" -d 'Show how a job would be decided: every rule, every condition, the value seen; or what the code of a refusal means'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "test" -d 'Run the policy\'s own tests, `[[test]]` in the configuration and in more files'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "show" -d 'Print the configuration that is in force, with the place where each value stands'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "diff" -d 'Decide past jobs again by another configuration, and print which decisions change'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "audit" -d 'Search the audit file, and tell one job\'s whole story'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "keys" -d 'List the signing keys of the servers, as nunbird-auth would use them'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "migrate" -d 'Print a Jacamar CI configuration as Nunbird\'s own'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "sweep" -d 'Remove what a crashed gitlab-runner left: jobs that are over, its old temporary files; and old build directories'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "schema" -d 'Print the JSON schema of the configuration, for editors'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "codes-page" -d 'Print docs/codes.md'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "man" -d 'Write the man pages into a directory'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand check" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand check" -l runner-user -d 'The account that runs gitlab-runner, which no job becomes' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand check" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand check" -l no-host -d 'Read the files alone; do not look at programs, accounts, directories and keys'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand check" -l strict -d 'Take remarks for errors'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -l runner-user -d 'The account that runs gitlab-runner, which no job becomes' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -l runner-config -d 'gitlab-runner\'s own configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -l unit -d 'gitlab-runner\'s unit; the service that its processes run in, unless it is said' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -l strict -d 'Take remarks for errors'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l runner-user -d 'The account that runs gitlab-runner, which no job becomes' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l claims -d 'JSON object with facts of the job: a token\'s payload, or the names of `[[test]]`' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l token -d 'An id token. It is not printed' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l job -d 'A job response of gitlab-runner (`JOB_RESPONSE_FILE`) with an id token in it' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l validated -d 'The account that the site\'s validation program would name' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l codes -d 'List the codes of all refusals'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand test" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand test" -l runner-user -d 'The account that runs gitlab-runner, which no job becomes' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand test" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand show" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand show" -l key -d 'One key, such as `accounts.min_uid`' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand show" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand diff" -l log -d 'The audit file with the past jobs' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand diff" -l runner-user -d 'The account that runs gitlab-runner, which no job becomes' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand diff" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l file -d 'The audit file' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l user -d 'GitLab login or local account' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l project -d 'Full path of the project' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l job -d 'GitLab\'s id of the job: its whole story' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l decision -d 'The id of a decision, or its first digits: the whole story of its job' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l since -d 'From this time: 2026-11-21, 2026-11-21T10:00:00Z, or seconds since the epoch' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l until -d 'Until this time' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l denied -d 'Denials alone'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand keys" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand keys" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand keys" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand migrate" -l gitlab-server -d 'The URL of the GitLab server, where the file has no `gitlab_server` or another one' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand migrate" -l audience -d 'The audience of the jobs\' id tokens, where the file has no `jwt_required_aud` or another one' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand migrate" -l output -d 'Write the text to this file, at once and only if all of it could be migrated, instead of printing it' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand migrate" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand migrate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l runner-user -d 'The account that runs gitlab-runner, which no job becomes' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l tmpdir -d 'Where gitlab-runner keeps temporary files (its TMPDIR)' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l account -d 'An account whose old build directories go, beside those whose jobs the audit file has' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l older-than -d 'How old a temporary file must be: a number with h or d' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l dry-run -d 'Say what would be removed, and remove nothing'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand schema" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand schema" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand completions" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand codes-page" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand codes-page" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand man" -l format -d 'For people or for machines' -r -f -a "text\t'People'
json\t'Machines'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand man" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "check" -d 'Read a configuration, run its tests and look at this host; print every finding'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "doctor" -d 'Do all that check does, and look at gitlab-runner\'s configuration, at systemd, space and kernel'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "explain" -d 'Show how a job would be decided: every rule, every condition, the value seen; or what the code of a refusal means'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "test" -d 'Run the policy\'s own tests, `[[test]]` in the configuration and in more files'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "show" -d 'Print the configuration that is in force, with the place where each value stands'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "diff" -d 'Decide past jobs again by another configuration, and print which decisions change'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "audit" -d 'Search the audit file, and tell one job\'s whole story'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "keys" -d 'List the signing keys of the servers, as nunbird-auth would use them'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "migrate" -d 'Print a Jacamar CI configuration as Nunbird\'s own'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "sweep" -d 'Remove what a crashed gitlab-runner left: jobs that are over, its old temporary files; and old build directories'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "schema" -d 'Print the JSON schema of the configuration, for editors'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "completions" -d 'Print completions for a shell'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "codes-page" -d 'Print docs/codes.md'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "man" -d 'Write the man pages into a directory'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor explain test show diff audit keys migrate sweep schema completions codes-page man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
